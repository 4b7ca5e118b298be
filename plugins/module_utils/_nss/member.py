# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A member's certificate in the NSS database of its host.

NSS files certificates by subject: two with one subject share a nickname, and
there is no saying which of them is used. So a certificate that replaces another
has a subject of its own (``OU=gen2``, ``OU=gen3``, …); what identifies the
member is the subject alternative name. The new one is added beside the old one,
checked, and only then are the nicknames swapped.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from ansible_collections.underlay.ipsec.plugins.module_utils._errors import Problem, ProblemsError
from ansible_collections.underlay.ipsec.plugins.module_utils._nss.database import (
    CertutilDatabase,
    Content,
    Database,
    Entry,
)
from ansible_collections.underlay.ipsec.plugins.module_utils._nss.pending import Pending, PendingFile
from ansible_collections.underlay.ipsec.plugins.module_utils._nss.x509 import Certificate, Names, Request

AUTHORITY_TRUST = "CT,,"
MEMBER_TRUST = "u,u,u"
_NO_TRUST = ",,"  # what a certificate is added with: NSS itself adds the u where it has the key

_GENERATION = re.compile(r"gen([1-9][0-9]*)")


@dataclass(frozen=True)
class Wanted:
    """The certificate that a member is to have."""

    nickname: str
    subject: dict[str, str]
    """Without the generation, for example ``{"CN": "h1", "O": "underlay.ipsec"}``."""
    names: Names
    key_type: str
    renew_before: timedelta

    @classmethod
    def from_slice(cls, certificate: dict[str, Any]) -> Wanted:
        """Return what the ``certificate`` of a host's slice of the plan asks for."""
        return cls(
            nickname=certificate["nickname"],
            subject=dict(certificate["subject"]),
            names=Names.of(certificate["dns"], certificate["ip"]),
            key_type=certificate["key_type"],
            renew_before=timedelta(days=certificate["renew_before_days"]),
        )


def fault(
    content: Content, nickname: str, wanted: Wanted, authority: Certificate, now: datetime
) -> str | None:
    """Return why what is under *nickname* cannot serve as *wanted*; None if it can."""
    entry = content.entry(nickname)
    if entry is None:
        return "missing"
    if len(entry.certificates) != 1:
        return "several certificates with one nickname"
    certificate = entry.certificates[0]
    due = certificate.not_after - wanted.renew_before
    checks = {
        "private key missing": certificate.public_key.key_id not in content.keys,
        "issued by another CA": not certificate.names_as_issuer(authority),
        "names changed": certificate.names != wanted.names,
        "subject changed": _generation(certificate.subject, wanted.subject) is None,
        "key type changed": certificate.public_key.key_type != wanted.key_type,
        "not yet valid": now < certificate.not_before,
        "expired": now >= certificate.not_after,
        # A new one could not outlive the CA either.
        "expires": now >= due and certificate.not_after < authority.not_after,
    }
    return next((reason for reason, wrong in checks.items() if wrong), None)


def repair(
    db: Database, wanted: Wanted, authority: Certificate, authority_nickname: str, now: datetime
) -> None:
    """Put right all that needs no new certificate.

    That is the CA and its trust, the end of an interrupted swap, leftovers, and
    the trust flags of the member's certificate.
    """
    trust_authority(db, authority, authority_nickname)
    content = db.content()
    if fault(content, wanted.nickname, wanted, authority, now):
        for other in (_staged(wanted.nickname), _old(wanted.nickname)):
            if not fault(content, other, wanted, authority, now):
                _promote(db, other, wanted.nickname)
                break
    _tidy(db, wanted.nickname)
    _settle_trust(db, wanted.nickname)


def trust_authority(db: Database, authority: Certificate, nickname: str) -> None:
    """Have the CA in the database, trusted to issue certificates, under *nickname* or where it is already."""
    found = db.content().nickname_of(authority)
    if found is None:
        remove(db, nickname)
        db.add(nickname, authority, AUTHORITY_TRUST)
        found = db.content().nickname_of(authority)
        if found != nickname:
            raise ProblemsError([_misfiled(nickname, found, "the CA's certificate")])
    entry = db.content().entry(found)
    if entry and not {"C", "T"} <= set(entry.trust.split(",", maxsplit=1)[0]):
        db.set_trust(found, AUTHORITY_TRUST)


