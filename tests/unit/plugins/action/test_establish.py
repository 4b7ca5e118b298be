# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The action establish: what it says while it waits, and what it makes of several answers."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from ansible.plugins.action import ActionBase
from ansible_collections.underlay.ipsec.plugins.action import establish


def missing(*numbers: int, reason: str = "") -> list[dict[str, str]]:
    return [{"member": f"h{number}", "network": "data", "reason": reason} for number in numbers]


@pytest.mark.parametrize(
    ("absent", "text"),
    [
        (missing(2), "98 of 99 pairs are up; waiting for h2 (data)"),
        (missing(2, 3), "97 of 99 pairs are up; waiting for h2 (data), h3 (data)"),
        (missing(2, reason="no answer"), "98 of 99 pairs are up; waiting for h2 (data: no answer)"),
        (
            missing(2, 3, 4, 5, 6),
            "94 of 99 pairs are up; waiting for h2 (data), h3 (data), h4 (data), h5 (data), h6 (data)",
        ),
        (
            missing(*range(2, 101)),
            "0 of 99 pairs are up; waiting for h2 (data), h3 (data), h4 (data), h5 (data), h6 (data) and 94 more",
        ),
    ],
)
def test_progress_stays_readable_however_many_are_missing(absent: list[dict[str, str]], text: str) -> None:
    assert establish.progress({"pairs": 99, "missing": absent, "endpoints": []}) == text


def test_progress_tells_endpoints_too() -> None:
    endpoints = [
        {"name": "swan", "established": False, "reason": "no answer"},
        {"name": "libre", "established": False, "reason": ""},
        {"name": "gate", "established": True, "reason": ""},
    ]
    both = "waiting for the endpoint swan (no answer), the endpoint libre"
    assert establish.progress({"pairs": 0, "missing": [], "endpoints": endpoints}) == both
    assert (
        establish.progress({"pairs": 2, "missing": [], "endpoints": endpoints})
        == f"2 of 2 pairs are up; {both}"
    )


class Action(establish.ActionModule):
    """The action with a host that gives *answers*, each after the time it was given."""

    def __init__(self, clock: Clock, *answers: dict[str, Any], **arguments: Any) -> None:
        self._task = SimpleNamespace(args={"member": "h1", "peers": [], **arguments})
        self._display = SimpleNamespace(display=lambda text: clock.said.append(text))
        self.clock = clock
        self.answers = list(answers)
        self.asked: list[tuple[float, float]] = []

    def _execute_module(self, **options: Any) -> dict[str, Any]:
        given = options["module_args"]
        self.asked.append((given["timeout"], given["elapsed"]))
        answer = self.answers.pop(0)
        if answer.get("missing"):
            self.clock.time += given["timeout"]
        return answer


class Clock:
    """The time, and what was said meanwhile."""

    def __init__(self) -> None:
        self.time = 1000.0
        self.said: list[str] = []

    def monotonic(self) -> float:
        return self.time


def answer(*numbers: int, begun: tuple[str, ...] = ()) -> dict[str, Any]:
    return {
        "changed": bool(begun),
        "pairs": 3,
        "begun": list(begun),
        "unestablished": [f"underlay-data+h1+h{number}" for number in numbers],
        "missing": missing(*numbers),
        "endpoints": [],
    }


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(establish, "time", clock)
    monkeypatch.setattr(ActionBase, "run", lambda _self, _tmp=None, _vars=None: {})
    return clock


VARIABLES = {"inventory_hostname": "h1"}


def test_one_answer_is_enough_if_nothing_is_missing(clock: Clock) -> None:
    action = Action(clock, answer(begun=("b", "a")), timeout=30)
    assert action.run(None, VARIABLES) == answer(begun=("a", "b"))
    assert (action.asked, clock.said) == ([(10.0, 0.0)], [])


def test_it_says_how_far_it_is_and_sums_up(clock: Clock) -> None:
    action = Action(clock, answer(2, 3, begun=("b",)), answer(3), answer(begun=("a",)), timeout=60)
    result = action.run(None, VARIABLES)
    assert (result["begun"], result["changed"], "msg" in result) == (["a", "b"], True, False)
    assert action.asked == [(10.0, 0.0), (10.0, 10.0), (10.0, 20.0)]
    assert clock.said == [
        "  h1: 1 of 3 pairs are up; waiting for h2 (data), h3 (data)",
        "  h1: 2 of 3 pairs are up; waiting for h3 (data)",
    ]


def test_it_ends_in_time_without_failing(clock: Clock) -> None:
    """The probe judges."""
    action = Action(clock, answer(2), answer(2), timeout="15")
    result = action.run(None, VARIABLES)
    assert action.asked == [(10.0, 0.0), (5.0, 10.0)]
    assert (result["msg"], result["changed"]) == ("2 of 3 pairs are up; waiting for h2 (data)", False)
    assert "failed" not in result


def test_an_attempt_that_came_to_nothing_is_no_change(clock: Clock) -> None:
    action = Action(clock, answer(2, begun=("underlay-data+h1+h2",)), timeout=10)
    result = action.run(None, VARIABLES)
    assert (result["begun"], result["changed"]) == (["underlay-data+h1+h2"], False)


@pytest.mark.parametrize("given", [{"failed": True, "msg": "no"}, {"skipped": True}])
def test_what_the_module_says_of_itself_is_passed_on(clock: Clock, given: dict[str, Any]) -> None:
    assert Action(clock, given).run(None, VARIABLES) == given
