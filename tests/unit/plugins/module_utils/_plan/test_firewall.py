# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which firewall each member uses, what its rules are about, and whom they would cut off."""

from __future__ import annotations

import ipaddress
from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.underlay.ipsec.plugins.module_utils._model.cluster import (
    Host,
    HostFacts,
    Member,
    Problems,
    Settings,
)
from ansible_collections.underlay.ipsec.plugins.module_utils._plan.build import Plan
from ansible_collections.underlay.ipsec.plugins.module_utils._plan.firewall import (
    check_controller,
    choose_backend,
    closed_traffic,
    open_to,
)
from ansible_collections.underlay.ipsec.tests.unit.plugins.module_utils._plan.test_build import (
    DATA,
    MESH_PSK,
    STORAGE,
    V6,
    cluster,
    facts,
    faults,
    host,
    plan,
)

SETTINGS = Settings(
    group="ipsec",
    enforcement="private",
    topology="opportunistic",
    auth="cert",
    mode="transport",
    ike="aes256",
    esp="aes256",
    key_type="ecdsa",
    cert_validity_days=365,
    cert_renew_before_days=30,
    exempt_controller=False,
    firewall="auto",
)
BOTH = ("nftables", "iptables")


def choose(
    active: tuple[str, ...], usable: tuple[str, ...], **changes: Any
) -> tuple[str, list[str], list[str]]:
    """Return what is chosen, the problems, and the warnings."""
    problems, warnings = Problems(), list[str]()
    known = HostFacts((), firewalls_active=active, firewalls_usable=usable)
    chosen = choose_backend("h1", known, replace(SETTINGS, **changes), problems, warnings)
    return chosen, [str(problem) for problem in problems], warnings


@pytest.mark.parametrize(
    ("active", "usable", "changes", "expected"),
    [
        ((), BOTH, {}, "none"),
        ((), BOTH, {"fail_closed": True}, "nftables"),
        ((), BOTH, {"mss_clamp": True}, "nftables"),
        ((), ("iptables",), {"fail_closed": True}, "iptables"),
        ((), (), {}, "none"),
        (("iptables",), BOTH, {}, "iptables"),
        (("iptables",), BOTH, {"fail_closed": True}, "iptables"),
        (("firewalld",), BOTH, {"fail_closed": True}, "firewalld"),
        (("firewalld",), (), {}, "firewalld"),
        (("nftables",), BOTH, {"firewall": "nftables"}, "nftables"),
        ((), BOTH, {"firewall": "iptables"}, "iptables"),
        ((), BOTH, {"firewall": "none"}, "none"),
        (("firewalld",), BOTH, {"firewall": "none"}, "none"),
        (("firewalld", "nftables"), BOTH, {"firewall": "none"}, "none"),
        (("firewalld",), BOTH, {"firewall": "firewalld"}, "firewalld"),
    ],
)
def test_choice(
    active: tuple[str, ...], usable: tuple[str, ...], changes: dict[str, Any], expected: str
) -> None:
    assert choose(active, usable, **changes) == (expected, [], [])


@pytest.mark.parametrize(
    ("active", "usable", "changes", "said"),
    [
        (
            (),
            (),
            {"fail_closed": True},
            "h1: ipsec_firewall: there is no firewall tool on it that works",
        ),
        ((), (), {"mss_clamp": True}, "h1: ipsec_firewall: there is no firewall tool on it that works"),
        (
            ("firewalld",),
            ("iptables",),
            {"fail_closed": True},
            "h1: ipsec_fail_closed: firewalld cannot tell what was encrypted",
        ),
        (
            ("firewalld",),
            ("iptables",),
            {"mss_clamp": True},
            "h1: ipsec_mss_clamp: firewalld cannot tell what was encrypted",
        ),
        (
            ("nftables", "iptables"),
            BOTH,
            {"fail_closed": True},
            "h1: ipsec_firewall: nftables and iptables are in use at the same time. Stop and disable all but one",
        ),
        (
            (),
            BOTH,
            {"firewall": "firewalld"},
            "h1: ipsec_firewall: firewalld does not run there. Install and start it, or set ipsec_firewall to"
            " auto or nftables or iptables or none",
        ),
        (
            ("iptables",),
            ("iptables",),
            {"firewall": "nftables"},
            "h1: ipsec_firewall: nftables does not work there. Install and start it, or set ipsec_firewall to"
            " auto or iptables or none",
        ),
    ],
)
def test_no_choice(
    active: tuple[str, ...], usable: tuple[str, ...], changes: dict[str, Any], said: str
) -> None:
    _chosen, problems, _warnings = choose(active, usable, **changes)
    assert [problem[: len(said)] for problem in problems] == [said]


