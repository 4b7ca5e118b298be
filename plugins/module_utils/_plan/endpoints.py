# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the plan says about endpoints, and the keys that a member shares with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.underlay.ipsec.plugins.module_utils._model.endpoints import Endpoint
from ansible_collections.underlay.ipsec.plugins.module_utils._nss.names import distinguished_name


def endpoints_document(endpoints: Sequence[Endpoint]) -> list[dict[str, Any]]:
    """Return the endpoints as plan.json has them: without secrets."""
    return [{**_of_endpoint(endpoint), "members": list(endpoint.members)} for endpoint in endpoints]


def endpoints_of(member: str, endpoints: Sequence[Endpoint]) -> list[dict[str, Any]]:
    """Return the endpoints of *member* as its slice has them: without secrets."""
    return [_of_endpoint(endpoint) for endpoint in endpoints if member in endpoint.members]


def authorities_of(member: str, endpoints: Sequence[Endpoint]) -> list[str]:
    """Return in PEM the CAs, other than the cluster's own, that *member* needs for its endpoints."""
    found = {
        endpoint.authority.fingerprint: endpoint.authority
        for endpoint in endpoints
        if member in endpoint.members and endpoint.authority
    }
    return [found[fingerprint].pem for fingerprint in sorted(found)]


def endpoint_keys(
    plan: Mapping[str, Any], member: str, endpoints: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Return the keys that *member* shares with endpoints, for the module libreswan.

    *endpoints* is the variable ``ipsec_endpoints``, which the plan was made from: the keys are only there.
    """
    psks = {str(endpoint["name"]): str(endpoint["psk"]) for endpoint in endpoints if endpoint.get("psk")}
    own = f"@{plan['members'][member]['fqdn']}"
    return [
        {"ids": [own, endpoint["id"]], "psk": psks[endpoint["name"]]}
        for endpoint in plan["endpoints"]
        if endpoint["auth"] == "psk" and member in endpoint["members"]
    ]


def _of_endpoint(endpoint: Endpoint) -> dict[str, Any]:
    return {
        "name": endpoint.name,
        "network": endpoint.network,
        "address": str(endpoint.address),
        "id": endpoint.id,
        "auth": endpoint.auth,
        "key_type": endpoint.key_type,
        "ca": distinguished_name(endpoint.authority.subject_name) if endpoint.authority else None,
        "mode": endpoint.mode,
        "local_subnets": [str(cidr) for cidr in endpoint.local_subnets],
        "remote_subnets": [str(cidr) for cidr in endpoint.remote_subnets],
        "ike": endpoint.ike,
        "esp": endpoint.esp,
        "pfs": endpoint.pfs,
        "ike_lifetime": endpoint.ike_lifetime,
        "sa_lifetime": endpoint.sa_lifetime,
        "dpd_delay": endpoint.dpd_delay,
        "encapsulation": endpoint.encapsulation,
        "initiate": endpoint.initiate,
    }
