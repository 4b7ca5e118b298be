# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Endpoints: hosts that are not members, of which only our end is configured. Pure.

An endpoint has one connection, or one for each pair of subnets behind the two ends. All are
trap policies: nothing that they are for ever leaves in clear, whether there is an SA or not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan.connection import (
    ENCAPSULATION,
    PREFIX,
    Connection,
)
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan.dialect import Dialect

# No network may have this name: connections of pairs begin with that of their network.
_KIND = f"{PREFIX}endpoint+"


@dataclass(frozen=True)
class Endpoint:
    """An endpoint of the host, as the plan wants it."""

    name: str
    network: str
    """The network that our end is on."""
    address: str
    id: str
    auth: str
    key_type: str
    ca: str | None
    """Subject of the CA of its certificate; None if that is the cluster's own."""
    mode: str
    local_subnets: tuple[str, ...]
    remote_subnets: tuple[str, ...]
    ike: str
    esp: str
    pfs: bool
    ike_lifetime: int | None
    sa_lifetime: int | None
    dpd_delay: int
    encapsulation: str
    initiate: bool

    @property
    def connections(self) -> dict[str, tuple[str | None, str | None]]:
        """Connection name → the subnets behind the two ends, None if it is the end itself."""
        if not self.local_subnets and not self.remote_subnets:
            return {f"{_KIND}{self.name}": (None, None)}
        return {
            f"{_KIND}{self.name}+{_slug(local)}+{_slug(remote)}": (local, remote)
            for local in self.local_subnets or (None,)
            for remote in self.remote_subnets or (None,)
        }


@dataclass(frozen=True)
class Own:
    """Our end."""

    address: str
    family: int
    fqdn: str
    certificate: str | None
    """The nickname in NSS; None with pre-shared keys."""
    authby: str
    """How our certificate signs."""


def endpoint_from(data: Mapping[str, Any]) -> Endpoint:
    """Return the endpoint for an item of ``endpoints`` in a slice."""
    subnets = {key: tuple(data[key]) for key in ("local_subnets", "remote_subnets")}
    return Endpoint(**{**data, **subnets})


def is_endpoint(connection: str) -> bool:
    """Return whether the name *connection* is that of a connection with an endpoint."""
    return connection.startswith(_KIND)


def replaced_by(connection: Connection) -> str | None:
    """Return the address, as CIDR, whose other SAs end in favour of *connection*, which is one of an endpoint.

    None if the connection is not for a host, which may have opportunistic SAs of its own with us.
    """
    if "rightsubnet" in connection.values:
        return None
    address = connection.values["right"]
    return f"{address}/{128 if ':' in address else 32}"


def endpoint_connections(endpoint: Endpoint, own: Own, dialect: Dialect) -> tuple[Connection, ...]:
    """Return the connections of *endpoint*."""
    return tuple(
        _connection(name, endpoint, own, dialect, *subnets) for name, subnets in endpoint.connections.items()
    )


def _connection(
    name: str, endpoint: Endpoint, own: Own, dialect: Dialect, local: str | None, remote: str | None
) -> Connection:
    lifetimes = (("ikelifetime", endpoint.ike_lifetime), ("salifetime", endpoint.sa_lifetime))
    return Connection(
        name,
        (
            ("type", endpoint.mode),
            *_authentication(endpoint, own),
            dialect.ikev2,
            ("ike", endpoint.ike),
            ("esp", endpoint.esp),
            *((("pfs", "no"),) if not endpoint.pfs else ()),
            ("encapsulation", ENCAPSULATION[endpoint.encapsulation]),
            ("hostaddrfamily", f"ipv{own.family}"),
            ("left", own.address),
            ("leftid", f"@{own.fqdn}"),
            *((("leftsubnet", local),) if local else ()),
            ("leftupdown", "%disabled"),
            ("right", endpoint.address),
            ("rightid", _quoted(endpoint.id)),
            *((("rightsubnet", remote),) if remote else ()),
            ("dpddelay", str(endpoint.dpd_delay)),
            ("retransmit-timeout", "5s"),
            *((key, f"{seconds}s") for key, seconds in lifetimes if seconds),
            ("auto", "ondemand"),
        ),
    )


def _authentication(endpoint: Endpoint, own: Own) -> tuple[tuple[str, str], ...]:
    if endpoint.auth == "psk":
        return (("authby", "secret"),)
    # Both kinds in authby would make pluto sign with RSA, whatever its own key is.
    return (
        ("leftauth", "ecdsa" if own.authby == "ecdsa" else "rsasig"),
        ("rightauth", "ecdsa" if endpoint.key_type == "ecdsa" else "rsasig"),
        ("leftcert", str(own.certificate)),
        ("rightca", _quoted(endpoint.ca) if endpoint.ca else "%same"),
    )


def _quoted(text: str) -> str:
    return f'"{text}"' if "=" in text else text


def _slug(subnet: str | None) -> str:
    return subnet.replace("/", "-").replace(":", ".") if subnet else "host"
