# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ``ipsec_*`` variables of all hosts to the cluster model, every problem at once."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ansible_collections.underlay.ipsec.plugins.module_utils._model.certificates import CA_FILES, check_source
from ansible_collections.underlay.ipsec.plugins.module_utils._model.cluster import (
    Address,
    Cidr,
    ClearEntry,
    Host,
    Network,
    Problems,
    Settings,
)
from ansible_collections.underlay.ipsec.plugins.module_utils._model.proposals import proposal_faults
from ansible_collections.underlay.ipsec.plugins.module_utils._model.tripleo import (
    VARIABLES as TRIPLEO_VARIABLES,
)
from ansible_collections.underlay.ipsec.plugins.module_utils._model.typed import Spec, did_you_mean, typed

PREFIX = "ipsec_"
HOST_VARIABLES = frozenset(
    {
        *("ipsec_addresses", "ipsec_nat_addresses", "ipsec_fqdn"),
        *("ipsec_pkcs12", "ipsec_pkcs12_password", "ipsec_pkcs12_password_file"),
    }
)
"""The variables that may differ between members; all others are the cluster's."""

# ipsec_endpoints and ipsec_vips have keys in them.
_SECRETS = frozenset(
    {
        *("ipsec_ca_passphrase", "ipsec_ca_key_passphrase", "ipsec_pkcs12_password"),
        *("ipsec_psk_secret", "ipsec_endpoints", "ipsec_vips"),
    }
)
_PASSPHRASE_MINIMUM = 8
# What is derived from it is no stronger than itself: 32 random characters of Base64 are 192 bits.
_PSK_SECRET_MINIMUM = 32
_LONGEST_VALIDITY_DAYS = 36500

_NOT_YET_VALUES: Mapping[str, str] = {"ipsec_state": "absent"}

_MEMBER_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")
_NETWORK_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,19}")
# Other connections have them where those of a mesh have their network.
_RESERVED_NETWORK_NAMES: Mapping[str, str] = {
    "endpoint": "endpoints",
    "vip": "virtual addresses",
    "vip-any": "virtual addresses",
}
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_LONGEST_COMMON_NAME = 64

# Longer names are none for iptables.
_CHAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,27}")

_PROTOCOLS = ("tcp", "udp", "sctp", "icmp", "ipv6-icmp")
_SMALLEST_MTU = {4: 576, 6: 1280}
_LARGEST_MTU = 65535


def some(names: Iterable[str], limit: int = 5) -> str:
    """Return *names* as a phrase that stays readable however many they are."""
    listed = list(names)
    rest = len(listed) - limit
    return ", ".join(listed[:limit]) + (f" and {rest} more" if rest > 0 else "")


def check_names(hosts: Sequence[Host], specs: Mapping[str, Spec], problems: Problems) -> None:
    """Find variables that are misspelt or not supported yet, and hosts whose names cannot be used."""
    for host in hosts:
        if host.name.endswith(".vip"):
            problems.add(
                "virtual addresses have such names in reports",
                "Give it an inventory name that does not end in .vip",
                host=host.name,
            )
        if not _MEMBER_NAME.fullmatch(host.name):
            problems.add(
                "its inventory name cannot be the name of a file and of a certificate",
                "Name it with up to 100 letters, digits, dots, dashes and underscores, and put the address into ansible_host",
                host=host.name,
            )
        for name in sorted(host.variables.keys() - specs.keys()):
            if name in TRIPLEO_VARIABLES:
                problems.add(
                    "this is a variable of tripleo-ipsec",
                    "Use the playbook underlay.ipsec.tripleo, which understands it, or remove it",
                    variable=name,
                    host=host.name,
                )
                continue
            # What all names begin with would make any two of them similar.
            meant = did_you_mean(name[len(PREFIX) :], [known[len(PREFIX) :] for known in specs])
            problems.add(
                f"there is no such variable{f', did you mean {PREFIX}{meant}' if meant else ''}",
                "Rename or remove it: names that begin with ipsec_ are the collection's",
                variable=name,
                host=host.name,
            )


