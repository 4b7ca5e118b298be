# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where certificates come from: one fault at a time, and what the plan says of them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible_collections.underlay.ipsec.plugins.module_utils._errors import Problem, ProblemsError
from ansible_collections.underlay.ipsec.plugins.module_utils._model.cluster import Host, Unreadable
from ansible_collections.underlay.ipsec.plugins.module_utils._plan.build import Plan, make_plan, problem_text
from ansible_collections.underlay.ipsec.plugins.module_utils._plan.certificates import read_file
from ansible_collections.underlay.ipsec.tests.unit.plugins import pki
from ansible_collections.underlay.ipsec.tests.unit.plugins.module_utils._pki import cas
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import pkcs12

from .test_build import MESH_PSK, SPECS, facts, host

ROOT = cas.ca("root")
SUB = cas.ca("sub", ROOT)
OTHER = cas.ca("other")
P12 = {"ipsec_ca_passphrase": None, "ipsec_certificate_source": "pkcs12", "ipsec_ca_certificate": "/p/ca.pem"}
EXTERNAL = {**P12, "ipsec_certificate_source": "external"}


def bundle(number: int, **changes: Any) -> bytes:
    return cas.p12(cas.member(SUB, f"h{number}", **changes), changes.get("private_key") or pki.key(number))


FILES = {
    "/p/ca.pem": SUB.bundle,
    "/p/half.pem": SUB.bundle[:500],
    "/p/sub-only.pem": cas.pem(SUB.certificate),
    "/p/ca.key": b"",
    **{f"/p/h{number}.p12": bundle(number) for number in (1, 2, 3)},
    "/p/other.p12": cas.p12(cas.member(OTHER, "h2"), pki.key(2)),
    "/p/expired.p12": bundle(2, starts=pki.NOW - 9 * pki.DAY, ends=pki.NOW - pki.DAY),
    "/p/shared.p12": bundle(1, dns=("h1", "h2")),
    "/p/rsa.p12": bundle(2, private_key=pki.key(2, "rsa-3072")),
    "/p/p256.p12": bundle(2, private_key=pki.key(2, "ecdsa-p256")),
    "/p/password": cas.PASSWORD.encode() + b"\n",
    "/p/binary": b"\xff\xfe",
}


def read(path: str) -> bytes:
    if path == "/p/secret":
        raise PermissionError(13, "Permission denied", path)
    if path not in FILES:
        raise FileNotFoundError(2, "No such file or directory", path)
    return FILES[path]


def own(number: int) -> dict[str, Any]:
    """Return the variables of one host with a bundle."""
    return {"ipsec_pkcs12": f"/p/h{number}.p12", "ipsec_pkcs12_password": cas.PASSWORD}


def cluster(variables: dict[str, Any] | None = None, second: dict[str, Any] | None = None) -> list[Host]:
    """Return two hosts with *variables*; *second* are those of the second one."""
    return [host(1, {**(variables or {})}), host(2, {**(variables or {}), **(second or {})})]


def members(second: dict[str, Any] | None = None) -> list[Host]:
    """Return two hosts with bundles; *second* are other variables of the second one."""
    return [host(1, {**P12, **own(1)}), host(2, {**P12, **own(2), **(second or {})})]


def plan(hosts: list[Host], **options: Any) -> Plan:
    return make_plan(hosts, "ipsec", SPECS, read=read, now=pki.NOW, **options)


def faults(hosts: list[Host], **options: Any) -> list[Problem]:
    with pytest.raises(ProblemsError) as caught:
        plan(hosts, **options)
    return list(caught.value.problems)


