# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What nftables.service is told to load with each of its commands."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.underlay.ipsec.plugins.module_utils._firewall.nft_service import (
    DROP_IN,
    FILES,
    drop_in,
    service_files,
)
from ansible_collections.underlay.ipsec.plugins.module_utils._run import Completed

TABLE, OPENING = "etc/underlay-ipsec/firewall.nft", "etc/underlay-ipsec/firewall-open.nft"
DEBIAN = """\
[Service]
Type=oneshot
ExecStart=/usr/sbin/nft -f /etc/nftables.conf
ExecReload=/usr/sbin/nft -f /etc/nftables.conf
ExecStop=/usr/sbin/nft flush ruleset
"""
EL = """\
[Service]
ExecStart=/sbin/nft -f /etc/sysconfig/nftables.conf
ExecReload=/sbin/nft 'flush ruleset; include "/etc/sysconfig/nftables.conf";'
ExecStop=/sbin/nft flush ruleset
"""
OURS = 'include "/etc/underlay-ipsec/firewall.nft"\n'


def scripts(*units: str) -> list[str]:
    """Return what starting, reloading and stopping load."""
    files = drop_in(list(units), TABLE, OPENING)
    return [files[path] for path in FILES if path != DROP_IN and path in files]


@pytest.mark.parametrize(
    ("unit", "start", "reload"),
    [
        (DEBIAN, 'include "/etc/nftables.conf"', 'include "/etc/nftables.conf"'),
        (
            EL,
            'include "/etc/sysconfig/nftables.conf"',
            'flush ruleset; include "/etc/sysconfig/nftables.conf";',
        ),
    ],
)
def test_each_command_loads_our_table_in_its_own_transaction(unit: str, start: str, reload: str) -> None:
    assert scripts(unit) == [f"{start}\n{OURS}", f"{reload}\n{OURS}", f"flush ruleset\n{OURS}"]


def test_drop_in() -> None:
    assert drop_in([DEBIAN], TABLE, OPENING)[DROP_IN] == (
        "[Service]\n"
        "ExecStart=\n"
        "ExecStart=/usr/sbin/nft -f /etc/underlay-ipsec/nftables-start.nft\n"
        "ExecReload=\n"
        "ExecReload=/usr/sbin/nft -f /etc/underlay-ipsec/nftables-reload.nft\n"
        "ExecReload=-/usr/sbin/nft -f /etc/underlay-ipsec/firewall-open.nft\n"
        "ExecStop=\n"
        "ExecStop=/usr/sbin/nft -f /etc/underlay-ipsec/nftables-stop.nft\n"
        "ExecStartPost=-/usr/sbin/nft -f /etc/underlay-ipsec/firewall-open.nft\n"
    )


def test_the_operators_own_drop_in_counts() -> None:
    own = "[Service]\nExecStart=\nExecStart=/usr/sbin/nft -f /srv/rules.nft\nExecStart=/usr/sbin/nft -f /srv/more.nft\n"
    assert scripts(DEBIAN, own)[0] == f'include "/srv/rules.nft"\ninclude "/srv/more.nft"\n{OURS}'


@pytest.mark.parametrize(
    "command", ["/bin/sh -c 'nft -f x'", "/usr/sbin/nft -c -f x", "/bin/echo '", "-/bin/true"]
)
def test_after_what_cannot_be_told(command: str) -> None:
    files = drop_in([DEBIAN, f"[Service]\nExecStart=\nExecStart={command}\n"], TABLE, OPENING)
    assert "ExecStartPost=-/usr/sbin/nft -f /etc/underlay-ipsec/firewall.nft\n" in files[DROP_IN]
    assert "ExecStart=\n" not in files[DROP_IN]
    assert "etc/underlay-ipsec/nftables-start.nft" not in files


def test_files_of_a_host(tmp_path: Path) -> None:
    unit, own = tmp_path / "lib/nftables.service", tmp_path / DROP_IN
    for path, text in ((unit, DEBIAN), (own, "[Service]\nExecStart=\nExecStart=/usr/sbin/nft -f /ours\n")):
        path.parent.mkdir(parents=True)
        path.write_text(text, encoding="utf-8")

    def run(argv: Sequence[str], **_options: Any) -> Completed:
        return Completed(tuple(argv), 0, f"FragmentPath=/lib/nftables.service\nDropInPaths=/{DROP_IN}\n", "")

    assert service_files(run, tmp_path, TABLE, OPENING) == drop_in([DEBIAN], TABLE, OPENING)


def test_no_such_service(tmp_path: Path) -> None:
    def run(argv: Sequence[str], **_options: Any) -> Completed:
        return Completed(tuple(argv), 0, "FragmentPath=\nDropInPaths=\n", "")

    assert service_files(run, tmp_path, TABLE, OPENING) == {}
