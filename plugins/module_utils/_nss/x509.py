# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Certificates, requests and revocation lists as a host reads them, with the standard library only."""

from __future__ import annotations

import base64
import binascii
import hashlib
import ipaddress
import re
from dataclasses import dataclass
from datetime import datetime

from ansible_collections.underlay.ipsec.plugins.module_utils._errors import IpsecError
from ansible_collections.underlay.ipsec.plugins.module_utils._nss import der

ATTRIBUTES = {
    "2.5.4.3": "CN",
    "2.5.4.5": "serialNumber",
    "2.5.4.6": "C",
    "2.5.4.7": "L",
    "2.5.4.8": "ST",
    "2.5.4.10": "O",
    "2.5.4.11": "OU",
    "0.9.2342.19200300.100.1.25": "DC",
    "1.2.840.113549.1.9.1": "emailAddress",
}
"""The attributes of a name: OID → what it is called (RFC 4519)."""
_CURVES = {
    "1.2.840.10045.3.1.7": "ecdsa-p256",
    "1.3.132.0.34": "ecdsa-p384",
    "1.3.132.0.35": "ecdsa-p521",
}
_EC_KEY = "1.2.840.10045.2.1"
_RSA_KEY = "1.2.840.113549.1.1.1"
_EXTENSION_REQUEST = "1.2.840.113549.1.9.14"
_SUBJECT_KEY_ID = "2.5.29.14"
_SUBJECT_ALT_NAME = "2.5.29.17"
_AUTHORITY_KEY_ID = "2.5.29.35"

_PEM = re.compile(r"-----BEGIN (?P<label>[A-Z0-9 ]+)-----(?P<body>.*?)-----END (?P=label)-----", re.DOTALL)


class CertificateError(IpsecError):
    """A certificate, request or revocation list that cannot be read."""


@dataclass(frozen=True)
class Names:
    """The subject alternative names: all of them, in one form that can be compared."""

    dns: frozenset[str] = frozenset()
    ip: frozenset[str] = frozenset()
    other: int = 0
    """How many names of any other type there are."""

    @classmethod
    def of(cls, dns: list[str], ip: list[str]) -> Names:
        """Return the names that *dns* and *ip* (as text) stand for."""
        addresses = frozenset(str(ipaddress.ip_address(text)) for text in ip)
        return cls(frozenset(name.lower() for name in dns), addresses)

    def include(self, others: Names) -> bool:
        """Return whether all of the DNS names and addresses of *others* are among these."""
        return others.dns <= self.dns and others.ip <= self.ip

    def as_list(self) -> list[str]:
        """Return the names as ``dns:…`` and ``ip:…``, sorted."""
        return [
            *(f"dns:{name}" for name in sorted(self.dns)),
            *(f"ip:{address}" for address in sorted(self.ip)),
            *(["(names of other types)"] if self.other else []),
        ]


@dataclass(frozen=True)
class PublicKey:
    """A public key, and how NSS calls the private key that belongs to it."""

    key_type: str
    """``ecdsa-p384``, ``rsa-3072`` and so on."""
    key_id: str
    """The CKA_ID (hexadecimal) that NSS derives from it and ``certutil -K`` lists."""


@dataclass(frozen=True)
class Request:
    """A certificate signing request (PKCS #10)."""

    encoded: bytes
    subject: dict[str, str]
    public_key: PublicKey
    names: Names

    @property
    def pem(self) -> str:
        """The request in PEM."""
        return _to_pem("CERTIFICATE REQUEST", self.encoded)


