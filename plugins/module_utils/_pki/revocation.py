# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Revoking the certificates of members, and the lists (CRL) that say so."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

with suppress(ImportError):  # always there with ansible-core, but not where its sanity tests import this
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization

from ansible_collections.underlay.ipsec.plugins.module_utils._errors import Problem, ProblemsError
from ansible_collections.underlay.ipsec.plugins.module_utils._files import write_atomically
from ansible_collections.underlay.ipsec.plugins.module_utils._pki import authority, chain, keys
from ansible_collections.underlay.ipsec.plugins.module_utils._pki.folder import (
    SLOTS,
    Folder,
    Slot,
    slot_files,
)
from ansible_collections.underlay.ipsec.plugins.module_utils._pki.ledger import History, Issued, Revoked

REASONS = (
    "unspecified",
    "keyCompromise",
    "affiliationChanged",
    "superseded",
    "cessationOfOperation",
    "privilegeWithdrawn",
)
"""The reasons of RFC 5280 that fit a host, and that last."""


@dataclass(frozen=True)
class Crl:
    """The list of one CA."""

    slot: str
    pem: str
    not_after: datetime


@dataclass(frozen=True)
class Revocation:
    """What became of revoking members' certificates."""

    changed: bool
    entries: tuple[Issued, ...]
    """The members' certificates that are revoked, now or before."""
    crls: tuple[Crl, ...]


def revoke(
    folder: Folder,
    passphrase: str | None,
    members: Iterable[str],
    reason: str,
    validity: timedelta,
    now: datetime,
    *,
    check: bool = False,
) -> Revocation:
    """Revoke the certificates of *members*: all that have not expired, or else the last one.

    The ledger says so before the new list is written; where a run ends between the
    two, the next one writes the list. Raises `ProblemsError` and OSError.
    """
    slots = _slots(folder)
    if not slots:
        raise ProblemsError(
            [Problem(f"there is no CA in {folder.path}", "Give the folder of the CA", "ipsec_ca_dir")]
        )
    if not any(slot.has_key for slot in slots):
        raise ProblemsError(
            [
                Problem(
                    f"{slots[0].certificate.subject.rfc4514_string()} is a CA that others sign with, "
                    "and only they can revoke",
                    "Have the certificate revoked there, and take the host out of the inventory",
                    "ipsec_revoke",
                )
            ]
        )
    authority.check_passphrase(passphrase)
    with nullcontext() if check else folder.locked():
        return _revoke(folder, passphrase, members, reason, validity, now, check=check)


def _revoke(
    folder: Folder,
    passphrase: str | None,
    members: Iterable[str],
    reason: str,
    validity: timedelta,
    now: datetime,
    *,
    check: bool,
) -> Revocation:
    history = folder.ledger.history()
    wanted = list(dict.fromkeys(members))
    by_member: dict[str, list[Issued]] = {member: [] for member in wanted}
    for entry in history.issued:
        if entry.member in by_member:
            by_member[entry.member].append(entry)
    unknown = [
        Problem(
            f"the ledger in {folder.path} has no certificate of it",
            "Check the inventory name. If the ledger was lost, run site.yml for this host: "
            "it records what the hosts have",
            "ipsec_revoke",
            member,
        )
        for member in wanted
        if not by_member[member]
    ]
    if unknown:
        raise ProblemsError(unknown)
    today = iso(now)
    # For each of the CAs that sign, a key that does not open is found out before anything is written.
    for slot in _slots(folder):
        if slot.has_key:
            folder.load_key(slot.name, passphrase or "")
    new = []
    for entries in by_member.values():
        concerned = [entry for entry in entries if entry.not_after > today] or entries[-1:]
        new += [
            Revoked(entry.serial, entry.issuer, entry.member, reason, today)
            for entry in concerned
            if not history.revocation(entry)
        ]
    # A ledger that says what no list can say would stop every run after this one.
    for slot in _slots(folder):
        if not may_sign_lists(slot.certificate) and _of(slot, History((), tuple(new))):
            raise ProblemsError([no_lists(slot.certificate)])
    if not check:
        folder.ledger.append(new)
    after = History(history.issued, (*history.revoked, *new))
    changed, crls = renew(folder, passphrase, after, validity, now, always=False, check=check)
    revoked = [entry for entries in by_member.values() for entry in entries if after.revocation(entry)]
    return Revocation(bool(new) or changed, tuple(revoked), crls)


def renew(
    folder: Folder,
    passphrase: str | None,
    history: History,
    validity: timedelta,
    now: datetime,
    *,
    always: bool,
    check: bool = False,
) -> tuple[bool, tuple[Crl, ...]]:
    """Have an up-to-date list of each CA that needs one; return whether one was issued, and the lists.

    A CA needs one if any certificate of it is revoked, if it had one before, or
    with *always*. A list is issued anew when it does not say what *history* does,
    or when half of its time is over. A CA that others sign with has none. For who
    holds the lock. Raises `ProblemsError` and OSError.
    """
    changed = False
    lists = []
    for slot in _slots(folder):
        file = slot_files(slot.name)["crl"]
        present = _load(folder.read(file), slot)
        due = _due(present, slot, history, validity, now, always=always)
        if due and slot.has_key and passphrase:
            changed = True
            if not check:
                key = folder.load_key(slot.name, passphrase)
                present = issue(slot, key, history, present, validity, now)
                write_atomically(os.path.join(folder.path, file), _pem(present), mode=0o644)
        if present is not None:
            lists.append(Crl(slot.name, _pem(present), _ends(present)))
    return changed, tuple(lists)


