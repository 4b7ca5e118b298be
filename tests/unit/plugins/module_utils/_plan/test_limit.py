# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A run for a part of the members, by what these have now and what the others need."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan import configured, render, vips
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan.dialect import Dialect
from ansible_collections.underlay.ipsec.plugins.module_utils._model.cluster import Host
from ansible_collections.underlay.ipsec.plugins.module_utils._plan.build import Plan
from ansible_collections.underlay.ipsec.plugins.module_utils._plan.mesh import mesh_peers, pair_keys
from ansible_collections.underlay.ipsec.tests.unit.plugins.module_utils._plan import test_build as base

MESH = {"ipsec_topology": "mesh"}
VIP = {"name": "web", "address": "10.88.0.250", "holders": ["h2"]}
VIPS = {"ipsec_vip_manager": "none", "ipsec_vips": [VIP]}
OTHER_SECRET = {**base.MESH_PSK, "ipsec_psk_secret": "another secret of 32 characters!"}


def members(variables: dict[str, Any]) -> list[Host]:
    known = {number: {"data": f"10.88.0.{number}"} for number in (1, 2, 3)}
    return [base.host(n, {**variables, "ipsec_addresses": known[n]}) for n in known]


def configure(root: Path, made: Plan, name: str, secret: str = "", state: str = "private") -> None:
    """Write what *made* says of one host."""
    part = made.slices[name]
    settings = render.settings_from(part["libreswan"], mesh_peers(made.document, name))
    pairs = {pair: state for network in settings.networks for pair in settings.pairs(network)}
    enforcement = pairs if settings.mesh else {network.name: "private" for network in settings.networks}
    keys = render.secrets_file(pair_keys(made.document, name, secret))
    addresses = [vips.vip_from(vip) for vip in part["libreswan"]["vips"]]
    states = {vip.name: state for vip in addresses}
    held = vips.vip_files(settings, addresses, [], Dialect(4, 10), states, "")
    for path, text in {**render.files(settings, Dialect(4, 10), enforcement), **keys, **held}.items():
        (root / path.lstrip("/")).parent.mkdir(parents=True, exist_ok=True)
        (root / path.lstrip("/")).write_text(text, encoding="utf-8")


def limited(root: Path, before: dict[str, Any] | None, after: dict[str, Any]) -> list[Host]:
    """Return the hosts of a run for h1 alone, which is configured as *before* says."""
    if before is not None:
        configure(root, base.plan(members(before)), "h1", before.get("ipsec_psk_secret", ""))
    first, *others = members(after)
    assert first.facts
    facts = replace(
        first.facts,
        libreswan_installed="4.10-2" if before is not None else None,
        connections=configured.fingerprints(root),
        keys=configured.key_fingerprints(root),
    )
    return [replace(first, facts=facts), *(replace(host, facts=None) for host in others)]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (MESH, MESH),
        (base.MESH_PSK, base.MESH_PSK),
        ({}, {}),
        ({**MESH, **VIPS}, {**MESH, **VIPS}),
        (VIPS, VIPS),
        # To join a group changes nothing for those who are in it.
        (None, {}),
        (None, VIPS),
        # An exception is for each host to have.
        (MESH, {**MESH, "ipsec_clear": ["10.88.0.0/24 tcp 0 22"]}),
        # A renewed certificate is still one of the same CA.
        (MESH, {**MESH, "ipsec_cert_validity_days": 900}),
    ],
)
def test_what_does_not_concern_the_others_is_done(
    tmp_path: Path, before: dict[str, Any] | None, after: dict[str, Any]
) -> None:
    assert base.plan(limited(tmp_path, before, after), play_hosts=["h1"]).slices.keys() == {"h1"}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (None, MESH),
        (None, base.MESH_PSK),
        (MESH, {**MESH, "ipsec_esp": "aes_gcm128"}),
        (MESH, {**MESH, "ipsec_mode": "tunnel"}),
        (MESH, {**MESH, "ipsec_encapsulation": "always"}),
        (MESH, {**MESH, "ipsec_enforcement": "clear"}),
        (MESH, base.MESH_PSK),
        (base.MESH_PSK, OTHER_SECRET),
        (MESH, {}),
        ({}, MESH),
        ({}, {"ipsec_esp": "aes_gcm128"}),
        (MESH, {**MESH, **VIPS}),
        ({**MESH, **VIPS}, MESH),
        ({}, VIPS),
        (VIPS, {**VIPS, "ipsec_vips": [{**VIP, "address": "10.88.0.251"}]}),
    ],
)
def test_what_would_cut_the_others_off_is_refused(
    tmp_path: Path, before: dict[str, Any] | None, after: dict[str, Any]
) -> None:
    (problem,) = base.faults(limited(tmp_path, before, after), play_hosts=["h1"])
    assert str(problem).startswith(
        "h1: this run would change its connections with h2, h3, which are not part of it"
    )
    assert "Run without --limit" in str(problem)


def test_those_who_are_not_affected_are_not_named(tmp_path: Path) -> None:
    """h3 is new, and so is all that is for it."""
    configure(tmp_path, base.plan(members(MESH)[:2]), "h1")
    first, *others = limited(tmp_path, None, MESH)
    assert first.facts
    first = replace(first, facts=replace(first.facts, libreswan_installed="4.10-2"))
    (problem,) = base.faults([first, *others], play_hosts=["h1"])
    assert "its connections with h3, which" in str(problem)


def test_a_run_for_all_is_not_asked(tmp_path: Path) -> None:
    hosts = [
        replace(host, facts=base.facts(n)) for n, host in enumerate(limited(tmp_path, None, MESH), start=1)
    ]
    assert base.plan(hosts, play_hosts=["h1", "h2", "h3"]).document["topology"] == "mesh"


def test_a_look_is_not_asked(tmp_path: Path) -> None:
    """verify.yml changes nothing, so the hosts are not asked what they have."""
    first, *others = limited(tmp_path, None, MESH)
    assert first.facts
    look = [replace(first, facts=replace(first.facts, connections=None, keys=None)), *others]
    assert base.plan(look, play_hosts=["h1"]).slices.keys() == {"h1"}
