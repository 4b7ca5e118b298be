# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Virtual addresses in whole plans: one fault at a time, and what becomes of those that are right."""

from __future__ import annotations

import ipaddress
from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.underlay.ipsec.plugins.module_utils._errors import Problem
from ansible_collections.underlay.ipsec.plugins.module_utils._model.cluster import Host, Network
from ansible_collections.underlay.ipsec.plugins.module_utils._plan.build import Plan, as_json
from ansible_collections.underlay.ipsec.plugins.module_utils._plan.exceptions import policies, without
from ansible_collections.underlay.ipsec.plugins.module_utils._plan.firewall import closed_traffic
from ansible_collections.underlay.ipsec.plugins.module_utils._plan.vips import vip_key, vip_keys, vip_peers
from ansible_collections.underlay.ipsec.tests.unit.plugins import pki
from ansible_collections.underlay.ipsec.tests.unit.plugins.module_utils._pki import cas
from ansible_collections.underlay.ipsec.tests.unit.plugins.module_utils._plan import test_build as base
from ansible_collections.underlay.ipsec.tests.unit.plugins.module_utils._plan.test_build import (
    DATA,
    MESH_PSK,
    SECRET,
    STORAGE,
    V6,
    facts,
    networks,
    seen,
)

PSK = "correct horse battery staple, and so on"
GROUPS = {"pacemaker": ["h1", "h2"], "mixed": ["h1", "w1"], "empty": []}
API: dict[str, Any] = {"name": "internal_api", "address": "10.88.0.250"}
DB: dict[str, Any] = {"name": "db", "address": "10.88.0.251", "holders": ["h2", "h3"]}
ID = "underlay-vip-internal-api"
PRESENT = {
    address: [f"ip-{address}"] for address in ("10.88.0.250", "10.88.0.251", "10.89.0.250", "fd00:88::250")
}


def pacemaker(number: int, **changes: Any) -> dict[str, Any]:
    """Return what the host *number* says of its cluster, which is that of all three."""
    nodes = ["h1", "h2", "h3"]
    return {
        "cluster": "c",
        "nodes": nodes,
        "node": f"h{number}",
        "quorum": True,
        "addresses": PRESENT,
        "maintenance": False,
        "tunnels": [],
        **changes,
    }


def vips(*items: dict[str, Any]) -> dict[str, Any]:
    return {"ipsec_vips": list(items)}


def host(number: int, variables: dict[str, Any], cluster: dict[str, Any] | None = None, **known: Any) -> Host:
    """Return a host in a cluster, of which *cluster* says more; *known* are other facts."""
    found = facts(number, pacemaker=pacemaker(number, **(cluster or {})), **known)
    return replace(base.host(number, variables), facts=found)


def cluster(variables: dict[str, Any], **changes: Any) -> list[Host]:
    """Return three hosts with the same *variables* in one cluster, of which *changes* say more."""
    return [host(number, {**vips(API), **variables}, changes) for number in (1, 2, 3)]


def plan(hosts: list[Host], **options: Any) -> Plan:
    return base.plan(hosts, groups=GROUPS, **options)


def faults(hosts: list[Host], **options: Any) -> list[Problem]:
    return base.faults(hosts, groups=GROUPS, **options)


