# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The CA's folder: created once, adopted if it is there, and never left half made."""

from __future__ import annotations

import multiprocessing
import stat
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.underlay.ipsec.plugins.module_utils import _files
from ansible_collections.underlay.ipsec.plugins.module_utils._errors import ProblemsError
from ansible_collections.underlay.ipsec.plugins.module_utils._pki import folder as folder_module
from ansible_collections.underlay.ipsec.plugins.module_utils._pki.authority import (
    Authority,
    encrypt,
    warnings,
)
from ansible_collections.underlay.ipsec.plugins.module_utils._pki.folder import Folder
from ansible_collections.underlay.ipsec.plugins.module_utils._pki.keys import KEY_TYPES, describe
from ansible_collections.underlay.ipsec.plugins.module_utils._pki.lifecycle import Served, Wanted, serve
from ansible_collections.underlay.ipsec.tests.unit.plugins import pki
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

CREATED = ("a CA was created",)


def ensure(
    folder: Folder, *, passphrase: str | None = pki.PASSPHRASE, check: bool = False, **wanted: Any
) -> Served:
    """Open the folder as the action does."""
    return serve(folder, Wanted(passphrase, **wanted), pki.NOW, check=check)


def signing(folder: Folder) -> Authority:
    """Return the CA that is in the folder."""
    return folder.open(pki.PASSPHRASE, pki.NOW)


def contents(folder: Folder) -> dict[str, bytes]:
    """Return all files in the folder."""
    root = Path(folder.path)
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """Return a folder that does not exist yet."""
    return Folder(str(tmp_path / "config" / "ca"))


@pytest.fixture
def made(folder: Folder) -> Folder:
    """Return a folder with a CA."""
    ensure(folder)
    return folder


def test_create(folder: Folder) -> None:
    assert ensure(folder).changes == CREATED
    certificate = signing(folder).certificate
    extensions = certificate.extensions
    assert extensions.get_extension_for_class(x509.BasicConstraints).value == x509.BasicConstraints(True, 0)
    assert extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    assert extensions.get_extension_for_class(x509.KeyUsage).value.crl_sign
    assert extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    certificate.verify_directly_issued_by(certificate)
    assert certificate.not_valid_after_utc == pki.NOW + timedelta(days=3650)
    assert b"ENCRYPTED" in Path(folder.key_path).read_bytes()
    for path, mode in (
        (folder.path, 0o700),
        (folder.issued_path, 0o700),
        (folder.key_path, 0o600),
        (folder.certificate_path, 0o644),
    ):
        assert stat.S_IMODE(Path(path).stat().st_mode) == mode


def test_create_once(made: Folder) -> None:
    before = contents(made)
    again = ensure(made)
    assert not again.changes
    assert again.warnings == ()
    assert contents(made) == before


def test_check_mode(folder: Folder) -> None:
    foretold = ensure(folder, check=True)
    assert (foretold.changes, foretold.current) == (CREATED, None)
    assert not Path(folder.path).parent.exists()
    ensure(folder)
    before = contents(folder)
    again = ensure(folder, check=True)
    assert not again.changes
    assert again.current is not None
    assert again.current.certificate == signing(folder).certificate
    assert contents(folder) == before


@pytest.mark.parametrize("key_type", KEY_TYPES)
def test_key_types(folder: Folder, key_type: str) -> None:
    ensure(folder, key_type=key_type, validity_days=10)
    assert describe(signing(folder).key.public_key()) == key_type


def test_no_two_have_one_subject(tmp_path: Path) -> None:
    folders = [Folder(str(tmp_path / name)) for name in "abc"]
    for each in folders:
        ensure(each)
    assert len({signing(each).subject for each in folders}) == 3


