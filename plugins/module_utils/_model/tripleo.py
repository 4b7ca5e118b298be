# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a TripleO inventory and the variables of tripleo-ipsec say, in the words of the cluster model. Pure.

This is the one place where they are translated; docs/tripleo.md has it as a table. The key itself stays
where it is: it is put in by `variables_of`, so that a translation can be shown.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ansible_collections.underlay.ipsec.plugins.module_utils._model.cluster import (
    Address,
    Cidr,
    HostAddress,
    Problems,
    Unreadable,
)
from ansible_collections.underlay.ipsec.plugins.module_utils._model.proposals import proposal_faults

CONTROL_PLANE = "ctlplane"
REDIS = "redis"
PACEMAKER = "pacemaker"
"""The group whose hosts hold virtual addresses."""

VARIABLES = frozenset(
    {
        *("ipsec_psk", "ipsec_algorithm", "ipsec_skip_networks", "ipsec_configure_vips"),
        *("ipsec_setup_resource_agents", "ipsec_skip_firewall_rules", "ipsec_uninstall_tunnels"),
        *("ipsec_upgrade_tunnels", "ipsec_force_install_legacy"),
    }
)
"""The variables of tripleo-ipsec whose names begin like ours."""

_SECRET = "ipsec_psk"
_NETWORK_LISTS = ("enabled_networks", "tripleo_role_networks")
"""Where the networks are listed, the first that any host has: up to Stein's inventory, and from Train's on for each role."""
_SINGLE = frozenset({"overcloud_controller_identifier", "use_opportunistic_ipsec"})
_CLOUD_WIDE = VARIABLES | _SINGLE
_SUFFIXES = ("_ip", "_vip", "_cidr")

_DEFAULT_ALGORITHM = "aes_gcm128-null"
_IKE = "aes_gcm256-sha2_384-dh20,aes_gcm256-sha2_512-dh20"
"""The collection's, and one that libreswan offers by itself: tripleo-ipsec says nothing of IKE, and so its clients do not."""
_LONGEST_NETWORK_NAME = 20
_LONGEST_VIP_NAME = 30
# As for ipsec_psk_secret: what is derived from it is no stronger than itself.
_SHORTEST_PSK = 32


@dataclass(frozen=True)
class Node:
    """A host of the overcloud."""

    name: str
    variables: Mapping[str, Any]
    """Those that `matters` picks; a value may be `Unreadable`."""
    addresses: Sequence[HostAddress] = ()
    """Those that it has; empty if nobody knows."""


@dataclass
class Translation:
    """The variables of the cluster model, without secrets."""

    cluster: dict[str, Any] = field(default_factory=dict)
    """Those that all hosts share."""
    hosts: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Those of each host."""
    keyed: bool = False
    """Whether the keys come from ``ipsec_psk``."""

    def as_dict(self) -> dict[str, Any]:
        """Return it as the result of the action has it."""
        return {"cluster": self.cluster, "hosts": self.hosts, "keyed": self.keyed}


def matters(name: str) -> bool:
    """Return whether the variable *name* has a say: ours, TripleO's or tripleo-ipsec's."""
    return name.startswith("ipsec_") or name in _SINGLE or name in _NETWORK_LISTS or name.endswith(_SUFFIXES)


def translate(nodes: Sequence[Node], groups: Mapping[str, Sequence[str]], problems: Problems) -> Translation:
    """Return what *nodes*, the hosts of the overcloud, mean; variables of ours that they set are left alone."""
    enabled = _enabled(nodes, problems)
    nodes = _relevant(nodes, enabled)
    _check_readable(nodes, problems)
    if problems:
        return Translation()
    shared = _shared(nodes, problems)
    keyed = shared.get("ipsec_auth", "psk") == "psk" and "ipsec_psk_secret" not in shared
    if keyed:
        _check_psk(shared.get(_SECRET), problems)
    if _true(shared, "use_opportunistic_ipsec", False):
        problems.add(
            "null authentication tells nobody from anybody, and there is none here",
            "Set it to false. Groups are made with certificates: ipsec_topology: opportunistic, ipsec_auth: certificate",
            variable="use_opportunistic_ipsec",
        )
    if "ipsec_networks" in shared:
        networks, addresses = _given_networks(nodes, shared["ipsec_networks"])
    else:
        networks, addresses = _networks(nodes, enabled, shared, problems)
    vips = (
        _vips(shared, networks, _holders(nodes, shared, groups, addresses), keyed, problems)
        if _true(shared, "ipsec_configure_vips", True)
        else []
    )
    cluster = {
        "ipsec_topology": "mesh",
        "ipsec_auth": "psk",
        "ipsec_mode": "tunnel",
        "ipsec_ike": _IKE,
        "ipsec_esp": _esp(shared, problems),
        "ipsec_networks": [{"name": name, "cidr": str(cidr)} for name, cidr in networks.items()],
        "ipsec_vips": vips,
        "ipsec_vip_manager": PACEMAKER if _true(shared, "ipsec_setup_resource_agents", True) else "none",
        "ipsec_firewall": "none" if _true(shared, "ipsec_skip_firewall_rules", False) else "auto",
    }
    return Translation(
        {name: value for name, value in cluster.items() if name not in shared},
        {
            node.name: {"ipsec_addresses": addresses[node.name]}
            for node in nodes
            if "ipsec_addresses" not in node.variables
        },
        keyed,
    )


def variables_of(name: str, own: Mapping[str, Any], translation: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the variables of the host *name* in the words of the cluster model.

    *own* are those that it has, *translation* is that of the cloud as a dictionary, or None.
    """
    if translation is None:
        return dict(own)
    result = {key: value for key, value in own.items() if key not in VARIABLES}
    result.update(translation["cluster"], **translation["hosts"].get(name, {}))
    if translation["keyed"]:
        key = own.get(_SECRET)
        result["ipsec_psk_secret"] = key
        if "ipsec_vips" in translation["cluster"]:
            # Clients outside of the cloud know that of a virtual address.
            result["ipsec_vips"] = [{**vip, "psk": key} for vip in translation["cluster"]["ipsec_vips"]]
    return result