# variables of all hosts → the beginning of the only problem
WRONG_FOR_ALL: list[tuple[dict[str, Any], str]] = [
    (
        {"ipsec_certificate_source": "vault"},
        "ipsec_certificate_source: 'vault' is not one of its values. Set it to ca or",
    ),
    (
        {"ipsec_ca_key": "/p/ca.key"},
        "ipsec_ca_certificate: it is not set, and ipsec_ca_key is. Set it to a file",
    ),
    (
        {"ipsec_ca_certificate": "/p/ca.pem"},
        "ipsec_ca_key: it is not set, and ipsec_ca_certificate is. Set it to the file with that CA's key; remove",
    ),
    (
        {"ipsec_ca_certificate": "/p/ca.pem", "ipsec_ca_key": "/p/gone"},
        "ipsec_ca_key: there is no file /p/gone on the controller. Correct the path, or put the file there; if the CA has been",
    ),
    (
        {"ipsec_ca_certificate": "/p/ca.pem", "ipsec_ca_key": "/p/secret"},
        "ipsec_ca_key: /p/secret on the controller cannot be read: Permission denied. Correct the path",
    ),
    (
        {"ipsec_ca_certificate": "/p/ca.pem", "ipsec_ca_key": "/p/ca.key", "ipsec_ca_serial": "/p/gone"},
        "ipsec_ca_serial: there is no file /p/gone on the controller. Correct the path",
    ),
    (
        {"ipsec_ca_certificate": "/p/ca.pem", "ipsec_ca_key": "/p/ca.key", "ipsec_ca_key_passphrase": 5},
        "ipsec_ca_key_passphrase: it is a number, not a string",
    ),
    (
        EXTERNAL | {"ipsec_ca_certificate": None},
        "ipsec_ca_certificate: it is not set, and the members' certificates are checked against it. Set it to a file",
    ),
    (EXTERNAL | {"ipsec_ca_certificate": 5}, "ipsec_ca_certificate: it is a number, not a string"),
    (EXTERNAL | {"ipsec_ca_certificate": "/p/gone"}, "ipsec_ca_certificate: there is no file /p/gone"),
    (EXTERNAL | {"ipsec_ca_certificate": "/p/half.pem"}, "ipsec_ca_certificate: /p/half.pem is truncated"),
    (
        EXTERNAL | {"ipsec_ca_certificate": "/p/sub-only.pem"},
        "ipsec_ca_certificate: the chain in /p/sub-only.pem is",
    ),
    (
        EXTERNAL | {"ipsec_ca_key": "/p/ca.key"},
        "ipsec_ca_key: a CA's key is not used with ipsec_certificate_source external. Remove it",
    ),
    (
        EXTERNAL | {"ipsec_ca_key_passphrase": "sesame open"},
        "ipsec_ca_key_passphrase: a CA's key is not used with ipsec_certificate_source external",
    ),
    (
        EXTERNAL | {"ipsec_crl_strict": True},
        "ipsec_crl_strict: with ipsec_certificate_source external there is no list of revoked certificates",
    ),
    (
        EXTERNAL | {"ipsec_signing_dir": " "},
        "ipsec_signing_dir: it is empty. Set it to a directory on the controller",
    ),
    ({"ipsec_ca_passphrase": None}, "ipsec_ca_passphrase: it is not set, and the CA's key is encrypted"),
    ({"ipsec_crl_validity_days": 0}, "ipsec_crl_validity_days: 0 days cannot be"),
    ({"ipsec_crl_strict": "perhaps"}, "ipsec_crl_strict: it is a string, not true or false"),
    ({"ipsec_metrics_dir": "metrics"}, "ipsec_metrics_dir: 'metrics' is not an absolute path"),
    (
        {"ipsec_revoke_reason": "because"},
        "ipsec_revoke_reason: 'because' is not one of its values. Set it to unspecified or",
    ),
    ({"ipsec_rotate_ca": "perhaps"}, "ipsec_rotate_ca: it is a string, not true or false"),
    ({"ipsec_reinstate": "h1"}, "ipsec_reinstate: it is a string, not a list"),
    (
        {"ipsec_reinstate": ["h1", "h9.example"]},
        "ipsec_reinstate[1]: 'h9.example' is not a member. Remove it",
    ),
]


@pytest.mark.parametrize(("variables", "said"), WRONG_FOR_ALL)
def test_wrong_for_all(variables: dict[str, Any], said: str) -> None:
    found = faults(cluster(variables))
    assert [str(problem)[: len(said)] for problem in found] == [said]
    assert found[0].remedy


