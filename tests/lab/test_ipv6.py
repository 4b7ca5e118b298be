# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The same matrix on an IPv6 network."""

from __future__ import annotations

import itertools
import uuid

from kit import Lab

MEMBERS = ("h1", "h2")


def test_every_ordered_pair_is_encrypted(lab: Lab) -> None:
    assert lab.report["ok"]
    expected = {(*pair, "data6"): "encrypted" for pair in itertools.permutations(MEMBERS, 2)}
    assert lab.matrix() == expected


def test_marker_is_on_the_wire_as_esp_only(lab: Lab) -> None:
    marker = uuid.uuid4().hex
    capture, pairs = lab.exchange(MEMBERS, 1, marker, family=6)
    assert not capture.holding(marker.encode())
    for sender, receiver in pairs:
        ends = lab.address(sender, 6), lab.address(receiver, 6)
        assert capture.esp(*ends)
        assert not capture.clear(*ends)


def test_neighbours_are_found_again(lab: Lab) -> None:
    """Neighbour discovery is never encrypted: a host whose neighbour cache is empty finds its peers."""
    for member in MEMBERS:
        lab.ssh(member, "ip -6 neigh flush dev eth1")
    assert lab.answers("h1", lab.address("h2", 6))
    assert lab.answers("h2", lab.address("h1", 6))
