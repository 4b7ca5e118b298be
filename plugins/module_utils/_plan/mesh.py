# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A member's peers in a mesh, and the keys that it shares with them."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

with suppress(ImportError):  # always there with ansible-core, but not where its sanity tests import this
    from cryptography.hazmat.primitives.hashes import SHA384
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from ansible_collections.underlay.ipsec.plugins.module_utils._report.expectation import networks_of

_KEY_BYTES = 48
"""As long as the PRF's key: half of it is what FIPS asks for."""

Plan = Mapping[str, Any]


def mesh_peers(plan: Plan, member: str) -> list[dict[str, str]]:
    """Return network, name, host name and address of each peer of *member*; none if the plan is not for a mesh.

    Those behind NAT also have a ``nat_address``. A pair that an exception leaves in clear has no connection.
    """
    if plan["topology"] != "mesh":
        return []
    return [
        {
            "network": network["name"],
            "member": peer,
            "fqdn": plan["members"][peer]["fqdn"],
            "address": address,
            **({"nat_address": network["nat"][peer]} if peer in network["nat"] else {}),
        }
        for network in networks_of(plan, member)
        for peer, address in network["peers"].items()
        if peer in plan["members"] and peer not in network["clear"]
    ]


def pair_keys(plan: Plan, member: str, secret: str) -> list[dict[str, Any]]:
    """Return the keys that *member* shares with its peers, for the module libreswan; none without PSKs.

    The key of a pair is derived from *secret* and the two host names alone (HKDF, RFC 5869, with SHA-384),
    so both ends get the same one in any run, and nobody who knows one learns anything about another.
    Pluto looks for a key by the ids of the two ends, so a pair has one on all its networks.
    """
    if plan["auth"] != "psk":
        return []
    own = plan["members"][member]["fqdn"]
    peers = sorted({peer["fqdn"] for peer in mesh_peers(plan, member)})
    return [{"ids": [f"@{own}", f"@{peer}"], "psk": pair_key(secret, own, peer)} for peer in peers]


def pair_key(secret: str, one: str, other: str) -> str:
    """Return the key of two host names: 48 bytes in Base64."""
    return derived_key(secret, "underlay.ipsec psk", *sorted((one, other)))


def derived_key(secret: str, *purpose: str) -> str:
    """Return 48 bytes in Base64 that nobody can guess who knows *purpose* and not *secret*."""
    info = "\0".join(purpose)
    derived = HKDF(SHA384(), _KEY_BYTES, salt=None, info=info.encode()).derive(secret.encode())
    return base64.b64encode(derived).decode()
