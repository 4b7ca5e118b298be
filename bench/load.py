# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long a mesh of 1,000 members takes on one host of each release.

Plans and renders the mesh in this process, then boots one host of each release, which
become members of a mesh of two, and of MEMBERS then: all others exist in the inventory only.
The module libreswan loads all pairs and enforces them, with certificates and with pre-shared keys.
Prints the seconds of the module on the host, from the start of Python to its end, and of the
commands of libreswan that it runs, which a script in the place of `ipsec` notes down; and the processor's
seconds of the whole host for the run, which say more than the others on a machine with other things to do.

    .venv/bin/python bench/load.py [MEMBERS]
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
COLLECTIONS = ROOT / ".cache/collections"
sys.path[:0] = [str(ROOT / "tests/lab"), str(COLLECTIONS)]

from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan import render  # noqa: E402
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan.dialect import Dialect  # noqa: E402
from ansible_collections.underlay.ipsec.plugins.module_utils._plan.mesh import (  # noqa: E402
    mesh_peers,
    pair_keys,
)
from kit import Lab  # noqa: E402

HOSTS = {"h1": "bookworm", "h2": "trixie"}
SECRET = "the secret of the lab, long enough to be one"
SHARED = {
    "ipsec_topology": "mesh",
    "ipsec_networks": [{"name": "data", "cidr": "10.88.0.0/16"}],
    "ipsec_psk_secret": SECRET,
}
TIMES = "/run/bench-times"
# In the place of a program: notes down how long it took, and what it was asked for.
WRAPPER = f"""#!/bin/sh
begin=$(date +%s.%N)
REAL "$@"
rc=$?
echo "$begin $(date +%s.%N) NAME $*" >>{TIMES}
exit $rc
"""
STEPS = {
    "checkconfig": r"ipsec addconn .*--checkconfig",
    "load": r"ipsec addconn .*--autoall",
    "status": r"ipsec whack --(status|briefconnectionstatus)",
    "states": r"ipsec whack --showstates",
    "route": r"(ipsec whack|xargs) .*--route",
    "delete": r"(ipsec whack|xargs) .*--delete",
    "policies": r"ip xfrm policy",
}

# What is done, in which stage of the module, and how many changes that are.
STAGES = (("load", "prepare", 1), ("enforce", "enforce", 1), ("no change", "prepare", 0))


def inventory(lab: Lab, count: int) -> Path:
    """Write an inventory of *count* members, of which only those of the lab can be reached."""
    full = json.loads(Path(lab.status["inventories"]["mgmt"]).read_text(encoding="utf-8"))
    group = full["all"]["children"]["ipsec"]["hosts"]
    for variables in group.values():
        variables.update(ansible_python_interpreter="/usr/local/bin/timed-python")
    for number in range(count - len(HOSTS)):
        high, low = divmod(number, 250)
        group[f"m{number:04}"] = {"ipsec_addresses": {"data": f"10.88.{high + 1}.{low + 1}"}}
    path = lab.folder / f"inventory-{count}.json"
    path.write_text(json.dumps(full), encoding="utf-8")
    return path


def playbooks(folder: Path) -> None:
    """Write the playbooks: plan, load (as the role does) and unload."""
    plan = folder / "report/plan"
    slice_ = f"lookup('ansible.builtin.file', '{plan}/hosts/' ~ inventory_hostname ~ '.json') | from_json"
    document = f"lookup('ansible.builtin.file', '{plan}/plan.json') | from_json"
    load = {
        "settings": f"{{{{ ({slice_}).libreswan }}}}",
        "peers": f"{{{{ {document} | underlay.ipsec.mesh_peers(inventory_hostname) }}}}",
        "keys": f"{{{{ {document} | underlay.ipsec.pair_keys(inventory_hostname, '{SECRET}') }}}}",
        "enforcement": "private",
        "stage": "{{ stage }}",
    }
    tasks: dict[str, list[dict[str, Any]]] = {
        # Not the role: it would refuse a run without most of the members, and rightly so.
        "plan": [
            {
                "underlay.ipsec.host_info": {"controller_time": "{{ now(utc=true).isoformat() }}"},
                "register": "__ipsec_host_info",
            },
            {"underlay.ipsec.plan": {"group": "ipsec", "directory": str(plan)}, "run_once": True},
        ],
        "load": [{"underlay.ipsec.libreswan": load}],
        "unload": [{"underlay.ipsec.libreswan": {"state": "absent"}}],
    }
    for name, steps in tasks.items():
        play = [{"hosts": "ipsec", "gather_facts": False, "tasks": steps}]
        (folder / f"{name}.yml").write_text(json.dumps(play), encoding="utf-8")


