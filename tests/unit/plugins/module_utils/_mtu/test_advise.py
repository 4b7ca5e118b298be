# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The MTU of overlays."""

from __future__ import annotations

import pytest
from ansible_collections.underlay.ipsec.plugins.module_utils._errors import IpsecError
from ansible_collections.underlay.ipsec.plugins.module_utils._mtu.advise import (
    carried,
    overlay_headers,
    overlay_mtu,
)


@pytest.mark.parametrize(
    ("kind", "family", "options", "headers"),
    [
        # As much smaller than the link's is the MTU that Linux gives a new interface of the kind.
        ("vxlan", 4, 0, 50),
        ("vxlan", 6, 0, 70),
        ("geneve", 4, 0, 50),
        ("geneve", 6, 0, 70),
        ("geneve", 4, 8, 58),
        ("gre", 4, 0, 24),
        ("gre", 4, 4, 28),
        ("gretap", 4, 0, 38),
        ("ip6gre", 6, 8, 52),
        ("ip6gretap", 6, 0, 58),
        ("ipip", 4, 0, 20),
        ("sit", 4, 0, 20),
        ("ip6tnl", 6, 8, 48),
    ],
)
def test_headers(kind: str, family: int, options: int, headers: int) -> None:
    assert overlay_headers(kind, family, options) == headers
    assert overlay_mtu(1466, kind, family=family, options=options) == 1466 - headers


def test_openshift_3_11() -> None:
    network = {"esp": "aes_gcm256", "mode": "tunnel", "encapsulation": "always", "family": 4}
    assert overlay_mtu(carried(network, 1500, nat=False), "vxlan") == 1388


@pytest.mark.parametrize(
    ("mode", "encapsulation", "nat", "size"),
    [
        ("transport", "auto", False, 1466),
        ("transport", "never", False, 1466),
        ("transport", "always", False, 1458),
        ("tunnel", "auto", False, 1446),
        ("transport", "auto", True, 1438),
    ],
)
def test_carried(mode: str, encapsulation: str, nat: bool, size: int) -> None:
    network = {"esp": "aes_gcm256", "mode": mode, "encapsulation": encapsulation, "family": 4}
    assert carried(network, 1500, nat=nat) == size


@pytest.mark.parametrize(
    ("inner", "kind", "arguments", "said"),
    [
        (1466, "wireguard", {}, "'wireguard' is not an overlay"),
        (1466, "vxlan", {"family": 5}, "no IPv5"),
        (1466, "geneve", {"options": -4}, "-4 bytes of options"),
        (117, "vxlan", {}, "117 bytes are not enough for vxlan, whose headers take 50"),
    ],
)
def test_what_cannot_be(inner: int, kind: str, arguments: dict[str, int], said: str) -> None:
    with pytest.raises(IpsecError, match=said):
        overlay_mtu(inner, kind, **arguments)
