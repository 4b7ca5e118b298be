# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a pair is called, and which end begins."""

from __future__ import annotations

from itertools import combinations, permutations

import pytest
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan.pairs import (
    AUTO,
    begins,
    is_pair,
    pair_name,
)

# Names that run into each other if they are only put in a row.
AWKWARD = ["h1", "h11", "1h", "h", "h-1", "h1-h1", "h.1", "H1", "_h1", "data", "h1-h11"]
NETWORKS = ["data", "dat", "data-h1", "a"]


def test_name() -> None:
    assert pair_name("data", "h2", "h10") == "underlay-data+h10+h2"


def test_names_do_not_depend_on_the_end() -> None:
    for network in NETWORKS:
        for one, other in permutations(AWKWARD, 2):
            assert pair_name(network, one, other) == pair_name(network, other, one)


def test_no_two_pairs_have_one_name() -> None:
    pairs = [(network, *pair) for network in NETWORKS for pair in combinations(AWKWARD, 2)]
    assert len({pair_name(*pair) for pair in pairs}) == len(pairs)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("underlay-data+h1+h2", True),
        ("underlay-data-private", False),
        ("underlay-data-private#10.88.0.0/24", False),
        ("underlay-data-clear-10.88.0.1-32", False),
        ("somebody+elses", False),
        ("private", False),
    ],
)
def test_is_pair(name: str, expected: bool) -> None:
    assert is_pair(name) is expected


def test_exactly_one_end_begins() -> None:
    for network in NETWORKS:
        for one, other in combinations(AWKWARD, 2):
            assert begins(network, one, other) != begins(network, other, one)


def test_members_begin_with_about_half_of_their_peers() -> None:
    members = [f"host{number:03}" for number in range(100)]
    begun = {own: sum(begins("data", own, other) for other in members if other != own) for own in members}
    assert sum(begun.values()) == 100 * 99 // 2
    assert min(begun.values()) >= 35
    assert max(begun.values()) <= 65


def test_which_end_begins_never_changes() -> None:
    """Both ends decide by themselves, maybe with different releases of the collection."""
    peers = ("h2", "h3", "h4")
    assert [begins("data", "h1", peer) for peer in peers] == [True, False, True]
    assert [begins("six", "h1", peer) for peer in peers] == [True, True, True]


def test_only_a_pair_that_is_in_force_asks_for_an_sa() -> None:
    ends = {state: (AUTO[state, True], AUTO[state, False]) for state, _begins in AUTO}
    assert ends == {
        "private": ("ondemand", "ondemand"),
        "prepared": ("add", "add"),
        "private-or-clear": ("start", "add"),
    }
