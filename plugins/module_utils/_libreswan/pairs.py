# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The explicit mesh: a connection for each pair of members on each network. Pure.

What a pair is called and which end begins depends on the two members and the network alone,
so that a member that joins or leaves changes no other pair.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan.connection import PREFIX

# Neither a network nor a member may have it in its name, so that no two pairs share one.
_SEPARATOR = "+"
_VIP_SUFFIX = ".vip"

AUTO = {
    # The kernel asks for an SA, and lets nothing out in clear while there is none.
    ("private", True): "ondemand",
    ("private", False): "ondemand",
    # The stage that waits for SAs begins, when all hosts are ready for it.
    ("prepared", True): "add",
    ("prepared", False): "add",
    # Clear text while there is no SA: nothing would ask for one, so one end begins by itself.
    ("private-or-clear", True): "start",
    ("private-or-clear", False): "add",
}
"""(state, whether this end begins) → ``auto=``. A pair is *prepared* before it is known to work: its text is that of
*private* but for this keyword, so that the SA stays when it becomes so."""


@dataclass(frozen=True)
class Peer:
    """Another member on one of the host's networks."""

    network: str
    member: str
    """Its inventory name."""
    fqdn: str
    address: str
    nat_address: str | None = None
    """Where IKE and ESP find it if it is behind NAT; *address* is then its own one, which traffic is for."""

    id: str | None = None
    """By which it is known, in libreswan's notation, if that is not *fqdn*: a virtual address is no host."""

    @property
    def known_as(self) -> str:
        """Its id, in libreswan's notation."""
        return self.id or f"@{self.fqdn}"

    @property
    def reached_at(self) -> str:
        """To which address IKE and ESP go."""
        return self.nat_address or self.address


def peer_from(data: Mapping[str, Any]) -> Peer:
    """Return the peer for an item of what the filter ``mesh_peers`` returns."""
    return Peer(**data)


def pair_name(network: str, one: str, other: str) -> str:
    """Return the name of the connection between two members, given by their inventory names.

    It is not an alias that pairs could share: pluto 4.10 takes two connections with one alias for
    the same peer, and does not look at the id again when it moves an SA from one to the other.
    """
    return PREFIX + _SEPARATOR.join((network, *sorted((one, other))))


def is_pair(connection: str) -> bool:
    """Return whether the name *connection* is that of a connection with one peer."""
    return connection.startswith(PREFIX) and _SEPARATOR in connection


def vip_member(vip: str) -> str:
    """Return what a virtual address is called where members are: no member may have such a name."""
    return f"{vip}{_VIP_SUFFIX}"


def begins(network: str, own: str, peer: str) -> bool:
    """Return whether *own* is the end of the pair that begins.

    A virtual address never does: whoever holds it does so once, when it comes. Else it is the lowest
    bit of SHA-256 over network and sorted names: each member begins with about half of its peers.
    """
    if peer.endswith(_VIP_SUFFIX):
        return True
    first, second = sorted((own, peer))
    digest = hashlib.sha256("\0".join((network, first, second)).encode()).digest()
    return own == (second if digest[-1] & 1 else first)
