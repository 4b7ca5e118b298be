# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Revocation, a rollover, adoption and signing elsewhere, as playbooks run them."""

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
from ansible_collections.underlay.ipsec.tests.unit.plugins.module_utils._pki import cas
from cryptography import x509
from cryptography.hazmat.primitives import serialization

COLLECTIONS = Path(__file__).resolve().parents[4] / ".cache" / "collections"


class Play:
    """A control node with a plan for h1 and h2, where each host has answered nss_request."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folder = Folder(str(root / "ca"))
        self.answers = pki.waiting_hosts(root / "plan", 2)

    def run(self, *tasks: tuple[str, dict[str, Any]], check: bool = False) -> list[dict[str, Any]]:
        """Run actions, each with its arguments; return their results."""
        play = {
            "hosts": "all",
            "gather_facts": False,
            "tasks": [
                {f"underlay.ipsec.{name}": arguments, "run_once": True, "ignore_errors": True}
                for name, arguments in tasks
            ],
        }
        hosts = {host: {"answer": answer} for host, answer in self.answers.items()}
        (self.root / "inventory.json").write_text(json.dumps({"all": {"hosts": hosts}}))
        (self.root / "play.json").write_text(json.dumps([play]))
        program = Path(sys.executable).with_name("ansible-playbook")
        done = subprocess.run(
            [program, "-vvvv", "-i", "inventory.json", "play.json", *(["--check"] if check else [])],
            cwd=self.root,
            env={
                **os.environ,
                "ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS),
                "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json",
            },
            capture_output=True,
            text=True,
            check=False,
        )
        assert pki.PASSPHRASE not in done.stdout + done.stderr
        assert "PRIVATE KEY" not in done.stdout + done.stderr
        tasks_done = json.loads(done.stdout[done.stdout.index("{") :])["plays"][0]["tasks"]
        return [task["hosts"]["h1"] for task in tasks_done]

    def ca(self, **arguments: Any) -> tuple[str, dict[str, Any]]:
        """Return the task ``ca``."""
        return "ca", {"dir": self.folder.path, "passphrase": pki.PASSPHRASE, **arguments}

    def sign(self, **arguments: Any) -> tuple[str, dict[str, Any]]:
        """Return the task ``ca_sign``."""
        return "ca_sign", {**self.ca()[1], **self.exchange()[1], "dir": self.folder.path, **arguments}

    def revoke(self, *members: str) -> tuple[str, dict[str, Any]]:
        """Return the task ``ca_revoke``."""
        return "ca_revoke", {**self.ca()[1], "members": list(members)}

    def exchange(self, **arguments: Any) -> tuple[str, dict[str, Any]]:
        """Return the task ``ca_exchange``."""
        return "ca_exchange", {
            "dir": str(self.root / "signing"),
            "requests": "answer",
            "plan_dir": str(self.root / "plan"),
            **arguments,
        }


@pytest.fixture
def play(tmp_path: Path) -> Play:
    """Return a control node without a CA."""
    return Play(tmp_path)


def test_revocation(play: Play) -> None:
    foretold = play.run(play.ca(), play.sign(), play.revoke("h1"), check=True)[2]
    assert "there is no CA" in foretold["msg"]
    ca, _signed, revoked, again, unknown = play.run(
        play.ca(), play.sign(), play.revoke("h1"), play.revoke("h1"), play.revoke("h7")
    )
    assert (ca["crl"], ca["crls"], ca["crl_not_after"], ca["revoked"]) == (None, [], None, [])
    (entry,) = revoked["revoked"]
    assert (entry["member"], entry["names"]) == ("h1", ["dns:h1", "ip:10.88.0.11"])
    assert entry["subject"] == "CN=h1,O=underlay.ipsec"
    crl = x509.load_pem_x509_crl(revoked["crl"].encode())
    assert [each.serial_number for each in crl] == [int(entry["serial"], 16)]
    assert revoked["crls"] == [revoked["crl"]]
    assert (again["changed"], again["revoked"]) == (False, revoked["revoked"])
    assert unknown["problems"][0]["host"] == "h7"
    assert "No certificate has been revoked." in unknown["msg"]

    ca, refused, signed = play.run(play.ca(), play.sign(), play.sign(reinstate=["h1"]))
    assert (ca["changed"], ca["revoked"], ca["crl"]) == (False, ["h1"], revoked["crl"])
    assert refused["problems"][0]["variable"] == "ipsec_reinstate"
    assert (signed.get("failed", False), signed["signed"]) == (False, ["h1"])
    assert play.run(play.ca())[0]["revoked"] == []


def test_rollover(play: Play) -> None:
    first, prepared, again, switched, finished = play.run(
        play.ca(),
        play.ca(rollover="prepare"),
        play.ca(rollover="prepare"),
        play.ca(rollover="switch"),
        play.ca(rollover="finish"),
    )
    assert (first["phase"], first["authorities"]) == ("steady", [])
    assert (prepared["phase"], prepared["certificate"]) == ("prepared", first["certificate"])
    assert again["changed"] is False
    assert [switched["certificate"]] == prepared["authorities"]
    assert switched["authorities"] == [first["certificate"]]
    assert (finished["phase"], finished["authorities"]) == ("steady", [])
    assert finished["certificate"] == switched["certificate"]


def test_a_lost_ledger(play: Play) -> None:
    play.run(play.ca(), play.sign())
    for member in play.answers:
        pem = Path(play.folder.issued(member)).read_text()
        play.answers[member] = {"state": "valid", "csr": None, "certificate": pem}
    Path(play.folder.ledger.path).unlink()
    foretold = play.run(play.sign(), check=True)[0]
    assert foretold["recorded"] == []
    first, second = play.run(play.sign(), play.sign())
    assert (first["changed"], first["recorded"]) == (True, ["h1", "h2"])
    assert (second["changed"], second["recorded"]) == (False, [])


def test_adoption(play: Play) -> None:
    sub = cas.ca("openshift-signer", cas.ca("root"))
    (play.root / "ca.crt").write_bytes(sub.bundle)
    key = sub.authority.key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )
    (play.root / "ca.key").write_bytes(key)
    (play.root / "ca.serial.txt").write_text("0A")
    given = {"certificate": str(play.root / "ca.crt"), "key": str(play.root / "ca.key")}
    serial_file = str(play.root / "ca.serial.txt")
    ca, signed, again = play.run(play.ca(**given, serial_file=serial_file), play.sign(), play.ca(**given))
    assert ca["certificate"].encode() == cas.pem(sub.certificate)
    assert [text.encode() for text in ca["authorities"]] == [cas.pem(each) for each in sub.above]
    assert (ca["serial_file"], again["serial_file"], again["changed"]) == (serial_file, serial_file, False)
    assert signed["signed"] == ["h1", "h2"]
    assert {entry.serial for entry in play.folder.ledger.read()} == {"b", "c"}
    assert (play.root / "ca.serial.txt").read_text() == "0C"


def test_signed_elsewhere(play: Play) -> None:
    sub = cas.ca("sub", cas.ca("root"))
    (play.root / "ca.crt").write_bytes(sub.bundle)
    trusted = {"dir": play.folder.path, "source": "external", "certificate": str(play.root / "ca.crt")}
    exchange = play.exchange(certificate=sub.bundle.decode())
    foretold = play.run(exchange, check=True)[0]
    assert foretold["changed"]
    assert not (play.root / "signing").exists()
    ca, waiting = play.run(("ca", trusted), exchange)
    assert (ca["phase"], ca["crls"]) == ("steady", [])
    assert waiting["failed"]
    assert (waiting["changed"], waiting["waiting"]) == (True, ["h1", "h2"])
    assert str(play.root / "signing" / "h1.csr") in waiting["msg"]
    for member in ("h1", "h2"):
        (play.root / "signing" / f"{member}.crt").write_bytes(cas.pem(cas.member(sub, member)))
    done, again = play.run(exchange, exchange)
    assert (done["changed"], done["waiting"]) == (True, [])
    assert Path(done["issued_dir"], "h2.pem").exists()
    assert (again["changed"], again["waiting"]) == (False, [])