def test_another_firewall_in_use_is_told() -> None:
    assert choose(("firewalld", "iptables"), BOTH, firewall="iptables") == (
        "iptables",
        [],
        [
            "ipsec_firewall: h1 also has firewalld in use, which may drop what iptables lets in",
        ],
    )


def member(name: str, address: str, nat: str | None = None) -> Member:
    networks = {"data": ipaddress.ip_address(address)}
    return Member(name, name, networks, {"data": ipaddress.ip_address(nat)} if nat else {})


@pytest.mark.parametrize(
    ("nat", "expected"),
    [
        (None, ["10.88.0.0/24"]),
        ("10.88.0.50", ["10.88.0.0/24"]),
        ("192.0.2.50", ["10.88.0.0/24", "192.0.2.50/32"]),
    ],
)
def test_where_ipsec_comes_from(nat: str | None, expected: list[str]) -> None:
    members = [member("h1", "10.88.0.1"), member("h2", "10.99.0.2", nat)]
    assert open_to([ipaddress.ip_network("10.88.0.0/24")], members, (), members[0]) == expected


GATE = {"name": "gate", "address": "192.0.2.1", "network": "data", "local_subnets": [], "remote_subnets": []}
OWN = {"name": "data", "address": "10.88.0.1", "private": ["10.88.0.0/24"], "clear": ["10.88.0.254/32"]}
CLEAR = {"name": "six", "address": "fd00:88::1", "private": [], "clear": ["fd00:88::/64"]}


@pytest.mark.parametrize("topology", ["opportunistic", "mesh"])
def test_what_is_closed(topology: str) -> None:
    site = {**GATE, "name": "site", "local_subnets": ["10.1.0.0/16"], "remote_subnets": ["10.2.0.0/16"]}
    assert closed_traffic([OWN, CLEAR], [GATE, site], [], topology) == [
        {"network": "endpoint gate", "local": ["10.88.0.1"], "remote": ["192.0.2.1"], "clear": []},
        {"network": "endpoint site", "local": ["10.1.0.0/16"], "remote": ["10.2.0.0/16"], "clear": []},
        {
            "network": "data",
            "local": ["10.88.0.1"],
            "remote": ["10.88.0.0/24"] if topology == "opportunistic" else [],
            "clear": ["10.88.0.254/32"],
        },
    ]


@pytest.mark.parametrize(
    ("controller", "clear", "found"),
    [
        (None, [], False),
        ("10.77.0.254", [], False),
        ("10.88.0.2", [], False),
        ("10.88.0.254", [], True),
        ("10.88.0.254", ["10.88.0.254/32"], False),
        ("10.88.0.254", ["10.88.0.253/32", "10.88.0.0/24 tcp 22 0"], False),
        ("10.88.0.254", ["10.88.0.253/32", "fd00:88::/64"], True),
    ],
)
def test_a_controller_that_would_be_cut_off(controller: str | None, clear: list[str], found: bool) -> None:
    problems = Problems()
    known = HostFacts((), controller_address=ipaddress.ip_address(controller) if controller else None)
    entry = {"network": "data", "local": ["10.88.0.1"], "remote": ["10.88.0.0/24"], "clear": clear}
    members = [member("h1", "10.88.0.1"), member("h2", "10.88.0.2")]
    check_controller("h1", known, [entry, entry], members, problems)
    assert [(problem.host, problem.variable) for problem in problems] == (
        [("h1", "ipsec_fail_closed")] if found else []
    )


def firewall(made: Plan, name: str = "h1") -> dict[str, Any]:
    found: dict[str, Any] = made.slices[name]["firewall"]
    return found


