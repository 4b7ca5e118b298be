# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Signing: a member gets a certificate for the names that the plan gives it, and for no others."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Container, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

with suppress(ImportError):  # always there with ansible-core, but not where its sanity tests import this
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization
    from cryptography.x509.oid import ExtendedKeyUsageOID

from ansible_collections.underlay.ipsec.plugins.module_utils._errors import Problem, ProblemsError
from ansible_collections.underlay.ipsec.plugins.module_utils._pki import chain, keys, serials
from ansible_collections.underlay.ipsec.plugins.module_utils._pki.authority import (
    BACKDATE,
    Authority,
    key_id_of,
    key_usage,
)
from ansible_collections.underlay.ipsec.plugins.module_utils._pki.folder import SLOTS, Folder
from ansible_collections.underlay.ipsec.plugins.module_utils._pki.ledger import History, Issued, Revoked
from ansible_collections.underlay.ipsec.plugins.module_utils._pki.revocation import iso, listed

_PEM = re.compile(
    r"-----BEGIN (?P<label>(?:NEW )?CERTIFICATE REQUEST)-----(?P<body>.+?)-----END (?P=label)-----", re.DOTALL
)
_AGAIN = "Delete underlay-request.json in the host's NSS directory, and run again"


@dataclass(frozen=True)
class Entitlement:
    """What one member may have certified, by the plan."""

    member: str
    common_name: str
    organization: str
    dns: frozenset[str]
    ip: frozenset[str]
    key_type: str
    validity: timedelta
    renew_before: timedelta

    @classmethod
    def from_slice(cls, member: str, certificate: Mapping[str, Any]) -> Entitlement:
        """Return what the ``certificate`` of *member*'s slice of the plan entitles it to."""
        return cls(
            member=member,
            common_name=certificate["subject"]["CN"],
            organization=certificate["subject"]["O"],
            dns=frozenset(name.lower() for name in certificate["dns"]),
            ip=frozenset(str(ipaddress.ip_address(text)) for text in certificate["ip"]),
            key_type=certificate["key_type"],
            validity=timedelta(days=certificate["validity_days"]),
            renew_before=timedelta(days=certificate["renew_before_days"]),
        )


@dataclass(frozen=True)
class Request:
    """A request that asks for what its member is entitled to, and nothing else."""

    entitlement: Entitlement
    csr: x509.CertificateSigningRequest
    public_key: bytes
    """DER; for comparison."""


def sign(
    folder: Folder,
    passphrase: str | None,
    requests: Mapping[str, str],
    entitlements: Mapping[str, Entitlement],
    now: datetime,
    reinstate: Container[str] = (),
) -> list[str]:
    """Sign the *requests* (PEM by member); return the members that got a new certificate.

    The certificates are in the folder's ``issued``. If anything is wrong with any
    request, `ProblemsError` names all that is wrong, and none is signed. A member
    whose request was signed by an interrupted run keeps that certificate. One whose
    certificate was revoked gets a new one only if *reinstate* has it.
    """
    with folder.locked():
        authority = folder.open(passphrase, now)
        history = folder.ledger.history()  # nothing is signed over a damaged ledger
        issuer = authority.fingerprint
        present = {member: _read(folder.issued(member)) for member in requests}
        revoked = {**history.excluded(), **_revoked(folder, present)}
        refused = [
            _refusal(member, how)
            for member, how in revoked.items()
            if member in requests and member not in reinstate
        ]
        due = [
            request
            for request in accept(requests, entitlements, refused)
            for member in [request.entitlement.member]
            if member in revoked or not _serves(present[member], request, authority, now)
        ]
        numbers = _serials(folder, history, len(due))
        issued = {
            request.entitlement.member: issue(authority, request, number, now)
            for request, number in zip(due, numbers)
        }
        folder.ledger.append(_entry(member, issuer, leaf, now) for member, leaf in issued.items())
        for member, leaf in issued.items():
            _write(folder.issued(member), leaf)
    return sorted(issued)


def record(folder: Folder, reported: Mapping[str, str], now: datetime) -> list[str]:
    """Have what hosts *reported* (PEM by member) in the ledger, if a CA of the folder issued it.

    Returns the members whose certificate was missing there, as all are after the
    ledger was lost. Raises `ProblemsError` and OSError.
    """
    leaves = {member: leaf for member, pem in reported.items() if (leaf := _parsed(pem.encode()))}
    if not leaves:
        return []
    with folder.locked():
        known = {entry.fingerprint for entry in folder.ledger.read()}
        slots = [slot for slot in map(folder.slot, SLOTS) if slot]
        missing = {
            member: _entry(member, chain.fingerprint(slot.certificate), leaf, now)
            for member, leaf in leaves.items()
            if chain.fingerprint(leaf) not in known
            for slot in slots
            if chain.is_issued_by(leaf, slot.certificate)
        }
        again = _revoked(folder, {member: leaves[member] for member in missing})
        folder.ledger.append([*missing.values(), *again.values()], found=True)
    return sorted(missing)


