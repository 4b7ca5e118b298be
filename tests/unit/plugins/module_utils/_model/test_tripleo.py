# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""TripleO's words in ours."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest
from ansible_collections.underlay.ipsec.plugins.module_utils._model import tripleo
from ansible_collections.underlay.ipsec.plugins.module_utils._model.cluster import (
    HostAddress,
    Problems,
    Unreadable,
)

PSK = "0123456789abcdef" * 4
CLOUD = {
    "enabled_networks": ["ctlplane", "internal_api", "storage"],
    "ctlplane_vip": "192.168.24.250",
    "internal_api_vip": "172.16.2.250",
    "storage_vip": "172.16.1.250",
    "redis_vip": "172.16.2.251",
    "ipsec_psk": PSK,
}
GROUPS = {"overcloud": ["controller-0", "controller-1", "compute-0"], "pacemaker": ["controller-0", "controller-1"]}  # fmt: skip


def node(name: str, number: int, *, storage: bool = True, reached: bool = True, **more: Any) -> tripleo.Node:
    addresses = {
        "ctlplane": f"192.168.24.{number}",
        "internal_api": f"172.16.2.{number}",
        "storage": f"172.16.1.{number}" if storage else f"192.168.24.{number}",
    }
    variables = {**CLOUD, **{f"{key}_ip": value for key, value in addresses.items()}, **more}
    has = [
        HostAddress(key, ipaddress.ip_address(value), 24, secondary=False)
        for key, value in addresses.items()
        if value != addresses["ctlplane"] or key == "ctlplane"
    ]
    return tripleo.Node(
        name, {k: v for k, v in variables.items() if tripleo.matters(k)}, has if reached else ()
    )


def cloud(**more: Any) -> list[tripleo.Node]:
    return [
        node("controller-0", 10, **more),
        node("controller-1", 11, **more),
        node("compute-0", 20, storage=False, **more),
    ]


def translated(
    nodes: list[tripleo.Node] | None = None, groups: dict[str, list[str]] | None = None, **more: Any
) -> tripleo.Translation:
    problems = Problems()
    found = tripleo.translate(nodes or cloud(**more), GROUPS if groups is None else groups, problems)
    assert not problems
    return found


def problems_of(nodes: list[tripleo.Node] | None = None, **more: Any) -> list[str]:
    problems = Problems()
    tripleo.translate(nodes or cloud(**more), GROUPS, problems)
    return [str(problem) for problem in problems]


def test_a_cloud() -> None:
    found = translated()
    assert found.cluster == {
        "ipsec_topology": "mesh",
        "ipsec_auth": "psk",
        "ipsec_mode": "tunnel",
        "ipsec_ike": "aes_gcm256-sha2_384-dh20,aes_gcm256-sha2_512-dh20",
        "ipsec_esp": "aes_gcm128",
        "ipsec_networks": [
            {"name": "internal_api", "cidr": "172.16.2.0/24"},
            {"name": "storage", "cidr": "172.16.1.0/24"},
        ],
        "ipsec_vips": [
            {
                "name": name,
                "address": address,
                "network": network,
                "holders": ["controller-0", "controller-1"],
                "id": f"@{name}vip",
            }
            for name, address, network in (
                ("internal_api", "172.16.2.250", "internal_api"),
                ("redis", "172.16.2.251", "internal_api"),
                ("storage", "172.16.1.250", "storage"),
            )
        ],
        "ipsec_vip_manager": "pacemaker",
        "ipsec_firewall": "auto",
    }
    assert found.keyed


def test_a_host_has_addresses_where_it_is() -> None:
    assert translated().hosts == {
        "controller-0": {"ipsec_addresses": {"internal_api": "172.16.2.10", "storage": "172.16.1.10"}},
        "controller-1": {"ipsec_addresses": {"internal_api": "172.16.2.11", "storage": "172.16.1.11"}},
        "compute-0": {"ipsec_addresses": {"internal_api": "172.16.2.20"}},
    }


def test_there_is_no_secret_in_it() -> None:
    assert PSK not in str(translated().as_dict())


@pytest.mark.parametrize(
    ("variables", "name", "expected"),
    [
        ({"ipsec_algorithm": "aes_gcm256-null"}, "ipsec_esp", "aes_gcm256"),
        ({"ipsec_algorithm": "aes_gcm256-null,aes_gcm128-null"}, "ipsec_esp", "aes_gcm256,aes_gcm128"),
        ({"ipsec_configure_vips": False}, "ipsec_vips", []),
        ({"ipsec_configure_vips": "no"}, "ipsec_vips", []),
        ({"ipsec_setup_resource_agents": "false"}, "ipsec_vip_manager", "none"),
        ({"ipsec_skip_firewall_rules": True}, "ipsec_firewall", "none"),
        ({"ipsec_skip_firewall_rules": "False"}, "ipsec_firewall", "auto"),
    ],
)
def test_each_variable(variables: dict[str, Any], name: str, expected: object) -> None:
    assert translated(**variables).cluster[name] == expected