def with_facts(hosts: list[Host], **changes: Any) -> list[Host]:
    return [replace(one, facts=facts(number, **changes)) for number, one in enumerate(hosts, 1)]


def test_a_slice_says_what_the_firewall_does() -> None:
    variables = {"ipsec_networks": [DATA, V6], "ipsec_clear": ["10.88.0.254"]}
    assert firewall(plan(cluster(variables))) == {
        "backend": "nftables",
        "chain": "INPUT",
        "fail_closed": True,
        "open": ["10.88.0.0/24", "fd00:88::/64"],
        "closed": [
            {
                "network": "data",
                "local": ["10.88.0.1"],
                "remote": ["10.88.0.0/24"],
                "clear": ["10.88.0.254/32"],
            },
            {"network": "six", "local": ["fd00:88::1"], "remote": ["fd00:88::/64"], "clear": []},
        ],
        "interfaces": ["eth1"],
        "clamp": [],
    }


@pytest.mark.parametrize(
    ("variables", "known", "expected"),
    [
        ({}, {"firewalls_active": ("firewalld",)}, ("firewalld", ["10.88.0.0/24"], 1)),
        ({"ipsec_firewall": "none"}, {}, ("none", ["10.88.0.0/24"], 0)),
        ({"ipsec_fail_closed": False}, {}, ("none", ["10.88.0.0/24"], 0)),
        (
            {"ipsec_fail_closed": False},
            {"firewalls_active": ("iptables",)},
            ("iptables", ["10.88.0.0/24"], 0),
        ),
        ({"ipsec_enforcement": "private-or-clear"}, {}, ("none", ["10.88.0.0/24"], 0)),
        ({"ipsec_enforcement": "clear"}, {"firewalls_active": ("nftables",)}, ("nftables", [], 0)),
        ({"ipsec_networks": [DATA, STORAGE]}, {}, ("nftables", ["10.88.0.0/24", "10.89.0.0/24"], 2)),
    ],
)
def test_what_variables_make_of_it(
    variables: dict[str, Any], known: dict[str, Any], expected: tuple[str, list[str], int]
) -> None:
    found = firewall(plan(with_facts(cluster({"ipsec_clear": ["10.88.0.254"], **variables}), **known)))
    assert (found["backend"], found["open"], len(found["closed"])) == expected


def test_in_a_mesh_the_peers_are_for_the_module_to_add() -> None:
    found = firewall(plan(cluster({**MESH_PSK, "ipsec_clear": ["10.88.0.254"]})))
    assert [(entry["local"], entry["remote"]) for entry in found["closed"]] == [(["10.88.0.1"], [])]


def test_an_endpoint_is_open_and_closed_for_its_members_only() -> None:
    gate = {
        "name": "gate",
        "address": "192.0.2.1",
        "network": "data",
        "id": "gate.example",
        "auth": "psk",
        "psk": "correct horse battery staple, and so on",
        "members": ["h2"],
    }
    made = plan(cluster({"ipsec_clear": ["10.88.0.254"], "ipsec_endpoints": [gate]}))
    assert firewall(made)["open"] == ["10.88.0.0/24"]
    assert firewall(made, "h2")["open"] == ["10.88.0.0/24", "192.0.2.1/32"]
    assert [entry["network"] for entry in firewall(made, "h2")["closed"]] == ["endpoint gate", "data"]


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, []),
        ({"ipsec_exempt_controller": False}, ["ipsec_fail_closed"] * 3),
        ({"ipsec_exempt_controller": False, "ipsec_fail_closed": False}, []),
        ({"ipsec_exempt_controller": False, "ipsec_firewall": "none"}, []),
        ({"ipsec_exempt_controller": False, "ipsec_clear": ["10.88.0.250"]}, []),
    ],
)
def test_ansible_is_not_cut_off(variables: dict[str, Any], expected: list[str]) -> None:
    hosts = [
        replace(
            host(number, variables),
            facts=facts(number, controller_address=ipaddress.ip_address("10.88.0.250"), default_routes=()),
        )
        for number in (1, 2, 3)
    ]
    if expected:
        assert [problem.variable for problem in faults(hosts)] == expected
    else:
        plan(hosts)
