# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the plan says about MTUs."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import pytest
from ansible_collections.underlay.ipsec.plugins.module_utils._errors import Problem
from ansible_collections.underlay.ipsec.plugins.module_utils._model.cluster import HostAddress
from ansible_collections.underlay.ipsec.plugins.module_utils._plan.mtu import (
    clamp,
    effective_mtus,
    interfaces_of,
    mtu_problems,
    slice_mtu,
)


def link(name: str, mtu: int = 1500, **changes: Any) -> dict[str, Any]:
    keys: dict[str, Any] = dict.fromkeys(("kind", "lower", "local", "remote", "family"))
    return {"name": name, "mtu": mtu, **keys, "up": True, "options": 0, **changes}


def vxlan(name: str = "vxlan100", mtu: int = 1450, **changes: Any) -> dict[str, Any]:
    return link(name, mtu, **{"kind": "vxlan", "local": "10.88.0.1", "family": 4, **changes})


def network(name: str = "data", mtu: int | None = None, **changes: Any) -> dict[str, Any]:
    return {
        "name": name,
        "cidr": "10.88.0.0/24",
        "address": "10.88.0.1",
        "family": 4,
        "mode": "transport",
        "esp": "aes_gcm256",
        "encapsulation": "auto",
        "mtu": mtu,
        **changes,
    }


DATA6 = network("data6", cidr="fd88::/64", address="fd88::1", family=6)


def member(*links: dict[str, Any], index: int = 1) -> dict[str, Any]:
    return {
        "links": links or (link("eth1"),),
        "interfaces": {"data": "eth1"},
        "addresses": {"data": f"10.88.0.{index}"},
    }


def check(
    networks: list[dict[str, Any]], method: str = "advise", overlays: tuple[str, ...] = (), **changes: Any
) -> tuple[list[Problem], list[str]]:
    members = changes.pop("members", {"h1": member()})
    mtus = effective_mtus(
        networks,
        {name: known["links"] for name, known in members.items()},
        {name: known["interfaces"] for name, known in members.items()},
    )
    return mtu_problems(
        method=method,
        overlays=overlays,
        networks=networks,
        mtus=mtus,
        members=members,
        **{"clamp": False, "nat": (), **changes},
    )


def test_interface_has_the_address() -> None:
    known = [HostAddress("eth0", ip_address("10.77.0.1"), 24), HostAddress("eth1", ip_address("fd88::1"), 64)]
    addresses = {
        "mgmt": ip_address("10.77.0.1"),
        "data6": ip_address("fd88:0::1"),
        "gone": ip_address("10.9.9.9"),
    }
    assert interfaces_of(known, addresses) == {"mgmt": "eth0", "data6": "eth1"}


@pytest.mark.parametrize(
    ("declared", "links", "mtu"),
    [
        (None, {"h1": [link("eth1", 9000)], "h2": [link("eth1", 1500), link("eth2", 1400)]}, 1500),
        (1400, {"h1": [link("eth1", 9000)]}, 1400),
        (None, {"h1": [link("eth2", 9000)]}, None),
        (None, {}, None),
        # A host that is not on the network.
        (None, {"h3": [link("eth1", 1280)]}, None),
    ],
)
def test_effective_mtu(declared: int | None, links: dict[str, Any], mtu: int | None) -> None:
    interfaces = {"h1": {"data": "eth1"}, "h2": {"data": "eth1"}, "h3": {}}
    assert effective_mtus([network(mtu=declared)], links, interfaces) == {"data": mtu}


@pytest.mark.parametrize("mtu", [None, 1400, 1500])
def test_nothing_is_wrong(mtu: int | None) -> None:
    assert check([network(mtu=mtu)]) == ([], [])


@pytest.mark.parametrize(
    ("method", "problems", "warnings"), [("advise", 0, 1), ("route", 1, 0), ("interface", 0, 0)]
)
def test_declared_is_more_than_an_interface_has(method: str, problems: int, warnings: int) -> None:
    found, warned = check([network(mtu=9000)], method)
    assert (len(found), len(warned)) == (problems, warnings)
    for problem in found:
        assert (problem.host, problem.variable) == ("h1", "ipsec_networks[0].mtu")
        assert "eth1 has an MTU of 1500, less than the 9000" in problem.message
    assert all(text.startswith("h1: eth1 has an MTU of 1500") for text in warned)


def test_declared_is_too_small() -> None:
    found, _warned = check([network(), {**DATA6, "mtu": 1300}])
    assert [(problem.variable, problem.host) for problem in found] == [("ipsec_networks[1].mtu", None)]
    assert "leaves 1266 of 1300 bytes, and IPv6 needs 1280" in found[0].message


