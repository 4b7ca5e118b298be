# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is revoked stays so, and the list that says it never runs out."""

from __future__ import annotations

import multiprocessing
import subprocess
from datetime import timedelta
from pathlib import Path
from shutil import which

import pytest
from ansible_collections.underlay.ipsec.plugins.module_utils._errors import ProblemsError
from ansible_collections.underlay.ipsec.plugins.module_utils._pki import lifecycle, revocation, signing
from ansible_collections.underlay.ipsec.plugins.module_utils._pki.folder import Folder
from ansible_collections.underlay.ipsec.plugins.module_utils._pki.lifecycle import Served, Wanted
from ansible_collections.underlay.ipsec.plugins.module_utils._pki.revocation import Revocation
from ansible_collections.underlay.ipsec.plugins.module_utils._pki.signing import Entitlement
from ansible_collections.underlay.ipsec.tests.unit.plugins import pki
from ansible_collections.underlay.ipsec.tests.unit.plugins.module_utils._pki import cas
from cryptography import x509
from cryptography.hazmat.primitives import serialization


class Issuer:
    """A CA that has issued certificates to h1 and h2."""

    def __init__(self, path: Path) -> None:
        self.folder = Folder(str(path))
        self.now = pki.NOW
        self.serve()
        for member in ("h1", "h2"):
            self.sign(member)

    def serve(self, *, check: bool = False, crl: bool = False, rollover: str = "none") -> Served:
        """Run the action ``ca``."""
        wanted = Wanted(pki.PASSPHRASE, crl=crl, rollover=rollover)
        return lifecycle.serve(self.folder, wanted, self.now, check=check)

    def sign(self, member: str, number: int | None = None) -> None:
        """Issue a certificate for a member, with another key for another number."""
        index = int(member.removeprefix("h"))
        names = pki.alternative_names([member], [f"10.88.0.{10 + index}"])
        request = pki.request(pki.name(member), names, pki.key(number or index))
        entitled = Entitlement.from_slice(member, pki.slice_certificate(member))
        signing.sign(self.folder, pki.PASSPHRASE, {member: request}, {member: entitled}, self.now)

    def serial(self, member: str) -> int:
        """Return the serial number of a member's certificate."""
        path = Path(self.folder.issued(member))
        return x509.load_pem_x509_certificate(path.read_bytes()).serial_number

    def revoke(self, *members: str, check: bool = False, reason: str = "unspecified") -> Revocation:
        """Run the action ``ca_revoke``."""
        return revocation.revoke(
            self.folder, pki.PASSPHRASE, members, reason, timedelta(days=90), self.now, check=check
        )

    def crl(self, name: str = "crl.pem") -> x509.CertificateRevocationList:
        """Return the list in the folder."""
        return x509.load_pem_x509_crl(Path(self.folder.path, name).read_bytes())

    def listed(self) -> set[int]:
        """Return the serial numbers in the list."""
        return {entry.serial_number for entry in self.crl()}


@pytest.fixture
def issuer(tmp_path: Path) -> Issuer:
    """Return a CA that has revoked nothing."""
    return Issuer(tmp_path / "ca")


def number(crl: x509.CertificateRevocationList) -> int:
    """Return a list's number."""
    return crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number


def test_revoke(issuer: Issuer) -> None:
    done = issuer.revoke("h1", reason="keyCompromise")
    assert done.changed
    (entry,) = done.entries
    assert (entry.member, int(entry.serial, 16)) == ("h1", issuer.serial("h1"))
    crl = issuer.crl()
    ca = issuer.folder.open(pki.PASSPHRASE, pki.NOW).certificate
    assert crl.is_signature_valid(ca.public_key())  # type: ignore[arg-type]
    assert crl.issuer == ca.subject
    assert crl.last_update_utc == pki.NOW - timedelta(hours=1)
    assert crl.next_update_utc == crl.last_update_utc + timedelta(days=90)
    (listed,) = crl
    assert listed.serial_number == issuer.serial("h1")
    assert listed.revocation_date_utc == pki.NOW
    reason = listed.extensions.get_extension_for_class(x509.CRLReason).value.reason
    assert reason is x509.ReasonFlags.key_compromise
    served = issuer.serve()
    assert served.changes == ()
    assert served.revoked == ("h1",)
    assert [each.pem for each in served.crls] == [each.pem for each in done.crls]