# variables of h2 → the beginning of the only problem
WRONG_FOR_ONE: list[tuple[dict[str, Any], str]] = [
    (
        {"ipsec_pkcs12": None},
        "ipsec_pkcs12: it is not set, and ipsec_certificate_source is pkcs12. Set it to the host's",
    ),
    ({"ipsec_pkcs12": ["/p/h2.p12"]}, "ipsec_pkcs12: it is a list, not a string"),
    (
        {"ipsec_pkcs12": "/p/gone"},
        "ipsec_pkcs12: there is no file /p/gone on the controller. Correct the path",
    ),
    (
        {"ipsec_pkcs12_password": None},
        "ipsec_pkcs12_password: neither it nor ipsec_pkcs12_password_file is set. Set one of them",
    ),
    ({"ipsec_pkcs12_password": 1234}, "ipsec_pkcs12_password: it is a number, not a string"),
    (
        {"ipsec_pkcs12_password": Unreadable("no secret")},
        "ipsec_pkcs12_password: its value cannot be read: no secret",
    ),
    ({"ipsec_pkcs12_password": ""}, "ipsec_pkcs12_password: /p/h2.p12 needs a password"),
    (
        {"ipsec_pkcs12_password": "sesame"},
        "ipsec_pkcs12_password: /p/h2.p12 cannot be decrypted with this password",
    ),
    (
        {"ipsec_pkcs12_password_file": "/p/password"},
        "ipsec_pkcs12_password: it is set, and ipsec_pkcs12_password_file is too. Remove one of them",
    ),
    (
        {"ipsec_pkcs12_password": None, "ipsec_pkcs12_password_file": "/p/gone"},
        "ipsec_pkcs12_password_file: there is no file /p/gone on the controller",
    ),
    (
        {"ipsec_pkcs12_password": None, "ipsec_pkcs12_password_file": "/p/binary"},
        "ipsec_pkcs12_password_file: /p/binary is not text",
    ),
    ({"ipsec_pkcs12": "/p/h3.p12"}, "ipsec_pkcs12: /p/h3.p12: its certificate is for h3"),
    ({"ipsec_pkcs12": "/p/other.p12"}, "ipsec_pkcs12: /p/other.p12: its c"),
    (
        {"ipsec_pkcs12": "/p/expired.p12"},
        "ipsec_pkcs12: /p/expired.p12: the certificate of CN=h2,O=Example expired on",
    ),
]


@pytest.mark.parametrize(("variables", "said"), WRONG_FOR_ONE)
def test_wrong_for_one(variables: dict[str, Any], said: str) -> None:
    found = faults(members(variables))
    assert [str(problem)[: len(said) + 4] for problem in found] == [f"h2: {said}"]
    assert found[0].remedy


def test_bundles_of_different_kinds() -> None:
    assert str(faults(members({"ipsec_pkcs12": "/p/rsa.p12"}))[0]) == (
        "ipsec_pkcs12: the bundles' keys are of different kinds: ecdsa on h1; rsa on h2. Give all members keys of one kind"
    )


def test_one_bundle_for_two_members() -> None:
    hosts = [host(number, {**P12, **own(number), "ipsec_pkcs12": "/p/shared.p12"}) for number in (1, 2)]
    assert str(faults(hosts)[0]).startswith(
        "h2: ipsec_pkcs12: its certificate is also that of h1. Give each member"
    )