@dataclass(frozen=True)
class Certificate:
    """An X.509 certificate. Times are in UTC."""

    encoded: bytes
    serial: int
    issuer_name: bytes
    subject_name: bytes
    subject: dict[str, str]
    not_before: datetime
    not_after: datetime
    public_key: PublicKey
    names: Names
    subject_key_id: bytes | None
    authority_key_id: bytes | None

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the certificate, hexadecimal in lower case."""
        return hashlib.sha256(self.encoded).hexdigest()

    @property
    def pem(self) -> str:
        """The certificate in PEM."""
        return _to_pem("CERTIFICATE", self.encoded)

    @property
    def is_root(self) -> bool:
        """Whether it says that it issued itself."""
        return self.issuer_name == self.subject_name

    def names_as_issuer(self, authority: Certificate) -> bool:
        """Return whether this certificate says that *authority* issued it; NSS checks the signature."""
        if self.issuer_name != authority.subject_name:
            return False
        return (
            None in (self.authority_key_id, authority.subject_key_id)
            or self.authority_key_id == authority.subject_key_id
        )


@dataclass(frozen=True)
class RevocationList:
    """A certificate revocation list (CRL). Times are in UTC."""

    encoded: bytes
    issuer_name: bytes
    this_update: datetime
    next_update: datetime | None
    revoked: frozenset[int]
    """The serial numbers that it revokes."""

    @property
    def pem(self) -> str:
        """The list in PEM."""
        return _to_pem("X509 CRL", self.encoded)


def certificate_from_pem(text: str) -> Certificate:
    """Return the one certificate that *text* holds; raise `CertificateError` if it is not exactly one."""
    found = certificates_from_pem(text)
    if len(found) != 1:
        raise CertificateError(f"expected one certificate in PEM, found {len(found)}")
    return found[0]


def certificates_from_pem(text: str) -> tuple[Certificate, ...]:
    """Return all certificates in *text*, in their order."""
    return tuple(certificate_from_der(body) for body in _from_pem(text, "CERTIFICATE"))


def request_from_pem(text: str) -> Request:
    """Return the one request that *text* holds, whatever else is written around it."""
    found = _from_pem(text, "CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST")
    if len(found) != 1:
        raise CertificateError(f"expected one certificate request in PEM, found {len(found)}")
    return request_from_der(found[0])


def revocation_list_from_pem(text: str) -> RevocationList:
    """Return the one revocation list that *text* holds; raise `CertificateError` if it is not exactly one."""
    found = _from_pem(text, "X509 CRL")
    if len(found) != 1:
        raise CertificateError(f"expected one revocation list in PEM, found {len(found)}")
    return revocation_list_from_der(found[0])


def certificate_from_der(data: bytes) -> Certificate:
    """Return the certificate that *data* is; raise `CertificateError` if it is none."""
    try:
        body, _algorithm, _signature = der.read(data).expect(der.SEQUENCE).children()
        fields = list(body.expect(der.SEQUENCE).children())
        if fields[0].tag == 0xA0:  # version 1 leaves it out
            del fields[0]
        serial, _algorithm, issuer, validity, subject, key, *rest = fields
        not_before, not_after = validity.expect(der.SEQUENCE).children()
        extensions: dict[str, bytes] = {}
        for field in rest:
            if field.tag == 0xA3:
                extensions = _extensions(field.children()[0])
        return Certificate(
            encoded=data,
            serial=serial.integer(),
            issuer_name=issuer.encoded,
            subject_name=subject.encoded,
            subject=_subject(subject),
            not_before=not_before.time(),
            not_after=not_after.time(),
            public_key=_public_key(key),
            names=_names(extensions),
            subject_key_id=_subject_key_id(extensions),
            authority_key_id=_authority_key_id(extensions),
        )
    except (der.DerError, ValueError, IndexError) as error:
        raise CertificateError(f"the certificate cannot be read: {error}") from error


def request_from_der(data: bytes) -> Request:
    """Return the request that *data* is; raise `CertificateError` if it is none."""
    try:
        body, _algorithm, _signature = der.read(data).expect(der.SEQUENCE).children()
        _version, subject, key, *attributes = body.expect(der.SEQUENCE).children()
        extensions: dict[str, bytes] = {}
        for attribute in attributes[0].children() if attributes else ():
            kind, values = attribute.expect(der.SEQUENCE).children()
            if kind.oid() == _EXTENSION_REQUEST:
                extensions = _extensions(values.expect(der.SET).children()[0])
        return Request(
            encoded=data, subject=_subject(subject), public_key=_public_key(key), names=_names(extensions)
        )
    except (der.DerError, ValueError, IndexError) as error:
        raise CertificateError(f"the certificate request cannot be read: {error}") from error


def rfc1485(subject: dict[str, str]) -> str:
    """Return *subject* in the notation of RFC 1485, which certutil takes."""
    return ",".join(f"{key}={_quoted(value)}" for key, value in subject.items())


def revocation_list_from_der(data: bytes) -> RevocationList:
    """Return the revocation list that *data* is; raise `CertificateError` if it is none."""
    try:
        body, _algorithm, _signature = der.read(data).expect(der.SEQUENCE).children()
        fields = list(body.expect(der.SEQUENCE).children())
        if fields[0].tag == der.INTEGER:  # version 1 leaves it out
            del fields[0]
        _algorithm, issuer, this_update, *rest = fields
        next_update = None
        if rest and rest[0].tag in (der.UTC_TIME, der.GENERALIZED_TIME):
            next_update = rest.pop(0).time()
        # Without a revoked certificate there is no list of them either.
        entries = rest[0].children() if rest and rest[0].tag == der.SEQUENCE else ()
        return RevocationList(
            encoded=data,
            issuer_name=issuer.expect(der.SEQUENCE).encoded,
            this_update=this_update.time(),
            next_update=next_update,
            revoked=frozenset(entry.expect(der.SEQUENCE).children()[0].integer() for entry in entries),
        )
    except (der.DerError, ValueError, IndexError) as error:
        raise CertificateError(f"the revocation list cannot be read: {error}") from error


def _quoted(value: str) -> str:
    if re.fullmatch(r"[A-Za-z0-9._:/-]+", value):
        return value
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _from_pem(text: str, *labels: str) -> list[bytes]:
    found = []
    for match in _PEM.finditer(text):
        if match["label"] in labels:
            try:
                found.append(base64.b64decode("".join(match["body"].split()), validate=True))
            except binascii.Error as error:
                raise CertificateError("the PEM is damaged: its contents are not base64") from error
    return found


def _to_pem(label: str, data: bytes) -> str:
    body = base64.b64encode(data).decode("ascii")
    lines = [body[start : start + 64] for start in range(0, len(body), 64)]
    return "\n".join([f"-----BEGIN {label}-----", *lines, f"-----END {label}-----", ""])


def _subject(name: der.Element) -> dict[str, str]:
    """Return the attributes; two of one type are joined, so that they equal no single one."""
    subject: dict[str, str] = {}
    for relative in name.expect(der.SEQUENCE).children():
        for attribute in relative.expect(der.SET).children():
            kind, value = attribute.expect(der.SEQUENCE).children()
            key = ATTRIBUTES.get(kind.oid(), kind.oid())
            subject[key] = f"{subject[key]} + {value.text()}" if key in subject else value.text()
    return subject


def _public_key(info: der.Element) -> PublicKey:
    algorithm, bits = info.expect(der.SEQUENCE).children()
    kind, *parameters = algorithm.expect(der.SEQUENCE).children()
    if kind.oid() == _EC_KEY:
        curve = parameters[0].oid()
        # NSS: CKA_ID is the SHA-1 of the point (EC) or of the modulus (RSA).
        return PublicKey(_CURVES.get(curve, f"ecdsa ({curve})"), _sha1(bits.bits()))
    if kind.oid() == _RSA_KEY:
        modulus, _exponent = der.read(bits.bits()).expect(der.SEQUENCE).children()
        number = modulus.integer()
        size = number.bit_length()
        return PublicKey(f"rsa-{size}", _sha1(number.to_bytes((size + 7) // 8, "big")))
    return PublicKey(f"unknown ({kind.oid()})", _sha1(bits.bits()))


def _sha1(data: bytes) -> str:
    return hashlib.sha1(data, usedforsecurity=False).hexdigest()


def _extensions(listed: der.Element) -> dict[str, bytes]:
    extensions: dict[str, bytes] = {}
    for extension in listed.expect(der.SEQUENCE).children():
        kind, *_critical, value = extension.expect(der.SEQUENCE).children()
        if kind.oid() in extensions:
            raise der.DerError(f"extension {kind.oid()} is there twice")
        extensions[kind.oid()] = value.expect(der.OCTET_STRING).value
    return extensions


def _names(extensions: dict[str, bytes]) -> Names:
    if _SUBJECT_ALT_NAME not in extensions:
        return Names()
    dns: list[str] = []
    ip: list[str] = []
    other = 0
    for name in der.read(extensions[_SUBJECT_ALT_NAME]).expect(der.SEQUENCE).children():
        if name.tag == 0x82:
            dns.append(name.value.decode("ascii"))
        elif name.tag == 0x87:
            ip.append(str(ipaddress.ip_address(name.value)))
        else:
            other += 1
    return Names(frozenset(text.lower() for text in dns), frozenset(ip), other)


def _subject_key_id(extensions: dict[str, bytes]) -> bytes | None:
    encoded = extensions.get(_SUBJECT_KEY_ID)
    return None if encoded is None else der.read(encoded).expect(der.OCTET_STRING).value


def _authority_key_id(extensions: dict[str, bytes]) -> bytes | None:
    encoded = extensions.get(_AUTHORITY_KEY_ID)
    if encoded is None:
        return None
    for part in der.read(encoded).expect(der.SEQUENCE).children():
        if part.tag == 0x80:
            return part.value
    return None
