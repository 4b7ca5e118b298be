# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a full mesh comes up: 20 hosts of one release, all 190 pairs.

Twice for each release: in the first run of site.yml, and after pluto was restarted on all
hosts at once, by the module establish. Prints how many pairs came up, the seconds from the first
attempt (and from the start of establish) to the last Child SA, the attempts and retransmissions in
pluto's journals, the SAs that there are for each pair afterwards, and with how many peers each host began.

    .venv/bin/python bench/mesh.py [--hosts N] [RELEASE…]
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
COLLECTIONS = ROOT / ".cache/collections"
sys.path[:0] = [str(ROOT / "tests/lab"), str(COLLECTIONS)]

from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan.status import (  # noqa: E402
    parse_states,
)
from kit import Lab  # noqa: E402

MEMORY = 224
# Hosts that are asked at a time: each is a process of ssh.
AT_A_TIME = 10
LOGGED = re.compile(
    r'^(\d+\.\d+) \S+ pluto\[\d+\]: (?!addconn)"(underlay-[^"]+)" #(\d+): (.*)$', re.MULTILINE
)
TITLES = (
    "release", "what", "pairs up", "first attempt to last SA", "establish to last SA", "whole run", "attempts",
    "retransmissions", "Child SAs made", "SAs for a pair afterwards", "pairs a host began with", "load average",
)  # fmt: skip


@dataclass(frozen=True)
class Log:
    """What the journal of one host says about its connections since a moment."""

    attempts: tuple[float, ...]
    """When it began an IKE SA."""
    began: frozenset[str]
    """The connections that it began."""
    children: tuple[tuple[float, str], ...]
    """When which connection got a Child SA that this host asked for."""
    retransmissions: int


def on_all(lab: Lab, members: Sequence[str], command: str) -> dict[str, str]:
    """Run a command on all members and return what it printed."""
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        return dict(zip(members, pool.map(lambda host: lab.ssh(host, command), members), strict=True))


def read_log(text: str) -> Log:
    """Return what a journal says."""
    entries = [(float(at), name, what) for at, name, _serial, what in LOGGED.findall(text)]
    begun = [(at, name) for at, name, what in entries if what.startswith("initiating IKEv2 connection")]
    return Log(
        tuple(at for at, _name in begun),
        frozenset(name for _at, name in begun),
        tuple((at, name) for at, name, what in entries if what.startswith("initiator established Child SA")),
        sum("retransmission; will wait" in what for _at, _name, what in entries),
    )


def spread(figures: Sequence[int]) -> str:
    """Return figures as ``smallest to largest``."""
    return f"{min(figures)} to {max(figures)}" if min(figures) != max(figures) else f"{figures[0]}"


def row(
    lab: Lab, members: Sequence[str], since: float, establish: float | None, cells: tuple[str, str]
) -> str:
    """Look at all hosts and return the rest of a row; *cells* are release and title, *establish* when it started."""
    whole = time.time() - since
    load = os.getloadavg()[0]
    journal = (
        f"journalctl -u ipsec --no-pager -o short-unix --since=@{since:.0f} | grep -v 'IKE SA proposals'"
    )
    logs = {host: read_log(text) for host, text in on_all(lab, members, journal).items()}
    states = on_all(lab, members, "ipsec whack --showstates")
    ike: Counter[str] = Counter()
    child: Counter[str] = Counter()
    ends: Counter[str] = Counter()
    for text in states.values():
        some_ike, some_child = parse_states(text)
        ike.update(sa["name"] for sa in some_ike if sa["established"])
        child.update(sa["name"] for sa in some_child if sa["established"])
        ends.update({sa["name"] for sa in some_child if sa["established"]})
    # A pair is up if both ends say so, and each SA is seen at both ends.
    up = [name for name, count in ends.items() if count == 2]
    total = len(members) * (len(members) - 1) // 2
    first = min((at for log in logs.values() for at in log.attempts), default=since)
    last = max((at for log in logs.values() for at, _name in log.children), default=since)
    figures = (
        f"{len(up)} of {total}",
        f"{last - first:.1f} s",
        f"{max(0.0, last - establish):.1f} s" if establish else "",
        f"{whole:.0f} s",
        str(sum(len(log.attempts) for log in logs.values())),
        str(sum(log.retransmissions for log in logs.values())),
        str(sum(len(log.children) for log in logs.values())),
        f"{sum(ike.values()) / 2 / total:.2f} IKE, {sum(child.values()) / 2 / total:.2f} Child",
        spread([len(log.began) for log in logs.values()]),
        f"{load:.1f}",
    )
    return f"| {' | '.join((*cells, *figures))} |"


