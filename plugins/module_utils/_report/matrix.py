# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report as text for a terminal: the matrix, and the list of what is wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Data = Mapping[str, Any]

LETTERS = {"encrypted": "E", "clear": "C", "blocked": "B", "unreachable": "U", "not observed": "?"}
_WIDTH = 110
_ROWS = 40
_NAMES = 20


def by_row(report: Data, network: str) -> dict[str, dict[str, Data]]:
    """Return the pairs of *network* as {from: {to: pair}}, in the report's order."""
    rows: dict[str, dict[str, Data]] = {}
    for pair in report["pairs"]:
        if pair["network"] == network:
            rows.setdefault(pair["from"], {})[pair["to"]] = pair
    return rows


def columns_of(rows: Mapping[str, Mapping[str, Data]]) -> list[str]:
    """Return the receivers of a matrix: first those that send, then those that do not, which are virtual addresses."""
    return list(dict.fromkeys([*rows, *(to for row in rows.values() for to in row)]))


def matrix_lines(report: Data) -> list[str]:
    """Return one text matrix per network: rows are senders, columns receivers, ``!`` is not as planned."""
    lines: list[str] = []
    for network in report["networks"]:
        rows = by_row(report, network["name"])
        pairs = [pair for row in rows.values() for pair in row.values()]
        lines.append(f"network {network['name']} ({network['cidr']}): {as_planned(pairs)}{_ciphers(pairs)}")
        if pairs:
            lines.extend(_words(rows) or _letters(rows))
    return lines


def endpoint_lines(report: Data) -> list[str]:
    """Return how many connections with hosts outside the cluster are up; nothing without endpoints."""
    counted = Counter(endpoint["established"] for endpoint in report["endpoints"])
    if not counted:
        return []
    unknown = f", {counted[None]} not observed" if counted[None] else ""
    return [f"endpoints: {counted[True]} of {counted[True] + counted[False]} encrypted{unknown}"]


def as_planned(pairs: Iterable[Data]) -> str:
    """Return how many of *pairs* are as planned, in words."""
    counted = Counter(pair["as_planned"] for pair in pairs)
    outside = f", {counted[None]} not in this run" if counted[None] else ""
    return f"{counted[True]} of {counted[True] + counted[False]} pairs as planned{outside}"


def _ciphers(pairs: Sequence[Data]) -> str:
    ciphers = sorted({str(pair["cipher"]) for pair in pairs if pair["observed"] == "encrypted"})
    return f"; encrypted with {', '.join(ciphers)}" if ciphers else ""


def _words(rows: Mapping[str, Mapping[str, Data]]) -> list[str]:
    """Return the matrix in words, or nothing if it is too wide for that."""
    columns = columns_of(rows)
    several = (
        len({p["cipher"] for row in rows.values() for p in row.values() if p["observed"] == "encrypted"}) > 1
    )

    def cell(pair: Data | None) -> str:
        if pair is None:
            return "-"
        cipher = f" {pair['cipher']}" if several and pair["observed"] == "encrypted" else ""
        return f"{pair['observed']}{cipher}{' !' if pair['as_planned'] is False else ''}"

    table = [["from \\ to", *columns]]
    table += [[name, *(cell(row.get(to)) for to in columns)] for name, row in rows.items()]
    widths = [max(len(row[column]) for row in table) for column in range(len(columns) + 1)]
    if sum(widths) + 2 * len(widths) > _WIDTH:
        return []
    return ["  " + "  ".join(text.ljust(width) for text, width in zip(row, widths)).rstrip() for row in table]


def _letters(rows: Mapping[str, Mapping[str, Data]]) -> list[str]:
    """Return the matrix in letters; of a large one, only the rows with a deviation.

    Columns are in the order of the rows' numbers; their last digits stand above them.
    """
    names, columns = list(rows), columns_of(rows)
    shown = names
    if len(names) > _ROWS:
        shown = [name for name in names if any(pair["as_planned"] is False for pair in rows[name].values())]
    width = max(len(name) for name in names)
    lines = [
        "  "
        + ", ".join(f"{letter} {word}" for word, letter in LETTERS.items())
        + "; lower case: not as planned"
    ]
    lines.append(
        f"  {'':>4} {'from'.ljust(width)}  {''.join(str((number + 1) % 10) for number in range(len(columns)))}"
    )
    for name in shown[:_ROWS]:
        cells = "".join(_letter(rows[name].get(to)) for to in columns)
        lines.append(f"  {names.index(name) + 1:>4} {name.ljust(width)}  {cells}")
    if len(shown) < len(names) or len(shown) > _ROWS:
        left = len(names) - min(len(shown), _ROWS)
        lines.append(
            f"  {left} more rows" + (" are wholly as planned" if len(shown) <= _ROWS else ": see the report")
        )
    return lines


def _letter(pair: Data | None) -> str:
    if pair is None:
        return "-"
    letter = LETTERS[pair["observed"]]
    return letter.lower() if pair["as_planned"] is False else letter


def problem_lines(report: Data) -> list[str]:
    """Return every problem with what to do about it; pairs with the same problem share an item."""
    lines: list[str] = []
    for number, group in enumerate(grouped(report["problems"]), 1):
        lines.append(f"{number}. {about(group, _NAMES)}: {group[0]['message']}")
        lines.append(f"   {group[0]['remedy']}.")
    return lines


def grouped(problems: Sequence[Data]) -> list[list[Data]]:
    """Return the problems, those of like kind that one member is part of together; also those of members as a whole."""
    sharing: Counter[tuple[Any, ...]] = Counter()
    for problem in problems:
        for end in ("from", "to"):
            sharing[(*_kind(problem), end, problem[end])] += 1
    groups: dict[tuple[Any, ...], list[Data]] = {}
    for problem in problems:
        kind = _kind(problem)
        if problem["to"] is None:
            groups.setdefault(kind, []).append(problem)
            continue
        end = max((sharing[(*kind, end, problem[end])], end) for end in ("from", "to"))[1]
        groups.setdefault((*kind, end, problem[end]), []).append(problem)
    return list(groups.values())


def _kind(problem: Data) -> tuple[Any, ...]:
    # A pair's message goes into details behind the colon: addresses, SPIs, counts.
    outcome = problem["message"].partition(":")[0] if problem["to"] else problem["message"]
    return problem["network"], problem["cause"], outcome


def about(group: Sequence[Data], limit: int) -> str:
    """Return which pairs, or which member, a group of problems is about; at most *limit* names on each side."""
    senders = _some([problem["from"] for problem in group], limit)
    if group[0]["to"] is None:
        return senders
    return f"{senders} → {_some([problem['to'] for problem in group], limit)} ({group[0]['network']})"


def _some(names: Sequence[str], limit: int) -> str:
    distinct = list(dict.fromkeys(names))
    more = f" and {len(distinct) - limit} more" if len(distinct) > limit else ""
    return ", ".join(distinct[:limit]) + more
