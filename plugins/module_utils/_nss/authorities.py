# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The CAs in the NSS database of a host, and their revocation lists.

The CA whose certificates are wanted has the nickname of its own, for example
``underlay-ca``; all others (its issuers, those of endpoints, and the next or old CA
while a rollover is on) have that and the beginning of their fingerprint after a plus
sign, which no member's nickname has. A rollover swaps the nicknames: entries are
renamed and nothing is deleted before what takes its place is there, so that no CA
is without trust for a moment. Each step is one command, and what an interruption
leaves is put right by the next run. The issuers of the certificate by which the host
authenticates stay as long as it has no other, for its peers still have to be like it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ansible_collections.underlay.ipsec.plugins.module_utils._errors import Problem, ProblemsError
from ansible_collections.underlay.ipsec.plugins.module_utils._nss.database import Database, Entry, ListedCrl
from ansible_collections.underlay.ipsec.plugins.module_utils._nss.removal import remove
from ansible_collections.underlay.ipsec.plugins.module_utils._nss.x509 import Certificate, RevocationList

_ROOT_TRUST = "CT,,"
_INTERMEDIATE_TRUST = ",,"
"""NSS finds it on the way to its root, and trusts it for the root's sake only."""


def ensure(
    db: Database,
    first: Certificate,
    others: Sequence[Certificate],
    nickname: str,
    member: str | None = None,
) -> None:
    """Have *first* in the database with *nickname* and *others* with nicknames that follow from it.

    One that somebody filed under a nickname of his own stays there. All others with
    nicknames of ours are deleted, but for the issuers of the certificate with the
    nickname *member*. Raises `ProblemsError`.
    """
    wanted = {nickname: first}
    wanted.update((_beside(nickname, other), other) for other in others if other != first)
    _refuse_twins(db, list(wanted.values()), nickname)
    for entry in _ours(db, nickname):
        if _is_in_the_way(entry, list(wanted.values())):
            remove(db, entry.nickname)
    for place, certificate in wanted.items():
        _settle(db, certificate, place, nickname)
    for entry in superfluous(db, first, others, nickname, member):
        remove(db, entry.nickname)


def superfluous(
    db: Database, first: Certificate, others: Sequence[Certificate], nickname: str, member: str | None = None
) -> list[Entry]:
    """Return the CAs with nicknames of ours that `ensure` would delete."""
    ours = _ours(db, nickname)
    own = db.content().entry(member) if member else None
    there = [certificate for entry in ours for certificate in entry.certificates]
    keep = [first, *others, *(issuers(own.certificates[0], there) if own else ())]
    return [entry for entry in ours if not any(certificate in keep for certificate in entry.certificates)]


def issuers(certificate: Certificate, known: Iterable[Certificate]) -> tuple[Certificate, ...]:
    """Return who issued *certificate*, who issued that, and so on, as far as they are *known*."""
    found: list[Certificate] = []
    last, pool = certificate, list(known)
    while not last.is_root:
        above = next((each for each in pool if each not in found and last.names_as_issuer(each)), None)
        if above is None:
            break
        found.append(above)
        last = above
    return tuple(found)


def ensure_crls(
    db: Database, crls: Iterable[RevocationList], authorities: Sequence[Certificate], nickname: str
) -> None:
    """Have exactly *crls* of *authorities* in the database. Raises `ProblemsError`.

    *nickname* is that of the first CA. A list of one that somebody filed under
    a nickname of his own is brought up to date and never deleted.
    """
    wanted: dict[str, RevocationList] = {}
    for crl in crls:
        place = _place_of_issuer(db, crl, authorities)
        if place not in wanted or wanted[place].this_update < crl.this_update:
            wanted[place] = crl
    for entry in _ours(db, nickname):
        given = any(certificate in authorities for certificate in entry.certificates)
        if given and entry.nickname in db.crls() and entry.nickname not in wanted:
            db.delete_crl(entry.nickname)
    for place, crl in wanted.items():
        listed = db.crls().get(place)
        if listed == ListedCrl.of(crl):
            continue
        if listed and listed.this_update >= crl.this_update:
            # NSS takes only one that is later. This is so where the CA's folder was restored.
            db.delete_crl(place)
        db.add_crl(crl)


def remove_all(db: Database, nickname: str) -> None:
    """Delete all CAs that have nicknames of ours."""
    for entry in _ours(db, nickname):
        remove(db, entry.nickname)