@pytest.mark.parametrize(("openshift", "count"), [(True, 1), (False, 0)])
def test_names_that_openshift_reserves(openshift: bool, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    leaf = reserved("ovs_h1")
    monkeypatch.setitem(FILES, "/p/h1.p12", cas.p12(leaf, pki.key(1)))
    hosts = [host(1, {**P12, **own(1)}, facts=facts(1, openshift_ipsec=openshift))]
    if not count:
        assert plan(hosts).slices["h1"]["certificate"]["subject"]["CN"] == "ovs_h1"
        return
    assert [str(problem) for problem in faults(hosts)] == [
        "h1: ipsec_pkcs12: the certificate's common name 'ovs_h1' begins with 'ovs_', which OpenShift's own certificates "
        "on this host do. Give it a certificate with another name"
    ]


def reserved(common_name: str) -> x509.Certificate:
    """Return a certificate for h1 under another common name."""
    names = pki.alternative_names(["h1"], [])
    found = pki.leaf(pki.name(common_name), names, pki.key(1), SUB.authority)
    return x509.load_der_x509_certificate(found.encoded)


def test_all_problems_at_once() -> None:
    hosts = [host(1, {**P12, "ipsec_crl_strict": True}), host(2, {**P12, **own(2), "ipsec_crl_strict": True})]
    assert [problem.variable for problem in faults(hosts)] == [
        "ipsec_crl_strict",
        "ipsec_pkcs12",
        "ipsec_pkcs12_password",
    ]


def test_a_wrong_ca_is_one_problem_however_many_bundles_there_are() -> None:
    hosts = [host(number, {**P12, **own(number), "ipsec_ca_certificate": "/p/half.pem"}) for number in (1, 2)]
    assert [problem.variable for problem in faults(hosts)] == ["ipsec_ca_certificate"]


def test_bundles_are_opened_even_if_something_else_is_wrong() -> None:
    wrong = {"ipsec_ca_certificate": "/p/half.pem", "ipsec_pkcs12_password": "sesame"}
    hosts = [host(1, {**P12, **own(1), **wrong}), host(2, {**P12, **own(2), **wrong, "ipsec_fqdn": "_"})]
    assert [(problem.host, problem.variable) for problem in faults(hosts)] == [
        ("h2", "ipsec_fqdn"),
        (None, "ipsec_ca_certificate"),
        ("h1", "ipsec_pkcs12_password"),
        ("h2", "ipsec_pkcs12_password"),
    ]


def test_slice_with_a_bundle() -> None:
    made = plan(members({"ipsec_pkcs12": "/p/p256.p12"}))
    first, second = (made.slices[name]["certificate"] for name in ("h1", "h2"))
    assert first == {
        "nickname": "underlay-h1",
        "source": "pkcs12",
        "subject": {"O": "Example", "CN": "h1"},
        "dns": ["h1"],
        "ip": ["10.88.0.1"],
        "fingerprint": first["fingerprint"],
        "key_type": "ecdsa-p384",
        "validity_days": 1825,
        "renew_before_days": 183,
    }
    assert first["fingerprint"] == certificate_in("/p/h1.p12").fingerprint(hashes.SHA256()).hex()
    # Types differ, kinds do not.
    assert second["key_type"] == "ecdsa-p256"
    assert {made.slices[name]["libreswan"]["authby"] for name in ("h1", "h2")} == {"ecdsa"}
    assert made.document["certificates"]["source"] == "pkcs12"


def certificate_in(path: str) -> x509.Certificate:
    """Return the certificate in a bundle."""
    found = pkcs12.load_key_and_certificates(FILES[path], cas.PASSWORD.encode())[1]
    assert found is not None
    return found


def test_authentication_follows_the_bundles() -> None:
    found = plan([host(2, {**P12, **own(2), "ipsec_pkcs12": "/p/rsa.p12"})]).slices["h2"]
    assert found["certificate"]["key_type"] == "rsa-3072"
    assert found["libreswan"]["authby"] == "rsa-sha2"


def test_password_in_a_file() -> None:
    file = {"ipsec_pkcs12_password": None, "ipsec_pkcs12_password_file": "/p/password"}
    assert plan(members(file)).slices["h2"]["certificate"]["fingerprint"]


def test_nothing_secret_in_the_plan() -> None:
    made = plan(members())
    text = json.dumps([made.document, made.slices], ensure_ascii=False)
    assert cas.PASSWORD not in text
    assert "/p/" not in text


def test_secrets_are_not_in_messages() -> None:
    secrets = ("sesame one", "sesame two")
    adopted = {"ipsec_ca_certificate": "/p/ca.pem", "ipsec_ca_key": "/p/ca.key"}
    hosts = [host(number, {**adopted, "ipsec_ca_key_passphrase": secrets[number - 1]}) for number in (1, 2)]
    found = problem_text(faults(hosts))
    assert "ipsec_ca_key_passphrase: it differs between members" in found
    assert not any(secret in found for secret in secrets)


def test_external() -> None:
    made = plan(cluster(EXTERNAL))
    certificate = made.slices["h1"]["certificate"]
    assert (certificate["source"], certificate["fingerprint"]) == ("external", None)
    assert certificate["subject"] == {"CN": "h1", "O": "underlay.ipsec"}


def test_adoption() -> None:
    made = plan(cluster({"ipsec_ca_certificate": "/p/ca.pem", "ipsec_ca_key": "/p/ca.key"}))
    assert made.slices["h1"]["certificate"]["source"] == "ca"


@pytest.mark.parametrize("value", ["due", "h1,h2", ["h1"], 5])
def test_what_playbooks_read_may_have_any_form(value: object) -> None:
    assert plan(cluster({"ipsec_rotate": value, "ipsec_rotate_serial": value, "ipsec_revoke": value})).slices


def test_a_bundle_without_effect_is_a_warning() -> None:
    made = plan([host(1, own(1)), host(2)])
    assert made.document["warnings"][0] == (
        "ipsec_pkcs12 of h1 has no effect, because ipsec_certificate_source is not pkcs12"
    )


def test_with_psk_there_are_no_certificates() -> None:
    made = plan(cluster({**MESH_PSK, **EXTERNAL, "ipsec_ca_certificate": None}))
    assert made.document["certificates"] is None
    assert made.slices["h1"]["certificate"] is None


def test_files_are_those_of_the_user(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ca.pem").write_bytes(b"x")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("CAS", str(tmp_path))
    assert read_file("~/ca.pem") == read_file("$CAS/ca.pem") == b"x"
