# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A member gets a certificate for its own names, once, and nobody else's."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.underlay.ipsec.plugins.module_utils._errors import ProblemsError
from ansible_collections.underlay.ipsec.plugins.module_utils._pki import chain, lifecycle, revocation, signing
from ansible_collections.underlay.ipsec.plugins.module_utils._pki.folder import Folder
from ansible_collections.underlay.ipsec.plugins.module_utils._pki.lifecycle import Wanted, serve
from ansible_collections.underlay.ipsec.plugins.module_utils._pki.signing import Entitlement
from ansible_collections.underlay.ipsec.tests.unit.plugins import pki
from ansible_collections.underlay.ipsec.tests.unit.plugins.module_utils._pki import cas
from cryptography import x509
from cryptography.hazmat.primitives import serialization


class Signer:
    """A CA, and what the plan says of h1 to h9."""

    def __init__(self, path: Path, validity_days: int = 3650) -> None:
        self.folder = Folder(str(path))
        serve(self.folder, Wanted(pki.PASSPHRASE, validity_days=validity_days), pki.NOW)
        self.authority = self.folder.open(pki.PASSPHRASE, pki.NOW)
        self.now = pki.NOW

    def sign(self, requests: Mapping[str, str], **changes: object) -> list[str]:
        """Sign *requests*; *changes* are to the plan."""
        entitled = {m: Entitlement.from_slice(m, pki.slice_certificate(m, **changes)) for m in requests}
        return signing.sign(self.folder, pki.PASSPHRASE, requests, entitled, self.now)

    def issued(self, member: str) -> x509.Certificate:
        """Return the certificate that a member got."""
        return x509.load_pem_x509_certificate(Path(self.folder.issued(member)).read_bytes())


def request(member: str, number: int | None = None) -> str:
    """Return the request that *member* is entitled to; another key for another number."""
    index = int(member.removeprefix("h"))
    return pki.request(
        pki.name(member),
        pki.alternative_names([member], [f"10.88.0.{10 + index}"]),
        pki.key(index if number is None else number),
    )


@pytest.fixture
def signer(tmp_path: Path) -> Signer:
    """Return a CA that has issued nothing."""
    return Signer(tmp_path / "ca")


def test_certificate(signer: Signer) -> None:
    assert signer.sign({"h2": request("h2"), "h1": request("h1")}) == ["h1", "h2"]
    leaf, ca = signer.issued("h1"), signer.authority.certificate
    leaf.verify_directly_issued_by(ca)
    assert leaf.subject == pki.name("h1")
    assert leaf.serial_number.bit_length() <= 159
    assert leaf.serial_number.bit_length() > 100
    assert leaf.not_valid_after_utc == pki.NOW + timedelta(days=1825)
    assert leaf.not_valid_before_utc == pki.NOW - timedelta(hours=1)
    extensions = {type(e.value): e for e in leaf.extensions}
    assert extensions[x509.BasicConstraints].value == x509.BasicConstraints(False, None)
    assert extensions[x509.SubjectAlternativeName].value == x509.SubjectAlternativeName(
        pki.alternative_names(["h1"], ["10.88.0.11"])
    )
    usage = leaf.extensions.get_extension_for_class(x509.KeyUsage).value
    assert usage.digital_signature
    assert not usage.key_cert_sign
    purposes = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert [purpose._name for purpose in purposes] == ["serverAuth", "clientAuth"]
    theirs = ca.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    issuer = leaf.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    assert issuer.key_identifier == theirs.digest
    assert x509.SubjectKeyIdentifier in extensions


def test_ledger(signer: Signer) -> None:
    signer.sign({"h1": request("h1")})
    (entry,) = signer.folder.ledger.read()
    leaf = signer.issued("h1")
    assert entry.serial == f"{leaf.serial_number:x}"
    assert entry.member == "h1"
    assert entry.names == ("dns:h1", "ip:10.88.0.11")
    assert entry.issuer == signer.authority.fingerprint
    assert entry.not_after == leaf.not_valid_after_utc.strftime("%Y-%m-%dT%H:%M:%SZ")


def test_no_certificate_outlives_the_ca(tmp_path: Path) -> None:
    signer = Signer(tmp_path / "ca", validity_days=30)
    signer.sign({"h1": request("h1")})
    assert signer.issued("h1").not_valid_after_utc == signer.authority.certificate.not_valid_after_utc
    assert signer.sign({"h1": request("h1")}) == []


