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
import random
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from kit import Lab, Stage, banner, cut_off, interrupt, kill, some

MEMBERS = ("i1", "i2")
NSS = "sql:/var/lib/ipsec/nss"
SEED = random.randrange(10**6)
"""Of the delays, in the names of the tests: shown when one fails."""


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


@pytest.mark.parametrize("index", some(range(len(STAGES)), 3), ids=lambda index: f"{index}-seed{SEED}")
def test_hosts_stay_reachable(lab: Lab, cluster: dict[str, Any], index: int) -> None:
    """Cut off at any stage by Ctrl-C or death of the controller, site.yml leaves no host locked up."""
    stage, cut = STAGES[index], (interrupt, kill)[index % 2]
    if stage.loosened:
        lab.converge(MEMBERS, **cluster, ipsec_enforcement="private-or-clear")
    # The last stage has less than two seconds to go.
    delay = random.Random(SEED + index).uniform(0, 1)
    run = cut_off(lab, MEMBERS, stage, cut, delay, **cluster)
    said = f"{cut.__name__} {delay:.2f} s into {stage.task!r}:\n{run.output}"
    print(said)
    assert banner(stage, run.output), said
    assert run.rc != 0, f"not interrupted: {said}"
    for host in MEMBERS:
        assert lab.reachable(host), said
        assert reachable(lab, host), said


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
