# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keep both ends of a pair from negotiating at once while policies change."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan.render import Network
from ansible_collections.underlay.ipsec.plugins.module_utils._probe.xfrm import Policy, read_policies
from ansible_collections.underlay.ipsec.plugins.module_utils._run import Runner


def hold(networks: Iterable[Network], run: Runner, seconds: int, *, lower_only: bool, action: str) -> None:
    """For *seconds*, start no negotiation with peers, or only with those of lower addresses.

    If both ends of a pair start at once, see `loaded.useless` for what pluto 4.x makes of that;
    and if a negotiation is cut off, what it was for may leave in clear until
    ``shuntlifetime`` is over. So nobody starts while policies change, and afterwards only
    one end of each pair does. The hold catches what would ask for a new SA, and nothing
    else: the policies of SAs and exceptions are more specific, which makes their priority
    number lower. *action* is ``block`` or ``allow``. The kernel itself ends the hold,
    whatever becomes of this run.
    """
    policies = read_policies(run)
    for network in networks:
        cidr, own = ipaddress.ip_network(network.cidr), ipaddress.ip_address(network.address)
        priority = _trap_priority(network, policies)
        if priority is None:
            continue
        held = [cidr]
        if lower_only:
            held = list(ipaddress.summarize_address_range(cidr[0], own - 1)) if own != cidr[0] else []
        for peers in held:
            _xfrm_policy(
                "update",
                network,
                str(peers),
                run,
                "priority",
                str(priority - 1),
                "action",
                action,
                "limit",
                "time-hard",
                str(seconds),
            )


def release(networks: Iterable[Network], run: Runner, seconds: int, *, ordered: bool) -> None:
    """End a hold of all peers; if *ordered*, in favour of one of the lower ones for *seconds*."""
    networks = tuple(networks)
    if ordered:
        hold(networks, run, seconds, lower_only=True, action="block")
    for network in networks:
        _xfrm_policy("delete", network, network.cidr, run)


def _trap_priority(network: Network, policies: Iterable[Policy]) -> int | None:
    """Return the priority of the policy that asks pluto for SAs, None if there is none.

    In a mesh, whose pairs each have their own, one that comes two behind theirs: a hold is
    between the two, and so are all SAs in front of it.
    """
    cidr = ipaddress.ip_network(network.cidr)
    source = f"{network.address}/{cidr.max_prefixlen}"
    outbound = [
        policy
        for policy in policies
        if (policy.direction, policy.source, policy.protocol) == ("out", source, None)
    ]
    groups = [policy.priority for policy in outbound if policy.destination == network.cidr]
    pairs = [
        policy.priority
        for policy in outbound
        if policy.kind == "esp" and ipaddress.ip_network(policy.destination).subnet_of(cidr)  # type: ignore[arg-type]
    ]
    if groups:
        return min(groups)
    return max(pairs) + 2 if pairs else None


def _xfrm_policy(verb: str, network: Network, peers: str, run: Runner, *rest: str) -> None:
    # From the whole network, which no policy of pluto's is: the same selectors would be its own.
    selectors = ["src", network.cidr, "dst", peers, "dir", "out"]
    run(["ip", "xfrm", "policy", verb, *selectors, *rest], check=verb != "delete")


def drop_shunts(networks: Iterable[Network], run: Runner) -> None:
    """End what failed negotiations left in the kernel: clear text for up to ``shuntlifetime``."""
    policies = read_policies(run)
    for network in networks:
        cidr = ipaddress.ip_network(network.cidr)
        exceptions = {entry.split()[0] for entry in network.clear}
        for policy in policies:
            destination = ipaddress.ip_network(policy.destination)
            if (
                policy.direction == "out"
                and policy.kind == "pass"
                and policy.source == f"{network.address}/{cidr.max_prefixlen}"
                and destination.prefixlen == cidr.max_prefixlen
                and destination.subnet_of(cidr)  # type: ignore[arg-type]
                and policy.destination not in exceptions
            ):
                selectors = ["src", policy.source, "dst", policy.destination, "dir", "out"]
                run(["ip", "xfrm", "policy", "delete", *selectors], check=False)
