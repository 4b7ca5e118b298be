# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a probe says about connections with hosts outside the cluster."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan.endpoints import endpoint_from
from ansible_collections.underlay.ipsec.plugins.module_utils._probe.account import Account
from ansible_collections.underlay.ipsec.plugins.module_utils._probe.endpoints import describe_endpoints
from ansible_collections.underlay.ipsec.plugins.module_utils._probe.xfrm import State
from ansible_collections.underlay.ipsec.tests.unit.plugins.module_utils._libreswan.meshes import ENDPOINT

GATE = endpoint_from({**ENDPOINT, "mode": "tunnel", "remote_subnets": ["192.0.2.0/24", "198.51.100.0/24"]})
BOTH = sorted(GATE.connections)
SA = State("10.88.0.11", "10.88.0.50", "0x00000001", 1, "tunnel", "aes_gcm256", "udp", 0, 0)
REFUSED = {"10.88.0.50": Account("authentication", "the peer rejects it")}
UNSAID = "libreswan does not say why"


@pytest.mark.parametrize(
    ("claimed", "states", "accounts", "waiting", "reason"),
    [
        (BOTH, [SA], {}, [], ""),
        (BOTH, [SA], REFUSED, [], ""),
        (BOTH[:1], [SA], {}, BOTH[1:], UNSAID),
        ([], [], REFUSED, BOTH, "the peer rejects it"),
        ([], [], {"10.88.0.12": REFUSED["10.88.0.50"]}, BOTH, UNSAID),
        (BOTH, [], {}, [], "libreswan claims one that the kernel does not have"),
    ],
    ids=["up", "up after a failure", "one is missing", "refused", "another one refused", "kernel"],
)
def test_established_only_if_all_is_there(
    claimed: Sequence[str],
    states: Sequence[State],
    accounts: dict[str, Account],
    waiting: list[str],
    reason: str,
) -> None:
    (found,) = describe_endpoints([GATE], claimed, states, accounts)
    assert (found["waiting"], found["reason"], found["established"]) == (waiting, reason, not reason)
    assert (found["cipher"], found["encap"]) == (("aes_gcm256", "udp") if states else (None, None))
