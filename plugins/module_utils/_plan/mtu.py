# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the plan says about MTUs.

An interface or route is never set to what fits *inside* ESP: the kernel subtracts that by itself, and would do it
twice. It is told what the network carries; what fits inside is for overlays and forwarded traffic.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from ansible_collections.underlay.ipsec.plugins.module_utils._errors import IpsecError, Problem
from ansible_collections.underlay.ipsec.plugins.module_utils._model.cluster import Address, HostAddress
from ansible_collections.underlay.ipsec.plugins.module_utils._model.typed import did_you_mean
from ansible_collections.underlay.ipsec.plugins.module_utils._mtu.advise import (
    OVERLAYS,
    carried,
    overlay_over,
)
from ansible_collections.underlay.ipsec.plugins.module_utils._mtu.links import carrier

Data = Mapping[str, Any]
Links = Mapping[str, Sequence[Data]]
"""Member → its interfaces, as `_mtu.links.parse_links` makes them."""
Interfaces = Mapping[str, str]
"""Network → the interface that has the member's address."""

ADVISE, ROUTE, INTERFACE = "advise", "route", "interface"


def interfaces_of(known: Iterable[HostAddress], addresses: Mapping[str, Address]) -> dict[str, str]:
    """Return network → the interface that has the member's address; *known* is what its host was seen with."""
    by_address = {entry.address: entry.interface for entry in known}
    return {name: by_address[address] for name, address in addresses.items() if address in by_address}


def effective_mtus(
    networks: Iterable[Data], links: Links, interfaces: Mapping[str, Interfaces]
) -> dict[str, int | None]:
    """Return network → what it carries: the declared ``mtu``, else the smallest of its members' interfaces.

    It is None if no member of the network was reached in this run.
    """
    return {
        network["name"]: network["mtu"]
        or min((mtu for mtu, member, interface in _seen(network["name"], links, interfaces)), default=None)
        for network in networks
    }


def mtu_problems(
    *,
    method: str,
    overlays: Sequence[str],
    clamp: bool,
    networks: Sequence[Data],
    mtus: Mapping[str, int | None],
    members: Mapping[str, Data],
    nat: Collection[str],
) -> tuple[list[Problem], list[str]]:
    """Return what is wrong with the MTUs of a cluster, and what is only worth a warning.

    *networks* are those of plan.json, but with the declared ``mtu``; *mtus* comes from `effective_mtus`; *members* is
    name → its ``links``, ``interfaces`` and ``addresses`` (network → address), for those that were reached; *nat* are
    the networks on which a member is behind NAT. *clamp* is ipsec_mss_clamp.
    """
    links = {name: member["links"] for name, member in members.items()}
    interfaces = {name: member["interfaces"] for name, member in members.items()}
    problems: list[Problem] = []
    warnings: list[str] = []
    for index, network in enumerate(networks):
        variable = f"ipsec_networks[{index}].mtu"
        seen = list(_seen(network["name"], links, interfaces))
        problems += _too_small(network, mtus[network["name"]], seen, variable, network["name"] in nat)
        for mtu, member, interface in seen:
            if network["mtu"] is None or network["mtu"] <= mtu:
                continue
            message = f"{interface} has an MTU of {mtu}, less than the {network['mtu']} that the network {network['name']} is declared to carry"
            if method == ROUTE:
                problems.append(
                    Problem(message, f"Set it to {mtu}, or give the interface a larger MTU", variable, member)
                )
            elif method == ADVISE:
                warnings.append(f"{member}: {message} ({variable})")
    if overlays and method != INTERFACE:
        problems.append(
            Problem(
                f"overlays get an MTU only if ipsec_mtu is {INTERFACE}, and it is {method}",
                f"Set ipsec_mtu to {INTERFACE}, or remove it",
                "ipsec_mtu_overlays",
            )
        )
    for member in members:
        problems += _overlay_problems(member, members[member], overlays, networks, mtus, nat)
    if clamp and all(mtu is None for mtu in mtus.values()):
        warnings.append("ipsec_mss_clamp has no effect, because the MTU of no network is known")
    return problems, warnings


def slice_mtu(
    method: str,
    overlays: Collection[str],
    on_networks: Sequence[Data],
    mtus: Mapping[str, int | None],
    interfaces: Interfaces,
    links: Sequence[Data],
    nat: Collection[str],
) -> dict[str, Any]:
    """Return the ``mtu`` of a member's slice.

    *on_networks* are the networks in the part ``libreswan`` of the slice, *overlays* is ipsec_mtu_overlays.
    """
    return {
        "method": method,
        "networks": [
            {
                "name": network["name"],
                "interface": interfaces[network["name"]],
                **{key: network[key] for key in ("cidr", "address", "family")},
                "mtu": mtus[network["name"]],
            }
            for network in on_networks
            if network["name"] in interfaces and mtus[network["name"]] is not None
        ],
        "overlays": [
            {"interface": link["name"], "mtu": mtu}
            for link, mtu in _advised(on_networks, mtus, interfaces, links, nat)
            if link["name"] in overlays
        ],
    }