# variables of all hosts → the beginning of the only problem
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"ipsec_vips": {}}, "ipsec_vips: it is a dictionary, not a list"),
    (vips({"name": "api"}), "ipsec_vips[0]: the key 'address' is missing"),
    (
        vips({**API, "address": "10.88.0.250/24"}),
        "ipsec_vips[0].address: '10.88.0.250/24' is not an address. Write it like 172.16.2.250 or",
    ),
    (
        vips({**API, "network": "data", "address": "10.89.0.250"}),
        "ipsec_vips[0].address: 10.89.0.250 lies outside of its network data (10.88.0.0/24). Correct the",
    ),
    (
        vips({**API, "address": "192.0.2.250"}),
        "ipsec_vips[0].address: 192.0.2.250 lies in no network of ipsec_networks. Correct the address, or add",
    ),
    (
        vips({**API, "address": "fd00:99::250"}),
        "ipsec_vips[0].address: fd00:99::250 lies in no network of ipsec_networks",
    ),
    (
        vips({**API, "network": "date"}),
        "ipsec_vips[0].network: there is no network 'date', did you mean 'data'. Name one of",
    ),
    (
        vips({**API, "network": "management"}),
        "ipsec_vips[0].network: there is no network 'management'. Name one of ipsec_networks, or leave it out",
    ),
    (
        vips({**API, "address": "10.88.0.3"}),
        "ipsec_vips[0].address: 10.88.0.3 is the own address of the member h3. Set it to the address that moves",
    ),
    (
        vips({**API, "holders": ["pacemakers"]}),
        "ipsec_vips[0].holders: the inventory has no group with hosts, and no member, named 'pacemakers'. Name the",
    ),
    (
        vips({**API, "holders": ["empty"]}),
        "ipsec_vips[0].holders: the inventory has no group with hosts, and no member, named 'empty'",
    ),
    (
        vips({**API, "holders": ["mixed"]}),
        "ipsec_vips[0].holders: w1 of 'mixed' may hold the address and are no members. Add them to the members'",
    ),
    (
        vips(API, {**DB, "name": "internal_api", "id": "db.example"}),
        "ipsec_vips[1].name: internal_api is also the name of ipsec_vips[0]. Give each virtual address a name",
    ),
    (
        vips(API, {**API, "name": "db"}),
        "ipsec_vips[1].address: 10.88.0.250 is also the address of ipsec_vips[0]. Give each virtual address an",
    ),
    (
        vips(API, {**DB, "id": ID}),
        f"ipsec_vips[1].id: @{ID} is also the id of ipsec_vips[0]. Give each virtual address an id",
    ),
    (
        vips({**API, "name": "API", "id": "api.example"}),
        "ipsec_vips[0].name: 'API' cannot be part of a connection's name. Use up to 30 lower-case letters",
    ),
    (
        vips({**API, "name": "a" * 31}),
        f"ipsec_vips[0].name: '{'a' * 31}' cannot be part of a connection's name",
    ),
    (vips({**API, "id": "not_a_name"}), "ipsec_vips[0].id: 'not_a_name' is not a host name. Write one, or"),
    ({**MESH_PSK, **vips({**API, "id": "%any"})}, "ipsec_vips[0].id: '%any' is not a host name"),
    (
        vips({**API, "psk": PSK}),
        "ipsec_vips[0].psk: it is set, and members authenticate with certificates (ipsec_auth). Leave it out",
    ),
    (
        {**MESH_PSK, **vips({**API, "psk": PSK[:31]})},
        "ipsec_vips[0].psk: it is shorter than 32 characters. Set a long random one",
    ),
    ({**MESH_PSK, **vips({**API, "psk": PSK + '"'})}, "ipsec_vips[0].psk: it holds a quotation mark"),
    (
        {"ipsec_clear": ["10.88.0.250"]},
        "ipsec_vips[0].address: 10.88.0.250 is in clear by the exceptions of data. Take it out of ipsec_clear",
    ),
    (
        {"ipsec_clear": ["10.88.0.2"]},
        "h2: ipsec_vips[0].holders: it is to hold an address of data, where the exceptions leave it in clear. Take",
    ),
    (
        {"ipsec_vip_manager": "keepalived"},
        "ipsec_vip_manager: 'keepalived' is not one of its values. Set it to",
    ),
]


@pytest.mark.parametrize(("variables", "said"), WRONG)
def test_wrong_for_all(variables: dict[str, Any], said: str) -> None:
    found = faults(cluster(variables))
    assert [str(problem)[: len(said)] for problem in found] == [said]
    assert found[0].remedy
    assert PSK[:20] not in str(found[0])


