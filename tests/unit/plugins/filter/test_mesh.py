# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filters that turn the plan into a member's peers and keys."""

from __future__ import annotations

from ansible_collections.underlay.ipsec.plugins.filter import mesh_peers, pair_keys
from ansible_collections.underlay.ipsec.plugins.module_utils._plan import mesh
from ansible_collections.underlay.ipsec.tests.unit.plugins.module_utils._report.plans import plan

PLAN = plan(topology="mesh", auth="psk")
SECRET = "a master secret of 32 characters"


def test_peers() -> None:
    found = mesh_peers.FilterModule().filters()["mesh_peers"](PLAN, "h1")
    assert [peer["member"] for peer in found] == ["h2", "h3"]


def test_keys() -> None:
    found = pair_keys.FilterModule().filters()["pair_keys"](PLAN, "h1", SECRET)
    assert found[0] == {
        "ids": ["@h1.example.com", "@h2.example.com"],
        "psk": mesh.pair_key(SECRET, "h2.example.com", "h1.example.com"),
    }


def test_nothing_for_opportunistic_connections() -> None:
    opportunistic = plan(topology="opportunistic", auth="certificate")
    assert mesh_peers.FilterModule().filters()["mesh_peers"](opportunistic, "h1") == []
    assert pair_keys.FilterModule().filters()["pair_keys"](opportunistic, "h1", "") == []
