# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Virtual addresses in the report: who has them, who reaches them, and what is wrong with that."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from ansible_collections.underlay.ipsec.plugins.module_utils._report.compare import Scope, compare
from ansible_collections.underlay.ipsec.plugins.module_utils._report.expectation import networks_of
from ansible_collections.underlay.ipsec.plugins.module_utils._report.remedy import remedy
from ansible_collections.underlay.ipsec.plugins.module_utils._report.vips import (
    vip_lines,
    vip_problems,
    vips,
    vips_for,
    where,
)

from .plans import PORTS, plan, result, seen

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
API = {
    "name": "api",
    "address": "10.88.0.250",
    "network": "data",
    "id": "@underlay-vip-api",
    "holders": ["h1", "h2"],
}
OTHER = {**API, "name": "other", "address": "10.89.0.250", "network": "storage"}
PLAN = plan(vips=[API])
NAMES = ("h1", "h2", "h3")


def holding(**holders: list[str]) -> dict[str, Any]:
    """Return what the hosts, by name, say that they hold."""
    return {name: {"holds": held} for name, held in holders.items()}


def on(*hosts: str) -> dict[str, Any]:
    """Return the address as the report has it when *hosts* have it."""
    return {"name": "api", "network": "data", "address": "10.88.0.250", "on": list(hosts)}


UNKNOWN = {**on(), "on": None}


# Who has it.


@pytest.mark.parametrize(
    ("results", "expected"),
    [
        (holding(h1=["api.vip"], h2=[]), on("h1")),
        (holding(h1=["api.vip"], h2=["api.vip"]), on("h1", "h2")),
        (holding(h1=[], h2=["other.vip"]), on()),
        # One that has it is enough to know, one that has it not is not.
        (holding(h2=["api.vip"]), on("h2")),
        (holding(h1=[]), UNKNOWN),
        ({"h1": {}, "h2": {"holds": []}}, UNKNOWN),
        ({}, UNKNOWN),
        # Only holders are asked.
        (holding(h1=[], h2=[], h3=["api.vip"]), on()),
    ],
)
def test_who_has_it(results: dict[str, Any], expected: dict[str, Any]) -> None:
    assert vips(PLAN, results) == [expected]


def test_nothing_without_virtual_addresses() -> None:
    assert vips(plan(), holding(h1=[])) == []
    assert vip_lines({"vips": []}) == []


@pytest.mark.parametrize(
    ("vip", "said"),
    [(UNKNOWN, "not observed"), (on(), "nobody"), (on("h1"), "h1"), (on("h1", "h2"), "h1, h2")],
)
def test_who_has_it_in_words(vip: dict[str, Any], said: str) -> None:
    assert where(vip) == said


def test_all_of_them_are_in_one_line() -> None:
    report = {"vips": [on("h1"), {**UNKNOWN, "name": "db", "address": "10.88.0.251"}]}
    assert vip_lines(report) == [
        "virtual addresses: api (10.88.0.250) on h1, db (10.88.0.251) on not observed"
    ]


# Who reaches it.


@pytest.mark.parametrize(
    ("network", "member", "expected"),
    [
        ("data", "h1", []),
        ("data", "h2", ["api.vip"]),
        # Not observed: it is expected to reach it.
        ("data", "h3", ["api.vip"]),
        ("storage", "h1", ["other.vip"]),
        ("backup", "h2", []),
    ],
)
def test_who_reaches_it(network: str, member: str, expected: list[str]) -> None:
    results = holding(h1=["api.vip"], h2=[])
    assert vips_for(plan(vips=[API, OTHER]), results, network, member) == expected


def test_a_probe_goes_to_the_virtual_address_as_to_a_member() -> None:
    (network,) = networks_of(PLAN, "h3")
    assert network["peers"] == {"h1": "10.88.0.1", "h2": "10.88.0.2", "api.vip": "10.88.0.250"}
    assert network["clear"] == []


def test_a_member_in_clear_is_in_clear_with_it() -> None:
    planned = plan(vips=[API])
    planned["networks"][0]["clear_members"] = ["h3"]
    clear = {name: networks_of(planned, name)[0]["clear"] for name in ("h1", "h3")}
    assert clear == {"h1": ["h3"], "h3": ["api.vip", "h1", "h2"]}


# What is wrong.


@pytest.mark.parametrize(
    ("vip", "said"),
    [
        (on(), "10.88.0.250 is on none of its holders"),
        (on("h1", "h2"), "10.88.0.250 is on h1 and h2 at the same time"),
    ],
)
def test_it_is_to_be_on_one_holder(vip: dict[str, Any], said: str) -> None:
    assert vip_problems([vip]) == [
        {
            "cause": "vip",
            "from": "api",
            "to": None,
            "network": "data",
            "message": said,
            "remedy": remedy("vip"),
        }
    ]


@pytest.mark.parametrize("vip", [UNKNOWN, on("h1")])
def test_nothing_is_wrong(vip: dict[str, Any]) -> None:
    assert vip_problems([vip]) == []


# In whole reports.


def report(held: dict[str, list[str]], **changes: Any) -> dict[str, Any]:
    """Return the report when hosts, by name, hold what *held* says; the others reach it, h3 with *changes*."""
    results = {}
    for name in NAMES:
        pairs = [seen(name, peer) for peer in NAMES if peer != name]
        if "api.vip" not in held[name]:
            pairs.append(seen(name, "api.vip", **(changes if name == "h3" else {})))
        results[name] = result(*pairs, holds=held[name])
    scope = Scope(results, frozenset(NAMES))
    return compare(PLAN, scope, {name: [PORTS] for name in NAMES}, stage="verify", now=NOW)


def with_address(made: dict[str, Any]) -> dict[str, str]:
    """Return who is to reach the address → what was observed."""
    return {pair["from"]: pair["observed"] for pair in made["pairs"] if pair["to"] == "api.vip"}


ON_H1 = {"h1": ["api.vip"], "h2": [], "h3": []}


def test_report_of_what_is_as_planned() -> None:
    made = report(ON_H1)
    assert (made["ok"], made["problems"], made["vips"]) == (True, [], [on("h1")])
    assert with_address(made) == {"h2": "encrypted", "h3": "encrypted"}
    assert made["summary"]["pairs"] == 6 + 2


def test_report_of_clear_text_to_the_address() -> None:
    cause = {"status": "clear", "cause": "no_sa", "reason": "3 of 3 probes left in clear text", "out": None}
    made = report(ON_H1, **cause)
    assert with_address(made) == {"h2": "encrypted", "h3": "clear"}
    assert [(problem["cause"], problem["from"], problem["to"]) for problem in made["problems"]] == [
        ("no_sa", "h3", "api.vip")
    ]


def test_report_of_an_address_on_two_hosts() -> None:
    made = report({**ON_H1, "h2": ["api.vip"]})
    assert [(problem["cause"], problem["from"]) for problem in made["problems"]] == [("vip", "api")]
    assert (made["ok"], made["vips"]) == (False, [on("h1", "h2")])


def test_report_of_an_address_that_is_gone() -> None:
    made = report({**ON_H1, "h1": []})
    assert [problem["message"] for problem in made["problems"]] == ["10.88.0.250 is on none of its holders"]
    assert set(with_address(made)) == set(NAMES)