# what all of the cluster say of it → the beginning of each of the problems
WRONG_CLUSTER: list[tuple[dict[str, Any], list[str]]] = [
    (
        {"quorum": False},
        [
            f"h{number}: ipsec_vips: its pacemaker cluster has no quorum, so that nothing in it can be changed. Bring"
            for number in (1, 2)
        ],
    ),
    (
        {"addresses": {}},
        [
            "ipsec_vips (internal_api): no resource of the pacemaker cluster brings up 10.88.0.250. Create the address first"
            " (ocf:heartbeat:IPaddr2)"
        ],
    ),
    (
        {"addresses": {"10.88.0.250": ["ip-api", "ip-old"]}},
        ["ipsec_vips (internal_api): ip-api and ip-old both bring up 10.88.0.250. Remove one of them"],
    ),
]


@pytest.mark.parametrize(("changes", "said"), WRONG_CLUSTER)
def test_wrong_cluster(changes: dict[str, Any], said: list[str]) -> None:
    found = faults(cluster({}, **changes))
    assert [str(problem)[: len(begin)] for problem, begin in zip(found, said, strict=True)] == said


@pytest.mark.parametrize("changes", [{"quorum": False}, {"addresses": {}}])
def test_without_a_manager_no_cluster_matters(changes: dict[str, Any]) -> None:
    made = plan(cluster({"ipsec_vip_manager": "none"}, **changes))
    assert [made.slices[name]["pacemaker"]["holder"] for name in ("h1", "h2")] == [False, False]
    assert all(part["pacemaker"]["vips"] == [] for part in made.slices.values())
    assert all(part["libreswan"]["vips"] for part in made.slices.values())


def test_a_holder_without_a_cluster() -> None:
    hosts = [host(1, vips(API)), base.host(2, vips(API)), base.host(3, vips(API))]
    found = faults(hosts)
    said = "h2: ipsec_vips: no pacemaker cluster runs on it, which could hold the virtual addresses. Start it"
    assert [str(problem)[: len(said)] for problem in found] == [said]
    assert "ipsec_vip_manager to none" in found[0].remedy


def test_a_holder_without_a_cluster_where_something_else_moves_addresses() -> None:
    variables = {**vips(API), "ipsec_vip_manager": "none"}
    made = plan([base.host(number, variables) for number in (1, 2, 3)])
    assert made.slices["h1"]["pacemaker"] == {"holder": False, "leader": False, "vips": []}


def test_holders_in_two_clusters() -> None:
    hosts = [host(number, vips(API), {"cluster": f"c{number}"}) for number in (1, 2, 3)]
    assert [str(problem) for problem in faults(hosts)] == [
        "ipsec_vips (internal_api): its holders are in 2 clusters: h1; h2. An address moves within one cluster: name the"
        " holders of each in 'holders'"
    ]


def test_a_holder_without_an_address_on_the_network() -> None:
    variables = {**vips({**API, "address": "10.89.0.250"}), **networks(DATA, STORAGE)}
    hosts = [host(1, variables), host(2, variables, addresses=facts(2).addresses[:2]), host(3, variables)]
    assert [str(problem) for problem in faults(hosts)] == [
        "h2: ipsec_vips[0].holders: it is to hold an address of storage, and has no address of its own there. Take it out"
        " of the holders, or give it an address on the network"
    ]


def test_a_holder_behind_nat() -> None:
    variables = {**vips(API), "ipsec_topology": "mesh"}
    nat = {"ipsec_nat_addresses": {"data": "192.0.2.2"}}
    hosts = [host(1, variables), host(2, {**variables, **nat}), host(3, variables)]
    assert [str(problem) for problem in faults(hosts)] == [
        "h2: ipsec_vips (internal_api): it is behind NAT on data, where it is to hold an address. Take it out of the holders"
    ]
    hosts = [host(1, variables), host(2, variables), host(3, {**variables, **nat})]
    assert plan(hosts).document["members"]["h3"]["nat_addresses"] == {"data": "192.0.2.2"}