def _values(hosts: Sequence[Host], name: str, default: Any) -> list[tuple[Any, list[str]]]:
    """Return the distinct values of a variable, each with the hosts that have it."""
    distinct: list[tuple[Any, list[str]]] = []
    for host in hosts:
        value = host.variables.get(name, default)
        for known, names in distinct:
            if known == value and type(known) is type(value):
                names.append(host.name)
                break
        else:
            distinct.append((value, [host.name]))
    return distinct


def _cluster_values(hosts: Sequence[Host], specs: Mapping[str, Spec], problems: Problems) -> dict[str, Any]:
    """Return the typed value of each cluster-wide variable; None for those that are wrong or not set."""
    result: dict[str, Any] = {}
    for name, spec in specs.items():
        if name in HOST_VARIABLES:
            continue
        values = _values(hosts, name, spec.get("default"))
        if len(values) > 1:
            shown = "; ".join(
                f"{'a value' if name in _SECRETS else repr(value)} on {some(names)}"
                for value, names in values[:4]
            )
            problems.add(
                f"it differs between members: {shown}",
                "Set it once for the whole group, in its group_vars",
                variable=name,
                host=values[1][1][0],
            )
        value = values[0][0]
        if value is None:
            result[name] = None
        elif value == _NOT_YET_VALUES.get(name):
            problems.add(
                f"this release does not support {value!r} yet", f"Set it to {spec['default']}", variable=name
            )
            result[name] = None
        else:
            result[name] = typed(value, spec, variable=name, problems=problems)
    return result


def parse_cidr(text: str, variable: str, problems: Problems, *, host: str | None = None) -> Cidr | None:
    """Return the CIDR that *text* is; None, and a problem, if it is none."""
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        pass
    try:
        meant = ipaddress.ip_network(text, strict=False)
    except ValueError:
        problems.add(
            f"{text!r} is not an address or CIDR",
            "Write it like 10.88.0.0/24 or fd00:88::/64",
            variable=variable,
            host=host,
        )
    else:
        problems.add(
            f"{text!r} is an address inside a network, not the network",
            f"Write {str(meant)!r}",
            variable=variable,
            host=host,
        )
    return None


def parse_clear_entry(text: str, variable: str, problems: Problems) -> ClearEntry | None:
    """Return the exception that *text* is: ``CIDR`` or ``CIDR proto sport dport``; None, and a problem, if it is none."""
    fields = text.split()
    if len(fields) not in (1, 4):
        problems.add(
            f"{text!r} has {len(fields)} fields",
            "Write 'CIDR' or 'CIDR protocol source-port destination-port', for example '10.88.0.0/24 tcp 0 22'",
            variable=variable,
        )
        return None
    cidr = parse_cidr(fields[0], variable, problems)
    if len(fields) == 1:
        return ClearEntry(cidr) if cidr else None
    protocol, *ports = fields[1:]
    before = len(problems)
    if protocol.lower() not in _PROTOCOLS and not (protocol.isdigit() and 0 < int(protocol) < 256):
        problems.add(
            f"{protocol!r} in {text!r} is not a protocol",
            f"Use {', '.join(_PROTOCOLS)} or a number from 1 to 255",
            variable=variable,
        )
    for port in ports:
        if not (port.isdigit() and int(port) < 65536):
            problems.add(
                f"{port!r} in {text!r} is not a port",
                "Use a number from 0 (any port) to 65535",
                variable=variable,
            )
    if cidr is None or len(problems) > before:
        return None
    return ClearEntry(cidr, protocol.lower(), int(ports[0]), int(ports[1]))


def _clear_entries(texts: Sequence[str], variable: str, problems: Problems) -> list[tuple[str, ClearEntry]]:
    found = ((f"{variable}[{index}]", text) for index, text in enumerate(texts))
    return [(name, entry) for name, text in found if (entry := parse_clear_entry(text, name, problems))]


