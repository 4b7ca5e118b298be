# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a member's address comes from."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest
from ansible_collections.underlay.ipsec.plugins.module_utils._model.cluster import (
    DefaultRoute,
    Host,
    HostAddress,
    HostFacts,
    Network,
    Problems,
)
from ansible_collections.underlay.ipsec.plugins.module_utils._plan.addresses import (
    check_unique,
    default_networks,
    member_addresses,
    stray,
)

DATA = Network("data", ipaddress.ip_network("10.88.0.0/24"))
STORAGE = Network("storage", ipaddress.ip_network("10.89.0.0/24"))
SIX = Network("six", ipaddress.ip_network("fd00:88::/64"))
NETWORKS = {network.name: network for network in (DATA, STORAGE)}


def seen(*cidrs: str, secondary: bool = False, interface: str = "eth1") -> tuple[HostAddress, ...]:
    interfaces = [ipaddress.ip_interface(cidr) for cidr in cidrs]
    return tuple(HostAddress(interface, item.ip, item.network.prefixlen, secondary) for item in interfaces)


def given(**addresses: str) -> dict[str, Any]:
    return {name: ipaddress.ip_address(address) for name, address in addresses.items()}


def resolve(host: Host, wanted: dict[str, Any] | None = None) -> tuple[dict[str, str], list[str]]:
    problems = Problems()
    result = member_addresses(host, wanted, NETWORKS, problems)
    return {name: str(address) for name, address in result.items()}, [problem.message for problem in problems]


BOTH = seen("10.77.0.1/24", "10.88.0.1/24", "10.89.0.1/24")


@pytest.mark.parametrize(
    ("host", "wanted", "expected"),
    [
        pytest.param(
            Host("h1", {}, HostFacts(BOTH)),
            None,
            {"data": "10.88.0.1", "storage": "10.89.0.1"},
            id="from the host",
        ),
        pytest.param(
            Host("h1", {}, HostFacts(BOTH)),
            given(data="10.88.0.1"),
            {"data": "10.88.0.1"},
            id="given is the whole truth",
        ),
        pytest.param(
            Host("h1", {}),
            given(data="10.88.0.9"),
            {"data": "10.88.0.9"},
            id="given for a host that was not reached",
        ),
        pytest.param(
            Host("h1", {}, HostFacts(seen("10.88.0.1/24"))),
            None,
            {"data": "10.88.0.1"},
            id="not on every network",
        ),
        pytest.param(
            Host("h1", {}, HostFacts(seen("10.88.0.1/24", "10.88.0.100/32"))),
            None,
            {"data": "10.88.0.1"},
            id="a /32 floats",
        ),
        pytest.param(
            Host("h1", {}, HostFacts(seen("10.88.0.100/24", secondary=True) + seen("10.88.0.1/24"))),
            None,
            {"data": "10.88.0.1"},
            id="a secondary address floats",
        ),
        pytest.param(
            Host("h1", {}, HostFacts(seen("10.88.0.1/32"))),
            None,
            {"data": "10.88.0.1"},
            id="a /32 alone is the one",
        ),
        pytest.param(
            Host("h1", {}, HostFacts(seen("10.88.0.1/24") + seen("10.88.0.1/24", interface="br0"))),
            None,
            {"data": "10.88.0.1"},
            id="one address on two interfaces",
        ),
        pytest.param(
            Host("h1", {}, HostFacts(seen("10.88.0.1/24")), ansible_host="10.89.0.1"),
            None,
            {"data": "10.88.0.1"},
            id="the host knows better than ansible_host",
        ),
        pytest.param(
            Host("h1", {}, cached=BOTH),
            None,
            {"data": "10.88.0.1", "storage": "10.89.0.1"},
            id="from the cache",
        ),
        pytest.param(
            Host("h1", {}, HostFacts(seen("10.88.0.1/24")), cached=seen("10.88.0.7/24")),
            None,
            {"data": "10.88.0.1"},
            id="this run knows better than the cache",
        ),
    ],
)
def test_found(host: Host, wanted: dict[str, Any] | None, expected: dict[str, str]) -> None:
    assert resolve(host, wanted) == (expected, [])


def test_literal_ansible_host_is_the_last_resort() -> None:
    problems = Problems()
    host = Host("h1", {}, ansible_host="10.88.0.1")
    assert member_addresses(host, None, {"data": DATA}, problems) == {
        "data": ipaddress.ip_address("10.88.0.1")
    }
    assert problems == []


@pytest.mark.parametrize("ansible_host", [None, "h1.example", "10.77.0.1"])
def test_not_reached_and_unknown(ansible_host: str | None) -> None:
    found, messages = resolve(Host("h1", {}, ansible_host=ansible_host))
    assert found == {}
    assert messages == [
        "the host was not reached in this run, and its address on data (10.88.0.0/24) is not known",
        "the host was not reached in this run, and its address on storage (10.89.0.0/24) is not known",
    ]


