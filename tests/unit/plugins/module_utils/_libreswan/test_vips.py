# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rendering virtual addresses: for whoever has one, and for all others."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.underlay.ipsec.plugins.module_utils._files import MANAGED
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan import render
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan.connection import (
    Connection,
    connections_of,
)
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan.dialect import Dialect
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan.pairs import Peer, begins, is_pair
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan.vips import (
    HOOK_FILE,
    SCRIPT_FILE,
    TIDY_FILE,
    Vip,
    begins_with,
    holder_file,
    is_vip,
    node_connection,
    node_file,
    vip_files,
    vip_from,
)
from ansible_collections.underlay.ipsec.tests.unit.plugins.module_utils._libreswan.meshes import (
    DATA,
    PSK,
    SIX,
    V4,
    V5,
    mesh,
    peer,
)

API = Vip("api", "data", "10.88.0.250", "@underlay-vip-api", holder=True)
ELSEWHERE = replace(API, holder=False)
MEMBERS = (peer(3), peer(2), peer(2, SIX))
MESH = mesh(2, 3, networks=(DATA, SIX))
PORTS = "10.88.0.0/24 tcp 0 22"
GROUP = replace(
    MESH, topology="opportunistic", peers=(), networks=(replace(DATA, clear=(PORTS, "10.88.0.9/32")), SIX)
)
KNOWN = ("underlay-vip+api+holder+h2", "underlay-vip+api+holder+h3")
ANYBODY = "underlay-vip+api+holder"


def written(
    state: str = "private",
    settings: render.Settings = MESH,
    vip: Vip = API,
    dialect: Dialect = V4,
    members: tuple[Peer, ...] = MEMBERS,
) -> dict[str, str]:
    """Return path → text of what a member has for *vip* in *state*."""
    return vip_files(settings, [vip], members, dialect, {vip.name: state}, "#!/bin/sh\n")


def holder(state: str = "private", settings: render.Settings = MESH, **options: Any) -> dict[str, Connection]:
    """Return the connections of the holder by name."""
    return connections_of(written(state, settings, **options)[holder_file(options.get("vip", API))])


def node(state: str = "private", settings: render.Settings = MESH, **options: Any) -> Connection:
    """Return the connection of whoever does not hold it."""
    (found,) = connections_of(written(state, settings, **options)[node_file(API)]).values()
    return found


def test_an_item_of_a_slice() -> None:
    item = {
        "name": "api",
        "network": "data",
        "address": "10.88.0.250",
        "id": "@underlay-vip-api",
        "holder": True,
    }
    assert vip_from(item) == API


def test_as_a_peer_it_is_a_member_of_its_own() -> None:
    assert (API.node, API.peer.member, API.peer.known_as) == (
        "underlay-vip+api+node",
        "api.vip",
        "@underlay-vip-api",
    )


def test_names_that_the_script_loads() -> None:
    names = [*holder(settings=GROUP), API.node]
    assert all(is_vip(name) and is_pair(name) for name in names)
    assert not is_vip("underlay-data+h1+h2")
    assert {name for name in names if begins_with(name, "api")} == set(KNOWN)
    assert not begins_with(KNOWN[0], "ap")


@pytest.mark.parametrize(
    ("dialect", "ikev2", "tries"),
    [(V4, "ikev2=insist", "\tkeyingtries=1\n"), (V5, "keyexchange=ikev2", "")],
    ids=["4.10", "5.2"],
)
@pytest.mark.parametrize(
    ("changes", "authby", "leftcert", "rightca"),
    [
        ({}, "ecdsa", "\tleftcert=underlay-h1\n", ""),
        ({"one_ca": True}, "ecdsa", "\tleftcert=underlay-h1\n", "\trightca=%same\n"),
        ({**PSK, "one_ca": True}, "secret", "", ""),
    ],
    ids=["certificate", "one-ca", "psk"],
)
def test_section_of_whoever_does_not_hold_it(
    dialect: Dialect,
    ikev2: str,
    tries: str,
    changes: dict[str, Any],
    authby: str,
    leftcert: str,
    rightca: str,
) -> None:
    text = written(settings=replace(MESH, **changes), vip=ELSEWHERE, dialect=dialect)[node_file(API)]
    assert text == (
        f"""\
{MANAGED}
conn underlay-vip+api+node
\ttype=transport
\tauthby={authby}
\t{ikev2}
\tike=aes_gcm256-sha2_384-dh20
\tesp=aes_gcm256
\tencapsulation=auto
\thostaddrfamily=ipv4
\tleft=10.88.0.1
\tleftid=@h1.example
{leftcert}\tleftupdown=%disabled
\tright=10.88.0.250
\trightid=@underlay-vip-api
{rightca}{tries}\tdpddelay=5
\tretransmit-timeout=5s
\tauto=ondemand
"""
    )