def _network(raw: Mapping[str, Any], variable: str, encapsulation: str, problems: Problems) -> Network | None:
    """Return one item of ipsec_networks, with its own exceptions only; None, and problems, if it is wrong."""
    before = len(problems)
    name = raw["name"]
    if not _NETWORK_NAME.fullmatch(name):
        problems.add(
            f"{name!r} cannot be part of a connection's name",
            "Use up to 20 lower-case letters, digits, dashes and underscores",
            variable=f"{variable}.name",
        )
    elif name in _RESERVED_NETWORK_NAMES:
        problems.add(
            f"{name!r} is what connections with {_RESERVED_NETWORK_NAMES[name]} are called",
            "Give the network another name",
            variable=f"{variable}.name",
        )
    cidr = parse_cidr(raw["cidr"], f"{variable}.cidr", problems)
    clear = _clear_entries(raw["clear"], f"{variable}.clear", problems)
    mtu = raw["mtu"]
    if cidr is not None:
        _check_cidr(cidr, f"{variable}.cidr", problems)
        if mtu is not None and not _SMALLEST_MTU[cidr.version] <= mtu <= _LARGEST_MTU:
            problems.add(
                f"{mtu} is not an MTU of IPv{cidr.version}",
                f"Use {_SMALLEST_MTU[cidr.version]} to {_LARGEST_MTU}, or leave it out",
                variable=f"{variable}.mtu",
            )
        for where, entry in clear:
            if entry.cidr.version != cidr.version:
                problems.add(
                    f"'{entry}' is IPv{entry.cidr.version} in an IPv{cidr.version} network",
                    "Remove it",
                    variable=where,
                )
    for key in ("ike", "esp"):
        _check_proposals(raw[key], f"{variable}.{key}", problems, esp=key == "esp")
    if cidr is None or len(problems) > before:
        return None
    return Network(
        name,
        cidr,
        tuple(entry for where, entry in clear),
        raw["encapsulation"] or encapsulation,
        mtu,
        raw["mode"],
        raw["ike"],
        raw["esp"],
    )


def _check_proposals(text: str | None, variable: str, problems: Problems, *, esp: bool) -> None:
    for fault in proposal_faults(text, esp=esp) if text is not None else ():
        problems.add(fault, "Correct the proposal, or leave the default", variable=variable)


def _check_cidr(cidr: Cidr, variable: str, problems: Problems) -> None:
    if cidr.prefixlen == 0:
        what = "is every address there is"
    elif cidr.num_addresses == 1:
        what = "is a single address"
    elif cidr.is_loopback or cidr.is_multicast or cidr.is_link_local:
        what = "is not a network of hosts' own addresses"
    else:
        return
    problems.add(f"{cidr} {what}", "Use the CIDR of the network between the members", variable=variable)


def _parse_networks(
    raw: Sequence[Mapping[str, Any]], encapsulation: str, problems: Problems
) -> tuple[Network, ...] | None:
    before = len(problems)
    networks = [
        _network(item, f"ipsec_networks[{index}]", encapsulation, problems) for index, item in enumerate(raw)
    ]
    for index, network in enumerate(networks):
        for earlier, other in enumerate(networks[:index]):
            if network is None or other is None:
                continue
            if network.name == other.name:
                problems.add(
                    f"{network.name!r} is also the name of ipsec_networks[{earlier}]",
                    "Give each network a name of its own",
                    variable=f"ipsec_networks[{index}].name",
                )
            if network.cidr.overlaps(other.cidr):
                problems.add(
                    f"{network.cidr} overlaps {other.cidr} of ipsec_networks[{earlier}] ({other.name})",
                    "Make the networks disjoint",
                    variable=f"ipsec_networks[{index}].cidr",
                )
    return None if len(problems) > before else tuple(network for network in networks if network)


