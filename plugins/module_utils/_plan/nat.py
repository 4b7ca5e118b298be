# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What has to be so for members behind NAT."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ansible_collections.underlay.ipsec.plugins.module_utils._model.cluster import (
    Address,
    Host,
    Network,
    Problems,
    Settings,
)
from ansible_collections.underlay.ipsec.plugins.module_utils._model.typed import did_you_mean
from ansible_collections.underlay.ipsec.plugins.module_utils._plan.addresses import literal_address

Addresses = Mapping[str, Mapping[str, Address]]
"""Member → network name → address."""


def check_nat(
    hosts: Sequence[Host],
    nat: Addresses,
    addresses: Addresses,
    networks: Sequence[Network],
    settings: Settings,
    problems: Problems,
) -> None:
    """Find what is wrong with *nat*, the ipsec_nat_addresses of all members; *addresses* are their own ones."""
    by_name = {network.name: network for network in networks}
    for member, given in nat.items():
        if settings.topology != "mesh":
            problems.add(
                "opportunistic connections name no one, and through NAT both ends have to know both addresses of a member",
                "Set ipsec_topology to mesh, or remove it",
                variable="ipsec_nat_addresses",
                host=member,
            )
            continue
        for name, address in given.items():
            fault = _fault(member, name, address, nat, addresses, by_name)
            if fault:
                message, remedy = fault
                problems.add(message, remedy, variable=f"ipsec_nat_addresses.{name}", host=member)
        _check_pairs(member, nat, addresses, problems)
    if settings.enforcement == "private":
        _check_controller(hosts, nat, addresses, problems)


def _fault(
    member: str,
    name: str,
    address: Address,
    nat: Addresses,
    addresses: Addresses,
    networks: Mapping[str, Network],
) -> tuple[str, str] | None:
    """Return what is wrong with one address, and the remedy; None if nothing is."""
    network = networks.get(name)
    if network is None:
        meant = did_you_mean(name, networks.keys())
        remedy = f"Did you mean {meant!r}" if meant else f"The networks are {', '.join(networks)}"
        return f"there is no network {name!r} in ipsec_networks", remedy
    if address.version != network.cidr.version:
        return (
            f"{address} is IPv{address.version}, the network {name} is IPv{network.cidr.version}",
            f"Set it to an IPv{network.cidr.version} address",
        )
    if network.encapsulation == "never":
        return (
            f"ESP gets through NAT inside UDP, and on {name} it never is",
            "Set the encapsulation of the network to auto or always",
        )
    if member in addresses and name not in addresses[member]:
        return (
            f"the host's own address on {name} is not known",
            f"Set ipsec_addresses.{name} of this host to the address that it has behind the NAT",
        )
    for other, on_networks in addresses.items():
        if address in on_networks.values():
            whose = "the host's own address" if other == member else f"the address of {other}"
            return f"{address} is {whose}", "Set it to the address that the others see, or remove it"
    for other, given in nat.items():
        if other < member and address in given.values():
            return f"{address} is also that of {other}", "Give each member an address of its own on the NAT"
    return None


def _check_pairs(member: str, nat: Addresses, addresses: Addresses, problems: Problems) -> None:
    """Find peers that two networks lead to by the same addresses: the kernel has one policy for them."""
    own = addresses.get(member, {})
    for other, theirs in addresses.items():
        if other == member or (other in nat and other < member):
            continue
        ends: dict[tuple[Address, Address], str] = {}
        for name in own.keys() & theirs.keys():
            first = ends.setdefault((own[name], theirs[name]), name)
            if first != name:
                one, two = sorted((first, name))
                problems.add(
                    f"it would have two connections with {other} between the same addresses, on {one} and {two}",
                    "Take one of the two networks out of ipsec_addresses of this host",
                    variable="ipsec_nat_addresses",
                    host=member,
                )


def _check_controller(
    hosts: Sequence[Host], nat: Addresses, addresses: Addresses, problems: Problems
) -> None:
    """Find hosts that Ansible would lose: a member drops what it sends to the NAT address itself."""
    members = {address for on_networks in addresses.values() for address in on_networks.values()}
    for host in hosts:
        controller = host.facts.controller_address if host.facts else None
        reached = literal_address(host.ansible_host)
        if controller in members and reached in nat.get(host.name, {}).values():
            problems.add(
                f"Ansible connects to {reached} from a member, and members drop what is not encrypted",
                "Run Ansible on a host that is not a member, or connect over another network",
                variable="ansible_host",
                host=host.name,
            )
