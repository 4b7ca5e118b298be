# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From a host's slice of the plan to the text of libreswan's files. Pure.

Each network of the host gets two opportunistic groups, always both: ``private`` and
``private-or-clear``. Which of them is in force is decided by their policy files alone.
All names carry the collection's prefix, so that the distribution's own ``private`` and
``clear`` stay the user's. In a mesh it has a connection for each pair instead, see `pairs`.

An exception is a passthrough connection of its own and not an entry of a third group:
pluto 5.2 aborts (a double free) when it rereads a policy file that lost an entry, and
deletes neighbours of an entry that was added, SAs and all. A connection is loaded and
unloaded by itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from ansible_collections.underlay.ipsec.plugins.module_utils._errors import Problem
from ansible_collections.underlay.ipsec.plugins.module_utils._files import MANAGED
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan.connection import (
    ENCAPSULATION,
    EVERYBODY,
    LIVENESS,
    PREFIX,
    Connection,
)
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan.dialect import Dialect
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan.endpoints import (
    Endpoint,
    Own,
    endpoint_connections,
    endpoint_from,
)
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan.pairs import (
    AUTO,
    Peer,
    begins,
    pair_name,
    peer_from,
)

CONF_DIR = "/etc/ipsec.d"
POLICY_DIR = "/etc/ipsec.d/policies"
SETUP_FILE = f"{CONF_DIR}/underlay.conf"
SECRETS_FILE = f"{CONF_DIR}/underlay.secrets"

SYSCTL_FILE = "/etc/sysctl.d/80-underlay-ipsec.conf"
# The kernel keeps up to 100 packets for a policy whose SA is being made, instead of dropping them.
SYSCTL: Mapping[str, str] = {"net.core.xfrm_larval_drop": "0"}
SYSCTL_DEFAULT: Mapping[str, str] = {"net.core.xfrm_larval_drop": "1"}

WATCH_SERVICE = "underlay-ipsec-watch.service"
WATCH_UNIT_FILE = f"/etc/systemd/system/{WATCH_SERVICE}"
WATCH_SCRIPT_FILE = f"{CONF_DIR}/{PREFIX}watch.sh"

GROUPS = ("private", "private-or-clear")
_NOTHING: Mapping[str, str] = MappingProxyType({})

SETUP: Mapping[str, str] = {
    # A member has one identity on all its networks: without this the SA of the
    # second network would replace that of the first.
    "uniqueids": "no",
    # How long a peer that failed to authenticate stays dropped (or clear) before
    # pluto tries again; the default of 15 minutes would black-hole a rebooted peer.
    "shuntlifetime": "30s",
    # How long the kernel waits for an SA that it asked for, and how long it keeps the
    # number that pluto has reserved for one: a negotiation that outlasts it fails at its very end,
    # so no less than retransmit-timeout. No more either: a packet in the moment between the
    # end of an SA and that of its policy asks in vain, and blocks its peer for as long;
    # the default is 30 seconds. A plain number: neither generation takes a unit here.
    "xfrmlifetime": "5",
}


def setup_problem(host: str | None = None) -> Problem:
    """Return what is wrong on a host whose libreswan takes nothing from our ``config setup``.

    4.x does so if that of /etc/ipsec.conf is not empty, and says nothing.
    """
    wanted = " and ".join(f"{key}={value}" for key, value in SETUP.items())
    return Problem(
        "/etc/ipsec.conf sets options of its own in 'config setup', and libreswan 4 then ignores ours",
        f"Add {wanted} to 'config setup' in /etc/ipsec.conf, or move what stands there to a file below /etc/ipsec.d",
        host=host,
    )


@dataclass(frozen=True)
class Network:
    """One network of the host, as the plan wants it."""

    name: str
    family: int
    cidr: str
    address: str
    mode: str
    encapsulation: str
    private: tuple[str, ...]
    """CIDRs whose hosts must authenticate."""
    clear: tuple[str, ...]
    """Exceptions: ``CIDR`` or ``CIDR proto sport dport``."""
    ike: str | None = None
    """None for this and the next: as in the host's settings."""
    esp: str | None = None

    @property
    def width(self) -> int:
        """The prefix length of a single address."""
        return 32 if self.family == 4 else 128

    def connection(self, group: str) -> str:
        """Return the name of this network's connection for *group*, which is its policy file's name too."""
        return f"{PREFIX}{self.name}-{group}"