def with_exceptions(
    networks: Sequence[Network],
    common: Sequence[tuple[str, ClearEntry]],
    problems: Problems,
    warnings: list[str],
) -> tuple[Network, ...]:
    """Return *networks* with the *common* exceptions added and all of them cut down to their network.

    An exception that touches no network is left out with a warning. One that would put
    a whole network in clear is a problem.
    """
    for where, entry in common:
        if not any(entry.cidr.overlaps(network.cidr) for network in networks):
            warnings.append(f"{where}: '{entry}' lies in no network of ipsec_networks and has no effect")
    result = []
    for network in networks:
        for entry in network.clear:
            if not entry.cidr.overlaps(network.cidr):
                warnings.append(
                    f"ipsec_networks ({network.name}): '{entry}' lies outside {network.cidr} and has no effect"
                )
        entries = [entry for where, entry in common] + list(network.clear)
        inside = {
            replace(entry, cidr=network.cidr) if entry.cidr.prefixlen < network.cidr.prefixlen else entry
            for entry in entries
            if entry.cidr.overlaps(network.cidr)
        }
        merged = replace(network, clear=tuple(sorted(inside, key=_clear_order)))
        if network.cidr in ipaddress.collapse_addresses(merged.clear_cidrs):  # type: ignore[type-var]
            problems.add(
                f"the exceptions for the network {network.name} cover all of {network.cidr}",
                "Name smaller ranges, or take the network out of ipsec_networks, or set ipsec_enforcement to clear",
                variable="ipsec_clear",
            )
        result.append(merged)
    return tuple(result)


def _clear_order(entry: ClearEntry) -> tuple[Any, ...]:
    return (
        int(entry.cidr.network_address),
        entry.cidr.prefixlen,
        entry.protocol or "",
        entry.source_port,
        entry.destination_port,
    )


def _check_validity(values: Mapping[str, Any], problems: Problems) -> None:
    def days(name: str) -> int | None:
        value: int | None = values[name]
        if value is not None and not 0 < value <= _LONGEST_VALIDITY_DAYS:
            problems.add(
                f"{value} days cannot be", f"Set it to 1 to {_LONGEST_VALIDITY_DAYS} days", variable=name
            )
            return None
        return value

    authority = days("ipsec_ca_validity_days")
    certificate = days("ipsec_cert_validity_days")
    renewal = days("ipsec_cert_renew_before_days")
    days("ipsec_crl_validity_days")
    if authority and certificate and certificate > authority:
        problems.add(
            f"a certificate of {certificate} days would outlive its CA of {authority} days",
            "Set it to no more than ipsec_ca_validity_days",
            variable="ipsec_cert_validity_days",
        )
    if certificate and renewal and renewal >= certificate:
        problems.add(
            f"a certificate of {certificate} days would be renewed at once, {renewal} days before its end",
            "Set it to less than ipsec_cert_validity_days",
            variable="ipsec_cert_renew_before_days",
        )


def _check_cluster_values(values: Mapping[str, Any], hosts: Sequence[Host], problems: Problems) -> None:
    for name, esp in (("ipsec_ike", False), ("ipsec_esp", True)):
        _check_proposals(values[name], name, problems, esp=esp)
    _check_validity(values, problems)
    for name in ("ipsec_ca_dir", "ipsec_report_dir", "ipsec_signing_dir"):
        if values[name] is not None and not values[name].strip():
            problems.add("it is empty", "Set it to a directory on the controller", variable=name)
    if values["ipsec_verify_timeout"] is not None and not 1 <= values["ipsec_verify_timeout"] <= 3600:
        problems.add(
            f"{values['ipsec_verify_timeout']} seconds cannot be",
            "Set it to 1 to 3600 seconds",
            variable="ipsec_verify_timeout",
        )
    _check_firewall(values, problems)
    _check_secrets(values, hosts, problems)
    if values["ipsec_auth"] == "certificate":
        check_source(values, hosts, problems)


