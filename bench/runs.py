# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What site.yml costs on N hosts in a mesh: the first run, and one that changes nothing.

Boots labs of each size, half of the hosts of each release, and runs site.yml twice. Prints the
wall time, the controller's processor time (ansible-playbook and all that it starts, so ssh too) and
how many modules were executed on each host.

A module counts once for each process of Python on the host, because that is what it costs: each of
Ansible's modules is one, whichever action plugin asks for it; what runs on the controller alone is none.
The hosts themselves count, with a script in the place of their interpreter.

    .venv/bin/python bench/runs.py [N…]
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests/lab"))

from kit import Lab  # noqa: E402

RELEASES = ("bookworm", "trixie")
# Small enough for twelve hosts next to whatever else runs here.
MEMORY = 256
COUNTER = "/usr/local/bin/counted-python"
COUNT = "/var/tmp/modules"
SCRIPT = f'#!/bin/sh\necho >>{COUNT}\nexec /usr/bin/python3 "$@"\n'


def processor_seconds() -> float:
    """Return the processor time of all children so far."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def executions(lab: Lab, members: Sequence[str]) -> list[int]:
    """Return how many modules ran on each host since the last look."""

    def one(host: str) -> int:
        return int(lab.ssh(host, f"cat {COUNT} 2>/dev/null | wc -l; rm -f {COUNT}"))

    with ThreadPoolExecutor() as pool:
        return list(pool.map(one, members))


def measure(lab: Lab, members: Sequence[str], what: str) -> str:
    """Run site.yml once and return the row of the table."""
    command = lab.command(
        "site",
        members,
        host_variables={member: {"ansible_python_interpreter": COUNTER} for member in members},
        ipsec_topology="mesh",
    )
    begin, used = time.monotonic(), processor_seconds()
    done = subprocess.run(command, env=lab.environment, capture_output=True, text=True, check=False)
    seconds, busy = time.monotonic() - begin, processor_seconds() - used
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    counts = executions(lab, members)
    most = max(counts)
    # One host carries what runs once for all.
    spread = f"{most}" if most == min(counts) else f"{min(counts)} to {most}"
    cells = (len(members), what, f"{seconds:.1f} s", f"{busy:.1f} s", f"{busy / len(members):.2f} s", spread)
    return f"| {' | '.join(map(str, cells))} | {os.getloadavg()[0]:.1f} |"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sizes", nargs="*", type=int, default=[4, 8, 12], help="numbers of hosts")
    sizes = parser.parse_args().sizes
    os.environ["ANSIBLE_COLLECTIONS_PATH"] = str(ROOT / ".cache/collections")
    os.environ["PATH"] = f"{ROOT}/.venv/bin:{os.environ['PATH']}"
    titles = (
        "hosts", "run", "wall time", "controller's processor", "for each host", "modules on a host", "load average",
    )  # fmt: skip
    print(f"| {' | '.join(titles)} |\n|{'---|' * len(titles)}", flush=True)
    for size in sizes:
        with tempfile.TemporaryDirectory() as folder:
            lab = Lab("bench-runs", Path(folder))
            members = [f"h{number + 1}" for number in range(size)]
            spec = {
                "networks": [{"name": "data", "ipv4": "10.88.0.0/24"}],
                "hosts": [
                    {"name": name, "release": release, "memory": MEMORY}
                    for name, release in zip(members, itertools.cycle(RELEASES), strict=False)
                ],
            }
            (lab.folder / "lab.json").write_text(json.dumps(spec), encoding="utf-8")
            try:
                lab.cli("up", "--spec", str(lab.folder / "lab.json"), timeout=600)
                for host in members:
                    lab.ssh(host, f"cat >{COUNTER} <<'EOT'\n{SCRIPT}EOT\nchmod 755 {COUNTER}")
                for what in ("first", "no change"):
                    print(measure(lab, members, what), flush=True)
            finally:
                lab.cli("down", check=False)


if __name__ == "__main__":
    main()