def test_again(issuer: Issuer) -> None:
    first = issuer.revoke("h1")
    before = Path(issuer.folder.path, "crl.pem").read_bytes()
    again = issuer.revoke("h1", "h1")
    assert (again.changed, again.entries) == (False, first.entries)
    assert Path(issuer.folder.path, "crl.pem").read_bytes() == before


def test_check_mode(issuer: Issuer) -> None:
    done = issuer.revoke("h1", check=True)
    assert done.changed
    assert [entry.member for entry in done.entries] == ["h1"]
    assert issuer.folder.ledger.history().revoked == ()
    assert not Path(issuer.folder.path, "crl.pem").exists()


def test_one_more(issuer: Issuer) -> None:
    issuer.revoke("h1")
    first = issuer.crl()
    issuer.revoke("h2")
    second = issuer.crl()
    assert issuer.listed() == {issuer.serial("h1"), issuer.serial("h2")}
    # Both within a second, and yet the second one is newer in all that can be compared.
    assert number(second) > number(first)
    assert second.last_update_utc > first.last_update_utc


def test_all_certificates_of_a_member(issuer: Issuer) -> None:
    first = issuer.serial("h1")
    issuer.sign("h1", number=9)
    issuer.revoke("h1")
    assert issuer.listed() == {first, issuer.serial("h1")}


def test_one_that_has_expired_is_revoked_too(issuer: Issuer) -> None:
    issuer.now += timedelta(days=2000)
    assert len(issuer.revoke("h1").entries) == 1
    assert issuer.serve().revoked == ("h1",)


def test_unknown_members(issuer: Issuer) -> None:
    with pytest.raises(ProblemsError) as caught:
        issuer.revoke("h1", "h8", "h9")
    assert [problem.host for problem in caught.value.problems] == ["h8", "h9"]
    assert "has no certificate of it" in caught.value.problems[0].message
    assert issuer.folder.ledger.history().revoked == ()


def test_no_ca(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(ProblemsError, match="there is no CA"):
            revocation.revoke(Folder(str(path)), "x", ["h1"], "unspecified", timedelta(1), pki.NOW)


def test_a_ca_of_others(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path / "ca"))
    (tmp_path / "ca.crt").write_bytes(cas.ca("root").bundle)
    wanted = Wanted(None, source="pkcs12", certificate=str(tmp_path / "ca.crt"))
    lifecycle.serve(folder, wanted, pki.NOW)
    with pytest.raises(ProblemsError, match="only they can revoke"):
        revocation.revoke(folder, None, ["h1"], "unspecified", timedelta(1), pki.NOW)


