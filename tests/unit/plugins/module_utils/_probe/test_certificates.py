# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is read from the NSS database for the report."""

from __future__ import annotations

from pathlib import Path
from shutil import which
from typing import Any

import pytest
from ansible_collections.underlay.ipsec.plugins.module_utils._errors import CommandError
from ansible_collections.underlay.ipsec.plugins.module_utils._nss.database import (
    Entry,
    ListedCrl,
    MemoryDatabase,
    iso,
)
from ansible_collections.underlay.ipsec.plugins.module_utils._probe.certificates import (
    describe_certificates,
    read_certificates,
)
from ansible_collections.underlay.ipsec.plugins.module_utils._run import Completed, host_runner
from ansible_collections.underlay.ipsec.tests.unit.plugins import pki

NOTHING: dict[str, Any] = {"certificate": None, "authorities": [], "crls": []}


def database() -> MemoryDatabase:
    ca, old = pki.as_host_sees(pki.authority()), pki.as_host_sees(pki.authority(1))
    return MemoryDatabase(
        [
            Entry("underlay-ca", "CT,,", (ca,)),
            Entry("underlay-ca+0123456789abcdef", "CT,,", (old,)),
            Entry("underlay-ca-host", "u,u,u", (pki.leaf(pki.name("other")),)),
            Entry("somebody", "CT,,", (old,)),
            Entry("nobody", ",,", (pki.as_host_sees(pki.authority(2)),)),
            Entry("underlay-h1", "u,u,u", (pki.leaf(),)),
        ],
        lists={ca.subject_name: ListedCrl(pki.NOW - pki.DAY, pki.NOW + 9 * pki.DAY, 2)},
    )


def test_describe() -> None:
    leaf = pki.leaf()
    found = describe_certificates(database(), "underlay-h1")
    assert found["certificate"] == {
        "nickname": "underlay-h1",
        "subject": "O=underlay.ipsec, CN=h1",
        "issuer": found["authorities"][0]["subject"],
        "serial": found["certificate"]["serial"],
        "not_after": iso(leaf.not_after),
        "key_type": "ecdsa-p384",
        "fingerprint": found["certificate"]["fingerprint"],
    }
    assert int(found["certificate"]["serial"], 16)
    assert [entry["nickname"] for entry in found["authorities"]] == [
        "underlay-ca",
        "underlay-ca+0123456789abcdef",
        "somebody",
    ]
    assert found["crls"] == [
        {
            "issuer": found["authorities"][0]["subject"],
            "this_update": iso(pki.NOW - pki.DAY),
            "next_update": iso(pki.NOW + 9 * pki.DAY),
            "revoked": 2,
        }
    ]


def test_no_such_certificate() -> None:
    assert describe_certificates(database(), "underlay-h9")["certificate"] is None
    assert describe_certificates(MemoryDatabase(), "underlay-h1") == NOTHING


def test_without_a_nickname_or_database_nothing_is_run(tmp_path: Path) -> None:
    def run(argv: Any, **_options: Any) -> Completed:
        raise AssertionError(argv)

    assert read_certificates(run, "underlay-h1", str(tmp_path)) == NOTHING
    assert read_certificates(run, None, str(tmp_path)) == NOTHING


def test_a_database_that_cannot_be_read_has_nothing(tmp_path: Path) -> None:
    for name in ("cert9.db", "key4.db"):
        (tmp_path / name).write_text("not a database")

    def run(argv: Any, **_options: Any) -> Completed:
        raise CommandError(argv, 255, "", "SEC_ERROR_BAD_DATABASE")

    assert read_certificates(run, "underlay-h1", str(tmp_path)) == NOTHING


@pytest.mark.skipif(which("certutil") is None, reason="needs certutil")
def test_a_real_database(tmp_path: Path) -> None:
    run = host_runner()
    run(["certutil", "-N", "--empty-password", "-d", f"sql:{tmp_path}"])
    assert read_certificates(run, "underlay-h1", str(tmp_path)) == NOTHING
    pem = pki.leaf().pem
    run(["certutil", "-A", "-a", "-n", "underlay-h1", "-t", ",,", "-d", f"sql:{tmp_path}"], stdin=pem)
    assert (
        read_certificates(run, "underlay-h1", str(tmp_path))["certificate"]["subject"]
        == "O=underlay.ipsec, CN=h1"
    )