def test_the_plan_and_the_host_agree_about_that_section() -> None:
    assert node_connection(MESH, API, V4, "private").text() == node().text()


@pytest.mark.parametrize(
    ("state", "auto"), [("private", "ondemand"), ("prepared", "add"), ("private-or-clear", "start")]
)
def test_whoever_does_not_hold_it_begins(state: str, auto: str) -> None:
    assert node(state).values["auto"] == auto
    assert begins("data", "h1", API.peer.member)


@pytest.mark.parametrize(
    ("state", "auto"), [("private", "ondemand"), ("prepared", "add"), ("private-or-clear", "add")]
)
def test_the_holder_knows_all_members_of_the_network(state: str, auto: str) -> None:
    found = holder(state)
    assert tuple(found) == (*KNOWN, ANYBODY)
    for name, address, fqdn in zip(KNOWN, ("10.88.0.2", "10.88.0.3"), ("h2", "h3"), strict=True):
        expected = {
            "left": "10.88.0.250",
            "leftid": "@underlay-vip-api",
            "leftcert": "underlay-h1",
            "right": address,
            "rightid": f"@{fqdn}.example",
            "auto": auto,
        }
        assert expected.items() <= found[name].values.items()


def test_ends_say_the_same_of_each_other() -> None:
    theirs, ours = node().values, holder()[KNOWN[0]].values
    assert (theirs["right"], theirs["rightid"]) == (ours["left"], ours["leftid"])
    shared = ("type", "authby", "ikev2", "ike", "esp", "encapsulation", "hostaddrfamily")
    assert [theirs[key] for key in shared] == [ours[key] for key in shared]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, {"rightid": "%fromcert", "rightca": None, "leftcert": "underlay-h1"}),
        ({"one_ca": True}, {"rightid": "%fromcert", "rightca": "%same", "leftcert": "underlay-h1"}),
        ({**PSK, "one_ca": True}, {"rightid": "%any", "rightca": None, "leftcert": None, "authby": "secret"}),
    ],
    ids=["certificate", "one-ca", "psk"],
)
@pytest.mark.parametrize("state", ["private", "prepared", "private-or-clear"])
def test_the_holder_lets_in_whoever_can_authenticate(
    state: str, changes: dict[str, Any], expected: dict[str, str | None]
) -> None:
    found = holder(state, replace(MESH, **changes))[ANYBODY]
    common = {
        "left": "10.88.0.250",
        "leftid": "@underlay-vip-api",
        "leftupdown": "%disabled",
        "right": "%any",
        "auto": "add",
    }
    assert {key: found.values.get(key) for key in (*common, *expected)} == {**common, **expected}
    assert not found.traps


def test_a_member_behind_nat_has_a_tunnel() -> None:
    behind = replace(peer(2), address="10.99.0.2", nat_address="192.0.2.2")
    found = holder(members=(behind,))[KNOWN[0]].values
    assert (found["type"], found["left"], found["right"], found["rightsubnet"]) == (
        "tunnel",
        "10.88.0.250",
        "192.0.2.2",
        "10.99.0.2/32",
    )