@dataclass(frozen=True)
class Settings:
    """What the plan says about libreswan on one host."""

    certificate: str | None
    """The nickname in NSS; None with pre-shared keys."""
    authby: str
    ike: str
    esp: str
    networks: tuple[Network, ...]
    topology: str = "opportunistic"
    member: str = ""
    """The host's inventory name."""
    fqdn: str = ""
    """By which peers of a mesh know the host."""
    peers: tuple[Peer, ...] = ()
    """The other ends in a mesh."""
    endpoints: tuple[Endpoint, ...] = ()
    one_ca: bool = False
    """Whether NSS trusts CAs that are not the members', so that theirs has to be named."""
    crl_strict: bool = False
    """Whether nobody can authenticate without a revocation list that is valid."""

    @property
    def mesh(self) -> bool:
        """Whether each pair has a connection of its own."""
        return self.topology == "mesh"

    def pairs(self, network: Network) -> dict[str, Peer]:
        """Return connection name → peer for *network*."""
        return {
            pair_name(network.name, self.member, peer.member): peer
            for peer in self.peers
            if peer.network == network.name
        }


def connections(
    settings: Settings, dialect: Dialect, enforcement: Mapping[str, str] = _NOTHING
) -> tuple[Connection, ...]:
    """Return the connections of all networks; *enforcement* is as in `files`."""
    return tuple(
        connection
        for network in settings.networks
        for connection in _of_network(settings, network, dialect, enforcement)
    )


def settings_from(data: Mapping[str, Any], peers: Iterable[Mapping[str, Any]] = ()) -> Settings:
    """Return the settings for the ``libreswan`` part of a slice, and for the *peers* in a mesh."""
    return Settings(
        certificate=data["certificate"],
        authby=data["authby"],
        ike=data["ike"],
        esp=data["esp"],
        networks=tuple(
            Network(
                name=network["name"],
                family=network["family"],
                cidr=network["cidr"],
                address=network["address"],
                mode=network["mode"],
                encapsulation=network["encapsulation"],
                private=tuple(network["private"]),
                clear=tuple(network["clear"]),
                ike=network.get("ike"),
                esp=network.get("esp"),
            )
            for network in data["networks"]
        ),
        topology=data["topology"],
        member=data["member"],
        fqdn=data["fqdn"],
        peers=tuple(map(peer_from, peers)),
        endpoints=tuple(map(endpoint_from, data.get("endpoints", ()))),
    )


def files(settings: Settings, dialect: Dialect, enforcement: Mapping[str, str]) -> dict[str, str]:
    """Return path → text of everything below /etc/ipsec.d that the host needs, but for the secrets.

    *enforcement* is what is in force: opportunistic, network name → group, where ``clear`` is none;
    in a mesh, connection name → state, and a pair that is not there has no connection.
    """
    groups = {} if settings.mesh else policy_files(settings.networks, enforcement)
    sysctl = MANAGED + "".join(f"{key} = {value}\n" for key, value in SYSCTL.items())
    return {**conf_files(settings, dialect, enforcement), **groups, SYSCTL_FILE: sysctl}


