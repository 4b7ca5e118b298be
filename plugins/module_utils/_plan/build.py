# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Model to plan: one document for the cluster, and a slice for each host of this run.

The same input gives the same bytes. A slice does not grow with the number of hosts.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from types import MappingProxyType
from typing import Any

from ansible_collections.underlay.ipsec.plugins.module_utils._errors import Problem, ProblemsError
from ansible_collections.underlay.ipsec.plugins.module_utils._model.cluster import (
    Host,
    Member,
    Network,
    Problems,
    Settings,
)
from ansible_collections.underlay.ipsec.plugins.module_utils._model.endpoints import Endpoint, read_endpoints
from ansible_collections.underlay.ipsec.plugins.module_utils._model.typed import Spec
from ansible_collections.underlay.ipsec.plugins.module_utils._model.variables import (
    Cluster,
    check_names,
    read_addresses,
    read_cluster,
    read_fqdns,
    some,
    with_exceptions,
)
from ansible_collections.underlay.ipsec.plugins.module_utils._model.vips import (
    Vip,
    check_clusters,
    check_no_nat,
    check_owners,
    names_held,
    read_vips,
    vip_addresses,
)
from ansible_collections.underlay.ipsec.plugins.module_utils._pki.bundle import Bundle
from ansible_collections.underlay.ipsec.plugins.module_utils._plan.addresses import (
    check_unique,
    default_networks,
    literal_address,
    member_addresses,
    stray,
)
from ansible_collections.underlay.ipsec.plugins.module_utils._plan.certificates import (
    Read,
    check_authorities,
    kind_of,
    read_bundles,
    read_file,
    read_files,
    subject_of,
)
from ansible_collections.underlay.ipsec.plugins.module_utils._plan.endpoints import (
    authorities_of,
    endpoints_document,
    endpoints_of,
)
from ansible_collections.underlay.ipsec.plugins.module_utils._plan.exceptions import (
    clear_members,
    controller_warnings,
    gateway_warnings,
    member_warnings,
    policies,
)
from ansible_collections.underlay.ipsec.plugins.module_utils._plan.firewall import (
    check_controller,
    choose_backend,
    closed_traffic,
    open_to,
)
from ansible_collections.underlay.ipsec.plugins.module_utils._plan.limit import limit_problem
from ansible_collections.underlay.ipsec.plugins.module_utils._plan.mtu import (
    clamp,
    effective_mtus,
    interfaces_of,
    mtu_problems,
    slice_mtu,
)
from ansible_collections.underlay.ipsec.plugins.module_utils._plan.nat import check_nat
from ansible_collections.underlay.ipsec.plugins.module_utils._plan.preflight import preflight
from ansible_collections.underlay.ipsec.plugins.module_utils._plan.vips import (
    clusters_of,
    vips_document,
    vips_of,
)

VERSION = 1
"""The version of the format of plan.json and of the slices."""

_ORGANIZATION = "underlay.ipsec"


@dataclass(frozen=True)
class Plan:
    """What the cluster is to be."""

    document: Mapping[str, Any]
    """The content of plan.json."""
    slices: Mapping[str, Mapping[str, Any]]
    """The content of hosts/NAME.json for each member that was reached in this run."""


def as_json(data: Mapping[str, Any]) -> str:
    """Return *data* as the plan's files have it."""
    return json.dumps(data, indent=1, sort_keys=True) + "\n"


def _network_document(network: Network, members: Sequence[Member], settings: Settings) -> dict[str, Any]:
    return {
        "name": network.name,
        "cidr": str(network.cidr),
        "family": network.cidr.version,
        "clear": [str(entry) for entry in network.clear],
        "clear_members": clear_members(members, network),
        "mode": network.mode or settings.mode,
        "ike": network.ike or settings.ike,
        "esp": network.esp or settings.esp,
        "encapsulation": network.encapsulation,
        "mtu": network.mtu,
    }


