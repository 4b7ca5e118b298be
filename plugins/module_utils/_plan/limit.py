# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A run for a part of the members must not change what they share with the others.

A connection has two ends. If a run changes one of them and ``--limit`` leaves the other
out, the pair is cut off: so whatever such a run would change there is a problem.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from ansible_collections.underlay.ipsec.plugins.module_utils._errors import Problem
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan import render
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan.configured import key_fingerprint
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan.connection import PREFIX
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan.dialect import Dialect
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan.pairs import pair_name
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan.vips import (
    is_vip,
    node_connection,
    vip_from,
)
from ansible_collections.underlay.ipsec.plugins.module_utils._model.cluster import HostFacts
from ansible_collections.underlay.ipsec.plugins.module_utils._model.variables import some
from ansible_collections.underlay.ipsec.plugins.module_utils._plan.mesh import mesh_peers, pair_keys
from ansible_collections.underlay.ipsec.plugins.module_utils._plan.preflight import release_of

# A host without libreswan has nothing that its connections could be compared with.
_NEWEST = "5.0"


def limit_problem(
    document: Mapping[str, Any],
    part: Mapping[str, Any],
    facts: HostFacts,
    outside: Collection[str],
    secret: str | None,
) -> Problem | None:
    """Return what is wrong if a run changes connections of a member with those *outside* the run.

    *document* is the plan, *part* the member's slice of it, *secret* the one that keys are derived from.
    Nothing is wrong if the host was not asked what it is configured with.
    """
    if facts.connections is None or not outside:
        return None
    affected = _changed_pairs(document, part, facts, outside) | _changed_keys(
        document, part["member"], facts, outside, secret or ""
    )
    if _changed_groups(part, facts) or _changed_vips(part, facts):
        affected |= set(outside)
    if not affected:
        return None
    return Problem(
        f"this run would change its connections with {some(sorted(affected))}, which are not part of it, "
        "and cut them off from each other",
        "Run without --limit, or add those hosts to it; a host that is gone for good has to leave the group",
        host=part["member"],
    )


def _fingerprints(part: Mapping[str, Any], facts: HostFacts, peers: list[dict[str, str]]) -> dict[str, str]:
    """Return the fingerprints of the connections that the host is to have."""
    settings = render.settings_from(part["libreswan"], peers)
    dialect = Dialect(*release_of(facts.libreswan_installed or _NEWEST))
    state = part["enforcement"]
    pairs = {name: state for network in settings.networks for name in settings.pairs(network)}
    return {
        connection.name: connection.fingerprint for connection in render.connections(settings, dialect, pairs)
    }


def _changed_pairs(
    document: Mapping[str, Any], part: Mapping[str, Any], facts: HostFacts, outside: Collection[str]
) -> set[str]:
    own = part["member"]
    peers = [peer for peer in mesh_peers(document, own) if peer["member"] in outside]
    wanted = _fingerprints(part, facts, peers) if part["enforcement"] != "clear" else {}
    present = facts.connections or {}
    affected = set()
    for network in part["libreswan"]["networks"]:
        for peer in outside:
            name = pair_name(network["name"], own, peer)
            if wanted.get(name) != present.get(name):
                affected.add(peer)
    return affected


def _changed_groups(part: Mapping[str, Any], facts: HostFacts) -> bool:
    """Return whether groups that the host has become others; it may gain some, to join."""
    wanted = _fingerprints(part, facts, [])
    groups = {
        f"{PREFIX}{network['name']}-{group}"
        for network in part["libreswan"]["networks"]
        for group in render.GROUPS
    }
    present = facts.connections or {}
    return any(name in present and present[name] != wanted.get(name) for name in groups)


def _changed_vips(part: Mapping[str, Any], facts: HostFacts) -> bool:
    """Return whether the host has other virtual addresses than it is to have; one that has nothing yet joins."""
    present = facts.connections or {}
    settings = render.settings_from(part["libreswan"], [])
    vips = map(vip_from, part["libreswan"]["vips"] if part["enforcement"] != "clear" else ())
    dialect = Dialect(*release_of(facts.libreswan_installed or _NEWEST))
    wanted = {
        vip.node: node_connection(settings, vip, dialect, part["enforcement"]).fingerprint for vip in vips
    }
    return bool(present) and wanted != {name: found for name, found in present.items() if is_vip(name)}


def _changed_keys(
    document: Mapping[str, Any], own: str, facts: HostFacts, outside: Collection[str], secret: str
) -> set[str]:
    names = {document["members"][name]["fqdn"]: name for name in outside}
    affected = set()
    for key in pair_keys(document, own, secret):
        peer = names.get(key["ids"][1].lstrip("@"))
        if peer and (facts.keys or {}).get(" ".join(key["ids"])) != key_fingerprint(key["psk"]):
            affected.add(peer)
    return affected
