# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rendering a mesh: a connection for each pair."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan import render
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan.connection import (
    connections_in,
    connections_of,
)
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan.dialect import Dialect
from ansible_collections.underlay.ipsec.tests.unit.plugins.module_utils._libreswan.meshes import (
    DATA,
    PSK,
    SIX,
    V4,
    V5,
    files,
    first,
    mesh,
    pair,
    states,
)

STATES = ("prepared", "private", "private-or-clear")
PORTS = "10.88.0.0/24 tcp 0 22"


def keywords(
    number: int, state: str, dialect: Dialect = V4, settings: render.Settings | None = None
) -> dict[str, str]:
    """Return the keywords of the pair with the member *number* in *state*."""
    settings = settings or mesh(number)
    found = render.connections(settings, dialect, states(settings, state))
    return dict(next(c.keywords for c in found if c.name == pair(number)))


CERTIFICATE = ("ecdsa", "\tleftcert=underlay-h1\n", "")
SECRET = ("secret", "", "")


@pytest.mark.parametrize(
    ("dialect", "ikev2", "tries"),
    [(V4, "ikev2=insist", "\tkeyingtries=1\n"), (V5, "keyexchange=ikev2", "")],
    ids=["4.10", "5.2"],
)
@pytest.mark.parametrize(("changes", "auth"), [({}, CERTIFICATE), (PSK, SECRET)], ids=["certificate", "psk"])
def test_section_of_a_pair(
    dialect: Dialect, ikev2: str, tries: str, changes: dict[str, Any], auth: tuple[str, str, str]
) -> None:
    settings = mesh(2, **changes)
    authby, leftcert, rightca = auth
    assert [c.text() for c in render.connections(settings, dialect, states(settings, "private"))] == [
        f"""\
conn underlay-data+h1+h2
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
\tright=10.88.0.2
\trightid=@h2.example
{rightca}{tries}\tdpddelay=5
\tretransmit-timeout=5s
\tauto=ondemand
"""
    ]


def test_pair_on_an_ipv6_network() -> None:
    settings = mesh(2, networks=(SIX,))
    (connection,) = render.connections(settings, V4, states(settings, "private"))
    assert connection.name == "underlay-six+h1+h2"
    found = dict(connection.keywords)
    assert (found["hostaddrfamily"], found["left"], found["right"]) == ("ipv6", "fd88::1", "fd88::2")


def test_network_decides_on_mode_and_encapsulation() -> None:
    tunnel = replace(DATA, mode="tunnel", encapsulation="always")
    found = keywords(2, "private", settings=mesh(2, networks=(tunnel,)))
    assert (found["type"], found["encapsulation"]) == ("tunnel", "yes")


@pytest.mark.parametrize(
    ("state", "begin", "auto"),
    [
        ("private", True, "ondemand"),
        ("private", False, "ondemand"),
        ("prepared", True, "add"),
        ("prepared", False, "add"),
        ("private-or-clear", True, "start"),
        ("private-or-clear", False, "add"),
    ],
)
def test_auto_is_for_the_state_and_the_end(state: str, begin: bool, auto: str) -> None:
    assert keywords(first(begin=begin), state)["auto"] == auto


@pytest.mark.parametrize("begin", [True, False])
def test_states_differ_in_nothing_else(begin: bool) -> None:
    number = first(begin=begin)
    prepared, private, relaxed = (set(keywords(number, state).items()) for state in STATES)
    assert {key for key, _value in prepared ^ private} == {"auto"}
    assert {key for key, _value in prepared ^ relaxed} <= {"failureshunt", "auto"}
    assert not any(key == "failureshunt" for key, _value in private)


def test_only_exceptions_with_ports_have_a_connection() -> None:
    """The addresses of the others have no pair."""
    settings = mesh(2, networks=(replace(DATA, clear=("10.88.0.250/32", PORTS)),))
    names = [c.name for c in render.connections(settings, V4, states(settings, "private"))]
    assert names == [pair(2), "underlay-data-clear-10.88.0.0-24-tcp-0-22"]


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("changes", [{}, PSK], ids=["certificate", "psk"])
def test_no_key_is_given_twice(state: str, changes: dict[str, Any]) -> None:
    settings = mesh(2, 3, networks=(replace(DATA, clear=(PORTS,)), SIX), **changes)
    for dialect in (V4, V5):
        for connection in render.connections(settings, dialect, states(settings, state)):
            keys = [key for key, _value in connection.keywords]
            assert len(keys) == len(set(keys))


def test_pair_that_is_not_in_the_enforcement_has_no_connection() -> None:
    settings = mesh(2, 3, 4)
    enforcement = {pair(2): "private", pair(4): "prepared"}
    assert [c.name for c in render.connections(settings, V4, enforcement)] == [pair(2), pair(4)]
    assert render.connections(settings, V4, {}) == ()
    assert render.connections(settings, V4) == ()


def test_networks_have_files_of_their_own_and_no_policy_files() -> None:
    found = files(mesh(2, 3, networks=(DATA, SIX)), "private")
    assert list(found) == [
        render.SETUP_FILE,
        render.conf_file(DATA),
        render.conf_file(SIX),
        render.SYSCTL_FILE,
    ]
    names = {path: list(connections_of(text)) for path, text in found.items()}
    assert names[render.conf_file(DATA)] == [pair(2), pair(3)]
    assert names[render.conf_file(SIX)] == [pair(2, "six"), pair(3, "six")]


def test_peer_on_one_network_only() -> None:
    settings = mesh(2, networks=(DATA, SIX))
    settings = replace(settings, peers=settings.peers[:1])
    assert (list(settings.pairs(DATA)), list(settings.pairs(SIX))) == ([pair(2)], [])


def test_text_does_not_depend_on_the_order_of_the_peers() -> None:
    assert files(mesh(2, 3, 10), "private") == files(mesh(10, 3, 2), "private")


def test_pair_is_read_back_as_written() -> None:
    found = connections_in(files(mesh(2), "private-or-clear"))
    assert found[pair(2)].values == keywords(2, "private-or-clear")


def test_settings_from_a_slice() -> None:
    network = {key: getattr(DATA, key) for key in DATA.__dataclass_fields__}
    slice_ = {
        "topology": "mesh",
        "member": "h1",
        "fqdn": "h1.example",
        "certificate": None,
        "authby": "secret",
        "ike": "aes_gcm256-sha2_384-dh20",
        "esp": "aes_gcm256",
        "networks": [network],
    }
    peers = [{"network": "data", "member": "h2", "fqdn": "h2.example", "address": "10.88.0.2"}]
    assert render.settings_from(slice_, peers) == mesh(2, **PSK)


def test_secrets_file() -> None:
    keys = [
        {"ids": ["@h1.example", "@h3.example"], "psk": "c2Vjb25k"},
        {"ids": ["@h1.example", "@h2.example"], "psk": "Zmlyc3Q="},
    ]
    (path, text), *others = render.secrets_file(keys).items()
    assert (path, others) == ("/etc/ipsec.d/underlay.secrets", [])
    assert text.splitlines()[1:] == [
        '@h1.example @h2.example : PSK "Zmlyc3Q="',
        '@h1.example @h3.example : PSK "c2Vjb25k"',
    ]
    assert render.secrets_file(keys[::-1]) == {path: text}


def test_no_secrets_file_without_keys() -> None:
    assert render.secrets_file([]) == {}
