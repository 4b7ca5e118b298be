# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The variable ``ipsec_vips``: addresses that move between members, every problem at once."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from ansible_collections.underlay.ipsec.plugins.module_utils._model.cluster import (
    Address,
    Host,
    Member,
    Network,
    Problems,
    Settings,
)
from ansible_collections.underlay.ipsec.plugins.module_utils._model.endpoints import check_key
from ansible_collections.underlay.ipsec.plugins.module_utils._model.typed import did_you_mean
from ansible_collections.underlay.ipsec.plugins.module_utils._model.variables import some
from ansible_collections.underlay.ipsec.plugins.module_utils._pacemaker import cib

VARIABLE = "ipsec_vips"
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,29}")
_DNS = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*")
_ID = re.compile(r"@?[A-Za-z0-9_]([A-Za-z0-9._-]{0,100}[A-Za-z0-9_])?")


@dataclass(frozen=True)
class Vip:
    """An address that moves between its holders."""

    name: str
    address: Address
    network: str
    holders: tuple[str, ...]
    """The members that may have it, sorted."""
    id: str
    """By which its holder is known, in libreswan's notation."""

    @property
    def dns(self) -> str:
        """The name that is in the certificates of its holders."""
        return self.id.removeprefix("@")


def vip_addresses(raw: Sequence[Mapping[str, Any]]) -> frozenset[Address]:
    """Return the addresses in *raw*, the typed value of the variable, as far as they are any."""
    found = set()
    for item in raw:
        try:
            found.add(ipaddress.ip_address(item["address"]))
        except ValueError:
            continue
    return frozenset(found)


def read_vips(
    raw: Sequence[Mapping[str, Any]],
    settings: Settings | None,
    networks: Sequence[Network],
    members: Sequence[Member],
    groups: Mapping[str, Sequence[str]],
    problems: Problems,
) -> tuple[Vip, ...]:
    """Return the virtual addresses of *raw*, the typed value of the variable; without those that are wrong."""
    found = [
        (index, _vip(item, f"{VARIABLE}[{index}]", settings, networks, members, groups, problems))
        for index, item in enumerate(raw)
    ]
    vips = [(index, vip) for index, vip in found if vip]
    for (first, one), (second, other) in combinations(vips, 2):
        for what in ("name", "address", "id"):
            if getattr(one, what) == getattr(other, what):
                problems.add(
                    f"{getattr(other, what)!s} is also the {what} of {VARIABLE}[{first}]",
                    f"Give each virtual address {'an' if what != 'name' else 'a'} {what} of its own",
                    variable=f"{VARIABLE}[{second}].{what}",
                )
    return tuple(sorted((vip for _index, vip in vips), key=lambda vip: vip.name))


def _vip(
    raw: Mapping[str, Any],
    variable: str,
    settings: Settings | None,
    networks: Sequence[Network],
    members: Sequence[Member],
    groups: Mapping[str, Sequence[str]],
    problems: Problems,
) -> Vip | None:
    before = len(problems)
    if not _NAME.fullmatch(raw["name"]):
        problems.add(
            f"{raw['name']!r} cannot be part of a connection's name",
            "Use up to 30 lower-case letters, digits, dashes and underscores",
            variable=f"{variable}.name",
        )
    address = _address(raw["address"], f"{variable}.address", members, problems)
    network = _network(raw["network"], variable, address, networks, problems)
    holders = _holders(raw["holders"], variable, network, members, groups, problems)
    identity = raw["id"] or f"underlay-vip-{raw['name'].replace('_', '-')}"
    known = _ID if settings is not None and settings.auth == "psk" else _DNS
    if not known.fullmatch(identity):
        problems.add(
            f"{identity!r} is not a host name", "Write one, or leave it out", variable=f"{variable}.id"
        )
    _check_psk(raw["psk"], settings, variable, problems)
    if network is not None and any(address in cidr for cidr in network.clear_cidrs if address):
        problems.add(
            f"{address} is in clear by the exceptions of {network.name}",
            "Take it out of ipsec_clear, or remove the item",
            variable=f"{variable}.address",
        )
    if len(problems) > before or address is None or network is None:
        return None
    return Vip(raw["name"], address, network.name, holders, f"@{identity.removeprefix('@')}")


