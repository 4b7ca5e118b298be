# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A member's certificate in the NSS database of its host.

NSS files certificates by subject: two with one subject share a nickname, and
there is no saying which of them is used. One with another subject is added beside
the old one and checked, and only then are the nicknames swapped. One with the same
subject is checked in a database of its own, and added after the old one is gone.

A renewal keeps the subject. It is what an opportunistic member is known by: pluto
5.2 accepts no other from an address as long as it has an SA with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from ansible_collections.underlay.ipsec.plugins.module_utils._errors import Problem, ProblemsError
from ansible_collections.underlay.ipsec.plugins.module_utils._nss import authorities
from ansible_collections.underlay.ipsec.plugins.module_utils._nss.database import (
    Bundle,
    CertutilDatabase,
    Content,
    Database,
    Entry,
)
from ansible_collections.underlay.ipsec.plugins.module_utils._nss.pending import Pending, PendingFile
from ansible_collections.underlay.ipsec.plugins.module_utils._nss.removal import remove
from ansible_collections.underlay.ipsec.plugins.module_utils._nss.x509 import (
    Certificate,
    Names,
    Request,
    rfc1485,
)

MEMBER_TRUST = "u,u,u"
_NO_TRUST = ",,"  # what a certificate is added with: NSS itself adds the u where it has the key


@dataclass(frozen=True)
class Wanted:
    """The certificate that a member is to have."""

    nickname: str
    subject: dict[str, str]
    """For example ``{"CN": "h1", "O": "underlay.ipsec"}``."""
    names: Names
    key_type: str
    renew_before: timedelta
    source: str = "ca"
    """``ca``; ``pkcs12`` (made elsewhere, with its key) or ``external`` (signed elsewhere)."""
    fingerprint: str | None = None
    """SHA-256 of the one certificate that is wanted, with ``pkcs12`` only."""

    @classmethod
    def from_slice(cls, certificate: dict[str, Any]) -> Wanted:
        """Return what the ``certificate`` of a host's slice of the plan asks for."""
        return cls(
            nickname=certificate["nickname"],
            subject=dict(certificate["subject"]),
            names=Names.of(certificate["dns"], certificate["ip"]),
            key_type=certificate["key_type"],
            renew_before=timedelta(days=certificate["renew_before_days"]),
            source=certificate.get("source") or "ca",
            fingerprint=certificate.get("fingerprint"),
        )


def fault(
    content: Content, nickname: str, wanted: Wanted, issuers: Sequence[Certificate], now: datetime
) -> str | None:
    """Return why what is under *nickname* cannot serve as *wanted*; None if it can.

    *issuers* are the CAs whose certificates are wanted.
    """
    entry = content.entry(nickname)
    if entry is None:
        return "missing"
    if len(entry.certificates) != 1:
        return "several certificates with one nickname"
    certificate = entry.certificates[0]
    checks = {
        "private key missing": certificate.public_key.key_id not in content.keys,
        **_differences(certificate, wanted, issuers, now),
        "not yet valid": now < certificate.not_before,
        "expired": now >= certificate.not_after,
    }
    return next((reason for reason, wrong in checks.items() if wrong), None)


def _differences(
    certificate: Certificate, wanted: Wanted, issuers: Sequence[Certificate], now: datetime
) -> dict[str, bool]:
    if wanted.source == "pkcs12":
        return {"another certificate than in the bundle": certificate.fingerprint != wanted.fingerprint}
    issuer = next((each for each in issuers if certificate.names_as_issuer(each)), None)
    due = certificate.not_after - wanted.renew_before
    external = wanted.source == "external"
    return {
        "issued by another CA": issuer is None,
        # Who signs elsewhere may add names, and has rules of his own for the subject.
        "names changed": (
            not certificate.names.include(wanted.names) if external else certificate.names != wanted.names
        ),
        "subject changed": not external and certificate.subject != wanted.subject,
        "key type changed": certificate.public_key.key_type != wanted.key_type,
        # A new one could not outlive the CA either.
        "expires": due <= now < certificate.not_after
        and issuer is not None
        and certificate.not_after < issuer.not_after,
    }


def repair(db: Database, wanted: Wanted, issuers: Sequence[Certificate], now: datetime) -> None:
    """Put right all that needs no new certificate, once the CAs are in the database.

    That is the end of an interrupted swap, leftovers, and the trust flags of the member's certificate.
    """
    content = db.content()
    if fault(content, wanted.nickname, wanted, issuers, now):
        for other in (staged(wanted.nickname), _old(wanted.nickname)):
            if not fault(content, other, wanted, issuers, now):
                _promote(db, other, wanted.nickname)
                break
    _tidy(db, wanted.nickname)
    _settle_trust(db, wanted.nickname)


