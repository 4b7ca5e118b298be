# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plans and observations for the report's tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

PORTS = "10.88.0.0/24 tcp 0 22"


def plan(names: Sequence[str] = ("h1", "h2", "h3"), **changes: Any) -> dict[str, Any]:
    return {
        "digest": "d" * 64,
        "group": "ipsec",
        "enforcement": "private",
        "fail_closed": True,
        "networks": [
            {"name": "data", "cidr": "10.88.0.0/24", "family": 4, "clear": [PORTS], "clear_members": []}
        ],
        "members": {
            name: {"fqdn": f"{name}.example.com", "addresses": {"data": f"10.88.0.{index}"}}
            for index, name in enumerate(names, 1)
        },
        "endpoints": [],
        "vips": [],
        "certificates": {"source": "ca", "renew_before_days": 183, "crl_strict": False},
        **changes,
    }


def endpoint(*members: str, initiate: bool = True) -> dict[str, Any]:
    """Return an endpoint as the plan has it."""
    return {
        "name": "gate",
        "network": "data",
        "address": "192.0.2.7",
        "initiate": initiate,
        "members": list(members),
    }


def with_gate(reason: str = "") -> dict[str, Any]:
    """Return what a member sees of that endpoint; *reason* is why it has no SA."""
    return {
        "name": "gate",
        "network": "data",
        "address": "192.0.2.7",
        "established": not reason,
        "waiting": ["underlay-endpoint+gate"] if reason else [],
        "cipher": None if reason else "aes_gcm256",
        "encap": None if reason else "udp",
        "reason": reason,
    }


def flow(source: str, destination: str) -> dict[str, Any]:
    spi = f"0x{source}{destination}"
    return {"spi": spi, "spis": [spi], "cipher": "aes_gcm256", "encap": None, "mode": "transport"}


def seen(source: str, peer: str, **changes: Any) -> dict[str, Any]:
    return {
        "peer": peer,
        "network": "data",
        "address": "",
        "status": "encrypted",
        "cause": "",
        "reason": "",
        "sent": 3,
        "replies": 3,
        "sent_clear": 0,
        "out": flow(source, peer),
        "in": flow(peer, source),
        "claimed": True,
        "exceptions": [PORTS],
        **changes,
    }


def clear(source: str, peer: str, **changes: Any) -> dict[str, Any]:
    found = {
        "status": "clear",
        "cause": "no_sa",
        "reason": "3 of 3 probes left in clear text",
        "out": None,
        "in": None,
    }
    return seen(source, peer, **{**found, **changes})


def result(*pairs: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {
        "pairs": list(pairs),
        "libreswan": "5.2",
        "service": {"active": True, "enabled": True},
        "fail_closed": True,
        "certificate": certificate(),
        "authorities": [ca()],
        "crls": [],
        "authenticated": [],
        **changes,
    }


def certificate(**changes: Any) -> dict[str, Any]:
    return {
        "nickname": "underlay-x",
        "subject": "O=underlay.ipsec, CN=x",
        "issuer": "O=underlay.ipsec, CN=ca",
        "serial": "1f",
        "not_after": "2031-01-31T00:00:00Z",
        "key_type": "ecdsa-p384",
        "fingerprint": "ab",
        **changes,
    }


def ca(**changes: Any) -> dict[str, Any]:
    """Return a CA as a member sees it."""
    default = {
        "nickname": "underlay-ca",
        "subject": "O=underlay.ipsec, CN=ca",
        "serial": "1",
        "fingerprint": "ca",
    }
    return certificate(**{**default, "not_after": "2036-01-31T00:00:00Z", **changes})


def crl(**changes: Any) -> dict[str, Any]:
    return {
        "issuer": "O=underlay.ipsec, CN=ca",
        "this_update": "2026-01-01T00:00:00Z",
        "next_update": "2026-04-01T00:00:00Z",
        "revoked": 1,
        **changes,
    }


def authenticated(peer: str, serial: int, subject: str | None) -> dict[str, Any]:
    """Return one IKE SA with *peer*."""
    return {"peer": peer, "network": "data", "serial": serial, "certificate": subject}


def results(names: Sequence[str] = ("h1", "h2", "h3"), **replaced: dict[str, Any]) -> dict[str, Any]:
    """Return what all of *names* saw, everything encrypted; *replaced* maps ``h1_h2`` to another entry."""
    return {
        name: result(*(replaced.get(f"{name}_{peer}", seen(name, peer)) for peer in names if peer != name))
        for name in names
    }
