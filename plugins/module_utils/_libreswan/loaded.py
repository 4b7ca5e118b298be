# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What pluto has loaded, read from its own words. Pure.

4.x puts a three-digit code before each line, 5.x does not; beyond that these lines
have the same form: ``"NAME"`` is a connection, ``"NAME#CIDR"`` the target that a policy
file's entry made of it, ``"NAME#CIDR"[N]`` the instance for one peer.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

_CONNECTION = re.compile(r'^(?:000 )?"([^"]+)": (.*)$', re.MULTILINE)
_STATE = re.compile(r'^(?:000 )?#(\d+): "([^"]+)"(?:\[\d+\])* \.\.\.(\S+):\d+ ([A-Z]\S+)', re.MULTILINE)


@dataclass(frozen=True)
class IkeSa:
    """An IKE SA of an opportunistic instance, established or on the way."""

    serial: int
    target: str
    peer: str
    established: bool = True


@dataclass(frozen=True)
class Loaded:
    """What pluto has loaded."""

    routed: Mapping[str, bool] = field(default_factory=dict)
    """Connection or target → whether the kernel has its policy; a group itself never has one."""
    ike_sas: tuple[IkeSa, ...] = ()
    protected: frozenset[str] = frozenset()
    """Peers with an established Child SA."""

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
    routed: dict[str, bool] = {}
    for name, rest in _CONNECTION.findall(status):
        routed[name] = routed.get(name, True) and "; unrouted;" not in rest
    found = _STATE.findall(states)
    return Loaded(
        routed,
        tuple(
            IkeSa(int(serial), name, peer, "ESTABLISHED" in state)
            for serial, name, peer, state in found
            if "CHILD" not in state
        ),
        frozenset(peer for _serial, _name, peer, state in found if "ESTABLISHED_CHILD_SA" in state),
    )
