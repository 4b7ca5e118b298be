# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is known about connections with endpoints. Nothing is sent to them: they are not ours to probe. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan.endpoints import Endpoint
from ansible_collections.underlay.ipsec.plugins.module_utils._probe.account import Account
from ansible_collections.underlay.ipsec.plugins.module_utils._probe.xfrm import State


def describe_endpoints(
    endpoints: Iterable[Endpoint],
    claimed: Collection[str],
    states: Iterable[State],
    accounts: Mapping[str, Account],
) -> list[dict[str, Any]]:
    """Return the module's ``endpoints``.

    *claimed* are the connections that libreswan says have an SA, *states* the kernel's SAs,
    *accounts* what libreswan says went wrong, by address.
    """
    outbound = {state.destination: state for state in states}
    return [
        _describe(endpoint, claimed, outbound.get(endpoint.address), accounts.get(endpoint.address))
        for endpoint in endpoints
    ]


def _describe(
    endpoint: Endpoint, claimed: Collection[str], state: State | None, account: Account | None
) -> dict[str, Any]:
    waiting = sorted(set(endpoint.connections).difference(claimed))
    reason = ""
    if waiting:
        reason = account.clause if account else "libreswan does not say why"
    elif state is None:
        reason = "libreswan claims one that the kernel does not have"
    return {
        "name": endpoint.name,
        "network": endpoint.network,
        "address": endpoint.address,
        "established": not reason,
        "waiting": waiting,
        "cipher": state.cipher if state else None,
        "encap": state.encap if state else None,
        "reason": reason,
    }
