# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The CAs of a host: in memory, and the same on a real NSS database where there is certutil."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.underlay.ipsec.plugins.module_utils._errors import CommandError, ProblemsError
from ansible_collections.underlay.ipsec.plugins.module_utils._nss import authorities
from ansible_collections.underlay.ipsec.plugins.module_utils._nss.database import (
    CertutilDatabase,
    Database,
    ListedCrl,
    MemoryDatabase,
)
from ansible_collections.underlay.ipsec.plugins.module_utils._nss.x509 import Certificate
from ansible_collections.underlay.ipsec.plugins.module_utils._pki.authority import Authority
from ansible_collections.underlay.ipsec.plugins.module_utils._run import host_runner
from ansible_collections.underlay.ipsec.tests.unit.plugins import pki
from cryptography import x509
from cryptography.hazmat.primitives import hashes

FIRST = "underlay-ca"
A = pki.as_host_sees(pki.authority(0))
B = pki.as_host_sees(pki.authority(1))
C = pki.as_host_sees(pki.authority(2))
ROOT, INTER = pki.as_host_sees(pki.root()), pki.as_host_sees(pki.intermediate())


def renewed(ca: Authority) -> Certificate:
    """Return another certificate with the subject of *ca*."""
    builder = x509.CertificateBuilder().subject_name(ca.certificate.subject)
    builder = builder.issuer_name(ca.certificate.subject).public_key(ca.key.public_key())
    builder = builder.not_valid_before(pki.NOW).not_valid_after(pki.NOW + 5000 * pki.DAY)
    certificate = builder.serial_number(x509.random_serial_number()).sign(ca.key, hashes.SHA384())
    return pki.as_host_sees(Authority(certificate, ca.key))


A_RENEWED = renewed(pki.authority(0))


def beside(certificate: Certificate) -> str:
    """Return the nickname of a CA that is not the first."""
    return f"{FIRST}+{certificate.fingerprint[:16]}"


