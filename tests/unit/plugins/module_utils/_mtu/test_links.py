# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host's interfaces, as iproute2 6.15 printed them on Linux 6.1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from ansible_collections.underlay.ipsec.plugins.module_utils._mtu import links
from ansible_collections.underlay.ipsec.plugins.module_utils._run import Completed

PRINTED = """
[{"ifname": "lo", "flags": ["LOOPBACK", "UP", "LOWER_UP"], "mtu": 65536},
 {"ifname": "eth1", "flags": ["BROADCAST", "MULTICAST", "UP", "LOWER_UP"], "mtu": 1497},
 {"ifname": "vx4", "flags": ["BROADCAST", "MULTICAST", "UP", "LOWER_UP"], "mtu": 1447, "linkinfo": {"info_kind": "vxlan", "info_data": {"id": 1, "remote": "10.88.0.11", "local": "10.88.0.12", "link": "eth1", "external": false}}},
 {"ifname": "vxno", "flags": ["BROADCAST", "MULTICAST"], "mtu": 1500, "linkinfo": {"info_kind": "vxlan", "info_data": {"id": 11, "local": "10.88.0.12", "external": false}}},
 {"ifname": "vxmc", "flags": ["BROADCAST", "MULTICAST"], "mtu": 1447, "linkinfo": {"info_kind": "vxlan", "info_data": {"id": 12, "group": "239.1.1.1", "link": "eth1", "external": false}}},
 {"ifname": "vxext", "flags": ["BROADCAST", "MULTICAST"], "mtu": 1500, "linkinfo": {"info_kind": "vxlan", "info_data": {"id": 0, "external": true}}},
 {"ifname": "vx6", "flags": ["BROADCAST", "MULTICAST"], "mtu": 1500, "linkinfo": {"info_kind": "vxlan", "info_data": {"id": 2, "remote6": "fd88::11", "local6": "fd88::12", "external": false}}},
 {"ifname": "gnv4", "flags": ["BROADCAST", "MULTICAST"], "mtu": 1447, "linkinfo": {"info_kind": "geneve", "info_data": {"id": 3, "remote": "10.88.0.11"}}},
 {"ifname": "gnv6", "flags": ["BROADCAST", "MULTICAST"], "mtu": 1427, "linkinfo": {"info_kind": "geneve", "info_data": {"id": 4, "remote6": "fd88::11"}}},
 {"link": null, "ifname": "gre1", "flags": ["POINTOPOINT", "NOARP"], "mtu": 1469, "linkinfo": {"info_kind": "gre", "info_data": {"remote": "10.88.0.11", "local": "10.88.0.12", "ikey": "0.0.0.5", "okey": "0.0.0.5"}}},
 {"link": null, "ifname": "gre2", "flags": ["BROADCAST", "MULTICAST"], "mtu": 1459, "linkinfo": {"info_kind": "gretap", "info_data": {"remote": "10.88.0.11", "local": "10.88.0.12"}}},
 {"link": null, "ifname": "ip6g", "flags": ["POINTOPOINT", "NOARP"], "mtu": 1445, "linkinfo": {"info_kind": "ip6gre", "info_data": {"remote": "fd88::11", "local": "fd88::12", "encap_limit": 4}}},
 {"link": null, "ifname": "ip6gn", "flags": ["BROADCAST", "MULTICAST"], "mtu": 1439, "linkinfo": {"info_kind": "ip6gretap", "info_data": {"remote": "fd88::11", "local": "fd88::12", "ip6_tnl_f_ign_encap_limit": true}}},
 {"link": "eth1", "ifname": "ipip1", "flags": ["POINTOPOINT", "NOARP"], "mtu": 1477, "linkinfo": {"info_kind": "ipip", "info_data": {"proto": "any", "remote": "10.88.0.11", "local": "10.88.0.12", "link": "eth1"}}},
 {"link": null, "ifname": "t6", "flags": ["POINTOPOINT", "NOARP"], "mtu": 1449, "linkinfo": {"info_kind": "ip6tnl", "info_data": {"proto": "any", "remote": "fd88::11", "local": "fd88::12", "encap_limit": 4}}},
 {"ifname": "br1", "flags": ["BROADCAST", "MULTICAST"], "mtu": 1500, "linkinfo": {"info_kind": "bridge", "info_data": {}}}]
"""
EXPECTED = {
    "lo": (65536, None, None, None, None, None, True, 0),
    "eth1": (1497, None, None, None, None, None, True, 0),
    "vx4": (1447, "vxlan", "eth1", "10.88.0.12", "10.88.0.11", 4, True, 0),
    "vxno": (1500, "vxlan", None, "10.88.0.12", None, 4, False, 0),
    "vxmc": (1447, "vxlan", "eth1", None, None, 4, False, 0),
    # Its ends are in each packet's metadata.
    "vxext": (1500, "vxlan", None, None, None, None, False, 0),
    "vx6": (1500, "vxlan", None, "fd88::12", "fd88::11", 6, False, 0),
    "gnv4": (1447, "geneve", None, None, "10.88.0.11", 4, False, 0),
    "gnv6": (1427, "geneve", None, None, "fd88::11", 6, False, 0),
    "gre1": (1469, "gre", None, "10.88.0.12", "10.88.0.11", 4, False, 4),
    "gre2": (1459, "gretap", None, "10.88.0.12", "10.88.0.11", 4, False, 0),
    "ip6g": (1445, "ip6gre", None, "fd88::12", "fd88::11", 6, False, 8),
    "ip6gn": (1439, "ip6gretap", None, "fd88::12", "fd88::11", 6, False, 0),
    "ipip1": (1477, "ipip", "eth1", "10.88.0.12", "10.88.0.11", 4, False, 0),
    "t6": (1449, "ip6tnl", None, "fd88::12", "fd88::11", 6, False, 8),
    "br1": (1500, "bridge", None, None, None, None, False, 0),
}
KEYS = ("mtu", "kind", "lower", "local", "remote", "family", "up", "options")