def without_former_option(setup: Mapping[str, str]) -> dict[str, str]:
    """Return the options of ``config setup`` in ipsec.conf without the one that tripleo-ipsec put there.

    If there are others, too, somebody may have put all of them there.
    """
    return {} if dict(setup) == {"uniqueids": "no"} else dict(setup)


def _enabled(nodes: Sequence[Node], problems: Problems) -> list[str]:
    """Return the networks of the cloud as the names of variables have them, like ``internal_api`` of ``internal_api_ip``."""
    variable = next((v for v in _NETWORK_LISTS if any(v in node.variables for node in nodes)), None)
    if variable is None:
        return []
    stems = (key[: -len("_ip")] for node in nodes for key in node.variables if key.endswith("_ip"))
    known = {_plain(stem): stem for stem in stems}
    found: dict[str, None] = {}
    for node in nodes:
        value = node.variables.get(variable)
        names = [] if isinstance(value, Unreadable) else _split(value or [])
        if names is None:
            problems.add(
                "it is not a list of names",
                "Write it like [internal_api, storage]",
                variable=variable,
                host=node.name,
            )
        # Newer releases call InternalApi what the addresses call internal_api.
        found.update(dict.fromkeys(known.get(_plain(name), name) for name in names or ()))
    return list(found)


def _plain(name: str) -> str:
    return name.replace("_", "").lower()


def _relevant(nodes: Sequence[Node], enabled: Sequence[str]) -> list[Node]:
    """Return *nodes* without variables of networks that the cloud does not have: those may be anything."""
    networks = {REDIS, CONTROL_PLANE, *enabled}
    names = {f"{network}{suffix}" for network in networks for suffix in _SUFFIXES}
    names |= _SINGLE.union(_NETWORK_LISTS)
    return [
        replace(
            node, variables={k: v for k, v in node.variables.items() if k in names or k.startswith("ipsec_")}
        )
        for node in nodes
    ]


def _check_readable(nodes: Sequence[Node], problems: Problems) -> None:
    for node in nodes:
        for name, value in sorted(node.variables.items()):
            if isinstance(value, Unreadable):
                problems.add(
                    f"its value cannot be read: {value.reason}",
                    "Correct its template, or give the password of the vault",
                    variable=name,
                    host=node.name,
                )


def _shared(nodes: Sequence[Node], problems: Problems) -> dict[str, Any]:
    """Return the variables that are the cloud's: from all hosts that have them, which have to agree."""
    found: dict[str, tuple[Any, str]] = {}
    for node in nodes:
        for name, value in node.variables.items():
            if name not in _CLOUD_WIDE and not name.endswith("_vip") and not name.startswith("ipsec_"):
                continue
            known, where = found.setdefault(name, (value, node.name))
            # What of ours differs is for the plan to find: some may.
            if known != value and (name in _CLOUD_WIDE or name.endswith("_vip")):
                problems.add(
                    f"it differs from the one of {where}",
                    "Set it once for the whole cloud, in the group_vars of the group overcloud",
                    variable=name,
                    host=node.name,
                )
    return {name: value for name, (value, _where) in found.items()}


