# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rendering: from a slice to libreswan's files."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan import render
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan.connection import (
    Connection,
    connections_in,
)
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan.dialect import Dialect, parse_version
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan.pairs import Peer

V4, V5 = Dialect(4, 10), Dialect(5, 2)


def slice_of(**network: Any) -> render.Settings:
    """Return settings with one network, changed by *network*."""
    return render.settings_from(
        {
            "topology": "opportunistic",
            "member": "h1",
            "fqdn": "h1.example",
            "certificate": "underlay-h1",
            "authby": "ecdsa",
            "ike": "aes_gcm256-sha2_384-dh20",
            "esp": "aes_gcm256",
            "networks": [
                {
                    "name": "data",
                    "family": 4,
                    "cidr": "10.88.0.0/24",
                    "address": "10.88.0.11",
                    "mode": "transport",
                    "encapsulation": "auto",
                    "private": ["10.88.0.0/24"],
                    "clear": ["10.88.0.1/32"],
                    **network,
                }
            ],
        }
    )


def keywords(name: str, settings: render.Settings, dialect: Dialect = V4) -> dict[str, str]:
    """Return the keywords of one connection."""
    return dict(next(c.keywords for c in render.connections(settings, dialect) if c.name == name))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Linux Libreswan 4.10 (XFRM) on 6.1.0", V4),
        ("Libreswan 5.2", V5),
        ("Linux Libreswan U4.3-1/K(no kernel code presently loaded)", None),
        ("strongSwan 5.9.8", None),
        ("", None),
    ],
)
def test_version(text: str, expected: Dialect | None) -> None:
    assert parse_version(text) == expected


def test_a_network_has_two_groups_and_its_exceptions() -> None:
    names = [connection.name for connection in render.connections(slice_of(), V4)]
    assert names == [
        "underlay-data-private",
        "underlay-data-private-or-clear",
        "underlay-data-clear-10.88.0.1-32",
    ]


@pytest.mark.parametrize(
    ("entry", "name", "expected"),
    [
        (
            "10.88.0.64/28",
            "underlay-data-clear-10.88.0.64-28",
            {"rightsubnet": "10.88.0.64/28", "leftsubnet": "10.88.0.11/32", "right": "0.0.0.0"},
        ),
        (
            "10.88.0.0/24 tcp 0 22",
            "underlay-data-clear-10.88.0.0-24-tcp-0-22",
            {"rightsubnet": "10.88.0.0/24", "leftprotoport": "tcp", "rightprotoport": "tcp/22"},
        ),
        (
            "10.88.0.0/24 tcp 22 0",
            "underlay-data-clear-10.88.0.0-24-tcp-22-0",
            {"leftprotoport": "tcp/22", "rightprotoport": "tcp"},
        ),
    ],
)
def test_exception_is_a_passthrough_connection(entry: str, name: str, expected: dict[str, str]) -> None:
    found = keywords(name, slice_of(clear=[entry]))
    assert {"type": "passthrough", "authby": "never", **expected}.items() <= found.items()


def test_what_is_left_in_clear() -> None:
    assert {c.name: c.exception for c in render.connections(slice_of(), V4)} == {
        "underlay-data-private": None,
        "underlay-data-private-or-clear": None,
        "underlay-data-clear-10.88.0.1-32": "10.88.0.1/32",
    }


def test_exception_in_ipv6() -> None:
    settings = slice_of(family=6, cidr="fd88::/64", address="fd88::11", clear=["fd88::1/128"])
    found = keywords("underlay-data-clear-fd88..1-128", settings)
    assert {"right": "::", "leftsubnet": "fd88::11/128", "hostaddrfamily": "ipv6"}.items() <= found.items()


@pytest.mark.parametrize(("dialect", "key", "value"), [(V4, "ikev2", "insist"), (V5, "keyexchange", "ikev2")])
def test_ikev2_keyword_is_the_generations(dialect: Dialect, key: str, value: str) -> None:
    assert keywords("underlay-data-private", slice_of(), dialect)[key] == value


