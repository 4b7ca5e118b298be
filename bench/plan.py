# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long the plan takes on the controller, and how much memory, for clusters of several sizes.

Makes an inventory of hosts on two networks, with the result of host_info as a variable so that
no host is needed, and times the action plan in a real ansible-playbook run, and the pure core alone.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
COLLECTIONS = ROOT / ".cache" / "collections"
SAMPLE_SECONDS = 0.02
LIMIT = 10

PLAYBOOK = """
- hosts: ipsec
  gather_facts: false
  tasks:
    - name: Plan the cluster
      underlay.ipsec.plan:
        group: ipsec
        directory: "{{ report }}/plan"
      run_once: true
"""


def addresses(number: int) -> dict[str, str]:
    """Return the addresses of a host on both networks."""
    high, low = divmod(number, 250)
    return {"data": f"10.88.{high}.{low + 1}", "storage": f"10.89.{high}.{low + 1}"}


def host_info(number: int) -> dict[str, Any]:
    """Return what host_info would say of a host."""
    own = addresses(number)
    seen = {"eth0": f"10.77.{number // 250}.{number % 250 + 1}", "eth1": own["data"], "eth2": own["storage"]}
    return {
        "addresses": [
            {
                "interface": name,
                "address": address,
                "prefix": 16,
                "family": 4,
                "scope": "global",
                "secondary": False,
            }
            for name, address in seen.items()
        ],
        "default_routes": [{"family": 4, "interface": "eth0", "gateway": "10.77.255.254"}],
        "controller_address": "10.88.255.1",
        "clock_skew": 0.1,
        "free_bytes": {"/etc": 10**10, "/var": 10**10},
        "libreswan": {"installed": "4.10", "candidate": None, "package": "libreswan"},
        "esp": True,
        "esp6": True,
        "setup": {},
    }


def inventory(count: int, reached: int) -> dict[str, Any]:
    """Return an inventory whose first hosts are *reached* and the others known by ipsec_addresses; some values are templates."""
    hosts = {
        f"h{number:04}": {"__ipsec_host_info": host_info(number)}
        if number < reached
        else {"ipsec_addresses": addresses(number)}
        for number in range(count)
    }
    shared = {
        "gateway": "10.88.255.254",
        "vault": "correct horse battery staple",
        "ipsec_ca_passphrase": "{{ vault }}",
        "ipsec_fqdn": "{{ inventory_hostname }}.example",
        "ipsec_networks": [
            {"name": "data", "cidr": "10.88.0.0/16", "clear": ["{{ gateway }}"]},
            {"name": "storage", "cidr": "10.89.0.0/16"},
        ],
    }
    return {"ipsec": {"hosts": hosts, "vars": shared}}


def descendants(pid: int) -> Iterator[int]:
    """Yield *pid* and the processes below it."""
    yield pid
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        children = " ".join((task / "children").read_text() for task in tasks).split()
    except OSError:
        return
    for child in children:
        yield from descendants(int(child))


def memory(pid: int) -> int:
    """Return the proportional set size of a process tree in bytes: shared pages count once."""
    total = 0
    for process in descendants(pid):
        try:
            lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) * 1024
    return total


def processor_seconds() -> float:
    """Return the processor time of all children so far."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def run_playbook(directory: Path, count: int, limit: int) -> tuple[float, float, int]:
    """Return the seconds, the processor's seconds and the bytes that ansible-playbook takes, on *limit* of *count* hosts."""
    (directory / "inventory.json").write_text(json.dumps(inventory(count, limit)))
    (directory / "playbook.yml").write_text(PLAYBOOK)
    command = [
        str(Path(sys.executable).with_name("ansible-playbook")),
        "-i",
        "inventory.json",
        "playbook.yml",
    ]
    command += ["-e", json.dumps({"report": str(directory / "report")})]
    if limit < count:
        command += ["--limit", ",".join(f"h{number:04}" for number in range(limit))]
    environment = {**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS)}
    begin, used = time.monotonic(), processor_seconds()
    with (directory / "log").open("w") as log:
        process = subprocess.Popen(
            command, cwd=directory, env=environment, stdout=log, stderr=subprocess.STDOUT
        )
        most = 0
        while process.poll() is None:
            most = max(most, memory(process.pid))
            time.sleep(SAMPLE_SECONDS)
    if process.returncode:
        sys.exit((directory / "log").read_text())
    return time.monotonic() - begin, processor_seconds() - used, most


def run_core(count: int) -> float:
    """Return the seconds that the pure core takes from raw variables to the plan."""
    sys.path.insert(0, str(COLLECTIONS))
    import yaml
    from ansible_collections.underlay.ipsec.plugins.module_utils._model.cluster import Host, HostFacts
    from ansible_collections.underlay.ipsec.plugins.module_utils._plan.build import make_plan

    specs = yaml.safe_load((ROOT / "roles/plan/meta/argument_specs.yml").read_text())["argument_specs"][
        "main"
    ]["options"]
    group = inventory(count, count)["ipsec"]
    group["vars"]["ipsec_networks"][0]["clear"] = [group["vars"]["gateway"]]
    shared = {
        name: value
        for name, value in group["vars"].items()
        if name.startswith("ipsec_") and name != "ipsec_fqdn"
    }
    begin = time.monotonic()
    hosts = [
        Host(name, shared, HostFacts.from_info(raw["__ipsec_host_info"]))
        for name, raw in group["hosts"].items()
    ]
    make_plan(hosts, "ipsec", specs, play_hosts=list(group["hosts"]))
    return time.monotonic() - begin


def main() -> None:
    """Print one line for each size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sizes", nargs="*", type=int, default=[10, 100, 1000, 3000], help="numbers of hosts")
    sizes = parser.parse_args().sizes
    print(
        "| hosts | pure core | ansible-playbook | of which processor | memory | with --limit to 10 | largest slice |"
    )
    print("|---|---|---|---|---|---|---|")
    for count in sizes:
        with tempfile.TemporaryDirectory() as name:
            directory = Path(name)
            seconds, busy, size = run_playbook(directory, count, count)
            largest = max(path.stat().st_size for path in (directory / "report/plan/hosts").iterdir())
            limited, _busy, _size = run_playbook(directory, count, min(count, LIMIT))
        figures = (
            f"{count}",
            f"{run_core(count):.2f} s",
            f"{seconds:.1f} s",
            f"{busy:.1f} s",
            f"{size / 1e6:.0f} MB",
            f"{limited:.1f} s",
            f"{largest} B",
        )
        print(f"| {' | '.join(figures)} |", flush=True)


if __name__ == "__main__":
    main()
