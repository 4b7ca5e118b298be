# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An interruption of site.yml costs nobody access to a host, and the next run finishes.

Two hosts without anything are made a cluster by one run after the other, each cut off at
a later stage, and each starting from what the one before left. Ansible connects from
inside the private network.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from kit import Lab, Run, eventually

MEMBERS = ("i1", "i2")
NSS = "sql:/var/lib/ipsec/nss"
SEED = random.randrange(10**6)
"""Of the delays, in the names of the tests: shown when one fails."""


@dataclass(frozen=True)
class Stage:
    """Where a run is cut off."""

    task: str
    """Its role and name, as in the banner."""
    occurrence: int = 1
    loosened: bool = False
    """Whether the hosts have to stop enforcing first, for the stage to have anything to do: a cut may come late."""


STAGES = (
    Stage("plan : Plan the cluster"),
    Stage("ca : Have a certificate authority"),
    Stage("libreswan : Install the package"),
    Stage("nss : Ask for a certificate where one is due"),
    Stage("nss : Sign what was asked for"),
    Stage("nss : Import the certificate"),
    Stage("libreswan : Configure libreswan, private or clear"),
    Stage("verify : Look at the wire"),
    Stage("libreswan : Hold negotiations", loosened=True),
    Stage("libreswan : Put the policy in force", loosened=True),
    Stage("libreswan : Release negotiations, in order", loosened=True),
    Stage("verify : Look at the wire", occurrence=2, loosened=True),
)


def interrupt(process: subprocess.Popen[bytes]) -> None:
    """Press Ctrl-C."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGINT)


def kill(process: subprocess.Popen[bytes]) -> None:
    """Let the controller die: ansible-playbook and whatever it started, without a word to anybody."""
    process.send_signal(signal.SIGSTOP)
    for pid in (*_descendants(process.pid), process.pid):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _descendants(pid: int) -> Iterator[int]:
    # Not its process group: Ansible gives each worker a session of its own.
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(path.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[1])
        except OSError:
            continue
        if parent == pid:
            child = int(path.parent.name)
            yield child
            yield from _descendants(child)


@pytest.fixture(scope="module")
def cluster(lab: Lab) -> dict[str, Any]:
    """Boot two hosts without anything; return what site.yml runs with on them."""
    lab.add(i1="bookworm", i2="trixie")
    return {
        "network": "data",
        "ipsec_ca_dir": str(lab.folder / "interrupted/ca"),
        "ipsec_report_dir": str(lab.folder / "interrupted/report"),
    }


def reachable(lab: Lab, host: str) -> bool:
    """Return whether a new connection of ssh gets through from inside the private network."""
    login = ["ssh", "-F", lab.status["ssh_config"], "-o", "ControlPath=none", "-o", "ConnectTimeout=10"]
    done = subprocess.run([*login, lab.address(host), "true"], check=False, stdin=subprocess.DEVNULL)
    return done.returncode == 0


@pytest.mark.parametrize("index", range(len(STAGES)), ids=lambda index: f"{index}-seed{SEED}")
def test_hosts_stay_reachable(lab: Lab, cluster: dict[str, Any], index: int) -> None:
    """Cut off at any stage by Ctrl-C or death of the controller, site.yml leaves no host locked up."""
    stage, cut = STAGES[index], (interrupt, kill)[index % 2]
    if stage.loosened:
        lab.converge(MEMBERS, **cluster, ipsec_enforcement="private-or-clear")
    # The last stage has less than two seconds to go.
    delay = random.Random(SEED + index).uniform(0, 1)
    run = cut_off(lab, cluster, stage, cut, delay)
    said = f"{cut.__name__} {delay:.2f} s into {stage.task!r}:\n{run.output}"
    print(said)
    assert banner(stage, run.output), said
    assert run.rc != 0, f"not interrupted: {said}"
    for host in MEMBERS:
        assert lab.reachable(host), said
        assert reachable(lab, host), said


def cut_off(
    lab: Lab,
    cluster: dict[str, Any],
    stage: Stage,
    cut: Callable[[subprocess.Popen[bytes]], None],
    delay: float,
) -> Run:
    """Run site.yml as far as *stage* and *delay* seconds more."""
    path = lab.folder / "interrupted.log"
    with path.open("wb") as log:
        process = subprocess.Popen(
            lab.command("site", MEMBERS, **cluster),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=lab.environment,
            start_new_session=True,
        )
    try:
        eventually(
            lambda: banner(stage, path.read_text(errors="replace")) or process.poll() is not None, 120, 0.1
        )
        time.sleep(delay)
        cut(process)
        process.wait(timeout=60)
    finally:
        if process.poll() is None:
            kill(process)
            process.wait(timeout=10)
    return Run(process.returncode, path.read_text(errors="replace"))


def banner(stage: Stage, output: str) -> bool:
    """Return whether a run has come as far as *stage*."""
    return output.count(f"TASK [underlay.ipsec.{stage.task}]") >= stage.occurrence


def test_a_run_finishes(lab: Lab, cluster: dict[str, Any]) -> None:
    """After all of this, one run encrypts and enforces, and the next has nothing to do."""
    run = lab.converge(MEMBERS, **cluster)
    report = json.loads((lab.folder / "interrupted/report/report.json").read_text(encoding="utf-8"))
    observed = {(pair["from"], pair["to"]): pair["observed"] for pair in report["pairs"]}
    assert observed == {("i1", "i2"): "encrypted", ("i2", "i1"): "encrypted"}, run.output
    assert all(
        "10.88.0.0/24" in lab.ssh(host, "cat /etc/ipsec.d/policies/underlay-default-private")
        for host in MEMBERS
    )
    again = lab.converge(MEMBERS, **cluster)
    assert again.changed == 0, again.output


@pytest.mark.parametrize("host", MEMBERS)
def test_nothing_is_left_behind(lab: Lab, host: str) -> None:
    """A host has one certificate of its own with its key, and no trace of an unfinished run."""
    nicknames = re.findall(r"^(underlay-\S+)", lab.ssh(host, f"certutil -L -d {NSS}"), re.MULTILINE)
    assert sorted(nicknames) == sorted(["underlay-ca", f"underlay-{host}"])
    keys = re.findall(r"^< *\d+>.*$", lab.ssh(host, f"certutil -K -d {NSS}"), re.MULTILINE)
    assert len(keys) == 1, keys
    assert keys[0].endswith(f"underlay-{host}")
    left = lab.ssh(host, "find /etc /var/lib/ipsec -name 'underlay-unfinished*' -o -name '.underlay*'")
    assert not left.strip()


def test_the_ledger_is_whole(lab: Lab, cluster: dict[str, Any]) -> None:
    """Every line of the ledger is JSON, no serial number was given twice, and each host has its last one."""
    path = Path(cluster["ipsec_ca_dir"]) / "ledger.jsonl"
    entries = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    serials = [entry["serial"] for entry in entries]
    assert len(serials) == len(set(serials))
    last = {entry["member"]: entry["fingerprint"] for entry in entries}
    for host in MEMBERS:
        assert last[host] in fingerprint(lab, host)


def fingerprint(lab: Lab, host: str) -> str:
    """Return the SHA-256 fingerprint of the certificate in use, in the ledger's form."""
    listed = lab.ssh(host, f"certutil -L -d {NSS} -n underlay-{host}")
    found = re.search(r"Fingerprint \(SHA-256\):\s+([0-9A-F:]+)", listed)
    assert found, listed
    return found.group(1).replace(":", "").lower()
