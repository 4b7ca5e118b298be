# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a virtual address is out of reach for when it moves, with and without IPsec.

Boots the lab of the scenario vip, and takes turns: encrypts it, lets the address move in each of the
ways that it may, takes IPsec away, and does the same again. All hosts ping the address 20 times a
second meanwhile. The outage of a failover is that of the host that had to wait longest; a host that
is dead or cut off does not count. Prints a table in Markdown, and what was
seen of the address in clear text while IPsec was there.

    .venv/bin/python bench/failover.py [RELEASE [TURNS]]
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests/lab"))

from failover import Address  # noqa: E402
from kit import Lab  # noqa: E402

SCENARIO = "vip"
NODES = ("c1", "c2", "c3")
HOSTS = (*NODES, "n1", "n2")
SETTLE_SECONDS = 12
# Events after which the owner is not on the network.
LOST = ("host killed", "network cut")


def molecule(verb: str, release: str) -> None:
    """Run a step of the scenario."""
    command = [str(ROOT / ".venv/bin/molecule"), verb, "-s", SCENARIO]
    subprocess.run(command, check=True, env={**os.environ, "LAB_RELEASE": release}, stdout=sys.stderr)


def folder() -> Path:
    """Return where the scenario keeps its state."""
    found = Path(os.environ["ANSIBLE_HOME"]).glob(f"tmp/molecule.*.{SCENARIO}")
    return max(found, key=lambda path: path.stat().st_mtime)


def outage(vip: Address, event: Callable[[], Callable[[], object]], *, lost: bool) -> tuple[float, int]:
    """Return for how long the address was out of reach, and how many of its packets were in clear text.

    *lost* says that the event takes the address's host away from the network.
    """
    owner = vip.owner
    with vip.lab.capture(vip.network) as wire, vip.traffic(HOSTS, SETTLE_SECONDS) as traffic:
        undo = event()
    undo()
    vip.rest()
    waited = [seconds for host, seconds in traffic.outages.items() if host != owner or not lost]
    return max(waited), len(vip.clear(wire))


def main() -> None:
    """Measure and print."""
    release = sys.argv[1] if len(sys.argv) > 1 else "trixie"
    turns = int(sys.argv[2]) if len(sys.argv) > 2 else 3
    os.environ.update(
        ANSIBLE_HOME=str(ROOT / ".cache/ansible"),
        ANSIBLE_COLLECTIONS_PATH=str(ROOT / ".cache/collections"),
        MOLECULE_PROJECT_DIRECTORY=str(ROOT),
        PATH=f"{ROOT}/.venv/bin:{os.environ['PATH']}",
    )
    scenario = yaml.safe_load((ROOT / f"molecule/{SCENARIO}/molecule.yml").read_text(encoding="utf-8"))
    variables = scenario["provisioner"]["inventory"]["group_vars"]["all"]["lab_site_variables"]
    os.environ["LAB_VARIABLES"] = json.dumps(variables)
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    in_clear = 0
    try:
        molecule("create", release)
        lab = Lab(f"molecule-{SCENARIO}", folder())
        vip = Address(lab, "10.88.0.250", "internal", NODES)
        for _turn in range(turns):
            for way, playbook in (("with", "site"), ("without", "remove")):
                run = lab.play(playbook, HOSTS)
                assert run.rc == 0, run.output
                vip.rest()
                for name, event in vip.events.items():
                    seconds, clear = outage(vip, event, lost=name in LOST)
                    found[name][way].append(seconds)
                    in_clear += clear if way == "with" else 0
                    print(f"{name:15} {way:8} {seconds:5.2f} s", file=sys.stderr, flush=True)
    finally:
        molecule("destroy", release)
    print(f"libreswan of {release}, {turns} turns; seconds, median (worst)\n")
    print("| | without IPsec | with | added |\n|---|---|---|---|")
    for name, ways in found.items():
        middle = {way: statistics.median(seconds) for way, seconds in ways.items()}
        cells = [f"{middle[way]:.1f} ({max(ways[way]):.1f})" for way in ("without", "with")]
        print(f"| {name} | {' | '.join(cells)} | {middle['with'] - middle['without']:+.1f} |")
    print(f"\n{in_clear} packets of the address in clear text while it was encrypted")


if __name__ == "__main__":
    main()