def test_cluster_nodes_that_are_no_holders_are_a_warning() -> None:
    expected = (
        "ipsec_vips: h3 of the pacemaker cluster cannot serve internal_api, not being among its holders"
    )
    assert expected in plan(cluster({})).document["warnings"]
    everybody = plan(cluster(vips({**API, "holders": ["h1", "h2", "h3"]})))
    assert not [text for text in everybody.document["warnings"] if "ipsec_vips" in text]


def test_a_virtual_address_that_is_here_is_no_second_one_of_the_host() -> None:
    first = host(1, vips(API), addresses=(*facts(1).addresses, seen("10.88.0.250", 24)))
    made = plan([first, host(2, vips(API)), host(3, vips(API))])
    assert made.document["members"]["h1"]["addresses"] == {"data": "10.88.0.1"}


@pytest.mark.parametrize("manager", ["pacemaker", "none"])
def test_an_address_on_a_host_that_is_none_of_the_holders(manager: str) -> None:
    variables = {**vips(API), "ipsec_vip_manager": manager}
    third = host(3, variables, addresses=(*facts(3).addresses, seen("10.88.0.250", 32)))
    (problem,) = faults([host(1, variables), host(2, variables), third])
    assert str(problem) == (
        "h3: ipsec_vips (internal_api): it has 10.88.0.250 at the moment, and is none of the holders. Move the address to"
        " one of them first (pcs resource move), or add the host to them"
    )


def test_a_cluster_that_is_to_have_nothing_any_more_needs_quorum_too() -> None:
    found = faults(cluster(vips(), quorum=False, tunnels=["ipsec-vip-internal_api"]))
    assert [problem.host for problem in found] == ["h1", "h2", "h3"]
    assert all("has no quorum" in problem.message for problem in found)


# Certificates.


def bundles(*second: str) -> tuple[list[Host], dict[str, bytes]]:
    """Return three hosts with bundles, and the files; *second* are the names in that of h2."""
    ca = cas.ca("root")
    dns = {1: ("h1", ID), 2: second, 3: ("h3",)}
    files = {
        "/p/ca.pem": ca.bundle,
        **{f"/p/{n}": cas.p12(cas.member(ca, f"h{n}", dns=dns[n]), pki.key(n)) for n in dns},
    }
    variables = {
        **vips(API),
        "ipsec_ca_passphrase": None,
        "ipsec_certificate_source": "pkcs12",
        "ipsec_ca_certificate": "/p/ca.pem",
        "ipsec_pkcs12_password": cas.PASSWORD,
    }
    return [host(n, {**variables, "ipsec_pkcs12": f"/p/{n}"}) for n in dns], files


def test_a_bundle_without_the_id() -> None:
    hosts, files = bundles("h2")
    found = faults(hosts, read=files.__getitem__, now=pki.NOW)
    assert [(problem.host, problem.variable) for problem in found] == [("h2", "ipsec_pkcs12")]
    assert found[0].message.endswith(f", and not for {ID}")


def test_bundles_with_the_id() -> None:
    hosts, files = bundles("h2", ID)
    made = plan(hosts, read=files.__getitem__, now=pki.NOW)
    assert made.slices["h2"]["certificate"]["dns"] == ["h2", ID]


def test_certificates_of_holders_have_the_ids() -> None:
    made = plan(cluster(vips(API, {**DB, "id": "db.example"})))
    assert {name: part["certificate"]["dns"] for name, part in made.slices.items()} == {
        "h1": ["h1", ID],
        "h2": ["h2", "db.example", ID],
        "h3": ["h3", "db.example"],
    }


# Plans.


def test_plan_document() -> None:
    made = plan(cluster({**MESH_PSK, **vips({**API, "psk": PSK}, DB)}))
    assert made.document["vips"] == [
        {
            "name": "db",
            "address": "10.88.0.251",
            "network": "data",
            "id": "@underlay-vip-db",
            "holders": ["h2", "h3"],
        },
        {
            "name": "internal_api",
            "address": "10.88.0.250",
            "network": "data",
            "id": f"@{ID}",
            "holders": ["h1", "h2"],
        },
    ]
    assert PSK not in as_json(made.document) + "".join(map(as_json, made.slices.values()))