def test_the_same_request_gets_the_same_certificate(signer: Signer) -> None:
    requests = {"h1": request("h1"), "h2": request("h2")}
    assert signer.sign(requests) == ["h1", "h2"]
    before = signer.issued("h1")
    assert signer.sign(requests) == []
    assert signer.issued("h1") == before
    assert len(signer.folder.ledger.read()) == 2


def test_killed_after_the_ledger(signer: Signer, monkeypatch: pytest.MonkeyPatch) -> None:
    requests = {"h1": request("h1"), "h2": request("h2")}
    write = signing._write

    def killed(path: str, leaf: x509.Certificate) -> None:
        if path.endswith("h2.pem"):
            raise KeyboardInterrupt
        write(path, leaf)

    monkeypatch.setattr(signing, "_write", killed)
    with pytest.raises(KeyboardInterrupt):
        signer.sign(requests)
    monkeypatch.undo()
    assert signer.sign(requests) == ["h2"]
    serials = {entry.serial for entry in signer.folder.ledger.read()}
    assert {f"{signer.issued(member).serial_number:x}" for member in requests} <= serials


@pytest.mark.parametrize(
    ("second", "changes", "days"),
    [
        pytest.param(request("h1", number=99), {}, 0, id="another key"),
        pytest.param(
            pki.request(pki.name("h1"), pki.alternative_names(["h1"], ["fd00::1"]), pki.key(1)),
            {"ip": ["fd00::1"]},
            0,
            id="other names",
        ),
        pytest.param(request("h1"), {}, 1700, id="due"),
        pytest.param(request("h1"), {}, 1900, id="expired"),
    ],
)
def test_signed_anew(signer: Signer, second: str, changes: dict[str, object], days: int) -> None:
    signer.sign({"h1": request("h1")})
    before = signer.issued("h1")
    signer.now += timedelta(days=days)
    assert signer.sign({"h1": second}, **changes) == ["h1"]
    assert signer.issued("h1") != before
    assert len(signer.folder.ledger.read()) == 2


