# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Certificates of all sorts, for the tests of the CA and of NSS."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible_collections.underlay.ipsec.plugins.module_utils._nss.x509 import (
    Certificate,
    RevocationList,
    certificate_from_pem,
    revocation_list_from_pem,
)
from ansible_collections.underlay.ipsec.plugins.module_utils._pki.authority import Authority, certify
from ansible_collections.underlay.ipsec.plugins.module_utils._pki.keys import generate
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

if TYPE_CHECKING:
    from ansible_collections.underlay.ipsec.plugins.module_utils._pki.keys import PrivateKey

NOW = datetime.now(UTC).replace(microsecond=0)
DAY = timedelta(days=1)
PASSPHRASE = "correct horse battery staple"


@cache
def key(number: int = 0, key_type: str = "ecdsa-p384") -> PrivateKey:
    """Return the same key for the same arguments, because making one takes time."""
    del number
    return generate(key_type)


@cache
def authority(number: int = 0, validity_days: int = 3650) -> Authority:
    """Return a CA; another one for another number."""
    return certify(key(1000 + number), validity_days, NOW)


def slice_certificate(member: str = "h1", **changes: Any) -> dict[str, Any]:
    """Return the ``certificate`` of a member's slice of the plan."""
    number = int(member.removeprefix("h"))
    return {
        "nickname": f"underlay-{member}",
        "subject": {"CN": member, "O": "underlay.ipsec"},
        "dns": [member],
        "ip": [f"10.88.0.{10 + number}"],
        "key_type": "ecdsa-p384",
        "validity_days": 1825,
        "renew_before_days": 183,
        **changes,
    }


def name(common_name: str, unit: str | None = None, organization: str = "underlay.ipsec") -> x509.Name:
    """Return a distinguished name."""
    attributes = [
        x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, organization),
        x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name),
    ]
    if unit is not None:
        attributes.insert(1, x509.NameAttribute(x509.NameOID.ORGANIZATIONAL_UNIT_NAME, unit))
    return x509.Name(attributes)


def alternative_names(dns: Sequence[str], ip: Sequence[str], uri: Sequence[str] = ()) -> x509.GeneralNames:
    """Return subject alternative names."""
    names: list[x509.GeneralName] = [x509.DNSName(text) for text in dns]
    names += [x509.IPAddress(ipaddress.ip_address(text)) for text in ip]
    names += [x509.UniformResourceIdentifier(text) for text in uri]
    return x509.GeneralNames(names)


def request(
    subject: x509.Name | None = None,
    names: x509.GeneralNames | None = None,
    private_key: PrivateKey | None = None,
) -> str:
    """Return a certificate request in PEM, by default that of h1."""
    signer = private_key or key()
    builder = x509.CertificateSigningRequestBuilder().subject_name(name("h1") if subject is None else subject)
    builder = builder.add_extension(
        x509.SubjectAlternativeName(names or alternative_names(["h1"], ["10.88.0.11"])), critical=False
    )
    return builder.sign(signer, hashes.SHA384()).public_bytes(serialization.Encoding.PEM).decode()


def certificate_of(
    subject: x509.Name,
    owner: PrivateKey,
    issuer: x509.Certificate | None,
    starts: datetime,
    ends: datetime,
) -> x509.CertificateBuilder:
    """Return the beginning of a certificate; without *issuer* that of a root."""
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.subject if issuer else subject)
        .public_key(owner.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(starts)
        .not_valid_after(ends)
    )


def waiting_hosts(plan_dir: Path, count: int) -> dict[str, Any]:
    """Write the plan's slices for h1, h2 and so on; return what each of them answers that wants a certificate."""
    (plan_dir / "hosts").mkdir(parents=True)
    answers: dict[str, Any] = {}
    for number in range(1, count + 1):
        member = f"h{number}"
        plan = {"certificate": slice_certificate(member)}
        (plan_dir / "hosts" / f"{member}.json").write_text(json.dumps(plan))
        names = alternative_names([member], [f"10.88.0.{10 + number}"])
        answers[member] = {"state": "requested", "csr": request(name(member), names, key(number))}
    return answers


def leaf(
    subject: x509.Name | None = None,
    names: x509.GeneralNames | None = None,
    private_key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | None = None,
    issuer: Authority | None = None,
    starts: datetime = NOW - DAY,
    ends: datetime = NOW + 1825 * DAY,
) -> Certificate:
    """Return a certificate as a host reads it, by default one that serves for h1."""
    ca = issuer or authority()
    owner = private_key or key()
    identifier = x509.SubjectKeyIdentifier.from_public_key(ca.key.public_key())
    certificate = (
        certificate_of(subject or name("h1"), owner, ca.certificate, starts, ends)
        .add_extension(
            x509.SubjectAlternativeName(names or alternative_names(["h1"], ["10.88.0.11"])), critical=False
        )
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False
        )
        .sign(ca.key, hashes.SHA384())
    )
    return certificate_from_pem(certificate.public_bytes(serialization.Encoding.PEM).decode())


def as_host_sees(ca: Authority) -> Certificate:
    """Return the CA's certificate as a host reads it."""
    return certificate_from_pem(ca.pem)


@cache
def root() -> Authority:
    """Return a CA that may issue CAs, which `authority` may not."""
    return _certified(name("root"), key(2000), None)


@cache
def intermediate() -> Authority:
    """Return a CA that `root` issued."""
    return _certified(name("intermediate"), key(2001), root())


def _certified(subject: x509.Name, own: PrivateKey, issuer: Authority | None) -> Authority:
    certificate = (
        certificate_of(subject, own, issuer.certificate if issuer else None, NOW - DAY, NOW + 3000 * DAY)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(own.public_key()), critical=False)
        .sign(issuer.key if issuer else own, hashes.SHA384())
    )
    return Authority(certificate, own)


def revocation_list(
    issuer: Authority | None = None,
    revoked: Sequence[int] = (),
    starts: datetime = NOW - DAY,
    days: float = 90,
) -> RevocationList:
    """Return a revocation list as a host reads it."""
    ca = issuer or authority()
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(ca.certificate.subject)
        .last_update(starts)
        .next_update(starts + days * DAY)
        .add_extension(x509.CRLNumber(1), critical=False)
    )
    for serial in revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(starts)
        builder = builder.add_revoked_certificate(entry.build())
    crl = builder.sign(ca.key, hashes.SHA384())
    return revocation_list_from_pem(crl.public_bytes(serialization.Encoding.PEM).decode())
