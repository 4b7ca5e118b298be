# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What pluto has loaded, as far as a change of it has to know. Pure.

``"NAME"`` is a connection, ``"NAME#CIDR"`` the target that a policy file's entry made of it,
``"NAME#CIDR"[N]`` the instance for one peer.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field

from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan.connection import PREFIX
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
            )
            for entry in ike
            # Somebody else's may look useless to us, and is not ours to end.
            if entry["peer"] and entry["name"].startswith(PREFIX)
        ),
        frozenset(entry["peer"] for entry in child if entry["peer"] and entry["established"]),
        frozenset(entry["name"] for entry in child if entry["established"]),
    )