@pytest.fixture(params=["memory", "certutil"])
def db(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """Return an empty database."""
    if request.param == "memory":
        yield MemoryDatabase()
        return
    if shutil.which("certutil") is None:
        pytest.skip("certutil is not installed")
    real = CertutilDatabase(host_runner(), str(tmp_path / "nss"))
    with real.opened(create=True):
        yield real


def summary(db: Database) -> dict[str, tuple[str, list[Certificate]]]:
    """Return what is in the database."""
    return {entry.nickname: (entry.trust, list(entry.certificates)) for entry in db.content().entries}


def fill(db: Database, entries: dict[str, tuple[str, Certificate]]) -> None:
    """Put *entries* into the database."""
    for nickname, (trust, certificate) in entries.items():
        db.add(nickname, certificate, trust)


ALONE = {FIRST: ("CT,,", A)}
OVERLAP = {FIRST: ("CT,,", A), beside(B): ("CT,,", B)}
SWAPPED = {FIRST: ("CT,,", B), beside(A): ("CT,,", A)}
CASES: list[Any] = [
    pytest.param({}, A, [], ALONE, id="the first CA"),
    pytest.param(ALONE, A, [], ALONE, id="nothing to do"),
    pytest.param({FIRST: (",,", A)}, A, [], ALONE, id="not trusted"),
    pytest.param({FIRST: ("CT,C,C", A)}, A, [], {FIRST: ("CT,C,C", A)}, id="more trust is no fault"),
    pytest.param({"mine": (",,", A)}, A, [], {"mine": ("CT,,", A)}, id="under a nickname of somebody else's"),
    pytest.param(ALONE, A, [B], OVERLAP, id="rollover prepared"),
    pytest.param(OVERLAP, B, [A], SWAPPED, id="rollover switched"),
    pytest.param(SWAPPED, A, [B], OVERLAP, id="rollover taken back"),
    pytest.param(SWAPPED, B, [], {FIRST: ("CT,,", B)}, id="rollover finished"),
    pytest.param(ALONE, B, [], {FIRST: ("CT,,", B)}, id="another CA at once"),
    pytest.param(
        {beside(A): ("CT,,", A), beside(B): ("CT,,", B)}, B, [A], SWAPPED, id="swap interrupted in its middle"
    ),
    pytest.param(
        {FIRST: ("CT,,", B), beside(C): ("CT,,", A)}, B, [A], SWAPPED, id="a nickname that does not fit"
    ),
    pytest.param(
        {FIRST: ("CT,,", A), beside(A): ("CT,,", B)}, B, [A], SWAPPED, id="the place of the old one is taken"
    ),
    pytest.param(
        ALONE, INTER, [ROOT], {FIRST: (",,", INTER), beside(ROOT): ("CT,,", ROOT)}, id="an intermediate"
    ),
    pytest.param(
        {FIRST: ("CT,,", INTER)},
        INTER,
        [ROOT],
        {FIRST: (",,", INTER), beside(ROOT): ("CT,,", ROOT)},
        id="an intermediate with too much trust",
    ),
    pytest.param({}, A, [A], ALONE, id="the same twice"),
    pytest.param(ALONE, A_RENEWED, [], {FIRST: ("CT,,", A_RENEWED)}, id="renewed with one subject"),
    pytest.param(
        {"mine": (",,", C)}, A, [B], {"mine": (",,", C), **OVERLAP}, id="somebody else's stays as it is"
    ),
    pytest.param(
        {"mine": (",,", C)}, A, [C], {"mine": ("CT,,", C), **ALONE}, id="somebody else's, now wanted"
    ),
]


@pytest.mark.parametrize(("before", "first", "others", "after"), CASES)
def test_ensure(
    db: Database,
    before: dict[str, tuple[str, Certificate]],
    first: Certificate,
    others: list[Certificate],
    after: dict[str, tuple[str, Certificate]],
) -> None:
    fill(db, before)
    authorities.ensure(db, first, others, FIRST)
    expected = {name: (trust, [certificate]) for name, (trust, certificate) in after.items()}
    assert summary(db) == expected
    authorities.ensure(db, first, others, FIRST)
    assert summary(db) == expected


class Watched:
    """A database that breaks before the command of a given number, and says what is trusted at any moment."""

    def __init__(self, db: Database, commands: int) -> None:
        self._db = db
        self._left = commands
        self.always_trusted: set[str] | None = None

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._db, name)
        if name not in (
            "add",
            "rename",
            "set_trust",
            "delete_certificate",
            "delete_key",
            "add_crl",
            "delete_crl",
        ):
            return real

        def change(*arguments: Any) -> None:
            if self._left == 0:
                raise KeyboardInterrupt
            self._left -= 1
            real(*arguments)
            trusted = {
                certificate.fingerprint
                for entry in self._db.content().entries
                if entry.trust.startswith("CT")
                for certificate in entry.certificates
            }
            self.always_trusted = trusted & (trusted if self.always_trusted is None else self.always_trusted)

        return change


@pytest.mark.parametrize("commands", range(5))
@pytest.mark.parametrize(
    ("before", "first", "others", "after"),
    [(OVERLAP, B, [A], SWAPPED), (SWAPPED, A, [B], OVERLAP), (OVERLAP, C, [A, B], None)],
)
def test_a_swap_is_never_without_trust_and_ends_after_any_interruption(
    db: Database,
    commands: int,
    before: dict[str, tuple[str, Certificate]],
    first: Certificate,
    others: list[Certificate],
    after: dict[str, tuple[str, Certificate]] | None,
) -> None:
    fill(db, before)
    watched: Any = Watched(db, commands)
    with suppress(KeyboardInterrupt):
        authorities.ensure(watched, first, others, FIRST)
    if watched.always_trusted is not None:
        assert watched.always_trusted >= {A.fingerprint, B.fingerprint}
    authorities.ensure(db, first, others, FIRST)
    wanted = after or {FIRST: ("CT,,", C), beside(A): ("CT,,", A), beside(B): ("CT,,", B)}
    assert summary(db) == {name: (trust, [each]) for name, (trust, each) in wanted.items()}


def test_what_issued_the_certificate_in_use_stays(db: Database) -> None:
    """With its issuers, and no other; it goes when another certificate is there."""
    leaf = pki.leaf(issuer=pki.intermediate())
    fill(
        db, {FIRST: (",,", INTER), beside(ROOT): ("CT,,", ROOT), beside(C): ("CT,,", C), "leaf": (",,", leaf)}
    )
    authorities.ensure(db, A, [], FIRST, "leaf")
    kept = {FIRST: ("CT,,", [A]), beside(INTER): (",,", [INTER]), beside(ROOT): ("CT,,", [ROOT])}
    assert summary(db) == {**kept, "leaf": (",,", [leaf])}
    db.delete_certificate("leaf")
    authorities.ensure(db, A, [], FIRST, "leaf")
    assert summary(db) == {FIRST: ("CT,,", [A])}