def trust_others(db: Database, authorities: Iterable[Certificate], nickname: str) -> None:
    """Have exactly *authorities* trusted besides the CA with *nickname*, which comes first in theirs.

    What is in the database under a nickname of somebody else's stays that.
    """
    # No member's certificate has a plus sign in its nickname.
    wanted = {f"{nickname}+{authority.fingerprint[:16]}": authority for authority in authorities}
    for entry in db.content().entries:
        if entry.nickname.startswith(f"{nickname}+") and entry.nickname not in wanted:
            remove(db, entry.nickname)
    for place, authority in wanted.items():
        trust_authority(db, authority, place)


def ensure_request(db: CertutilDatabase, record: PendingFile, wanted: Wanted) -> Request:
    """Return a request for *wanted*: that of an interrupted run if it still serves, else a new one."""
    content = db.content()
    generation = _next_generation(content, wanted)
    pending = record.load()
    if pending:
        if pending.request and _serves(pending.request, content, wanted, generation):
            return pending.request
        for key_id in pending.made_keys(content.orphans()):
            db.delete_key(key_id)
        content = db.content()
    record.save(Pending(wanted.nickname, content.keys))
    request = db.create_request(
        wanted.key_type, rfc1485(_with_generation(wanted.subject, generation)), wanted.names
    )
    record.save(Pending(wanted.nickname, content.keys, request))
    return request


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
    db: Database,
    nickname: str,
    certificate: Certificate,
    authority: Certificate,
    authority_nickname: str,
    now: datetime,
) -> bool:
    """Have exactly *certificate*, with its key, under *nickname*; return whether it replaced another.

    Raises `ProblemsError` if it cannot serve; what was there before is then still there.
    """
    content = db.content()
    problems = list(_unfit(content, nickname, certificate, authority, now))
    if problems:
        raise ProblemsError(problems)
    trust_authority(db, authority, authority_nickname)
    _tidy(db, nickname, keep=certificate)
    replaces = content.entry(nickname) is not None and not _is_only(content.entry(nickname), certificate)
    place = db.content().nickname_of(certificate)
    added = place is None
    if place is None:
        # With the same subject it cannot stand beside the old one.
        if any(certificate.subject_name == old.subject_name for old in _certificates(db, nickname)):
            remove(db, nickname, keep=certificate)
        place = _staged(nickname) if db.content().entry(nickname) else nickname
        db.add(place, certificate, _NO_TRUST)
        found = db.content().nickname_of(certificate)
        if found != place:
            raise ProblemsError([_misfiled(place, found, "the certificate")])
    _settle_trust(db, place)
    refusal = db.refusal(place)
    if refusal:
        if added:
            db.delete_certificate(place)
        raise ProblemsError(
            [
                Problem(
                    f"NSS does not accept the certificate for {nickname}: {refusal}",
                    "Check that ca_certificate is the CA that signed it and that this host's clock is right",
                )
            ]
        )
    if place != nickname:
        _promote(db, place, nickname)
    elif not _is_only(db.content().entry(nickname), certificate):
        raise ProblemsError([_misfiled(nickname, nickname, "another certificate with the same subject")])
    return replaces


def uninstall(db: Database, nickname: str, authority_nickname: str | None) -> None:
    """Delete the certificate and its key, and the CA if *authority_nickname* is given."""
    for each in (nickname, _staged(nickname), _old(nickname)):
        remove(db, each)
    if authority_nickname is not None:
        remove(db, authority_nickname)
        trust_others(db, (), authority_nickname)


