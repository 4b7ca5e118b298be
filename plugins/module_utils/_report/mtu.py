# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the report says about MTUs: members and overlays that send more than what a network carries."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ansible_collections.underlay.ipsec.plugins.module_utils._errors import IpsecError
from ansible_collections.underlay.ipsec.plugins.module_utils._mtu.advise import OVERLAYS, overlay_over
from ansible_collections.underlay.ipsec.plugins.module_utils._mtu.links import carrier
from ansible_collections.underlay.ipsec.plugins.module_utils._report.expectation import natural

Data = Mapping[str, Any]


def mtu_warnings(plan: Data, results: Mapping[str, Data]) -> Iterator[str]:
    """Yield a warning for each interface and each overlay of a member that is too large for a network of the plan.

    *results* is what the members observed.
    """
    if plan["enforcement"] == "clear":
        return
    networks = {network["name"]: network for network in plan["networks"] if network.get("mtu") is not None}
    nat = {name for member in plan["members"].values() for name in member.get("nat_addresses", ())}
    for member in natural(results.keys() & plan["members"].keys()):
        addresses = plan["members"][member]["addresses"]
        on_networks = {name: network for name, network in networks.items() if name in addresses}
        links, ways = results[member].get("links", ()), results[member].get("ways", {})
        yield from _interfaces(member, on_networks, links, ways)
        ends = {name: (network["cidr"], addresses[name]) for name, network in on_networks.items()}
        interfaces = {name: way["interface"] for name, way in ways.items()}
        for link in links:
            if link["kind"] in OVERLAYS and link["up"]:
                name = carrier(link, ends, interfaces)
                if name is not None:
                    yield from _overlay(member, link, on_networks[name], nat=name in nat)


def _interfaces(
    member: str, networks: Mapping[str, Data], links: Any, ways: Mapping[str, Data]
) -> Iterator[str]:
    mtus = {link["name"]: link["mtu"] for link in links}
    for name, network in networks.items():
        way = ways.get(name)
        if way is None or way["interface"] not in mtus:
            continue
        mtu = way["mtu"] or mtus[way["interface"]]
        if mtu > network["mtu"]:
            yield (
                f"{member}: {way['interface']} sends packets of up to {mtu} bytes to the network {name}, which carries"
                f" {network['mtu']}: set ipsec_mtu to route or interface, or correct the MTU of the network"
            )


def _overlay(member: str, link: Data, network: Data, *, nat: bool) -> Iterator[str]:
    what = f"{member}: {link['name']} ({link['kind']} over the network {network['name']}) has an MTU of {link['mtu']}"
    try:
        advised = overlay_over(link, network, network["mtu"], nat=nat)
    except IpsecError as error:
        yield f"{what}, and no MTU suits it: {error}"
        return
    if link["mtu"] > advised:
        yield (
            f"{what}, and with ESP {advised} is what fits; larger packets travel as fragments or not at all: set its MTU to"
            f" {advised} at both ends, or let ipsec_mtu and ipsec_mtu_overlays do it"
        )
