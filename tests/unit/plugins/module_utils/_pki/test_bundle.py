# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A PKCS #12 bundle either serves its member, or one clear error says why not."""

from __future__ import annotations

import subprocess
from datetime import timedelta
from pathlib import Path
from shutil import which

import pytest
from ansible_collections.underlay.ipsec.plugins.module_utils._errors import ProblemsError
from ansible_collections.underlay.ipsec.plugins.module_utils._pki.bundle import Bundle, check_bundle
from ansible_collections.underlay.ipsec.tests.unit.plugins import pki
from ansible_collections.underlay.ipsec.tests.unit.plugins.module_utils._pki import cas
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

ROOT = cas.ca("root")
SUB = cas.ca("sub", ROOT)
OTHER = cas.ca("other")
LEAF = cas.member(SUB)
GOOD = cas.p12(LEAF, pki.key(1))


def check(
    data: bytes = GOOD,
    password: str | None = cas.PASSWORD,
    authorities: bytes = SUB.bundle,
    dns: tuple[str, ...] = ("h1",),
) -> Bundle:
    """Check a bundle of h1."""
    return check_bundle(data, password, authorities, frozenset(dns), pki.NOW, path="h1.p12", host="h1")


def test_facts() -> None:
    facts = check()
    assert facts.fingerprint == LEAF.fingerprint(hashes.SHA256()).hex()
    assert facts.key_type == "ecdsa-p384"
    assert facts.subject == "CN=h1,O=Example"
    assert facts.common_names == ("h1",)
    assert (facts.dns, facts.ip) == (("h1",), ("10.88.0.11",))
    assert facts.not_after == f"{pki.NOW + timedelta(days=365):%Y-%m-%dT%H:%M:%SZ}"
    assert facts.leaf_pem.encode() == cas.pem(LEAF)
    assert "".join(facts.chain_pems).encode() == SUB.bundle


@pytest.mark.parametrize(
    ("data", "password", "authorities"),
    [
        pytest.param(
            cas.p12(LEAF, pki.key(1), (SUB.certificate, *SUB.above)),
            cas.PASSWORD,
            SUB.bundle,
            id="chain in both",
        ),
        pytest.param(cas.p12(LEAF, pki.key(1), password=None), None, SUB.bundle, id="no password"),
        pytest.param(cas.p12(LEAF, pki.key(1), password=None), "", SUB.bundle, id="empty password"),
        pytest.param(
            cas.p12(cas.member(ROOT, private_key=pki.key(7, "rsa-3072")), pki.key(7, "rsa-3072")),
            cas.PASSWORD,
            ROOT.bundle,
            id="RSA, by the root",
        ),
    ],
)
def test_bundles_that_serve(data: bytes, password: str | None, authorities: bytes) -> None:
    assert check(data, password, authorities).subject == "CN=h1,O=Example"