def _check_firewall(values: Mapping[str, Any], problems: Problems) -> None:
    chain = values["ipsec_firewall_chain"]
    if chain is not None and not _CHAIN.fullmatch(chain):
        problems.add(
            f"{chain!r} cannot be the name of a chain",
            "Name a chain of the table filter of iptables, for example OS_FIREWALL_ALLOW",
            variable="ipsec_firewall_chain",
        )
    for name in ("ipsec_fail_closed", "ipsec_mss_clamp"):
        if values[name] and values["ipsec_firewall"] == "none":
            problems.add(
                "it is for the firewall to do, and ipsec_firewall is none",
                f"Set ipsec_firewall to auto, or {name} to false",
                variable=name,
            )
    if values["ipsec_fail_closed"] and values["ipsec_enforcement"] in ("clear", "private-or-clear"):
        problems.add(
            f"ipsec_enforcement is {values['ipsec_enforcement']!r}, which lets clear text through",
            "Set ipsec_enforcement to private, or ipsec_fail_closed to false",
            variable="ipsec_fail_closed",
        )


def _fails_closed(values: Mapping[str, Any]) -> bool:
    if values["ipsec_fail_closed"] is not None:
        return bool(values["ipsec_fail_closed"])
    return bool(values["ipsec_enforcement"] == "private" and values["ipsec_firewall"] != "none")


def _check_secrets(values: Mapping[str, Any], hosts: Sequence[Host], problems: Problems) -> None:
    psk = values["ipsec_auth"] == "psk"
    own_ca = not psk and values["ipsec_certificate_source"] == "ca"
    if psk and values["ipsec_topology"] == "opportunistic":
        problems.add(
            "'psk' needs a key for each pair, and opportunistic connections do not know their peers: "
            "all members would have to share one",
            "Set ipsec_topology to mesh, or ipsec_auth to certificate",
            variable="ipsec_auth",
        )
    for name, minimum, needed, purpose in (
        ("ipsec_ca_passphrase", _PASSPHRASE_MINIMUM, own_ca, "the CA's key is encrypted with it"),
        ("ipsec_psk_secret", _PSK_SECRET_MINIMUM, psk, "the keys of all pairs are derived from it"),
    ):
        secret = values[name]
        if secret is not None and len(secret) < minimum:
            problems.add(
                "it is empty" if not secret else f"it is shorter than {minimum} characters",
                "Set a long random one, in a vault",
                variable=name,
            )
        if needed and all(host.variables.get(name) is None for host in hosts):
            problems.add(f"it is not set, and {purpose}", "Set a long random one, in a vault", variable=name)


@dataclass(frozen=True)
class Cluster:
    """What the cluster-wide variables say, before anything is known of the hosts."""

    settings: Settings | None
    """None if something is wrong."""
    networks: tuple[Network, ...] | None
    """Empty if the user leaves them to the default route; None if something is wrong."""
    exceptions: tuple[tuple[str, ClearEntry], ...]
    """Those of ipsec_clear, each with the name of its place."""
    encapsulation: str
    """What networks that do not say otherwise have."""
    endpoints: Sequence[Mapping[str, Any]] = field(default=(), repr=False)
    """The typed value of ipsec_endpoints, see `endpoints.read_endpoints`."""
    vips: Sequence[Mapping[str, Any]] = field(default=(), repr=False)
    """The typed value of ipsec_vips, see `vips.read_vips`."""
    auth: str | None = None
    """None if it is wrong."""
    certificate_source: str | None = None
    """None if it is wrong."""
    certificate_files: Mapping[str, str] = field(default_factory=dict)
    """Variable → path on the controller, of `certificates.CA_FILES`."""
    psk_secret: str | None = field(default=None, repr=False)
    """What the keys of pairs are derived from; it is not for the plan."""


