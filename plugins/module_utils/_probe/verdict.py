# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From evidence to verdict, for the traffic from one own address to one peer's address.

Only the wire and the kernel's counters decide. What libreswan says explains a verdict, and never makes one.
"""

from __future__ import annotations

from dataclasses import dataclass

from ansible_collections.underlay.ipsec.plugins.module_utils._probe.xfrm import NULL_CIPHER, Flow, Policy

ENCRYPTED = "encrypted"
CLEAR = "clear"
BLOCKED = "blocked"
UNREACHABLE = "unreachable"


@dataclass(frozen=True)
class Evidence:
    """What was seen while some probes were sent to one peer."""

    sent: int
    replies: int
    sent_clear: int
    """Probes seen leaving this host in clear text."""
    out: Flow | None
    """What the SAs towards the peer counted; None if there is none."""
    inbound: Flow | None
    policy: Policy | None
    """The kernel policy that decides about this traffic; None if there is none."""
    error: str | None
    """Why the kernel refused to send, for example ``EPERM``."""


@dataclass(frozen=True)
class Verdict:
    """What is true about one pair, and how that is known."""

    status: str
    """`ENCRYPTED`, `CLEAR`, `BLOCKED` or `UNREACHABLE`."""
    cause: str
    """A word for the kind of finding, empty if encrypted: the remedy depends on it."""
    reason: str
    """The evidence as a clause, empty if encrypted."""


def judge(evidence: Evidence) -> Verdict:
    """Return the verdict on *evidence*. Whatever does not prove encryption is not encrypted."""
    out, inbound = evidence.out, evidence.inbound
    probes = f"{evidence.sent} probes"
    if evidence.sent_clear:
        left = f"{evidence.sent_clear} of {probes} left in clear text"
        if evidence.replies == 0:
            left += ", and none was answered"
        if out:
            return Verdict(CLEAR, "bypassed", f"{left}, although there is an SA ({out.spi})")
        return Verdict(CLEAR, "no_sa" if evidence.replies else "clear_unanswered", left)
    if evidence.replies == 0:
        return _unanswered(evidence)
    for flow, direction in ((out, "to"), (inbound, "from")):
        if flow and flow.cipher == NULL_CIPHER and flow.rise:
            return Verdict(CLEAR, "null_cipher", f"the SA {direction} the peer ({flow.spi}) does not encrypt")
    if out is None or out.rise < evidence.sent:
        counted = (
            f"the SA to the peer counted {out.rise} of {probes}" if out else "there is no SA to the peer"
        )
        return Verdict(
            CLEAR, "unproven", f"the peer answered, but {counted}: nothing shows that they were encrypted"
        )
    if inbound is None or inbound.rise < evidence.replies:
        counted = f"the SA from it counted {inbound.rise}" if inbound else "there is no SA from it"
        return Verdict(
            CLEAR,
            "unproven",
            f"the peer answered {evidence.replies} of {probes}, but {counted}: it answers in clear text",
        )
    if evidence.replies < evidence.sent:
        return Verdict(
            UNREACHABLE, "loss", f"{probes} left encrypted, but only {evidence.replies} were answered"
        )
    return Verdict(ENCRYPTED, "", "")


def _unanswered(evidence: Evidence) -> Verdict:
    out, policy = evidence.out, evidence.policy
    if out and out.rise:
        return Verdict(
            UNREACHABLE, "no_answer", f"{evidence.sent} probes left encrypted, and none was answered"
        )
    if policy and policy.kind == "block":
        return Verdict(BLOCKED, "shunt", f"nothing left: a policy drops traffic to {policy.destination}")
    if policy and policy.kind == "esp":
        return Verdict(BLOCKED, "no_sa", f"nothing left: traffic to {policy.destination} waits for an SA")
    if evidence.error == "EPERM":
        return Verdict(BLOCKED, "firewall", "nothing left: the firewall of the sender refuses")
    refused = f" ({evidence.error})" if evidence.error else ""
    return Verdict(UNREACHABLE, "no_route", f"nothing left{refused}: nobody answers for the peer's address")
