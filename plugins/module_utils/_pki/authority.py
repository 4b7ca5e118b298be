# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The certificate authority itself: its key, its certificate, and what makes them fit."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

with suppress(ImportError):  # always there with ansible-core, but not where its sanity tests import this
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

from ansible_collections.underlay.ipsec.plugins.module_utils._errors import Problem, ProblemsError
from ansible_collections.underlay.ipsec.plugins.module_utils._pki import chain, keys

BACKDATE = timedelta(hours=1)
"""How far before its issue a certificate is valid, for hosts whose clock is slow."""

_BEGIN_CERTIFICATE = re.compile(rb"-----BEGIN (?:X509 |TRUSTED )?CERTIFICATE-----")
_MAX_PASSPHRASE_BYTES = 1023


@dataclass(frozen=True)
class Authority:
    """A certificate authority that can sign."""

    certificate: x509.Certificate
    key: keys.PrivateKey

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the certificate, hexadecimal in lower case."""
        return self.certificate.fingerprint(hashes.SHA256()).hex()

    @property
    def pem(self) -> str:
        """The certificate in PEM."""
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode("ascii")

    @property
    def subject(self) -> str:
        """The subject as text (RFC 4514)."""
        return self.certificate.subject.rfc4514_string()


def warnings(certificate: x509.Certificate, now: datetime, validity_days: int) -> list[str]:
    """Return what a user should know about a CA that serves, but not for *validity_days* more."""
    ends = certificate.not_valid_after_utc
    if ends >= now + timedelta(days=validity_days):
        return []
    return [
        f"The CA expires on {ends:%Y-%m-%d}, sooner than certificates issued now for {validity_days} days "
        "would: they end with it. Change to a new CA: run playbooks/rotate.yml with ipsec_rotate_ca=true."
    ]


def certify(key: keys.PrivateKey, validity_days: int, now: datetime) -> Authority:
    """Return a self-signed CA for *key*.

    The subject follows from the key: two CAs never share one (NSS files by
    subject), and the same key gets the same again.
    """
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    name = x509.Name(
        [
            x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, "underlay.ipsec"),
            x509.NameAttribute(x509.NameOID.COMMON_NAME, f"underlay.ipsec CA {identifier.digest.hex()[:12]}"),
        ]
    )
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATE)
        .not_valid_after(now + timedelta(days=validity_days))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(key_usage("key_cert_sign", "crl_sign"), critical=True)
        .add_extension(identifier, critical=False)
        .sign(key, keys.hash_for(key))
    )
    return Authority(certificate, key)


def key_usage(*uses: str) -> x509.KeyUsage:
    """Return the KeyUsage extension with *uses*, named as the cryptography library names them."""
    every = (
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
        "encipher_only",
        "decipher_only",
    )
    return x509.KeyUsage(**{use: use in uses for use in every})


def key_id_of(ca: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    """Return how what *ca* signs refers to its key."""
    try:
        identifier = ca.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    except x509.ExtensionNotFound:  # an adopted CA
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(ca.public_key())  # type: ignore[arg-type]
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)


def check_passphrase(passphrase: str | None) -> None:
    """Raise `ProblemsError` if *passphrase* cannot protect a key."""
    if not passphrase:
        raise ProblemsError(
            [
                Problem(
                    "the passphrase of the CA's key is missing",
                    "Set it, from a vault or an environment variable of the control node",
                    "ipsec_ca_passphrase",
                )
            ]
        )
    if len(passphrase.encode()) > _MAX_PASSPHRASE_BYTES:
        raise ProblemsError(
            [
                Problem(
                    f"the passphrase is longer than {_MAX_PASSPHRASE_BYTES} bytes",
                    "Choose a shorter one",
                    "ipsec_ca_passphrase",
                )
            ]
        )


def encrypt(key: keys.PrivateKey, passphrase: str) -> str:
    """Return *key* in PEM (PKCS #8), encrypted."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(passphrase.encode()),
    ).decode("ascii")


def load_key(pem: bytes, passphrase: str, path: str) -> keys.PrivateKey:
    """Return the key in *pem*; *path* is for the messages. Raises `ProblemsError`."""
    try:
        key = serialization.load_pem_private_key(pem, passphrase.encode())
    except TypeError:
        message = f"{path} is not encrypted"
        remedy = f"Encrypt it: openssl pkcs8 -topk8 -v2 aes256 -in {path} -out new.key, and move that over it"
        raise ProblemsError([Problem(message, remedy, "ipsec_ca_dir")]) from None
    except (ValueError, UnsupportedAlgorithm) as error:
        if b"-----BEGIN" not in pem or b"-----END" not in pem:
            problem = Problem(f"{path} is not a whole PEM file", "Restore it from a backup", "ipsec_ca_dir")
        elif b"ENCRYPTED" in pem:
            problem = Problem(
                f"{path} cannot be decrypted with this passphrase",
                "Give the passphrase that it was created with; if that is right, restore the file from a backup",
                "ipsec_ca_passphrase",
            )
        else:
            problem = Problem(f"{path} cannot be read: {error}", "Restore it from a backup", "ipsec_ca_dir")
        raise ProblemsError([problem]) from None
    return _supported(key, path, "ipsec_ca_dir")


