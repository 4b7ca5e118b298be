# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Members behind NAT: what cannot be, and what becomes of those that can."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.underlay.ipsec.plugins.module_utils._errors import ProblemsError
from ansible_collections.underlay.ipsec.plugins.module_utils._model.cluster import (
    Host,
    HostAddress,
    HostFacts,
)
from ansible_collections.underlay.ipsec.plugins.module_utils._plan.build import Plan, make_plan
from ansible_collections.underlay.ipsec.plugins.module_utils._plan.mesh import mesh_peers

ROOT = Path(__file__).resolve().parents[5]
SPECS = yaml.safe_load((ROOT / "roles/plan/meta/argument_specs.yml").read_text())["argument_specs"]["main"][
    "options"
]
DATA = {"name": "data", "cidr": "10.88.0.0/24"}
INSIDE = {"name": "inside", "cidr": "10.99.0.0/24"}
BEHIND = {"ipsec_addresses": {"data": "10.99.0.13"}, "ipsec_nat_addresses": {"data": "10.88.0.50"}}


def host(name: str, address: str, variables: dict[str, Any], **changes: Any) -> Host:
    seen = HostAddress("eth1", ipaddress.ip_address(address), 24)
    common = {
        "ipsec_ca_passphrase": "correct horse battery",
        "ipsec_topology": "mesh",
        "ipsec_networks": [DATA],
    }
    known = HostFacts(
        (seen,),
        libreswan_candidate="4.10",
        esp=True,
        firewalls_usable=("nftables",),
        **changes.pop("facts", {}),
    )
    return Host(name, {**common, **variables}, known, **changes)


def plan(cluster: dict[str, Any], member: dict[str, Any], **changes: Any) -> Plan:
    """Return the plan of h1 and h2, and of h3, which is behind NAT."""
    hosts = [
        host("h1", "10.88.0.11", cluster),
        host("h2", "10.88.0.12", cluster),
        host("h3", "10.99.0.13", {**cluster, **member}, **changes),
    ]
    return make_plan(hosts, "ipsec", SPECS)


def test_own_address_is_for_traffic_and_the_nat_address_for_ike() -> None:
    made = plan({}, BEHIND)
    assert made.document["members"]["h3"]["addresses"] == {"data": "10.99.0.13"}
    found = {peer["member"]: peer for peer in mesh_peers(made.document, "h1")}
    assert found["h3"] == {
        "network": "data",
        "member": "h3",
        "fqdn": "h3",
        "address": "10.99.0.13",
        "nat_address": "10.88.0.50",
    }
    assert "nat_address" not in found["h2"]


def test_all_connections_of_a_member_behind_nat_are_tunnels() -> None:
    made = plan({}, BEHIND)
    modes = {name: one["libreswan"]["networks"][0]["mode"] for name, one in made.slices.items()}
    assert modes == {"h1": "transport", "h2": "transport", "h3": "tunnel"}


# variables of all, variables of h3, what else is with h3 → the beginning of the only problem
WRONG: list[tuple[dict[str, Any], dict[str, Any], dict[str, Any], str]] = [
    (
        {"ipsec_topology": "opportunistic"},
        BEHIND,
        {},
        "h3: ipsec_nat_addresses: opportunistic connections name no one",
    ),
    (
        {"ipsec_encapsulation": "never"},
        BEHIND,
        {},
        "h3: ipsec_nat_addresses.data: ESP gets through NAT inside UDP, and on data it never is",
    ),
    (
        {},
        {**BEHIND, "ipsec_nat_addresses": {"dta": "10.88.0.50", "data": "10.88.0.50"}},
        {},
        "h3: ipsec_nat_addresses.dta: there is no network 'dta' in ipsec_networks. Did you mean 'data'",
    ),
    (
        {},
        {**BEHIND, "ipsec_nat_addresses": {"data": "fd88::50"}},
        {},
        "h3: ipsec_nat_addresses.data: fd88::50 is IPv6, the network data is IPv4",
    ),
    (
        {},
        {**BEHIND, "ipsec_nat_addresses": {"data": "10.88.0.12"}},
        {},
        "h3: ipsec_nat_addresses.data: 10.88.0.12 is the address of h2",
    ),
    (
        {},
        {**BEHIND, "ipsec_nat_addresses": {"data": "10.99.0.13"}},
        {},
        "h3: ipsec_nat_addresses.data: 10.99.0.13 is the host's own address",
    ),
    (
        {},
        BEHIND,
        {"ansible_host": "10.88.0.50", "facts": {"controller_address": ipaddress.ip_address("10.88.0.11")}},
        "h3: ansible_host: Ansible connects to 10.88.0.50 from a member",
    ),
]


@pytest.mark.parametrize(("cluster", "member", "changes", "said"), WRONG)
def test_wrong(cluster: dict[str, Any], member: dict[str, Any], changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ProblemsError) as caught:
        plan(cluster, member, **changes)
    assert [str(problem)[: len(said)] for problem in caught.value.problems] == [said]


@pytest.mark.parametrize(
    ("member", "said"),
    [
        (
            {"ipsec_nat_addresses": {"data": "10.88.0.50"}},
            "h3: ipsec_nat_addresses.data: the host's own address on data is not known",
        ),
        (
            {**BEHIND, "ipsec_nat_addresses": {"data": "10.88.0/50"}},
            "h3: ipsec_nat_addresses.data: '10.88.0/50' is not an address",
        ),
    ],
)
def test_address_that_is_missing_or_none(member: dict[str, Any], said: str) -> None:
    with pytest.raises(ProblemsError) as caught:
        plan({}, member)
    assert said in "\n".join(map(str, caught.value.problems))


def faults_of_two(first: str, second: str, cluster: dict[str, Any], *on: str) -> list[str]:
    """Return what is wrong with h3 and h5, at these NAT addresses on data, and *on* these networks by their own ones."""
    hosts = [host("h1", "10.88.0.11", cluster)]
    for name, number, outside in (("h3", 13, first), ("h5", 15, second)):
        own = dict.fromkeys(on, f"10.99.0.{number}")
        hosts.append(
            host(
                name,
                f"10.99.0.{number}",
                {**cluster, "ipsec_addresses": own, "ipsec_nat_addresses": {"data": outside}},
            )
        )
    with pytest.raises(ProblemsError) as caught:
        make_plan(hosts, "ipsec", SPECS)
    return [str(problem) for problem in caught.value.problems]


def test_nat_address_of_two_members() -> None:
    found = faults_of_two("10.88.0.50", "10.88.0.50", {}, "data")
    assert [text.split(". ")[0] for text in found] == [
        "h5: ipsec_nat_addresses.data: 10.88.0.50 is also that of h3"
    ]


def test_two_networks_between_the_same_addresses() -> None:
    found = faults_of_two("10.88.0.50", "10.88.0.51", {"ipsec_networks": [DATA, INSIDE]}, "data", "inside")
    assert [text.split(". ")[0] for text in found] == [
        "h3: ipsec_nat_addresses: it would have two connections with h5 between the same addresses, on data and inside"
    ]