def nicknames(db: Database, authorities: Iterable[Certificate], nickname: str) -> tuple[str, ...]:
    """Return the nicknames of ours and of *authorities*, *nickname* first."""
    content = db.content()
    found = {entry.nickname for entry in _ours(db, nickname)}
    found |= {place for place in map(content.nickname_of, authorities) if place}
    return (nickname, *sorted(found - {nickname}))


def is_ours(nickname: str, first: str) -> bool:
    """Return whether *nickname* is that of a CA of ours, the *first* or another: no member's has a plus sign."""
    return nickname == first or nickname.startswith(f"{first}+")


def trusted(
    db: Database, authorities: Iterable[Certificate], nickname: str
) -> frozenset[tuple[str, str, ListedCrl | None]]:
    """Return what libreswan goes by: each CA's fingerprint, its trust, and its revocation list."""
    content, crls = db.content(), db.crls()
    entries = [content.entry(place) for place in nicknames(db, authorities, nickname)]
    return frozenset(
        (certificate.fingerprint, entry.trust, crls.get(entry.nickname))
        for entry in entries
        if entry
        for certificate in entry.certificates
    )


def _beside(nickname: str, certificate: Certificate) -> str:
    return f"{nickname}+{certificate.fingerprint[:16]}"


def _ours(db: Database, nickname: str) -> list[Entry]:
    return [entry for entry in db.content().entries if is_ours(entry.nickname, nickname)]


def _refuse_twins(db: Database, wanted: Sequence[Certificate], nickname: str) -> None:
    """Raise `ProblemsError` where NSS would file two certificates under one nickname."""
    problems = []
    for number, certificate in enumerate(wanted):
        if any(certificate.subject_name == other.subject_name for other in wanted[:number]):
            problems.append(
                Problem(
                    f"two CA certificates have the subject {certificate.subject}, and NSS cannot keep them apart",
                    "Give one of them only, or make the new CA with a subject of its own",
                )
            )
    for entry in db.content().entries:
        if not is_ours(entry.nickname, nickname) and _is_in_the_way(entry, wanted):
            problems.append(
                Problem(
                    f"the NSS database has another certificate with the subject of a CA, as {entry.nickname}",
                    "NSS cannot tell them apart: remove that one, or give the CA a subject of its own",
                )
            )
    if problems:
        raise ProblemsError(problems)


def _is_in_the_way(entry: Entry, wanted: Sequence[Certificate]) -> bool:
    """Return whether *entry* has a certificate that is not wanted, with the subject of one that is."""
    return any(
        certificate not in wanted and certificate.subject_name == other.subject_name
        for certificate in entry.certificates
        for other in wanted
    )


def _settle(db: Database, certificate: Certificate, place: str, nickname: str) -> None:
    """Have *certificate* at *place*, or where somebody else filed it, with the right trust."""
    found = db.content().nickname_of(certificate)
    if found != place and (found is None or is_ours(found, nickname)):
        _vacate(db, place, nickname)
        if found is None:
            db.add(place, certificate, _trust(certificate))
        else:
            db.rename(found, place)
        found = place
    entry = db.content().entry(found)
    if entry is None or certificate not in entry.certificates:
        raise ProblemsError(
            [
                Problem(
                    f"NSS did not file the CA's certificate under the nickname {found}",
                    "It may have the subject of a certificate that is there already: remove that one",
                )
            ]
        )
    if certificate.is_root:
        wrong = not entry.flags >= {"C", "T"}  # more trust than that is no fault
    else:
        wrong = bool(entry.flags & set("CTP")) and is_ours(found, nickname)
    if wrong:
        db.set_trust(found, _trust(certificate))


def _vacate(db: Database, place: str, nickname: str) -> None:
    """Move what is at *place* to the nickname that it has as one of the others."""
    entry = db.content().entry(place)
    if entry is None:
        return
    beside = _beside(nickname, entry.certificates[0])
    if beside == place or db.content().entry(beside):
        # Nobody but an administrator could have filed it so; if it is wanted, it is added again.
        remove(db, place)
    else:
        db.rename(place, beside)


def _trust(certificate: Certificate) -> str:
    return _ROOT_TRUST if certificate.is_root else _INTERMEDIATE_TRUST


def _place_of_issuer(db: Database, crl: RevocationList, authorities: Sequence[Certificate]) -> str:
    for authority in authorities:
        place = db.content().nickname_of(authority)
        if place and authority.subject_name == crl.issuer_name:
            return place
    raise ProblemsError(
        [
            Problem(
                "a revocation list was issued by none of the CAs that are given",
                "Give the certificate of its issuer among the authorities",
            )
        ]
    )
