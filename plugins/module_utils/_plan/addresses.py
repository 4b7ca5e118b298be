# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which address each member has on each network, and which network it is by default."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Mapping, Sequence

from ansible_collections.underlay.ipsec.plugins.module_utils._errors import Problem
from ansible_collections.underlay.ipsec.plugins.module_utils._model.cluster import (
    Address,
    Cidr,
    Host,
    HostAddress,
    HostFacts,
    Network,
    Problems,
)
from ansible_collections.underlay.ipsec.plugins.module_utils._model.typed import did_you_mean
from ansible_collections.underlay.ipsec.plugins.module_utils._model.variables import some

_UNKNOWN_REMEDY = "Set ipsec_addresses of this host in the inventory, or run once without --limit and with fact caching while the host is up"


def _default_network(facts: HostFacts) -> Cidr | None:
    """Return the network of the default route's interface, of IPv4 if there is one; None if that is not clear."""
    for family in (4, 6):
        for route in facts.default_routes:
            if route.family != family:
                continue
            on_link = {
                ipaddress.ip_network((entry.address, entry.prefix), strict=False)
                for entry in facts.addresses
                if entry.interface == route.interface and entry.address.version == family and entry.primary
            }
            through = (
                [cidr for cidr in on_link if route.gateway in cidr]
                if route.gateway and len(on_link) > 1
                else list(on_link)
            )
            return through[0] if len(through) == 1 else None
    return None


def default_networks(
    hosts: Sequence[Host], encapsulation: str, problems: Problems
) -> tuple[Network, ...] | None:
    """Return the default of ipsec_networks: the one network that every reached host has its default route in.

    None, and a problem, if there is no such network.
    """
    remedy = "Set ipsec_networks"
    members: dict[Cidr | None, list[str]] = {}
    for host in hosts:
        if host.facts is not None:
            members.setdefault(_default_network(host.facts), []).append(host.name)
    if not members:
        problems.add(
            "it is not set, and no host was reached that could tell", remedy, variable="ipsec_networks"
        )
        return None
    for name in members.pop(None, ()):
        problems.add(
            "it is not set, and this host has no default route through one network",
            remedy,
            variable="ipsec_networks",
            host=name,
        )
    if len(members) > 1:
        shown = "; ".join(
            f"{cidr} on {some(names)}"
            for cidr, names in sorted(members.items(), key=lambda item: str(item[0]))
        )
        problems.add(
            f"it is not set, and the hosts have their default routes in different networks: {shown}",
            remedy,
            variable="ipsec_networks",
        )
        return None
    return tuple(Network("default", cidr, encapsulation=encapsulation) for cidr in members if cidr)


def _check_given(
    host: Host,
    given: Mapping[str, Address],
    networks: Mapping[str, Network],
    problems: Problems,
    behind_nat: Collection[str],
) -> dict[str, Address]:
    """Return the addresses that ipsec_addresses names, without those that cannot be.

    Where the host is *behind_nat*, its address is one of the network behind that.
    """
    result = {}
    present = None if host.facts is None else {entry.address for entry in host.facts.addresses}
    for name, address in given.items():
        network = networks.get(name)
        if network is None:
            meant = did_you_mean(name, networks.keys())
            fault = f"there is no network {name!r} in ipsec_networks"
            remedy = f"Did you mean {meant!r}" if meant else f"The networks are {', '.join(networks)}"
        elif address.version != network.cidr.version:
            fault = f"{address} is IPv{address.version}, the network {name} is IPv{network.cidr.version}"
            remedy = f"Set it to an address in {network.cidr}"
        elif address not in network.cidr and name not in behind_nat:
            fault, remedy = f"{address} is outside {network.cidr}", f"Set it to an address in {network.cidr}"
        elif _reserved(address, network.cidr):
            fault = f"{address} is the network or broadcast address of {network.cidr}"
            remedy = "Set it to an address of the host"
        elif present is not None and address not in present:
            fault, remedy = (
                f"the host does not have {address}",
                "Configure the address on the host, or correct it here",
            )
        else:
            result[name] = address
            continue
        problems.add(fault, remedy, variable=f"ipsec_addresses.{name}", host=host.name)
    return result