@pytest.mark.parametrize("skipped", [["storage"], "storage", "['storage', 'tenant']"])
def test_networks_that_are_skipped(skipped: object) -> None:
    found = translated(ipsec_skip_networks=skipped)
    assert [network["name"] for network in found.cluster["ipsec_networks"]] == ["internal_api"]
    assert [vip["name"] for vip in found.cluster["ipsec_vips"]] == ["internal_api", "redis"]
    assert found.hosts["controller-0"] == {"ipsec_addresses": {"internal_api": "172.16.2.10"}}


def test_redis_can_be_skipped_and_goes_with_its_network() -> None:
    for skipped in (["redis"], ["internal_api"]):
        vips = translated(ipsec_skip_networks=skipped).cluster["ipsec_vips"]
        assert "redis" not in [vip["name"] for vip in vips]


@pytest.mark.parametrize("count", [1, 7])
def test_any_number_of_networks(count: int) -> None:
    names = [f"network_{number}" for number in range(count)]
    variables = {f"{name}_ip": f"10.{index}.0.1" for index, name in enumerate(names)}
    has = [
        HostAddress(name, ipaddress.ip_address(f"10.{index}.0.1"), 16, secondary=False)
        for index, name in enumerate(names)
    ]
    only = tripleo.Node(
        "c", {"enabled_networks": ["ctlplane", *names], "ctlplane_ip": "1.2.3.4", "ipsec_psk": PSK, **variables}, has
    )  # fmt: skip
    found = translated([only])
    assert [network["name"] for network in found.cluster["ipsec_networks"]] == names
    assert list(found.hosts["c"]["ipsec_addresses"]) == names


@pytest.mark.parametrize(
    "enabled",
    [
        ["InternalApi", "Storage"],
        ["internal_api", "storage"],
        "InternalApi,Storage",
    ],
)
def test_networks_by_the_names_of_any_release(enabled: object) -> None:
    found = translated(enabled_networks=enabled)
    assert found == translated()


def test_each_role_lists_its_networks() -> None:
    """As inventories do from Train on, which have no list for the cloud."""
    nodes = [
        node("controller-0", 10, tripleo_role_networks=["ctlplane", "internal_api", "storage"]),
        node("controller-1", 11, tripleo_role_networks=["ctlplane", "internal_api", "storage"]),
        node("compute-0", 20, storage=False, tripleo_role_networks=["internal_api", "ctlplane"]),
    ]
    for found in nodes:
        found.variables.pop("enabled_networks")  # type: ignore[attr-defined]
    assert translated(nodes) == translated()


def test_a_network_that_all_hosts_reach_over_the_control_plane_is_left_alone() -> None:
    nodes = [
        node(f"controller-{n}", 10 + n, enabled_networks=["internal_api", "management"], management_ip=f"192.168.24.{10 + n}")
        for n in (0, 1)
    ]  # fmt: skip
    assert [network["name"] for network in translated(nodes).cluster["ipsec_networks"]] == ["internal_api"]


def test_networks_with_a_subnet_for_each_rack_are_listed_by_the_user() -> None:
    racks = [
        {"name": "internal_api", "cidr": "172.16.2.0/28"},
        {"name": "internal_api_2", "cidr": "172.16.2.16/28"},
    ]
    found = translated(ipsec_networks=racks, internal_api_vip="172.16.2.12", redis_vip="172.16.2.13")
    assert "ipsec_networks" not in found.cluster
    assert found.hosts["controller-0"] == {"ipsec_addresses": {"internal_api": "172.16.2.10"}}
    assert found.hosts["compute-0"] == {"ipsec_addresses": {"internal_api_2": "172.16.2.20"}}
    assert [(vip["name"], vip["network"]) for vip in found.cluster["ipsec_vips"]] == [
        ("internal_api", "internal_api"),
        ("redis", "internal_api"),
    ]


@pytest.mark.parametrize("wrong", [None, {}, ["x"], [{"name": "x"}], [{"name": "x", "cidr": "y"}]])
def test_networks_that_the_user_has_got_wrong_are_for_the_plan_to_find(wrong: object) -> None:
    assert translated(ipsec_networks=wrong).cluster["ipsec_vips"] == []


def test_controllers_without_the_group_pacemaker() -> None:
    nodes = [
        node("ctrl-a", 10, overcloud_controller_identifier="ctrl"),
        node("x", 20, overcloud_controller_identifier="ctrl"),
    ]
    assert translated(nodes, {}).cluster["ipsec_vips"][0]["holders"] == ["ctrl-a"]
    assert translated(groups={}).cluster["ipsec_vips"][0]["holders"] == ["controller-0", "controller-1"]


def test_holders_are_on_the_network() -> None:
    groups = {**GROUPS, "pacemaker": ["controller-0", "compute-0", "elsewhere"]}
    holders = {vip["name"]: vip["holders"] for vip in translated(groups=groups).cluster["ipsec_vips"]}
    assert holders["storage"] == ["controller-0"]
    assert holders["redis"] == ["compute-0", "controller-0"]


