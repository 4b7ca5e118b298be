# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Chains of certificates: reading them from PEM, and following them up to the root."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

with suppress(ImportError):  # always there with ansible-core, but not where its sanity tests import this
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization

from ansible_collections.underlay.ipsec.plugins.module_utils._errors import Problem, ProblemsError

_BEGIN = re.compile(rb"-----BEGIN (?:X509 |TRUSTED )?CERTIFICATE-----")
_PURPOSES = frozenset(
    {
        "1.3.6.1.5.5.7.3.1",  # serverAuth
        "1.3.6.1.5.5.7.3.2",  # clientAuth
        "1.3.6.1.5.5.7.3.5",  # ipsecEndSystem
        "1.3.6.1.5.5.7.3.6",  # ipsecTunnel
        "1.3.6.1.5.5.7.3.7",  # ipsecUser
        "1.3.6.1.5.5.7.3.17",  # ipsecIKE
        "2.5.29.37.0",  # any
    }
)
_END = re.compile(rb"-----END (?:X509 |TRUSTED )?CERTIFICATE-----")


@dataclass(frozen=True)
class Path:
    """A certificate's issuers, as far as they are known."""

    issuers: tuple[x509.Certificate, ...]
    """The issuer of the certificate first."""
    missing: str | None
    """The name (RFC 4514) of the issuer that is not known; None if the last one is a root."""


def pem(certificate: x509.Certificate) -> str:
    """Return *certificate* in PEM."""
    return certificate.public_bytes(serialization.Encoding.PEM).decode("ascii")


def fingerprint(certificate: x509.Certificate) -> str:
    """Return the SHA-256 of *certificate*, hexadecimal in lower case."""
    return certificate.fingerprint(hashes.SHA256()).hex()


def when(time: datetime) -> str:
    """Return *time* (UTC) for a message."""
    return f"{time:%Y-%m-%d %H:%M} UTC"


def is_issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Return whether *issuer* is named in *certificate* and signed it."""
    try:
        certificate.verify_directly_issued_by(issuer)
    except Exception:  # an algorithm that is not supported is not an answer of yes
        return False
    return True


def follow(certificate: x509.Certificate, known: Iterable[x509.Certificate]) -> Path:
    """Return the path of *certificate* up to a root, by certificates that are *known*, in any order."""
    pool = list(known)
    issuers: list[x509.Certificate] = []
    last = certificate
    while not is_issued_by(last, last):
        above = next((each for each in pool if each not in issuers and is_issued_by(last, each)), None)
        if above is None:
            return Path(tuple(issuers), last.issuer.rfc4514_string())
        issuers.append(above)
        last = above
    return Path(tuple(issuers), None)


def read(data: bytes, path: str, variable: str | None, host: str | None = None) -> list[x509.Certificate]:
    """Return the certificates in *data* (PEM), each once; *path* is for the messages. Raises `ProblemsError`."""
    begun, ended = len(_BEGIN.findall(data)), len(_END.findall(data))
    if begun != ended:
        fault = "is truncated: a certificate in it begins and does not end"
    elif not begun:
        fault = "has no certificate in PEM"
    else:
        try:
            found = x509.load_pem_x509_certificates(data)
            for certificate in found:  # both are decoded only when they are asked for
                certificate.public_key()
                list(certificate.extensions)
            return list(dict.fromkeys(found))
        except (ValueError, x509.DuplicateExtension) as error:
            said = str(error).splitlines()[0].split(". See ")[0]
            fault = f"has a certificate that cannot be read: {said}"
        except Exception as error:  # keys of a kind that is not supported
            fault = f"has a certificate that cannot be read: {error}"
    raise ProblemsError([Problem(f"{path} {fault}", "Copy the file again, whole and in PEM", variable, host)])


def read_authorities(data: bytes, path: str, now: datetime) -> list[x509.Certificate]:
    """Return the CA that signs and its issuers up to the root, from *data* (PEM).

    The CA that signs is the first in *data*. Raises `ProblemsError` with all that
    keeps hosts from trusting what it signs.
    """
    variable = "ipsec_ca_certificate"
    first, *others = read(data, path, variable)
    up = follow(first, others)
    problems = []
    if up.missing is not None:
        problems.append(
            Problem(
                f"the chain in {path} is incomplete: the certificate of {up.missing} is missing",
                "Append the certificates of all issuers, up to the root",
                variable,
            )
        )
    chain = [first, *up.issuers]
    problems += [
        Problem(
            f"{path} has a certificate that is no issuer of the first: {other.subject.rfc4514_string()}",
            "Leave the CA that signs, as the first, and its issuers",
            variable,
        )
        for other in others
        if up.missing is None and other not in chain
    ]
    for below, certificate in enumerate(chain):
        problems += [
            Problem(f"{path}: {fault}", remedy, variable)
            for fault, remedy in [*faults_of_ca(certificate, below), *faults_of_time(certificate, now)]
        ]
    if problems:
        raise ProblemsError(problems)
    return chain


def faults_of_ca(certificate: x509.Certificate, below: int = 0) -> list[tuple[str, str]]:
    """Return what keeps *certificate* from being that of a CA with *below* other CAs under it: fault, remedy."""
    name = certificate.subject.rfc4514_string()
    if not may_sign(certificate):
        return [
            (
                f"{name} is not the certificate of a CA (its extensions do not let it sign certificates)",
                "Use a certificate with CA:TRUE, and with keyCertSign if it has key usages",
            )
        ]
    length = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length
    if length is not None and length < below:
        return [
            (
                f"{name} allows {length} CAs below it (pathlen), and there are {below}",
                "Use a chain that its root allows",
            )
        ]
    return []


def faults_of_time(certificate: x509.Certificate, now: datetime) -> list[tuple[str, str]]:
    """Return why *certificate* is not valid *now*: fault and remedy."""
    name = certificate.subject.rfc4514_string()
    starts, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now < starts:
        return [
            (
                f"the certificate of {name} is not valid before {when(starts)}, and it is {when(now)}",
                "Set the clock of the control node, or use one that is valid",
            )
        ]
    if now >= ends:
        return [
            (
                f"the certificate of {name} expired on {when(ends)}, and it is {when(now)}",
                "Use one that is valid",
            )
        ]
    return []


def faults_of_use(leaf: x509.Certificate) -> list[tuple[str, str]]:
    """Return why pluto takes *leaf* for nobody's who negotiates IPsec: fault and remedy."""
    extensions = {type(extension.value): extension.value for extension in leaf.extensions}
    usage = extensions.get(x509.KeyUsage)
    purposes = extensions.get(x509.ExtendedKeyUsage)
    if isinstance(usage, x509.KeyUsage) and not (usage.digital_signature or usage.content_commitment):
        return [("its certificate is not for signing (key usages)", "Use one with digitalSignature")]
    if isinstance(purposes, x509.ExtendedKeyUsage) and not _PURPOSES & {
        each.dotted_string for each in purposes
    }:
        return [
            (
                "its certificate is for other purposes (extended key usages)",
                "Use one with serverAuth, clientAuth or ipsecIKE, or without extended key usages",
            )
        ]
    return []