def load_given_key(pem: bytes, passphrase: str | None, path: str) -> keys.PrivateKey:
    """Return the key in *pem* that a user gives; *path* is for the messages. Raises `ProblemsError`.

    The *passphrase* is that of the file, and of no consequence if it is not encrypted.
    """
    encrypted = b"ENCRYPTED" in pem
    try:
        key = serialization.load_pem_private_key(pem, (passphrase or "").encode() if encrypted else None)
    except (TypeError, ValueError, UnsupportedAlgorithm) as error:
        if b"-----BEGIN" not in pem or b"-----END" not in pem:
            problem = Problem(
                f"{path} is not a whole key in PEM", "Copy the file again, whole and in PEM", "ipsec_ca_key"
            )
        elif encrypted and not passphrase:
            problem = Problem(
                f"{path} is encrypted, and its passphrase is not set",
                "Set it, from a vault",
                "ipsec_ca_key_passphrase",
            )
        elif encrypted:
            problem = Problem(
                f"{path} cannot be decrypted with this passphrase",
                "Give the one that the file was encrypted with; if that is right, copy the file again",
                "ipsec_ca_key_passphrase",
            )
        else:
            said = str(error).splitlines()[0].split(". See ")[0]
            problem = Problem(
                f"{path} cannot be read: {said}", "Give the file with the CA's key", "ipsec_ca_key"
            )
        raise ProblemsError([problem]) from None
    return _supported(key, path, "ipsec_ca_key")


def _supported(key: object, path: str, variable: str) -> keys.PrivateKey:
    if not isinstance(key, (ec.EllipticCurvePrivateKey, rsa.RSAPrivateKey)):
        raise ProblemsError(
            [
                Problem(
                    f"{path} is neither an ECDSA nor an RSA key",
                    "Use a CA with a key of one of these",
                    variable,
                )
            ]
        )
    return key


def load_certificate(pem: bytes, path: str) -> x509.Certificate:
    """Return the certificate in *pem*; *path* is for the messages. Raises `ProblemsError`."""
    if len(_BEGIN_CERTIFICATE.findall(pem)) > 1:
        raise ProblemsError(
            [
                Problem(
                    f"{path} holds more than one certificate",
                    "Leave only that of the CA that signs",
                    "ipsec_ca_dir",
                )
            ]
        )
    try:
        return x509.load_pem_x509_certificate(pem)
    except ValueError as error:
        said = str(error).splitlines()[0].split(". See ")[0]
        raise ProblemsError(
            [
                Problem(
                    f"{path} is not a certificate in PEM: {said}", "Restore it from a backup", "ipsec_ca_dir"
                )
            ]
        ) from None


def check(authority: Authority, path: str, now: datetime) -> None:
    """Raise `ProblemsError` with all that keeps *authority* from signing; *path* is its certificate's."""
    certificate = authority.certificate
    problems = []
    if certificate.public_key() != authority.key.public_key():
        problems.append(
            Problem(
                f"{path} does not belong to the key beside it",
                "Put the matching pair into the folder",
                "ipsec_ca_dir",
            )
        )
    if not chain.may_sign(certificate):
        problems.append(
            Problem(
                f"{path} is not the certificate of a CA (its extensions do not let it sign certificates)",
                "Use a certificate with CA:TRUE, and with keyCertSign if it has key usages",
                "ipsec_ca_dir",
            )
        )
    starts, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now < starts:
        problems.append(
            Problem(
                f"{path} is not valid before {starts:%Y-%m-%d %H:%M} UTC, and it is {now:%Y-%m-%d %H:%M}",
                "Set the clock of the control node",
            )
        )
    if now >= ends:
        problems.append(
            Problem(
                f"{path} expired on {ends:%Y-%m-%d %H:%M} UTC, and it is {now:%Y-%m-%d %H:%M}",
                "If the control node's clock is right, change to a new CA: "
                "playbooks/rotate.yml with ipsec_rotate_ca=true",
                "ipsec_ca_dir",
            )
        )
    if problems:
        raise ProblemsError(problems)
