# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The variable ``ipsec_endpoints``: hosts outside the inventory, every problem with them at once."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

from ansible_collections.underlay.ipsec.plugins.module_utils._model.cluster import (
    Address,
    Cidr,
    Member,
    Network,
    Problems,
    Settings,
)
from ansible_collections.underlay.ipsec.plugins.module_utils._model.proposals import proposal_faults
from ansible_collections.underlay.ipsec.plugins.module_utils._model.typed import did_you_mean
from ansible_collections.underlay.ipsec.plugins.module_utils._model.variables import parse_cidr, some
from ansible_collections.underlay.ipsec.plugins.module_utils._nss.x509 import (
    Certificate,
    CertificateError,
    certificate_from_pem,
)

VARIABLE = "ipsec_endpoints"
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,29}")
_HOST_NAME = re.compile(
    r"(?=.{1,253}$)[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9])?)*"
)
_MAIL = re.compile(r"[A-Za-z0-9._+-]+@[A-Za-z0-9.-]+")
# An attribute and its value, in which a backslash takes the meaning away from what follows it.
_DN_PART = r"\s*[A-Za-z]+\s*=(?:[^\\,\"/*\n]|\\[^\"\n])+"
_DN = re.compile(f"{_DN_PART}(?:,{_DN_PART})*")
_PSK = re.compile(r"[ -!#-~]*")
# FIPS asks for half of the length of the PRF's key, which for SHA-512 are 32 bytes.
_PSK_MINIMUM = 32
_SHORTEST_LIFETIME, _LONGEST_LIFETIME = 900, 86400
_LONGEST_DPD_DELAY = 3600


@dataclass(frozen=True)
class Endpoint:
    """A host outside the inventory that members have a connection with."""

    name: str
    address: Address
    id: str
    """In libreswan's notation."""
    auth: str
    network: str
    """The network that the members' end is on."""
    members: tuple[str, ...]
    mode: str
    local_subnets: tuple[Cidr, ...]
    remote_subnets: tuple[Cidr, ...]
    ike: str
    esp: str
    pfs: bool
    ike_lifetime: int | None
    """In seconds; None leaves it to libreswan."""
    sa_lifetime: int | None
    dpd_delay: int
    """In seconds."""
    encapsulation: str
    initiate: bool
    key_type: str
    """``ecdsa`` or ``rsa``: the kind of key in the endpoint's certificate."""
    authority: Certificate | None = field(repr=False)
    """The CA of its certificate; None if that is the cluster's own, or there is no certificate."""


def read_endpoints(
    raw: Sequence[Mapping[str, Any]],
    settings: Settings | None,
    networks: Sequence[Network],
    members: Sequence[Member],
    problems: Problems,
) -> tuple[Endpoint, ...]:
    """Return the endpoints of *raw*, the typed value of the variable; without those that are wrong.

    None at all without *settings*, in which something else is wrong then.
    """
    found = [
        (index, _endpoint(item, f"{VARIABLE}[{index}]", settings, networks, members, problems))
        for index, item in enumerate(raw)
    ]
    endpoints = [(index, endpoint) for index, endpoint in found if endpoint]
    _check_names(raw, problems)
    for (first, one), (second, other) in combinations(endpoints, 2):
        _check_two(first, one, second, other, problems)
    _check_authorities([endpoint for _index, endpoint in endpoints], problems)
    return tuple(endpoint for _index, endpoint in endpoints)