def test_killed_between_key_and_certificate(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    write = _files.write_atomically

    def killed(path: str, text: str, *, mode: int = 0o600) -> None:
        if path.endswith(".crt"):
            raise KeyboardInterrupt
        write(path, text, mode=mode)

    monkeypatch.setattr(folder_module, "write_atomically", killed)
    with pytest.raises(KeyboardInterrupt):
        ensure(folder)
    monkeypatch.undo()
    key = Path(folder.key_path).read_bytes()
    with pytest.raises(ProblemsError, match="cannot be decrypted"):
        ensure(folder, passphrase="wrong")
    assert ensure(folder, check=True).changes == CREATED
    assert ensure(folder).changes == CREATED
    assert Path(folder.key_path).read_bytes() == key
    assert not ensure(folder).changes


def adopt(folder: Folder, authority: Authority, key: str | bytes | None = None) -> None:
    """Put a CA into the folder by hand."""
    Path(folder.path).mkdir(parents=True, exist_ok=True)
    Path(folder.certificate_path).write_text(authority.pem)
    text = encrypt(authority.key, pki.PASSPHRASE) if key is None else key
    Path(folder.key_path).write_bytes(text.encode() if isinstance(text, str) else text)
    Path(folder.key_path).chmod(0o600)


def test_adopt(folder: Folder) -> None:
    adopt(folder, pki.authority())
    assert not ensure(folder).changes
    assert signing(folder).fingerprint == pki.authority().fingerprint


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604])
def test_a_key_that_others_can_read(made: Folder, mode: int) -> None:
    path = Path(made.key_path)
    path.chmod(mode)
    assert len(ensure(made, check=True).warnings) == 1
    (warning,) = ensure(made).warnings
    assert f"{mode:04o}" in warning
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert ensure(made).warnings == ()


def other_certificate(**changes: object) -> Authority:
    """Return a CA whose certificate is not as it should be."""
    key = pki.key(50)
    subject = pki.name("adopted")
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(pki.NOW - 2 * pki.DAY + timedelta(days=int(str(changes.get("shift", 0)))))
        .not_valid_after(pki.NOW + 2 * pki.DAY + timedelta(days=int(str(changes.get("shift", 0)))))
    )
    if "ca" in changes:
        builder = builder.add_extension(x509.BasicConstraints(bool(changes["ca"]), None), critical=True)
    if "usage" in changes:
        usage = x509.KeyUsage(True, False, False, False, False, bool(changes["usage"]), False, False, False)
        builder = builder.add_extension(usage, critical=True)
    return Authority(builder.sign(key, hashes.SHA384()), key)


def test_adopt_one_without_key_usages(folder: Folder) -> None:
    adopt(folder, other_certificate(ca=True))
    assert not ensure(folder).changes


def unencrypted(folder: Folder) -> None:
    """Put a key in clear into the folder."""
    clear = pki.authority().key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    adopt(folder, pki.authority(), clear)


def ed25519_key(folder: Folder) -> None:
    """Put a key of a kind that libreswan cannot use into the folder."""
    key = ed25519.Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(pki.PASSPHRASE.encode()),
    )
    adopt(folder, pki.authority(), key)


def truncate(name: str) -> Callable[[Folder], None]:
    """Return a function that cuts a file in half."""

    def cut(folder: Folder) -> None:
        adopt(folder, pki.authority())
        path = Path(folder.path, name)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    return cut


def without(name: str) -> Callable[[Folder], None]:
    """Return a function that deletes a file of a CA that has issued certificates."""

    def lose(folder: Folder) -> None:
        adopt(folder, pki.authority())
        Path(folder.ledger.path).write_text(
            '{"event": "issued", "serial": "1", "member": "h1", "subject": "", "names": [], "not_before": "",'
            ' "not_after": "", "fingerprint": "", "issuer": "", "issued_at": ""}\n'
        )
        for each in name.split():
            Path(folder.path, each).unlink()

    return lose


