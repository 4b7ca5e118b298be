# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the plan says about each pair of members."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan.pairs import vip_member

Data = Mapping[str, Any]

_DIGITS = re.compile(r"(\d+)")


def members_of(plan: Data, network: str) -> list[str]:
    """Return the members that have an address on *network*, in natural order."""
    return [name for name in natural(plan["members"]) if network in plan["members"][name]["addresses"]]


def natural(names: Iterable[str]) -> list[str]:
    """Return *names* sorted as people do: node2 before node10."""
    return sorted(
        names, key=lambda name: [part.zfill(12) if part.isdigit() else part for part in _DIGITS.split(name)]
    )


def clear_members(plan: Data, network: Data) -> frozenset[str]:
    """Return the members whose whole traffic on *network* is to be clear text, in both directions."""
    if plan["enforcement"] == "clear":
        return frozenset(members_of(plan, network["name"]))
    return frozenset(network["clear_members"])


def networks_of(plan: Data, member: str) -> list[dict[str, Any]]:
    """Return the option ``networks`` of ``underlay.ipsec.probe`` for *member*."""
    found = []
    for network in plan["networks"]:
        name = network["name"]
        if name in plan["members"][member]["addresses"]:
            clear = clear_members(plan, network)
            peers = {
                peer: plan["members"][peer]["addresses"][name]
                for peer in members_of(plan, name)
                if peer != member
            }
            nat = {
                peer: outside
                for peer in peers
                if (outside := plan["members"][peer].get("nat_addresses", {}).get(name))
            }
            for vip in plan["vips"]:
                if vip["network"] == name:
                    peers[vip_member(vip["name"])] = vip["address"]
            found.append(
                {
                    "name": name,
                    "address": plan["members"][member]["addresses"][name],
                    "peers": peers,
                    "nat": nat,
                    "clear": sorted(peers if member in clear else clear & peers.keys()),
                }
            )
    return found