def test_slices_say_who_may_hold_it() -> None:
    made = plan(cluster({}))
    found = {name: part["libreswan"]["vips"] for name, part in made.slices.items()}
    item = {"name": "internal_api", "address": "10.88.0.250", "network": "data", "id": f"@{ID}"}
    assert found == {
        "h1": [{**item, "holder": True}],
        "h2": [{**item, "holder": True}],
        "h3": [{**item, "holder": False}],
    }


def test_members_elsewhere_or_in_clear_have_nothing_to_do_with_it() -> None:
    variables = {**vips(API), **networks(DATA, STORAGE), "ipsec_clear": ["10.88.0.3"]}
    elsewhere = host(4, {**variables, "ipsec_addresses": {"storage": "10.89.0.4"}})
    hosts = [*(host(number, variables) for number in (1, 2, 3)), elsewhere]
    made = plan(hosts)
    assert {name: len(part["libreswan"]["vips"]) for name, part in made.slices.items()} == {
        "h1": 1,
        "h2": 1,
        "h3": 0,
        "h4": 0,
    }


def test_the_first_of_a_cluster_configures_it() -> None:
    made = plan(cluster(vips(API, DB)))
    both = [
        {"name": "db", "address": "10.88.0.251", "nodes": ["h2", "h3"]},
        {"name": "internal_api", "address": "10.88.0.250", "nodes": ["h1", "h2"]},
    ]
    assert {name: part["pacemaker"] for name, part in made.slices.items()} == {
        "h1": {"holder": True, "leader": True, "vips": both},
        "h2": {"holder": True, "leader": False, "vips": []},
        "h3": {"holder": True, "leader": False, "vips": []},
    }


def test_each_cluster_is_configured_with_its_own() -> None:
    variables = vips({**API, "holders": ["h1"]}, {**DB, "holders": ["h2"]})
    hosts = [
        host(number, variables, {"cluster": f"c{number}", "nodes": [f"h{number}"]}) for number in (1, 2, 3)
    ]
    made = plan(hosts)
    api = {"name": "internal_api", "address": "10.88.0.250", "nodes": ["h1"]}
    db = {"name": "db", "address": "10.88.0.251", "nodes": ["h2"]}
    assert {name: part["pacemaker"] for name, part in made.slices.items()} == {
        "h1": {"holder": True, "leader": True, "vips": [api]},
        "h2": {"holder": True, "leader": True, "vips": [db]},
        "h3": {"holder": False, "leader": True, "vips": []},
    }


def test_a_node_that_leads_for_holders_outside_the_run_keeps_what_its_cluster_has() -> None:
    """Under --limit: h3 is none of the holders, but in their cluster."""
    hosts = [replace(base.host(number, vips(API)), facts=None) for number in (1, 2)]
    cached = tuple(facts(1).addresses), tuple(facts(2).addresses)
    hosts = [replace(found, cached=known) for found, known in zip(hosts, cached, strict=True)]
    made = plan([*hosts, host(3, vips(API))])
    item = {"name": "internal_api", "address": "10.88.0.250", "nodes": []}
    assert made.slices["h3"]["pacemaker"] == {"holder": False, "leader": True, "vips": [item]}
    another = plan([*hosts, host(3, vips(API), {"addresses": {}})])
    assert another.slices["h3"]["pacemaker"]["vips"] == []


def test_where_nothing_is_encrypted_nothing_follows_the_address() -> None:
    made = plan(cluster({"ipsec_enforcement": "clear"}))
    assert [part["pacemaker"] for part in made.slices.values()] == [
        {"holder": False, "leader": leader, "vips": []} for leader in (True, False, False)
    ]


