# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What pluto has loaded, as far as a change of it has to know. Pure.

``"NAME"`` is a connection, ``"NAME#CIDR"`` the target that a policy file's entry made of it,
``"NAME#CIDR"[N]`` the instance for one peer.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan.connection import PREFIX
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan.dialect import Dialect
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan.endpoints import is_endpoint
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan.pairs import is_pair
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan.status import (
    parse_connections,
    parse_states,
)


@dataclass(frozen=True)
class IkeSa:
    """An IKE SA of one of the collection's opportunistic instances, established or on the way."""

    serial: int
    target: str
    peer: str
    established: bool = True
    peer_id: str | None = None
    """How pluto calls the peer; None until it has authenticated."""
    rekeyed: bool = False
    """Whether an IKE SA with its peer is younger than a Child SA of its own, because it was renewed."""
    superseded: bool = False
    """Whether there is a newer one with the same peer, which the traffic goes by."""


@dataclass(frozen=True)
class Loaded:
    """What pluto has loaded."""

    routed: Mapping[str, bool] = field(default_factory=dict)
    """Connection or target → whether the kernel has its policy; a group itself never has one.

    That of a pair counts only if it outlives the pair's SA.
    """
    ike_sas: tuple[IkeSa, ...] = ()
    protected: frozenset[str] = frozenset()
    """Peers with an established Child SA."""
    established: frozenset[str] = frozenset()
    """Connections with an established Child SA."""

    @property
    def connections(self) -> frozenset[str]:
        """The names of the connections."""
        return frozenset(name for name in self.routed if "#" not in name)

    def crashes_on_reread(self, dialect: Dialect) -> bool:
        """Whether pluto would crash if it read certificates again, so that a new one has to take over: 4.x with groups."""
        return dialect.hands_over and any("#" in name for name in self.routed)

    def targets_of(self, connection: str) -> tuple[str, ...]:
        """Return the targets of *connection*."""
        return tuple(sorted(name for name in self.routed if name.startswith(f"{connection}#")))

    def ike_sas_with(self, cidr: str) -> tuple[IkeSa, ...]:
        """Return the IKE SAs with peers inside *cidr*."""
        network = ipaddress.ip_network(cidr)
        return tuple(sa for sa in self.ike_sas if ipaddress.ip_address(sa.peer) in network)


def parse(status: str, states: str) -> Loaded:
    """Return what ``whack --status`` and ``whack --showstates`` say."""
    ike, child = parse_states(states)
    connections = parse_connections(status)
    ids = {(entry["name"], entry["instance"]): entry["peer_id"] for entry in connections}
    renewed = {entry["ike_serial"] for entry in child if entry["serial"] < (entry["ike_serial"] or 0)}
    rekeyed = {entry["peer"] for entry in ike if entry["serial"] in renewed}
    # An IKE SA whose Child SA the traffic goes by is needed, whatever came after it.
    needed = {entry["ike_serial"] for entry in child if entry["newest"]}
    newest = {(entry["name"], entry["peer"]) for entry in ike if entry["newest"] and entry["established"]}
    return Loaded(
        {
            entry["name"]: entry["trapped" if is_pair(entry["name"]) else "routed"]
            for entry in connections
            if entry["instance"] is None
        },
        tuple(
            IkeSa(
                entry["serial"],
                entry["name"],
                entry["peer"],
                entry["established"],
                ids.get((entry["name"], entry["instance"])),
                rekeyed=entry["peer"] in rekeyed,
                superseded=(
                    entry["established"]
                    and not entry["newest"]
                    and entry["serial"] not in needed
                    and (entry["name"], entry["peer"]) in newest
                ),
            )
            for entry in ike
            # Somebody else's may look useless to us, and is not ours to end.
            if entry["peer"] and entry["name"].startswith(PREFIX)
        ),
        frozenset(entry["peer"] for entry in child if entry["peer"] and entry["established"]),
        frozenset(entry["name"] for entry in child if entry["established"]),
    )


def ending(sas: Iterable[IkeSa]) -> tuple[tuple[str, ...], ...]:
    """Return whack's arguments that end *sas*.

    By the peer's id, which takes effect at once, tells the peer, and takes along whatever else there is with it. ``--deletestate`` waits
    for the peer's answer: if none comes, pluto 4.x starts over without a Child SA, and with
    such an IKE SA it ignores all packets that ask for one. But pluto (4.10 and 5.2) goes
    through its SAs from the newest to the oldest, takes a Child SA away with its IKE SA while
    it is about to look at it, and crashes: once an IKE SA was renewed, it goes by its number.
    """
    sas = tuple(sas)
    by_number = {sa.peer_id for sa in sas if sa.rekeyed} | {None}
    return tuple(
        dict.fromkeys(
            ("--deletestate", str(sa.serial))
            if sa.peer_id in by_number
            else ("--deleteid", "--name", str(sa.peer_id))
            for sa in sas
        )
    )


def useless(loaded: Loaded, outbound: Collection[str]) -> tuple[IkeSa, ...]:
    """Return the IKE SAs that are in the way of a working pair, until they are renewed hours later.

    *outbound* are the addresses to which the kernel has a policy of their own that wants an SA.

    One-way: when both ends of a pair start at the same moment, pluto 4.x finishes one
    negotiation, then cleans up after the other one and takes the policy of the finished one
    with it, so the peer sends to us encrypted and nothing leaves for that peer.
    Stuck: if only the Child SA fails, or if a peer crashed and the SA that came after ends
    before the one that was left, pluto 4.x keeps an IKE SA and ignores all packets that ask
    for an SA with that peer.
    """

    def carries(sa: IkeSa) -> bool:
        # An endpoint's policies may be for subnets behind it.
        return sa.peer in loaded.protected and (sa.peer in outbound or is_endpoint(sa.target))

    def on_the_way(sa: IkeSa) -> bool:
        return sa.peer not in loaded.protected and not sa.established

    return tuple(sa for sa in loaded.ike_sas if not carries(sa) and not on_the_way(sa))