def play(lab: Lab, path: Path, name: str, limit: str, **variables: Any) -> tuple[float, str]:
    """Run one of our playbooks; return its seconds and its output."""
    extra = {**lab.defaults, **SHARED, **variables}
    (lab.folder / "variables.json").write_text(json.dumps(extra), encoding="utf-8")
    command = ["ansible-playbook", "-i", str(path), "-e", f"@{lab.folder}/variables.json", "--limit", limit]
    begin = time.monotonic()
    done = subprocess.run(
        [*command, str(lab.folder / f"{name}.yml")],
        env=lab.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    return time.monotonic() - begin, done.stdout


def wrap(lab: Lab, host: str) -> None:
    """Put the script that measures in the place of what the module runs."""
    for path, real in (
        ("/usr/local/bin/timed-python", "/usr/bin/python3"),
        ("/usr/sbin/ipsec", "/usr/sbin/ipsec.real"),
        ("/usr/sbin/ip", "/usr/bin/ip"),
        ("/usr/sbin/xargs", "/usr/bin/xargs"),
    ):
        name = "python" if real.endswith("python3") else path.rsplit("/", 1)[-1]
        script = WRAPPER.replace("REAL", real).replace("NAME", name)
        keep = f"test -e {real} || mv {path} {real}; rm -f {path}"
        lab.ssh(host, f"{keep}; cat >{path} <<'EOT'\n{script}EOT\nchmod 755 {path}")


def measured(lab: Lab, host: str) -> dict[str, tuple[int, float]]:
    """Return step → how often and how many seconds since the last look; `module` is the whole."""
    text = lab.ssh(host, f"cat {TIMES}; rm -f {TIMES}")
    found: dict[str, tuple[int, float]] = {}
    for begin, end, words in re.findall(r"^(\S+) (\S+) (.*)$", text, re.MULTILINE):
        names = [name for name, pattern in STEPS.items() if re.match(pattern, words)]
        name = "module" if words.startswith("python") else (names or ["other commands"])[0]
        count, seconds = found.get(name, (0, 0.0))
        found[name] = (count + 1, seconds + float(end) - float(begin))
    whole = found["module"][1]
    found["Python"] = (1, whole - sum(seconds for name, (_n, seconds) in found.items() if name != "module"))
    return found


def processor(lab: Lab, host: str) -> float:
    """Return the processor's seconds that a user-mode Linux has had so far: its kernel's, and those of its processes."""
    kernel = lab.status["hosts"][host]["pid"]
    total = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            pid, rest = stat.parent.name, stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(pid) == kernel or int(rest[1]) == kernel:
            # Own time, and that of children that are no more.
            total += sum(map(int, rest[11:15]))
    return total / os.sysconf("SC_CLK_TCK")


def row(what: str, release: str, whole: float, busy: float, found: dict[str, tuple[int, float]]) -> str:
    """Return a row of the table."""
    cells = [what, release, f"**{found['module'][1]:.2f} s**", f"{busy:.1f} s", f"{whole:.1f} s"]
    for name in (*STEPS, "other commands", "Python"):
        count, seconds = found.get(name, (0, 0.0))
        cells.append((f"{count} x " if count > 1 else "") + f"{seconds:.2f} s" if count else "")
    return f"| {' | '.join([*cells, format(os.getloadavg()[0], '.1f')])} |"


def pure(document: dict[str, Any], member: dict[str, Any]) -> str:
    """Return how long the controller takes for one host's part, and the renderer for its files."""
    begin = time.monotonic()
    peers = mesh_peers(document, "h1")
    after_peers = time.monotonic()
    keys = pair_keys({**document, "auth": "psk"}, "h1", SECRET)
    after_keys = time.monotonic()
    settings = render.settings_from(member["libreswan"], peers)
    names = (name for network in settings.networks for name in settings.pairs(network))
    files = render.files(settings, Dialect(5, 2), dict.fromkeys(names, "private"))
    after_render = time.monotonic()
    size = sum(map(len, files.values()))
    return (
        f"Peers of one host {after_peers - begin:.3f} s, keys {after_keys - after_peers:.3f} s, "
        f"render {after_render - after_keys:.3f} s ({len(keys)} pairs, {size / 1e3:.0f} kB)"
    )


def measure(lab: Lab, count: int) -> None:
    """Load, look again and unload on each host, one after the other."""
    small, full = inventory(lab, len(HOSTS)), inventory(lab, count)
    titles = (
        "what",
        "release",
        "module",
        "host's processor",
        "ansible-playbook",
        *STEPS,
        "other commands",
        "Python",
        "load average",
    )
    for auth in ("certificate", "psk"):
        seconds, _out = play(lab, full, "plan", ",".join(HOSTS), ipsec_auth=auth)
        document = json.loads((lab.folder / "report/plan/plan.json").read_text(encoding="utf-8"))
        member = json.loads((lab.folder / "report/plan/hosts/h1.json").read_text(encoding="utf-8"))
        if auth == "certificate":
            print(f"Plan of {count} members by ansible-playbook {seconds:.1f} s. {pure(document, member)}.\n")
            print(f"| {' | '.join(titles)} |\n|{'---|' * len(titles)}", flush=True)
        for host, release in HOSTS.items():
            lab.ssh(host, f"rm -f {TIMES}")
            for what, stage, wanted in STAGES:
                used = processor(lab, host)
                whole, out = play(lab, full, "load", host, ipsec_auth=auth, stage=stage)
                used = processor(lab, host) - used
                if f"changed={wanted}" not in out:
                    print(f"{what} on {host}: changed is not {wanted}: {out}")
                print(row(f"{what}, {auth}", release, whole, used, measured(lab, host)), flush=True)
            loaded = lab.ssh(host, "ipsec whack --status | grep -c 'policy: IKEv2'").strip()
            routed = lab.ssh(host, "ip xfrm policy | grep -c 'dir out'").strip()
            print(f"  {release}: {loaded} connections loaded, {routed} outbound policies", file=sys.stderr)
            lab.ssh(host, f"rm -f {TIMES}")
            used = processor(lab, host)
            whole, _out = play(lab, full, "unload", host)
            used = processor(lab, host) - used
            print(row(f"unload, {auth}", release, whole, used, measured(lab, host)), flush=True)
        play(lab, small, "plan", ",".join(HOSTS), ipsec_auth=auth)
        play(lab, small, "load", ",".join(HOSTS), ipsec_auth=auth, stage="enforce")


def main() -> None:
    """Measure and print."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    os.environ["ANSIBLE_COLLECTIONS_PATH"] = str(COLLECTIONS)
    os.environ["PATH"] = f"{ROOT}/.venv/bin:{os.environ['PATH']}"
    with tempfile.TemporaryDirectory() as folder:
        lab = Lab("bench-load", Path(folder))
        spec = {
            "networks": [{"name": "data", "ipv4": "10.88.0.0/16"}],
            "hosts": [{"name": name, "release": release, "memory": 512} for name, release in HOSTS.items()],
        }
        (lab.folder / "lab.json").write_text(json.dumps(spec), encoding="utf-8")
        try:
            lab.cli("up", "--spec", str(lab.folder / "lab.json"))
            lab.converge(HOSTS, **SHARED)
            for host in HOSTS:
                wrap(lab, host)
            playbooks(lab.folder)
            measure(lab, count)
        finally:
            lab.cli("down", check=False)


if __name__ == "__main__":
    main()
