# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""CAs and certificates of other people, for the tests of what is adopted and imported."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING

from ansible_collections.underlay.ipsec.plugins.module_utils._pki.authority import Authority
from ansible_collections.underlay.ipsec.tests.unit.plugins import pki
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509.oid import ExtendedKeyUsageOID

if TYPE_CHECKING:
    from ansible_collections.underlay.ipsec.plugins.module_utils._pki.keys import PrivateKey

PASSWORD = "pässword"
KEY_ENCIPHERMENT = x509.KeyUsage(False, False, True, False, False, False, False, False, False)
CODE_SIGNING = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING])
IPSEC_IKE = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.IPSEC_IKE])


@dataclass(frozen=True)
class Ca:
    """A CA, and those above it."""

    authority: Authority
    above: tuple[x509.Certificate, ...] = ()

    @property
    def certificate(self) -> x509.Certificate:
        """The certificate."""
        return self.authority.certificate

    @property
    def bundle(self) -> bytes:
        """The CA and its issuers in PEM."""
        return pem(self.certificate, *self.above)


def pem(*certificates: x509.Certificate) -> bytes:
    """Return *certificates* in PEM."""
    return b"".join(each.public_bytes(serialization.Encoding.PEM) for each in certificates)


@cache
def ca(
    common_name: str,
    issuer: Ca | None = None,
    *,
    starts: datetime = pki.NOW - pki.DAY,
    ends: datetime = pki.NOW + 3650 * pki.DAY,
    is_ca: bool = True,
    length: int | None = None,
    usage: bool = False,
) -> Ca:
    """Return a CA with the key that belongs to its name; without *issuer* a root.

    With *usage* it has key usages, to sign certificates only.
    """
    key = pki.key(hash(common_name), "ecdsa-p256")
    subject = pki.name(common_name, organization="Example")
    signer = issuer.authority.key if issuer else key
    builder = pki.certificate_of(
        subject, key, issuer.certificate if issuer else None, starts, ends
    ).add_extension(x509.BasicConstraints(is_ca, length if is_ca else None), critical=True)
    if usage:
        uses = x509.KeyUsage(False, False, False, False, False, True, False, False, False)
        builder = builder.add_extension(uses, critical=True)
    above = (issuer.certificate, *issuer.above) if issuer else ()
    return Ca(Authority(builder.sign(signer, hashes.SHA256()), key), above)


def member(
    issuer: Ca,
    name: str = "h1",
    *,
    dns: tuple[str, ...] | None = None,
    private_key: PrivateKey | None = None,
    starts: datetime = pki.NOW - pki.DAY,
    ends: datetime = pki.NOW + 365 * pki.DAY,
    extension: x509.ExtensionType | None = None,
) -> x509.Certificate:
    """Return a member's certificate, by default with the key `pki.key` of its number."""
    number = int(name.removeprefix("h"))
    names = pki.alternative_names([name] if dns is None else dns, [f"10.88.0.{10 + number}"])
    subject, owner = pki.name(name, organization="Example"), private_key or pki.key(number)
    builder = pki.certificate_of(subject, owner, issuer.certificate, starts, ends).add_extension(
        x509.SubjectAlternativeName(names), critical=False
    )
    if extension:
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(issuer.authority.key, hashes.SHA256())


def p12(
    leaf: x509.Certificate | None,
    private_key: PrivateKey | None = None,
    extra: tuple[x509.Certificate, ...] = (),
    password: str | None = PASSWORD,
) -> bytes:
    """Return a PKCS #12 bundle."""
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if password:
        encryption = serialization.BestAvailableEncryption(password.encode())
    return pkcs12.serialize_key_and_certificates(b"some name", private_key, leaf, extra or None, encryption)