@pytest.mark.parametrize(
    ("variables", "applied", "expected"),
    [
        ({}, False, True),
        (vips(), False, False),
        # One host still has what the others are to be rid of.
        (vips(), True, True),
    ],
)
def test_whether_there_is_anything_to_do_with_virtual_addresses(
    variables: dict[str, Any], applied: bool, expected: bool
) -> None:
    _first, *others = cluster(variables)
    made = plan([host(1, {**vips(API), **variables}, vips_applied=applied), *others])
    assert {part["vips"] for part in made.slices.values()} == {expected}


def test_a_virtual_address_changes_the_digest() -> None:
    assert plan(cluster({})).document["digest"] != plan(cluster(vips())).document["digest"]


@pytest.mark.parametrize("topology", ["opportunistic", "mesh"])
def test_only_a_group_has_to_leave_it_out(topology: str) -> None:
    made = plan(cluster({"ipsec_topology": topology}))
    cidrs = list(map(ipaddress.ip_network, made.slices["h3"]["libreswan"]["networks"][0]["private"]))
    covers = {
        text: any(ipaddress.ip_address(text) in cidr for cidr in cidrs)
        for text in ("10.88.0.250", "10.88.0.251")
    }
    assert covers == {"10.88.0.250": topology == "mesh", "10.88.0.251": True}


def test_a_group_on_another_network_stays_as_it_is() -> None:
    variables = {**networks(DATA, V6), **vips({**API, "address": "fd00:88::250"})}
    data, six = plan(cluster(variables)).slices["h1"]["libreswan"]["networks"]
    assert data["private"] == ["10.88.0.0/24"]
    assert len(six["private"]) == 64


# What a group has but for some addresses.


@pytest.mark.parametrize(
    ("addresses", "expected"),
    [
        ((), ["10.88.0.0/29"]),
        (("10.88.0.1",), ["10.88.0.0/32", "10.88.0.2/31", "10.88.0.4/30"]),
        (("10.88.0.1", "10.88.0.0"), ["10.88.0.2/31", "10.88.0.4/30"]),
        (("10.88.0.0", "10.88.0.7"), ["10.88.0.1/32", "10.88.0.2/31", "10.88.0.4/31", "10.88.0.6/32"]),
        (("10.88.0.1", "10.88.0.1"), ["10.88.0.0/32", "10.88.0.2/31", "10.88.0.4/30"]),
        (("10.88.0.8", "fd00:88::1"), ["10.88.0.0/29"]),
    ],
)
def test_without(addresses: tuple[str, ...], expected: list[str]) -> None:
    left = without(ipaddress.ip_network("10.88.0.0/29"), map(ipaddress.ip_address, addresses))
    assert [str(cidr) for cidr in left] == expected


def test_without_the_only_address() -> None:
    assert without(ipaddress.ip_network("10.88.0.1/32"), [ipaddress.ip_address("10.88.0.1")]) == []


def test_policies_leave_virtual_addresses_out_and_exceptions_as_they_are() -> None:
    network = Network("data", ipaddress.ip_network("10.88.0.0/30"))
    own, controller, virtual = (ipaddress.ip_address(f"10.88.0.{number}") for number in (1, 2, 3))
    assert policies(own, network, controller, [virtual]) == (
        ["10.88.0.0/31", "10.88.0.2/32"],
        ["10.88.0.2/32"],
    )


# What the firewall closes.

ON_DATA = {"name": "data", "address": "10.88.0.1", "private": ["10.88.0.0/24"], "clear": ["10.88.0.9/32"]}
HELD = {"network": "data", "address": "10.88.0.250", "holder": True}
REACHED = {"network": "data", "address": "10.88.0.251", "holder": False}
ELSEWHERE = {"network": "storage", "address": "10.89.0.250", "holder": True}


@pytest.mark.parametrize(
    ("topology", "remote"),
    [
        ("opportunistic", ["10.88.0.0/24", "10.88.0.250/32", "10.88.0.251/32"]),
        ("mesh", ["10.88.0.250/32", "10.88.0.251/32"]),
    ],
)
def test_closed_for_virtual_addresses(topology: str, remote: list[str]) -> None:
    assert closed_traffic([ON_DATA], [], [HELD, REACHED, ELSEWHERE], topology) == [
        {
            "network": "data",
            "local": ["10.88.0.1", "10.88.0.250"],
            "remote": remote,
            "clear": ["10.88.0.9/32"],
        }
    ]