def ensure_request(db: CertutilDatabase, record: PendingFile, wanted: Wanted) -> Request:
    """Return a request for *wanted*: that of an interrupted run if it still serves, else a new one."""
    content = db.content()
    pending = record.load()
    if pending:
        if pending.request and _serves(pending.request, content, wanted):
            return pending.request
        for key_id in pending.made_keys(content.orphans()):
            db.delete_key(key_id)
        content = db.content()
    record.save(Pending(wanted.nickname, content.keys))
    request = db.create_request(wanted.key_type, rfc1485(wanted.subject), wanted.names)
    record.save(Pending(wanted.nickname, content.keys, request))
    return request


def awaits_signature(content: Content, record: PendingFile, wanted: Wanted) -> bool:
    """Return whether somebody elsewhere may be about to sign a request that still serves."""
    pending = record.load()
    return (
        wanted.source == "external"
        and pending is not None
        and pending.request is not None
        and pending.request.public_key.key_id in content.orphans()
        and _serves(pending.request, content, wanted)
    )


def forget_request(
    db: Database, record: PendingFile, certificate: Certificate | None = None, *, dry: bool = False
) -> bool:
    """Delete the record of a request, and its key if no certificate came; return whether there was one.

    With *certificate*, only the request that it answers is forgotten.
    """
    pending = record.load()
    answered = pending and pending.request and pending.request.public_key
    if certificate and answered != certificate.public_key:
        return False
    if pending:
        for key_id in pending.made_keys(db.content().orphans()):
            db.delete_key(key_id)
    return record.exists() if dry else record.delete()


def install(
    db: Database, nickname: str, certificate: Certificate, issuers: Sequence[Certificate], now: datetime
) -> bool:
    """Have exactly *certificate*, with its key, under *nickname*; return whether it replaced another.

    *issuers* are the CAs that may have issued it; they are in the database already.
    Raises `ProblemsError` if it cannot serve; what was there before is then still there.
    """
    content = db.content()
    check_fit(content, nickname, certificate, issuers, now)
    if certificate.public_key.key_id not in content.keys:
        raise ProblemsError(
            [
                Problem(
                    f"the private key of the certificate for {nickname} is not in this host's NSS database",
                    "Sign a request that underlay.ipsec.nss_request made on this very host",
                )
            ]
        )
    _tidy(db, nickname, keep=certificate)
    replaced = replaces(content, nickname, certificate)
    place = db.content().nickname_of(certificate)
    if any(old.subject_name == certificate.subject_name for old in _others(db, nickname, certificate)):
        # It cannot stand beside the old one, which NSS files under the same nickname.
        _raise_refusal(nickname, db.refusal_of(certificate, issuers))
        remove(db, nickname, keep=certificate)
        place = None
    added = place is None
    if place is None:
        place = staged(nickname) if db.content().entry(nickname) else nickname
        db.add(place, certificate, _NO_TRUST)
        found = db.content().nickname_of(certificate)
        if found != place:
            raise ProblemsError([_misfiled(place, found, "the certificate")])
    _settle_trust(db, place)
    refusal = db.refusal(place)
    if refusal and added:
        db.delete_certificate(place)
    _raise_refusal(nickname, refusal)
    if place != nickname:
        _promote(db, place, nickname)
    return replaced


def replaces(content: Content, nickname: str, certificate: Certificate) -> bool:
    """Return whether *certificate* would take the place of another one."""
    return content.entry(nickname) is not None and not _is_only(content.entry(nickname), certificate)


def renames(content: Content, nickname: str, certificate: Certificate) -> bool:
    """Return whether *certificate* would take the place of one with another subject."""
    entry = content.entry(nickname)
    return entry is not None and any(
        old.subject_name != certificate.subject_name for old in entry.certificates
    )


def import_bundle(
    db: Database, nickname: str, bundle: Bundle, issuers: Sequence[Certificate], now: datetime
) -> bool:
    """Have exactly the certificate of *bundle*, with its key, under *nickname*; else as `install`."""
    certificate = bundle.certificate
    check_fit(db.content(), nickname, certificate, issuers, now)
    content = db.content()
    if content.nickname_of(certificate) is None or certificate.public_key.key_id not in content.keys:
        # Before the key is there, so that one that cannot serve leaves nothing behind.
        _raise_refusal(nickname, db.refusal_of(certificate, issuers))
        _tidy(db, nickname, keep=certificate)
        db.add_bundle(bundle)
    return install(db, nickname, certificate, issuers, now)


