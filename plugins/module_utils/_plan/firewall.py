# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which firewall each member uses, and what its rules are about."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.underlay.ipsec.plugins.module_utils._model.cluster import (
    Address,
    Cidr,
    HostFacts,
    Member,
    Problems,
    Settings,
)
from ansible_collections.underlay.ipsec.plugins.module_utils._model.endpoints import Endpoint

_VARIABLE = "ipsec_firewall"
_PREFERRED = ("nftables", "iptables")
"""What does it where no firewall is in use."""


def choose_backend(
    host: str, facts: HostFacts, settings: Settings, problems: Problems, warnings: list[str]
) -> str:
    """Return the firewall of *host*; ``none``, and perhaps a problem, if there is nothing that could do it."""
    wanted, usable, active = settings.firewall, facts.firewalls_usable, facts.firewalls_active
    needed = settings.fail_closed or settings.mss_clamp
    if wanted == "none":
        return "none"
    if wanted != "auto":
        if wanted not in (active if wanted == "firewalld" else usable):
            problems.add(
                f"{wanted} does not {'run' if wanted == 'firewalld' else 'work'} there",
                f"Install and start it, or set {_VARIABLE} to {_alternatives(active, usable)}",
                variable=_VARIABLE,
                host=host,
            )
        others = [name for name in active if name != wanted]
        if others:
            warnings.append(
                f"{_VARIABLE}: {host} also has {' and '.join(others)} in use, which may drop what {wanted} lets in"
            )
        chosen = wanted
    elif len(active) > 1:
        problems.add(
            f"{' and '.join(active)} are in use at the same time",
            f"Stop and disable all but one, or say which it is with {_VARIABLE}",
            variable=_VARIABLE,
            host=host,
        )
        return "none"
    else:
        possible = [*active, *(name for name in _PREFERRED if name in usable)]
        # With no firewall there is nothing to open.
        chosen = possible[0] if possible and (active or needed) else "none"
    if chosen == "firewalld" and "firewalld" in active and needed and "nftables" not in usable:
        problems.add(
            "firewalld cannot tell what was encrypted, and nftables, which can, does not work there",
            "Install nftables, or set ipsec_fail_closed and ipsec_mss_clamp to false",
            variable="ipsec_fail_closed" if settings.fail_closed else "ipsec_mss_clamp",
            host=host,
        )
    if chosen == "none" and needed:
        problems.add(
            "there is no firewall tool on it that works, so that nothing could drop what is not encrypted",
            "Install nftables or iptables, or set ipsec_fail_closed and ipsec_mss_clamp to false",
            variable=_VARIABLE,
            host=host,
        )
    return chosen


def _alternatives(active: Sequence[str], usable: Sequence[str]) -> str:
    return " or ".join(dict.fromkeys(["auto", *active, *usable, "none"]))


def open_to(
    networks: Sequence[Cidr], members: Iterable[Member], endpoints: Iterable[Endpoint], own: Member
) -> list[str]:
    """Return where IKE and ESP come to *own* from: its *networks*, and what lies outside of them."""
    outside = {address for member in members for address in member.nat_addresses.values()}
    outside |= {endpoint.address for endpoint in endpoints if own.name in endpoint.members}
    single = (ipaddress.ip_network(a) for a in outside if not any(a in cidr for cidr in networks))
    return sorted(str(cidr) for cidr in [*networks, *single])


def closed_traffic(
    on_networks: Sequence[Mapping[str, Any]],
    endpoints: Sequence[Mapping[str, Any]],
    vips: Sequence[Mapping[str, Any]],
    topology: str,
) -> list[dict[str, Any]]:
    """Return what is encrypted or dropped, from a slice's networks, endpoints and virtual addresses.

    In a mesh, the peers are for the module to add: a slice does not grow with the number of hosts.
    """
    own = {network["name"]: network["address"] for network in on_networks}
    # Endpoints first: their connections come before the exceptions of the network.
    found = [
        {
            "network": f"endpoint {endpoint['name']}",
            "local": endpoint["local_subnets"] or [own[endpoint["network"]]],
            "remote": endpoint["remote_subnets"] or [endpoint["address"]],
            "clear": [],
        }
        for endpoint in endpoints
    ]
    for network in on_networks:
        if network["private"]:
            here = [vip for vip in vips if vip["network"] == network["name"]]
            own_too = [vip["address"] for vip in here if vip["holder"]]
            others = [str(ipaddress.ip_network(vip["address"])) for vip in here]
            found.append(
                {
                    "network": network["name"],
                    # An address that is about to come, or has just gone, is not there; the rules are.
                    "local": [network["address"], *own_too],
                    "remote": [*network["private"], *others] if topology == "opportunistic" else others,
                    "clear": network["clear"],
                }
            )
    return found


def _excepts(entry: str, address: Address) -> bool:
    """Return whether an exception may be for ssh from *address*; which port that has, the host knows."""
    cidr, *protocol = entry.split()[:2]
    return address in ipaddress.ip_network(cidr) and protocol in ([], ["tcp"], ["6"])


def check_controller(
    host: str,
    facts: HostFacts,
    closed: Sequence[Mapping[str, Any]],
    members: Iterable[Member],
    problems: Problems,
) -> None:
    """Find a host that the rules would cut off: Ansible comes in clear text from where nothing else is let through."""
    address = facts.controller_address
    if address is None or any(address in member.addresses.values() for member in members):
        return
    for entry in closed:
        inside = any(address in ipaddress.ip_network(cidr) for cidr in entry["remote"])
        if inside and not any(_excepts(text, address) for text in entry["clear"]):
            problems.add(
                f"its firewall would drop the connection of Ansible, which comes from {address} and is no member",
                "Set ipsec_exempt_controller to true, or put the address into ipsec_clear, or set ipsec_fail_closed to false",
                variable="ipsec_fail_closed",
                host=host,
            )
            return
