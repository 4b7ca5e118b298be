# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan on one side, what the members observed on the other: the report as data.

The keys of `compare()`'s result are those of report.json, which docs/report.md documents.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from ansible_collections.underlay.ipsec.plugins.module_utils._report.certificates import (
    certificate_problems,
    certificate_warnings,
    certificates,
    former_certificates,
    parse_time,
    shown_certificates,
)
from ansible_collections.underlay.ipsec.plugins.module_utils._report.expectation import (
    clear_members,
    members_of,
    natural,
)
from ansible_collections.underlay.ipsec.plugins.module_utils._report.mtu import mtu_warnings
from ansible_collections.underlay.ipsec.plugins.module_utils._report.remedy import remedy
from ansible_collections.underlay.ipsec.plugins.module_utils._report.vips import vip_problems, vips, vips_for

FORMAT_VERSION = 1
NOT_OBSERVED = "not observed"
BEFORE_ENFORCING = "prepare"
AFTER_RENEWAL = "rotate"
"""The stage by which SAs are to be authenticated by what is present; otherwise they outlive a certificate."""
STATUSES = ("encrypted", "clear", "blocked", "unreachable", NOT_OBSERVED)

Data = Mapping[str, Any]


@dataclass(frozen=True)
class Scope:
    """Which members could be observed at all."""

    results: Mapping[str, Data]
    """Each member's result of ``underlay.ipsec.probe``, by inventory name; also those that failed."""
    targeted: frozenset[str]
    """The members that this run was for; the others were excluded by a limit."""


def compare(
    plan: Data, scope: Scope, exceptions: Mapping[str, Iterable[str]], *, stage: str, now: datetime
) -> dict[str, Any]:
    """Return the report: what is planned, what is observed, and everything in which they differ.

    *exceptions* maps each observed member to the ``clear`` entries of its own slice.
    *now* is an aware datetime.
    """
    observed = {
        (name, pair["network"], pair["peer"]): pair
        for name, result in scope.results.items()
        for pair in result.get("pairs", ())
    }
    pairs = list(_pairs(plan, scope, observed))
    problems = [problem for pair in pairs for problem in _pair_problem(pair)]
    problems += _member_problems(plan, scope)
    problems += _unplanned_exceptions(scope, exceptions)
    if stage != BEFORE_ENFORCING:
        problems += _open_members(plan, scope, pairs)
    floating = vips(plan, scope.results)
    problems += vip_problems(floating)
    section = certificates(plan, scope.results, now)
    problems += certificate_problems(section)
    if stage == AFTER_RENEWAL:
        problems += former_certificates(pairs, section)
    strict = section is not None and plan["certificates"]["crl_strict"]
    endpoints = list(_endpoints(plan, scope))
    in_scope = [pair for pair in pairs if pair["from"] in scope.targeted]
    counted = Counter(pair["observed"] for pair in pairs)
    outside = natural(set(plan["members"]) - scope.targeted)
    return {
        "version": FORMAT_VERSION,
        "generated": now.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "stage": stage,
        "plan_digest": plan["digest"],
        "group": plan["group"],
        "enforcement": plan["enforcement"],
        "ok": not problems,
        "complete": not outside,
        "not_in_this_run": outside,
        "summary": {
            "pairs": len(pairs),
            "in_this_run": len(in_scope),
            "as_planned": sum(1 for pair in pairs if pair["as_planned"]),
            **{status.replace(" ", "_"): counted[status] for status in STATUSES},
        },
        "networks": [
            {key: network[key] for key in ("name", "cidr", "family")} for network in plan["networks"]
        ],
        "members": {name: _member(plan, scope, name, now) for name in natural(plan["members"])},
        "pairs": pairs,
        "endpoints": endpoints,
        "vips": floating,
        "certificates": section,
        "problems": problems,
        "warnings": [
            *_warnings(scope, pairs, observed),
            *certificate_warnings(section, strict=strict),
            *_silent(endpoints),
            *mtu_warnings(plan, scope.results),
        ],
    }