def _endpoint(
    raw: Mapping[str, Any],
    variable: str,
    settings: Settings | None,
    networks: Sequence[Network],
    members: Sequence[Member],
    problems: Problems,
) -> Endpoint | None:
    before = len(problems)
    address = _address(raw["address"], f"{variable}.address", members, problems)
    identity = _identity(raw["id"], f"{variable}.id", members, problems)
    local = _subnets(raw["local_subnets"], f"{variable}.local_subnets", address, problems)
    remote = _subnets(raw["remote_subnets"], f"{variable}.remote_subnets", address, problems)
    network = _network(raw["network"], variable, address, networks, problems)
    connected = _members(raw["members"], variable, network, members, problems)
    _check_subnets(local, remote, variable, networks, connected, problems)
    if raw["mode"] == "transport" and (local or remote):
        problems.add(
            "transport mode is for the two hosts alone, not for subnets behind them",
            "Set it to tunnel, or leave it out",
            variable=f"{variable}.mode",
        )
    _check_psk(raw, identity, variable, problems)
    authority = _authority(raw, variable, settings, problems)
    _check_numbers(raw, variable, problems)
    for key, esp in (("ike", False), ("esp", True)):
        for fault in proposal_faults(raw[key], esp=esp) if raw[key] is not None else ():
            problems.add(fault, "Correct the proposal, or leave it out", variable=f"{variable}.{key}")
    if network is not None and address is not None:
        _check_exceptions(address, network, variable, problems)
    if len(problems) > before or not (address and identity and network and settings):
        return None
    return Endpoint(
        name=raw["name"],
        address=address,
        id=identity,
        auth=raw["auth"],
        network=network.name,
        members=connected,
        mode=raw["mode"] or ("tunnel" if local or remote else network.mode or settings.mode),
        local_subnets=local,
        remote_subnets=remote,
        ike=raw["ike"] or network.ike or settings.ike,
        esp=raw["esp"] or network.esp or settings.esp,
        pfs=raw["pfs"],
        ike_lifetime=raw["ike_lifetime"],
        sa_lifetime=raw["sa_lifetime"],
        dpd_delay=raw["dpd_delay"],
        encapsulation=raw["encapsulation"] or network.encapsulation,
        initiate=raw["initiate"],
        key_type=raw["key_type"] or settings.key_type.split("-", maxsplit=1)[0],
        authority=authority,
    )


def _address(text: str, variable: str, members: Sequence[Member], problems: Problems) -> Address | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        problems.add(
            f"{text!r} is not an address",
            "Write it like 192.0.2.7 or 2001:db8::7, without a prefix length",
            variable=variable,
        )
        return None
    if address.is_multicast or address.is_loopback or address.is_unspecified or address.is_link_local:
        problems.add(f"{address} is not a host's own address", "Set it to the endpoint's", variable=variable)
    owners = [member.name for member in members if address in member.addresses.values()]
    if owners:
        problems.add(
            f"{address} is the address of the member {some(owners)}",
            "Members need no endpoint: remove it, or correct the address",
            variable=variable,
        )
    return address


def _identity(text: str, variable: str, members: Sequence[Member], problems: Problems) -> str | None:
    """Return the id *text* in libreswan's notation; None, and a problem, if it is none."""
    stripped = text.strip()
    if "=" in stripped and _DN.fullmatch(stripped):
        return stripped
    try:
        return str(ipaddress.ip_address(stripped))
    except ValueError:
        pass
    if _MAIL.fullmatch(stripped):
        return stripped
    name = stripped.removeprefix("@").rstrip(".")
    if not _HOST_NAME.fullmatch(name):
        problems.add(
            f"{text!r} is not an id",
            "Write a host name, an address, a mail address or a certificate's subject like 'C=DE, O=Example, CN=gate'; "
            "before a comma or slash in a value goes a backslash",
            variable=variable,
        )
        return None
    owners = [member.name for member in members if member.fqdn == name.lower()]
    if owners:
        problems.add(
            f"{name} is the name in the certificate of the member {some(owners)}",
            "Set it to the endpoint's own id",
            variable=variable,
        )
    return f"@{name}"


def _subnets(
    texts: Sequence[str], variable: str, address: Address | None, problems: Problems
) -> tuple[Cidr, ...]:
    found: list[Cidr] = []
    for index, text in enumerate(texts):
        where = f"{variable}[{index}]"
        cidr = parse_cidr(text, where, problems)
        if cidr is None:
            continue
        if address is not None and cidr.version != address.version:
            problems.add(
                f"{cidr} is IPv{cidr.version}, the endpoint's address is IPv{address.version}",
                "Give it an endpoint of its own, with an address of its family",
                variable=where,
            )
        for other in found:
            if cidr.overlaps(other):
                problems.add(f"{cidr} overlaps {other}", "Make them disjoint", variable=where)
        found.append(cidr)
    return tuple(found)


