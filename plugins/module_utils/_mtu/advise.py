# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What MTU suits an overlay, and what packets a network of the plan carries."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.underlay.ipsec.plugins.module_utils._errors import IpsecError
from ansible_collections.underlay.ipsec.plugins.module_utils._mtu.overhead import (
    IP_HEADER,
    SMALLEST_MTU,
    TUNNEL,
    UDP_HEADER,
    usable,
)

_ETHERNET = 14
_GRE = 4
# What stands between the outer IP header and the packet inside.
_HEADERS: Mapping[str, int] = {
    "vxlan": UDP_HEADER + 8 + _ETHERNET,
    "geneve": UDP_HEADER + 8 + _ETHERNET,
    "gre": _GRE,
    "gretap": _GRE + _ETHERNET,
    "ip6gre": _GRE,
    "ip6gretap": _GRE + _ETHERNET,
    "ipip": 0,
    "sit": 0,
    "ip6tnl": 0,
}
OVERLAYS = tuple(_HEADERS)
"""The kinds of overlays, by the names that Linux gives them."""


def overlay_headers(kind: str, family: int = 4, options: int = 0) -> int:
    """Return how many bytes an overlay puts in front of a packet: for VXLAN over IPv4 it is 50.

    *family* is that of the outer IP header, *options* what comes in addition: Geneve's options, a key of GRE.

    Raises IpsecError if *kind* is not one of `OVERLAYS`, or the others cannot be.
    """
    if kind not in _HEADERS:
        raise IpsecError(
            f"{kind!r} is not an overlay whose headers are known: it is one of {', '.join(OVERLAYS)}"
        )
    if family not in IP_HEADER:
        raise IpsecError(f"there is no IPv{family}: the family is 4 or 6")
    if options < 0:
        raise IpsecError(f"there cannot be {options} bytes of options")
    return IP_HEADER[family] + _HEADERS[kind] + options


def overlay_mtu(inner: int, kind: str, *, family: int = 4, options: int = 0) -> int:
    """Return the largest MTU of an overlay whose packets, with its headers, are no larger than *inner*.

    Raises IpsecError if nothing useful is left, or as `overlay_headers` does.
    """
    headers = overlay_headers(kind, family, options)
    if inner - headers < SMALLEST_MTU[4]:
        raise IpsecError(
            f"{inner} bytes are not enough for {kind}, whose headers take {headers}:"
            f" IPv4 inside of it needs {SMALLEST_MTU[4]} more"
        )
    return inner - headers


def carried(network: Mapping[str, Any], mtu: int, *, nat: bool) -> int:
    """Return the largest packet that travels encrypted over a *network* of the plan (esp, mode, encapsulation, family).

    *mtu* is what the network itself carries. With *nat*, a member is behind NAT: pairs with it use tunnel mode
    inside UDP, and they count. Raises IpsecError as `usable` does.
    """
    return usable(
        network["esp"],
        mtu=mtu,
        mode=TUNNEL if nat else network["mode"],
        in_udp=nat or network["encapsulation"] == "always",
        family=network["family"],
    )


def overlay_over(link: Mapping[str, Any], network: Mapping[str, Any], mtu: int, *, nat: bool) -> int:
    """Return the MTU that suits the overlay *link*, as `_mtu.links.parse_links` makes it, over a *network* as for `carried`.

    Raises IpsecError if there is none.
    """
    inner = carried(network, mtu, nat=nat)
    return overlay_mtu(inner, link["kind"], family=network["family"], options=link["options"])
