# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The two actions as a playbook runs them, on hosts that exist in the inventory only."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.underlay.ipsec.plugins.module_utils._pki.folder import Folder
from ansible_collections.underlay.ipsec.tests.unit.plugins import pki

COLLECTIONS = Path(__file__).resolve().parents[4] / ".cache" / "collections"

PLAY: list[dict[str, Any]] = [
    {
        "hosts": "all",
        "gather_facts": False,
        "tasks": [
            {
                "name": "Have a CA",
                "underlay.ipsec.ca": {"dir": "{{ ca_dir }}", "passphrase": "{{ passphrase }}"},
                "run_once": True,
            },
            {
                "name": "Sign",
                "underlay.ipsec.ca_sign": {
                    "dir": "{{ ca_dir }}",
                    "passphrase": "{{ passphrase }}",
                    "requests": "answer",
                    "plan_dir": "{{ plan_dir }}",
                },
                "run_once": True,
            },
        ],
    }
]


class Controller:
    """A control node with a plan for h1 to h3, where each host has answered nss_request."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folder = Folder(str(root / "ca"))
        self.passphrase: str | None = pki.PASSPHRASE
        self.answers = pki.waiting_hosts(root / "plan", 3)

    def run(self, *arguments: str) -> tuple[dict[str, dict[str, Any]], str]:
        """Run the play; return the results by task's name, and all that was printed."""
        inventory = {"all": {"hosts": {host: {"answer": answer} for host, answer in self.answers.items()}}}
        (self.root / "inventory.json").write_text(json.dumps(inventory))
        (self.root / "play.json").write_text(json.dumps(PLAY))
        variables = {
            "ca_dir": self.folder.path,
            "plan_dir": str(self.root / "plan"),
            "passphrase": self.passphrase,
        }
        (self.root / "variables.json").write_text(json.dumps(variables))
        program = Path(sys.executable).with_name("ansible-playbook")
        done = subprocess.run(
            [program, "-i", "inventory.json", "-e", "@variables.json", "play.json", *arguments],
            cwd=self.root,
            env={
                **os.environ,
                "ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS),
                "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json",
                "ANSIBLE_DISPLAY_ARGS_TO_STDOUT": "1",
            },
            capture_output=True,
            text=True,
            check=False,
        )
        output = done.stdout[done.stdout.index("{") :]
        tasks = json.loads(output)["plays"][0]["tasks"]
        return {task["task"]["name"]: task["hosts"]["h1"] for task in tasks}, done.stdout + done.stderr


@pytest.fixture
def controller(tmp_path: Path) -> Controller:
    """Return a control node that has no CA yet."""
    return Controller(tmp_path)


def test_first_run_and_second_run(controller: Controller) -> None:
    controller.answers["h3"] = {"state": "valid", "csr": None}
    results, printed = controller.run("-vvvv")
    ca, signed = results["Have a CA"], results["Sign"]
    assert ca["changed"]
    assert ca["certificate"].startswith("-----BEGIN CERTIFICATE-----")
    assert (signed["changed"], signed["signed"]) == (True, ["h1", "h2"])
    assert signed["issued_dir"] == controller.folder.issued_path
    assert pki.PASSPHRASE not in printed
    assert "PRIVATE KEY" not in printed
    results, _ = controller.run()
    assert (results["Have a CA"]["changed"], results["Sign"]["changed"]) == (False, False)
    assert results["Have a CA"]["fingerprint"] == ca["fingerprint"]
    assert len(controller.folder.ledger.read()) == 2


def test_check_mode(controller: Controller) -> None:
    results, _ = controller.run("--check", "--diff")
    assert results["Have a CA"]["changed"]
    assert results["Have a CA"]["certificate"] is None
    assert results["Have a CA"]["diff"]["after"]["folder"] == controller.folder.path
    assert (results["Sign"]["changed"], results["Sign"]["signed"]) == (True, [])
    assert not Path(controller.folder.path).exists()


def test_only_the_hosts_of_the_play(controller: Controller) -> None:
    results, _ = controller.run("--limit", "h1,h3")
    assert results["Sign"]["signed"] == ["h1", "h3"]


@pytest.mark.parametrize(
    "answer", [{"skipped": True, "changed": False}, {"state": "valid", "csr": None}, None, "unrelated"]
)
def test_nobody_asks(controller: Controller, answer: object) -> None:
    controller.answers = dict.fromkeys(controller.answers, answer)
    results, _ = controller.run()
    assert (results["Sign"]["changed"], results["Sign"]["signed"]) == (False, [])
    assert controller.folder.ledger.read() == ()


@pytest.mark.parametrize("passphrase", [None, ""])
def test_passphrase_missing(controller: Controller, passphrase: str | None) -> None:
    controller.passphrase = passphrase
    results, _ = controller.run()
    assert results["Have a CA"]["failed"]
    assert results["Have a CA"]["problems"][0]["variable"] == "ipsec_ca_passphrase"
    assert "Nothing has been changed." in results["Have a CA"]["msg"]
    assert not Path(controller.folder.path).exists()


def test_all_problems_at_once(controller: Controller) -> None:
    controller.answers["h2"] = controller.answers["h1"]
    (controller.root / "plan" / "hosts" / "h3.json").write_text("{")
    results, _ = controller.run()
    assert "h3: the plan in" in results["Sign"]["msg"]
    (controller.root / "plan" / "hosts" / "h3.json").write_text(
        json.dumps({"certificate": pki.slice_certificate("h3")})
    )
    controller.answers["h3"] = {"state": "requested", "csr": None}
    results, _ = controller.run()
    signed = results["Sign"]
    assert signed["failed"]
    assert [problem["host"] for problem in signed["problems"]] == ["h2", "h2", "h3"]
    assert signed["msg"].startswith("There are 3 problems. No certificate has been signed.\n1. h2: ")
    assert controller.folder.ledger.read() == ()
