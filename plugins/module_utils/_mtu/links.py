# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host's interfaces: their MTUs, and what overlays among them travel over."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Mapping
from typing import Any

from ansible_collections.underlay.ipsec.plugins.module_utils._run import Runner

Link = Mapping[str, Any]

# The kinds whose outer header is of one family; that of others shows in their addresses.
_FAMILIES: Mapping[str, int] = {
    **dict.fromkeys(("gre", "gretap", "ipip", "sit"), 4),
    **dict.fromkeys(("ip6gre", "ip6gretap", "ip6tnl"), 6),
}
_UNSPECIFIED = ("any", "0.0.0.0", "::")
_WORD = 4
# Linux puts its limit on nested tunnels into a header of destination options of this size (RFC 2473).
_NESTING_LIMIT = 8


def parse_links(text: str) -> list[dict[str, Any]]:
    """Return the interfaces in the output of ``ip -d -j link``.

    ``lower`` is the device that an overlay or a VLAN is bound to, ``local`` and ``remote`` are the ends of an overlay
    and ``family`` is that of its outer header, each None if unknown. ``options`` are bytes that it adds to the
    headers of its kind. Raises ValueError if *text* is not JSON.
    """
    return [_link(entry) for entry in json.loads(text or "[]") if "ifname" in entry]


def read_links(run: Runner) -> list[dict[str, Any]]:
    """Return the interfaces of this host; none if ``ip`` cannot say."""
    said = run(["ip", "-d", "-j", "link"], check=False)
    try:
        return parse_links(said.stdout) if said.rc == 0 else []
    except ValueError:
        return []


def read_ways(run: Runner, ends: Mapping[str, tuple[str, str]]) -> dict[str, dict[str, Any]]:
    """Return by which ``interface`` this host sends to each network, and the ``mtu`` of that route, None if it has none.

    *ends* is network → this host's address and that of a peer. A network without a route is left out.
    """
    ways = {}
    for name, (own, peer) in ends.items():
        # IPsec's policies play no part in this question.
        said = run(["ip", "-j", "route", "get", peer, "from", own], check=False)
        routes: list[dict[str, Any]] = json.loads(said.stdout or "[]") if said.rc == 0 else []
        route = routes[0] if routes else {}
        if "dev" in route:
            mtu = next((metrics["mtu"] for metrics in route.get("metrics", ()) if "mtu" in metrics), None)
            ways[name] = {"interface": route["dev"], "mtu": mtu}
    return ways


def carrier(link: Link, networks: Mapping[str, tuple[str, str]], interfaces: Mapping[str, str]) -> str | None:
    """Return the name of the network that the overlay *link* travels over; None if it is none of them.

    *networks* is name → CIDR and the host's own address there, *interfaces* is name → the interface with that address.
    The other end decides if there is a single one, because a device alone also leads to hosts behind a gateway.
    """
    for name, (cidr, address) in networks.items():
        within = ipaddress.ip_network(cidr)
        if link["family"] not in (None, within.version):
            continue
        local, remote = link["local"], link["remote"]
        if remote:
            if ipaddress.ip_address(remote) in within:
                return name
        elif local:
            if ipaddress.ip_address(local) == ipaddress.ip_address(address):
                return name
        elif link["lower"] and link["lower"] == interfaces.get(name):
            return name
    return None


def _link(entry: Link) -> dict[str, Any]:
    info = entry.get("linkinfo", {})
    kind, data = info.get("info_kind"), info.get("info_data", {})
    local, remote = _address(data, "local"), _address(data, "remote")
    seen = local or remote or _address(data, "group")
    family = _FAMILIES.get(kind) or (ipaddress.ip_address(seen).version if seen else None)
    return {
        "name": entry["ifname"],
        "mtu": entry["mtu"],
        "kind": kind,
        "lower": data.get("link") or entry.get("link"),
        "local": local,
        "remote": remote,
        "family": family,
        "up": "UP" in entry.get("flags", ()),
        "options": _options(kind, data),
    }


def _address(data: Link, key: str) -> str | None:
    """Return a unicast or group address of an overlay; IPv6 ones have keys of their own for some kinds."""
    found = data.get(key) or data.get(f"{key}6")
    if not isinstance(found, str) or found in _UNSPECIFIED:
        return None
    try:
        return str(ipaddress.ip_address(found))
    except ValueError:
        return None


def _options(kind: str | None, data: Link) -> int:
    """Return the bytes that a tunnel of GRE or IPv6 adds for a key, a checksum, a sequence number, a nesting limit."""
    options = 0
    if kind in ("gre", "gretap", "ip6gre", "ip6gretap"):
        options += _WORD * sum(bool(data.get(flag)) for flag in ("okey", "ocsum", "oseq"))
    if kind in ("ip6gre", "ip6gretap", "ip6tnl") and data.get("encap_limit") is not None:
        options += _NESTING_LIMIT
    return options
