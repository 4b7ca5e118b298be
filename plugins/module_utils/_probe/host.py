# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What else a probe returns: each verdict with its explanation, and the state of this host's libreswan."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.underlay.ipsec.plugins.module_utils._probe.account import Account
from ansible_collections.underlay.ipsec.plugins.module_utils._probe.verdict import (
    CLEAR,
    ENCRYPTED,
    Evidence,
    judge,
)
from ansible_collections.underlay.ipsec.plugins.module_utils._probe.wire import Route
from ansible_collections.underlay.ipsec.plugins.module_utils._probe.xfrm import Flow
from ansible_collections.underlay.ipsec.plugins.module_utils._run import Runner

# What the wire shows has a cause of its own where libreswan is not what decides.
_LIBRESWAN_EXPLAINS = frozenset({"no_sa", "shunt", "clear_unanswered", "no_answer", "bypassed"})


@dataclass(frozen=True)
class Target:
    """One peer on one network."""

    peer: str
    network: str
    route: Route
    nat_address: str | None = None
    """Where the peer is found if it is behind NAT."""

    @property
    def reached_at(self) -> str:
        """To which address IKE and ESP go."""
        return self.nat_address or self.route.destination


def targets(networks: Iterable[Mapping[str, Any]], member: str) -> tuple[Target, ...]:
    """Return the peers of *member* on its *networks*, in a stable order."""
    return tuple(
        Target(
            peer,
            network["name"],
            Route(_normal(network["address"]), _normal(address)),
            _normal(nat) if (nat := network.get("nat", {}).get(peer)) else None,
        )
        for network in networks
        for peer, address in sorted(network["peers"].items())
        if peer != member
    )


def _normal(address: str) -> str:
    """Return *address* in the form in which the kernel prints it."""
    return str(ipaddress.ip_address(address))


def describe(
    target: Target,
    evidence: Evidence,
    *,
    account: Account | None,
    claimed: bool,
    active: bool,
    exceptions: Collection[str],
) -> dict[str, Any]:
    """Return one entry of the module's ``pairs``.

    *account* is what libreswan says went wrong, *claimed* whether it says that there is an SA, *active* whether
    it runs, and *exceptions* the ports that the kernel lets through in clear text.
    """
    verdict = judge(evidence)
    cause, reason = verdict.cause, verdict.reason
    if verdict.status != ENCRYPTED and cause in _LIBRESWAN_EXPLAINS:
        if not active:
            cause, reason = "service", f"{reason}; libreswan is not running"
        # An SA that exists is not explained by an attempt that failed earlier, unless it is the wrong one.
        elif account and (evidence.out is None or (cause, account.cause) == ("no_answer", "crossed")):
            cause, reason = account.cause, f"{reason}; libreswan: {account.clause}"
        if claimed and verdict.status == CLEAR:
            reason = f"{reason}; libreswan claims an established SA"
    return {
        "peer": target.peer,
        "network": target.network,
        "address": target.route.destination,
        "status": verdict.status,
        "cause": cause,
        "reason": reason,
        "sent": evidence.sent,
        "replies": evidence.replies,
        "sent_clear": evidence.sent_clear,
        "out": _flow(evidence.out),
        "in": _flow(evidence.inbound),
        "claimed": claimed,
        "exceptions": sorted(exceptions),
    }


def _flow(flow: Flow | None) -> dict[str, Any] | None:
    if flow is None:
        return None
    return {
        "spi": flow.spi,
        "spis": list(flow.spis),
        "cipher": flow.cipher,
        "encap": flow.encap,
        "mode": flow.mode,
        "packets_before": flow.packets_before,
        "packets_after": flow.packets_after,
    }


def own_addresses(run: Runner) -> frozenset[str]:
    """Return all addresses of this host."""
    links = json.loads(run(["ip", "-j", "address"], check=False).stdout or "[]")
    return frozenset(info["local"] for link in links for info in link.get("addr_info", ()) if "local" in info)


def read_service(run: Runner) -> dict[str, bool]:
    """Return whether the service runs, and whether it starts at boot."""

    def asked(verb: str) -> str:
        return run(["systemctl", verb, "ipsec.service"], check=False).stdout.strip()

    # 4.10 stays in "reloading" for as long as its policies take to load.
    return {
        "active": asked("is-active") in ("active", "reloading"),
        "enabled": asked("is-enabled") == "enabled",
    }