@pytest.mark.parametrize(
    ("prepare", "said"),
    [
        pytest.param(unencrypted, "is not encrypted. Encrypt it: openssl", id="key in clear"),
        pytest.param(truncate("ca.key"), "ca.key is not a whole PEM file", id="truncated key"),
        pytest.param(truncate("ca.crt"), "ca.crt is not a certificate in PEM", id="truncated certificate"),
        pytest.param(ed25519_key, "neither an ECDSA nor an RSA key", id="another kind of key"),
        pytest.param(
            lambda folder: adopt(folder, Authority(pki.authority().certificate, pki.authority(1).key)),
            "does not belong to the key",
            id="key of another CA",
        ),
        pytest.param(
            lambda folder: adopt(folder, other_certificate(ca=False)),
            "not the certificate of a CA",
            id="a leaf",
        ),
        pytest.param(
            lambda folder: adopt(folder, other_certificate()),
            "not the certificate of a CA",
            id="no extensions",
        ),
        pytest.param(
            lambda folder: adopt(folder, other_certificate(ca=True, usage=False)),
            "not the certificate of a CA",
            id="must not sign certificates",
        ),
        pytest.param(
            lambda folder: adopt(folder, other_certificate(ca=True, shift=-5)), "expired on", id="expired"
        ),
        pytest.param(
            lambda folder: adopt(folder, other_certificate(ca=True, shift=5)),
            "is not valid before",
            id="too new",
        ),
        pytest.param(without("ca.key"), "has ca.crt but no ca.key", id="key lost"),
        pytest.param(without("ca.crt"), "ca.crt is missing", id="certificate lost"),
        pytest.param(without("ca.crt ca.key"), "its CA is missing", id="both lost"),
    ],
)
def test_what_cannot_be_adopted(folder: Folder, prepare: Callable[[Folder], None], said: str) -> None:
    prepare(folder)
    before = contents(folder)
    for check in (True, False):
        with pytest.raises(ProblemsError) as caught:
            ensure(folder, check=check)
        assert said in str(caught.value)
        assert len(caught.value.problems) == 1
    assert {name: text for name, text in contents(folder).items() if name != "lock"} == before


def test_more_than_one_certificate(made: Folder) -> None:
    path = Path(made.certificate_path)
    path.write_text(path.read_text() * 2)
    with pytest.raises(ProblemsError, match="holds more than one certificate"):
        ensure(made)


@pytest.mark.parametrize(
    ("passphrase", "said"),
    [
        (None, "is missing"),
        ("", "is missing"),
        ("wrong", "cannot be decrypted"),
        ("x" * 1024, "is longer than"),
    ],
)
def test_passphrase(made: Folder, passphrase: str | None, said: str) -> None:
    for check in (True, False):
        with pytest.raises(ProblemsError, match=said) as caught:
            ensure(made, passphrase=passphrase, check=check)
        assert caught.value.problems[0].variable == "ipsec_ca_passphrase"
    with pytest.raises(ProblemsError, match=said):
        made.open(passphrase, pki.NOW)


@pytest.mark.parametrize("below", ["", "deep/er"])
def test_a_folder_that_cannot_be(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").write_text("")
    folder = Folder(str(tmp_path / "file" / below / "ca"))
    for check in (True, False):
        with pytest.raises(ProblemsError, match="cannot be written"):
            ensure(folder, check=check)


def test_there_must_be_one_to_sign_with(folder: Folder) -> None:
    with pytest.raises(ProblemsError, match="there is no CA in"):
        folder.open(pki.PASSPHRASE, pki.NOW)


def test_another_run_is_waited_for_and_not_for_ever(made: Folder) -> None:
    with made.locked(), pytest.raises(ProblemsError, match="another run"), Folder(made.path).locked(0.1):
        pass
    with made.locked(0.1):
        pass


def _create(path: str) -> str:
    folder = Folder(path)
    created = ensure(folder).changes == CREATED
    return f"{created} {signing(folder).fingerprint}"


def test_several_runs_at_once_create_one(tmp_path: Path) -> None:
    path = str(tmp_path / "ca")
    with multiprocessing.get_context("fork").Pool(4) as pool:
        answers = pool.map(_create, [path] * 8)
    assert sum(answer.startswith("True") for answer in answers) == 1
    assert len({answer.split()[1] for answer in answers}) == 1


def test_warning_when_the_ca_ends_before_certificates_would(folder: Folder) -> None:
    ensure(folder, validity_days=100)
    certificate = signing(folder).certificate
    assert warnings(certificate, pki.NOW, 100) == []
    (warning,) = warnings(certificate, pki.NOW, 101)
    assert "they end with it" in warning