def _address(text: str, variable: str, members: Sequence[Member], problems: Problems) -> Address | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        problems.add(
            f"{text!r} is not an address",
            "Write it like 172.16.2.250 or fd00:2::250, without a prefix length",
            variable=variable,
        )
        return None
    owners = [member.name for member in members if address in member.addresses.values()]
    if owners:
        problems.add(
            f"{address} is the own address of the member {some(owners)}",
            "Set it to the address that moves, or correct ipsec_addresses of that host",
            variable=variable,
        )
    return address


def _network(
    name: str | None,
    variable: str,
    address: Address | None,
    networks: Sequence[Network],
    problems: Problems,
) -> Network | None:
    if address is None:
        return None
    if name is None:
        network = next((network for network in networks if address in network.cidr), None)
        if network is None:
            problems.add(
                f"{address} lies in no network of ipsec_networks",
                "Correct the address, or add its network; what is not encrypted needs no item",
                variable=f"{variable}.address",
            )
        return network
    network = next((network for network in networks if network.name == name), None)
    if network is None:
        meant = did_you_mean(name, [network.name for network in networks])
        problems.add(
            f"there is no network {name!r}{f', did you mean {meant!r}' if meant else ''}",
            "Name one of ipsec_networks, or leave it out",
            variable=f"{variable}.network",
        )
    elif address not in network.cidr:
        problems.add(
            f"{address} lies outside of its network {name} ({network.cidr})",
            "Correct the address, or the network",
            variable=f"{variable}.address",
        )
    return network


def _holders(
    names: Sequence[str],
    variable: str,
    network: Network | None,
    members: Sequence[Member],
    groups: Mapping[str, Sequence[str]],
    problems: Problems,
) -> tuple[str, ...]:
    by_name = {member.name: member for member in members}
    found: set[str] = set()
    for name in names:
        hosts = groups.get(name, [name] if name in by_name else [])
        if not hosts:
            problems.add(
                f"the inventory has no group with hosts, and no member, named {name!r}",
                "Name the members that may hold the address, or a group of them",
                variable=f"{variable}.holders",
            )
        strangers = [host for host in hosts if host not in by_name]
        if strangers:
            problems.add(
                f"{some(strangers)} of {name!r} may hold the address and are no members",
                "Add them to the members' group, or name only members",
                variable=f"{variable}.holders",
            )
        found.update(host for host in hosts if host in by_name)
    for host in sorted(found):
        address = by_name[host].addresses.get(network.name) if network is not None else None
        if network is not None and address is not None and any(address in c for c in network.clear_cidrs):
            problems.add(
                f"it is to hold an address of {network.name}, where the exceptions leave it in clear",
                "Take it out of the holders, or its address out of ipsec_clear",
                variable=f"{variable}.holders",
                host=host,
            )
        if network is not None and network.name not in by_name[host].addresses:
            problems.add(
                f"it is to hold an address of {network.name}, and has no address of its own there",
                "Take it out of the holders, or give it an address on the network",
                variable=f"{variable}.holders",
                host=host,
            )
    return tuple(sorted(found))


def _check_psk(psk: str | None, settings: Settings | None, variable: str, problems: Problems) -> None:
    if psk is None:
        return
    if settings is not None and settings.auth != "psk":
        problems.add(
            "it is set, and members authenticate with certificates (ipsec_auth)",
            "Leave it out",
            variable=f"{variable}.psk",
        )
    check_key(psk, f"{variable}.psk", problems)


def names_held(vips: Sequence[Vip], member: str) -> list[str]:
    """Return the names by which *member* is known when it holds an address of *vips*."""
    return sorted(vip.dns for vip in vips if member in vip.holders)


