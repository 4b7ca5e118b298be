# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the change from private-or-clear to private costs, in lost packets.

Boots a lab of four hosts, encrypts it, then relaxes and enforces it again, RUNS times
each with and without the stages `hold` and `release`, under ping streams between all
ordered pairs. Prints, for each try, the median and the worst loss of a stream in seconds,
and the streams that did not come back within 20 seconds.

    .venv/bin/python bench/enforce.py [RUNS]
"""

from __future__ import annotations

import itertools
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests/lab"))

from kit import Lab  # noqa: E402

MEMBERS = ("h1", "h2", "h3", "h4")
INTERVAL = 0.05
SECONDS = 25


def change(lab: Lab, enforcement: str, stages: tuple[str, ...]) -> None:
    """Run the module libreswan on all hosts, stage by stage."""
    tasks = [
        {
            "underlay.ipsec.libreswan": {
                "settings": "{{ (lookup('file', slices ~ inventory_hostname ~ '.json') | from_json).libreswan }}",
                "watch": (ROOT / "roles/libreswan/files/underlay-watch.sh").read_text(encoding="utf-8"),
                "enforcement": enforcement,
                "stage": stage,
            }
        }
        for stage in stages
    ]
    play = [{"hosts": "ipsec", "gather_facts": False, "tasks": tasks}]
    path = lab.folder / "change.yml"
    path.write_text(json.dumps(play), encoding="utf-8")
    slices = f"slices={lab.folder}/report/plan/hosts/"
    command = ["ansible-playbook", "-i", str(lab.inventory(MEMBERS)), "-e", slices, str(path)]
    subprocess.run(command, check=True, env=lab.environment, stdout=subprocess.DEVNULL)


def streams(lab: Lab) -> dict[str, float]:
    """Ping between all ordered pairs and return stream → seconds without an answer."""

    def ping(host: str) -> str:
        others = " ".join(lab.address(other) for other in MEMBERS if other != host)
        stream = f"ping -q -i {INTERVAL} -w {SECONDS} $peer | grep transmitted | sed s/^/$peer:/"
        return lab.ssh(host, f"for peer in {others}; do {stream} & done; wait", timeout=SECONDS + 30)

    with ThreadPoolExecutor() as pool:
        said = dict(zip(MEMBERS, pool.map(ping, MEMBERS), strict=True))
    lost = {}
    for host, text in said.items():
        for peer, sent, received in re.findall(r"(\S+):(\d+) packets transmitted, (\d+) received", text):
            lost[f"{host}→{peer}"] = (int(sent) - int(received)) * SECONDS / int(sent)
    return lost


def measure(lab: Lab, stages: tuple[str, ...]) -> str:
    """Relax, wait, enforce under traffic, and say what was lost."""
    change(lab, "private-or-clear", ("enforce",))
    lab.play("verify", MEMBERS, ipsec_enforcement="private-or-clear")
    with ThreadPoolExecutor() as pool:
        pinging = pool.submit(streams, lab)
        change(lab, "private", stages)
        lost = pinging.result()
    # A pair whose SA was asked for in vain at the very start says nothing at all.
    silent = len(MEMBERS) * (len(MEMBERS) - 1) - len(lost)
    figures = sorted(lost.values())
    gone = sum(seconds > SECONDS * 0.8 for seconds in figures) + silent
    return f"median {statistics.median(figures):4.1f} s, worst {figures[-1]:4.1f} s, {gone} streams that did not come back"


def main() -> None:
    """Measure and print."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    os.environ["ANSIBLE_COLLECTIONS_PATH"] = str(ROOT / ".cache/collections")
    os.environ["PATH"] = f"{ROOT}/.venv/bin:{os.environ['PATH']}"
    with tempfile.TemporaryDirectory() as folder:
        lab = Lab("bench-enforce", Path(folder))
        spec = json.loads((ROOT / "molecule/lab/default.json").read_text(encoding="utf-8"))
        spec.pop("name", None)
        (lab.folder / "lab.json").write_text(json.dumps(spec), encoding="utf-8")
        try:
            lab.cli("up", "--spec", str(lab.folder / "lab.json"))
            lab.converge(MEMBERS)
            for number, stages in itertools.product(
                range(runs), (("hold", "enforce", "release"), ("enforce",))
            ):
                print(f"{number + 1}. {' → '.join(stages):24} {measure(lab, stages)}", flush=True)
        finally:
            lab.cli("down", check=False)


if __name__ == "__main__":
    main()
