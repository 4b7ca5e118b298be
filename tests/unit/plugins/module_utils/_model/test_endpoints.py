# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Endpoints: what is understood, and what is refused with the name of its place."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.underlay.ipsec.plugins.module_utils._model.cluster import (
    ClearEntry,
    Member,
    Network,
    Problems,
    Settings,
)
from ansible_collections.underlay.ipsec.plugins.module_utils._model.endpoints import Endpoint, read_endpoints
from ansible_collections.underlay.ipsec.plugins.module_utils._model.typed import typed
from ansible_collections.underlay.ipsec.tests.unit.plugins import pki

SPECS = Path(__file__).parents[5] / "roles/plan/meta/argument_specs.yml"
PSK = "correct horse battery staple, and so on"
NETWORKS = (
    Network(
        "data",
        ipaddress.ip_network("10.88.0.0/24"),
        (ClearEntry(ipaddress.ip_network("10.88.0.99/32")),),
    ),
    Network(
        "data6", ipaddress.ip_network("fd88::/64"), encapsulation="always", mode="tunnel", esp="aes_gcm128"
    ),
)
SETTINGS = Settings(
    group="ipsec",
    enforcement="private",
    topology="mesh",
    auth="certificate",
    mode="transport",
    ike="aes_gcm256-sha2_384-dh20",
    esp="aes_gcm256",
    key_type="ecdsa-p384",
    cert_validity_days=1825,
    cert_renew_before_days=183,
    exempt_controller=True,
)
MEMBERS = [
    Member(
        "h1",
        "h1.example",
        {"data": ipaddress.ip_address("10.88.0.1"), "data6": ipaddress.ip_address("fd88::1")},
    ),
    Member("h2", "h2.example", {"data": ipaddress.ip_address("10.88.0.2")}),
]
GATE = {"name": "gate", "address": "10.88.0.50", "id": "gate.example"}
FAR = {**GATE, "address": "192.0.2.1", "network": "data"}
KEY = {"auth": "psk", "psk": PSK}


def read(
    *items: dict[str, Any], settings: Settings | None = SETTINGS
) -> tuple[tuple[Endpoint, ...], list[str]]:
    """Return the endpoints, and the problems as text."""
    problems = Problems()
    spec = yaml.safe_load(SPECS.read_text())["argument_specs"]["main"]["options"]["ipsec_endpoints"]
    raw = typed(list(items), spec, variable="ipsec_endpoints", problems=problems)
    found = read_endpoints(raw, settings, NETWORKS, MEMBERS, problems) if raw is not None else ()
    return found, [str(problem) for problem in problems]


def one(**changes: Any) -> Endpoint:
    """Return the endpoint that has nothing wrong with it."""
    endpoints, problems = read({**GATE, **changes})
    assert problems == []
    return endpoints[0]


def test_defaults_are_the_cluster_s() -> None:
    found = one()
    assert (found.network, found.members, found.mode) == ("data", ("h1", "h2"), "transport")
    assert (found.ike, found.esp, found.encapsulation) == (SETTINGS.ike, SETTINGS.esp, "auto")
    assert (found.key_type, found.authority, found.initiate, found.dpd_delay) == ("ecdsa", None, True, 5)


def test_network_of_its_address() -> None:
    found = one(address="fd88::50")
    assert (found.network, found.members, found.encapsulation) == ("data6", ("h1",), "always")
    assert (found.mode, found.esp, found.ike) == ("tunnel", "aes_gcm128", SETTINGS.ike)


def test_subnets_make_it_a_tunnel() -> None:
    found = one(
        remote_subnets=["192.0.2.0/24", "198.51.100.0/24"], local_subnets=["10.1.0.0/16"], members=["h2"]
    )
    assert (found.mode, found.members) == ("tunnel", ("h2",))
    assert [str(cidr) for cidr in found.remote_subnets] == ["192.0.2.0/24", "198.51.100.0/24"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("gate.example", "@gate.example"),
        ("@gate", "@gate"),
        ("gate.example.", "@gate.example"),
        ("192.0.2.9", "192.0.2.9"),
        ("2001:DB8::9", "2001:db8::9"),
        ("ops@gate.example", "ops@gate.example"),
        ("C=DE, O=Partner\\, Inc., CN=gate", "C=DE, O=Partner\\, Inc., CN=gate"),
    ],
)
def test_ids(text: str, expected: str) -> None:
    assert one(id=text).id == expected


def test_authority() -> None:
    authority = one(ca=pki.authority(1).pem).authority
    assert authority is not None
    assert authority.fingerprint == pki.authority(1).fingerprint


