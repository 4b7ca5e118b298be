# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who a member's peers are, and the keys that they share."""

from __future__ import annotations

import base64
import hashlib
import hmac
from itertools import combinations
from typing import Any

import pytest
from ansible_collections.underlay.ipsec.plugins.module_utils._plan.mesh import mesh_peers, pair_key, pair_keys

SECRET = "a master secret of 32 characters"


def network(name: str, **changes: Any) -> dict[str, Any]:
    return {"name": name, "cidr": "10.88.0.0/24", "family": 4, "clear": [], "clear_members": [], **changes}


def plan(*networks: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Return a plan for h1 to h3 on data, and for h1 and h3 on storage if that is one of *networks*."""
    on_networks = networks or (network("data"),)
    addresses = {
        "data": {"h1": "10.88.0.1", "h2": "10.88.0.2", "h3": "10.88.0.3"},
        "storage": {"h1": "10.89.0.1", "h3": "10.89.0.3"},
    }
    return {
        "topology": "mesh",
        "vips": [],
        "auth": "psk",
        "enforcement": "private",
        "networks": list(on_networks),
        "members": {
            member: {
                "fqdn": f"{member}.example",
                "addresses": {
                    item["name"]: addresses[item["name"]][member]
                    for item in on_networks
                    if member in addresses[item["name"]]
                },
            }
            for member in ("h1", "h2", "h3")
        },
        **changes,
    }


def peers(document: dict[str, Any], member: str) -> list[tuple[str, str]]:
    return [(peer["network"], peer["member"]) for peer in mesh_peers(document, member)]


def test_peer() -> None:
    assert mesh_peers(plan(), "h1")[0] == {
        "network": "data",
        "member": "h2",
        "fqdn": "h2.example",
        "address": "10.88.0.2",
    }


@pytest.mark.parametrize(
    ("member", "expected"),
    [
        ("h1", [("data", "h2"), ("data", "h3"), ("storage", "h3")]),
        ("h2", [("data", "h1"), ("data", "h3")]),
        ("h3", [("data", "h1"), ("data", "h2"), ("storage", "h1")]),
    ],
)
def test_peers_are_those_on_the_members_networks(member: str, expected: list[tuple[str, str]]) -> None:
    assert peers(plan(network("data"), network("storage")), member) == expected


def test_peers_have_the_address_of_each_network() -> None:
    found = mesh_peers(plan(network("data"), network("storage")), "h1")
    assert [peer["address"] for peer in found if peer["member"] == "h3"] == ["10.88.0.3", "10.89.0.3"]


@pytest.mark.parametrize(
    ("member", "expected"), [("h1", [("data", "h3")]), ("h2", []), ("h3", [("data", "h1")])]
)
def test_pair_in_clear_has_no_connection_at_either_end(member: str, expected: list[tuple[str, str]]) -> None:
    assert peers(plan(network("data", clear_members=["h2"])), member) == expected


def test_member_in_clear_on_one_network_has_peers_on_the_other() -> None:
    document = plan(network("data", clear_members=["h3"]), network("storage"))
    assert peers(document, "h3") == [("storage", "h1")]


def test_no_peers_without_enforcement_or_without_a_mesh() -> None:
    assert mesh_peers(plan(enforcement="clear"), "h1") == []
    assert mesh_peers(plan(topology="opportunistic", auth="certificate"), "h1") == []


def test_no_keys_without_psk() -> None:
    assert pair_keys(plan(auth="certificate"), "h1", SECRET) == []
    assert pair_keys(plan(auth="certificate"), "h1", "") == []


def test_keys_are_by_ids_own_first() -> None:
    found = pair_keys(plan(), "h2", SECRET)
    assert [key["ids"] for key in found] == [["@h2.example", "@h1.example"], ["@h2.example", "@h3.example"]]


def test_one_key_for_a_pair_on_all_its_networks() -> None:
    assert pair_keys(plan(network("data"), network("storage")), "h1", SECRET) == pair_keys(
        plan(), "h1", SECRET
    )


def test_no_key_for_a_pair_in_clear() -> None:
    found = pair_keys(plan(network("data", clear_members=["h2"])), "h1", SECRET)
    assert [key["ids"][1] for key in found] == ["@h3.example"]


def test_both_ends_have_the_same_key() -> None:
    keys = {
        tuple(key["ids"]): key["psk"]
        for member in ("h1", "h2", "h3")
        for key in pair_keys(plan(), member, SECRET)
    }
    assert len(keys) == 6
    assert all(keys[other, one] == psk for (one, other), psk in keys.items())


def test_no_two_pairs_share_a_key_and_no_two_secrets_give_one() -> None:
    # Names that run into each other if they are only put in a row.
    names = ["h1", "h11", "1h", "h", "h1.h", "h1.h1", "a", "aa", "h-1"]
    pairs = list(combinations(names, 2))
    secrets = (SECRET, SECRET + " ", SECRET.upper())
    keys = {pair_key(secret, *pair) for pair in pairs for secret in secrets}
    assert len(keys) == len(pairs) * len(secrets)


def hkdf_sha384(secret: bytes, info: bytes) -> bytes:
    """Return the first block of RFC 5869, without a salt."""
    extracted = hmac.new(bytes(48), secret, hashlib.sha384).digest()
    return hmac.new(extracted, info + b"\x01", hashlib.sha384).digest()


@pytest.mark.parametrize("secret", [SECRET, "pässwörd, and long enough to be one", "x" * 1000])
@pytest.mark.parametrize(("one", "other"), [("h1.example", "h2.example"), ("h2.example", "h1.example")])
def test_key_is_that_of_the_rfc(secret: str, one: str, other: str) -> None:
    derived = hkdf_sha384(secret.encode(), b"underlay.ipsec psk\0h1.example\0h2.example")
    assert pair_key(secret, one, other) == base64.b64encode(derived).decode()


def test_key_never_changes() -> None:
    """A release that derived others would break all pairs until both their ends have run."""
    assert pair_key(SECRET, "h1.example", "h2.example") == (
        "yl05j1vg+EuC6v09q+osDcwMopELl45YCwSjfP32iUYyWSvYoNMHAG9YFfuAdh3x"
    )


def test_key_needs_no_quoting() -> None:
    key = pair_key(SECRET, "h1.example", "h2.example")
    assert (len(key), set(key) & set("\"' \n\\")) == (64, set())
