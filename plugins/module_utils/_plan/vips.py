# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the plan says about virtual addresses, who their holders have to do with, and the keys for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.underlay.ipsec.plugins.module_utils._model.cluster import Host, Member, Network
from ansible_collections.underlay.ipsec.plugins.module_utils._model.vips import Vip
from ansible_collections.underlay.ipsec.plugins.module_utils._plan.exceptions import is_clear
from ansible_collections.underlay.ipsec.plugins.module_utils._plan.mesh import derived_key

Plan = Mapping[str, Any]
ANYBODY = "%any"
"""The id of whoever knows the key."""


def vips_document(vips: Sequence[Vip]) -> list[dict[str, Any]]:
    """Return the virtual addresses as plan.json has them: without secrets."""
    return [{**_of_vip(vip), "holders": list(vip.holders)} for vip in vips]


def vips_of(member: Member, vips: Sequence[Vip], networks: Mapping[str, Network]) -> list[dict[str, Any]]:
    """Return the virtual addresses on those of *networks* that *member* is on, and not in clear, as its slice has them."""
    return [
        {**_of_vip(vip), "holder": member.name in vip.holders}
        for vip in vips
        if vip.network in member.addresses
        and not is_clear(member.addresses[vip.network], networks[vip.network])
    ]


def clusters_of(vips: Sequence[Vip], hosts: Sequence[Host]) -> dict[str, dict[str, Any]]:
    """Return for each host of the run what it has to do with its pacemaker cluster.

    That is whether it may hold addresses that the cluster moves, *vips* (``holder``), and, for the one host of each
    cluster that configures it (``leader``), the addresses, each with the names in the cluster of its holders in the run.
    """
    reached = {host.name for host in hosts if host.facts is not None}
    found: dict[str, dict[str, Any]] = {}
    led: set[tuple[Any, ...]] = set()
    for host in hosts:
        cluster = host.facts.pacemaker if host.facts else None
        if host.facts is None:
            continue
        key = (cluster["cluster"], tuple(cluster["nodes"])) if cluster else None
        nodes = {
            other.name: other.facts.pacemaker["node"]
            for other in hosts
            if cluster
            and other.facts
            and other.facts.pacemaker
            and (other.facts.pacemaker["cluster"], tuple(other.facts.pacemaker["nodes"])) == key
        }
        leader = key is not None and key not in led
        if key is not None:
            led.add(key)
        found[host.name] = {
            "holder": any(host.name in vip.holders for vip in vips),
            "leader": leader,
            "vips": [
                {
                    "name": vip.name,
                    "address": str(vip.address),
                    "nodes": sorted(node for name, node in nodes.items() if name in vip.holders and node),
                }
                for vip in vips
                # Whether the cluster of a holder outside the run is this one is told by the address.
                if leader
                and cluster
                and (
                    nodes.keys() & set(vip.holders)
                    or (set(vip.holders) - reached and str(vip.address) in cluster["addresses"])
                )
            ],
        }
    return found


def vip_peers(plan: Plan, member: str) -> list[dict[str, str]]:
    """Return network, name, host name and address of each member that *member*, as a holder, knows; see the filter."""
    networks = {vip["network"] for vip in plan["vips"] if member in vip["holders"]}
    clear = {network["name"]: network["clear_members"] for network in plan["networks"]}
    return [
        {
            "network": network,
            "member": name,
            "fqdn": peer["fqdn"],
            "address": peer["addresses"][network],
            **({"nat_address": nat} if (nat := peer.get("nat_addresses", {}).get(network)) else {}),
        }
        for network in sorted(networks)
        for name, peer in plan["members"].items()
        if name != member and network in peer["addresses"] and name not in clear[network]
    ]


def vip_key(secret: str, name: str) -> str:
    """Return the key for the virtual address *name*: 48 bytes in Base64, derived as those of pairs are."""
    return derived_key(secret, "underlay.ipsec vip psk", name)


def vip_keys(plan: Plan, member: str, secret: str, vips: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the keys that *member* needs for virtual addresses, for the module libreswan; none without PSKs.

    *vips* is the variable ``ipsec_vips``, which the plan was made from: keys of the user's are only there.
    """
    if plan["auth"] != "psk":
        return []
    given = {str(vip["name"]): str(vip["psk"]) for vip in vips if vip.get("psk")}
    own = plan["members"][member]
    keys = []
    for vip in plan["vips"]:
        if vip["network"] in own["addresses"]:
            psk = given.get(vip["name"]) or vip_key(secret, vip["name"])
            keys.append({"ids": [f"@{own['fqdn']}", vip["id"]], "psk": psk})
            if member in vip["holders"]:
                keys.append({"ids": [vip["id"], ANYBODY], "psk": psk})
    return keys


def _of_vip(vip: Vip) -> dict[str, Any]:
    return {"name": vip.name, "address": str(vip.address), "network": vip.network, "id": vip.id}
