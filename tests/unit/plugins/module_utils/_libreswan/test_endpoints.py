# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Endpoints as connections."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan.connection import Connection
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan.dialect import Dialect
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan.endpoints import (
    Own,
    endpoint_connections,
    endpoint_from,
    is_endpoint,
    replaced_by,
)
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan.pairs import is_pair
from ansible_collections.underlay.ipsec.tests.unit.plugins.module_utils._libreswan.meshes import ENDPOINT

OLD, NEW = Dialect(4, 10), Dialect(5, 2)
OWN = Own("10.88.0.1", 4, "h1.example", "underlay-h1", "ecdsa")


def made(dialect: Dialect = OLD, own: Own = OWN, **changes: Any) -> tuple[Connection, ...]:
    """Return the connections of an endpoint."""
    return endpoint_connections(endpoint_from({**ENDPOINT, **changes}), own, dialect)


def keywords(**changes: Any) -> dict[str, str]:
    """Return the keywords of its only connection."""
    (connection,) = made(**changes)
    assert len(dict(connection.keywords)) == len(connection.keywords), "a key twice is not loaded"
    return dict(connection.keywords)


def test_certificate() -> None:
    assert made()[0].text() == (
        "conn underlay-endpoint+gate\n"
        "\ttype=transport\n"
        "\tleftauth=ecdsa\n"
        "\trightauth=ecdsa\n"
        "\tleftcert=underlay-h1\n"
        "\trightca=%same\n"
        "\tikev2=insist\n"
        "\tike=aes_gcm256-sha2_384-dh20\n"
        "\tesp=aes_gcm256\n"
        "\tencapsulation=auto\n"
        "\thostaddrfamily=ipv4\n"
        "\tleft=10.88.0.1\n"
        "\tleftid=@h1.example\n"
        "\tleftupdown=%disabled\n"
        "\tright=10.88.0.50\n"
        "\trightid=@gate.example\n"
        "\tdpddelay=5\n"
        "\tretransmit-timeout=5s\n"
        "\tauto=ondemand\n"
    )


def test_generations_differ_in_one_keyword() -> None:
    old, new = dict(made(OLD)[0].keywords), dict(made(NEW)[0].keywords)
    assert dict(old.items() - new.items()) == {"ikev2": "insist"}
    assert dict(new.items() - old.items()) == {"keyexchange": "ikev2"}


def test_pre_shared_key_needs_no_certificate() -> None:
    found = keywords(auth="psk", own=Own("10.88.0.1", 4, "h1", None, "secret"))
    assert found["authby"] == "secret"
    assert not {"leftcert", "rightca", "leftauth", "rightauth"} & set(found)


def test_names_with_spaces_are_quoted() -> None:
    found = keywords(id="C=DE, CN=gate", ca="C=DE, O=Partner\\2c Inc.")
    assert (found["rightid"], found["rightca"]) == ('"C=DE, CN=gate"', '"C=DE, O=Partner\\2c Inc."')


def test_kinds_of_keys_may_differ() -> None:
    found = keywords(key_type="rsa")
    assert (found["leftauth"], found["rightauth"]) == ("ecdsa", "rsasig")
    found = keywords(own=Own("10.88.0.1", 4, "h1", "underlay-h1", "rsa-sha2"))
    assert (found["leftauth"], found["rightauth"]) == ("rsasig", "ecdsa")


def test_what_is_set_by_the_user() -> None:
    found = keywords(pfs=False, ike_lifetime=28800, sa_lifetime=3600, dpd_delay=30, encapsulation="always")
    assert (found["pfs"], found["encapsulation"], found["dpddelay"]) == ("no", "yes", "30")
    assert (found["ikelifetime"], found["salifetime"]) == ("28800s", "3600s")


def test_a_connection_for_each_pair_of_subnets() -> None:
    subnets: dict[str, Any] = {
        "local_subnets": ["10.1.0.0/16"],
        "remote_subnets": ["192.0.2.0/25", "192.0.2.128/25"],
    }
    found = {connection.name: dict(connection.keywords) for connection in made(mode="tunnel", **subnets)}
    assert {name: (k["leftsubnet"], k["rightsubnet"]) for name, k in found.items()} == {
        "underlay-endpoint+gate+10.1.0.0-16+192.0.2.0-25": ("10.1.0.0/16", "192.0.2.0/25"),
        "underlay-endpoint+gate+10.1.0.0-16+192.0.2.128-25": ("10.1.0.0/16", "192.0.2.128/25"),
    }


def test_a_member_without_subnets_is_its_own_end() -> None:
    (connection,) = made(mode="tunnel", remote_subnets=["2001:db8::/32"])
    assert connection.name == "underlay-endpoint+gate+host+2001.db8..-32"
    assert "leftsubnet" not in dict(connection.keywords)


def test_names_are_those_of_connections_with_one_peer() -> None:
    assert is_endpoint("underlay-endpoint+gate")
    assert is_pair("underlay-endpoint+gate")
    assert not is_endpoint("underlay-data+h1+h2")


@pytest.mark.parametrize(
    ("changes", "cidr"),
    [
        ({}, "10.88.0.50/32"),
        ({"address": "fd88::50"}, "fd88::50/128"),
        ({"remote_subnets": ["192.0.2.0/24"]}, None),
    ],
)
def test_what_it_takes_the_place_of(changes: dict[str, Any], cidr: str | None) -> None:
    (connection,) = made(**changes)
    assert replaced_by(connection) == cidr
