# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bring the pairs of a mesh up, where one end begins and the other one waits; and endpoints, which may not answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping

from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan.status import parse_states
from ansible_collections.underlay.ipsec.plugins.module_utils._run import Runner

_LOOK_SECONDS = 0.5
# A negotiation that the kernel asked for is under way before this, and a second one would make SAs twice.
_PATIENCE_SECONDS = 1.0
# How long the end that does not begin leaves it to the other one, whose run may be a later one.
_YIELD_SECONDS = 12.0
# After this long without an SA and without an attempt, begin again: 4.x gives up on some answers.
_AGAIN_SECONDS = 5.0
ENDPOINT_SECONDS = 15.0
"""How long to wait, in all, for connections that others may have to put right."""


def establish(
    pairs: Mapping[str, bool],
    run: Runner,
    seconds: float,
    *,
    outside: Collection[str] = (),
    elapsed: float = 0.0,
    now: Callable[[], float] = time.monotonic,
    wait: Callable[[float], None] = time.sleep,
) -> tuple[set[str], set[str]]:
    """Wait up to *seconds* until each of *pairs* has an SA; return those that do not, and those begun.

    *pairs* is connection name → whether this end begins. Those of them that are *outside* are
    waited for `ENDPOINT_SECONDS` at most. *elapsed* is how many seconds earlier calls have
    waited for the same pairs.
    """
    started = now()
    begun: dict[str, float] = {}
    while True:
        ike, child = parse_states(run(["ipsec", "whack", "--showstates"], check=False).stdout)
        missing = set(pairs) - {entry["name"] for entry in child if entry["established"]}
        waited = now() - started
        given_up = waited + elapsed >= ENDPOINT_SECONDS and missing.issubset(outside)
        if not missing or given_up or waited >= seconds:
            return missing, set(begun)
        # An IKE SA that is there and has no Child SA is not on its way to one.
        busy = {entry["name"] for entry in (*ike, *child) if not entry["established"]}
        for name in sorted(missing - busy):
            patience = _PATIENCE_SECONDS if pairs[name] else _YIELD_SECONDS
            if waited + elapsed >= patience and waited - begun.get(name, -_AGAIN_SECONDS) >= _AGAIN_SECONDS:
                run(["ipsec", "whack", "--initiate", "--asynchronous", "--name", name], check=False)
                begun[name] = waited
        wait(_LOOK_SECONDS)
