# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The action plan in real ansible-playbook runs: what it gets to know of hosts, and what it says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.underlay.ipsec.tests.unit.plugins import pki
from ansible_collections.underlay.ipsec.tests.unit.plugins.module_utils._pki import cas

ROOT = Path(__file__).resolve().parents[4]
BIN = str(Path(sys.executable).parent)
PASSPHRASE = "correct horse battery staple"
PLAYBOOK = """
- hosts: "{{ ipsec_group | default('ipsec') }}"
  gather_facts: false
  vars:
    ipsec_mode: tunnel
  tasks:
    - ansible.builtin.import_role:
        name: underlay.ipsec.plan
        rolespec_validate: false
    - ansible.builtin.debug:
        msg: "slice of {{ __ipsec_slice.member }}"
"""


def host_info(number: int) -> dict[str, Any]:
    return {
        "addresses": [
            {
                "interface": "eth1",
                "address": f"10.88.0.{number}",
                "prefix": 24,
                "family": 4,
                "scope": "global",
                "secondary": False,
            }
        ],
        "default_routes": [],
        "controller_address": "10.77.0.1",
        "clock_skew": 0.0,
        "free_bytes": {"/etc": 10**9, "/var": 10**9},
        "libreswan": {"installed": "4.10", "candidate": None, "package": "libreswan"},
        "esp": True,
        "esp6": True,
        "firewall": {"active": [], "usable": ["nftables"]},
        "setup": {},
    }


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A playbook, and two hosts that answer with a stored host_info instead of being asked."""
    (tmp_path / "playbook.yml").write_text(PLAYBOOK)
    modules = tmp_path / "bin"
    modules.mkdir()
    for number in (1, 2):
        answer = json.dumps({"changed": False, **host_info(number)})
        python = modules / f"python{number}"
        python.write_text(f"#!/bin/sh\ncat <<'END'\n{answer}\nEND\n")
        python.chmod(0o755)
    hosts = {
        f"h{number}": {
            "ansible_connection": "local",
            "ansible_python_interpreter": str(modules / f"python{number}"),
        }
        for number in (1, 2)
    }
    (tmp_path / "inventory.json").write_text(
        json.dumps({"ipsec": {"hosts": hosts}, "other": {"hosts": {"h1": None}}})
    )
    (tmp_path / "vault").write_text("vault password")
    secret = vaulted(tmp_path, "ipsec_ca_passphrase", PASSPHRASE)
    (tmp_path / "group_vars").mkdir()
    (tmp_path / "group_vars" / "ipsec.yml").write_text(
        'ipsec_networks: [{name: data, cidr: "{{ net }}.0/24"}]\n'
        'ipsec_fqdn: "{{ inventory_hostname }}.{{ site }}"\nnet: 10.88.0\nsite: example\n' + secret
    )
    return tmp_path


def vaulted(project: Path, name: str, value: str) -> str:
    """Return a variable as a file of variables has it, with an encrypted value."""
    command = [
        f"{BIN}/ansible-vault",
        "encrypt_string",
        "--vault-password-file",
        "vault",
        "--name",
        name,
        value,
    ]
    return subprocess.run(command, cwd=project, check=True, capture_output=True, text=True).stdout


def playbook(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [
        f"{BIN}/ansible-playbook",
        "-i",
        "inventory.json",
        "--vault-password-file",
        "vault",
        "playbook.yml",
        *arguments,
    ]
    environment = {
        **os.environ,
        "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".cache/collections"),
        "ANSIBLE_HOME": str(project / "home"),
    }
    return subprocess.run(command, cwd=project, env=environment, check=False, capture_output=True, text=True)


def plan(project: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((project / "ipsec-report/plan/plan.json").read_text())
    return document


def test_templates_vault_and_play_variables(project: Path) -> None:
    done = playbook(project, "-vvvv")
    assert done.returncode == 0, done.stdout
    member = plan(project)["members"]["h2"]
    assert (member["fqdn"], member["addresses"]) == ("h2.example", {"data": "10.88.0.2"})
    assert plan(project)["networks"][0]["mode"] == "tunnel"
    assert "slice of h1" in done.stdout
    assert "changed=1" not in done.stdout
    assert PASSPHRASE not in done.stdout + done.stderr
    assert PASSPHRASE not in "".join(path.read_text() for path in (project / "ipsec-report").rglob("*.json"))


def test_bundles_with_passwords_in_vaults_and_files(project: Path) -> None:
    (project / "ca.pem").write_bytes(cas.ca("root").bundle)
    (project / "host_vars").mkdir()
    for number in (1, 2):
        leaf = cas.member(cas.ca("root"), f"h{number}", dns=(f"h{number}.example",))
        (project / f"h{number}.p12").write_bytes(cas.p12(leaf, pki.key(number)))
    (project / "h2.password").write_text(f"{cas.PASSWORD}\n")
    (project / "host_vars" / "h1.yml").write_text(vaulted(project, "ipsec_pkcs12_password", cas.PASSWORD))
    (project / "host_vars" / "h2.yml").write_text(
        'ipsec_pkcs12_password_file: "{{ playbook_dir }}/{{ inventory_hostname }}.password"\n'
    )
    variables = {
        "ipsec_certificate_source": "pkcs12",
        "ipsec_ca_certificate": "ca.pem",
        "ipsec_pkcs12": "{{ inventory_hostname }}.p12",
    }
    done = playbook(project, "-vvvv", "-e", json.dumps(variables))
    assert done.returncode == 0, done.stdout
    slices = [
        json.loads(path.read_text()) for path in sorted((project / "ipsec-report/plan/hosts").iterdir())
    ]
    assert [part["certificate"]["subject"]["CN"] for part in slices] == ["h1", "h2"]
    assert cas.PASSWORD not in done.stdout + done.stderr
    (project / "h2.password").write_text("another\n")
    done = playbook(project, "-vvvv", "-e", json.dumps(variables))
    assert (
        "1. h2: ipsec_pkcs12_password: h2.p12 cannot be decrypted with this password"
        in done.stdout + done.stderr
    )
    assert not any(secret in done.stdout + done.stderr for secret in ("another", cas.PASSWORD))


def test_check_mode_plans_as_well(project: Path) -> None:
    assert playbook(project, "--check").returncode == 0
    assert len(plan(project)["members"]) == 2


def test_limit_names_the_host_that_is_not_known(project: Path) -> None:
    done = playbook(project, "--limit", "h1")
    assert done.returncode == 2
    assert "1. h2: ipsec_addresses: the host was not reached in this run" in done.stderr + done.stdout
    assert not (project / "ipsec-report").exists()
    (project / "host_vars").mkdir()
    (project / "host_vars" / "h2.yml").write_text("ipsec_addresses: {data: 10.88.0.2}\n")
    assert playbook(project, "--limit", "h1").returncode == 0
    assert len(plan(project)["members"]) == 2
    assert [path.name for path in (project / "ipsec-report/plan/hosts").iterdir()] == ["h1.json"]


def test_one_list_of_all_problems(project: Path) -> None:
    wrong = {"ipsec_netwoks": [], "ipsec_clear": "10.88.0.1", "ipsec_key_type": "{{ nothing }}"}
    done = playbook(project, "-e", json.dumps(wrong))
    assert done.returncode == 2
    for line in (
        "There are 3 problems. Nothing has been changed on any host.\n",
        "1. h1, h2: ipsec_netwoks: there is no such variable, did you mean ipsec_networks.",
        ". ipsec_clear: it is a string, not a list. Write it as a YAML list",
        ". ipsec_key_type: its value cannot be read: 'nothing' is undefined. Correct",
    ):
        assert line in done.stdout + done.stderr
    assert not (project / "ipsec-report").exists()


def test_group_that_the_play_does_not_run_on(project: Path) -> None:
    (project / "group_vars" / "all.yml").write_text("ipsec_group: other\n")
    done = playbook(project)
    assert done.returncode == 2
    assert (
        "ipsec_group: the play runs on h2, which the group 'other' does not contain"
        in done.stdout + done.stderr
    )
