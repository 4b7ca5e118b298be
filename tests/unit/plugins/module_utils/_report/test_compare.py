# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The comparison of plan and reality."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from ansible_collections.underlay.ipsec.plugins.module_utils._report.compare import Scope, compare

from .plans import PORTS, authenticated, certificate, clear, endpoint, plan, result, results, seen, with_gate

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
ALL = frozenset({"h1", "h2", "h3"})


def report(
    observed: dict[str, Any],
    *,
    planned: dict[str, Any] | None = None,
    targeted: frozenset[str] = ALL,
    stage: str = "verify",
) -> dict[str, Any]:
    return compare(
        planned or plan(),
        Scope(observed, targeted),
        {key: [PORTS] for key in observed},
        stage=stage,
        now=NOW,
    )


def pair(found: dict[str, Any], source: str, destination: str) -> dict[str, Any]:
    return next(p for p in found["pairs"] if (p["from"], p["to"]) == (source, destination))


def test_all_as_planned() -> None:
    found = report(results())
    assert found["ok"]
    assert found["complete"]
    assert found["problems"] == found["warnings"] == []
    assert found["summary"] == {
        "pairs": 6,
        "in_this_run": 6,
        "as_planned": 6,
        "encrypted": 6,
        "clear": 0,
        "blocked": 0,
        "unreachable": 0,
        "not_observed": 0,
    }
    assert found["generated"] == "2026-01-31T12:00:00Z"
    assert pair(found, "h1", "h2") == {
        "from": "h1",
        "to": "h2",
        "network": "data",
        "expected": "encrypted",
        "observed": "encrypted",
        "as_planned": True,
        "cipher": "aes_gcm256",
        "encapsulation": None,
        "spi_out": "0xh1h2",
        "spi_in": "0xh2h1",
        "cause": "",
        "reason": "",
        "certificate": None,
    }
    assert found["members"]["h1"] == {
        "fqdn": "h1.example.com",
        "addresses": {"data": "10.88.0.1"},
        "in_this_run": True,
        "observed": True,
        "libreswan": "5.2",
        "service": {"active": True, "enabled": True},
        "certificate": {
            "nickname": "underlay-x",
            "not_after": "2031-01-31T00:00:00Z",
            "fingerprint": "ab",
            "days_left": 1825,
        },
    }


def test_clear_text_where_encryption_is_planned() -> None:
    found = report(results(h1_h2=clear("h1", "h2")))
    assert not found["ok"]
    assert pair(found, "h1", "h2")["as_planned"] is False
    assert [(p["from"], p["to"], p["cause"], p["message"]) for p in found["problems"]] == [
        ("h1", "h2", "no_sa", "clear instead of encrypted: 3 of 3 probes left in clear text")
    ]


COVERED = {
    **plan(),
    "networks": [
        {
            "name": "data",
            "cidr": "10.88.0.0/24",
            "family": 4,
            "clear": ["10.88.0.2/32"],
            "clear_members": ["h2"],
        }
    ],
}


@pytest.mark.parametrize(
    ("planned", "observed", "problems"),
    [
        (COVERED, [clear("h1", "h2"), seen("h1", "h3")], []),
        (
            COVERED,
            [seen("h1", "h2"), seen("h1", "h3")],
            [("h2", "unplanned_sa", "encrypted instead of clear")],
        ),
        (
            COVERED,
            [clear("h1", "h2", replies=0, cause="clear_unanswered", reason="r"), seen("h1", "h3")],
            [("h2", "clear_unanswered", "unreachable instead of clear: r")],
        ),
        (plan(enforcement="clear"), [clear("h1", "h2"), clear("h1", "h3")], []),
        (
            plan(enforcement="clear"),
            [clear("h1", "h2"), seen("h1", "h3")],
            [("h3", "unplanned_sa", "encrypted instead of clear")],
        ),
    ],
)
def test_planned_clear_text(
    planned: dict[str, Any], observed: list[dict[str, Any]], problems: list[tuple[str, str, str]]
) -> None:
    found = report({"h1": result(*observed)}, planned=planned, targeted=frozenset({"h1"}))
    assert [(p["to"], p["cause"], p["message"]) for p in found["problems"]] == problems


def test_clear_text_is_planned_in_both_directions() -> None:
    found = report(results(), planned=COVERED)
    assert [(p["from"], p["to"]) for p in found["pairs"] if p["expected"] == "clear"] == [
        ("h1", "h2"),
        ("h2", "h1"),
        ("h2", "h3"),
        ("h3", "h2"),
    ]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (None, "h3 did not get as far as the probe"),
        ({"failed": True, "msg": "no root\nmore"}, "the probe on h3 gave no result: no root"),
        ({"unreachable": True, "msg": "timed out"}, "Ansible cannot reach h3: timed out"),
    ],
)
def test_a_member_that_could_not_be_observed(answer: dict[str, Any] | None, reason: str) -> None:
    observed = results()
    del observed["h3"]
    if answer:
        observed["h3"] = answer
    found = report(observed)
    assert [(p["from"], p["to"], p["message"]) for p in found["problems"]] == [
        ("h3", None, f"not observed: {reason} (2 of 2 pairs are unknown)")
    ]
    assert pair(found, "h3", "h1")["as_planned"] is False
    assert found["summary"]["not_observed"] == 2
    assert not found["members"]["h3"]["observed"]


def test_a_member_that_looked_at_only_some_peers() -> None:
    found = report({**results(), "h3": result(seen("h3", "h1"))})
    assert [p["message"] for p in found["problems"]] == [
        "not observed: the probe on h3 did not look at this peer (1 of 2 pairs are unknown)"
    ]