def uninstall(db: Database, nickname: str, authority_nickname: str | None) -> None:
    """Delete the certificate and its key, and the CA if *authority_nickname* is given."""
    for each in (nickname, staged(nickname), _old(nickname)):
        remove(db, each)
    if authority_nickname is not None:
        authorities.remove_all(db, authority_nickname)


def staged(nickname: str) -> str:
    """Return the nickname of a certificate that is to get *nickname* and is not checked yet."""
    return f"{nickname}-new"


def _old(nickname: str) -> str:
    return f"{nickname}-old"


def _promote(db: Database, place: str, nickname: str) -> None:
    """Give the certificate at *place* the *nickname*; what had that is deleted."""
    current = db.content().entry(nickname)
    if current is not None and len(current.certificates) == 1 and place != _old(nickname):
        remove(db, _old(nickname))
        db.rename(nickname, _old(nickname))
    else:
        remove(db, nickname)
    db.rename(place, nickname)
    remove(db, _old(nickname))


def _tidy(db: Database, nickname: str, keep: Certificate | None = None) -> None:
    """Delete what an interrupted swap left beside *nickname*, except for *keep*."""
    for leftover in (staged(nickname), _old(nickname)):
        if not (keep and _is_only(db.content().entry(leftover), keep)):
            remove(db, leftover, keep)


def _settle_trust(db: Database, nickname: str) -> None:
    entry = db.content().entry(nickname)
    if entry and entry.trust not in (MEMBER_TRUST, _NO_TRUST):
        db.set_trust(nickname, _NO_TRUST)


def _is_only(entry: Entry | None, certificate: Certificate) -> bool:
    return entry is not None and entry.certificates == (certificate,)


def _others(db: Database, nickname: str, certificate: Certificate) -> list[Certificate]:
    entry = db.content().entry(nickname)
    return [other for other in entry.certificates if other != certificate] if entry else []


def _raise_refusal(nickname: str, refusal: str | None) -> None:
    if refusal:
        raise ProblemsError(
            [
                Problem(
                    f"NSS does not accept the certificate for {nickname}: {refusal}",
                    "Check that ca_certificate is the CA that signed it and that this host's clock is right",
                )
            ]
        )


def check_fit(
    content: Content, nickname: str, certificate: Certificate, issuers: Sequence[Certificate], now: datetime
) -> None:
    """Raise `ProblemsError` with all that speaks against a certificate before it is in the database."""
    problems = []
    if not any(certificate.names_as_issuer(issuer) for issuer in issuers):
        problems.append(
            Problem(
                f"the certificate for {nickname} was not issued by the given CA",
                "Give the certificate of the CA that signed it",
            )
        )
    if not certificate.not_before <= now < certificate.not_after:
        problems.append(
            Problem(
                f"the certificate for {nickname} is valid from {certificate.not_before:%Y-%m-%d %H:%M} to "
                f"{certificate.not_after:%Y-%m-%d %H:%M} UTC; this host's clock says {now:%Y-%m-%d %H:%M}",
                "Set the clock of this host and of the control node, or renew the certificate",
            )
        )
    twins = {
        entry.nickname
        for entry in content.entries
        for other in entry.certificates
        if other.subject_name == certificate.subject_name and other != certificate
    } - {nickname, staged(nickname), _old(nickname)}
    if twins:
        problems.append(
            Problem(
                f"the NSS database has a certificate with the same subject, as {', '.join(sorted(twins))}",
                "NSS cannot tell them apart: remove that one, or have a new one signed",
            )
        )
    if problems:
        raise ProblemsError(problems)


def _misfiled(nickname: str, found: str | None, what: str) -> Problem:
    return Problem(
        f"NSS filed {what} under the nickname {found or 'of another certificate'} instead of {nickname}",
        "It has the subject of a certificate that is there already: remove that one",
    )


def _serves(request: Request, content: Content, wanted: Wanted) -> bool:
    return (
        request.public_key.key_id in content.keys
        and request.public_key.key_type == wanted.key_type
        and request.names == wanted.names
        and request.subject == wanted.subject
    )
