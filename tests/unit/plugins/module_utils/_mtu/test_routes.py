# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Routes: what `ip route show` says, which of them carry a network, and the script that mends them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from ansible_collections.underlay.ipsec.plugins.module_utils._mtu.routes import (
    Selection,
    files,
    parse_routes,
    script,
    select,
)
from ansible_collections.underlay.ipsec.plugins.module_utils._run import Completed

CONNECTED = "10.88.0.0/24 dev eth1 proto kernel scope link src 10.88.0.11"


@pytest.mark.parametrize(
    ("family", "line", "mtu", "command"),
    [
        (4, f"{CONNECTED} ", "", f"ip -4 route change {CONNECTED} mtu 1400"),
        (
            4,
            f"{CONNECTED} metric 100 mtu 1450 ",
            "1450",
            f"ip -4 route change {CONNECTED} metric 100 mtu 1400",
        ),
        (4, f"{CONNECTED} mtu lock 1450", "lock 1450", f"ip -4 route change {CONNECTED} mtu 1400"),
        (4, f"{CONNECTED} linkdown", "", f"ip -4 route change {CONNECTED} mtu 1400"),
        (4, f"{CONNECTED} dead linkdown", "", f"ip -4 route change {CONNECTED} mtu 1400"),
        (
            4,
            "10.88.1.0/24 via 10.88.0.1 dev eth1 onlink",
            "",
            "ip -4 route change 10.88.1.0/24 via 10.88.0.1 dev eth1 onlink mtu 1400",
        ),
        (
            6,
            "fd88::/64 dev eth1 proto ra metric 100 expires 86393sec mtu 1480 pref medium",
            "1480",
            "ip -6 route change fd88::/64 dev eth1 proto ra metric 100 expires 86393 pref medium mtu 1400",
        ),
        (
            6,
            "fd88::/64 dev eth1 proto kernel metric 256 error -101 pref medium",
            "",
            "ip -6 route change fd88::/64 dev eth1 proto kernel metric 256 pref medium mtu 1400",
        ),
    ],
)
def test_a_route_is_given_an_mtu(family: int, line: str, mtu: str, command: str, tmp_path: Path) -> None:
    (route,) = parse_routes(f"{line}\n", family)
    assert route.mtu == mtu
    assert " ".join(route.change("1400")) == command

    # The script, with an `ip` that only says that line and notes what it is told.
    (tmp_path / "ip").write_text(
        f'#!/bin/sh\ncase $* in *show*) echo "{line}" ;; *) echo "ip $*" >>{tmp_path}/told ;; esac\n',
        encoding="utf-8",
    )
    (tmp_path / "ip").chmod(0o755)
    text = script([(Selection(family, "root", "10.88.0.0/16", "eth1"), 1400)])
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    subprocess.run(["sh", "-c", text], env=environment, check=True)
    assert (tmp_path / "told").read_text(encoding="utf-8") == f"{command}\n"


def test_the_script_leaves_alone_what_is_right_or_another_interfaces(tmp_path: Path) -> None:
    lines = [
        f"{CONNECTED} mtu 1400",
        "10.88.1.0/24 dev eth2 scope link",
        "10.88.2.0/24 proto static",
        "\tnexthop via 10.88.0.1 dev eth1 weight 1",
    ]
    (tmp_path / "said").write_text("\n".join(lines), encoding="utf-8")
    (tmp_path / "ip").write_text(
        f"#!/bin/sh\ncase $* in *show*) cat {tmp_path}/said ;; *) exit 1 ;; esac\n", encoding="utf-8"
    )
    (tmp_path / "ip").chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    for mtu, status in ((1400, 0), (1300, 1)):
        text = script([(Selection(4, "root", "10.88.0.0/16", "eth1"), mtu)])
        done = subprocess.run(["sh", "-c", text], env=environment, check=False)
        assert done.returncode == status


def test_of_two_that_differ_in_the_mtu_the_first_counts(tmp_path: Path) -> None:
    """NetworkManager puts its own route beside ours."""
    (tmp_path / "ip").write_text(
        f"""#!/bin/sh
case $* in
*show*) cat {tmp_path}/said ;;
*change*) echo "RTNETLINK answers: File exists" >&2; exit 2 ;;
*) echo "$*" >>{tmp_path}/told ;;
esac
""",
        encoding="utf-8",
    )
    (tmp_path / "ip").chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    text = script([(Selection(4, "root", "10.88.0.0/24", "eth1"), 1400)])
    ours, theirs = f"{CONNECTED} metric 100 mtu 1400 \n", f"{CONNECTED} metric 100 \n"
    for said, told in ((ours + theirs, ""), (theirs + ours, f"-4 route delete {CONNECTED} metric 100\n")):
        (tmp_path / "said").write_text(said, encoding="utf-8")
        (tmp_path / "told").write_text("", encoding="utf-8")
        subprocess.run(["sh", "-c", text], env=environment, check=True)
        assert (tmp_path / "told").read_text(encoding="utf-8") == told


def test_what_has_no_device_is_no_route_with_one_hop() -> None:
    text = "10.0.0.0/8 proto static\n\tnexthop via 10.88.0.1 dev eth1 weight 1\nblackhole 10.9.0.0/16\n"
    assert parse_routes(text, 4) == []


@pytest.mark.parametrize(
    ("within", "covering", "selector", "cidr", "complete"),
    [
        ([CONNECTED], [], "root", "10.88.0.0/24", True),
        (["10.88.0.0/25 dev eth1"], ["default via 10.88.0.1 dev eth1"], "root", "10.88.0.0/24", False),
        (
            [],
            ["default via 10.88.0.1 dev eth1", "10.0.0.0/8 dev eth1", "10.88.0.0/16 dev eth1"],
            "exact",
            "10.88.0.0/16",
            True,
        ),
        ([], ["default via 10.88.0.1 dev eth1"], None, "", False),
        (["10.88.0.0/24 dev eth2"], ["10.88.0.0/16 dev eth2"], None, "", False),
    ],
)
def test_which_routes_carry_a_network(
    within: list[str], covering: list[str], selector: str | None, cidr: str, complete: bool
) -> None:
    def run(
        argv: Sequence[str], *, stdin: str | None = None, check: bool = True, timeout: float = 1.0
    ) -> Completed:
        lines = {"root": within, "match": covering}[argv[6]]
        return Completed(tuple(argv), 0, "".join(f"{line}\n" for line in lines), "")

    found, whole = select(run, "10.88.0.0/24", "eth1")
    assert found == (Selection(4, selector, cidr, "eth1") if selector else None)
    assert whole == complete


def test_units_run_the_script() -> None:
    found = files([(Selection(6, "root", "fd88::/64", "eth1"), 1400)])
    assert "keep 6 root fd88::/64 eth1 1400 || status=1\n" in found["/etc/underlay-ipsec/mtu-routes.sh"]
    assert (
        "ExecStart=/bin/sh /etc/underlay-ipsec/mtu-routes.sh\n"
        in found["/etc/systemd/system/underlay-ipsec-mtu.service"]
    )
    assert "/etc/systemd/system/underlay-ipsec-mtu.timer" in found