def remove(db: Database, nickname: str, keep: Certificate | None = None) -> None:
    """Delete all certificates under *nickname* and their keys, except keys of *keep* or in use elsewhere.

    ``certutil -F`` reports success where it did nothing, ``-D`` leaves the key: so
    the key goes by its id, and first, as a key without a certificate is nobody's.
    """
    content = db.content()
    entry = content.entry(nickname)
    if entry is None:
        return
    in_use = {
        other.public_key.key_id
        for elsewhere in content.entries
        for other in elsewhere.certificates
        if other not in entry.certificates
    }
    if keep is not None:
        in_use.add(keep.public_key.key_id)
    for key_id in {certificate.public_key.key_id for certificate in entry.certificates} - in_use:
        if key_id in content.keys:
            db.delete_key(key_id)
    for _certificate in entry.certificates:
        if db.content().entry(nickname):
            db.delete_certificate(nickname)


def next_subject(content: Content, wanted: Wanted) -> dict[str, str]:
    """Return the subject of the next certificate: one that no certificate in the database has."""
    return _with_generation(wanted.subject, _next_generation(content, wanted))


def rfc1485(subject: dict[str, str]) -> str:
    """Return *subject* in the notation that certutil takes."""
    return ",".join(f"{key}={_quoted(value)}" for key, value in subject.items())


def _quoted(value: str) -> str:
    if re.fullmatch(r"[A-Za-z0-9._:/-]+", value):
        return value
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _staged(nickname: str) -> str:
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
    for leftover in (_staged(nickname), _old(nickname)):
        if not (keep and _is_only(db.content().entry(leftover), keep)):
            remove(db, leftover, keep)


def _settle_trust(db: Database, nickname: str) -> None:
    entry = db.content().entry(nickname)
    if entry and entry.trust not in (MEMBER_TRUST, _NO_TRUST):
        db.set_trust(nickname, _NO_TRUST)


def _is_only(entry: Entry | None, certificate: Certificate) -> bool:
    return entry is not None and entry.certificates == (certificate,)


def _certificates(db: Database, nickname: str) -> tuple[Certificate, ...]:
    entry = db.content().entry(nickname)
    return entry.certificates if entry else ()


def _unfit(
    content: Content, nickname: str, certificate: Certificate, authority: Certificate, now: datetime
) -> list[Problem]:
    """Return what speaks against a certificate before it is in the database."""
    problems = []
    if not certificate.names_as_issuer(authority):
        problems.append(
            Problem(
                f"the certificate for {nickname} was not issued by the given CA",
                "Give the certificate of the CA that signed it",
            )
        )
    if certificate.public_key.key_id not in content.keys:
        problems.append(
            Problem(
                f"the private key of the certificate for {nickname} is not in this host's NSS database",
                "Sign a request that underlay.ipsec.nss_request made on this very host",
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
    } - {nickname, _staged(nickname), _old(nickname)}
    if twins:
        problems.append(
            Problem(
                f"the NSS database has a certificate with the same subject, as {', '.join(sorted(twins))}",
                "NSS cannot tell them apart: remove that one, or have a new one signed",
            )
        )
    return problems


def _misfiled(nickname: str, found: str | None, what: str) -> Problem:
    return Problem(
        f"NSS filed {what} under the nickname {found or 'of another certificate'} instead of {nickname}",
        "It has the subject of a certificate that is there already: remove that one",
    )


def _generation(subject: dict[str, str], base: dict[str, str]) -> int | None:
    """Return which generation of *base* a subject is (1 has no OU); None if it is another's."""
    unit = subject.get("OU")
    if {key: value for key, value in subject.items() if key != "OU"} != base:
        return None
    if unit is None:
        return 1
    match = _GENERATION.fullmatch(unit)
    return int(match[1]) if match else None


def _with_generation(base: dict[str, str], generation: int) -> dict[str, str]:
    return base if generation == 1 else {**base, "OU": f"gen{generation}"}


def _next_generation(content: Content, wanted: Wanted) -> int:
    used = [
        _generation(certificate.subject, wanted.subject) or 0
        for entry in content.entries
        for certificate in entry.certificates
    ]
    return max(used, default=0) + 1


def _serves(request: Request, content: Content, wanted: Wanted, generation: int) -> bool:
    return (
        request.public_key.key_id in content.keys
        and request.public_key.key_type == wanted.key_type
        and request.names == wanted.names
        and request.subject == _with_generation(wanted.subject, generation)
    )