@pytest.mark.parametrize(
    ("item", "where", "what"),
    [
        ({**GATE, "name": "Gate+1"}, ".name", "cannot be part of a connection's name"),
        ({**GATE, "address": "gate"}, ".address", "'gate' is not an address"),
        ({**GATE, "address": "10.88.0.2"}, ".address", "is the address of the member h2"),
        ({**GATE, "address": "10.88.0.99"}, ".address", "is to be in clear text on the network data"),
        ({**FAR, "address": "224.0.0.1"}, ".address", "is not a host's own address"),
        ({**GATE, "id": "%fromcert"}, ".id", "is not an id"),
        ({**GATE, "id": "CN=*"}, ".id", "is not an id"),
        ({**GATE, "id": 'CN=a"b'}, ".id", "is not an id"),
        ({**GATE, "id": "CN=a\nauto=start"}, ".id", "is not an id"),
        ({**GATE, "id": "H2.example"}, ".id", "is the name in the certificate of the member h2"),
        ({**GATE, "address": "192.0.2.1"}, ".network", "lies in no network of ipsec_networks"),
        ({**FAR, "network": "date"}, ".network", "there is no network 'date'"),
        ({**FAR, "network": "data6"}, ".network", "data6 is IPv6"),
        ({**GATE, "members": ["h3"]}, ".members[0]", "there is no member 'h3'"),
        ({**GATE, "address": "fd88::50", "members": ["h2"]}, ".members[0]", "h2 is not on the network data6"),
        ({**GATE, "mode": "transport", "remote_subnets": ["192.0.2.0/24"]}, ".mode", "transport mode is for"),
        (
            {**GATE, "remote_subnets": ["192.0.2.1/24"]},
            ".remote_subnets[0]",
            "is an address inside a network",
        ),
        ({**GATE, "remote_subnets": ["fd00::/64"]}, ".remote_subnets[0]", "is IPv6"),
        ({**GATE, "remote_subnets": ["10.0.0.0/8"]}, ".remote_subnets[0]", "overlaps the network data"),
        (
            {**GATE, "remote_subnets": ["192.0.2.0/24", "192.0.2.0/25"]},
            ".remote_subnets[1]",
            "overlaps 192.0.2.0/24",
        ),
        (
            {
                **GATE,
                "remote_subnets": ["192.0.2.0/24"],
                "local_subnets": ["192.0.2.0/25"],
                "members": ["h1"],
            },
            ".remote_subnets[0]",
            "overlaps 192.0.2.0/25 of local_subnets",
        ),
        ({**GATE, "local_subnets": ["10.1.0.0/16"]}, ".local_subnets", "h1, h2 would all claim"),
        ({**GATE, "auth": "psk"}, ".psk", "it is not set"),
        ({**GATE, "auth": "psk", "psk": PSK[:31]}, ".psk", "it is shorter than 32 characters"),
        ({**GATE, "auth": "psk", "psk": PSK + '"'}, ".psk", "it holds a quotation mark"),
        ({**GATE, "psk": PSK}, ".psk", "authenticates with a certificate"),
        ({**GATE, **KEY, "id": "CN=gate"}, ".id", "cannot look for a pre-shared key"),
        ({**GATE, **KEY, "ca": "x"}, ".ca", "authenticates with a pre-shared key"),
        ({**GATE, "ca": "x"}, ".ca", "expected one certificate in PEM, found 0"),
        ({**GATE, "ike": "aes256-sha1-dh20"}, ".ike", "too weak"),
        ({**GATE, "esp": "null"}, ".esp", "does not encrypt"),
        ({**GATE, "ike_lifetime": 60}, ".ike_lifetime", "60 seconds cannot be"),
        ({**GATE, "sa_lifetime": 86401}, ".sa_lifetime", "86401 seconds cannot be"),
        ({**GATE, "dpd_delay": 0}, ".dpd_delay", "0 seconds cannot be"),
    ],
)
def test_refused(item: dict[str, Any], where: str, what: str) -> None:
    endpoints, problems = read(item)
    assert len(problems) == 1, problems
    assert problems[0].startswith(f"ipsec_endpoints[0]{where}: ")
    assert what in problems[0]
    assert PSK[:20] not in problems[0]
    assert endpoints == () or where == ".name"


def test_certificate_without_certificates_in_the_cluster() -> None:
    settings = Settings(**{**vars(SETTINGS), "auth": "psk"})
    _endpoints, problems = read(
        GATE, {**GATE, **KEY, "name": "b", "address": "10.88.0.51", "id": "b"}, settings=settings
    )
    assert [problem.split(": ")[0] for problem in problems] == ["ipsec_endpoints[0].auth"]


def test_what_two_of_one_member_cannot_share() -> None:
    subnets = {"remote_subnets": ["192.0.2.0/24"]}
    _endpoints, problems = read({**GATE, **subnets}, {**GATE, **subnets})
    assert [problem.split(": ")[0] for problem in problems] == [
        f"ipsec_endpoints[1].{key}" for key in ("name", "address", "id", "remote_subnets[0]")
    ]


def test_two_of_different_members_share_all_but_the_name() -> None:
    endpoints, problems = read({**GATE, "members": ["h1"]}, {**GATE, "name": "gate2", "members": ["h2"]})
    assert problems == []
    assert [endpoint.members for endpoint in endpoints] == [("h1",), ("h2",)]


def test_all_problems_at_once_even_without_settings() -> None:
    _endpoints, problems = read({**GATE, "address": "x", "id": "%any", "dpd_delay": 0}, settings=None)
    assert len(problems) == 3