def test_a_ca_that_may_not_sign_lists_revokes_nothing(
    issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenShift's signer has no cRLSign: a ledger that says "revoked" would stop every run after this one."""
    monkeypatch.setattr(revocation, "may_sign_lists", lambda _certificate: False)
    with pytest.raises(ProblemsError, match="list"):
        issuer.revoke("h1")
    assert issuer.folder.ledger.history().revoked == ()
    issuer.serve()


def test_wrong_passphrase(issuer: Issuer) -> None:
    with pytest.raises(ProblemsError, match="cannot be decrypted"):
        revocation.revoke(issuer.folder, "x", ["h1"], "unspecified", timedelta(1), pki.NOW)
    assert issuer.folder.ledger.history().revoked == ()


def test_killed_before_the_list(issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(path: str, text: str, *, mode: int = 0o600) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(revocation, "write_atomically", killed)
        with pytest.raises(KeyboardInterrupt):
            issuer.revoke("h1")
    assert issuer.revoke("h1").changed
    assert issuer.listed() == {issuer.serial("h1")}


@pytest.mark.parametrize(("days", "due"), [(44, False), (45, True), (89, True), (200, True)])
def test_it_is_renewed_at_half_its_time(issuer: Issuer, days: int, due: bool) -> None:
    issuer.revoke("h1")
    first = issuer.crl()
    issuer.now += timedelta(days=days)
    assert bool(issuer.serve(check=True).changes) is due
    assert issuer.crl() == first
    served = issuer.serve()
    assert bool(served.changes) is due
    assert (number(issuer.crl()) > number(first)) is due
    assert served.crls[0].not_after > issuer.now + timedelta(days=44)
    assert issuer.listed() == {issuer.serial("h1")}


def test_only_strict_checking_needs_an_empty_one(issuer: Issuer) -> None:
    assert issuer.serve().crls == ()
    assert len(issuer.serve(crl=True).crls) == 1
    assert issuer.listed() == set()
    assert len(issuer.serve().crls) == 1  # once there, it is kept up to date


@pytest.mark.parametrize("damage", ["", "junk", "another"])
def test_a_damaged_list_is_issued_anew(issuer: Issuer, tmp_path: Path, damage: str) -> None:
    issuer.revoke("h1")
    first = issuer.crl()
    if damage == "another":
        other = Issuer(tmp_path / "other")
        other.serve(crl=True)
        damage = Path(other.folder.path, "crl.pem").read_text()
    Path(issuer.folder.path, "crl.pem").write_text(damage)
    issuer.now += timedelta(seconds=1)
    assert issuer.serve().changes == ("a revocation list was issued",)
    assert issuer.listed() == {issuer.serial("h1")}
    assert number(issuer.crl()) > number(first)


def test_a_lost_ledger_makes_nothing_valid(issuer: Issuer) -> None:
    issuer.revoke("h1")
    serial = issuer.serial("h1")
    Path(issuer.folder.ledger.path).unlink()
    issuer.now += timedelta(days=60)
    assert issuer.serve().changes
    assert issuer.listed() == {serial}


def test_each_ca_lists_its_own(issuer: Issuer) -> None:
    old = issuer.serial("h1")
    issuer.serve(rollover="prepare")
    issuer.serve(rollover="switch")
    issuer.sign("h2", number=9)
    done = issuer.revoke("h1", "h2")
    assert len(done.crls) == 2
    assert issuer.listed() == {issuer.serial("h2")}
    assert old in {entry.serial_number for entry in issuer.crl("old-crl.pem")}
    issuer.serve(rollover="finish")
    assert [each.slot for each in issuer.serve().crls] == ["ca"]
    assert issuer.serve().revoked == ("h1", "h2")


@pytest.mark.skipif(not (which("certutil") and which("crlutil")), reason="needs NSS's tools")
def test_nss_heeds_the_list_and_the_one_after_it(issuer: Issuer, tmp_path: Path) -> None:
    database = ["-d", f"sql:{tmp_path}"]

    def nss(*command: str) -> str:
        done = subprocess.run([*command, *database], capture_output=True, text=True, check=False)
        return done.stdout

    def valid() -> list[str]:
        """Return the members whose certificate NSS accepts after it got the list."""
        if Path(issuer.folder.path, "crl.pem").exists():
            (tmp_path / "crl.der").write_bytes(issuer.crl().public_bytes(serialization.Encoding.DER))
            nss("crlutil", "-I", "-i", str(tmp_path / "crl.der"))
        members = ("h1", "h2")
        return [member for member in members if "is valid" in nss("certutil", "-V", "-u", "V", "-n", member)]

    nss("certutil", "-N", "--empty-password")
    nss("certutil", "-A", "-a", "-n", "ca", "-t", "CT,,", "-i", issuer.folder.certificate_path)
    for member in ("h1", "h2"):
        nss("certutil", "-A", "-a", "-n", member, "-t", ",,", "-i", issuer.folder.issued(member))
    assert valid() == ["h1", "h2"]
    issuer.revoke("h1")
    assert valid() == ["h2"]
    issuer.revoke("h2")
    assert valid() == []


def _work(arguments: tuple[str, int]) -> None:
    path, number = arguments
    issuer = Issuer.__new__(Issuer)  # one that is there
    issuer.folder, issuer.now = Folder(path), pki.NOW
    if number < 6:
        issuer.sign(f"h{number + 3}")
    elif number < 8:
        issuer.revoke(f"h{number - 5}")
    else:
        issuer.serve(rollover="prepare")


def test_all_at_once(issuer: Issuer) -> None:
    work = [(issuer.folder.path, number) for number in (8, 0, 6, 1, 9, 2, 7, 3, 4, 5, 10)]
    with multiprocessing.get_context("fork").Pool(4) as pool:
        pool.map(_work, work, chunksize=1)
    history = issuer.folder.ledger.history()
    assert len({entry.serial for entry in history.issued}) == len(history.issued) == 8
    assert set(history.excluded()) == {"h1", "h2"}
    assert issuer.listed() == {issuer.serial("h1"), issuer.serial("h2")}
    assert issuer.serve().phase == "prepared"
