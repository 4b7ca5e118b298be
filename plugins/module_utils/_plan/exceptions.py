# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The exceptions from encryption: which members they cover, and what each member gets."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence

from ansible_collections.underlay.ipsec.plugins.module_utils._model.cluster import (
    Address,
    Cidr,
    Host,
    Member,
    Network,
)
from ansible_collections.underlay.ipsec.plugins.module_utils._model.variables import some


def is_clear(address: Address, network: Network) -> bool:
    """Whether all traffic with *address* is in clear on *network*."""
    return any(address in cidr for cidr in network.clear_cidrs)


def clear_members(members: Sequence[Member], network: Network) -> list[str]:
    """Return the members that the exceptions of *network* cover.

    All traffic between them and anyone on the network is in clear, in both directions:
    an exception at one end alone would only black-hole it. So a covered member has the
    whole network in clear, and every other member has the covered one in clear.
    """
    return sorted(
        member.name
        for member in members
        if network.name in member.addresses and is_clear(member.addresses[network.name], network)
    )


def policies(
    address: Address, network: Network, controller: Address | None, virtual: Iterable[Address] = ()
) -> tuple[list[str], list[str]]:
    """Return the lines of the private and of the clear policy of the member that has *address* on *network*.

    *controller* is the address that stays reachable in clear, if it lies inside the network; *virtual*
    are those that have connections of their own: pluto 4.10 crashes if one comes to a host whose group has it as a peer.
    """
    if is_clear(address, network):
        return [], [str(network.cidr)]
    clear = [str(entry) for entry in network.clear]
    if controller is not None and controller in network.cidr and not is_clear(controller, network):
        clear.append(str(ipaddress.ip_network(controller)))
    return [str(cidr) for cidr in without(network.cidr, virtual)], clear


def without(cidr: Cidr, addresses: Iterable[Address]) -> list[Cidr]:
    """Return the networks that *cidr* consists of, but for *addresses*."""
    left: list[Cidr] = [cidr]
    for address in addresses:
        around = next((each for each in left if address in each), None)
        if around is not None:
            left.remove(around)
            # Both are of one family, or the one would not be in the other.
            left += around.address_exclude(ipaddress.ip_network(address))  # type: ignore[arg-type]
    return sorted(left)


def member_warnings(network: Network, members: Sequence[Member]) -> list[str]:
    """Return what to know about exceptions that cover members of *network*."""
    warnings = []
    covered = clear_members(members, network)
    if covered:
        warnings.append(
            f"ipsec_clear: the exceptions for {network.name} cover the member(s) {some(covered)}: "
            f"their traffic on {network.name} is in clear text"
        )
    addresses = [member.addresses[network.name] for member in members if network.name in member.addresses]
    for entry in network.clear:
        if entry.mirror not in network.clear and any(address in entry.cidr for address in addresses):
            warnings.append(
                f"ipsec_clear: '{entry}' covers members of {network.name}, and they drop its traffic unless "
                f"'{entry.mirror}' is there as well"
            )
    return warnings


def gateway_warnings(
    hosts: Sequence[Host], members: Mapping[str, Member], networks: Sequence[Network], exempt_controller: bool
) -> list[str]:
    """Return a warning for each default gateway inside a network whose own traffic the members would drop."""
    affected: dict[tuple[str, Address], list[str]] = {}
    taken = {address for member in members.values() for address in member.addresses.values()}
    for host in hosts:
        if host.facts is None:
            continue
        for route in host.facts.default_routes:
            gateway = route.gateway
            if exempt_controller and gateway == host.facts.controller_address:
                continue
            for network in networks:
                if (
                    gateway is not None
                    and gateway in network.cidr
                    and network.name in members[host.name].addresses
                    and gateway not in taken
                    and not is_clear(gateway, network)
                ):
                    affected.setdefault((network.name, gateway), []).append(host.name)
    return [
        f"ipsec_clear: the default gateway {gateway} of {some(names)} lies inside {network} and is not an exception: "
        "what it serves itself (DNS, DHCP, NTP, ping) will be dropped"
        for (network, gateway), names in sorted(
            affected.items(), key=lambda item: (item[0][0], int(item[0][1]))
        )
    ]


def controller_warnings(hosts: Sequence[Host], members: Mapping[str, Member]) -> list[str]:
    """Return a warning for each member that Ansible connects from."""
    owners = {address: member.name for member in members.values() for address in member.addresses.values()}
    affected: dict[str, list[str]] = {}
    for host in hosts:
        controller = host.facts.controller_address if host.facts else None
        if controller in owners:
            affected.setdefault(owners[controller], []).append(host.name)
    return [
        f"ipsec_exempt_controller: Ansible reaches {some(names)} from the member {owner}, which is not exempt: "
        "if IPsec fails between them, they are out of reach"
        for owner, names in sorted(affected.items())
    ]