def _reserved(address: Address, cidr: Cidr) -> bool:
    if cidr.max_prefixlen - cidr.prefixlen < 2:
        return False
    return address == cidr.network_address or (cidr.version == 4 and address == cidr.broadcast_address)


def _choose(
    host: str,
    entries: Sequence[HostAddress],
    network: Network,
    problems: Problems,
    virtual: Collection[Address],
) -> Address | None:
    """Return the one address of *entries* on *network*; None if there is none, or, with a problem, several.

    One that is *virtual* is the host's own only if it has no other.
    """
    inside = [entry for entry in entries if entry.address in network.cidr]
    addresses = {entry.address for entry in inside if entry.primary} or {entry.address for entry in inside}
    addresses = addresses.difference(virtual) or addresses
    if len(addresses) > 1:
        problems.add(
            f"the host has several addresses in {network.cidr}: {', '.join(sorted(map(str, addresses)))}",
            f"Set ipsec_addresses of this host to the one that it is to have on {network.name}",
            variable=f"ipsec_addresses.{network.name}",
            host=host,
        )
        return None
    return next(iter(addresses), None)


def literal_address(text: str | None) -> Address | None:
    """Return the address that *text* is, or None if it is a name or nothing."""
    try:
        return ipaddress.ip_address(text) if text else None
    except ValueError:
        return None


def member_addresses(
    host: Host,
    given: Mapping[str, Address] | None,
    networks: Mapping[str, Network],
    problems: Problems,
    behind_nat: Collection[str] = (),
    virtual: Collection[Address] = (),
) -> dict[str, Address]:
    """Return the addresses of *host* by network name.

    They come from *given* (its ipsec_addresses), which then is the whole truth; else from
    the host itself; else from cached facts; else from a literal ansible_host. A host that
    was not reached and whose address on a network nobody knows is a problem. A host that
    is on none of the networks is not one yet, see `stray`. *behind_nat* are the networks
    on which ipsec_nat_addresses says where it is, *virtual* the addresses that move between hosts.
    """
    if given:
        return _check_given(host, given, networks, problems, behind_nat)
    known = host.cached if host.facts is None else host.facts.addresses
    if known is not None:
        chosen = (
            (network.name, _choose(host.name, known, network, problems, virtual))
            for network in networks.values()
        )
        return {name: address for name, address in chosen if address}
    literal = literal_address(host.ansible_host)
    result = {}
    for network in networks.values():
        if literal is not None and literal in network.cidr:
            result[network.name] = literal
        else:
            problems.add(
                f"the host was not reached in this run, and its address on {network.name} ({network.cidr}) is not known",
                _UNKNOWN_REMEDY,
                variable="ipsec_addresses",
                host=host.name,
            )
    return result


def stray(host: Host, networks: Sequence[Network]) -> Problem:
    """Return the problem of a *host* that is on none of the *networks*."""
    known = (host.facts.addresses if host.facts else host.cached) or ()
    return Problem(
        f"none of its {'addresses' if host.facts else 'cached addresses'} "
        f"({some(str(entry.address) for entry in known) or 'it has none'}) lies in a network of "
        f"ipsec_networks ({some(f'{network.name} {network.cidr}' for network in networks)})",
        "Give it an address there, correct ipsec_networks, or take it out of the group",
        host=host.name,
    )


def check_unique(addresses: Mapping[str, Mapping[str, Address]], problems: Problems) -> None:
    """Find members (the keys of *addresses*) that have the same address on a network."""
    owners: dict[tuple[str, Address], str] = {}
    for member, on_networks in addresses.items():
        for network, address in on_networks.items():
            owner = owners.setdefault((network, address), member)
            if owner != member:
                problems.add(
                    f"{address} is also the address of {owner}",
                    "Correct ipsec_addresses, or the address of one of the two hosts",
                    variable=f"ipsec_addresses.{network}",
                    host=member,
                )