def _document(
    settings: Settings,
    networks: Sequence[Network],
    members: Mapping[str, Member],
    endpoints: Sequence[Endpoint],
    vips: Sequence[Vip],
    mtus: Mapping[str, int | None],
    warnings: Sequence[str],
) -> dict[str, Any]:
    state: dict[str, Any] = {
        "version": VERSION,
        "group": settings.group,
        "enforcement": settings.enforcement,
        "fail_closed": settings.fail_closed,
        "topology": settings.topology,
        "auth": settings.auth,
        "networks": [_network_document(network, list(members.values()), settings) for network in networks],
        "members": {
            name: {
                "fqdn": member.fqdn,
                "addresses": {key: str(address) for key, address in member.addresses.items()},
                "nat_addresses": {key: str(address) for key, address in member.nat_addresses.items()},
            }
            for name, member in members.items()
        },
        "endpoints": endpoints_document(endpoints),
        "vips": vips_document(vips),
        "certificates": {
            "source": settings.certificate_source,
            "renew_before_days": settings.cert_renew_before_days,
            "crl_strict": settings.crl_strict,
        }
        if settings.auth == "certificate"
        else None,
    }
    digest = hashlib.sha256(json.dumps(state, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
    # What the networks carry was seen on the hosts that were reached.
    seen = [{**network, "mtu": mtus[network["name"]]} for network in state["networks"]]
    return {**state, "networks": seen, "digest": digest, "warnings": list(warnings)}


def _slice(
    settings: Settings,
    networks: Sequence[Network],
    member: Member,
    host: Host,
    taken: frozenset[Any],
    endpoints: Sequence[Endpoint],
    vips: Sequence[Vip],
    bundle: Bundle | None,
) -> dict[str, Any]:
    controller = host.facts.controller_address if host.facts and settings.exempt_controller else None
    if controller in taken:
        controller = None
    on_networks = []
    for network in networks:
        address = member.addresses.get(network.name)
        if address is None:
            continue
        own_connections = [vip.address for vip in vips if vip.network == network.name]
        private, clear = policies(
            address, network, controller, own_connections if settings.topology == "opportunistic" else ()
        )
        on_networks.append(
            {
                "name": network.name,
                "family": network.cidr.version,
                "cidr": str(network.cidr),
                "address": str(address),
                # Through NAT there is no other; towards the other members it is so for this one alone.
                "mode": "tunnel" if network.name in member.nat_addresses else network.mode or settings.mode,
                "ike": network.ike or settings.ike,
                "esp": network.esp or settings.esp,
                "encapsulation": network.encapsulation,
                "mtu": network.mtu,
                "private": private,
                "clear": clear,
            }
        )
    nickname = f"underlay-{member.name}" if settings.auth == "certificate" else None
    return {
        "version": VERSION,
        "member": member.name,
        "fqdn": member.fqdn,
        "enforcement": settings.enforcement,
        "state": "present",
        "certificate": {
            "nickname": nickname,
            "source": settings.certificate_source,
            "subject": subject_of(bundle) if bundle else {"CN": member.fqdn, "O": _ORGANIZATION},
            "dns": [member.fqdn, *names_held(vips, member.name)],
            "ip": [str(network["address"]) for network in on_networks],
            "fingerprint": bundle.fingerprint if bundle else None,
            "key_type": bundle.key_type if bundle else settings.key_type,
            "validity_days": settings.cert_validity_days,
            "renew_before_days": settings.cert_renew_before_days,
        }
        if nickname
        else None,
        "authorities": authorities_of(member.name, endpoints),
        "libreswan": {
            "topology": settings.topology,
            "member": member.name,
            "fqdn": member.fqdn,
            "certificate": nickname,
            "authby": _authby(settings),
            "ike": settings.ike,
            "esp": settings.esp,
            "networks": on_networks,
            "endpoints": endpoints_of(member.name, endpoints),
            "vips": vips_of(member, vips, {network.name: network for network in networks}),
        },
    }


def _firewall(
    backend: str,
    settings: Settings,
    networks: Sequence[Network],
    members: Mapping[str, Member],
    host: Host,
    endpoints: Sequence[Endpoint],
    libreswan: Mapping[str, Any],
    clamps: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """Return the slice's part for the firewall of *host*."""
    own = members[host.name]
    cidrs = [network.cidr for network in networks if network.name in own.addresses]
    addresses = host.facts.addresses if host.facts else ()
    closed = settings.fail_closed and backend != "none"
    return {
        "backend": backend,
        "chain": settings.firewall_chain,
        "fail_closed": closed,
        "open": [] if settings.enforcement == "clear" else open_to(cidrs, members.values(), endpoints, own),
        "closed": closed_traffic(
            libreswan["networks"], libreswan["endpoints"], libreswan["vips"], settings.topology
        )
        if closed
        else [],
        "interfaces": sorted({a.interface for a in addresses if a.address in own.addresses.values()}),
        "clamp": list(clamps) if backend != "none" else [],
    }


def _authby(settings: Settings) -> str:
    if settings.auth == "psk":
        return "secret"
    return "ecdsa" if kind_of(settings.key_type) == "ecdsa" else "rsa-sha2"


def _member_addresses(
    hosts: Sequence[Host],
    networks: Sequence[Network] | None,
    specs: Mapping[str, Spec],
    nat: Mapping[str, Mapping[str, Any]],
    virtual: Collection[Any],
    problems: Problems,
) -> dict[str, dict[str, Any]]:
    by_name = {network.name: network for network in networks or ()}
    addresses = {}
    strays = []
    for host in hosts:
        before = len(problems)
        given = read_addresses(host, specs, problems)
        if networks is not None and len(problems) == before:
            addresses[host.name] = member_addresses(
                host, given, by_name, problems, nat.get(host.name, {}).keys(), virtual
            )
            if not addresses[host.name] and len(problems) == before:
                strays.append(host)
    check_unique(addresses, problems)
    # If all hosts are strays, it is the networks that are wrong.
    if 0 < len(strays) < len(hosts):
        problems += [stray(host, networks or ()) for host in strays]
    elif len(addresses) == len(hosts) and (strays or all(addresses.values())):
        _check_inhabited(networks or (), addresses, problems)
    return addresses


def _check_inhabited(
    networks: Sequence[Network], addresses: Mapping[str, Mapping[str, Any]], problems: Problems
) -> None:
    """Find networks that no member is on: their traffic would silently not be encrypted."""
    inhabited = {name for on_networks in addresses.values() for name in on_networks}
    for index, network in enumerate(networks):
        if network.name not in inhabited:
            problems.add(
                f"no member has an address in {network.cidr}",
                "Correct the network, or take it out",
                variable=f"ipsec_networks[{index}].cidr",
            )


def _check_controller(hosts: Sequence[Host], networks: Sequence[Network], problems: Problems) -> None:
    """Find hosts that Ansible would lose, because it connects through a network from an address that nobody knows."""
    for host in hosts:
        address = literal_address(host.ansible_host)
        if address is None or host.facts is None or host.facts.controller_address is not None:
            continue
        if any(address in network.cidr for network in networks):
            problems.add(
                f"Ansible connects to {address} inside a network, and the host cannot tell from where",
                "Put the controller's address into ipsec_clear and set ipsec_exempt_controller to false",
                variable="ipsec_exempt_controller",
                host=host.name,
            )


def _check_controller_is_no_endpoint(
    hosts: Sequence[Host], endpoints: Sequence[Endpoint], problems: Problems
) -> None:
    """Find endpoints that Ansible connects from: they are to be in clear, and are not."""
    for host in hosts:
        for endpoint in endpoints:
            address = host.facts.controller_address if host.facts else None
            if host.name in endpoint.members and address == endpoint.address:
                problems.add(
                    f"Ansible connects from the endpoint {endpoint.name!r} ({address}), and would lose the host if that does not authenticate",
                    "Take the host out of the endpoint's members, or set ipsec_exempt_controller to false",
                    variable="ipsec_endpoints",
                    host=host.name,
                )


def make_plan(
    hosts: Sequence[Host],
    group: str,
    specs: Mapping[str, Spec],
    *,
    groups: Mapping[str, Sequence[str]] = MappingProxyType({}),
    play_hosts: Sequence[str] = (),
    check_mode: bool = False,
    read: Read = read_file,
    now: datetime | None = None,
) -> Plan:
    """Return the plan for *hosts*, the members of the inventory's *group*.

    *specs* are the options of the role plan's argument specification; *groups* are those of the inventory; *play_hosts* the
    hosts that this run works on, each of which must have facts; *read* returns the content of
    files on the controller; *now* is an aware datetime, by default that of the controller.

    Raises ProblemsError with all problems that there are.
    """
    problems = Problems()
    warnings: list[str] = []
    if not hosts:
        raise ProblemsError([no_members(group)])
    names = {host.name for host in hosts}
    strangers = [name for name in play_hosts if name not in names]
    if strangers:
        problems.add(
            f"the play runs on {some(strangers)}, which the group {group!r} does not contain",
            f"Run the play on the group {group!r}, or name the group in ipsec_group with --extra-vars",
            variable="ipsec_group",
        )
    for host in hosts:
        if host.name in play_hosts and host.facts is None:
            problems.add(
                "underlay.ipsec.host_info has not run on it in this play",
                "Use the role underlay.ipsec.plan, which runs it first",
                host=host.name,
            )
    check_names(hosts, specs, problems)
    cluster = read_cluster(hosts, group, specs, problems)
    networks = cluster.networks
    if networks == ():
        networks = default_networks(hosts, cluster.encapsulation, problems)
    if networks is not None:
        networks = with_exceptions(networks, cluster.exceptions, problems, warnings)
    fqdns = read_fqdns(hosts, specs, problems)
    given = ((host.name, read_addresses(host, specs, problems, "ipsec_nat_addresses")) for host in hosts)
    nat = {name: found for name, found in given if found}
    virtual = vip_addresses(cluster.vips)
    addresses = _member_addresses(hosts, networks, specs, nat, virtual, problems)
    if networks is not None and cluster.settings is not None:
        check_nat(hosts, nat, addresses, networks, cluster.settings, problems)
    ipv6 = {network.name for network in networks or () if network.cidr.version == 6}
    for host in hosts:
        if host.facts is not None:
            on_ipv6 = not ipv6.isdisjoint(addresses.get(host.name, ()))
            preflight(
                host.name,
                host.facts,
                ipv6=on_ipv6,
                check_mode=check_mode,
                problems=problems,
                warnings=warnings,
            )
    settings = cluster.settings
    firewalls = {
        host.name: choose_backend(host.name, host.facts, settings, problems, warnings)
        for host in hosts
        if host.facts is not None and settings is not None
    }
    if settings is not None and settings.exempt_controller:
        _check_controller(hosts, networks or (), problems)
    time = now or datetime.now(timezone.utc)
    known = [Member(name, fqdns.get(name, ""), addresses.get(name, {})) for name in sorted(names)]
    vips: tuple[Vip, ...] = ()
    if networks is not None:
        vips = read_vips(cluster.vips, settings, networks, known, groups, problems)
        check_no_nat(vips, nat, problems)
        if settings is not None:
            moved = vips if settings.vip_manager == "pacemaker" else ()
            check_clusters(moved, hosts, problems, warnings)
            check_owners(vips, hosts, problems)
    in_certificate = {name: frozenset({fqdn, *names_held(vips, name)}) for name, fqdn in fqdns.items()}
    bundles = _bundles(hosts, cluster, in_certificate, specs, read, time, problems, warnings)
    if settings is not None and bundles:
        # The kind of keys is the same in all bundles; the type is each one's own.
        settings = replace(settings, key_type=next(iter(bundles.values())).key_type)
    endpoints: tuple[Endpoint, ...] = ()
    if networks is not None:
        endpoints = read_endpoints(cluster.endpoints, settings, networks, known, problems)
    if settings is not None and settings.exempt_controller:
        _check_controller_is_no_endpoint(hosts, endpoints, problems)
    if problems or settings is None or networks is None:
        raise ProblemsError(problems)

    members = {name: Member(name, fqdns[name], addresses[name], nat.get(name, {})) for name in sorted(names)}
    for network in networks:
        warnings += member_warnings(network, list(members.values()))
    if settings.enforcement == "private" and settings.topology == "opportunistic":
        warnings += gateway_warnings(hosts, members, networks, settings.exempt_controller)
    if settings.exempt_controller:
        warnings += controller_warnings(hosts, members)
    taken = frozenset(address for member in members.values() for address in member.addresses.values())
    interfaces = {
        host.name: interfaces_of(host.facts.addresses, members[host.name].addresses)
        for host in hosts
        if host.facts is not None
    }
    nat_networks = frozenset(name for given in nat.values() for name in given)
    mtus = _mtus(hosts, settings, networks, members, interfaces, nat_networks, problems, warnings)
    follows = settings.vip_manager == "pacemaker" and settings.enforcement != "clear"
    clusters = clusters_of(vips if follows else (), hosts)
    with_vips = bool(vips) or any(host.facts.vips_applied for host in hosts if host.facts is not None)
    slices = {}
    for host in hosts:
        if host.facts is not None:
            slices[host.name] = made = _slice(
                settings, networks, members[host.name], host, taken, endpoints, vips, bundles.get(host.name)
            )
            on_networks, own, links = made["libreswan"]["networks"], interfaces[host.name], host.facts.links
            made["pacemaker"] = clusters[host.name]
            made["vips"] = with_vips
            made["mtu"] = slice_mtu(
                settings.mtu, settings.mtu_overlays, on_networks, mtus, own, links, nat_networks
            )
            clamps = clamp(on_networks, mtus, own, links, nat_networks)
            made["firewall"] = firewall = _firewall(
                firewalls[host.name],
                settings,
                networks,
                members,
                host,
                endpoints,
                made["libreswan"],
                clamps if settings.mss_clamp else (),
            )
            check_controller(host.name, host.facts, firewall["closed"], members.values(), problems)
    if problems:
        raise ProblemsError(problems)
    plan = Plan(_document(settings, networks, members, endpoints, vips, mtus, warnings), slices)
    _check_limit(plan, hosts, play_hosts, cluster.psk_secret)
    return plan


def _mtus(
    hosts: Sequence[Host],
    settings: Settings,
    networks: Sequence[Network],
    members: Mapping[str, Member],
    interfaces: Mapping[str, Mapping[str, str]],
    nat: frozenset[str],
    problems: Problems,
    warnings: list[str],
) -> dict[str, int | None]:
    """Return what each network carries, and find problems with that."""
    documents = [_network_document(network, list(members.values()), settings) for network in networks]
    links = {host.name: host.facts.links for host in hosts if host.facts is not None}
    mtus = effective_mtus(documents, links, interfaces)
    found, warned = mtu_problems(
        method=settings.mtu,
        overlays=settings.mtu_overlays,
        clamp=settings.mss_clamp,
        networks=documents,
        mtus=mtus,
        members={
            name: {
                "links": links[name],
                "interfaces": interfaces[name],
                "addresses": members[name].addresses,
            }
            for name in links
        },
        nat=nat,
    )
    problems += found
    warnings += warned
    return mtus


def _bundles(
    hosts: Sequence[Host],
    cluster: Cluster,
    names: Mapping[str, frozenset[str]],
    specs: Mapping[str, Spec],
    read: Read,
    now: datetime,
    problems: Problems,
    warnings: list[str],
) -> dict[str, Bundle]:
    """Return each member's bundle if certificates come in bundles, and find problems with the files that they come from."""
    if cluster.auth != "certificate":
        return {}
    contents = read_files(cluster.certificate_files, read, problems)
    authorities = None
    if cluster.certificate_source in ("pkcs12", "external"):
        path = cluster.certificate_files.get("ipsec_ca_certificate", "")
        authorities = check_authorities(contents, path, now, problems)
    if cluster.certificate_source == "pkcs12":
        return read_bundles(hosts, names, specs, authorities, read, now, problems)
    idle = [host.name for host in hosts if host.variables.get("ipsec_pkcs12")]
    if idle:
        warnings.append(
            f"ipsec_pkcs12 of {some(idle)} has no effect, because ipsec_certificate_source is not pkcs12"
        )
    return {}


def _check_limit(plan: Plan, hosts: Sequence[Host], play_hosts: Sequence[str], secret: str | None) -> None:
    """Raise ProblemsError if the run would change what its hosts share with members outside of it."""
    outside = {host.name for host in hosts} - set(play_hosts)
    found = [
        limit_problem(plan.document, plan.slices[host.name], host.facts, outside, secret)
        for host in hosts
        if host.facts is not None and host.name in play_hosts
    ]
    problems = [problem for problem in found if problem]
    if problems:
        raise ProblemsError(problems)


def no_members(group: str) -> Problem:
    """Return the problem of a *group* that does not exist or has no hosts."""
    return Problem(
        f"the inventory has no hosts in the group {group!r}",
        f"Put the members into the group {group!r}, or name their group in ipsec_group with --extra-vars",
        variable="ipsec_group",
    )


def problem_text(problems: Sequence[Problem]) -> str:
    """Return *problems* as one numbered list; the same problem on many hosts is one item."""
    items: dict[tuple[str | None, str, str], list[str]] = {}
    for problem in problems:
        hosts = items.setdefault((problem.variable, problem.message, problem.remedy), [])
        if problem.host is not None and problem.host not in hosts:
            hosts.append(problem.host)
    lines = [
        f"{number}. {Problem(message, remedy, variable, some(hosts) or None)}"
        for number, ((variable, message, remedy), hosts) in enumerate(items.items(), start=1)
    ]
    count = "There is 1 problem" if len(lines) == 1 else f"There are {len(lines)} problems"
    return "\n".join([f"{count}. Nothing has been changed on any host.", *lines])