def _revoked(folder: Folder, leaves: Mapping[str, x509.Certificate | None]) -> dict[str, Revoked]:
    """Return which of *leaves* are on their CA's list, which outlives the ledger."""
    found: dict[str, Revoked] = {}
    for slot in filter(None, map(folder.slot, SLOTS)):
        serials_listed = listed(folder, slot)
        for member, leaf in leaves.items():
            if leaf and leaf.serial_number in serials_listed and leaf.issuer == slot.certificate.subject:
                found[member] = replace(serials_listed[leaf.serial_number], member=member)
    return found


def _refusal(member: str, how: Revoked) -> Problem:
    return Problem(
        f"its certificate was revoked at {how.revoked_at} ({how.reason})",
        "If it may have a new one, add it to ipsec_reinstate; if not, take it out of the inventory",
        "ipsec_reinstate",
        member,
    )


def _serials(folder: Folder, history: History, count: int) -> list[int]:
    """Return serial numbers that no certificate in the ledger has."""
    used = {int(entry.serial, 16) for entry in history.issued}
    slot = folder.slot("ca")
    if slot and slot.serial_file:
        return serials.take(slot.serial_file, count, used)
    numbers: list[int] = []
    while len(numbers) < count:
        number = x509.random_serial_number()
        if number not in used:
            numbers.append(number)
    return numbers


def issue(authority: Authority, request: Request, serial: int, now: datetime) -> x509.Certificate:
    """Return a certificate for an accepted *request*, valid no longer than the CA."""
    ca = authority.certificate
    names = request.entitlement
    ends = min(now + names.validity, ca.not_valid_after_utc)
    starts = max(now - BACKDATE, ca.not_valid_before_utc)
    alternative: list[x509.GeneralName] = [x509.DNSName(name) for name in sorted(names.dns)]
    alternative += [x509.IPAddress(ipaddress.ip_address(address)) for address in sorted(names.ip)]
    usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    return (
        x509.CertificateBuilder()
        .subject_name(request.csr.subject)
        .issuer_name(ca.subject)
        .public_key(request.csr.public_key())
        .serial_number(serial)
        .not_valid_before(starts)
        .not_valid_after(ends)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(key_usage("digital_signature"), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .add_extension(x509.SubjectAlternativeName(alternative), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(request.csr.public_key()), critical=False)
        .add_extension(key_id_of(ca), critical=False)
        .sign(authority.key, keys.hash_for(authority.key))
    )


def accept(
    requests: Mapping[str, str], entitlements: Mapping[str, Entitlement], refused: Iterable[Problem]
) -> list[Request]:
    """Return the requests (PEM by member) that ask for what their member is entitled to.

    Raises `ProblemsError` with all that is wrong with the others, after what was *refused* before.
    """
    accepted: list[Request] = []
    problems = list(refused)
    for member, pem in requests.items():
        try:
            accepted.append(check_request(pem, entitlements[member]))
        except ProblemsError as error:
            problems.extend(error.problems)
    problems.extend(_shared_keys(accepted))
    if problems:
        raise ProblemsError(problems)
    return accepted


def check_request(pem: str, names: Entitlement) -> Request:
    """Return the request in *pem* if it asks for what *names* says, exactly; raise `ProblemsError` if not."""
    csr = _load(pem, names.member)
    problems = []
    if not _signed_by_itself(csr):
        problems.append(
            Problem("the signature of the certificate request is wrong", _AGAIN, host=names.member)
        )
    for what, found, allowed in (
        ("subject", _subject(csr), _allowed_subject(names)),
        ("names", _alternative_names(csr), _listed(names.dns, names.ip)),
        ("key", keys.describe(csr.public_key()), names.key_type),
    ):
        if found != allowed:
            problems.append(
                Problem(
                    f"the certificate request has the {what} {found}, and the plan says {allowed}",
                    _AGAIN,
                    host=names.member,
                )
            )
    if problems:
        raise ProblemsError(problems)
    public_key = csr.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return Request(names, csr, public_key)


def _load(pem: str, member: str) -> x509.CertificateSigningRequest:
    match = _PEM.search(pem)
    try:
        if match is None:
            raise ValueError("no complete PEM block")
        csr = x509.load_pem_x509_csr(match[0].encode())
        csr.public_key()  # both are decoded only when they are asked for
        list(csr.extensions)
    except (ValueError, x509.DuplicateExtension) as error:
        said = str(error).splitlines()[0].split(". See ")[0]
        raise ProblemsError(
            [Problem(f"the certificate request cannot be read: {said}", _AGAIN, host=member)]
        ) from None
    return csr


def _signed_by_itself(csr: x509.CertificateSigningRequest) -> bool:
    try:
        return csr.is_signature_valid
    except Exception:  # an algorithm that is not supported is not an answer of yes
        return False


def _subject(csr: x509.CertificateSigningRequest) -> str:
    return ", ".join(sorted(attribute.rfc4514_string() for attribute in csr.subject))


def _allowed_subject(names: Entitlement) -> str:
    attributes = (
        x509.NameAttribute(x509.NameOID.COMMON_NAME, names.common_name),
        x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, names.organization),
    )
    return ", ".join(sorted(attribute.rfc4514_string() for attribute in attributes))