@pytest.mark.parametrize(
    ("group", "key", "value"),
    [
        ("private", "failureshunt", "drop"),
        ("private-or-clear", "failureshunt", "passthrough"),
        ("private", "negotiationshunt", "hold"),
        ("private-or-clear", "negotiationshunt", "hold"),
    ],
)
def test_groups_differ_where_they_must(group: str, key: str, value: str) -> None:
    assert keywords(f"underlay-data-{group}", slice_of())[key] == value


@pytest.mark.parametrize(("given", "rendered"), [("auto", "auto"), ("always", "yes"), ("never", "no")])
def test_encapsulation(given: str, rendered: str) -> None:
    assert keywords("underlay-data-private", slice_of(encapsulation=given))["encapsulation"] == rendered


@pytest.mark.parametrize("key", ["ike", "esp"])
def test_proposals_of_a_network(key: str) -> None:
    name = "underlay-data-private"
    assert keywords(name, slice_of(**{key: "aes_gcm128"}))[key] == "aes_gcm128"
    assert keywords(name, slice_of(**{key: None})) == keywords(name, slice_of())


def behind_nat(enforcement: str, **network: Any) -> dict[str, Connection]:
    """Return name → connection of h1 in a mesh with h2, and with h3 behind NAT."""
    peers = (
        Peer("data", "h2", "h2.example", "10.88.0.12"),
        Peer("data", "h3", "h3.example", "10.99.0.13", "10.88.0.50"),
    )
    settings = replace(slice_of(clear=[], **network), topology="mesh", peers=peers)
    states = dict.fromkeys(settings.pairs(settings.networks[0]), enforcement)
    return {c.name: c for c in render.connections(settings, V4, states)}


def test_peer_behind_nat_has_a_tunnel_for_its_own_address() -> None:
    found = behind_nat("private")
    direct, through = found["underlay-data+h1+h2"].values, found["underlay-data+h1+h3"].values
    assert (direct["type"], direct["right"]) == ("transport", "10.88.0.12")
    assert "rightsubnet" not in direct
    assert through["type"] == "tunnel"
    assert (through["right"], through["rightsubnet"]) == ("10.88.0.50", "10.99.0.13/32")


@pytest.mark.parametrize("enforcement", ["prepared", "private-or-clear", "private"])
def test_nat_address_itself_is_dropped_where_clear_text_is(enforcement: str) -> None:
    barrier = behind_nat(enforcement).get("underlay-data-nat-10.88.0.50")
    assert bool(barrier) == (enforcement == "private")
    if barrier:
        assert {"type": "drop", "rightsubnet": "10.88.0.50/32", "leftsubnet": "10.88.0.11/32"}.items() <= (
            barrier.values.items()
        )


def test_only_a_barrier_is_one() -> None:
    found = behind_nat("private")
    assert [name for name in found if found[name].is_barrier] == ["underlay-data-nat-10.88.0.50"]
    assert not any(connection.exception for connection in found.values())


def test_no_key_is_given_twice() -> None:
    for connection in render.connections(slice_of(), V5):
        keys = [key for key, _value in connection.keywords]
        assert len(keys) == len(set(keys))


@pytest.mark.parametrize(
    ("enforcement", "private", "private_or_clear"),
    [
        ("private", ("10.88.0.0/24",), ()),
        ("private-or-clear", (), ("10.88.0.0/24",)),
        ("clear", (), ()),
    ],
)
def test_enforcement_only_moves_the_network_between_policy_files(
    enforcement: str, private: tuple[str, ...], private_or_clear: tuple[str, ...]
) -> None:
    settings = slice_of()
    files = render.files(settings, V4, {"data": enforcement})
    entries = {
        group: render.entries_of(files[render.policy_file(settings.networks[0], group)])
        for group in render.GROUPS
    }
    assert entries == {"private": private, "private-or-clear": private_or_clear}
    assert {
        path: text for path, text in files.items() if path.startswith(f"{render.CONF_DIR}/underlay")
    } == render.conf_files(settings, V4)


def test_connections_are_read_back_as_written() -> None:
    found = connections_in(render.conf_files(slice_of(), V5))
    assert tuple(found.values()) == render.connections(slice_of(), V5)
