# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host's firewall is to do, whatever tool does it.

Two things: let IKE and ESP in (`Rules.open`), and drop what is to be encrypted and is not
(`Rules.closed`). The kernel knows of each packet whether an IPsec policy applied to it, so that
the second holds with libreswan stopped and with no policy loaded at all.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ansible_collections.underlay.ipsec.plugins.module_utils._model.cluster import Address, Cidr, ClearEntry

IKE_PORTS = (500, 4500)
NEIGHBOUR_DISCOVERY = (133, 134, 135, 136, 137)
"""The types of ICMPv6 without which IPv6 hosts do not find their routers and neighbours (RFC 4861)."""
PORT_PROTOCOLS = ("tcp", "udp", "sctp", "6", "17", "132")
"""Those whose exceptions may name ports; libreswan takes the ports of others for types and codes."""

TCP_HEADERS = {4: 40, 6: 60}
"""Bytes of IP and TCP headers without options: what an MSS leaves out (RFC 9293, 3.7.1)."""


@dataclass(frozen=True, order=True)
class Closed:
    """Traffic between two sets of addresses that is encrypted or dropped."""

    network: str
    """The name of the network, or of the endpoint."""
    local: tuple[Cidr, ...]
    remote: tuple[Cidr, ...]
    clear: tuple[ClearEntry, ...] = ()
    """The exceptions, as the local end's policy has them: first the local port, then the remote one."""


@dataclass(frozen=True, order=True)
class Clamp:
    """The largest TCP segments that are forwarded through an interface."""

    interface: str
    mtu: int
    """Of the packet that carries the segment, in bytes."""
    cidr: Cidr | None = None
    """Only what goes to or comes from there; None if it is all."""


@dataclass(frozen=True)
class Rules:
    """What the firewall of one host does for IPsec."""

    open: tuple[Cidr, ...] = ()
    """Where IKE and ESP may come from."""
    closed: tuple[Closed, ...] = ()
    clamp: tuple[Clamp, ...] = field(default=())

    def __bool__(self) -> bool:
        return bool(self.open or self.closed or self.clamp)

    def as_dict(self) -> dict[str, Any]:
        """Return the rules as the plan's slices have them."""
        return {
            "open": [str(cidr) for cidr in self.open],
            "closed": [
                {
                    "network": closed.network,
                    "local": [str(cidr) for cidr in closed.local],
                    "remote": [str(cidr) for cidr in closed.remote],
                    "clear": [str(entry) for entry in closed.clear],
                }
                for closed in self.closed
            ],
            "clamp": [
                {
                    "interface": clamp.interface,
                    "cidr": str(clamp.cidr) if clamp.cidr else None,
                    "mtu": clamp.mtu,
                }
                for clamp in self.clamp
            ],
        }


def of_family(cidrs: Iterable[Cidr], family: int) -> list[Cidr]:
    """Return those of *cidrs* that are of IPv4 (4) or IPv6 (6)."""
    return [cidr for cidr in cidrs if cidr.version == family]


def read_rules(data: Mapping[str, Any], peers: Iterable[Mapping[str, str]] = ()) -> Rules:
    """Return the rules in a slice's part *data*.

    In a mesh, whom this host talks to is not in its slice: *peers* are the module libreswan's.
    """
    peers = list(peers)
    closed = []
    for entry in data["closed"]:
        remote = {_cidr(text) for text in entry["remote"]}
        for peer in peers:
            if peer["network"] == entry["network"]:
                remote.add(_cidr(peer["address"]))
        if remote:
            clear = tuple(_clear_entry(text) for text in entry["clear"])
            closed.append(
                Closed(entry["network"], _cidrs(entry["local"]), tuple(sorted(remote, key=_order)), clear)
            )
    clamps = (
        Clamp(entry["interface"], entry["mtu"], _cidr(entry["cidr"]) if entry["cidr"] else None)
        for entry in data["clamp"]
    )
    return Rules(_cidrs(data["open"]), tuple(closed), tuple(clamps))


def _cidr(text: str) -> Cidr:
    return ipaddress.ip_network(text)


def _cidrs(texts: Iterable[str]) -> tuple[Cidr, ...]:
    return tuple(sorted({_cidr(text) for text in texts}, key=_order))


def _order(cidr: Cidr) -> tuple[int, int, int]:
    return cidr.version, int(cidr.network_address), cidr.prefixlen


def _clear_entry(text: str) -> ClearEntry:
    cidr, *rest = text.split()
    if not rest:
        return ClearEntry(_cidr(cidr))
    return ClearEntry(_cidr(cidr), rest[0], int(rest[1]), int(rest[2]))


def on_the_way(present: Rules, wanted: Rules) -> Rules:
    """Return the rules with which *present* may become *wanted*, before the cluster has been verified.

    More is open than either wants, and no more is closed than both do.
    """
    same = [new for new in wanted.closed if new in present.closed]
    both = []
    for new in wanted.closed:
        for old in [new] if new in same else [old for old in present.closed if old not in same]:
            local, remote = _common(old.local, new.local), _common(old.remote, new.remote)
            if local and remote:
                extra = tuple(entry for entry in old.clear if entry not in new.clear)
                both.append(replace(new, local=local, remote=remote, clear=new.clear + extra))
    closed = tuple(
        one for one in both if one in same or not any(_covers(other, one) for other in both if other != one)
    )
    return Rules(tuple(sorted({*present.open, *wanted.open}, key=_order)), closed, wanted.clamp)


def _covers(large: Closed, small: Closed) -> bool:
    """Return whether *large* drops all that *small* does."""
    return (
        _common(large.local, small.local) == small.local
        and _common(large.remote, small.remote) == small.remote
        and set(large.clear) <= set(small.clear)
    )


def _common(one: Iterable[Cidr], other: Sequence[Cidr]) -> tuple[Cidr, ...]:
    """Return the addresses that are in both."""
    found = {
        max(a, b, key=lambda cidr: cidr.prefixlen)
        for a in one
        for b in other
        if a.version == b.version and a.overlaps(b)
    }
    return tuple(sorted(found, key=_order))


@dataclass(frozen=True)
class Session:
    """A TCP connection to this host, as it sees it."""

    remote: Address
    remote_port: int
    local: Address
    local_port: int


def drops(rules: Rules, session: Session) -> bool:
    """Return whether the rules drop the packets of *session* if they are in clear text."""
    for closed in rules.closed:
        if not _inside(session.local, closed.local) or not _inside(session.remote, closed.remote):
            continue
        if not any(_excepts(entry, session) for entry in closed.clear):
            return True
    return False


def _inside(address: Address, cidrs: Iterable[Cidr]) -> bool:
    return any(address in cidr for cidr in cidrs)


def _excepts(entry: ClearEntry, session: Session) -> bool:
    return (
        session.remote in entry.cidr
        and entry.protocol in (None, "tcp", "6")
        and entry.source_port in (0, session.local_port)
        and entry.destination_port in (0, session.remote_port)
    )