def read_cluster(hosts: Sequence[Host], group: str, specs: Mapping[str, Spec], problems: Problems) -> Cluster:
    """Return what the cluster-wide variables of *hosts* say; *specs* are the options of the role plan."""
    before = len(problems)
    values = _cluster_values(hosts, specs, problems)
    _check_cluster_values(values, hosts, problems)
    encapsulation = values["ipsec_encapsulation"] or "auto"
    networks = (
        None
        if values["ipsec_networks"] is None
        else _parse_networks(values["ipsec_networks"], encapsulation, problems)
    )
    exceptions = tuple(_clear_entries(values["ipsec_clear"] or (), "ipsec_clear", problems))
    settings = None
    if len(problems) == before:
        settings = Settings(
            group=group,
            enforcement=values["ipsec_enforcement"],
            topology=values["ipsec_topology"],
            auth=values["ipsec_auth"],
            mode=values["ipsec_mode"],
            ike=values["ipsec_ike"],
            esp=values["ipsec_esp"],
            key_type=values["ipsec_key_type"],
            cert_validity_days=values["ipsec_cert_validity_days"],
            cert_renew_before_days=values["ipsec_cert_renew_before_days"],
            exempt_controller=values["ipsec_exempt_controller"],
            certificate_source=values["ipsec_certificate_source"],
            crl_strict=values["ipsec_crl_strict"],
            firewall=values["ipsec_firewall"],
            firewall_chain=values["ipsec_firewall_chain"],
            fail_closed=_fails_closed(values),
            mtu=values["ipsec_mtu"],
            mtu_overlays=tuple(values["ipsec_mtu_overlays"]),
            mss_clamp=values["ipsec_mss_clamp"],
            vip_manager=values["ipsec_vip_manager"],
        )
    return Cluster(
        settings,
        networks,
        exceptions,
        encapsulation,
        endpoints=values["ipsec_endpoints"] or (),
        vips=values["ipsec_vips"] or (),
        auth=values["ipsec_auth"],
        certificate_source=values["ipsec_certificate_source"],
        certificate_files={name: values[name] for name in CA_FILES if values[name]},
        psk_secret=values["ipsec_psk_secret"],
    )


def read_fqdns(hosts: Sequence[Host], specs: Mapping[str, Spec], problems: Problems) -> dict[str, str]:
    """Return the name in each member's certificate, by member."""
    owners: dict[str, str] = {}
    result = {}
    for host in hosts:
        raw = host.variables.get("ipsec_fqdn", host.name)
        text = typed(raw, specs["ipsec_fqdn"], variable="ipsec_fqdn", problems=problems, host=host.name)
        if text is None:
            continue
        fqdn = text.lower().rstrip(".")
        labels = fqdn.split(".")
        if len(fqdn) > _LONGEST_COMMON_NAME:
            fault = f"has more than the {_LONGEST_COMMON_NAME} characters that a certificate's name may have"
        elif not all(_LABEL.fullmatch(label) for label in labels) or labels[-1].isdigit():
            fault = "is not a host name"
        elif fqdn in owners:
            fault = f"is also the name of {owners[fqdn]}"
        else:
            owners[fqdn] = host.name
            result[host.name] = fqdn
            continue
        problems.add(
            f"{text!r} {fault}",
            "Set ipsec_fqdn of this host to a host name of its own",
            variable="ipsec_fqdn",
            host=host.name,
        )
    return result


def read_addresses(
    host: Host, specs: Mapping[str, Spec], problems: Problems, variable: str = "ipsec_addresses"
) -> dict[str, Address] | None:
    """Return what *variable* of *host* says, by network name; None if it is not set or wrong."""
    raw = host.variables.get(variable)
    if not raw:
        return None
    before = len(problems)
    value = typed(raw, specs[variable], variable=variable, problems=problems, host=host.name)
    if value is None:
        return None
    result: dict[str, Address] = {}
    for name, text in sorted(value.items()):
        try:
            result[str(name)] = ipaddress.ip_address(str(text))
        except ValueError:
            problems.add(
                f"{text!r} is not an address",
                "Write it like 10.88.0.11 or fd00:88::11, without a prefix length",
                variable=f"{variable}.{name}",
                host=host.name,
            )
    return None if len(problems) > before else result
