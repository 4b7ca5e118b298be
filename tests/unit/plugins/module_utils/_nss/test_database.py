# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The real database, driven through the real certutil."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Sequence
from pathlib import Path

import pytest
from ansible_collections.underlay.ipsec.plugins.module_utils._errors import (
    CommandError,
    IpsecError,
    ProblemsError,
)
from ansible_collections.underlay.ipsec.plugins.module_utils._nss.database import (
    CertutilDatabase,
    Content,
    Entry,
    describe,
)
from ansible_collections.underlay.ipsec.plugins.module_utils._nss.x509 import Names
from ansible_collections.underlay.ipsec.plugins.module_utils._pki.keys import KEY_TYPES
from ansible_collections.underlay.ipsec.plugins.module_utils._run import Completed, host_runner
from ansible_collections.underlay.ipsec.tests.unit.plugins import pki

needs_certutil = pytest.mark.skipif(shutil.which("certutil") is None, reason="certutil is not installed")

NAMES = Names.of(["h1"], ["10.88.0.11", "fd00::1"])
CA = pki.as_host_sees(pki.authority())


@pytest.fixture
def db(tmp_path: Path) -> CertutilDatabase:
    """Return a new database."""
    database = CertutilDatabase(host_runner(), str(tmp_path / "nss"))
    with database.opened(create=True) as exists:
        assert exists
    return database


@needs_certutil
def test_a_new_database_is_empty_and_private(db: CertutilDatabase) -> None:
    assert db.content() == Content()
    directory = Path(db.directory)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()} == {0o600}
    assert db.secure() == []


@needs_certutil
def test_an_existing_database_is_left_as_it_is(db: CertutilDatabase) -> None:
    db.add("underlay-ca", CA, "CT,,")
    again = CertutilDatabase(host_runner(), db.directory)
    with again.opened(create=True):
        assert again.content() == db.content()


@needs_certutil
@pytest.mark.parametrize("files", [{"cert9.db"}, {"key4.db"}, {"cert9.db", "key4.db"}])
def test_a_half_made_database_is_completed(tmp_path: Path, files: set[str]) -> None:
    for name in files:
        (tmp_path / name).touch()
    database = CertutilDatabase(host_runner(), str(tmp_path))
    with database.opened(create=False) as exists:
        assert not exists
    with database.opened(create=True):
        assert database.content() == Content()


@needs_certutil
def test_files_that_others_can_read(db: CertutilDatabase) -> None:
    key_file = Path(db.directory, "key4.db")
    key_file.chmod(0o644)
    assert db.secure(dry=True) == ["key4.db"]
    assert db.secure() == ["key4.db"]
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o600


@needs_certutil
@pytest.mark.parametrize("key_type", KEY_TYPES)
def test_request(db: CertutilDatabase, key_type: str) -> None:
    request = db.create_request(key_type, "CN=h1,OU=gen2,O=underlay.ipsec", NAMES)
    assert request.subject == {"CN": "h1", "OU": "gen2", "O": "underlay.ipsec"}
    assert request.names == NAMES
    assert request.public_key.key_type == key_type
    assert db.content() == Content((), frozenset({request.public_key.key_id}))
    assert db.content().orphans() == {request.public_key.key_id}
    db.delete_key(request.public_key.key_id)
    assert db.content() == Content()


@needs_certutil
def test_entries(db: CertutilDatabase) -> None:
    db.add("underlay-ca", CA, "CT,,")
    leaf = pki.leaf()
    db.add("a name, with u,u,u", leaf, ",,")
    assert db.content().entries == (
        Entry("underlay-ca", "CT,,", (CA,)),
        Entry("a name, with u,u,u", ",,", (leaf,)),
    )
    db.set_trust("underlay-ca", ",,")
    db.rename("a name, with u,u,u", "plain")
    assert [(e.nickname, e.trust) for e in db.content().entries] == [("underlay-ca", ",,"), ("plain", ",,")]
    db.delete_certificate("plain")
    assert db.content().nickname_of(leaf) is None


@needs_certutil
def test_nss_files_by_subject(db: CertutilDatabase) -> None:
    first, second = pki.leaf(), pki.leaf()
    db.add("node", first, ",,")
    db.add("other", second, ",,")
    entry = db.content().entry("node")
    assert entry is not None
    assert sorted(c.serial for c in entry.certificates) == sorted([first.serial, second.serial])
    with pytest.raises(CommandError):
        db.add("node", pki.leaf(subject=pki.name("h2")), ",,")


@needs_certutil
def test_refusal(db: CertutilDatabase) -> None:
    db.add("leaf", pki.leaf(), ",,")
    assert db.refusal("leaf") == "Peer's Certificate issuer is not recognized."
    db.add("underlay-ca", CA, "CT,,")
    db.add("forged", pki.leaf(subject=pki.name("forged"), issuer=pki.authority(1)), ",,")
    db.add("expired", pki.leaf(subject=pki.name("expired"), ends=pki.NOW - pki.DAY / 2), ",,")
    assert db.refusal("leaf") is None
    assert db.refusal("forged") is not None
    assert db.refusal("expired") == "Peer's Certificate has expired."