def secrets_file(keys: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Return path → text of the file with the pre-shared *keys*, each ``ids`` and ``psk``; nothing without keys."""
    lines = sorted(f'{" ".join(key["ids"])} : PSK "{key["psk"]}"\n' for key in keys)
    return {SECRETS_FILE: MANAGED + "".join(lines)} if lines else {}


def watch_files(script: str, dialect: Dialect) -> dict[str, str]:
    """Return path → text of the service that runs *script* beside pluto, where pluto needs it."""
    if not script or not dialect.leaves_pairs_broken:
        return {}
    unit = f"""\
[Unit]
Description=Mends SAs that pluto leaves one-way or stuck
PartOf=ipsec.service
After=ipsec.service

[Service]
ExecStart=/bin/sh {WATCH_SCRIPT_FILE}
RuntimeDirectory=underlay-ipsec-watch
Restart=on-failure

[Install]
WantedBy=ipsec.service
"""
    return {WATCH_SCRIPT_FILE: script, WATCH_UNIT_FILE: MANAGED + "\n" + unit}


def conf_files(
    settings: Settings, dialect: Dialect, enforcement: Mapping[str, str] = _NOTHING
) -> dict[str, str]:
    """Return path → text of the files with connections; *enforcement* is as in `files`."""
    files = {SETUP_FILE: _setup(settings)}
    for network in settings.networks:
        sections = (connection.text() for connection in _of_network(settings, network, dialect, enforcement))
        files[conf_file(network)] = MANAGED + "\n" + "\n".join(sections)
    return files


def conf_file(network: Network) -> str:
    """Return the path of the file with the connections of *network*."""
    return f"{CONF_DIR}/{PREFIX}{network.name}.conf"


def policy_files(networks: Iterable[Network], enforcement: Mapping[str, str]) -> dict[str, str]:
    """Return path → text of the policy files; *enforcement* is network name → group in force.

    With ``clear`` no group is in force.
    """
    return {
        policy_file(network, group): _policy(network.private if group == enforcement[network.name] else ())
        for network in networks
        for group in GROUPS
    }


def policy_file(network: Network, group: str) -> str:
    """Return the path of the policy file of *group* on *network*."""
    return f"{POLICY_DIR}/{network.connection(group)}"


def entries_of(policy_text: str) -> tuple[str, ...]:
    """Return the entries of a policy file, without comments."""
    lines = (line.split("#", 1)[0].split() for line in policy_text.splitlines())
    return tuple(" ".join(words) for words in lines if words)


def entries_in(files: Mapping[str, str]) -> dict[str, set[str]]:
    """Return group → entries of its policy file, for path → text of files."""
    return {
        path.rsplit("/", 1)[-1]: set(entries_of(text))
        for path, text in files.items()
        if path.startswith(POLICY_DIR)
    }


def _setup(settings: Settings) -> str:
    options = {**SETUP, **({"crl-strict": "yes"} if settings.crl_strict else {})}
    return MANAGED + "\nconfig setup\n" + "".join(f"\t{key}={value}\n" for key, value in options.items())


def _policy(entries: Sequence[str]) -> str:
    return MANAGED + "".join(f"{entry}\n" for entry in sorted(set(entries)))


def _of_network(
    settings: Settings, network: Network, dialect: Dialect, enforcement: Mapping[str, str]
) -> tuple[Connection, ...]:
    endpoints = _endpoints(settings, network, dialect)
    if not settings.mesh:
        return (
            *(_group(settings, network, group, dialect) for group in GROUPS),
            *(exception(network, entry) for entry in sorted(set(network.clear))),
            *endpoints,
        )
    pairs = settings.pairs(network)
    return (
        *(
            pair(
                settings,
                network,
                name,
                peer,
                dialect,
                enforcement[name],
                begins=begins(network.name, settings.member, peer.member),
            )
            for name, peer in sorted(pairs.items())
            if name in enforcement
        ),
        *(
            _barrier(network, peer.nat_address)
            for name, peer in sorted(pairs.items())
            if peer.nat_address and enforcement.get(name) == "private"
        ),
        # Without a port it would be for an address that no pair is for, and that is in clear anyway.
        *(exception(network, entry) for entry in sorted(set(network.clear)) if " " in entry),
        *endpoints,
    )


def _endpoints(settings: Settings, network: Network, dialect: Dialect) -> tuple[Connection, ...]:
    own = Own(network.address, network.family, settings.fqdn, settings.certificate, settings.authby)
    return tuple(
        connection
        for endpoint in settings.endpoints
        if endpoint.network == network.name
        for connection in endpoint_connections(endpoint, own, dialect)
    )


def pair(
    settings: Settings,
    network: Network,
    name: str,
    peer: Peer,
    dialect: Dialect,
    state: str,
    *,
    begins: bool,
    own_id: str = "",
) -> Connection:
    """Return the connection *name* with *peer*, in a state of `pairs.AUTO`; *begins*: whether this end does.

    This end is known by *own_id*, by default its host name.
    """
    certificate = settings.certificate
    open_ = state == "private-or-clear" and dialect.traps_what_ends
    return Connection(
        name,
        (
            # Transport mode is for the addresses in the packet, and NAT changes one of them.
            *algorithms(settings, replace(network, mode="tunnel") if peer.nat_address else network, dialect),
            ("left", network.address),
            ("leftid", own_id or f"@{settings.fqdn}"),
            *((("leftcert", certificate),) if certificate else ()),
            ("leftupdown", "%disabled"),
            ("right", peer.reached_at),
            *((("rightsubnet", f"{peer.address}/{network.width}"),) if peer.nat_address else ()),
            ("rightid", peer.known_as),
            *((("rightca", "%same"),) if certificate and settings.one_ca else ()),
            *((("failureshunt", "passthrough"),) if open_ else ()),
            *dialect.tries,
            *LIVENESS,
            ("auto", AUTO[state, begins]),
        ),
    )


def algorithms(settings: Settings, network: Network, dialect: Dialect) -> tuple[tuple[str, str], ...]:
    """Return the keywords for how traffic on *network* is encrypted, and how its ends authenticate."""
    return (
        ("type", network.mode),
        ("authby", settings.authby),
        dialect.ikev2,
        ("ike", network.ike or settings.ike),
        ("esp", network.esp or settings.esp),
        ("encapsulation", ENCAPSULATION[network.encapsulation]),
        ("hostaddrfamily", f"ipv{network.family}"),
    )


def _group(settings: Settings, network: Network, group: str, dialect: Dialect) -> Connection:
    return Connection(
        network.connection(group),
        (
            *algorithms(settings, network, dialect),
            ("left", network.address),
            ("leftid", "%fromcert"),
            ("leftcert", str(settings.certificate)),
            # From host to host the kernel needs no route of ours; the script behind this
            # costs a process per peer and complains about the missing next hop.
            ("leftupdown", "%disabled"),
            ("right", EVERYBODY),
            ("rightid", "%fromcert"),
            *((("rightca", "%same"),) if settings.one_ca else ()),
            # Nothing leaves in clear while IKE is still at it, whatever comes after.
            ("negotiationshunt", "hold"),
            ("failureshunt", "drop" if group == "private" else "passthrough"),
            *LIVENESS,
            ("auto", "ondemand"),
        ),
    )


def exception(network: Network, entry: str) -> Connection:
    """Return the connection that leaves an *entry* of the exceptions in clear."""
    cidr, *ports = entry.split()
    keywords = [*without_sa("passthrough", network, cidr)]
    if ports:
        protocol, source, destination = ports
        keywords += [
            ("leftprotoport", _protoport(protocol, source)),
            ("rightprotoport", _protoport(protocol, destination)),
        ]
    # The entry itself is the name: it says what it is, and no other entry has it.
    slug = entry.replace("/", "-").replace(" ", "-").replace(":", ".")
    return Connection(network.connection(f"clear-{slug}"), (*keywords, ("auto", "ondemand")))


def _barrier(network: Network, address: str) -> Connection:
    """Return what drops clear text to and from the NAT address of a peer, which its pair is not for.

    IKE and ESP in UDP pass: pluto's sockets are exempt.
    """
    return Connection(
        network.connection(f"nat-{address.replace(':', '.')}"),
        (*without_sa("drop", network, f"{address}/{network.width}"), ("auto", "ondemand")),
    )


def without_sa(kind: str, network: Network, peers: str) -> tuple[tuple[str, str], ...]:
    """Return the keywords of what is done without IKE to traffic with *peers*, a CIDR."""
    return (
        ("type", kind),
        ("authby", "never"),
        ("hostaddrfamily", f"ipv{network.family}"),
        ("left", network.address),
        ("leftsubnet", f"{network.address}/{network.width}"),
        ("right", "0.0.0.0" if network.family == 4 else "::"),
        ("rightsubnet", peers),
    )


def _protoport(protocol: str, port: str) -> str:
    return protocol if port == "0" else f"{protocol}/{port}"