def may_sign(certificate: x509.Certificate) -> bool:
    """Return whether *certificate* is that of a CA, as far as its extensions say."""
    try:
        extensions = certificate.extensions
        if not extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
            return False
        return extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    except x509.ExtensionNotFound as missing:
        return missing.oid == x509.KeyUsage.oid
    except ValueError:
        return False


def names_of(certificate: x509.Certificate) -> tuple[frozenset[str], frozenset[str]]:
    """Return the DNS names (in lower case) and the addresses that *certificate* is for."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return frozenset(), frozenset()
    return (
        frozenset(name.lower() for name in names.get_values_for_type(x509.DNSName)),
        frozenset(str(address) for address in names.get_values_for_type(x509.IPAddress)),
    )


def faults_of_member(
    leaf: x509.Certificate,
    extra: Sequence[x509.Certificate],
    authorities: Sequence[x509.Certificate],
    names: Iterable[str],
    now: datetime,
) -> list[tuple[str, str]]:
    """Return what keeps a member from using *leaf*: fault and remedy.

    *extra* came with it, *authorities* are trusted, and *names* (DNS names and
    addresses) are what it has to be for.
    """
    if may_sign(leaf):
        return [("its certificate is that of a CA", "Use that of the host")]
    faults = faults_of_time(leaf, now) + faults_of_use(leaf)
    up = follow(leaf, [*authorities, *extra])
    if up.missing is not None:
        faults.append(
            (
                f"its chain is incomplete: the certificate of the issuer {up.missing} is missing",
                "If that is a CA to trust, add its certificate to ipsec_ca_certificate; "
                "if not, use a certificate from a CA that is there",
            )
        )
    elif not up.issuers:
        faults.append(("its certificate is signed by itself", "Use one that a CA has signed"))
    elif up.issuers[-1] not in authorities:
        faults.append(
            (
                f"its certificate comes from another CA: the root is {up.issuers[-1].subject.rfc4514_string()}",
                "Use a certificate from the CA in ipsec_ca_certificate",
            )
        )
    else:
        for below, issuer in enumerate(up.issuers):
            # Those that are trusted were checked, once for all members.
            if issuer not in authorities:
                faults += faults_of_ca(issuer, below) + faults_of_time(issuer, now) or [
                    (
                        f"its issuer {issuer.subject.rfc4514_string()} is in the bundle only",
                        "Add that certificate to ipsec_ca_certificate, below the CA that it issued: the other members need it too",
                    )
                ]
    dns, ip = names_of(leaf)
    lacking = sorted({name.lower() for name in names} - dns - ip)
    if lacking:
        has = ", ".join([*sorted(dns), *sorted(ip)]) or "no names"
        faults.append(
            (
                f"its certificate is for {has} (subject alternative names), and not for {', '.join(lacking)}",
                "Use one that has that name too",
            )
        )
    return faults
