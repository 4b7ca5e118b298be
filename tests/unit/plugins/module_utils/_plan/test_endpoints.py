# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Endpoints in the plan, and the keys that are not in there."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.underlay.ipsec.plugins.filter.endpoint_keys import FilterModule
from ansible_collections.underlay.ipsec.plugins.module_utils._nss.names import distinguished_name
from ansible_collections.underlay.ipsec.plugins.module_utils._nss.x509 import certificate_from_der
from ansible_collections.underlay.ipsec.plugins.module_utils._plan.build import as_json
from ansible_collections.underlay.ipsec.tests.unit.plugins import pki
from ansible_collections.underlay.ipsec.tests.unit.plugins.module_utils._plan.test_build import (
    cluster,
    faults,
    plan,
)
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

PSK = "correct horse battery staple, and so on"
GATE = {
    "name": "gate",
    "address": "192.0.2.1",
    "network": "data",
    "id": "gate.example",
    "auth": "psk",
    "psk": PSK,
}
BANK = {"name": "bank", "address": "192.0.2.2", "network": "data", "id": "bank", "members": ["h2"]}


def endpoints(*items: dict[str, Any]) -> dict[str, Any]:
    return {"ipsec_endpoints": list(items)}


def test_a_member_s_slice_has_its_endpoints_and_their_authorities() -> None:
    authority = pki.authority(1)
    made = plan(cluster(endpoints(GATE, {**BANK, "ca": authority.pem})))
    names = {
        name: [endpoint["name"] for endpoint in part["libreswan"]["endpoints"]]
        for name, part in made.slices.items()
    }
    assert names == {"h1": ["gate"], "h2": ["gate", "bank"], "h3": ["gate"]}
    assert {name: len(part["authorities"]) for name, part in made.slices.items()} == {
        "h1": 0,
        "h2": 1,
        "h3": 0,
    }
    assert [item["members"] for item in made.document["endpoints"]] == [["h1", "h2", "h3"], ["h2"]]


def test_keys_are_nowhere_in_the_plan_and_in_no_problem() -> None:
    made = plan(cluster(endpoints(GATE)))
    assert PSK not in as_json(made.document) + as_json(made.slices)
    hosts = cluster(endpoints(GATE))
    hosts[1] = cluster(endpoints({**GATE, "psk": PSK + "!"}))[1]
    assert [problem.variable for problem in faults(hosts)] == ["ipsec_endpoints"]
    assert PSK not in "".join(map(str, faults(hosts)))


def test_keys() -> None:
    made = plan(cluster(endpoints(GATE, BANK)))
    keys = FilterModule().filters()["endpoint_keys"](made.document, "h2", [GATE, BANK])
    assert keys == [{"ids": ["@h2", "@gate.example"], "psk": PSK}]


def test_ansible_must_not_connect_from_an_endpoint() -> None:
    hosts = cluster(endpoints({**GATE, "address": "10.77.0.254", "members": ["h1"]}))
    found = faults(hosts)
    assert [(problem.variable, problem.host) for problem in found] == [("ipsec_endpoints", "h1")]
    assert "Ansible connects from the endpoint 'gate'" in found[0].message


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("Partner Root", "CN=Partner Root"),
        ('a,b/c"d\\e=f', "CN=a\\2cb\\2fc\\22d\\5ce\\3df"),
        ("Zürich", "CN=#0c075ac3bc72696368"),
    ],
)
def test_subject_as_pluto_reads_it(value: str, expected: str) -> None:
    name = x509.Name(
        [
            x509.NameAttribute(x509.NameOID.COUNTRY_NAME, "DE"),
            x509.NameAttribute(x509.NameOID.COMMON_NAME, value),
        ]
    )
    key = pki.key()
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(pki.NOW)
        .not_valid_after(pki.NOW + pki.DAY)
        .sign(key, hashes.SHA384())
    )
    encoded = certificate.public_bytes(serialization.Encoding.DER)
    assert distinguished_name(certificate_from_der(encoded).subject_name) == f"C=DE, {expected}"