@needs_certutil
@pytest.mark.parametrize("text", ["secret\n", "NSS Certificate DB:secret\n"])
def test_a_database_with_a_password(tmp_path: Path, text: str) -> None:
    password = tmp_path / "first"
    password.write_text("secret\n")
    run = host_runner()
    run(["certutil", "-N", "-d", f"sql:{tmp_path}", "-f", str(password)])
    db = CertutilDatabase(run, str(tmp_path))
    with pytest.raises(ProblemsError, match="has a password that is not known"):
        db.create_request("ecdsa-p256", "CN=h1", NAMES)
    (tmp_path / "nsspassword").write_text(text)
    request = db.create_request("ecdsa-p256", "CN=h1", NAMES)
    assert db.content().keys == {request.public_key.key_id}


def answer(stdout: str = "", stderr: str = "", rc: int = 0) -> Completed:
    """Return what certutil might have said."""
    return Completed(("certutil",), rc, stdout, stderr)


def a_host(answers: dict[str, Completed], seen: list[Sequence[str]] | None = None) -> CertutilDatabase:
    """Return a database on a host where certutil's commands give *answers*."""

    def run(
        argv: Sequence[str], *, stdin: str | None = None, check: bool = True, timeout: float = 0
    ) -> Completed:
        if seen is not None:
            seen.append(argv)
        return answers[argv[1]]

    return CertutilDatabase(run, "/nonexistent/nss")


def test_without_certutil(tmp_path: Path) -> None:
    missing = a_host(dict.fromkeys(("-L", "--version"), answer(rc=127)))
    missing.directory = str(tmp_path / "nss")
    with missing.opened(create=False) as exists:
        assert not exists
    with pytest.raises(ProblemsError, match="certutil is not installed"), missing.opened(create=True):
        pass
    assert not Path(missing.directory).exists()


def test_keys_of_all_kinds() -> None:
    listing = (
        'certutil: Checking token "NSS FIPS 140-2 Certificate DB" in slot "NSS FIPS 140-2 User"\n'
        "< 0> ec       76f85d7a1270623d39ee16878186161bca0f7e26   (orphan)\n"
        "< 1> rsa      8f9bb7c685050300b05eeb43d0083ecf93e8fd33   NSS Certificate DB:a b\n"
        "<12> dsa      d34dde7753e7b20faffe0473bb26ee226f6f1a92   x\n"
    )
    db = a_host({"-L": answer("\nCertificate Nickname     Trust Attributes\n"), "-K": answer(listing)})
    assert len(db.content().keys) == 3


def test_content_is_read_again_after_a_change_only() -> None:
    seen: list[Sequence[str]] = []
    db = a_host({"-L": answer(), "-K": answer("no keys found", rc=255), "-D": answer()}, seen)
    db.content()
    db.content()
    assert [argv[1] for argv in seen] == ["-L", "-K"]
    db.delete_certificate("x")
    db.content()
    assert [argv[1] for argv in seen] == ["-L", "-K", "-D", "-L", "-K"]


def test_a_broken_database() -> None:
    db = a_host({"-L": answer(), "-K": answer(stderr="SEC_ERROR_BAD_DATABASE", rc=255)})
    with pytest.raises(CommandError, match="SEC_ERROR_BAD_DATABASE"):
        db.content()


def test_revocation_lists_that_cannot_be_read() -> None:
    listing = f"\nCRL names        CRL Type\n\nunderlay-ca        CRL  \n{CA.subject['CN']}    CRL\n"
    answers = {
        ("certutil", "-L"): "underlay-ca      CT,,\n",
        ("certutil", "-L", "-a"): CA.pem,
        ("certutil", "-K"): "",
        ("crlutil", "-L"): listing,
        ("crlutil", "-L", "-n"): "CRL Info:\n    This Update: yesterday\n",
    }

    def run(argv: Sequence[str], **_options: object) -> Completed:
        key = next(tuple(argv[:length]) for length in (3, 2) if tuple(argv[:length]) in answers)
        return answer(answers[key])

    with pytest.raises(IpsecError, match="cannot be read"):
        CertutilDatabase(run, "/nonexistent/nss").crls()


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    db = a_host({"-A": answer(stderr="SEC_ERROR_ADDING_CERT", rc=255)})
    db.directory = str(tmp_path)
    with pytest.raises(CommandError, match="SEC_ERROR_ADDING_CERT"):
        db.add("underlay-ca", CA, "CT,,")
    full = os.statvfs_result((4096, 4096, 1000, 10, 10, 0, 0, 0, 0, 255))
    monkeypatch.setattr(os, "statvfs", lambda _path: full)
    with pytest.raises(ProblemsError, match="is full"):
        db.add("underlay-ca", CA, "CT,,")


def test_describe_shows_no_key() -> None:
    leaf = pki.leaf()
    content = Content((Entry("node", "u,u,u", (leaf,)),), frozenset({leaf.public_key.key_id}))
    assert describe(content, ["node", "absent"]) == {
        "node": {
            "trust": "u,u,u",
            "certificates": [
                {
                    "fingerprint": leaf.fingerprint,
                    "subject": {"O": "underlay.ipsec", "CN": "h1"},
                    "names": ["dns:h1", "ip:10.88.0.11"],
                    "not_after": leaf.not_after.strftime("%Y-%m-%dT%H:%M:%SZ"),
                    "private_key": True,
                }
            ],
        }
    }