@pytest.mark.parametrize("text", ["", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_a_damaged_copy_is_signed_anew(signer: Signer, text: str) -> None:
    signer.sign({"h1": request("h1")})
    Path(signer.folder.issued("h1")).write_text(text)
    assert signer.sign({"h1": request("h1")}) == ["h1"]


def test_what_another_ca_signed_is_signed_anew(signer: Signer, tmp_path: Path) -> None:
    other = Signer(tmp_path / "other")
    other.sign({"h1": request("h1")})
    Path(signer.folder.issued("h1")).write_bytes(Path(other.folder.issued("h1")).read_bytes())
    assert signer.sign({"h1": request("h1")}) == ["h1"]


def damaged() -> str:
    """Return a request with another signature."""
    lines = request("h1").splitlines()
    lines[-2] = ("A" if lines[-2][0] != "A" else "B") + lines[-2][1:]
    return "\n".join(lines)


NAMES = pki.alternative_names(["h1"], ["10.88.0.11"])


@pytest.mark.parametrize(
    ("pem", "said"),
    [
        pytest.param("", "cannot be read: no complete PEM block", id="empty"),
        pytest.param(request("h1")[:200], "cannot be read: no complete PEM block", id="truncated"),
        pytest.param(
            "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----",
            "cannot be read",
            id="junk",
        ),
        pytest.param(damaged(), "signature of the certificate request is wrong", id="signature"),
        pytest.param(request("h2", number=1), "has the subject CN=h2", id="another member's"),
        pytest.param(pki.request(pki.name("h1", "admin"), NAMES), "has the subject", id="a unit"),
        pytest.param(
            pki.request(pki.name("h1", organization="x"), NAMES), "has the subject", id="organization"
        ),
        pytest.param(pki.request(x509.Name([]), NAMES), "has the subject", id="no subject"),
        pytest.param(
            pki.request(x509.Name([*pki.name("h1"), *pki.name("h2")]), NAMES),
            "has the subject",
            id="two names",
        ),
        pytest.param(
            pki.request(names=pki.alternative_names(["h1", "h2"], ["10.88.0.11"])),
            "has the names",
            id="a name more",
        ),
        pytest.param(
            pki.request(names=pki.alternative_names(["h1"], ["10.88.0.12"])), "has the names", id="address"
        ),
        pytest.param(pki.request(names=pki.alternative_names(["h1"], [])), "has the names", id="a name less"),
        pytest.param(
            pki.request(names=pki.alternative_names(["h1"], ["10.88.0.11"], ["urn:x"])),
            "has the names",
            id="a URI",
        ),
        pytest.param(
            pki.request(private_key=pki.key(key_type="ecdsa-p256")),
            "has the key ecdsa-p256",
            id="kind of key",
        ),
        pytest.param(
            pki.request(private_key=pki.key(key_type="rsa-3072")),
            "has the key rsa-3072",
            id="kind of key: RSA",
        ),
    ],
)
def test_refused(signer: Signer, pem: str, said: str) -> None:
    with pytest.raises(ProblemsError) as caught:
        signer.sign({"h1": pem, "h2": request("h2")})
    assert any(said in problem.message for problem in caught.value.problems)
    assert {problem.host for problem in caught.value.problems} == {"h1"}
    assert signer.folder.ledger.read() == ()
    assert list(Path(signer.folder.issued_path).iterdir()) == []


def test_all_that_is_wrong_is_said_at_once(signer: Signer) -> None:
    requests = {"h1": "", "h2": request("h3", number=2), "h4": request("h4")}
    with pytest.raises(ProblemsError) as caught:
        signer.sign(requests)
    assert [problem.host for problem in caught.value.problems] == ["h1", "h2", "h2"]


def test_no_two_members_have_one_key(signer: Signer) -> None:
    with pytest.raises(ProblemsError, match="h2: it has the private key of h1"):
        signer.sign({"h1": request("h1"), "h2": request("h2", number=1)})


def test_nothing_is_signed_over_a_damaged_ledger(signer: Signer) -> None:
    Path(signer.folder.ledger.path).write_text("damage\n")
    with pytest.raises(ProblemsError, match=r"line 1 of .* is damaged"):
        signer.sign({"h1": request("h1")})


def _sign(arguments: tuple[str, str, str]) -> None:
    path, member, pem = arguments
    Signer(Path(path)).sign({member: pem})


@pytest.mark.parametrize("numbered", [False, True])
def test_several_control_nodes_at_once(tmp_path: Path, numbered: bool) -> None:
    signer = Signer(tmp_path / "ca")
    serial_file = tmp_path / "ca.serial.txt"
    if numbered:
        serial_file.write_text("0E")
        Path(signer.folder.path, "serial").write_text(f"{serial_file}\n")
    members = [f"h{number}" for number in range(1, 9)]
    work = [(signer.folder.path, member, request(member)) for member in members]
    with multiprocessing.get_context("fork").Pool(4) as pool:
        pool.map(_sign, work * 2)
    entries = signer.folder.ledger.read()
    assert sorted(entry.member for entry in entries) == members
    assert len({entry.serial for entry in entries}) == 8
    if numbered:
        assert {int(entry.serial, 16) for entry in entries} == set(range(0x0F, 0x17))
        assert serial_file.read_text() == "16"


@pytest.mark.parametrize("limit", range(12))
def test_numbers_of_an_interrupted_run_are_not_given_again(
    signer: Signer, tmp_path: Path, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    serial_file = tmp_path / "ca.serial.txt"
    serial_file.write_text("05")
    Path(signer.folder.path, "serial").write_text(f"{serial_file}\n")
    requests = {"h1": request("h1"), "h2": request("h2")}
    calls = iter(range(100))

    def counted(call: Callable[..., Any]) -> Callable[..., Any]:
        def killed(*arguments: Any) -> Any:
            if next(calls) >= limit:
                raise KeyboardInterrupt
            return call(*arguments)

        return killed

    with monkeypatch.context() as patch, suppress(KeyboardInterrupt):
        for name in ("replace", "fsync"):
            patch.setattr(os, name, counted(getattr(os, name)))
        signer.sign(requests)
    signer.sign(requests)
    entries = signer.folder.ledger.read()
    assert len({entry.serial for entry in entries}) == len(entries)
    assert {f"{signer.issued(member).serial_number:x}" for member in requests} <= {e.serial for e in entries}
    assert int(serial_file.read_text(), 16) >= max(int(entry.serial, 16) for entry in entries)


class TestRevoked:
    """A member whose certificate was revoked."""

    @pytest.fixture
    def revoked(self, signer: Signer) -> Signer:
        signer.sign({"h1": request("h1"), "h2": request("h2")})
        revocation.revoke(signer.folder, pki.PASSPHRASE, ["h1"], "keyCompromise", timedelta(days=90), pki.NOW)
        return signer

    def test_is_refused(self, revoked: Signer) -> None:
        with pytest.raises(ProblemsError) as caught:
            revoked.sign({"h1": request("h1", number=5), "h2": request("h2"), "h3": request("h3")})
        (problem,) = caught.value.problems
        assert "was revoked at" in problem.message
        assert "(keyCompromise)" in problem.message
        assert (problem.host, problem.variable) == ("h1", "ipsec_reinstate")
        assert len(revoked.folder.ledger.read()) == 2

    def test_is_refused_without_a_ledger(self, revoked: Signer) -> None:
        Path(revoked.folder.ledger.path).unlink()
        with pytest.raises(ProblemsError, match="was revoked at"):
            revoked.sign({"h1": request("h1")})

    @pytest.mark.parametrize("number", [1, 5])
    def test_is_reinstated(self, revoked: Signer, number: int) -> None:
        before = revoked.issued("h1")
        requests = {"h1": request("h1", number=number)}
        entitled = {"h1": Entitlement.from_slice("h1", pki.slice_certificate("h1"))}
        for expected in (["h1"], []):
            signed = signing.sign(revoked.folder, pki.PASSPHRASE, requests, entitled, pki.NOW, ["h1"])
            assert signed == expected
        assert revoked.issued("h1").serial_number != before.serial_number
        assert revoked.sign(requests) == []


class TestRecord:
    """The ledger, rebuilt from what hosts report."""

    def pem(self, signer: Signer, member: str) -> str:
        return Path(signer.folder.issued(member)).read_text()

    def test_lost_ledger(self, signer: Signer) -> None:
        signer.sign({"h1": request("h1"), "h2": request("h2")})
        before = signer.folder.ledger.read()
        reported = {member: self.pem(signer, member) for member in ("h1", "h2")}
        assert signing.record(signer.folder, reported, pki.NOW) == []
        Path(signer.folder.ledger.path).unlink()
        assert signing.record(signer.folder, reported, pki.NOW) == ["h1", "h2"]
        assert signer.folder.ledger.read() == before
        assert signing.record(signer.folder, reported, pki.NOW) == []

    def test_what_was_revoked_is_so_again(self, signer: Signer) -> None:
        signer.sign({"h1": request("h1")})
        revocation.revoke(signer.folder, pki.PASSPHRASE, ["h1"], "superseded", timedelta(days=90), pki.NOW)
        before = signer.folder.ledger.history()
        Path(signer.folder.ledger.path).unlink()
        signing.record(signer.folder, {"h1": self.pem(signer, "h1")}, pki.NOW)
        assert signer.folder.ledger.history() == before

    def test_what_is_not_ours(self, signer: Signer, tmp_path: Path) -> None:
        other = Signer(tmp_path / "other")
        other.sign({"h1": request("h1")})
        reported = {"h1": self.pem(other, "h1"), "h2": "junk", "h3": ""}
        assert signing.record(signer.folder, reported, pki.NOW) == []
        assert signer.folder.ledger.read() == ()


def test_a_serial_number_is_not_given_twice(signer: Signer, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = iter([7, 7, 7, 8])
    monkeypatch.setattr(x509, "random_serial_number", lambda: next(numbers))
    signer.sign({"h1": request("h1")})
    signer.sign({"h2": request("h2")})
    assert [entry.serial for entry in signer.folder.ledger.read()] == ["7", "8"]


def test_an_intermediate_ca_signs(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path / "ca"))
    sub = cas.ca("sub", cas.ca("root"))
    (tmp_path / "ca.crt").write_bytes(sub.bundle)
    key = sub.authority.key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (tmp_path / "ca.pem").write_bytes(key)
    wanted = lifecycle.Wanted(
        pki.PASSPHRASE, certificate=str(tmp_path / "ca.crt"), key=str(tmp_path / "ca.pem")
    )
    lifecycle.serve(folder, wanted, pki.NOW)
    entitled = {"h1": Entitlement.from_slice("h1", pki.slice_certificate("h1"))}
    assert signing.sign(folder, pki.PASSPHRASE, {"h1": request("h1")}, entitled, pki.NOW) == ["h1"]
    leaf = x509.load_pem_x509_certificate(Path(folder.issued("h1")).read_bytes())
    assert chain.follow(leaf, [sub.certificate, *sub.above]) == chain.Path(
        (sub.certificate, *sub.above), None
    )