def check_no_nat(vips: Sequence[Vip], nat: Mapping[str, Mapping[str, object]], problems: Problems) -> None:
    """Find holders behind NAT, from host → network → its address outside: nobody would find the address there."""
    for vip in vips:
        for host in vip.holders:
            if vip.network in nat.get(host, {}):
                problems.add(
                    f"it is behind NAT on {vip.network}, where it is to hold an address",
                    "Take it out of the holders",
                    variable=f"{VARIABLE} ({vip.name})",
                    host=host,
                )


def check_clusters(
    vips: Sequence[Vip], hosts: Sequence[Host], problems: Problems, warnings: list[str]
) -> None:
    """Find holders without pacemaker, in different clusters or in one that cannot be changed, and lost addresses."""
    seen = {host.name: host.facts.pacemaker for host in hosts if host.facts is not None}
    holders = {name for vip in vips for name in vip.holders}
    for name, found in seen.items():
        # One of them may have to go from a cluster that is to have none.
        if found is not None and not found["quorum"] and (name in holders or found["tunnels"]):
            problems.add(
                "its pacemaker cluster has no quorum, so that nothing in it can be changed",
                "Bring the other nodes back (pcs status)",
                variable=VARIABLE,
                host=name,
            )
        # While it stays as it is, the mode does not matter.
        if found is not None and found["maintenance"] and (name in holders or found["tunnels"]):
            wanted = {
                cib.Vip(vip.name, str(vip.address)).resource
                for vip in vips
                if str(vip.address) in found["addresses"]
            }
            if wanted != set(found["tunnels"]):
                problems.append(cib.in_maintenance(name))
    for vip in vips:
        reached = [name for name in vip.holders if name in seen]
        clusters: dict[tuple[Any, ...], list[str]] = {}
        for name in reached:
            found = seen[name]
            if found is None:
                problems.add(
                    "no pacemaker cluster runs on it, which could hold the virtual addresses",
                    "Start it (pcs cluster start), or take the host out of the holders, or set ipsec_vip_manager to none",
                    variable=VARIABLE,
                    host=name,
                )
                continue
            clusters.setdefault((found["cluster"], tuple(found["nodes"])), []).append(name)
        if len(clusters) > 1:
            problems.add(
                f"its holders are in {len(clusters)} clusters: "
                + "; ".join(some(names) for names in clusters.values()),
                "An address moves within one cluster: name the holders of each in 'holders'",
                variable=f"{VARIABLE} ({vip.name})",
            )
        elif clusters:
            first = next(iter(clusters.values()))[0]
            _check_address(vip, seen[first] or {}, problems)
            found_on = [cluster for name in vip.holders if (cluster := seen.get(name)) is not None]
            if len(found_on) == len(vip.holders):
                _warn_of_others(vip, found_on, warnings)


def check_owners(vips: Sequence[Vip], hosts: Sequence[Host], problems: Problems) -> None:
    """Find addresses on hosts that are none of their holders: nobody would reach them there any more."""
    for vip in vips:
        for host in hosts:
            if host.facts is None or host.name in vip.holders:
                continue
            if any(vip.address == own.address for own in host.facts.addresses):
                problems.add(
                    f"it has {vip.address} at the moment, and is none of the holders",
                    "Move the address to one of them first (pcs resource move), or add the host to them",
                    variable=f"{VARIABLE} ({vip.name})",
                    host=host.name,
                )


def _check_address(vip: Vip, found: Mapping[str, Any], problems: Problems) -> None:
    ids = found["addresses"].get(str(vip.address), ())
    if len(ids) != 1:
        problems.add(
            f"{' and '.join(ids)} both bring up {vip.address}"
            if ids
            else f"no resource of the pacemaker cluster brings up {vip.address}",
            "Remove one of them"
            if ids
            else "Create the address first (ocf:heartbeat:IPaddr2), or correct or remove the item",
            variable=f"{VARIABLE} ({vip.name})",
        )


def _warn_of_others(vip: Vip, found: Sequence[Mapping[str, Any]], warnings: list[str]) -> None:
    others = set(found[0]["nodes"]) - {cluster["node"] for cluster in found}
    if others:
        warnings.append(
            f"{VARIABLE}: {some(sorted(others))} of the pacemaker cluster cannot serve {vip.name}, not being among its holders"
        )