def _pairs(
    plan: Data, scope: Scope, observed: Mapping[tuple[str, str, str], Data]
) -> Iterator[dict[str, Any]]:
    shown = shown_certificates(scope.results)
    for network in plan["networks"]:
        names = members_of(plan, network["name"])
        clear = clear_members(plan, network)
        for source in names:
            for destination in names:
                if source != destination:
                    expected = "clear" if source in clear or destination in clear else "encrypted"
                    place = (source, network["name"], destination)
                    pair = _pair(network["name"], source, destination, expected, observed.get(place), scope)
                    yield {**pair, "certificate": shown.get(place)}
            for vip in vips_for(plan, scope.results, network["name"], source):
                expected = "clear" if source in clear else "encrypted"
                place = (source, network["name"], vip)
                pair = _pair(network["name"], source, vip, expected, observed.get(place), scope)
                yield {**pair, "certificate": shown.get(place)}


def _pair(
    network: str, source: str, destination: str, expected: str, seen: Data | None, scope: Scope
) -> dict[str, Any]:
    pair: dict[str, Any] = {"from": source, "to": destination, "network": network, "expected": expected}
    if seen is None:
        reason, cause = _why_not_observed(source, scope)
        # Nobody knows, which is a problem only where somebody should.
        known = None if cause == "outside" else False
        empty = {"cipher": None, "encapsulation": None, "spi_out": None, "spi_in": None}
        return {
            **pair,
            "observed": NOT_OBSERVED,
            "as_planned": known,
            **empty,
            "cause": cause,
            "reason": reason,
        }
    out, inbound = seen["out"] or {}, seen["in"] or {}
    # Where clear text is planned, what matters is that it arrives.
    lost = expected == "clear" and seen["status"] == "clear" and not seen["replies"]
    status = "unreachable" if lost else seen["status"]
    return {
        **pair,
        "observed": status,
        "as_planned": status == expected,
        "cipher": out.get("cipher"),
        "encapsulation": out.get("encap"),
        "spi_out": out.get("spi"),
        "spi_in": inbound.get("spi"),
        "cause": "unplanned_sa" if expected == "clear" and status == "encrypted" else seen["cause"],
        "reason": seen["reason"],
    }


def _why_not_observed(member: str, scope: Scope) -> tuple[str, str]:
    """Return the reason and the cause."""
    if member not in scope.targeted:
        return f"{member} is not part of this run", "outside"
    result = scope.results.get(member, {})
    if "pairs" in result:
        return f"the probe on {member} did not look at this peer", "unobserved"
    if result.get("unreachable"):
        return f"Ansible cannot reach {member}: {_first_line(result)}", "unobserved"
    if result.get("msg"):
        return f"the probe on {member} gave no result: {_first_line(result)}", "unobserved"
    return f"{member} did not get as far as the probe", "unobserved"


def _first_line(result: Data) -> str:
    return (str(result.get("msg", "")).strip().splitlines() or [""])[0]


def _pair_problem(pair: Data) -> Iterator[dict[str, Any]]:
    if pair["as_planned"] is not False or pair["cause"] == "unobserved":
        return
    yield {
        "cause": pair["cause"],
        "from": pair["from"],
        "to": pair["to"],
        "network": pair["network"],
        "message": f"{pair['observed']} instead of {pair['expected']}"
        + (f": {pair['reason']}" if pair["reason"] else ""),
        "remedy": remedy(pair["cause"]),
    }


def _member_problems(plan: Data, scope: Scope) -> list[dict[str, Any]]:
    """Return one problem, not one per peer, for each member that could not be observed."""
    problems = []
    for name in natural(scope.targeted & plan["members"].keys()):
        result = scope.results.get(name, {})
        planned = {
            (network["name"], peer)
            for network in plan["networks"]
            if network["name"] in plan["members"][name]["addresses"]
            for peer in (
                *members_of(plan, network["name"]),
                *vips_for(plan, scope.results, network["name"], name),
            )
            if peer != name
        }
        missing = planned - {(pair["network"], pair["peer"]) for pair in result.get("pairs", ())}
        if missing:
            reason, cause = _why_not_observed(name, scope)
            problems.append(
                {
                    "cause": cause,
                    "from": name,
                    "to": None,
                    "network": None,
                    "message": f"{NOT_OBSERVED}: {reason} ({len(missing)} of {len(planned)} pairs are unknown)",
                    "remedy": remedy(cause),
                }
            )
    return problems