def test_parse_links() -> None:
    found = {link["name"]: tuple(link[key] for key in KEYS) for link in links.parse_links(PRINTED)}
    assert found == EXPECTED


def test_vlan_knows_its_device() -> None:
    text = (
        '[{"ifname": "eth1.5", "link": "eth1", "mtu": 1500, "flags": [], "linkinfo": {"info_kind": "vlan"}}]'
    )
    assert links.parse_links(text)[0]["lower"] == "eth1"


@pytest.mark.parametrize("text", ["", "[]", "[{}]"])
def test_no_links(text: str) -> None:
    assert links.parse_links(text) == []


class Host:
    """Answers commands by their last argument but the first that is known."""

    def __init__(self, **answers: tuple[int, str]) -> None:
        self.answers = answers
        self.asked: list[str] = []

    def __call__(self, argv: Sequence[str], **_rest: Any) -> Completed:
        self.asked.append(" ".join(argv))
        rc, stdout = self.answers[argv[-1]] if argv[-1] in self.answers else self.answers["other"]
        return Completed(tuple(argv), rc, stdout, "")


@pytest.mark.parametrize(
    ("answer", "count"), [((0, PRINTED), 16), ((0, "no JSON"), 0), ((127, ""), 0), ((0, ""), 0)]
)
def test_read_links(answer: tuple[int, str], count: int) -> None:
    host = Host(link=answer)
    assert len(links.read_links(host)) == count
    assert host.asked == ["ip -d -j link"]


@pytest.mark.parametrize(
    ("answer", "way"),
    [
        ((0, '[{"dst": "10.88.0.12", "dev": "eth1", "flags": []}]'), {"interface": "eth1", "mtu": None}),
        ((0, '[{"dev": "eth1", "metrics": [{"mtu": 1400}]}]'), {"interface": "eth1", "mtu": 1400}),
        ((0, '[{"dev": "eth1", "metrics": [{"rtt": 1}]}]'), {"interface": "eth1", "mtu": None}),
        ((2, ""), None),
        ((0, "[]"), None),
    ],
)
def test_read_ways(answer: tuple[int, str], way: dict[str, Any] | None) -> None:
    host = Host(other=answer)
    found = links.read_ways(host, {"data": ("10.88.0.11", "10.88.0.12")})
    assert found == ({"data": way} if way else {})
    assert host.asked == ["ip -j route get 10.88.0.12 from 10.88.0.11"]


NETWORKS = {"data": ("10.88.0.0/24", "10.88.0.12"), "data6": ("fd88::/64", "fd88::12")}


@pytest.mark.parametrize(
    ("changes", "network"),
    [
        ({"remote": "10.88.0.11"}, "data"),
        ({"remote": "fd88::11", "family": 6}, "data6"),
        # Bound to the right device or address, but it goes elsewhere, behind a gateway.
        ({"remote": "192.0.2.1", "local": "10.88.0.12", "lower": "eth1"}, None),
        ({"local": "10.88.0.12"}, "data"),
        ({"local": "fd88:0::12", "family": 6}, "data6"),
        ({"local": "10.77.0.12", "lower": "eth1"}, None),
        ({"lower": "eth1"}, "data"),
        ({"lower": "eth1", "family": 6}, "data6"),
        ({"lower": "eth0"}, None),
        ({}, None),
    ],
)
def test_carrier(changes: dict[str, Any], network: str | None) -> None:
    link = {
        "name": "vx",
        "kind": "vxlan",
        "lower": None,
        "local": None,
        "remote": None,
        "family": 4,
        **changes,
    }
    assert links.carrier(link, NETWORKS, {"data": "eth1", "data6": "eth1"}) == network