@pytest.mark.skipif(not which("openssl"), reason="needs openssl")
@pytest.mark.parametrize("options", [(), ("-legacy",), ("-descert",)])
def test_bundles_of_openssl(tmp_path: Path, options: tuple[str, ...]) -> None:
    key = pki.key(1).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (tmp_path / "key.pem").write_bytes(key)
    (tmp_path / "leaf.pem").write_bytes(cas.pem(LEAF))
    command = ["openssl", "pkcs12", "-export", "-inkey", "key.pem", "-in", "leaf.pem", "-out", "h1.p12"]
    done = subprocess.run(
        [*command, "-passout", "pass:word", *options], cwd=tmp_path, capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip("this openssl cannot make such a bundle")
    assert check((tmp_path / "h1.p12").read_bytes(), "word").key_type == "ecdsa-p384"


WEAK_RSA = rsa.generate_private_key(public_exponent=65537, key_size=1024)
ODD_CURVE = ec.generate_private_key(ec.SECP256K1())
ED25519 = ed25519.Ed25519PrivateKey.generate()


@pytest.mark.parametrize(
    ("data", "said", "variable"),
    [
        pytest.param(b"", "is no PKCS #12 bundle, or is truncated", "ipsec_pkcs12", id="empty"),
        pytest.param(GOOD[:-1], "is no PKCS #12 bundle, or is truncated", "ipsec_pkcs12", id="truncated"),
        pytest.param(GOOD[:300], "is no PKCS #12 bundle, or is truncated", "ipsec_pkcs12", id="cut"),
        pytest.param(b"\x30\x80", "is no PKCS #12 bundle, or is truncated", "ipsec_pkcs12", id="begun"),
        pytest.param(cas.pem(LEAF), "is PEM, not PKCS #12", "ipsec_pkcs12", id="PEM"),
        pytest.param(
            cas.p12(LEAF, pki.key(1), password="another"),
            "cannot be decrypted with this password",
            "ipsec_pkcs12_password",
            id="wrong password",
        ),
        pytest.param(cas.p12(LEAF), "has no private key", "ipsec_pkcs12", id="no key"),
        pytest.param(cas.p12(None, pki.key(1)), "has no certificate", "ipsec_pkcs12", id="no certificate"),
        pytest.param(
            cas.p12(None, pki.key(2), (LEAF,)),
            "has a private key that does not belong to its certificate (CN=h1,O=Example)",
            "ipsec_pkcs12",
            id="key does not match",
        ),
        pytest.param(
            cas.p12(cas.member(SUB, ends=pki.NOW), pki.key(1)), "expired on", "ipsec_pkcs12", id="expired"
        ),
        pytest.param(
            cas.p12(cas.member(SUB, starts=pki.NOW + pki.DAY), pki.key(1)),
            "is not valid before",
            "ipsec_pkcs12",
            id="not yet valid",
        ),
        pytest.param(
            cas.p12(cas.member(SUB, dns=("h2",)), pki.key(1)),
            "is for h2, 10.88.0.11 (subject alternative names), and not for h1",
            "ipsec_pkcs12",
            id="wrong SAN",
        ),
        pytest.param(
            cas.p12(cas.member(OTHER), pki.key(1), (OTHER.certificate,)),
            "comes from another CA: the root is CN=other,O=Example",
            "ipsec_pkcs12",
            id="wrong CA",
        ),
        pytest.param(
            cas.p12(cas.member(cas.ca("third", ROOT)), pki.key(1)),
            "its chain is incomplete: the certificate of the issuer CN=third,O=Example is missing",
            "ipsec_pkcs12",
            id="chain incomplete",
        ),
        pytest.param(
            cas.p12(cas.member(cas.ca("leaf", ROOT, is_ca=False)), pki.key(1),
                    (cas.ca("leaf", ROOT, is_ca=False).certificate,)),
            "CN=leaf,O=Example is not the certificate of a CA",
            "ipsec_pkcs12",
            id="issued by what is no CA",
        ),
        pytest.param(
            cas.p12(cas.ca("h1", SUB).certificate, cas.ca("h1", SUB).authority.key),
            "its certificate is that of a CA",
            "ipsec_pkcs12",
            id="a CA",
        ),
        pytest.param(
            cas.p12(cas.member(SUB, extension=cas.KEY_ENCIPHERMENT), pki.key(1)),
            "is not for signing",
            "ipsec_pkcs12",
            id="key usage",
        ),
        pytest.param(
            cas.p12(cas.member(SUB, extension=cas.CODE_SIGNING), pki.key(1)),
            "is for other purposes",
            "ipsec_pkcs12",
            id="purpose",
        ),
        pytest.param(
            cas.p12(cas.member(SUB, private_key=WEAK_RSA), WEAK_RSA),
            "its RSA key has only 1024 bits",
            "ipsec_pkcs12",
            id="weak key",
        ),
        pytest.param(
            cas.p12(cas.member(SUB, private_key=ODD_CURVE), ODD_CURVE),
            "its key is on the curve secp256k1",
            "ipsec_pkcs12",
            id="curve",
        ),
        pytest.param(
            cas.p12(cas.member(SUB, private_key=ED25519), ED25519),  # type: ignore[arg-type]
            "neither ECDSA nor RSA",
            "ipsec_pkcs12",
            id="kind of key",
        ),
    ],
)  # fmt: skip
def test_refused(data: bytes, said: str, variable: str) -> None:
    with pytest.raises(ProblemsError) as caught:
        check(data)
    (problem,) = caught.value.problems
    assert said in problem.message
    assert (problem.variable, problem.host) == (variable, "h1")
    assert problem.message.startswith("h1.p12")


def test_an_intermediate_that_only_the_bundle_has_is_refused() -> None:
    with pytest.raises(ProblemsError) as caught:
        check(cas.p12(LEAF, pki.key(1), (SUB.certificate,)), authorities=ROOT.bundle)
    (problem,) = caught.value.problems
    assert problem.message == "h1.p12: its issuer CN=sub,O=Example is in the bundle only"
    assert "ipsec_ca_certificate" in problem.remedy


def test_purposes_that_serve() -> None:
    check(cas.p12(cas.member(SUB, extension=cas.IPSEC_IKE), pki.key(1)))


def test_password_missing() -> None:
    with pytest.raises(ProblemsError, match=r"h1.p12 needs a password"):
        check(password=None)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "has no certificate in PEM"),
        (SUB.bundle[:-40], "is truncated"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "cannot be read"),
    ],
)
def test_authorities(data: bytes, said: str) -> None:
    with pytest.raises(ProblemsError, match=said) as caught:
        check(authorities=data)
    assert caught.value.problems[0].variable == "ipsec_ca_certificate"


def test_all_that_is_wrong_at_once() -> None:
    with pytest.raises(ProblemsError) as caught:
        check(cas.p12(cas.member(OTHER, dns=("h2",), ends=pki.NOW), pki.key(1)))
    assert len(caught.value.problems) == 3