def test_a_limited_run_says_what_it_left_out() -> None:
    observed = results()
    del observed["h3"]
    found = report(observed, targeted=frozenset({"h1", "h2"}))
    assert found["ok"]
    assert not found["complete"]
    assert found["not_in_this_run"] == ["h3"]
    assert pair(found, "h3", "h1")["observed"] == "not observed"
    assert pair(found, "h3", "h1")["as_planned"] is None
    assert (found["summary"]["pairs"], found["summary"]["in_this_run"]) == (6, 4)


def test_an_exception_that_is_not_in_the_plan() -> None:
    observed = results(h2_h1=seen("h2", "h1", exceptions=[PORTS, "10.88.0.0/24 tcp 0 5432"]))
    found = report(observed)
    assert [(p["from"], p["cause"]) for p in found["problems"]] == [("h2", "exception")]
    assert found["problems"][0]["message"].endswith("not in the plan: 10.88.0.0/24 tcp 0 5432")


def test_warnings() -> None:
    strange = {"spi": "0xff", "spis": ["0xff"], "cipher": "aes_gcm256", "encap": None}
    observed = results(h1_h2=seen("h1", "h2", out=strange))
    observed["h1"]["certificate"]["not_after"] = "2026-02-28T00:00:00Z"
    observed["h2"]["service"]["enabled"] = False
    found = report(observed)
    assert found["ok"]
    assert [warning.partition(":")[0] for warning in found["warnings"]] == ["h1 → h2 (data)", "h2", "h1"]


@pytest.mark.parametrize("initiate", [True, False])
def test_an_endpoint_without_an_sa_is_a_warning_if_it_should_have_one(initiate: bool) -> None:
    observed = results()
    observed["h1"]["endpoints"] = [with_gate()]
    observed["h2"]["endpoints"] = [with_gate("the peer does not answer IKE")]
    found = report(observed, planned=plan(endpoints=[endpoint("h1", "h2", "h3", initiate=initiate)]))
    assert found["ok"]
    assert [(e["member"], e["established"], e["cipher"], e["reason"]) for e in found["endpoints"]] == [
        ("h1", True, "aes_gcm256", ""),
        ("h2", False, None, "the peer does not answer IKE"),
        ("h3", None, None, "not observed"),
    ]
    said = "h2: the endpoint gate has no security association: the peer does not answer IKE."
    assert [warning.startswith(said) for warning in found["warnings"]] == [True] * initiate


def test_no_endpoints_where_nothing_is_encrypted() -> None:
    planned = plan(enforcement="clear", endpoints=[endpoint("h1")])
    assert report(results(), planned=planned)["endpoints"] == []


def test_the_certificate_that_a_peer_showed_is_that_of_the_newest_sa() -> None:
    observed = results()
    observed["h1"]["authenticated"] = [
        authenticated("h2", 12, "CN=new"),
        authenticated("h2", 9, "CN=old"),
        authenticated("h3", 7, None),
    ]
    found = report(observed)
    shown = {(p["from"], p["to"]): p["certificate"] for p in found["pairs"] if p["certificate"]}
    assert shown == {("h1", "h2"): "CN=new"}


RENEWED = "OU=gen2, O=underlay.ipsec, CN=h2"


@pytest.mark.parametrize(
    ("shown", "present", "said"),
    [
        (RENEWED, "CN=h2,O=underlay.ipsec,OU=gen2", None),
        (None, RENEWED, None),
        ("CN=h2", None, None),
        ("O=underlay.ipsec, CN=h2", RENEWED, f"h2 showed O=underlay.ipsec, CN=h2, and has {RENEWED} now"),
    ],
    ids=["the same", "not known to the sender", "not known to the receiver", "another"],
)
def test_after_renewal_peers_have_to_show_what_they_have(
    shown: str | None, present: str | None, said: str | None
) -> None:
    observed = results()
    observed["h1"]["authenticated"] = [authenticated("h2", 12, shown)]
    observed["h2"]["certificate"] = {**certificate(), "subject": present} if present else None
    found = report(observed, stage="rotate")["problems"]
    problems = [(p["from"], p["to"], p["network"], p["cause"], p["message"]) for p in found if p["to"]]
    assert [problem[:4] for problem in problems] == [("h1", "h2", "data", "certificate_former")] * bool(said)
    assert all(str(said) in problem[4] for problem in problems)
    assert [p for p in report(observed)["problems"] if p["to"]] == [], "an SA outlives a certificate"


def test_without_certificates_nothing_is_shown() -> None:
    assert report(results(), planned=plan(certificates=None), stage="rotate")["ok"]


def test_networks_are_separate() -> None:
    planned = plan()
    planned["networks"].append(
        {"name": "six", "cidr": "fd88::/64", "family": 6, "clear": [], "clear_members": []}
    )
    for name in ("h1", "h2"):
        planned["members"][name]["addresses"]["six"] = f"fd88::{name[1]}"
    found = report(results(), planned=planned)
    assert [(p["from"], p["to"]) for p in found["pairs"] if p["network"] == "six"] == [
        ("h1", "h2"),
        ("h2", "h1"),
    ]
    assert [p["from"] for p in found["problems"]] == ["h1", "h2"]


@pytest.mark.parametrize(
    ("seen", "said"), [(None, "the rules for it are not there"), (False, "not those that were loaded")]
)
def test_firewall_that_does_not_fail_closed(seen: bool | None, said: str) -> None:
    observed = results()
    observed["h2"]["fail_closed"] = seen
    (problem,) = report(observed)["problems"]
    assert (problem["cause"], problem["from"]) == ("fail_open", "h2")
    assert said in problem["message"]
    assert report(observed, stage="prepare")["ok"]
    assert report(observed, planned=plan(fail_closed=False))["ok"]
