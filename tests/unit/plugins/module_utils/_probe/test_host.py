# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a probe returns: the verdict with its explanation."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.underlay.ipsec.plugins.module_utils._probe import host
from ansible_collections.underlay.ipsec.plugins.module_utils._probe.account import Account
from ansible_collections.underlay.ipsec.plugins.module_utils._probe.verdict import Evidence
from ansible_collections.underlay.ipsec.plugins.module_utils._probe.wire import Route
from ansible_collections.underlay.ipsec.plugins.module_utils._probe.xfrm import Flow, Policy
from ansible_collections.underlay.ipsec.plugins.module_utils._report.remedy import causes
from ansible_collections.underlay.ipsec.plugins.module_utils._run import Completed

TARGET = host.Target("h2", "data", Route("10.88.0.11", "10.88.0.12"))
FLOW = Flow("0x01", ("0x01",), "aes_gcm256", "udp", "transport", 1, 4)
IDLE = Flow("0x01", ("0x01",), "aes_gcm256", None, "transport", 4, 4)
BLOCK = Policy("10.88.0.11/32", "10.88.0.12/32", None, 0, 0, "out", 1, "block")
REJECTED, CROSSED = Account("authentication", "rejected"), Account("crossed", "crossed")


def describe(evidence: Evidence, **changes: Any) -> dict[str, Any]:
    facts: dict[str, Any] = {"account": None, "claimed": False, "active": True, "exceptions": []}
    return host.describe(TARGET, evidence, **{**facts, **changes})


def test_encrypted_needs_no_explanation() -> None:
    entry = describe(
        Evidence(3, 3, 0, FLOW, FLOW, None, None), account=REJECTED, claimed=True, exceptions=["b", "a"]
    )
    assert entry == {
        "peer": "h2",
        "network": "data",
        "address": "10.88.0.12",
        "status": "encrypted",
        "cause": "",
        "reason": "",
        "sent": 3,
        "replies": 3,
        "sent_clear": 0,
        "out": {
            "spi": "0x01",
            "spis": ["0x01"],
            "cipher": "aes_gcm256",
            "encap": "udp",
            "mode": "transport",
            "packets_before": 1,
            "packets_after": 4,
        },
        "in": entry["out"],
        "claimed": True,
        "exceptions": ["a", "b"],
    }


@pytest.mark.parametrize(
    ("evidence", "changes", "cause", "words"),
    [
        (
            Evidence(3, 0, 0, None, None, BLOCK, None),
            {"account": REJECTED},
            "authentication",
            "; libreswan: rejected",
        ),
        (Evidence(3, 0, 0, None, None, BLOCK, None), {}, "shunt", "a policy drops traffic to 10.88.0.12/32"),
        (Evidence(3, 3, 3, None, None, None, None), {"active": False}, "service", "libreswan is not running"),
        (
            Evidence(3, 3, 3, IDLE, IDLE, None, None),
            {"claimed": True},
            "bypassed",
            "claims an established SA",
        ),
        (
            Evidence(3, 3, 3, IDLE, IDLE, None, None),
            {"account": REJECTED},
            "bypassed",
            "although there is an SA",
        ),
        (Evidence(3, 0, 0, FLOW, IDLE, None, None), {"account": CROSSED}, "crossed", "; libreswan: crossed"),
        (Evidence(3, 0, 0, FLOW, IDLE, None, None), {"account": REJECTED}, "no_answer", "none was answered"),
        (Evidence(3, 0, 0, None, None, None, "EPERM"), {"account": REJECTED}, "firewall", "firewall"),
    ],
)
def test_explanation(evidence: Evidence, changes: dict[str, Any], cause: str, words: str) -> None:
    entry = describe(evidence, **changes)
    assert entry["cause"] == cause
    assert words in entry["reason"]
    assert entry["cause"] in causes()


def test_targets_leave_out_the_member_itself() -> None:
    networks = [
        {"name": "data", "address": "10.88.0.11", "peers": {"h2": "10.88.0.12", "h1": "10.88.0.11"}},
        {"name": "six", "address": "fd88:0::11", "peers": {"h2": "fd88:0:0::12"}},
    ]
    assert host.targets(networks, "h1") == (TARGET, host.Target("h2", "six", Route("fd88::11", "fd88::12")))


def test_target_behind_nat_is_reached_at_another_address() -> None:
    peers = {"h2": "10.88.0.12", "h3": "10.99.0.13"}
    network = {"name": "data", "address": "10.88.0.11", "peers": peers, "nat": {"h3": "10.88.0.50"}}
    found = {target.peer: target for target in host.targets([network], "h1")}
    assert (found["h2"].reached_at, found["h3"].reached_at) == ("10.88.0.12", "10.88.0.50")
    assert found["h3"].route == Route("10.88.0.11", "10.99.0.13")


@pytest.mark.parametrize(
    ("active", "enabled", "expected"),
    [
        ("active", "enabled", {"active": True, "enabled": True}),
        ("reloading", "disabled", {"active": True, "enabled": False}),
        ("failed", "enabled", {"active": False, "enabled": True}),
        ("", "", {"active": False, "enabled": False}),
    ],
)
def test_service(active: str, enabled: str, expected: dict[str, bool]) -> None:
    def run(argv: list[str], **_options: object) -> Completed:
        return Completed(tuple(argv), 0, f"{active if argv[1] == 'is-active' else enabled}\n", "")

    assert host.read_service(run) == expected  # type: ignore[arg-type]
