# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Warnings about interfaces and overlays that are too large."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.underlay.ipsec.plugins.module_utils._report.mtu import mtu_warnings

NETWORK = {
    "name": "data",
    "cidr": "10.88.0.0/24",
    "family": 4,
    "mode": "transport",
    "esp": "aes_gcm256",
    "encapsulation": "auto",
    "mtu": 1500,
}
VXLAN = {
    "name": "vxlan100",
    "mtu": 1450,
    "kind": "vxlan",
    "lower": "eth1",
    "local": "10.88.0.1",
    "remote": "10.88.0.2",
    "family": 4,
    "up": True,
    "options": 0,
}


def plan(**changes: Any) -> dict[str, Any]:
    member = {"addresses": {"data": "10.88.0.1"}, "nat_addresses": changes.pop("nat_addresses", {})}
    return {
        "enforcement": changes.pop("enforcement", "private"),
        "networks": [{**NETWORK, **changes}],
        "members": {"h1": member},
    }


def observed(*links: dict[str, Any], mtu: int = 1500, route: int | None = None) -> dict[str, Any]:
    device = {**dict.fromkeys(("kind", "lower", "local", "remote", "family")), "up": True, "options": 0}
    return {
        "h1": {
            "links": [{**device, "name": "eth1", "mtu": mtu}, *links],
            "ways": {"data": {"interface": "eth1", "mtu": route}},
        }
    }


def warnings(results: dict[str, Any], **changes: Any) -> list[str]:
    return list(mtu_warnings(plan(**changes), results))


@pytest.mark.parametrize(
    ("mtu", "route", "said"),
    [
        (1500, None, None),
        (1400, None, None),
        (9000, None, "h1: eth1 sends packets of up to 9000 bytes to the network data, which carries 1500"),
        # What the role mtu does about it.
        (9000, 1500, None),
        (9000, 4000, "up to 4000 bytes"),
    ],
)
def test_interface(mtu: int, route: int | None, said: str | None) -> None:
    found = warnings(observed(mtu=mtu, route=route))
    assert len(found) == (1 if said else 0)
    assert all(said in text for text in found if said)


@pytest.mark.parametrize(
    ("changes", "settings", "advised"),
    [
        ({}, {}, 1416),
        ({"mtu": 1416}, {}, None),
        ({"mtu": 1417}, {}, 1416),
        ({}, {"mode": "tunnel", "encapsulation": "always"}, 1388),
        ({}, {"nat_addresses": {"data": "192.0.2.1"}}, 1388),
        ({"kind": "gre", "options": 4}, {}, 1438),
        ({}, {"mtu": 9000}, None),
        ({}, {"enforcement": "clear"}, None),
        ({"up": False}, {}, None),
        ({"remote": "192.0.2.9"}, {}, None),
        ({"kind": "bridge"}, {}, None),
        ({}, {"mtu": None}, None),
    ],
)
def test_overlay(changes: dict[str, Any], settings: dict[str, Any], advised: int | None) -> None:
    link = {**VXLAN, **changes}
    found = warnings(observed(link), **settings)
    assert found == (
        [
            f"h1: vxlan100 ({link['kind']} over the network data) has an MTU of {link['mtu']}, and with ESP {advised} is"
            f" what fits; larger packets travel as fragments or not at all: set its MTU to {advised} at both ends,"
            " or let ipsec_mtu and ipsec_mtu_overlays do it"
        ]
        if advised
        else []
    )


def test_no_mtu_suits_the_overlay() -> None:
    (said,) = warnings(observed(VXLAN, mtu=100), mtu=110)
    assert "no MTU suits it: 74 bytes are not enough for vxlan" in said


@pytest.mark.parametrize("results", [{}, {"h1": {}}, {"h1": {"unreachable": True}}, {"h9": observed()["h1"]}])
def test_nothing_was_observed(results: dict[str, Any]) -> None:
    assert warnings(results) == []