def _unplanned_exceptions(scope: Scope, exceptions: Mapping[str, Iterable[str]]) -> list[dict[str, Any]]:
    """Return a problem for each hole in a member's policies that its plan does not have."""
    problems = []
    for name in natural(scope.results):
        planned = {" ".join(entry.split()) for entry in exceptions.get(name, ())}
        open_ = sorted({e for pair in scope.results[name].get("pairs", ()) for e in pair["exceptions"]})
        for entry in open_:
            if entry not in planned:
                problems.append(
                    {
                        "cause": "exception",
                        "from": name,
                        "to": None,
                        "network": None,
                        "message": f"the kernel lets traffic through in clear text that is not in the plan: {entry}",
                        "remedy": remedy("exception"),
                    }
                )
    return problems


def _open_members(plan: Data, scope: Scope, pairs: Iterable[Data]) -> list[dict[str, Any]]:
    """Return a problem for each member whose firewall would let clear text through if IPsec did not hold it back."""
    if not plan["fail_closed"]:
        return []
    wanted = {pair["from"] for pair in pairs if pair["expected"] == "encrypted"}
    return [
        {
            "cause": "fail_open",
            "from": name,
            "to": None,
            "network": None,
            "message": "its firewall does not fail closed: "
            + (
                "the rules for it are not there"
                if seen is None
                else "its rules are not those that were loaded"
            ),
            "remedy": remedy("fail_open"),
        }
        for name in natural(wanted & scope.results.keys())
        if "pairs" in scope.results[name] and (seen := scope.results[name]["fail_closed"]) is not True
    ]


def _member(plan: Data, scope: Scope, name: str, now: datetime) -> dict[str, Any]:
    result = scope.results.get(name, {})
    certificate = result.get("certificate")
    return {
        "fqdn": plan["members"][name]["fqdn"],
        "addresses": plan["members"][name]["addresses"],
        "in_this_run": name in scope.targeted,
        "observed": "pairs" in result,
        "libreswan": result.get("libreswan"),
        "service": result.get("service"),
        "certificate": {
            **{key: certificate[key] for key in ("nickname", "not_after", "fingerprint")},
            "days_left": (parse_time(certificate["not_after"]) - now).days,
        }
        if certificate
        else None,
    }


def _warnings(
    scope: Scope, pairs: Sequence[Data], observed: Mapping[tuple[str, str, str], Data]
) -> Iterator[str]:
    for pair in pairs:
        yield from _unmatched(pair, observed)
    for name in natural(scope.results):
        service = scope.results[name].get("service")
        if service and not service["enabled"]:
            yield f"{name}: the ipsec service is not enabled, so it does not start at the next boot"


def _endpoints(plan: Data, scope: Scope) -> Iterator[dict[str, Any]]:
    """Yield each end that a member has with a host outside the cluster; none where nothing is encrypted."""
    observed = {
        (member, entry["name"]): entry
        for member, result in scope.results.items()
        for entry in result.get("endpoints", ())
    }
    for endpoint in plan["endpoints"] if plan["enforcement"] != "clear" else ():
        for member in endpoint["members"]:
            seen = observed.get((member, endpoint["name"]), {})
            yield {
                "member": member,
                **{key: endpoint[key] for key in ("name", "network", "address", "initiate")},
                "established": seen.get("established"),
                "cipher": seen.get("cipher"),
                "encapsulation": seen.get("encap"),
                "reason": seen.get("reason", NOT_OBSERVED),
            }


def _silent(endpoints: Iterable[Data]) -> Iterator[str]:
    """Yield a warning for each endpoint that a member cannot reach: the other end is not ours to judge."""
    for endpoint in endpoints:
        if endpoint["established"] is False and endpoint["initiate"]:
            yield (
                f"{endpoint['member']}: the endpoint {endpoint['name']} has no security association: {endpoint['reason']}."
                " Until it has one, traffic with it is dropped"
            )


def _unmatched(pair: Data, observed: Mapping[tuple[str, str, str], Data]) -> Iterator[str]:
    """Yield a warning if the SA that one end sends through is not one that the other end receives through.

    The ends are looked at one after the other, so an SA may have been replaced in between: no more than a warning.
    """
    reverse = observed.get((pair["to"], pair["network"], pair["from"]))
    if pair["observed"] == "encrypted" and reverse is not None:
        known = (reverse["in"] or {}).get("spis", ())
        if pair["spi_out"] not in known:
            yield (
                f"{pair['from']} → {pair['to']} ({pair['network']}): {pair['from']} sends through {pair['spi_out']},"
                f" which {pair['to']} does not know: replaced meanwhile, or one end is wrong"
            )