def _check_psk(psk: Any, problems: Problems) -> None:
    remedy = "Set it to what 'openssl rand -base64 48' prints, in a vault"
    if not psk:
        problems.add(
            "it is not set, and the keys of all tunnels are derived from it", remedy, variable=_SECRET
        )
    elif not isinstance(psk, str) or len(psk) < _SHORTEST_PSK:
        problems.add(
            f"it is shorter than {_SHORTEST_PSK} characters, and the keys of all tunnels are derived from it",
            f"{remedy}. It need not be the one that tripleo-ipsec has used",
            variable=_SECRET,
        )


def _true(variables: Mapping[str, Any], name: str, default: bool) -> bool:
    value = variables.get(name, default)
    return (
        value.strip().lower() in ("true", "yes", "on", "1", "y", "t")
        if isinstance(value, str)
        else bool(value)
    )


def _esp(shared: Mapping[str, Any], problems: Problems) -> str:
    """Return libreswan's ``phase2alg`` in our notation: what comes without integrity of its own is not said."""
    algorithm = str(shared.get("ipsec_algorithm") or _DEFAULT_ALGORITHM)
    found = ",".join(proposal.strip().removesuffix("-null") for proposal in algorithm.split(","))
    faults = proposal_faults(found, esp=True)
    if faults:
        problems.add(
            f"{algorithm!r}: {'; '.join(faults)}",
            "Set it to aes_gcm256-null or another proposal of libreswan's for ESP",
            variable="ipsec_algorithm",
        )
    return found


def _networks(
    nodes: Sequence[Node], enabled: Sequence[str], shared: Mapping[str, Any], problems: Problems
) -> tuple[dict[str, Cidr], dict[str, dict[str, str]]]:
    """Return network → CIDR, and host → network → address."""
    addresses: dict[str, dict[str, str]] = {node.name: {} for node in nodes}
    networks: dict[str, Cidr] = {}
    skipped = _skipped(shared, problems)
    wanted = [name for name in enabled if _plain(name) not in skipped]
    if not wanted:
        problems.add(
            "all of its networks are skipped, or the control plane: there is nothing to encrypt"
            if enabled
            else "it is empty or not set, so that nobody knows which networks there are",
            "Take what is to be encrypted out of ipsec_skip_networks"
            if enabled
            else "Use an inventory that tripleo-ansible-inventory makes, or list the networks, such as [internal_api, storage]",
            variable="enabled_networks",
        )
    for name in wanted:
        if not any(f"{name}_ip" in node.variables for node in nodes):
            problems.add(
                f"no host has it, and {name} is among the networks: it would silently stay in clear",
                "Correct the name in enabled_networks, or put the network into ipsec_skip_networks",
                variable=f"{name}_ip",
            )
        for node in nodes:
            address = _address_on(node, name, problems)
            if address is None:
                continue
            addresses[node.name][_short(name)] = str(address)
            cidr = _cidr_of(node, name, address)
            if cidr is not None:
                _agree(networks, name, cidr, node.name, problems)
        if _short(name) not in networks and any(_short(name) in own for own in addresses.values()):
            problems.add(
                "none of the hosts that were reached has its address, so that nobody knows the CIDR",
                "Correct the addresses in the inventory, run without --limit, or put the network into ipsec_skip_networks",
                variable=f"{name}_ip",
            )
    return networks, addresses


def _given_networks(nodes: Sequence[Node], given: Any) -> tuple[dict[str, Cidr], dict[str, dict[str, str]]]:
    """Return the same for ``ipsec_networks`` that somebody has set; what is wrong with it is for the plan to find."""
    networks: dict[str, Cidr] = {}
    for item in given if isinstance(given, list) else ():
        try:
            networks[str(item["name"])] = ipaddress.ip_network(item["cidr"])
        except (TypeError, KeyError, ValueError):
            continue
    addresses: dict[str, dict[str, str]] = {node.name: {} for node in nodes}
    for node in nodes:
        own = (_address(str(value)) for key, value in sorted(node.variables.items()) if key.endswith("_ip"))
        for address in filter(None, own):
            for name, cidr in networks.items():
                if address in cidr:
                    addresses[node.name].setdefault(name, str(address))
    return networks, addresses


