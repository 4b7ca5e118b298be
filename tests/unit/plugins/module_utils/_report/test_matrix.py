# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report as text."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from ansible_collections.underlay.ipsec.plugins.module_utils._report.compare import Scope, compare
from ansible_collections.underlay.ipsec.plugins.module_utils._report.matrix import (
    endpoint_lines,
    matrix_lines,
    problem_lines,
)

from .plans import PORTS, clear, endpoint, plan, results, seen, with_gate

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


def report(names: list[str], left_out: int = 0, **replaced: dict[str, Any]) -> dict[str, Any]:
    observed = results(names, **replaced)
    targeted = names[: len(names) - left_out]
    scope = Scope({name: observed[name] for name in targeted}, frozenset(targeted))
    return compare(plan(names), scope, {key: [PORTS] for key in targeted}, stage="verify", now=NOW)


def test_words() -> None:
    assert matrix_lines(report(["h1", "h2", "h3"], h1_h2=clear("h1", "h2"))) == [
        "network data (10.88.0.0/24): 5 of 6 pairs as planned; encrypted with aes_gcm256",
        "  from \\ to  h1         h2         h3",
        "  h1         -          clear !    encrypted",
        "  h2         encrypted  -          encrypted",
        "  h3         encrypted  encrypted  -",
    ]


def test_several_ciphers_are_told_in_the_cells() -> None:
    other = {"spi": "0x1", "spis": ["0x1"], "cipher": "aes256-sha2_512", "encap": None}
    lines = matrix_lines(report(["h1", "h2"], h1_h2=seen("h1", "h2", out=other)))
    assert "encrypted aes256-sha2_512" in lines[2]
    assert "encrypted aes_gcm256" in lines[3]


def test_a_limited_run() -> None:
    lines = matrix_lines(report(["h1", "h2", "h3"], left_out=1))
    assert lines[0].startswith("network data (10.88.0.0/24): 4 of 4 pairs as planned, 2 not in this run")
    assert lines[4] == "  h3         not observed  not observed  -"


def test_letters_and_natural_order() -> None:
    names = [f"node{number}" for number in range(1, 13)]
    lines = matrix_lines(report(names, node10_node2=clear("node10", "node2")))
    assert lines[2] == "       from    123456789012"
    assert lines[3] == "     1 node1   -EEEEEEEEEEE"
    assert lines[12] == "    10 node10  EcEEEEEEE-EE"
    assert len(lines) == 15


def test_of_a_large_cluster_only_rows_with_deviations() -> None:
    names = [f"n{number}" for number in range(50)]
    lines = matrix_lines(report(names, n7_n9=clear("n7", "n9")))
    assert [line.split()[1] for line in lines[3:-1]] == ["n7"]
    assert lines[-1] == "  49 more rows are wholly as planned"


def test_problems_are_grouped_around_the_member_they_share() -> None:
    down = {"status": "blocked", "cause": "no_response", "out": None, "in": None}
    lines = problem_lines(
        report(
            ["h1", "h2", "h3"],
            h1_h3=seen("h1", "h3", **down, reason="nothing left: to 10.88.0.3"),
            h2_h3=seen("h2", "h3", **down, reason="nothing left: to 10.88.0.3"),
            h3_h1=clear("h3", "h1", cause="service"),
            h3_h2=clear("h3", "h2", cause="service"),
        )
    )
    assert lines[::2] == [
        "1. h1, h2 → h3 (data): blocked instead of encrypted: nothing left: to 10.88.0.3",
        "2. h3 → h1, h2 (data): clear instead of encrypted: 3 of 3 probes left in clear text",
    ]
    assert all(line.startswith("   ") for line in lines[1::2])


@pytest.mark.parametrize(
    ("reasons", "line"),
    [
        ([], []),
        ([""], ["endpoints: 1 of 1 encrypted"]),
        (["", "no answer"], ["endpoints: 1 of 2 encrypted"]),
        (["no answer", None], ["endpoints: 0 of 1 encrypted, 1 not observed"]),
    ],
)
def test_endpoints(reasons: list[str | None], line: list[str]) -> None:
    names = [f"h{number}" for number in range(1, len(reasons) + 1)]
    observed = results(names)
    for name, reason in zip(names, reasons, strict=True):
        if reason is not None:
            observed[name]["endpoints"] = [with_gate(reason)]
    planned = plan(names, endpoints=[endpoint(*names)])
    scope = Scope(observed, frozenset(names))
    assert endpoint_lines(compare(planned, scope, {}, stage="verify", now=NOW)) == line


def test_no_problems() -> None:
    assert problem_lines(report(["h1", "h2"])) == []


def test_problems_of_members_as_a_whole_are_one_item() -> None:
    names = ["h1", "h2", "h3"]
    observed = results(names)
    for name in ("h1", "h3"):
        observed[name]["certificate"] = None
    found = compare(plan(names), Scope(observed, frozenset(names)), {}, stage="verify", now=NOW)
    lines = [line for line in problem_lines(found) if "certificate" in line]
    assert lines == ["2. h1, h3: it has no certificate in libreswan's NSS database"]
