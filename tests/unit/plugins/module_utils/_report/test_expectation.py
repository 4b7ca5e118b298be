# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the plan says about pairs."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.underlay.ipsec.plugins.module_utils._report.expectation import natural, networks_of

from .plans import plan


def test_natural_order() -> None:
    assert natural(["node10", "node2", "a", "node2b", "10", "9"]) == [
        "9",
        "10",
        "a",
        "node2",
        "node2b",
        "node10",
    ]


@pytest.mark.parametrize(
    ("member", "changes", "clear_members", "clear"),
    [
        ("h1", {}, [], []),
        ("h1", {}, ["h2"], ["h2"]),
        ("h2", {}, ["h2"], ["h1", "h3"]),
        ("h1", {"enforcement": "clear"}, [], ["h2", "h3"]),
    ],
)
def test_networks_of(
    member: str, changes: dict[str, Any], clear_members: list[str], clear: list[str]
) -> None:
    planned = plan(**changes)
    planned["networks"][0]["clear_members"] = clear_members
    peers = {name: f"10.88.0.{name[1]}" for name in ("h1", "h2", "h3") if name != member}
    assert networks_of(planned, member) == [
        {"name": "data", "address": f"10.88.0.{member[1]}", "peers": peers, "nat": {}, "clear": clear}
    ]


def test_a_peer_behind_nat_is_found_elsewhere() -> None:
    planned = plan()
    planned["members"]["h3"]["nat_addresses"] = {"data": "192.0.2.3", "other": "198.51.100.3"}
    assert networks_of(planned, "h1")[0]["nat"] == {"h3": "192.0.2.3"}
    assert networks_of(planned, "h3")[0]["nat"] == {}


def test_a_network_that_the_member_is_not_on_is_left_out() -> None:
    planned = plan()
    planned["members"]["h1"]["addresses"] = {}
    assert networks_of(planned, "h1") == []
    assert set(networks_of(planned, "h2")[0]["peers"]) == {"h3"}
