# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bringing pairs up, with a clock and a pluto that are played."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan.establish import (
    ENDPOINT_SECONDS,
    establish,
)
from ansible_collections.underlay.ipsec.plugins.module_utils._run import Completed

ONE, OTHER = "underlay-data+h1+h2", "underlay-data+h1+h3"
BEGIN = ["ipsec", "whack", "--initiate", "--asynchronous", "--name"]


def up(name: str, serial: int = 1) -> str:
    return (
        f'#{serial}: "{name}":500 ESTABLISHED_IKE_SA (established IKE SA); REKEY in 28431s; newest; idle;\n'
        f'#{serial + 1}: "{name}":500 ESTABLISHED_CHILD_SA (established Child SA); newest; IKE SA #{serial}; idle;\n'
    )


def on_the_way(name: str) -> str:
    return f'000 #1: "{name}":500 STATE_V2_PARENT_I1 (sent IKE_SA_INIT request); RETRANSMIT in 0.4s; idle;\n'


class Host:
    """Plays pluto and the clock: *story* is second → what ``--showstates`` prints from then on."""

    def __init__(self, story: Mapping[float, str], *, answers: float | None = None) -> None:
        self.story = story
        self.answers = answers
        self.time = 1000.0
        self.begun: list[tuple[float, str]] = []

    def now(self) -> float:
        return self.time

    def wait(self, seconds: float) -> None:
        self.time += seconds

    def __call__(
        self, argv: Sequence[str], *, stdin: str | None = None, check: bool = True, timeout: float = 1.0
    ) -> Completed:
        passed = self.time - 1000.0
        text = ""
        if list(argv[:-1]) == BEGIN:
            self.begun.append((passed, argv[-1]))
        else:
            assert list(argv) == ["ipsec", "whack", "--showstates"]
            text = "".join(text for start, text in sorted(self.story.items()) if start <= passed)
            if self.answers is not None:
                done = {name for start, name in self.begun if passed - start >= self.answers}
                text += "".join(up(name, 10 * serial) for serial, name in enumerate(sorted(done), 1))
        return Completed(tuple(argv), 0, text, "")

    def establish(
        self, pairs: Mapping[str, bool], seconds: float, **options: Any
    ) -> tuple[set[str], set[str]]:
        return establish(pairs, self, seconds, now=self.now, wait=self.wait, **options)

    @property
    def passed(self) -> float:
        return self.time - 1000.0


def test_what_is_up_is_not_waited_for() -> None:
    host = Host({0: up(ONE)})
    assert host.establish({ONE: True}, 60) == (set(), set())
    assert (host.passed, host.begun) == (0.0, [])


def test_without_pairs_there_is_nothing_to_wait_for() -> None:
    assert Host({}).establish({}, 60) == (set(), set())


def test_it_begins_after_patience_and_returns_as_soon_as_all_is_up() -> None:
    """What the kernel asked for by itself would be negotiated twice."""
    host = Host({}, answers=0.5)
    assert host.establish({ONE: True}, 60) == (set(), {ONE})
    assert host.begun == [(1.0, ONE)]
    assert host.passed == 1.5


def test_it_begins_with_what_has_no_sa_only() -> None:
    host = Host({0: up(ONE)}, answers=0.5)
    assert host.establish({ONE: True, OTHER: True}, 60) == (set(), {OTHER})
    assert host.begun == [(1.0, OTHER)]


def test_what_is_on_the_way_is_left_alone() -> None:
    host = Host({0: on_the_way(ONE), 8: up(ONE)})
    assert host.establish({ONE: True}, 60) == (set(), set())
    assert (host.begun, host.passed) == ([], 8.0)


def test_the_other_end_has_twelve_seconds() -> None:
    host = Host({}, answers=0.5)
    assert host.establish({ONE: False}, 60) == (set(), {ONE})
    assert host.begun == [(12.0, ONE)]


def test_the_other_end_begins_by_itself() -> None:
    host = Host({11.5: up(ONE)})
    assert host.establish({ONE: False}, 60) == (set(), set())
    assert host.begun == []


def test_it_begins_again_every_five_seconds() -> None:
    host = Host({})
    assert host.establish({ONE: True}, 14) == ({ONE}, {ONE})
    assert host.begun == [(1.0, ONE), (6.0, ONE), (11.0, ONE)]
    assert host.passed == 14.0


def test_it_returns_those_that_do_not_come_up() -> None:
    host = Host({2: up(ONE)})
    assert host.establish({ONE: True, OTHER: False}, 5) == ({OTHER}, {ONE})


@pytest.mark.parametrize(("elapsed", "began"), [(0.0, []), (10.0, [2.0]), (20.0, [0.0])])
def test_earlier_calls_count(elapsed: float, began: list[float]) -> None:
    host = Host({})
    host.establish({ONE: False}, 4, elapsed=elapsed)
    assert [start for start, _name in host.begun] == began


def test_somebody_elses_sa_is_none_of_the_pair() -> None:
    host = Host({0: up("somebody-elses") + up(ONE + "2", 3)})
    assert host.establish({ONE: True}, 2)[0] == {ONE}


def test_child_sa_that_is_not_established_is_none() -> None:
    half = f'#2: "{ONE}":500 REKEY_CHILD_I1 (sent CREATE_CHILD_SA request); IKE SA #1; idle;\n'
    host = Host({0: half})
    assert host.establish({ONE: True}, 2) == ({ONE}, set())


def test_ike_sa_that_stayed_without_a_child_sa_is_not_on_the_way() -> None:
    host = Host({0: up(ONE).splitlines()[0]})
    host.establish({ONE: True}, 3)
    assert host.begun == [(1.0, ONE)]


def test_without_time_it_only_looks() -> None:
    host = Host({})
    assert host.establish({ONE: True}, 0, elapsed=30) == ({ONE}, set())
    assert host.begun == []


def test_silent_pluto_is_waited_for() -> None:
    def silent(argv: Sequence[str], **_options: object) -> Completed:
        return Completed(tuple(argv), 33, "", "whack: Pluto is not running")

    host = Host({})
    missing, _begun = establish({ONE: True}, silent, 3, now=host.now, wait=host.wait)
    assert (missing, host.passed) == ({ONE}, 3.0)


ENDPOINT = "underlay-endpoint+gate"


def test_an_endpoint_that_does_not_answer_is_waited_for_a_while_and_no_longer() -> None:
    host = Host({0: up(ONE)})
    missing, begun = host.establish({ONE: True, ENDPOINT: True}, 60, outside=[ENDPOINT])
    assert (missing, begun) == ({ENDPOINT}, {ENDPOINT})
    assert host.passed == ENDPOINT_SECONDS
    again = Host({0: up(ONE)})
    again.establish({ONE: True, ENDPOINT: True}, 60, outside=[ENDPOINT], elapsed=10.0)
    assert again.passed == ENDPOINT_SECONDS - 10


def test_pairs_are_waited_for_whatever_endpoints_do() -> None:
    host = Host({20: up(ONE)})
    assert host.establish({ONE: False, ENDPOINT: True}, 60, outside=[ENDPOINT])[0] == {ENDPOINT}
    assert host.passed == 20