def test_in_a_group_the_holder_also_drops_clear_text_but_for_exceptions() -> None:
    found = holder(settings=GROUP)
    drop, ports, single = "underlay-vip+api+drop", "underlay-vip+api+clear-0", "underlay-vip+api+clear-1"
    assert tuple(found) == (*KNOWN, ANYBODY, drop, ports, single)
    assert found[drop].text() == (
        """\
conn underlay-vip+api+drop
\ttype=drop
\tauthby=never
\thostaddrfamily=ipv4
\tleft=10.88.0.250
\tleftsubnet=10.88.0.250/32
\tright=0.0.0.0
\trightsubnet=10.88.0.0/24
\tleftupdown=%disabled
\tauto=ondemand
"""
    )
    assert found[ports].values["rightprotoport"] == "tcp/22"
    for name, cidr in ((ports, "10.88.0.0/24"), (single, "10.88.0.9/32")):
        expected = {"type": "passthrough", "left": "10.88.0.250", "rightsubnet": cidr}
        shunt = {"leftupdown": "%disabled", "auto": "ondemand"}
        assert {**expected, **shunt}.items() <= found[name].values.items()


@pytest.mark.parametrize("state", ["prepared", "private-or-clear"])
def test_nothing_is_dropped_before_it_is_private(state: str) -> None:
    assert tuple(holder(state, GROUP)) == (*KNOWN, ANYBODY)


def test_in_a_mesh_only_the_firewall_drops() -> None:
    assert tuple(holder(settings=replace(GROUP, topology="mesh"))) == (*KNOWN, ANYBODY)


def test_a_section_says_nothing_twice() -> None:
    for text in written(settings=GROUP).values():
        for connection in connections_of(text).values():
            assert len(connection.keywords) == len(connection.values)


def test_ipv6() -> None:
    six = replace(API, network="six", address="fd88::250")
    settings = replace(GROUP, networks=(replace(SIX, clear=("fd88::9/128",)),))
    found = holder(settings=settings, vip=six)
    assert tuple(found) == (KNOWN[0], ANYBODY, "underlay-vip+api+drop", "underlay-vip+api+clear-0")
    assert found[KNOWN[0]].values["right"] == "fd88::2"
    drop = found["underlay-vip+api+drop"].values
    assert (drop["leftsubnet"], drop["right"], drop["rightsubnet"]) == ("fd88::250/128", "::", "fd88::/64")
    assert {connection.values["hostaddrfamily"] for connection in found.values()} == {"ipv6"}


@pytest.mark.parametrize(("vip", "also"), [(API, {holder_file(API)}), (ELSEWHERE, set())])
def test_files(vip: Vip, also: set[str]) -> None:
    assert set(written(vip=vip)) == {node_file(API), SCRIPT_FILE, HOOK_FILE, TIDY_FILE, *also}


def test_nothing_without_virtual_addresses() -> None:
    assert vip_files(MESH, [], MEMBERS, V4, {}, "#!/bin/sh\n") == {}


def test_each_address_has_its_own_state() -> None:
    other = replace(API, name="db", address="10.88.0.251", id="@underlay-vip-db")
    found = vip_files(MESH, [API, other], MEMBERS, V4, {"api": "private", "db": "prepared"}, "")
    traps = {
        name: connection.traps
        for vip in (API, other)
        for name, connection in connections_of(found[node_file(vip)]).items()
    }
    assert traps == {"underlay-vip+api+node": True, "underlay-vip+db+node": False}


def test_the_script_comes_as_it_is_and_runs_after_pluto() -> None:
    found = written()
    assert found[SCRIPT_FILE] == "#!/bin/sh\n"
    assert found[HOOK_FILE].startswith(MANAGED)
    # The service is not to fail for it.
    assert f"ExecStartPost=-/bin/sh {SCRIPT_FILE} restore\n" in found[HOOK_FILE]


@pytest.mark.parametrize("dialect", [V4, V5], ids=["4.10", "5.2"])
def test_tidying_is_said_as_the_generation_wants_it(dialect: Dialect) -> None:
    unit = written(dialect=dialect)[TIDY_FILE]
    assert f"ExecStart=/bin/sh {SCRIPT_FILE} tidy {dialect.expire_superseded}\n" in unit
    assert unit.index("[Service]") < unit.index("ExecStart=")
