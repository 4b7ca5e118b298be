# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the report says about certificates: the members', those of CAs, and lists of revoked ones."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any

from ansible_collections.underlay.ipsec.plugins.module_utils._nss.names import attributes
from ansible_collections.underlay.ipsec.plugins.module_utils._report.expectation import natural
from ansible_collections.underlay.ipsec.plugins.module_utils._report.remedy import remedy

Data = Mapping[str, Any]

VALID, DUE, EXPIRED = "valid", "due", "expired"
_CA_NICKNAME = "underlay-ca"
# A run issues the next list after half of the time of the one before: this is late.
_CRL_LATE = 0.25
_NAMES = 8


def certificates(plan: Data, results: Mapping[str, Data], now: datetime) -> dict[str, Any] | None:
    """Return the report's ``certificates``; None if the plan has none.

    *results* is what the members observed; *now* is an aware datetime.
    """
    planned = plan["certificates"]
    if planned is None:
        return None
    observed = {name: results[name] for name in natural(results) if "pairs" in results[name]}
    before = timedelta(days=planned["renew_before_days"])
    return {
        "source": planned["source"],
        "members": {
            name: _aged(entry, entry["not_after"], before, now)
            if (entry := answer.get("certificate"))
            else None
            for name, answer in observed.items()
        },
        "authorities": [
            _authority(having, before, now) for having in _shared(observed, "authorities", ("fingerprint",))
        ],
        "crls": [
            {**_listed(next(iter(having.values())), now), "members": list(having)}
            for having in _shared(observed, "crls", ("issuer", "this_update", "next_update"))
        ],
    }


def _shared(observed: Mapping[str, Data], key: str, identity: Sequence[str]) -> list[dict[str, Data]]:
    """Return who has each distinct entry in the lists *key* of members: member → entry."""
    found: dict[tuple[Any, ...], dict[str, Data]] = {}
    for name, answer in observed.items():
        for entry in answer.get(key, ()):
            found.setdefault(tuple(entry[part] for part in identity), {})[name] = entry
    return list(found.values())


def _authority(having: Mapping[str, Data], before: timedelta, now: datetime) -> dict[str, Any]:
    """Return one CA of the report; its nickname need not be the same on all members."""
    entry = {key: value for key, value in next(iter(having.values())).items() if key != "nickname"}
    return {
        **_aged(entry, entry["not_after"], before, now),
        "issuing": any(seen["nickname"] == _CA_NICKNAME for seen in having.values()),
        "members": list(having),
    }


def _aged(entry: Data, not_after: str, before: timedelta, now: datetime) -> dict[str, Any]:
    """Return *entry* with how long it is valid; it is due *before* its end."""
    left = parse_time(not_after) - now
    state = EXPIRED if left <= timedelta(0) else DUE if left < before else VALID
    return {**entry, "days_left": left.days, "state": state}


def _listed(crl: Data, now: datetime) -> dict[str, Any]:
    if crl["next_update"] is None:
        return {**crl, "days_left": None, "state": VALID}
    life = parse_time(crl["next_update"]) - parse_time(crl["this_update"])
    return _aged(crl, crl["next_update"], life * _CRL_LATE, now)


def parse_time(text: str) -> datetime:
    """Return the time (UTC) that *text* is: ``2026-01-31T12:00:00Z``."""
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc)


def certificate_problems(section: Data | None) -> Iterator[dict[str, Any]]:
    """Yield a problem for each member whose certificate is missing, expired or not trusted by others.

    *section* is the report's.
    """
    if section is None:
        return
    for name, entry in section["members"].items():
        if entry is None:
            cause, message = "certificate_missing", "it has no certificate in libreswan's NSS database"
        elif entry["state"] == EXPIRED:
            cause, message = "certificate_expired", f"its certificate expired on {_day(entry['not_after'])}"
        elif refusing := _refusing(name, entry["issuer"], section):
            cause = "certificate_untrusted"
            message = (
                f"its certificate is of {entry['issuer']}, which {_some(refusing)} "
                f"{'does' if len(refusing) == 1 else 'do'} not trust: their next negotiation will fail"
            )
        else:
            continue
        yield {
            "cause": cause,
            "from": name,
            "to": None,
            "network": None,
            "message": message,
            "remedy": remedy(cause),
        }


def _refusing(member: str, issuer: str, section: Data) -> list[str]:
    """Return who lacks the CA that issued the certificate of *member*. SAs that are there live on."""
    trusting = {
        name
        for authority in section["authorities"]
        if attributes(authority["subject"]) == attributes(issuer)
        for name in authority["members"]
    }
    return [
        name
        for name, entry in section["members"].items()
        if entry and name not in trusting and name != member
    ]