@pytest.mark.parametrize(
    ("before", "others", "said"),
    [
        ({}, [A_RENEWED], "two CA certificates have the subject"),
        ({"mine": (",,", A_RENEWED)}, [], "as mine"),
    ],
)
def test_cas_that_nss_cannot_keep_apart(
    db: Database, before: dict[str, tuple[str, Certificate]], others: list[Certificate], said: str
) -> None:
    fill(db, before)
    unchanged = summary(db)
    with pytest.raises(ProblemsError, match=said):
        authorities.ensure(db, A, others, FIRST)
    assert summary(db) == unchanged


OLD = pki.revocation_list(starts=pki.NOW - 2 * pki.DAY)
NEW = pki.revocation_list(revoked=[5, 2**150])
OF_B = pki.revocation_list(pki.authority(1))


def test_revocation_lists(db: Database) -> None:
    fill(db, OVERLAP)
    for wanted in ([], [OLD], [OLD], [NEW], [OLD, NEW], [NEW, OF_B], [OF_B], [OLD], []):
        authorities.ensure_crls(db, wanted, [A, B], FIRST)
        expected = {}
        for crl in wanted:
            place = beside(B) if crl == OF_B else FIRST
            expected[place] = ListedCrl.of(crl)
        assert db.crls() == expected


def test_a_revocation_list_follows_its_ca_and_goes_with_it(db: Database) -> None:
    fill(db, OVERLAP)
    authorities.ensure_crls(db, [NEW, OF_B], [A, B], FIRST)
    before = authorities.trusted(db, [A, B], FIRST)
    authorities.ensure(db, B, [A], FIRST)
    assert db.crls() == {FIRST: ListedCrl.of(OF_B), beside(A): ListedCrl.of(NEW)}
    assert authorities.trusted(db, [A, B], FIRST) == before
    authorities.ensure(db, B, [], FIRST)
    authorities.ensure(db, B, [A], FIRST)
    assert db.crls() == {FIRST: ListedCrl.of(OF_B)}
    assert authorities.trusted(db, [A, B], FIRST) != before


def test_a_revocation_list_stays_with_a_ca_that_is_still_needed(db: Database) -> None:
    fill(db, {**OVERLAP, "leaf": (",,", pki.leaf(issuer=pki.authority(1)))})
    authorities.ensure_crls(db, [NEW, OF_B], [A, B], FIRST)
    authorities.ensure(db, A, [], FIRST, "leaf")
    authorities.ensure_crls(db, [NEW], [A], FIRST)
    assert db.crls() == {FIRST: ListedCrl.of(NEW), beside(B): ListedCrl.of(OF_B)}


def test_a_revocation_list_of_somebody_else_s_ca_stays(db: Database) -> None:
    fill(db, {**ALONE, "mine": ("CT,,", B)})
    db.add_crl(OF_B)
    authorities.ensure_crls(db, [], [A], FIRST)
    authorities.ensure_crls(db, [], [A, B], FIRST)
    assert [*db.crls()] == ["mine"]


def test_a_revocation_list_of_an_unknown_ca(db: Database) -> None:
    fill(db, ALONE)
    with pytest.raises(ProblemsError, match="issued by none of the CAs"):
        authorities.ensure_crls(db, [OF_B], [A], FIRST)


def test_a_forged_revocation_list(db: Database) -> None:
    if isinstance(db, MemoryDatabase):
        pytest.skip("a database in memory does not check signatures")
    fill(db, ALONE)
    forged = pki.revocation_list(Authority(pki.authority(0).certificate, pki.key(7)))
    with pytest.raises(CommandError, match="CRL_BAD_SIGNATURE"):
        authorities.ensure_crls(db, [forged], [A], FIRST)
    assert not db.crls()


def test_remove_all(db: Database) -> None:
    fill(db, {**OVERLAP, "mine": (",,", C)})
    authorities.remove_all(db, FIRST)
    assert [*summary(db)] == ["mine"]
