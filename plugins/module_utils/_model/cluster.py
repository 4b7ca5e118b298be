# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The cluster model: what the variables say, as types."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Union

from ansible_collections.underlay.ipsec.plugins.module_utils._errors import Problem

Address = Union[ipaddress.IPv4Address, ipaddress.IPv6Address]
Cidr = Union[ipaddress.IPv4Network, ipaddress.IPv6Network]


class Problems(list[Problem]):
    """The problems found so far. Whoever finds one adds it and goes on."""

    def add(self, message: str, remedy: str, *, variable: str | None = None, host: str | None = None) -> None:
        """Add one problem; the arguments are those of `Problem`."""
        self.append(Problem(message, remedy, variable, host))


@dataclass(frozen=True)
class ClearEntry:
    """An exception from encryption, as a line of a libreswan policy file: ``CIDR`` or ``CIDR proto sport dport``."""

    cidr: Cidr
    protocol: str | None = None
    """None if the entry is for all traffic."""
    source_port: int = 0
    """0 is any port."""
    destination_port: int = 0

    @property
    def everything(self) -> bool:
        """Whether the entry is for all traffic with its CIDR."""
        return self.protocol is None

    @property
    def mirror(self) -> ClearEntry:
        """The entry that the other end of the same traffic needs."""
        return ClearEntry(self.cidr, self.protocol, self.destination_port, self.source_port)

    def __str__(self) -> str:
        return (
            str(self.cidr)
            if self.everything
            else f"{self.cidr} {self.protocol} {self.source_port} {self.destination_port}"
        )


@dataclass(frozen=True)
class Network:
    """A network whose traffic between members is encrypted."""

    name: str
    cidr: Cidr
    clear: tuple[ClearEntry, ...] = ()
    """The exceptions within the network, the cluster-wide ones included."""
    encapsulation: str = "auto"
    mtu: int | None = None
    """The largest packet that it carries, in bytes; None is the smallest MTU of the members' interfaces."""
    mode: str | None = None
    """None for this and the next two: the cluster's."""
    ike: str | None = None
    esp: str | None = None

    @property
    def clear_cidrs(self) -> tuple[Cidr, ...]:
        """What is in clear altogether, whatever the protocol."""
        return tuple(entry.cidr for entry in self.clear if entry.everything)


@dataclass(frozen=True)
class Settings:
    """What holds for the whole cluster."""

    group: str
    enforcement: str
    topology: str
    auth: str
    mode: str
    ike: str
    esp: str
    key_type: str
    cert_validity_days: int
    cert_renew_before_days: int
    exempt_controller: bool
    certificate_source: str = "ca"
    crl_strict: bool = False
    firewall: str = "none"
    firewall_chain: str = "INPUT"
    fail_closed: bool = False
    mtu: str = "advise"
    mtu_overlays: tuple[str, ...] = ()
    mss_clamp: bool = False
    vip_manager: str = "pacemaker"


@dataclass(frozen=True)
class HostAddress:
    """An address that a host was seen with."""

    interface: str
    address: Address
    prefix: int
    secondary: bool = False

    @property
    def primary(self) -> bool:
        """Whether it looks like the interface's own address rather than a floating one on top of it."""
        return not self.secondary and self.prefix < self.address.max_prefixlen


@dataclass(frozen=True)
class DefaultRoute:
    """A default route of a host."""

    family: int
    interface: str
    gateway: Address | None


@dataclass(frozen=True)
class HostFacts:
    """What the module host_info said of a host in this run."""

    addresses: tuple[HostAddress, ...]
    default_routes: tuple[DefaultRoute, ...] = ()
    controller_address: Address | None = None
    clock_skew: float = 0.0
    """Seconds that the host's clock is ahead of the controller's."""
    free_bytes: Mapping[str, int] = field(default_factory=dict)
    libreswan_installed: str | None = None
    libreswan_candidate: str | None = None
    libreswan_package: str = "libreswan"
    setup: Mapping[str, str] = field(default_factory=dict)
    """What /etc/ipsec.conf itself sets in ``config setup``."""
    esp: bool | None = None
    esp6: bool | None = None
    connections: Mapping[str, str] | None = None
    """Connection → fingerprint of what it is configured with; None if it was not asked."""
    keys: Mapping[str, str] | None = None
    """Ids → fingerprint of its pre-shared keys; None if it was not asked."""
    openshift_ipsec: bool = False
    """Whether OpenShift 4 keeps certificates of its own in the NSS database."""
    firewalls_active: tuple[str, ...] = ()
    """Those in use."""
    firewalls_usable: tuple[str, ...] = ()
    """Those that would work, of nftables and iptables."""
    links: tuple[Mapping[str, Any], ...] = ()
    """The host's interfaces, see `_mtu.links.read_links`."""
    vips_applied: bool = False
    """Whether it has connections of virtual addresses."""
    pacemaker: Mapping[str, Any] | None = None
    """The pacemaker cluster that it is in, see `_pacemaker.live.facts`; None if it is in none."""

    @classmethod
    def from_info(cls, info: Mapping[str, Any]) -> HostFacts:
        """Return the facts in the result of the module host_info."""
        return cls(
            addresses=host_addresses(info["addresses"]),
            default_routes=tuple(
                DefaultRoute(route["family"], route["interface"], _address_or_none(route["gateway"]))
                for route in info["default_routes"]
            ),
            controller_address=_address_or_none(info["controller_address"]),
            clock_skew=float(info["clock_skew"]),
            free_bytes=dict(info["free_bytes"]),
            libreswan_installed=info["libreswan"]["installed"],
            libreswan_candidate=info["libreswan"]["candidate"],
            libreswan_package=info["libreswan"]["package"],
            setup=dict(info["setup"]),
            esp=info["esp"],
            esp6=info["esp6"],
            connections=info.get("connections"),
            keys=info.get("keys"),
            openshift_ipsec=info.get("openshift_ipsec", False),
            firewalls_active=tuple(info.get("firewall", {}).get("active", ())),
            firewalls_usable=tuple(info.get("firewall", {}).get("usable", ())),
            links=tuple(info.get("links", ())),
            pacemaker=info.get("pacemaker"),
            vips_applied=info.get("vips_applied", False),
        )


def _address_or_none(text: str | None) -> Address | None:
    return ipaddress.ip_address(text) if text else None


def host_addresses(entries: list[Mapping[str, Any]]) -> tuple[HostAddress, ...]:
    """Return the addresses in a list as the module host_info makes it."""
    return tuple(
        HostAddress(
            entry["interface"], ipaddress.ip_address(entry["address"]), entry["prefix"], entry["secondary"]
        )
        for entry in entries
    )


@dataclass(frozen=True)
class Unreadable:
    """Stands for the value of a variable that could not be templated or decrypted."""

    reason: str


@dataclass(frozen=True)
class Host:
    """What the controller knows of one host of the group before anything is validated."""

    name: str
    variables: Mapping[str, Any]
    """Those that begin with ``ipsec_``, templated; a value may be `Unreadable`."""
    facts: HostFacts | None = None
    """None if the host was not reached in this run."""
    cached: tuple[HostAddress, ...] | None = None
    """Addresses from the fact cache; None if it has none."""
    ansible_host: str | None = None


@dataclass(frozen=True)
class Member:
    """A host of the cluster and where it is."""

    name: str
    fqdn: str
    addresses: Mapping[str, Address]
    """By network name; a network that it is not on is absent."""
    nat_addresses: Mapping[str, Address] = field(default_factory=dict)
    """Where the others find it on the networks on which it is behind NAT."""