def _skipped(shared: Mapping[str, Any], problems: Problems) -> frozenset[str]:
    """Return the `_plain` names of what stays in clear."""
    names = _split(shared.get("ipsec_skip_networks") or [])
    if names is None:
        problems.add(
            "it is not a list of names",
            "Write it like [internal_api, storage]",
            variable="ipsec_skip_networks",
        )
    return frozenset(map(_plain, (CONTROL_PLANE, *(names or ()))))


def _split(value: Any) -> list[str] | None:
    """Return the names in a list, or in words with commas between them, as on a command line; None if it is neither."""
    if isinstance(value, str):
        value = value.strip("[] ").split(",")
    if not isinstance(value, (list, tuple)) or not all(isinstance(name, str) for name in value):
        return None
    return [name for item in value if (name := str(item).strip("'\" "))]


def _address_on(node: Node, network: str, problems: Problems) -> Address | None:
    """Return the address of *node* on *network*; None if it is not on it."""
    value = node.variables.get(f"{network}_ip")
    # A host that is not on a network has its address on the control plane there.
    if not value or value == node.variables.get(f"{CONTROL_PLANE}_ip"):
        return None
    address = _address(str(value))
    if address is None:
        problems.add(
            f"{value!r} is not an address",
            "Write it like 172.16.2.11 or fd00:2::11",
            variable=f"{network}_ip",
            host=node.name,
        )
    return address


def _address(text: str) -> Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _short(name: str) -> str:
    """Return the name of a network as ours can be."""
    return name.lower()[:_LONGEST_NETWORK_NAME]


def _cidr_of(node: Node, network: str, address: Address) -> Cidr | None:
    """Return the CIDR of *address*, as the host has it, or else as newer inventories say."""
    for found in node.addresses:
        if found.address == address and found.prefix < address.max_prefixlen:
            return ipaddress.ip_network(f"{address}/{found.prefix}", strict=False)
    prefix = str(node.variables.get(f"{network}_cidr") or "")
    if not node.addresses and prefix.isdecimal() and int(prefix) < address.max_prefixlen:
        return ipaddress.ip_network(f"{address}/{prefix}", strict=False)
    return None


def _agree(networks: dict[str, Cidr], name: str, cidr: Cidr, host: str, problems: Problems) -> None:
    known = networks.setdefault(_short(name), cidr)
    if known != cidr:
        problems.add(
            f"the network is {cidr} there, and {known} on other hosts",
            "Correct the address or its prefix length on one of them, or, if each rack has a subnet, list all of them in ipsec_networks",
            variable=f"{name}_ip",
            host=host,
        )


def _holders(
    nodes: Sequence[Node],
    shared: Mapping[str, Any],
    groups: Mapping[str, Sequence[str]],
    addresses: Mapping[str, Mapping[str, str]],
) -> dict[str, list[str]]:
    """Return network → the hosts on it that may hold virtual addresses."""
    identifier = str(shared.get("overcloud_controller_identifier") or "controller")
    members = groups.get(PACEMAKER) or [node.name for node in nodes if identifier in node.name]
    found: dict[str, list[str]] = {}
    for name in sorted(set(members) & set(addresses)):
        for network in addresses[name]:
            found.setdefault(network, []).append(name)
    return found


def _vips(
    shared: Mapping[str, Any],
    networks: Mapping[str, Cidr],
    holders: Mapping[str, Sequence[str]],
    keyed: bool,
    problems: Problems,
) -> list[dict[str, Any]]:
    """Return the items of ``ipsec_vips``; with keys, the ids are those of tripleo-ipsec, so that its clients know them."""
    skipped = _skipped(shared, Problems())
    found = []
    for key in sorted(key for key in shared if key.endswith("_vip") and shared[key]):
        name = key.removesuffix("_vip")
        if _plain(name) in skipped:
            continue
        address = _address(str(shared[key]))
        if address is None:
            problems.add(
                f"{shared[key]!r} is not an address",
                "Write it like 172.16.2.250 or fd00:2::250",
                variable=key,
            )
            continue
        network = next((n for n, cidr in networks.items() if address in cidr), None)
        own = networks.get(_short(name)) if name != REDIS and "ipsec_networks" not in shared else None
        if own is not None and network != _short(name):
            problems.add(
                f"{address} lies outside of its network ({own})",
                "Correct the address, or put the network into ipsec_skip_networks",
                variable=key,
            )
        # That of Redis has a network that is not said, which may be skipped.
        elif network is not None:
            found.append(
                {
                    "name": name.lower()[:_LONGEST_VIP_NAME],
                    "address": str(address),
                    "network": network,
                    "holders": list(holders.get(network, ())),
                    **({"id": f"@{name}vip"} if keyed else {}),
                }
            )
    return found