def _check_subnets(
    local: Sequence[Cidr],
    remote: Sequence[Cidr],
    variable: str,
    networks: Sequence[Network],
    members: Sequence[str],
    problems: Problems,
) -> None:
    for index, cidr in enumerate(remote):
        where = f"{variable}.remote_subnets[{index}]"
        for other in local:
            if cidr.overlaps(other):
                problems.add(
                    f"{cidr} overlaps {other} of local_subnets",
                    "A subnet is behind one of the two ends",
                    variable=where,
                )
        for network in networks:
            if cidr.overlaps(network.cidr):
                problems.add(
                    f"{cidr} overlaps the network {network.name} ({network.cidr}): what members send each other would go to the endpoint",
                    "Name smaller subnets",
                    variable=where,
                )
    if local and len(members) > 1:
        problems.add(
            f"{some(members)} would all claim to be in front of the same subnets",
            "Name the one member that is in 'members'",
            variable=f"{variable}.local_subnets",
        )


def _network(
    name: str | None,
    variable: str,
    address: Address | None,
    networks: Sequence[Network],
    problems: Problems,
) -> Network | None:
    by_name = {network.name: network for network in networks}
    if name is not None:
        network = by_name.get(name)
        if network is None:
            meant = did_you_mean(name, by_name.keys())
            problems.add(
                f"there is no network {name!r} in ipsec_networks",
                f"Did you mean {meant!r}" if meant else f"The networks are {', '.join(by_name)}",
                variable=f"{variable}.network",
            )
        elif address is not None and network.cidr.version != address.version:
            problems.add(
                f"{name} is IPv{network.cidr.version}, the endpoint's address is IPv{address.version}",
                f"Name a network of IPv{address.version}",
                variable=f"{variable}.network",
            )
        return network
    if address is None:
        return None
    network = next((network for network in networks if address in network.cidr), None)
    if network is None:
        problems.add(
            f"{address} lies in no network of ipsec_networks, so it has to be said from which of them members reach it",
            f"Set it to one of {', '.join(by_name)}",
            variable=f"{variable}.network",
        )
    return network


def _members(
    names: Sequence[str],
    variable: str,
    network: Network | None,
    members: Sequence[Member],
    problems: Problems,
) -> tuple[str, ...]:
    """Return the members that connect, in the order of the plan."""
    by_name = {member.name: member for member in members}
    for index, name in enumerate(names):
        member = by_name.get(name)
        if member is None:
            meant = did_you_mean(name, by_name.keys())
            fault, remedy = (
                f"there is no member {name!r}",
                f"Did you mean {meant!r}" if meant else "Use names of the inventory",
            )
        elif network is not None and network.name not in member.addresses:
            fault = f"{name} is not on the network {network.name}"
            remedy = "Take it out, or name another network"
        else:
            continue
        problems.add(fault, remedy, variable=f"{variable}.members[{index}]")
    if network is None:
        return ()
    on_network = [member.name for member in members if network.name in member.addresses]
    return tuple(name for name in on_network if not names or name in names)


def _check_psk(raw: Mapping[str, Any], identity: str | None, variable: str, problems: Problems) -> None:
    psk = raw["psk"]
    where = f"{variable}.psk"
    if raw["auth"] == "certificate":
        if psk is not None:
            problems.add(
                "it is set, and the endpoint authenticates with a certificate",
                "Remove it, or set auth to psk",
                variable=where,
            )
        return
    if psk is None:
        problems.add(
            "it is not set, and auth is psk",
            "Set a long random one, in a vault; the endpoint needs the same",
            variable=where,
        )
        return
    check_key(psk, where, problems)
    if identity is not None and "=" in identity:
        problems.add(
            "libreswan cannot look for a pre-shared key by a certificate's subject",
            "Use a host name or an address",
            variable=f"{variable}.id",
        )


def check_key(psk: str, variable: str, problems: Problems) -> None:
    """Find what keeps *psk* from being a pre-shared key."""
    if len(psk) < _PSK_MINIMUM:
        problems.add(
            f"it is shorter than {_PSK_MINIMUM} characters",
            "Set a long random one, in a vault",
            variable=variable,
        )
    if not _PSK.fullmatch(psk):
        problems.add(
            "it holds a quotation mark or what is not printable ASCII, which libreswan cannot read",
            "Use letters and digits, for example Base64",
            variable=variable,
        )