def issue(
    slot: Slot,
    key: keys.PrivateKey,
    history: History,
    previous: x509.CertificateRevocationList | None,
    validity: timedelta,
    now: datetime,
) -> x509.CertificateRevocationList:
    """Return a new list that follows on *previous*: what that had, and what *history* has."""
    ca = slot.certificate
    if not may_sign_lists(ca):
        raise ProblemsError([no_lists(ca)])
    starts = now - authority.BACKDATE
    number = int(now.timestamp())  # goes up even where the previous list was lost
    entries: dict[int, x509.RevokedCertificate] = {}
    if previous is not None:
        # NSS takes the list that is newer in both.
        starts = max(starts, previous.last_update_utc + timedelta(seconds=1))
        number = max(number, _number(previous) + 1)
        # A lost ledger makes no revoked certificate valid.
        entries = {each.serial_number: each for each in previous}
    for revoked in _of(slot, history):
        entries.setdefault(int(revoked.serial, 16), _entry(revoked))
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(ca.subject)
        .last_update(starts)
        .next_update(starts + validity)
        .add_extension(x509.CRLNumber(number), critical=False)
        .add_extension(authority.key_id_of(ca), critical=False)
    )
    for entry in entries.values():
        builder = builder.add_revoked_certificate(entry)
    return builder.sign(key, keys.hash_for(key))


def listed(folder: Folder, slot: Slot) -> dict[int, Revoked]:
    """Return what the present list of a CA says, by serial number; the members are not in it, and empty here."""
    present = _load(folder.read(slot_files(slot.name)["crl"]), slot)
    issuer = chain.fingerprint(slot.certificate)
    return {
        entry.serial_number: Revoked(
            f"{entry.serial_number:x}", issuer, "", _reason(entry), iso(entry.revocation_date_utc)
        )
        for entry in present or ()
    }


def may_sign_lists(ca: x509.Certificate) -> bool:
    """Return whether a CA may sign revocation lists, as far as its extensions say."""
    try:
        return ca.extensions.get_extension_for_class(x509.KeyUsage).value.crl_sign
    except x509.ExtensionNotFound:
        return True


def no_lists(ca: x509.Certificate) -> Problem:
    """Return what to say of a CA that may not sign revocation lists."""
    return Problem(
        f"the CA {ca.subject.rfc4514_string()} may not sign revocation lists (its key usages lack cRLSign)",
        "Use a CA that may; to change to one, run playbooks/rotate.yml with ipsec_rotate_ca=true",
        "ipsec_ca_certificate",
    )


def iso(time: datetime) -> str:
    """Return *time* (UTC) as the ledger has it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")


def _slots(folder: Folder) -> list[Slot]:
    return [slot for slot in (folder.slot(name) for name in SLOTS) if slot is not None]


def _of(slot: Slot, history: History) -> list[Revoked]:
    issuer = chain.fingerprint(slot.certificate)
    return [revoked for revoked in history.revoked if revoked.issuer == issuer]


def _entry(revoked: Revoked) -> x509.RevokedCertificate:
    date = datetime.strptime(revoked.revoked_at, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc)
    builder = x509.RevokedCertificateBuilder().serial_number(int(revoked.serial, 16)).revocation_date(date)
    if revoked.reason != "unspecified":  # RFC 5280: then it should be left out
        builder = builder.add_extension(x509.CRLReason(x509.ReasonFlags(revoked.reason)), critical=False)
    return builder.build()


def _reason(entry: x509.RevokedCertificate) -> str:
    try:
        return str(entry.extensions.get_extension_for_class(x509.CRLReason).value.reason.value)
    except x509.ExtensionNotFound:
        return "unspecified"


def _load(text: str | None, slot: Slot) -> x509.CertificateRevocationList | None:
    """Return the list in *text* if it is one that the CA signed."""
    if text is None:
        return None
    try:
        found = x509.load_pem_x509_crl(text.encode())
        valid = found.is_signature_valid(slot.certificate.public_key())  # type: ignore[arg-type]
        _ends(found)
    except Exception:  # whatever is wrong with it: it is issued anew
        return None
    return found if valid and found.issuer == slot.certificate.subject else None


def _due(
    present: x509.CertificateRevocationList | None,
    slot: Slot,
    history: History,
    validity: timedelta,
    now: datetime,
    *,
    always: bool,
) -> bool:
    serials = {int(revoked.serial, 16) for revoked in _of(slot, history)}
    if present is None:
        return always or bool(serials)
    lasts = _ends(present) - present.last_update_utc
    return (
        not serials <= {each.serial_number for each in present}
        or lasts != validity
        or now >= present.last_update_utc + lasts / 2
    )


def _ends(crl: x509.CertificateRevocationList) -> datetime:
    ends = crl.next_update_utc
    if ends is None:
        raise ValueError("it has no nextUpdate")
    return ends


def _number(crl: x509.CertificateRevocationList) -> int:
    try:
        return crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    except x509.ExtensionNotFound:
        return 0


def _pem(crl: x509.CertificateRevocationList) -> str:
    return crl.public_bytes(serialization.Encoding.PEM).decode("ascii")