def test_interface_is_too_small() -> None:
    members = {
        "h1": {**member(link("eth1", 1500)), "interfaces": {"data6": "eth1"}},
        "h2": {**member(link("eth1", 1290)), "interfaces": {"data6": "eth1"}},
    }
    found, _warned = check([DATA6], members=members)
    assert [(problem.variable, problem.host) for problem in found] == [("ipsec_networks", "h2")]
    assert found[0].message.startswith("eth1, on the network data6, has an MTU of 1290: ESP")


def test_nat_counts() -> None:
    """Tunnel mode in UDP is what leaves too little."""
    narrow = {**DATA6, "mtu": 1330}
    assert check([narrow])[0] == []
    assert len(check([narrow], nat=["data6"])[0]) == 1


OVERLAYS: list[tuple[dict[str, Any], str]] = [
    (vxlan("vxlan10"), "the host has no interface 'vxlan100', did you mean 'vxlan10'"),
    (link("vxlan100"), "vxlan100 is no overlay, and"),
    (link("vxlan100", kind="bridge"), "vxlan100 is bridge, and"),
    (vxlan(local="10.77.0.1"), "does not travel over a network"),
    (vxlan(remote="192.0.2.1"), "does not travel over a network"),
]


@pytest.mark.parametrize(("overlay", "message"), OVERLAYS)
def test_overlay_that_cannot_be(overlay: dict[str, Any], message: str) -> None:
    found, _warned = check(
        [network()], "interface", ("vxlan100",), members={"h1": member(link("eth1"), overlay)}
    )
    assert [(problem.variable, problem.host) for problem in found] == [("ipsec_mtu_overlays", "h1")]
    assert message in found[0].message


def test_overlay_of_a_network_without_room() -> None:
    found, _warned = check(
        [network(mtu=110)], "interface", ("vxlan100",), members={"h1": member(link("eth1"), vxlan())}
    )
    assert [problem.variable for problem in found] == ["ipsec_mtu_overlays"]
    assert "no MTU suits vxlan100: 74 bytes are not enough for vxlan" in found[0].message


def test_network_without_room_is_one_problem() -> None:
    found, _warned = check(
        [network(mtu=80)], "interface", ("vxlan100",), members={"h1": member(link("eth1"), vxlan())}
    )
    assert [problem.variable for problem in found] == ["ipsec_networks[0].mtu"]


def test_overlay_is_fine() -> None:
    members = {"h1": member(link("eth1"), vxlan())}
    assert check([network()], "interface", ("vxlan100",), members=members) == ([], [])


@pytest.mark.parametrize("method", ["advise", "route"])
def test_overlays_need_the_method(method: str) -> None:
    found, _warned = check([network()], method, ("vxlan100",), members={"h1": member(link("eth1"), vxlan())})
    assert [problem.variable for problem in found] == ["ipsec_mtu_overlays"]
    assert found[0].host is None


def test_clamp_of_what_nobody_knows() -> None:
    assert check([network()], members={}, clamp=True) == (
        [],
        ["ipsec_mss_clamp has no effect, because the MTU of no network is known"],
    )


LINKS = [
    link("eth1"),
    vxlan(),
    vxlan("small", 1200),
    vxlan("elsewhere", remote="192.0.2.1"),
    link("gre1", 1450, kind="gre", remote="10.88.0.2", family=4, options=4),
]


def test_slice() -> None:
    found = slice_mtu(
        "interface",
        ["vxlan100", "gre1"],
        [network(mode="tunnel", encapsulation="always"), DATA6, network("store", cidr="10.89.0.0/24")],
        {"data": 1500, "data6": None, "store": 9000},
        {"data": "eth1", "data6": "eth1"},
        LINKS,
        (),
    )
    assert found == {
        "method": "interface",
        "networks": [
            {
                "name": "data",
                "interface": "eth1",
                "cidr": "10.88.0.0/24",
                "address": "10.88.0.1",
                "family": 4,
                "mtu": 1500,
            }
        ],
        "overlays": [{"interface": "vxlan100", "mtu": 1388}, {"interface": "gre1", "mtu": 1410}],
    }


def test_clamp() -> None:
    assert clamp([network()], {"data": 1500}, {"data": "eth1"}, LINKS, ["data"]) == [
        {"interface": "eth1", "cidr": "10.88.0.0/24", "mtu": 1438},
        {"interface": "vxlan100", "cidr": None, "mtu": 1388},
        {"interface": "small", "cidr": None, "mtu": 1200},
        {"interface": "gre1", "cidr": None, "mtu": 1410},
    ]


@pytest.mark.parametrize("mtu", [None, 80])
def test_no_clamp_where_no_figure_is(mtu: int | None) -> None:
    assert clamp([network()], {"data": mtu}, {"data": "eth1"}, LINKS, ()) == []