def _alternative_names(request: x509.CertificateSigningRequest | x509.Certificate) -> str:
    try:
        names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return "(none)"
    return _listed(
        {str(name.value).lower() for name in names if isinstance(name, x509.DNSName)},
        {str(name.value) for name in names if isinstance(name, x509.IPAddress)},
        {type(name).__name__ for name in names if not isinstance(name, (x509.DNSName, x509.IPAddress))},
    )


def _listed(dns: Iterable[str], ip: Iterable[str], other: Iterable[str] = ()) -> str:
    return ", ".join(
        [
            *(f"dns:{name}" for name in sorted(dns)),
            *(f"ip:{address}" for address in sorted(ip)),
            *sorted(other),
        ]
    )


def _shared_keys(accepted: Iterable[Request]) -> list[Problem]:
    """Return a problem for each member that has the key of another one, as cloned machines do."""
    owners: dict[bytes, str] = {}
    problems = []
    for request in accepted:
        member = request.entitlement.member
        owner = owners.setdefault(request.public_key, member)
        if owner != member:
            problems.append(
                Problem(
                    f"it has the private key of {owner}, as a machine that was cloned",
                    "Empty its NSS directory (by default /var/lib/ipsec/nss), and run again",
                    host=member,
                )
            )
    return problems


def _serves(leaf: x509.Certificate | None, request: Request, authority: Authority, now: datetime) -> bool:
    """Return whether *leaf* is what *request* would get, so that it need not be signed again."""
    if leaf is None or public_key(leaf) != request.public_key:
        return False
    with suppress(Exception):  # whatever is wrong with its signature
        leaf.verify_directly_issued_by(authority.certificate)
        ends = leaf.not_valid_after_utc
        due = (
            ends - request.entitlement.renew_before <= now
            and ends < authority.certificate.not_valid_after_utc
        )
        return (
            leaf.subject == request.csr.subject
            and _alternative_names(leaf) == _listed(request.entitlement.dns, request.entitlement.ip)
            and leaf.not_valid_before_utc <= now < ends
            and not due
        )
    return False


def public_key(leaf: x509.Certificate) -> bytes:
    """Return the key of a certificate as `Request` has it."""
    return leaf.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def _entry(member: str, issuer: str, leaf: x509.Certificate, now: datetime) -> Issued:
    return Issued(
        serial=f"{leaf.serial_number:x}",
        member=member,
        subject=leaf.subject.rfc4514_string(),
        names=tuple(_alternative_names(leaf).split(", ")),
        not_before=iso(leaf.not_valid_before_utc),
        not_after=iso(leaf.not_valid_after_utc),
        fingerprint=chain.fingerprint(leaf),
        issuer=issuer,
        issued_at=iso(now),
    )


def _read(path: str) -> x509.Certificate | None:
    try:
        with open(path, "rb") as file:
            return _parsed(file.read())
    except FileNotFoundError:
        return None


def _parsed(pem: bytes) -> x509.Certificate | None:
    try:
        return x509.load_pem_x509_certificate(pem)
    except ValueError:
        return None


def _write(path: str, leaf: x509.Certificate) -> None:
    # Not synced: one that a crash takes is signed anew, and the ledger has both.
    temporary = f"{path}.new"
    with open(temporary, "wb") as file:
        file.write(leaf.public_bytes(serialization.Encoding.PEM))
    os.replace(temporary, path)
