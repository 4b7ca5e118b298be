# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A member's PKCS #12 bundle: its key, its certificate, and the CAs that came with them."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

with suppress(ImportError):  # always there with ansible-core, but not where its sanity tests import this
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec, rsa
    from cryptography.hazmat.primitives.serialization import pkcs12

from ansible_collections.underlay.ipsec.plugins.module_utils._errors import Problem, ProblemsError
from ansible_collections.underlay.ipsec.plugins.module_utils._pki import chain, keys

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

VARIABLE = "ipsec_pkcs12"
PASSWORD_VARIABLE = "ipsec_pkcs12_password"
_MIN_RSA_BITS = 2048
_CURVES = ("secp256r1", "secp384r1", "secp521r1")


@dataclass(frozen=True)
class Contents:
    """What a bundle holds, as it is."""

    key: keys.PrivateKey
    leaf: x509.Certificate
    extra: tuple[x509.Certificate, ...]


@dataclass(frozen=True)
class Bundle:
    """What is known of a bundle that serves its member. Nothing of it is secret."""

    fingerprint: str
    """SHA-256 of the certificate, hexadecimal in lower case."""
    not_after: str
    """UTC, ISO 8601."""
    key_type: str
    """``ecdsa-p384``, ``rsa-3072`` and so on."""
    subject: str
    """RFC 4514."""
    common_names: tuple[str, ...]
    dns: tuple[str, ...]
    ip: tuple[str, ...]
    leaf_pem: str
    chain_pems: tuple[str, ...]
    """The issuers, that of the certificate first, the root last."""


def read_bundle(data: bytes, password: str | None, *, path: str, host: str) -> Contents:
    """Return what is in *data* (PKCS #12, DER); *path* and *host* are for the messages.

    Raises `ProblemsError` if there is not one key and the certificate that belongs to it.
    """

    def refused(message: str, remedy: str, variable: str = VARIABLE) -> ProblemsError:
        return ProblemsError([Problem(f"{path} {message}", remedy, variable, host)])

    if data.lstrip().startswith(b"-----BEGIN"):
        raise refused("is PEM, not PKCS #12", "Make a bundle of it: openssl pkcs12 -export")
    if not _is_whole(data):
        raise refused("is no PKCS #12 bundle, or is truncated", "Copy the file again, as binary")
    try:
        key, leaf, extra = _load(data, password)
    except UnsupportedAlgorithm as error:
        raise refused(
            f"is encrypted in a way that is not supported: {error}",
            "Make it anew with AES: openssl pkcs12 -export -keypbe AES-256-CBC -certpbe AES-256-CBC",
        ) from None
    except Exception:  # the library tells a wrong password and damage apart by words only, if at all
        raise refused(
            "cannot be decrypted with this password" if password else "needs a password",
            f"Set {PASSWORD_VARIABLE}, or ipsec_pkcs12_password_file, to the one that it was made with; "
            "if that is right, copy the bundle again",
            PASSWORD_VARIABLE,
        ) from None
    if key is None:
        raise refused("has no private key", "Make it anew with the key: openssl pkcs12 -export -inkey")
    if not isinstance(key, (ec.EllipticCurvePrivateKey, rsa.RSAPrivateKey)):
        raise refused("has a key that is neither ECDSA nor RSA", "Use a key of one of these")
    certificates = [certificate for certificate in (leaf, *extra) if certificate is not None]
    if not certificates:
        raise refused("has no certificate", "Make it anew with the certificate that belongs to the key")
    mine = [each for each in certificates if each.public_key() == key.public_key()]
    if not mine:
        raise refused(
            f"has a private key that does not belong to its certificate ({certificates[0].subject.rfc4514_string()})",
            "Make it anew from a matching pair",
        )
    return Contents(key, mine[0], tuple(each for each in certificates if each != mine[0]))


def check_bundle(
    data: bytes,
    password: str | None,
    authorities_pem: bytes,
    dns: frozenset[str],
    now: datetime,
    *,
    path: str,
    host: str,
) -> Bundle:
    """Return the facts of a bundle that serves *host*; raise `ProblemsError` with all that is wrong.

    *authorities_pem* are the CAs that are trusted, *dns* the names that the
    certificate has to be for.
    """
    contents = read_bundle(data, password, path=path, host=host)
    authorities = chain.read(authorities_pem, "the file", "ipsec_ca_certificate")
    leaf = contents.leaf
    faults = chain.faults_of_member(leaf, contents.extra, authorities, dns, now)
    weakness = weak(leaf.public_key())
    if weakness:
        faults.append((weakness, "Use a key of RSA-2048 or more, or ECDSA P-256, P-384 or P-521"))
    if faults:
        raise ProblemsError([Problem(f"{path}: {fault}", remedy, VARIABLE, host) for fault, remedy in faults])
    names, addresses = chain.names_of(leaf)
    return Bundle(
        fingerprint=chain.fingerprint(leaf),
        not_after=f"{leaf.not_valid_after_utc:%Y-%m-%dT%H:%M:%SZ}",
        key_type=keys.describe(leaf.public_key()),
        subject=leaf.subject.rfc4514_string(),
        common_names=tuple(
            str(attribute.value)
            for attribute in leaf.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
        ),
        dns=tuple(sorted(names)),
        ip=tuple(sorted(addresses)),
        leaf_pem=chain.pem(leaf),
        chain_pems=tuple(chain.pem(issuer) for issuer in chain.follow(leaf, authorities).issuers),
    )


def weak(key: PublicKeyTypes) -> str | None:
    """Return why *key* is too weak, or of a kind that libreswan has no use for; None if it serves."""
    if isinstance(key, rsa.RSAPublicKey):
        return f"its RSA key has only {key.key_size} bits" if key.key_size < _MIN_RSA_BITS else None
    if isinstance(key, ec.EllipticCurvePublicKey):
        return None if key.curve.name in _CURVES else f"its key is on the curve {key.curve.name}"
    return "its key is neither ECDSA nor RSA"


def _load(
    data: bytes, password: str | None
) -> tuple[object, x509.Certificate | None, list[x509.Certificate]]:
    if password:
        return pkcs12.load_key_and_certificates(data, password.encode())
    try:
        return pkcs12.load_key_and_certificates(data, None)
    except ValueError:  # no password and an empty one are not the same in PKCS #12
        return pkcs12.load_key_and_certificates(data, b"")


def _is_whole(data: bytes) -> bool:
    """Return whether *data* is a DER (or BER) sequence that ends where it says."""
    if len(data) < 2 or data[0] != 0x30:
        return False
    if data[1] < 0x80:
        return len(data) == 2 + data[1]
    count = data[1] & 0x7F
    if not count:  # BER of indefinite length ends with two zeros
        return data.endswith(b"\0\0")
    return len(data) == 2 + count + int.from_bytes(data[2 : 2 + count], "big")
