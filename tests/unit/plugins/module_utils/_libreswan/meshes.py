# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A member of a mesh and its peers, for the tests of what becomes of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan import render
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan.dialect import Dialect
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan.pairs import Peer, begins, pair_name

V4, V5 = Dialect(4, 10), Dialect(5, 2)
OWN = "h1"
DATA = render.Network(
    "data", 4, "10.88.0.0/24", "10.88.0.1", "transport", "auto", private=("10.88.0.0/24",), clear=()
)
SIX = replace(DATA, name="six", family=6, cidr="fd88::/64", address="fd88::1", private=("fd88::/64",))
PSK: dict[str, Any] = {"certificate": None, "authby": "secret"}


def peer(number: int, network: render.Network = DATA) -> Peer:
    """Return the peer *number*: ``10.88.0.2`` is h2."""
    return Peer(
        network.name, f"h{number}", f"h{number}.example", network.address.removesuffix("1") + str(number)
    )


def mesh(*numbers: int, networks: tuple[render.Network, ...] = (DATA,), **changes: Any) -> render.Settings:
    """Return the settings of h1, whose peers on all of *networks* are the members *numbers*."""
    settings = render.Settings(
        "underlay-h1",
        "ecdsa",
        "aes_gcm256-sha2_384-dh20",
        "aes_gcm256",
        networks,
        "mesh",
        OWN,
        "h1.example",
        tuple(peer(number, network) for network in networks for number in numbers),
    )
    return replace(settings, **changes)


def pair(number: int, network: str = "data") -> str:
    """Return the name of h1's connection with the member *number*."""
    return pair_name(network, OWN, f"h{number}")


def states(settings: render.Settings, state: str) -> dict[str, str]:
    """Return the enforcement that has each pair in *state*."""
    return {name: state for network in settings.networks for name in settings.pairs(network)}


def files(settings: render.Settings, state: str) -> dict[str, str]:
    """Return the files with each pair in *state*."""
    return render.files(settings, V4, states(settings, state))


def first(*, begin: bool) -> int:
    """Return the first member whose pair with h1 on the network data begins, or does not begin, at h1."""
    return next(number for number in range(2, 100) if begins("data", OWN, f"h{number}") is begin)


ENDPOINT: dict[str, Any] = {
    "name": "gate",
    "network": "data",
    "address": "10.88.0.50",
    "id": "@gate.example",
    "auth": "certificate",
    "key_type": "ecdsa",
    "ca": None,
    "mode": "transport",
    "local_subnets": [],
    "remote_subnets": [],
    "ike": "aes_gcm256-sha2_384-dh20",
    "esp": "aes_gcm256",
    "pfs": True,
    "ike_lifetime": None,
    "sa_lifetime": None,
    "dpd_delay": 5,
    "encapsulation": "auto",
    "initiate": True,
}
"""An endpoint as a slice of the plan has it."""
