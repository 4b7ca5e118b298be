# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Live changes of connections with endpoints, beside groups."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan import apply, difference, render
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan.connection import connections_of
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan.endpoints import endpoint_from
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan.loaded import IkeSa, Loaded, useless
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan.renewed import CERTIFICATE
from ansible_collections.underlay.ipsec.tests.unit.plugins.module_utils._libreswan import (
    test_apply as base,
)
from ansible_collections.underlay.ipsec.tests.unit.plugins.module_utils._libreswan.meshes import ENDPOINT

NAME = "underlay-endpoint+gate"
TUNNEL = "underlay-endpoint+far+host+192.0.2.0-24"
GATE = endpoint_from(ENDPOINT)
FAR = endpoint_from({**ENDPOINT, "name": "far", "mode": "tunnel", "remote_subnets": ["192.0.2.0/24"]})
SETTINGS = replace(base.SETTINGS, fqdn="h1.example", endpoints=(GATE, FAR))
FILES = render.files(SETTINGS, base.V4, {"data": "private"})
ROUTED = {**base.LOADED.routed, NAME: True, TUNNEL: True}
CONVERGED = replace(base.CONVERGED, files=FILES, loaded=Loaded(ROUTED))


def test_endpoints_of_a_network_are_in_its_file() -> None:
    assert NAME in connections_of(FILES["/etc/ipsec.d/underlay-data.conf"])
    elsewhere = replace(SETTINGS, endpoints=(replace(GATE, network="storage"),))
    assert NAME not in "".join(render.files(elsewhere, base.V4, {"data": "private"}).values())


def test_coming_ends_the_opportunistic_sa_of_the_same_host_and_nothing_else() -> None:
    change = difference.delta(base.CONVERGED, FILES)
    assert set(change.add) == {NAME, TUNNEL}
    assert dict(change.exceptions) == {NAME: "10.88.0.50/32"}
    assert (change.terminate, change.delete, change.listen, change.restart) == ((), (), False, False)


def test_going_is_unloading() -> None:
    change = difference.delta(CONVERGED, base.ENFORCED)
    assert set(change.delete) == {NAME, TUNNEL}
    assert (change.add, change.terminate, change.restart) == ((), (), False)
    assert not difference.delta(CONVERGED, FILES)


def test_a_policy_that_the_kernel_lost_comes_back() -> None:
    lost = replace(CONVERGED, loaded=Loaded({**ROUTED, NAME: False}))
    assert difference.delta(lost, FILES).route == (NAME,)


def test_another_certificate_is_not_read_where_pluto_would_crash() -> None:
    change = difference.delta(replace(CONVERGED, renewed=frozenset({CERTIFICATE})), FILES, reread=False)
    assert change == difference.Delta(authorities=True)


def test_an_sa_for_subnets_is_not_useless_though_the_host_has_no_policy() -> None:
    sa = IkeSa(7, TUNNEL, "10.88.0.50")
    there = Loaded(ROUTED, (sa,), protected=frozenset({"10.88.0.50"}))
    assert useless(there, outbound=[]) == ()
    assert useless(replace(there, protected=frozenset()), outbound=[]) == (sa,)


def test_cas_are_read_anew_before_a_connection_that_may_need_one(tmp_path: Path) -> None:
    host = base.Host()
    host.answers["ipsec whack --status"] += f'000 "{TUNNEL}": 10.88.0.11...10.88.0.50; prospective erouted;\n'
    apply.apply(difference.delta(base.CONVERGED, FILES), host, tmp_path, wait=lambda seconds: None)
    trigger = host.commands.index("ipsec whack --impair trigger:EVENT_FREE_ROOT_CERTS")
    assert all(trigger < at for at, command in enumerate(host.commands) if "addconn" in command)
    assert f"ipsec whack --name {NAME} --route" in host.commands


def test_what_an_endpoint_tried_as_a_member_is_left_alone() -> None:
    """To end it is to end the SA that it has as an endpoint: both have the same id."""
    tried = IkeSa(9, base.TARGET, "10.88.0.50", peer_id="CN=gate")
    stuck = IkeSa(10, base.TARGET, "10.88.0.12", peer_id="CN=h2")
    assert difference.delta(replace(CONVERGED, useless=(tried, stuck)), FILES).heal == (stuck,)
