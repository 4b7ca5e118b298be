# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What tripleo-ipsec has left on a host is found and removed, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from ansible_collections.underlay.ipsec.plugins.module_utils._run import Completed
from ansible_collections.underlay.ipsec.plugins.module_utils._tripleo import former

STATUS = """\
000 "overcloud-private-node-to-node-storage-ip-0": 10.89.0.11...10.89.0.12; erouted; eroute owner: #1
000 "overcloud-storage-vip-tunnel": 10.89.0.250...%any; unrouted; eroute owner: #0
000 "overcloud-storage-vip-tunnel"[1]: 10.89.0.250...10.89.0.12; erouted; eroute owner: #2
000 "to-the-office": 10.0.0.1...10.0.0.2; erouted; eroute owner: #3
"""
CONNECTIONS = ("overcloud-private-node-to-node-storage-ip-0", "overcloud-storage-vip-tunnel")
FILES = (
    "/etc/ipsec.d/overcloud-storage-node-to-node-private-tunnels.conf",
    "/etc/ipsec.d/overcloud-storage-node-to-node-tunnels.secrets",
    "/etc/ipsec.d/policies/overcloud-private-storage-ip",
)
MAIN = "# comment\nconfig setup\n\tuniqueids=no\n\t#logfile=/x\n\ninclude /etc/ipsec.d/*.conf\n"


class Pluto:
    """A host's commands."""

    def __init__(self, *, running: bool = True) -> None:
        self.running = running
        self.calls: list[str] = []

    def __call__(
        self, argv: Sequence[str], *, stdin: str | None = None, check: bool = True, timeout: float = 0
    ) -> Completed:
        line = " ".join(argv) + (f" < {stdin!r}" if stdin else "")
        self.calls.append(line)
        if "is-active" in argv:
            return Completed(tuple(argv), 0 if self.running else 3, "", "")
        return Completed(tuple(argv), 0, STATUS if "--status" in argv else "", "")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "etc/ipsec.d/policies").mkdir(parents=True)
    for path in (*FILES, "/etc/ipsec.d/office.conf"):
        (tmp_path / path.lstrip("/")).write_text("x")
    (tmp_path / "etc/ipsec.conf").write_text(MAIN)
    return tmp_path


def test_what_is_found(root: Path) -> None:
    found = former.observe(Pluto(), root)
    assert found.files == FILES
    assert found.connections == CONNECTIONS
    assert found.main == MAIN.replace("\tuniqueids=no\n", "")


def test_what_pluto_has_loaded_waits_for_the_restart(root: Path) -> None:
    pluto = Pluto()
    former.remove(former.observe(pluto, root), pluto, root)
    assert not any("--delete" in call for call in pluto.calls)
    assert sorted(path.name for path in (root / "etc/ipsec.d").iterdir()) == ["office.conf", "policies"]
    assert not list((root / "etc/ipsec.d/policies").iterdir())
    assert "uniqueids" not in (root / "etc/ipsec.conf").read_text()


@pytest.mark.parametrize(("leaving", "ours"), [(True, False), (False, True)])
def test_without_a_restart_it_is_unloaded(root: Path, leaving: bool, ours: bool) -> None:
    if ours:
        (root / "etc/ipsec.d/underlay.conf").write_text("config setup\n")
    pluto = Pluto()
    found = former.observe(pluto, root, leaving=leaving)
    assert found.unload == CONNECTIONS
    former.remove(found, pluto, root)
    deleted = [call for call in pluto.calls if "--delete" in call]
    assert all(any(name in call for call in deleted) for name in CONNECTIONS)
    assert not any("to-the-office" in call for call in deleted)


def test_an_interrupted_run_left_it_loaded(root: Path) -> None:
    pluto = Pluto()
    former.remove(former.observe(pluto, root), pluto, root)
    again = former.observe(pluto, root)
    assert again
    assert not again.files
    assert again.connections == CONNECTIONS


def test_without_pluto_and_files_there_is_nothing(tmp_path: Path) -> None:
    assert not former.observe(Pluto(running=False), tmp_path)


def test_ipsec_conf_with_more_in_it_is_left_alone(root: Path) -> None:
    (root / "etc/ipsec.conf").write_text("config setup\n\tuniqueids=no\n\tlogfile=/x\n")
    assert former.observe(Pluto(), root).main is None


def test_the_diff_holds_names_only(root: Path) -> None:
    (root / FILES[1].lstrip("/")).write_text('1.2.3.4 1.2.3.5 : PSK "hush"')
    (diff,) = former.diff(former.observe(Pluto(), root))
    assert FILES[1] in diff["before"]
    assert "hush" not in str(diff)
    assert diff["after"] == ""
    assert former.diff(former.Former()) == []
