# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The order of a probe: who begins, how long it waits, when it measures again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from ansible_collections.underlay.ipsec.plugins.module_utils._errors import IpsecError
from ansible_collections.underlay.ipsec.plugins.module_utils._probe.observe import Kernel, begins, observe
from ansible_collections.underlay.ipsec.plugins.module_utils._probe.verdict import judge
from ansible_collections.underlay.ipsec.plugins.module_utils._probe.wire import Route, Tally
from ansible_collections.underlay.ipsec.plugins.module_utils._probe.xfrm import Policies, State

FIRST, SECOND = Route("10.88.0.11", "10.88.0.12"), Route("10.88.0.12", "10.88.0.11")


class World:
    """A wire, a kernel and a clock: a peer that gets its SA *negotiation* seconds after the first probe to it."""

    def __init__(
        self, negotiation: float | None = 1.0, *, sa_at: float | None = None, losses: int = 0
    ) -> None:
        self.time = 0.0
        self.negotiation = negotiation
        self.sa_at = sa_at
        self.losses = losses
        self.sent: list[float] = []
        self.frames_lost = 0
        self.packets = 0
        self.tallies: dict[Route, Tally] = {}

    def secured(self) -> bool:
        return self.sa_at is not None and self.time >= self.sa_at

    # What the wire does
    def start(self) -> None:
        self.tallies = {}

    def tally(self, route: Route) -> Tally:
        return self.tallies.setdefault(route, Tally())

    def send(self, route: Route) -> None:
        self.sent.append(self.time)
        if self.sa_at is None and self.negotiation is not None:
            self.sa_at = self.time + self.negotiation
        tally = self.tally(route)
        tally.sent += 1
        if self.secured():
            self.packets += 1
            if self.losses and tally.sent == 3:
                self.losses -= 1
            else:
                tally.replies += 1

    def pump(self, seconds: float, routes: Any = ()) -> None:
        self.time += max(0.0, seconds)

    def lost(self) -> int:
        return self.frames_lost

    # What the kernel says
    def states(self) -> list[State]:
        if not self.secured():
            return []
        return [
            State(source, destination, "0x01", 1, "transport", "aes_gcm256", None, 0, self.packets)
            for source, destination in (("10.88.0.11", "10.88.0.12"), ("10.88.0.12", "10.88.0.11"))
        ]

    def run(self, route: Route = FIRST, *, clear: bool = False, timeout: float = 30.0) -> str:
        kernel = Kernel(self.states, lambda: Policies([]))
        now: Callable[[], float] = lambda: self.time  # noqa: E731
        routes = {route} if clear else set()
        evidence = observe(
            self,  # type: ignore[arg-type]
            kernel,
            [route],
            clear=routes,
            timeout=timeout,
            count=3,
            now=now,
        )
        return judge(evidence[route]).status


def test_the_lower_address_begins() -> None:
    assert begins(FIRST)
    assert not begins(SECOND)
    assert begins(Route("fd88::2", "fd88::10"))
    assert begins(Route("10.88.0.9", "10.88.0.10"))


def test_it_waits_for_the_sa_and_then_measures() -> None:
    world = World(negotiation=4.0)
    assert world.run() == "encrypted"
    assert world.sent[0] == 0.0
    assert world.time < 10


def test_the_other_end_yields() -> None:
    world = World(negotiation=1.0)
    assert world.run(SECOND) == "encrypted"
    assert world.sent[0] >= 5.0


def test_it_yields_only_without_an_sa() -> None:
    world = World(sa_at=0.0)
    assert world.run(SECOND) == "encrypted"
    assert world.sent[0] == 0.0


def test_it_yields_no_longer_than_until_the_sa_is_there() -> None:
    world = World(sa_at=2.0)
    assert world.run(SECOND) == "encrypted"
    assert 2.0 <= world.sent[0] < 3.0


def test_it_gives_up_after_the_timeout() -> None:
    world = World(negotiation=None)
    assert world.run(timeout=7.0) == "unreachable"
    assert 7.0 <= world.time < 11.0


def test_where_clear_text_is_planned_it_waits_for_no_sa() -> None:
    world = World(negotiation=None)
    world.run(SECOND, clear=True, timeout=1.0)
    assert world.sent[0] == 0.0


@pytest.mark.parametrize(("losses", "status"), [(0, "encrypted"), (2, "encrypted"), (3, "unreachable")])
def test_a_lost_packet_is_no_verdict_yet(losses: int, status: str) -> None:
    assert World(sa_at=0.0, losses=losses).run() == status


def test_a_tap_that_loses_frames_proves_nothing() -> None:
    world = World(sa_at=0.0)
    world.frames_lost = 1
    with pytest.raises(IpsecError, match="lost 1 frames"):
        world.run()


def test_a_tap_that_loses_frames_once_is_asked_again() -> None:
    class Busy(World):
        asked = 0

        def lost(self) -> int:
            self.asked += 1
            # The first answer forgets what was lost before.
            return int(self.asked == 2)

    assert Busy(sa_at=0.0).run() == "encrypted"