def run(lab: Lab, members: Sequence[str], playbook: str | None = None, **variables: Any) -> None:
    """Run site.yml, or a playbook of our own, with times in a log."""
    command = lab.command("site", members, ipsec_topology="mesh", ipsec_verify_timeout=240, **variables)
    if playbook:
        command[-1] = playbook
    (lab.folder / "ansible.log").unlink(missing_ok=True)
    environment = {**lab.environment, "ANSIBLE_LOG_PATH": str(lab.folder / "ansible.log")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        print(done.stdout[-3000:], done.stderr[-1000:], file=sys.stderr)


def establish_began(lab: Lab) -> float | None:
    """Return when the run before began to wait for SAs, in seconds of Unix time."""
    log = (lab.folder / "ansible.log").read_text(encoding="utf-8")
    found = re.search(
        r"^(\S+ [\d:]+),(\d+) .*TASK \[.*Wait for the security associations\]", log, re.MULTILINE
    )
    return time.mktime(time.strptime(found[1], "%Y-%m-%d %H:%M:%S")) + int(found[2]) / 1000 if found else None


def playbook(lab: Lab) -> str:
    """Write the playbook that does what the role does to establish SAs, and no more."""
    task = {
        "name": "Wait for the security associations",
        "underlay.ipsec.establish": {
            "member": "{{ inventory_hostname }}",
            "peers": f"{{{{ lookup('file', '{lab.folder}/report/plan/plan.json') | from_json"
            " | underlay.ipsec.mesh_peers(inventory_hostname) }}",
            "timeout": 240,
        },
    }
    path = lab.folder / "establish.yml"
    play = [{"hosts": "ipsec", "gather_facts": False, "tasks": [task]}]
    path.write_text(json.dumps(play), encoding="utf-8")
    return str(path)


def measure(lab: Lab, members: Sequence[str], release: str) -> None:
    """Print the rows of one release."""
    since = time.time()
    run(lab, members)
    print(row(lab, members, since, establish_began(lab), (release, "first run")), flush=True)
    on_all(lab, members, "systemctl restart ipsec")
    # A host is ready when all its pairs are loaded: nothing starts before, for nothing is sent.
    wanted = len(members) - 1
    waiting = f"until [ $(ipsec whack --status 2>/dev/null | grep -c 'policy: IKEv2') = {wanted} ]; do sleep 1; done"
    on_all(lab, members, f'timeout 100 sh -c "{waiting}"')
    since = time.time()
    run(lab, members, playbook(lab))
    print(row(lab, members, since, establish_began(lab), (release, "all restarted")), flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("releases", nargs="*", default=["bookworm", "trixie"])
    parser.add_argument("--hosts", type=int, default=20)
    given = parser.parse_args()
    os.environ["ANSIBLE_COLLECTIONS_PATH"] = str(COLLECTIONS)
    os.environ["PATH"] = f"{ROOT}/.venv/bin:{os.environ['PATH']}"
    print(f"| {' | '.join(TITLES)} |\n|{'---|' * len(TITLES)}", flush=True)
    for release in given.releases:
        with tempfile.TemporaryDirectory() as folder:
            lab = Lab("bench-mesh", Path(folder))
            members = [f"h{number + 1}" for number in range(given.hosts)]
            spec = {
                "networks": [{"name": "data", "ipv4": "10.88.0.0/24"}],
                "hosts": [{"name": name, "release": release, "memory": MEMORY} for name in members],
            }
            (lab.folder / "lab.json").write_text(json.dumps(spec), encoding="utf-8")
            try:
                lab.cli("up", "--spec", str(lab.folder / "lab.json"), timeout=900)
                measure(lab, members, release)
            finally:
                lab.cli("down", check=False, timeout=600)


if __name__ == "__main__":
    main()
