# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the report says about certificates."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from ansible_collections.underlay.ipsec.plugins.module_utils._report.certificates import (
    certificate_lines,
    certificate_problems,
    certificate_warnings,
    certificates,
)
from ansible_collections.underlay.ipsec.plugins.module_utils._report.remedy import causes

from .plans import ca, certificate, crl, plan, result

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


def section(source: str = "ca", /, **answers: dict[str, Any]) -> dict[str, Any]:
    """Return the section for members h1, h2 and so on, with what they observed."""
    planned = {"source": source, "renew_before_days": 183, "crl_strict": False}
    found = certificates(plan(certificates=planned), answers, NOW)
    assert found
    return found


def warnings(found: dict[str, Any], *, strict: bool = False) -> list[str]:
    return list(certificate_warnings(found, strict=strict))


@pytest.mark.parametrize(
    ("not_after", "days_left", "state"),
    [
        ("2031-01-31T12:00:00Z", 1826, "valid"),
        ("2026-08-02T12:00:00Z", 183, "valid"),
        ("2026-08-02T11:59:59Z", 182, "due"),
        ("2026-01-31T12:00:01Z", 0, "due"),
        ("2026-01-31T12:00:00Z", 0, "expired"),
        ("2026-01-30T12:00:00Z", -1, "expired"),
    ],
)
def test_states(not_after: str, days_left: int, state: str) -> None:
    found = section(h1=result(certificate=certificate(not_after=not_after)))
    assert found["members"]["h1"] == {
        **certificate(not_after=not_after),
        "days_left": days_left,
        "state": state,
    }
    assert [problem["cause"] for problem in certificate_problems(found)] == (
        ["certificate_expired"] if state == "expired" else []
    )
    assert len(warnings(found)) == (state == "due")


def test_problems() -> None:
    found = section(
        h1=result(certificate=None),
        h2=result(certificate=certificate(not_after="2026-01-30T00:00:00Z")),
        h3={"unreachable": True, "msg": "timed out"},
    )
    problems = list(certificate_problems(found))
    assert [(problem["from"], problem["message"]) for problem in problems] == [
        ("h1", "it has no certificate in libreswan's NSS database"),
        ("h2", "its certificate expired on 2026-01-30"),
    ]
    assert {problem["cause"] for problem in problems} <= causes()


def test_a_certificate_that_others_do_not_trust() -> None:
    """The SAs that are there live on. What a member without a certificate trusts is of no interest."""
    old, new = ca(), ca(subject="CN=new, O=underlay.ipsec", fingerprint="new")
    found = section(
        h1=result(certificate=certificate(issuer="O=underlay.ipsec, CN=new"), authorities=[new]),
        h2=result(certificate=certificate(), authorities=[old, new]),
        h3=result(certificate=certificate(), authorities=[old]),
        h4=result(certificate=None, authorities=[]),
    )
    problems = {problem["from"]: problem for problem in certificate_problems(found)}
    assert problems.pop("h4")["cause"] == "certificate_missing"
    assert [*problems] == ["h1", "h2", "h3"]
    assert problems["h1"]["message"] == (
        "its certificate is of O=underlay.ipsec, CN=new, which h3 does not trust: their next negotiation will fail"
    )
    assert "which h1 does not trust" in problems["h2"]["message"]
    assert {problem["cause"] for problem in problems.values()} == {"certificate_untrusted"} <= causes()


@pytest.mark.parametrize(
    ("source", "what"),
    [("ca", "which renews it"), ("external", "which renews it"), ("pkcs12", "with a new bundle")],
)
def test_members_that_are_due_share_a_warning(source: str, what: str) -> None:
    due = {
        f"h{number}": result(certificate=certificate(not_after="2026-02-05T00:00:00Z"))
        for number in range(1, 11)
    }
    assert warnings(section(source, **due)) == [
        f"h1, h2, h3, h4, h5, h6, h7, h8 and 2 more: the certificate expires on 2026-02-05, in 4 days: run site.yml, {what}"
    ]


def test_authorities_are_listed_once() -> None:
    new = ca(fingerprint="cb", subject="CN=new", nickname="underlay-ca+cb")
    found = section(h1=result(authorities=[ca(), new]), h2=result(authorities=[ca()]))
    assert [(entry["subject"], entry["issuing"], entry["members"]) for entry in found["authorities"]] == [
        ("O=underlay.ipsec, CN=ca", True, ["h1", "h2"]),
        ("CN=new", False, ["h1"]),
    ]
    assert "nickname" not in found["authorities"][0]


@pytest.mark.parametrize(
    ("not_after", "said"),
    [
        ("2036-01-31T00:00:00Z", []),
        (
            "2026-02-02T00:00:00Z",
            ["The CA O=underlay.ipsec, CN=ca expires on 2026-02-02, in 1 day: change to a new one"],
        ),
        (
            "2026-01-01T00:00:00Z",
            ["The CA O=underlay.ipsec, CN=ca expired on 2026-01-01: change to a new one"],
        ),
    ],
)
def test_authorities_that_expire(not_after: str, said: list[str]) -> None:
    assert warnings(section(h1=result(authorities=[ca(not_after=not_after)]))) == said


LIST = "h1, h2: the list of revoked certificates of O=underlay.ipsec, CN=ca"


@pytest.mark.parametrize(
    ("changes", "strict", "said"),
    [
        ({}, False, []),
        ({"next_update": None}, True, []),
        (
            {"this_update": "2025-11-03T12:00:00Z", "next_update": "2026-02-01T12:00:00Z"},
            False,
            [f"{LIST} is valid until 2026-02-01, in 1 day: run site.yml, which renews it"],
        ),
        (
            {"this_update": "2025-11-01T12:00:00Z", "next_update": "2026-01-30T12:00:00Z"},
            False,
            [f"{LIST} was valid until 2026-01-30: run site.yml, which renews it"],
        ),
        (
            {"this_update": "2025-11-01T12:00:00Z", "next_update": "2026-01-30T12:00:00Z"},
            True,
            [
                f"{LIST} was valid until 2026-01-30, and no certificate of that CA is accepted without a valid one: "
                "run site.yml, which renews it"
            ],
        ),
    ],
)
def test_lists_of_revoked_certificates(changes: dict[str, Any], strict: bool, said: list[str]) -> None:
    found = section(h1=result(crls=[crl(**changes)]), h2=result(crls=[crl(**changes)]))
    assert len(found["crls"]) == 1
    assert warnings(found, strict=strict) == said


def test_text() -> None:
    found = section(
        h1=result(authorities=[ca()], crls=[crl(), crl(issuer="CN=endless", next_update=None)]),
        h2=result(certificate=certificate(not_after="2026-02-05T00:00:00Z")),
        h3=result(certificate=None),
    )
    assert certificate_lines({"certificates": found}) == [
        "certificates: 1 of 3 valid, 1 due, 1 missing; the first to expire is that of h2, on 2026-02-05 (in 4 days)",
        "  CA O=underlay.ipsec, CN=ca: until 2036-01-31 (in 3651 days)",
        "  list of revoked certificates of O=underlay.ipsec, CN=ca: until 2026-04-01 (in 59 days), 1 revoked",
    ]


def test_without_certificates() -> None:
    assert certificates(plan(certificates=None), {"h1": result()}, NOW) is None
    assert list(certificate_problems(None)) == []
    assert list(certificate_warnings(None, strict=True)) == []
    assert certificate_lines({"certificates": None}) == []


def test_what_was_not_asked_is_not_missing() -> None:
    assert section(h1={"skipped": True})["members"] == {}