def test_ansible_host_tells_nothing_of_the_other_networks() -> None:
    found, messages = resolve(Host("h1", {}, ansible_host="10.88.0.1"))
    assert found == {"data": "10.88.0.1"}
    assert messages == [
        "the host was not reached in this run, and its address on storage (10.89.0.0/24) is not known"
    ]


def test_cached_addresses_outside_every_network() -> None:
    host = Host("h1", {}, cached=seen("10.77.0.1/24"))
    assert resolve(host) == ({}, [])
    assert stray(host, list(NETWORKS.values())).message == (
        "none of its cached addresses (10.77.0.1) lies in a network of ipsec_networks (data 10.88.0.0/24, storage 10.89.0.0/24)"
    )


def test_unique() -> None:
    problems = Problems()
    one, two = ipaddress.ip_address("10.88.0.1"), ipaddress.ip_address("10.88.0.2")
    check_unique(
        {"h1": {"data": one}, "h2": {"data": one}, "h3": {"data": two}, "h4": {"data": two}}, problems
    )
    assert [(problem.host, problem.message) for problem in problems] == [
        ("h2", "10.88.0.1 is also the address of h1"),
        ("h4", "10.88.0.2 is also the address of h3"),
    ]


def routed(number: int, *routes: DefaultRoute, addresses: tuple[HostAddress, ...] | None = None) -> Host:
    own = seen(f"10.88.0.{number}/24", f"fd00:88::{number}/64") + seen(
        f"10.77.0.{number}/24", interface="eth0"
    )
    return Host(f"h{number}", {}, HostFacts(own if addresses is None else addresses, default_routes=routes))


def via(gateway: str | None, interface: str = "eth1", family: int = 4) -> DefaultRoute:
    return DefaultRoute(family, interface, ipaddress.ip_address(gateway) if gateway else None)


@pytest.mark.parametrize(
    ("hosts", "cidr"),
    [
        pytest.param(
            [routed(1, via("10.88.0.254")), routed(2, via("10.88.0.254"))], "10.88.0.0/24", id="IPv4"
        ),
        pytest.param([routed(1, via("fe80::1", family=6))], "fd00:88::/64", id="IPv6 if there is no IPv4"),
        pytest.param(
            [routed(1, via("10.77.0.254", "eth0"), via("fe80::1", family=6))],
            "10.77.0.0/24",
            id="IPv4 is preferred",
        ),
        pytest.param([routed(1, via(None))], "10.88.0.0/24", id="no gateway"),
        pytest.param(
            [routed(1, via("10.88.0.254"), addresses=seen("10.88.0.1/24", "10.88.0.100/32"))],
            "10.88.0.0/24",
            id="a VIP beside",
        ),
        pytest.param(
            [routed(1, via("10.90.0.254"), addresses=seen("10.88.0.1/24", "10.90.0.1/24"))],
            "10.90.0.0/24",
            id="the gateway decides",
        ),
        pytest.param(
            [routed(1, via("10.88.0.254")), Host("h2", {})], "10.88.0.0/24", id="one was not reached"
        ),
    ],
)
def test_default_network(hosts: list[Host], cidr: str) -> None:
    problems = Problems()
    assert default_networks(hosts, "always", problems) == (
        Network("default", ipaddress.ip_network(cidr), encapsulation="always"),
    )
    assert problems == []


@pytest.mark.parametrize(
    ("hosts", "host", "said"),
    [
        pytest.param(
            [Host("h1", {})],
            None,
            "it is not set, and no host was reached that could tell",
            id="nobody reached",
        ),
        pytest.param(
            [routed(1)],
            "h1",
            "it is not set, and this host has no default route through one network",
            id="no route",
        ),
        pytest.param(
            [routed(1, via("10.88.0.254"), addresses=seen("10.88.0.1/32"))],
            "h1",
            "it is not set, and this host has no default route through one network",
            id="a /32 is no network",
        ),
        pytest.param(
            [
                routed(1, via("10.88.0.254")),
                routed(2, via("10.77.0.254", "eth0")),
                routed(3, via("10.88.0.254")),
            ],
            None,
            "it is not set, and the hosts have their default routes in different networks: 10.77.0.0/24 on h2; 10.88.0.0/24 on h1, h3",
            id="they disagree",
        ),
    ],
)
def test_no_default_network(hosts: list[Host], host: str | None, said: str) -> None:
    problems = Problems()
    assert not default_networks(hosts, "auto", problems)
    assert [(problem.host, problem.variable, problem.message) for problem in problems] == [
        (host, "ipsec_networks", said)
    ]
    assert problems[0].remedy == "Set ipsec_networks"


def test_ipv6_subnet_router_address_is_reserved() -> None:
    problems = Problems()
    member_addresses(Host("h1", {}), given(six="fd00:88::"), {"six": SIX}, problems)
    assert [problem.variable for problem in problems] == ["ipsec_addresses.six"]