def test_ours_win() -> None:
    nodes = [
        *cloud(ipsec_mode="transport", ipsec_vips=[]),
        node("own", 30, ipsec_addresses={"storage": "172.16.1.99"}),
    ]
    found = translated(nodes)
    assert not {"ipsec_mode", "ipsec_vips"} & found.cluster.keys()
    assert "own" not in found.hosts


def test_certificates_need_no_key() -> None:
    found = translated(ipsec_auth="certificate", ipsec_psk=None)
    assert not found.keyed
    assert "ipsec_auth" not in found.cluster
    # Those of tripleo-ipsec can be in no certificate.
    assert all("id" not in vip for vip in found.cluster["ipsec_vips"])


def test_a_limited_run_knows_the_networks_of_newer_inventories() -> None:
    nodes = [node("controller-0", 10, reached=False, storage_cidr="24", internal_api_cidr=24)]
    assert translated(nodes).cluster["ipsec_networks"] == [
        {"name": "internal_api", "cidr": "172.16.2.0/24"},
        {"name": "storage", "cidr": "172.16.1.0/24"},
    ]


def test_variables_of_networks_that_are_not_there_do_not_matter() -> None:
    nodes = [node("controller-0", 10, floating_vip=1, other_ip=Unreadable("no")), node("controller-1", 11, floating_vip=2)]  # fmt: skip
    translated(nodes)


def test_the_variables_of_a_host() -> None:
    found = translated().as_dict()
    own = {"ipsec_psk": PSK, "ipsec_skip_networks": [], "ipsec_fail_closed": False}
    variables = tripleo.variables_of("compute-0", own, found)
    assert variables["ipsec_psk_secret"] == PSK
    assert variables["ipsec_addresses"] == {"internal_api": "172.16.2.20"}
    assert variables["ipsec_fail_closed"] is False
    assert [vip["psk"] for vip in variables["ipsec_vips"]] == [PSK] * 3
    assert not tripleo.VARIABLES & variables.keys()
    assert tripleo.variables_of("compute-0", own, None) == own


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"ipsec_psk": None}, "ipsec_psk: it is not set"),
        ({"ipsec_psk": "short"}, "ipsec_psk: it is shorter than 32 characters"),
        ({"ipsec_psk": Unreadable("no vault")}, "controller-0: ipsec_psk: its value cannot be read: no vault"),
        ({"ipsec_algorithm": "rot13-null"}, "ipsec_algorithm: 'rot13-null'"),
        ({"use_opportunistic_ipsec": True}, "use_opportunistic_ipsec: null authentication"),
        ({"enabled_networks": []}, "enabled_networks: it is empty"),
        ({"enabled_networks": [1]}, "controller-0: enabled_networks: it is not a list"),
        ({"enabled_networks": ["ctlplane"]}, "enabled_networks: all of its networks are skipped, or the control plane"),
        ({"ipsec_skip_networks": ["internal_api", "Storage"]}, "enabled_networks: all of its networks are skipped"),
        ({"enabled_networks": ["internal_api", "stroage"]}, "stroage_ip: no host has it, and stroage is among the networks"),
        ({"ipsec_skip_networks": 5}, "ipsec_skip_networks: it is not a list"),
        ({"storage_vip": "172.16.9.9"}, "storage_vip: 172.16.9.9 lies outside of its network (172.16.1.0/24)"),
        ({"redis_vip": "x"}, "redis_vip: 'x' is not an address"),
    ],
)  # fmt: skip
def test_what_is_wrong(variables: dict[str, Any], expected: str) -> None:
    assert any(problem.startswith(expected) for problem in problems_of(**variables)), problems_of(**variables)


def test_what_is_wrong_on_one_host() -> None:
    wrong = [
        node("controller-0", 10, storage_ip="x"),
        node("controller-1", 11, storage_vip="172.16.1.9"),
        tripleo.Node(
            "compute-0",
            node("compute-0", 20).variables,
            [HostAddress("e", ipaddress.ip_address("172.16.2.20"), 16, secondary=False)],
        ),
    ]
    said = problems_of(wrong)
    assert any(line.startswith("controller-0: storage_ip: 'x' is not an address") for line in said)
    assert any(
        line.startswith("controller-1: storage_vip: it differs from the one of controller-0") for line in said
    )
    assert any(
        line.startswith("compute-0: internal_api_ip: the network is 172.16.0.0/16 there") for line in said
    )


def test_a_network_whose_size_nobody_knows() -> None:
    assert any(
        line.startswith("internal_api_ip: none of the hosts") for line in problems_of(cloud(reached=False))
    )


@pytest.mark.parametrize(
    ("setup", "expected"),
    [
        ({}, {}),
        ({"uniqueids": "no"}, {}),
        ({"uniqueids": "yes"}, {"uniqueids": "yes"}),
        ({"uniqueids": "no", "logfile": "/x"}, {"uniqueids": "no", "logfile": "/x"}),
    ],
)
def test_its_option_in_ipsec_conf(setup: dict[str, str], expected: dict[str, str]) -> None:
    assert tripleo.without_former_option(setup) == expected
