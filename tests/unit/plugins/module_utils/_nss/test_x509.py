# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host reads in a certificate what the cryptography library wrote into it."""

from __future__ import annotations

import hashlib

import pytest
from ansible_collections.underlay.ipsec.plugins.module_utils._nss.x509 import (
    CertificateError,
    Names,
    certificate_from_der,
    certificate_from_pem,
    certificates_from_pem,
    request_from_pem,
    revocation_list_from_der,
    revocation_list_from_pem,
    rfc1485,
)
from ansible_collections.underlay.ipsec.plugins.module_utils._pki.keys import KEY_TYPES
from ansible_collections.underlay.ipsec.tests.unit.plugins import pki
from cryptography.hazmat.primitives.asymmetric import ec


def test_fields() -> None:
    certificate = pki.leaf(
        subject=pki.name("h1", "gen2"),
        names=pki.alternative_names(["H1.example", "h1"], ["10.88.0.11", "fd00::1"], ["urn:x"]),
        ends=pki.NOW + 3 * pki.DAY,
    )
    assert certificate.subject == {"O": "underlay.ipsec", "OU": "gen2", "CN": "h1"}
    assert certificate.names == Names(
        frozenset({"h1", "h1.example"}), frozenset({"10.88.0.11", "fd00::1"}), other=1
    )
    assert (certificate.not_before, certificate.not_after) == (pki.NOW - pki.DAY, pki.NOW + 3 * pki.DAY)
    assert certificate.fingerprint == hashlib.sha256(certificate.encoded).hexdigest()
    assert certificate_from_pem(certificate.pem) == certificate
    assert certificate.names_as_issuer(pki.as_host_sees(pki.authority()))
    assert not certificate.names_as_issuer(pki.as_host_sees(pki.authority(1)))


def test_the_ca() -> None:
    ca = pki.authority()
    certificate = pki.as_host_sees(ca)
    assert certificate.fingerprint == ca.fingerprint
    assert certificate.serial == ca.certificate.serial_number
    assert certificate.issuer_name == certificate.subject_name == ca.certificate.subject.public_bytes()
    assert certificate.names == Names()
    assert certificate.names_as_issuer(certificate)


@pytest.mark.parametrize("key_type", KEY_TYPES)
def test_key_types(key_type: str) -> None:
    assert pki.leaf(private_key=pki.key(key_type=key_type)).public_key.key_type == key_type


@pytest.mark.parametrize(
    ("curve", "said"), [(ec.SECP521R1(), "ecdsa-p521"), (ec.SECP256K1(), "ecdsa (1.3.132.0.10)")]
)
def test_other_curves_have_a_name_too(curve: ec.EllipticCurve, said: str) -> None:
    certificate = pki.leaf(private_key=ec.generate_private_key(curve))
    assert certificate.public_key.key_type == said


def test_request() -> None:
    text = pki.request(pki.name("h2", "gen3"), pki.alternative_names(["h2"], ["fd00::2"]))
    found = request_from_pem(f"chatter\n{text}chatter")
    assert found.subject == {"O": "underlay.ipsec", "OU": "gen3", "CN": "h2"}
    assert found.names == Names.of(["h2"], ["FD00:0::2"])
    assert found.public_key == pki.leaf().public_key
    assert found.pem == text


def test_several_in_one_text() -> None:
    first, second = pki.leaf(), pki.leaf()
    assert certificates_from_pem(first.pem + "\n" + second.pem) == (first, second)
    assert certificates_from_pem("") == ()


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param(pki.leaf().pem[:300], id="truncated"),
        pytest.param(pki.leaf().pem + pki.leaf().pem, id="two"),
        pytest.param(pki.request(), id="a request"),
        pytest.param("-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----", id="not base64"),
        pytest.param("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----", id="not a certificate"),
    ],
)
def test_not_one_certificate(text: str) -> None:
    with pytest.raises(CertificateError):
        certificate_from_pem(text)


def test_each_truncation_is_noticed() -> None:
    encoded = pki.leaf().encoded
    for length in range(len(encoded)):
        with pytest.raises(CertificateError):
            certificate_from_der(encoded[:length])


def test_no_damage_raises_anything_else() -> None:
    encoded = pki.leaf().encoded
    for place in range(len(encoded)):
        damaged = bytearray(encoded)
        damaged[place] ^= 0x41
        try:
            certificate_from_der(bytes(damaged))
        except CertificateError:
            continue


@pytest.mark.parametrize(
    ("subject", "text"),
    [
        ({"CN": "h1.example.org", "O": "underlay.ipsec"}, "CN=h1.example.org,O=underlay.ipsec"),
        ({"CN": "h1", "O": 'A, "B" \\ C'}, 'CN=h1,O="A, \\"B\\" \\\\ C"'),
    ],
)
def test_rfc1485(subject: dict[str, str], text: str) -> None:
    assert rfc1485(subject) == text


def test_revocation_list() -> None:
    crl = pki.revocation_list(revoked=[1, 2**150], days=30)
    assert crl.issuer_name == pki.authority().certificate.subject.public_bytes()
    assert (crl.this_update, crl.next_update) == (pki.NOW - pki.DAY, pki.NOW + 29 * pki.DAY)
    assert crl.revoked == {1, 2**150}
    assert revocation_list_from_pem(crl.pem) == crl
    assert pki.revocation_list().revoked == frozenset()


@pytest.mark.parametrize("text", ["", pki.leaf().pem, pki.revocation_list().pem * 2])
def test_not_one_revocation_list(text: str) -> None:
    with pytest.raises(CertificateError):
        revocation_list_from_pem(text)


def test_each_truncation_of_a_revocation_list_is_noticed() -> None:
    encoded = pki.revocation_list(revoked=[7]).encoded
    for length in range(len(encoded)):
        with pytest.raises(CertificateError):
            revocation_list_from_der(encoded[:length])


def test_who_issued_itself() -> None:
    assert pki.as_host_sees(pki.root()).is_root
    assert not pki.as_host_sees(pki.intermediate()).is_root