def _authority(
    raw: Mapping[str, Any], variable: str, settings: Settings | None, problems: Problems
) -> Certificate | None:
    if raw["auth"] == "psk":
        for key in ("ca", "key_type"):
            if raw[key] is not None:
                problems.add(
                    "it is set, and the endpoint authenticates with a pre-shared key",
                    "Remove it, or set auth to certificate",
                    variable=f"{variable}.{key}",
                )
        return None
    if settings and settings.auth == "psk":
        problems.add(
            "it is 'certificate', and with ipsec_auth=psk the members have none",
            "Set it to psk, or ipsec_auth to certificate",
            variable=f"{variable}.auth",
        )
    if raw["ca"] is None:
        return None
    try:
        authority = certificate_from_pem(raw["ca"])
    except CertificateError as error:
        problems.add(
            str(error), "Set it to the text of the CA's certificate in PEM", variable=f"{variable}.ca"
        )
        return None
    if authority.issuer_name != authority.subject_name:
        # pluto 4.10 looks at self-signed ones only.
        problems.add(
            "it is the certificate of an intermediate CA, which libreswan does not take for a root",
            "Set it to the root's certificate; the endpoint has to send the ones in between",
            variable=f"{variable}.ca",
        )
    return authority


def _check_numbers(raw: Mapping[str, Any], variable: str, problems: Problems) -> None:
    for key, smallest, largest in (
        ("ike_lifetime", _SHORTEST_LIFETIME, _LONGEST_LIFETIME),
        ("sa_lifetime", _SHORTEST_LIFETIME, _LONGEST_LIFETIME),
        ("dpd_delay", 1, _LONGEST_DPD_DELAY),
    ):
        if raw[key] is not None and not smallest <= raw[key] <= largest:
            problems.add(
                f"{raw[key]} seconds cannot be",
                f"Set it to {smallest} to {largest} seconds",
                variable=f"{variable}.{key}",
            )


def _check_exceptions(address: Address, network: Network, variable: str, problems: Problems) -> None:
    if any(cidr.num_addresses == 1 and address in cidr for cidr in network.clear_cidrs):
        problems.add(
            f"{address} is to be in clear text on the network {network.name}",
            "Take it out of ipsec_clear and of the network's 'clear', or remove the endpoint",
            variable=f"{variable}.address",
        )


def _check_names(raw: Sequence[Mapping[str, Any]], problems: Problems) -> None:
    first: dict[str, int] = {}
    for index, item in enumerate(raw):
        name, variable = item["name"], f"{VARIABLE}[{index}].name"
        if not _NAME.fullmatch(name):
            problems.add(
                f"{name!r} cannot be part of a connection's name",
                "Use up to 30 lower-case letters, digits, dashes and underscores",
                variable=variable,
            )
        if first.setdefault(name, index) != index:
            problems.add(
                f"{name!r} is also the name of {VARIABLE}[{first[name]}]",
                "Give each endpoint a name of its own",
                variable=variable,
            )


def _check_two(first: int, one: Endpoint, second: int, other: Endpoint, problems: Problems) -> None:
    """Find what two endpoints of the same member cannot share."""
    shared = [name for name in one.members if name in other.members]
    if not shared:
        return
    if one.address == other.address:
        problems.add(
            f"{other.address} is also the address of {VARIABLE}[{first}]",
            "Make one of them, or give them different members",
            variable=f"{VARIABLE}[{second}].address",
        )
    if one.id.lower() == other.id.lower():
        problems.add(
            f"{other.id!r} is also the id of {VARIABLE}[{first}]",
            "Give each endpoint an id of its own",
            variable=f"{VARIABLE}[{second}].id",
        )
    for index, cidr in enumerate(other.remote_subnets):
        for earlier in one.remote_subnets:
            if cidr.overlaps(earlier):
                problems.add(
                    f"{cidr} overlaps {earlier} of {VARIABLE}[{first}]",
                    "A subnet is behind one endpoint",
                    variable=f"{VARIABLE}[{second}].remote_subnets[{index}]",
                )


def _check_authorities(endpoints: Collection[Endpoint], problems: Problems) -> None:
    """Find two CAs of one name, which NSS cannot tell apart."""
    by_subject: dict[bytes, Certificate] = {}
    for endpoint in endpoints:
        authority = endpoint.authority
        if authority and by_subject.setdefault(authority.subject_name, authority) != authority:
            problems.add(
                f"the CA of {endpoint.name!r} has the subject of another endpoint's CA, and is another one",
                "Use the same certificate for both",
                variable=VARIABLE,
            )
