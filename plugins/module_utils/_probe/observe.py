# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The order of things: warm up until the SAs are there, measure, look again."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace

from ansible_collections.underlay.ipsec.plugins.module_utils._errors import IpsecError
from ansible_collections.underlay.ipsec.plugins.module_utils._probe.verdict import ENCRYPTED, Evidence, judge
from ansible_collections.underlay.ipsec.plugins.module_utils._probe.wire import Route, Wire
from ansible_collections.underlay.ipsec.plugins.module_utils._probe.xfrm import Policies, State, flows

_WARM_UP_SECONDS = 0.3
_SPACING_SECONDS = 0.1
_ANSWER_SECONDS = 2.0
# Both ends that start to negotiate at the same moment can each end up with SAs that the other one dropped
# (seen between libreswan 4.10 and 5.2; it takes them a minute to recover). So one end lets the other begin.
_YIELD_SECONDS = 5.0
# An SA that is replaced, or a lost packet, spoils a measurement without meaning anything.
_ATTEMPTS = 3
# Per second: what a thousand peers are sent must not be lost in this host's own queues.
_PROBES_PER_SECOND = 2000


@dataclass(frozen=True)
class Kernel:
    """How to look at the kernel's SAs and policies."""

    states: Callable[[], list[State]]
    policies: Callable[[], Policies]


def observe(
    wire: Wire,
    kernel: Kernel,
    routes: Sequence[Route],
    *,
    clear: Collection[Route],
    timeout: float,
    count: int,
    now: Callable[[], float] = time.monotonic,
) -> dict[Route, Evidence]:
    """Return the evidence about each of *routes*.

    Waits up to *timeout* seconds until each has an SA and answers; those in *clear* are not to have an SA.
    Then measures with *count* probes each.
    """
    settled = _warm_up(wire, kernel, routes, clear, timeout, now)
    evidence = _measure(wire, kernel, routes, count)
    for _attempt in range(_ATTEMPTS - 1):
        doubtful = [
            route for route in routes if route in settled and _doubtful(evidence[route], route in clear)
        ]
        if not doubtful:
            break
        evidence.update(_measure(wire, kernel, doubtful, count))
    return evidence


def _doubtful(evidence: Evidence, clear: bool) -> bool:
    if evidence.sent_clear and not clear:
        return False
    return evidence.replies < evidence.sent if clear else judge(evidence).status != ENCRYPTED


def begins(route: Route) -> bool:
    """Return whether this end of *route* is the one to set off the negotiation: it has the lower address."""
    return ipaddress.ip_address(route.source).packed < ipaddress.ip_address(route.destination).packed


def _warm_up(
    wire: Wire,
    kernel: Kernel,
    routes: Sequence[Route],
    clear: Collection[Route],
    timeout: float,
    now: Callable[[], float],
) -> set[Route]:
    """Probe until each route answers and has its SAs, and return those that do."""
    started = now()
    settled: set[Route] = set()
    pending = list(routes)
    secured = _secured(kernel, pending)
    while pending:
        wire.start()
        yielding = now() - started < _YIELD_SECONDS
        probed = [r for r in pending if begins(r) or r in secured or r in clear or not yielding]
        for route in probed:
            wire.send(route)
        next_look = now() + max(_WARM_UP_SECONDS, len(probed) / _PROBES_PER_SECOND)
        wire.pump(next_look - now(), pending)
        secured = _secured(kernel, pending)
        settled.update(r for r in probed if wire.tally(r).replies and (r in secured or r in clear))
        pending = [route for route in pending if route not in settled]
        if now() - started >= timeout:
            break
        if pending:
            wire.pump(next_look - now())
    return settled


def _secured(kernel: Kernel, routes: Iterable[Route]) -> set[Route]:
    """Return the routes that have SAs in both directions."""
    present = {(state.source, state.destination) for state in kernel.states()}
    return {
        route
        for route in routes
        if {(route.source, route.destination), (route.destination, route.source)} <= present
    }


def _measure(wire: Wire, kernel: Kernel, routes: Iterable[Route], count: int) -> dict[Route, Evidence]:
    routes = list(routes)
    # A busy host may lose frames once. Clear text that was seen then counts all the same.
    clear = dict.fromkeys(routes, 0)
    for _attempt in range(_ATTEMPTS):
        evidence = _count(wire, kernel, routes, count)
        lost = wire.lost()
        clear = {route: max(clear[route], evidence[route].sent_clear) for route in routes}
        if not lost:
            return {route: replace(evidence[route], sent_clear=clear[route]) for route in routes}
    raise IpsecError(f"the tap lost {lost} frames, so clear text may have gone unseen; run it again")


def _count(wire: Wire, kernel: Kernel, routes: Sequence[Route], count: int) -> dict[Route, Evidence]:
    wire.lost()
    wire.start()
    before = kernel.states()
    for _number in range(count):
        for route in routes:
            wire.send(route)
        wire.pump(max(_SPACING_SECONDS, len(routes) / _PROBES_PER_SECOND))
    wire.pump(_ANSWER_SECONDS, routes)
    counted = flows(before, kernel.states())
    policies = kernel.policies()
    evidence = {}
    for route in routes:
        tally = wire.tally(route)
        evidence[route] = Evidence(
            sent=tally.sent,
            replies=tally.replies,
            sent_clear=tally.clear,
            out=counted.get((route.source, route.destination)),
            inbound=counted.get((route.destination, route.source)),
            policy=policies.decisive(route.source, route.destination),
            error=tally.error,
        )
    return evidence
