# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The action nss_pkcs12: what becomes of a bundle on its way, and a real run of it."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.underlay.ipsec.plugins.action import nss_pkcs12
from ansible_collections.underlay.ipsec.plugins.module_utils._errors import ProblemsError
from ansible_collections.underlay.ipsec.tests.unit.plugins import pki
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import pkcs12

BIN = str(Path(sys.executable).parent)
MIDDLE = pki.intermediate()
LEAF = pki.leaf(issuer=MIDDLE)


@pytest.fixture
def options(tmp_path: Path) -> dict[str, Any]:
    """Return the options of a task with a bundle that serves."""
    (tmp_path / "h1.p12").write_bytes(
        pkcs12.serialize_key_and_certificates(
            b"friendly",
            pki.key(),
            x509.load_pem_x509_certificate(LEAF.pem.encode()),
            [MIDDLE.certificate, pki.authority(9).certificate],
            serialization.BestAvailableEncryption(pki.PASSPHRASE.encode()),
        )
    )
    (tmp_path / "password").write_text(f"{pki.PASSPHRASE}\n")
    return {
        "nickname": "underlay-h1",
        "bundle": str(tmp_path / "h1.p12"),
        "password_file": str(tmp_path / "password"),
        "ca_certificate": MIDDLE.pem,
        "authorities": [pki.root().pem],
    }


def test_on_its_way_a_bundle_has_the_key_and_its_certificate_only(options: dict[str, Any]) -> None:
    made = nss_pkcs12.travelling(options, "h1", pki.NOW)
    again = nss_pkcs12.travelling(options, "h1", pki.NOW)
    assert made["certificate"] == LEAF.pem
    assert made["password"] not in (pki.PASSPHRASE, again["password"])
    loaded = pkcs12.load_pkcs12(base64.b64decode(made["contents"]), made["password"].encode())
    assert loaded.cert is not None
    assert loaded.cert.friendly_name == b"underlay-h1-new"
    assert not loaded.additional_certs


@pytest.mark.parametrize(
    ("changes", "variable", "said"),
    [
        ({"bundle": "/nonexistent.p12"}, "ipsec_pkcs12", "No such file"),
        ({"password_file": "/nonexistent"}, "ipsec_pkcs12_password_file", "No such file"),
        ({"password_file": None, "password": "wrong"}, "ipsec_pkcs12_password", "password"),
        ({"ca_certificate": pki.root().pem}, "ipsec_pkcs12", "in the bundle only"),
        ({"ca_certificate": pki.authority(7).pem, "authorities": []}, "ipsec_pkcs12", "incomplete"),
    ],
)
def test_refused(options: dict[str, Any], changes: dict[str, Any], variable: str, said: str) -> None:
    with pytest.raises(ProblemsError, match=said) as raised:
        nss_pkcs12.travelling({**options, **changes}, "h1", pki.NOW)
    assert [(each.host, each.variable) for each in raised.value.problems] == [("h1", variable)]


def test_a_password_that_is_no_text(options: dict[str, Any]) -> None:
    Path(options["password_file"]).write_bytes(b"\xff\xfe")
    with pytest.raises(ProblemsError, match="is not text"):
        nss_pkcs12.travelling(options, "h1", pki.NOW)


@pytest.mark.skipif(shutil.which("pk12util") is None, reason="pk12util is not installed")
def test_a_real_run_leaves_no_secret_anywhere(options: dict[str, Any], tmp_path: Path) -> None:
    play = {
        "hosts": "localhost",
        "vars": {"ansible_python_interpreter": sys.executable},
        "gather_facts": False,
        "tasks": [{"underlay.ipsec.nss_pkcs12": {**options, "nss_dir": str(tmp_path / "nss")}}],
    }
    (tmp_path / "playbook.json").write_text(json.dumps([play]))
    remote = tmp_path / "remote"
    environment = {
        **os.environ,
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "ANSIBLE_LOCALHOST_WARNING": "false",
        "ANSIBLE_PIPELINING": "false",
        "ANSIBLE_KEEP_REMOTE_FILES": "true",
        "ANSIBLE_REMOTE_TMP": str(remote),
        "ANSIBLE_NOCOLOR": "true",
        "ANSIBLE_CALLBACK_RESULT_FORMAT": "json",
    }
    command = [
        f"{BIN}/ansible-playbook",
        "-vvvv",
        "--diff",
        "-i",
        "localhost,",
        "-c",
        "local",
        "playbook.json",
    ]
    for changed in (1, 0):
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert f"ok=1    changed={changed}" in done.stdout, done.stdout + done.stderr
        assert pki.PASSPHRASE not in done.stdout
        assert '"contents": "VALUE_SPECIFIED_IN_NO_LOG_PARAMETER"' in done.stdout
        assert '"password": "VALUE_SPECIFIED_IN_NO_LOG_PARAMETER"' in done.stdout
    left = [path for path in remote.rglob("*") if path.is_file()] if remote.exists() else []
    assert left == []
