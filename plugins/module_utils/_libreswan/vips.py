# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Virtual addresses. Pure.

To a host that does not have it, a virtual address is a peer like any other. Those that may hold it
have a second set of connections for when it is theirs. Neither is loaded by pluto itself when it
starts; a script does, see roles/vip/files. All holders of an address are known by the same id, which is
in the certificate of each: a peer that has authenticated one of them expects no other.

The holder's set has a connection with each member, with which it begins when the address comes, and
one that lets in whoever else can authenticate. The latter traps nothing: in a group the holder
also has what drops clear text to strangers, as the group does; in a mesh only the firewall does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ansible_collections.underlay.ipsec.plugins.module_utils._files import MANAGED
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan import render
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan.connection import (
    LIVENESS,
    PREFIX,
    Connection,
)
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan.dialect import Dialect
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan.pairs import (
    Peer,
    vip_member,
)

FOLDER = f"{render.CONF_DIR}/underlay-vip"
SCRIPT_FILE = f"{render.CONF_DIR}/{PREFIX}vip.sh"
HOOK_FILE = "/etc/systemd/system/ipsec.service.d/underlay-vip.conf"
TIDY_SERVICE = "underlay-ipsec-vip.service"
TIDY_FILE = f"/etc/systemd/system/{TIDY_SERVICE}"
HELD = "/run/underlay-ipsec-vip"
"""Where the script notes which addresses are here."""

_TIDY = """
[Unit]
Description=Ends SAs with those who had a virtual address before
PartOf=ipsec.service
After=ipsec.service

[Install]
WantedBy=ipsec.service

[Service]
Restart=on-failure
"""
# No network may have this name: connections of pairs begin with that of their network.
_KIND = f"{PREFIX}vip+"


@dataclass(frozen=True)
class Vip:
    """A virtual address on one of the host's networks."""

    name: str
    network: str
    address: str
    id: str
    """By which its holder is known."""
    holder: bool
    """Whether this host may hold it."""

    @property
    def peer(self) -> Peer:
        """It, as a peer of whoever does not have it."""
        name = vip_member(self.name)
        return Peer(self.network, name, name, self.address, id=self.id)

    @property
    def node(self) -> str:
        """The name of the connection of whoever does not have it."""
        return f"{_KIND}{self.name}+node"


def vip_from(data: Mapping[str, Any]) -> Vip:
    """Return the virtual address for an item of ``vips`` in a slice."""
    return Vip(**data)


def is_vip(connection: str) -> bool:
    """Return whether the name *connection* is that of a connection which the script loads and unloads."""
    return connection.startswith(_KIND)


def is_for_anybody(connection: str) -> bool:
    """Return whether *connection* is the one of a holder that lets in whoever can authenticate."""
    return is_vip(connection) and connection.endswith("+holder")


def begins_with(connection: str, vip: str) -> bool:
    """Return whether the holder of *vip* has *connection* to begin with."""
    return connection.startswith(f"{_KIND}{vip}+holder+")


def holder_file(vip: Vip) -> str:
    """Return the path of the file with what the holder loads."""
    return f"{FOLDER}/{vip.name}.holder.conf"


def node_file(vip: Vip) -> str:
    """Return the path of the file with what any other host loads."""
    return f"{FOLDER}/{vip.name}.node.conf"


def vip_files(
    settings: render.Settings,
    vips: Iterable[Vip],
    members: Sequence[Peer],
    dialect: Dialect,
    states: Mapping[str, str],
    script: str,
) -> dict[str, str]:
    """Return path → text of all that a member needs for *vips*.

    *members* are the members on their networks, *states* is name → what is in force, see `pairs.AUTO`.
    """
    networks = {network.name: network for network in settings.networks}
    files = {}
    for vip in vips:
        network, state = networks[vip.network], states[vip.name]
        others = sorted((m for m in members if m.network == vip.network), key=lambda member: member.member)
        files[node_file(vip)] = _text([node_connection(settings, vip, dialect, state)])
        if vip.holder:
            files[holder_file(vip)] = _text(_holder(settings, network, vip, others, dialect, state))
    if files:
        files[SCRIPT_FILE] = script
        files[HOOK_FILE] = f"{MANAGED}[Service]\nExecStartPost=-/bin/sh {SCRIPT_FILE} restore\n"
        files[TIDY_FILE] = (
            f"{MANAGED}{_TIDY}ExecStart=/bin/sh {SCRIPT_FILE} tidy {dialect.expire_superseded}\n"
        )
    return files


def _text(connections: Iterable[Connection]) -> str:
    return MANAGED + "\n" + "\n".join(connection.text() for connection in connections)


def node_connection(settings: render.Settings, vip: Vip, dialect: Dialect, state: str) -> Connection:
    """Return the connection of a member that does not have *vip*, in a state of `pairs.AUTO`."""
    network = next(network for network in settings.networks if network.name == vip.network)
    return render.pair(settings, network, vip.node, vip.peer, dialect, state, begins=True)


def _holder(
    settings: render.Settings,
    network: render.Network,
    vip: Vip,
    members: Iterable[Peer],
    dialect: Dialect,
    state: str,
) -> list[Connection]:
    certificate = settings.certificate
    here = replace(network, address=vip.address)
    known = [
        render.pair(
            settings,
            here,
            f"{_KIND}{vip.name}+holder+{member.member}",
            member,
            dialect,
            state,
            begins=False,
            own_id=vip.id,
        )
        for member in members
    ]
    anybody = Connection(
        f"{_KIND}{vip.name}+holder",
        (
            *render.algorithms(settings, network, dialect),
            ("left", vip.address),
            ("leftid", vip.id),
            *((("leftcert", certificate),) if certificate else ()),
            ("leftupdown", "%disabled"),
            ("right", "%any"),
            ("rightid", "%fromcert" if certificate else "%any"),
            *((("rightca", "%same"),) if certificate and settings.one_ca else ()),
            *LIVENESS,
            ("auto", "add"),
        ),
    )
    if settings.mesh or state != "private":
        return [*known, anybody]
    shunts = [
        Connection(f"{_KIND}{vip.name}+drop", render.without_sa("drop", here, network.cidr)),
        *(
            replace(render.exception(here, entry), name=f"{_KIND}{vip.name}+clear-{index}")
            for index, entry in enumerate(sorted(set(network.clear)))
        ),
    ]
    return [*known, anybody, *map(_routed, shunts)]


def _routed(shunt: Connection) -> Connection:
    """Return *shunt* with what is right for each: libreswan's script would take longer than all else."""
    keywords = tuple(keyword for keyword in shunt.keywords if keyword[0] != "auto")
    return replace(shunt, keywords=(*keywords, ("leftupdown", "%disabled"), ("auto", "ondemand")))
