# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab itself: an `up` that is killed in the middle leaves nothing that another one minds or `down` forgets."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from kit import LAB, Lab, eventually

HOSTS = {"k1": "bookworm", "k2": "trixie"}
# What `up` has printed or left when it is killed: first of all, in its network, on booting, and with one host up.
MOMENTS: dict[str, Callable[[Lab, str], bool]] = {
    "at once": lambda lab, _log: bool(remains(lab)),
    "network": lambda lab, _log: bool(namespaces(lab)),
    "booting": lambda _lab, log: ": booting " in log,
    "half up": lambda _lab, log: ": ready" in log,
}


@pytest.fixture
def killed(lab: Lab, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[tuple[Lab, Path]]:
    """Return a lab whose `up` was killed at one of the moments, and its spec."""
    spec = tmp_path / "lab.json"
    own = json.loads((lab.folder / "lab.json").read_text(encoding="utf-8"))
    hosts = [{"name": name, "release": release} for name, release in HOSTS.items()]
    spec.write_text(json.dumps({**own, "hosts": hosts}), encoding="utf-8")
    other = Lab(f"{lab.name}-k", tmp_path)
    log = tmp_path / "up.log"
    with (
        log.open("w", encoding="utf-8") as out,
        subprocess.Popen(
            [LAB, "up", "--name", other.name, "--spec", spec], stdout=out, stderr=subprocess.STDOUT
        ) as process,
    ):
        moment = MOMENTS[request.param]
        assert eventually(lambda: moment(other, log.read_text(encoding="utf-8")), 120, pause=0.02)
        process.kill()
    yield other, spec
    other.cli("down")
    assert remains(other) == []


def namespaces(lab: Lab) -> list[str]:
    """Return the names of the network namespaces of *lab*."""
    return [path.name for path in Path("/run/netns").glob(f"lab-{lab.name}-*")]


def remains(lab: Lab) -> list[str]:
    """Return what this machine still has of *lab*: processes, namespaces, mounts and files."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if any(f"/{lab.name}/" in word or f"lab-{lab.name}-" in word for word in words):
            found.append(" ".join(words))
    found += namespaces(lab)
    found += [
        line
        for line in Path("/proc/mounts").read_text(encoding="utf-8").split("\n")
        if f"/{lab.name}/" in line
    ]
    found += [str(path) for path in Path("/run/underlay-ipsec-lab").glob(lab.name)]
    return found


@pytest.mark.parametrize("killed", list(MOMENTS), indirect=True)
def test_down_after_a_killed_up_leaves_nothing(killed: tuple[Lab, Path]) -> None:
    """The claim is in the fixture's end."""
    assert remains(killed[0])


@pytest.mark.parametrize("killed", ["half up"], indirect=True)
def test_up_carries_on_where_another_was_killed(killed: tuple[Lab, Path]) -> None:
    lab, spec = killed
    lab.cli("up", "--spec", str(spec))
    assert [lab.ssh(host, "hostname").strip() for host in HOSTS] == list(HOSTS)
