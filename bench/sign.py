#!/usr/bin/env python3
# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long it takes to sign the certificate requests of many hosts, once they are in.

Generates a key and a request for each host and a plan that allows it, and times
the core alone and the task ca_sign in a real ansible-playbook run. The hosts
exist in the inventory only; each has its answer to nss_request as a variable.
"""

from __future__ import annotations

import argparse
import ipaddress
import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

ROOT = Path(__file__).resolve().parents[1]
COLLECTIONS = ROOT / ".cache" / "collections"
sys.path.insert(0, str(COLLECTIONS))

from ansible_collections.underlay.ipsec.plugins.module_utils._pki.folder import Folder  # noqa: E402
from ansible_collections.underlay.ipsec.plugins.module_utils._pki.keys import KEY_TYPES, generate  # noqa: E402
from ansible_collections.underlay.ipsec.plugins.module_utils._pki.lifecycle import Wanted, serve  # noqa: E402
from ansible_collections.underlay.ipsec.plugins.module_utils._pki.signing import (  # noqa: E402
    Entitlement,
    sign,
)

PASSPHRASE = "benchmark"
LIMIT_SECONDS = 3.0
HOSTS = 500

PLAYBOOK = """
- hosts: all
  gather_facts: false
  tasks:
    - name: Sign
      underlay.ipsec.ca_sign:
        dir: "{{ playbook_dir }}/ca"
        passphrase: benchmark
        requests: answer
        plan_dir: "{{ playbook_dir }}/plan"
      run_once: true
"""


def certificate(number: int, key_type: str) -> dict[str, Any]:
    """Return what the plan says of a host's certificate."""
    member = f"h{number:04}"
    return {
        "nickname": f"underlay-{member}",
        "subject": {"CN": f"{member}.example.org", "O": "underlay.ipsec"},
        "dns": [f"{member}.example.org"],
        "ip": [
            str(ipaddress.ip_address("10.88.0.1") + number),
            str(ipaddress.ip_address("fd88::1") + number),
        ],
        "key_type": key_type,
        "validity_days": 1825,
        "renew_before_days": 183,
    }


def request(plan: dict[str, Any]) -> str:
    """Return a new key's request for what *plan* allows."""
    key = generate(plan["key_type"])
    names: list[x509.GeneralName] = [x509.DNSName(name) for name in plan["dns"]]
    names += [x509.IPAddress(ipaddress.ip_address(address)) for address in plan["ip"]]
    subject = [
        x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, plan["subject"]["O"]),
        x509.NameAttribute(x509.NameOID.COMMON_NAME, plan["subject"]["CN"]),
    ]
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(subject))
    builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(key, hashes.SHA384()).public_bytes(serialization.Encoding.PEM).decode()


def core(folder: Folder, plans: dict[str, dict[str, Any]], requests: dict[str, str]) -> float:
    """Return the seconds that the core takes."""
    begin = time.perf_counter()
    entitlements = {member: Entitlement.from_slice(member, plan) for member, plan in plans.items()}
    signed = sign(folder, PASSPHRASE, requests, entitlements, datetime.now(UTC))
    took = time.perf_counter() - begin
    if len(signed) != len(requests):
        raise SystemExit(f"signed {len(signed)} of {len(requests)}")
    return took


def task(directory: Path, plans: dict[str, dict[str, Any]], requests: dict[str, str]) -> float:
    """Return the seconds that the task takes in ansible-playbook."""
    (directory / "plan" / "hosts").mkdir(parents=True)
    for member, plan in plans.items():
        (directory / "plan" / "hosts" / f"{member}.json").write_text(json.dumps({"certificate": plan}))
    hosts = {member: {"answer": {"state": "requested", "csr": csr}} for member, csr in requests.items()}
    (directory / "inventory.json").write_text(json.dumps({"all": {"hosts": hosts}}))
    (directory / "playbook.yml").write_text(PLAYBOOK)
    environment = {
        **os.environ,
        "ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS),
        "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json",
    }
    program = Path(sys.executable).with_name("ansible-playbook")
    done = subprocess.run(
        [program, "-i", "inventory.json", "playbook.yml"],
        cwd=directory, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    (result,) = json.loads(done.stdout)["plays"][0]["tasks"]
    (answer,) = result["hosts"].values()
    if len(answer["signed"]) != len(requests):
        raise SystemExit(f"signed {len(answer['signed'])} of {len(requests)}")
    times = [datetime.fromisoformat(result["task"]["duration"][which]) for which in ("start", "end")]
    return (times[1] - times[0]).total_seconds()


def main() -> int:
    """Print the figures; return 1 if one of them is over the limit."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--hosts", type=int, default=HOSTS, help=f"number of hosts (default: {HOSTS})")
    parser.add_argument("--key-type", choices=KEY_TYPES, default="ecdsa-p384")
    arguments = parser.parse_args()
    plans = {f"h{n:04}": certificate(n, arguments.key_type) for n in range(arguments.hosts)}
    with ProcessPoolExecutor() as pool:
        requests = dict(zip(plans, pool.map(request, plans.values()), strict=True))
    slowest = 0.0
    for name in ("core", "task"):
        with tempfile.TemporaryDirectory(prefix="underlay-bench-") as text:
            directory = Path(text)
            folder = Folder(str(directory / "ca"))
            serve(folder, Wanted(PASSPHRASE, arguments.key_type), datetime.now(UTC))
            took = core(folder, plans, requests) if name == "core" else task(directory, plans, requests)
        print(f"sign {arguments.hosts} requests ({arguments.key_type}), {name}: {took:.2f} s")
        slowest = max(slowest, took)
    return int(slowest > LIMIT_SECONDS * max(1.0, arguments.hosts / HOSTS))


if __name__ == "__main__":
    sys.exit(main())
