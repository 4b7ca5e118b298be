# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Verdicts: nothing that is not proven is called encrypted."""

from __future__ import annotations

import pytest
from ansible_collections.underlay.ipsec.plugins.module_utils._probe.verdict import Evidence, judge
from ansible_collections.underlay.ipsec.plugins.module_utils._probe.xfrm import NULL_CIPHER, Flow, Policy


def flow(rise: int, cipher: str = "aes_gcm256") -> Flow:
    return Flow("0x01", ("0x01",), cipher, None, "transport", 10, 10 + rise)


def policy(kind: str) -> Policy:
    return Policy("10.88.0.11/32", "10.88.0.12/32", None, 0, 0, "out", 1, kind)


@pytest.mark.parametrize(
    ("replies", "clear", "out", "inbound", "kind", "error", "status", "cause"),
    [
        (3, 0, flow(3), flow(3), "esp", None, "encrypted", ""),
        (3, 0, flow(9), flow(9), "esp", None, "encrypted", ""),
        # Anything in clear text is clear, whatever else there is.
        (3, 3, None, None, None, None, "clear", "no_sa"),
        (3, 3, flow(0), flow(0), "esp", None, "clear", "bypassed"),
        (3, 1, flow(3), flow(3), "esp", None, "clear", "bypassed"),
        (0, 3, None, None, "pass", None, "clear", "clear_unanswered"),
        (0, 3, flow(0), flow(0), None, None, "clear", "bypassed"),
        # An SA that does not encrypt.
        (3, 0, flow(3, NULL_CIPHER), flow(3), "esp", None, "clear", "null_cipher"),
        (3, 0, flow(3), flow(3, NULL_CIPHER), "esp", None, "clear", "null_cipher"),
        # Answers that no SA accounts for.
        (3, 0, None, None, None, None, "clear", "unproven"),
        (3, 0, flow(2), flow(3), "esp", None, "clear", "unproven"),
        (3, 0, flow(3), flow(2), "esp", None, "clear", "unproven"),
        (3, 0, flow(3), None, "esp", None, "clear", "unproven"),
        (3, 0, None, flow(3), "esp", None, "clear", "unproven"),
        # Lost answers.
        (2, 0, flow(3), flow(2), "esp", None, "unreachable", "loss"),
        (0, 0, flow(3), flow(0), "esp", None, "unreachable", "no_answer"),
        (0, 0, flow(3), None, "esp", None, "unreachable", "no_answer"),
        # Nothing left.
        (0, 0, None, None, "block", "EPERM", "blocked", "shunt"),
        (0, 0, flow(0), flow(0), "block", None, "blocked", "shunt"),
        (0, 0, None, None, "esp", None, "blocked", "no_sa"),
        (0, 0, None, None, None, "EPERM", "blocked", "firewall"),
        (0, 0, None, None, "pass", "EPERM", "blocked", "firewall"),
        (0, 0, None, None, "pass", None, "unreachable", "no_route"),
        (0, 0, None, None, None, "ENETUNREACH", "unreachable", "no_route"),
    ],
)
def test_verdict(
    replies: int,
    clear: int,
    out: Flow | None,
    inbound: Flow | None,
    kind: str | None,
    error: str | None,
    status: str,
    cause: str,
) -> None:
    evidence = Evidence(3, replies, clear, out, inbound, policy(kind) if kind else None, error)
    verdict = judge(evidence)
    assert (verdict.status, verdict.cause) == (status, cause)
    assert bool(verdict.reason) == (status != "encrypted")


def test_only_full_proof_is_encrypted() -> None:
    flows = [None, flow(0), flow(2), flow(3), flow(3, NULL_CIPHER)]
    encrypted = [
        (replies, clear, out, inbound)
        for replies in range(4)
        for clear in range(4)
        for out in flows
        for inbound in flows
        if judge(Evidence(3, replies, clear, out, inbound, None, None)).status == "encrypted"
    ]
    assert encrypted == [(3, 0, flow(3), flow(3))]