def certificate_warnings(section: Data | None, *, strict: bool) -> Iterator[str]:
    """Yield what is going to expire; *strict*: whether members insist on lists of revoked certificates."""
    if section is None:
        return
    due: dict[str, list[str]] = {}
    for name, entry in section["members"].items():
        if entry and entry["state"] == DUE:
            due.setdefault(f"{_day(entry['not_after'])}, {_left(entry)}", []).append(name)
    for when, names in sorted(due.items()):
        yield f"{_some(names)}: the certificate expires on {when}: run site.yml" + (
            ", with a new bundle" if section["source"] == "pkcs12" else ", which renews it"
        )
    for entry in section["authorities"]:
        if entry["state"] == EXPIRED:
            yield f"The CA {entry['subject']} expired on {_day(entry['not_after'])}: change to a new one"
        elif entry["state"] == DUE:
            yield f"The CA {entry['subject']} expires on {_day(entry['not_after'])}, {_left(entry)}: change to a new one"
    for crl in section["crls"]:
        what = f"{_some(crl['members'])}: the list of revoked certificates of {crl['issuer']}"
        if crl["state"] == EXPIRED:
            refused = ", and no certificate of that CA is accepted without a valid one" if strict else ""
            yield f"{what} was valid until {_day(crl['next_update'])}{refused}: run site.yml, which renews it"
        elif crl["state"] == DUE:
            yield f"{what} is valid until {_day(crl['next_update'])}, {_left(crl)}: run site.yml, which renews it"


def certificate_lines(report: Data) -> list[str]:
    """Return for a terminal when what expires; nothing without certificates."""
    section = report["certificates"]
    if not section:
        return []
    present = {name: entry for name, entry in section["members"].items() if entry}
    lines = [f"certificates: {_count(section['members'].values())}"]
    if present:
        first = min(present, key=lambda name: str(present[name]["not_after"]))
        entry = present[first]
        lines[0] += (
            f"; the first to expire is that of {first}, on {_day(entry['not_after'])} ({_left(entry)})"
        )
    for entry in section["authorities"]:
        lines.append(f"  CA {entry['subject']}: until {_day(entry['not_after'])} ({_left(entry)})")
    for crl in section["crls"]:
        if crl["next_update"]:
            lines.append(
                f"  list of revoked certificates of {crl['issuer']}: until {_day(crl['next_update'])} ({_left(crl)}), "
                f"{crl['revoked']} revoked"
            )
    return lines


def _count(entries: Iterable[Data | None]) -> str:
    states = [entry["state"] if entry else "missing" for entry in entries]
    counted = {state: states.count(state) for state in (DUE, EXPIRED, "missing")}
    bad = "".join(f", {count} {state}" for state, count in counted.items() if count)
    return f"{states.count(VALID)} of {len(states)} valid{bad}"


def _day(time: str) -> str:
    return time[:10]


def _left(entry: Data) -> str:
    days = entry["days_left"]
    if days < 0:
        return "expired"
    return "today" if days == 0 else "in 1 day" if days == 1 else f"in {days} days"


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMES} more" if len(names) > _NAMES else ""
    return ", ".join(names[:_NAMES]) + more


def shown_certificates(results: Mapping[str, Data]) -> dict[tuple[str, str, str], str | None]:
    """Return the subject of the certificate that a peer showed: observer, network, peer → subject.

    Of several IKE SAs with one peer it is that of the newest; None if the observer does not know it any more.
    """
    return {
        (name, entry["network"], entry["peer"]): entry["certificate"]
        for name, answer in results.items()
        for entry in sorted(answer.get("authenticated", ()), key=lambda entry: int(entry["serial"]))
    }


def former_certificates(pairs: Iterable[Data], section: Data | None) -> Iterator[dict[str, Any]]:
    """Yield a problem for each of *pairs* whose receiver showed another certificate than it has now.

    *section* is the report's. What the sender or the receiver does not know is no problem.
    """
    members = section["members"] if section else {}
    for pair in pairs:
        shown, present = pair["certificate"], members.get(pair["to"])
        if shown is None or present is None or attributes(shown) == attributes(present["subject"]):
            continue
        yield {
            "cause": "certificate_former",
            "from": pair["from"],
            "to": pair["to"],
            "network": pair["network"],
            "message": "authenticated by a certificate that the receiver has not any more: "
            f"{pair['to']} showed {shown}, and has {present['subject']} now",
            "remedy": remedy("certificate_former"),
        }