def test_nothing_is_closed_where_the_member_is_in_clear() -> None:
    assert closed_traffic([{**ON_DATA, "private": []}], [], [HELD], "opportunistic") == []


def test_closed_in_ipv6() -> None:
    network = {"name": "six", "address": "fd00:88::1", "private": ["fd00:88::/64"], "clear": []}
    (found,) = closed_traffic(
        [network], [], [{**REACHED, "network": "six", "address": "fd00:88::250"}], "mesh"
    )
    assert (found["local"], found["remote"]) == (["fd00:88::1"], ["fd00:88::250/128"])


def test_firewalls_of_a_plan() -> None:
    made = plan(cluster({"ipsec_enforcement": "private"}))
    local = {name: part["firewall"]["closed"][0]["local"] for name, part in made.slices.items()}
    assert local == {
        "h1": ["10.88.0.1", "10.88.0.250"],
        "h2": ["10.88.0.2", "10.88.0.250"],
        "h3": ["10.88.0.3"],
    }


# Whom a holder knows, and by which keys.


def test_peers_of_a_holder() -> None:
    document = plan(cluster({"ipsec_clear": ["10.88.0.3"], **vips({**API, "holders": ["h1"]})})).document
    assert vip_peers(document, "h1") == [
        {"network": "data", "member": "h2", "fqdn": "h2", "address": "10.88.0.2"}
    ]
    assert vip_peers(document, "h2") == []


def test_peers_behind_nat() -> None:
    variables = {**vips(API), "ipsec_topology": "mesh"}
    nat = {"ipsec_nat_addresses": {"data": "192.0.2.3"}}
    made = plan([host(1, variables), host(2, variables), host(3, {**variables, **nat})])
    found = {peer["member"]: peer.get("nat_address") for peer in vip_peers(made.document, "h1")}
    assert found == {"h2": None, "h3": "192.0.2.3"}


def test_peers_are_those_of_networks_with_its_addresses() -> None:
    document = plan(cluster(networks(DATA, STORAGE))).document
    assert {peer["network"] for peer in vip_peers(document, "h1")} == {"data"}


def test_keys() -> None:
    items = [{**API, "psk": PSK}, DB]
    document = plan(cluster({**MESH_PSK, **vips(*items)})).document
    derived = vip_key(SECRET, "db")
    assert vip_keys(document, "h1", SECRET, items) == [
        {"ids": ["@h1", "@underlay-vip-db"], "psk": derived},
        {"ids": ["@h1", f"@{ID}"], "psk": PSK},
        {"ids": [f"@{ID}", "%any"], "psk": PSK},
    ]
    assert vip_keys(document, "h3", SECRET, items) == [
        {"ids": ["@h3", "@underlay-vip-db"], "psk": derived},
        {"ids": ["@underlay-vip-db", "%any"], "psk": derived},
        {"ids": ["@h3", f"@{ID}"], "psk": PSK},
    ]


def test_no_keys_with_certificates_or_on_other_networks() -> None:
    assert vip_keys(plan(cluster({})).document, "h1", SECRET, [API]) == []
    variables = {**MESH_PSK, **networks(DATA, STORAGE), **vips(API)}
    elsewhere = host(4, {**variables, "ipsec_addresses": {"storage": "10.89.0.4"}})
    document = plan([host(1, variables), host(2, variables), elsewhere]).document
    assert vip_keys(document, "h4", SECRET, [API]) == []


def test_derived_keys_are_48_bytes_that_differ_by_name_and_secret() -> None:
    keys = {vip_key(secret, name) for secret in (SECRET, SECRET + "!") for name in ("a", "b")}
    assert len(keys) == 4
    assert {len(key) for key in keys} == {64}
    assert vip_key(SECRET, "a") in keys