def clamp(
    on_networks: Sequence[Data],
    mtus: Mapping[str, int | None],
    interfaces: Interfaces,
    links: Sequence[Data],
    nat: Collection[str],
) -> list[dict[str, Any]]:
    """Return ``clamp`` of the part ``firewall`` of a member's slice: how large forwarded packets may be.

    An entry with a ``cidr`` is for what leaves the interface to there, one without for all that goes through it.
    Networks that carry too little are left out: `mtu_problems` finds them.
    """
    found: list[dict[str, Any]] = []
    for network in on_networks:
        interface, mtu = interfaces.get(network["name"]), mtus[network["name"]]
        if interface is not None and mtu is not None:
            with suppress(IpsecError):
                inner = carried(network, mtu, nat=network["name"] in nat)
                found.append({"interface": interface, "cidr": network["cidr"], "mtu": inner})
    for link, mtu in _advised(on_networks, mtus, interfaces, links, nat):
        found.append({"interface": link["name"], "cidr": None, "mtu": min(mtu, link["mtu"])})
    return found


def _seen(network: str, links: Links, interfaces: Mapping[str, Interfaces]) -> Iterator[tuple[int, str, str]]:
    """Yield MTU, member and interface of each member on *network*."""
    for member, found in links.items():
        interface = interfaces.get(member, {}).get(network)
        for link in found:
            if interface is not None and link["name"] == interface:
                yield link["mtu"], member, interface


def _too_small(
    network: Data, mtu: int | None, seen: Sequence[tuple[int, str, str]], variable: str, nat: bool
) -> Iterator[Problem]:
    """Yield the problem of a network that carries too little."""
    if mtu is None:
        return
    try:
        carried(network, mtu, nat=nat)
    except IpsecError as error:
        if network["mtu"] is not None:
            yield Problem(str(error), "Correct it, or choose another ipsec_mode or ipsec_esp", variable)
            return
        smallest, member, interface = min(seen)
        yield Problem(
            f"{interface}, on the network {network['name']}, has an MTU of {smallest}: {error}",
            f"Give the interface a larger MTU, or declare in {variable} what the network carries",
            "ipsec_networks",
            member,
        )


def _overlay_problems(
    member: str,
    known: Data,
    overlays: Sequence[str],
    networks: Sequence[Data],
    mtus: Mapping[str, int | None],
    nat: Collection[str],
) -> Iterator[Problem]:
    by_name = {link["name"]: link for link in known["links"]}
    on_networks = [network for network in networks if network["name"] in known["addresses"]]
    for name in overlays:
        link = by_name.get(name)
        if link is None:
            meant = did_you_mean(name, by_name.keys())
            message = f"the host has no interface {name!r}{f', did you mean {meant!r}' if meant else ''}"
            remedy = "Correct the name, create the overlay first, or remove it from the list"
        elif link["kind"] not in OVERLAYS:
            message = f"{name} is {link['kind'] or 'no overlay'}, and the overlays whose headers are known are {', '.join(OVERLAYS)}"
            remedy = "Remove it from the list"
        elif (network := _below(link, on_networks, known["addresses"], known["interfaces"])) is None:
            message = f"{name} does not travel over a network of ipsec_networks that the host is on"
            remedy = "Remove it from the list, or bind it to the host's address there"
        elif (mtu := mtus[network["name"]]) is not None and (fault := _fault(link, network, mtu, nat)):
            message, remedy = fault, "Give the network below it a larger MTU, or remove it from the list"
        else:
            continue
        yield Problem(message, remedy, "ipsec_mtu_overlays", member)


def _below(
    link: Data, on_networks: Sequence[Data], addresses: Mapping[str, Any], interfaces: Interfaces
) -> Data | None:
    """Return the network that an overlay travels over."""
    ends = {network["name"]: (network["cidr"], str(addresses[network["name"]])) for network in on_networks}
    name = carrier(link, ends, interfaces)
    return next((network for network in on_networks if network["name"] == name), None)


def _fault(link: Data, network: Data, mtu: int, nat: Collection[str]) -> str | None:
    """Return why no MTU suits an overlay; None if one does, or if it is the network that carries too little."""
    if list(_too_small(network, mtu, [(mtu, "", "")], "", network["name"] in nat)):
        return None
    try:
        overlay_over(link, network, mtu, nat=network["name"] in nat)
    except IpsecError as error:
        return f"no MTU suits {link['name']}: {error}"
    return None


def _advised(
    on_networks: Sequence[Data],
    mtus: Mapping[str, int | None],
    interfaces: Interfaces,
    links: Sequence[Data],
    nat: Collection[str],
) -> Iterator[tuple[Data, int]]:
    """Yield each overlay over one of the networks that an MTU suits, with that MTU."""
    addresses = {network["name"]: network["address"] for network in on_networks}
    for link in links:
        network = _below(link, on_networks, addresses, interfaces) if link["kind"] in OVERLAYS else None
        mtu = mtus[network["name"]] if network else None
        if network is not None and mtu is not None:
            with suppress(IpsecError):
                yield link, overlay_over(link, network, mtu, nat=network["name"] in nat)
