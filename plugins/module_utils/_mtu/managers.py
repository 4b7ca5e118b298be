# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who configures an interface, and what has to be told to them for an MTU to last.

What is live is set apart from that, by ``ip link``, because each manager's own way takes
something away. Seen on NetworkManager 1.42 and 1.52: ``nmcli device reapply`` and ``nmcli device
modify`` remove addresses and routes that others put on the interface (a keepalived VIP), and so
does systemd-networkd on ``networkctl reload``. `reapply` asks NetworkManager in the one
way that leaves them alone.

community.general.nmcli is not used: it writes a profile from its own options, wants all of
them (address, gateway, ...) for a connection that the operator made, and makes it
anew where they differ.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.underlay.ipsec.plugins.module_utils._errors import Problem, ProblemsError
from ansible_collections.underlay.ipsec.plugins.module_utils._files import MANAGED
from ansible_collections.underlay.ipsec.plugins.module_utils._run import Runner

NETWORK_MANAGER, NETWORKD, IFUPDOWN = "NetworkManager", "systemd-networkd", "ifupdown"
NETWORKD_DROP_IN = "99-underlay-ipsec.conf"
IFUPDOWN_HOOK = "/etc/network/if-up.d/underlay-ipsec-mtu"

_NM_BUS = "org.freedesktop.NetworkManager"
_NM_DEVICE = f"{_NM_BUS}.Device"
# NM_DEVICE_REAPPLY_FLAGS_PRESERVE_EXTERNAL_IP, since NetworkManager 1.42.
_NM_PRESERVE_EXTERNAL_IP = "1"
# The kinds of connection that have an MTU of their own; all others (bond, bridge, vlan, vxlan, ...)
# have the setting of an Ethernet connection beside their own.
_NM_PROPERTIES: Mapping[str, str] = {
    "802-11-wireless": "802-11-wireless.mtu",
    "infiniband": "infiniband.mtu",
    "ip-tunnel": "ip-tunnel.mtu",
    "wireguard": "wireguard.mtu",
}
_NM_ETHERNET = "802-3-ethernet.mtu"


@dataclass(frozen=True)
class Owner:
    """Who configures an interface."""

    manager: str
    connection: str = ""
    """NetworkManager: the UUID of the profile."""
    setting: str = ""
    """NetworkManager: the profile's property with the MTU."""
    network_file: str = ""
    """systemd-networkd: the path of the .network file."""


def find_owner(run: Runner, interface: str) -> Owner | None:
    """Return who configures *interface*, or None if nobody does.

    Raises `ProblemsError` if somebody does, but an MTU would not last there, or would concern others.
    """
    return _network_manager(run, interface) or _networkd(run, interface) or _ifupdown(run, interface)


def _network_manager(run: Runner, interface: str) -> Owner | None:
    seen = run(["nmcli", "-g", "GENERAL.STATE,GENERAL.CON-UUID", "device", "show", interface], check=False)
    lines = seen.stdout.splitlines()
    # "connected (externally)": NetworkManager only watches what somebody else has configured.
    if (
        seen.rc
        or len(lines) < 2
        or "external" in lines[0]
        or not re.match(r"[0-9a-f-]{36}$", lines[1].strip())
    ):
        return None
    uuid = lines[1].strip()
    kind = run(["nmcli", "-g", "connection.type", "connection", "show", uuid]).stdout.strip()
    profiles = run(["nmcli", "-g", "UUID,FILENAME", "connection", "show"], check=False).stdout
    path = next((line.partition(":")[2] for line in profiles.splitlines() if line.startswith(uuid)), "")
    if path.startswith("/run/"):
        raise ProblemsError(
            [
                _no_way(
                    f"NetworkManager has the profile of {interface} from {path}, which does not outlive a reboot",
                    f"Declare the MTU of {interface} where that file comes from (netplan, for example)",
                )
            ]
        )
    active = run(["nmcli", "-g", "UUID,DEVICE", "connection", "show", "--active"], check=False).stdout
    devices = {line.partition(":")[2] for line in active.splitlines() if line.startswith(uuid)}
    if others := sorted(devices - {interface, ""}):
        raise ProblemsError([_shared(f"NetworkManager's profile {uuid}", "profile", interface, others)])
    return Owner(NETWORK_MANAGER, connection=uuid, setting=_NM_PROPERTIES.get(kind, _NM_ETHERNET))


def parse_networkd(text: str) -> dict[str, str]:
    """Return interface → .network file of those that systemd-networkd configures.

    *text* is the output of ``networkctl status`` for one or more interfaces.
    """
    found: dict[str, str] = {}
    name = state = ""
    for line in text.splitlines():
        if head := re.match(r"\W{0,3}\d+: (\S+)\s*$", line):
            name, state = head[1], ""
        elif line.strip().startswith("State:"):
            state = line
        elif (file := re.match(r"\s*Network File: (/\S.*?)\s*$", line)) and name:
            found[name] = file[1]
        if name in found and "(unmanaged)" in state:
            del found[name]
    return found


def _networkd(run: Runner, interface: str) -> Owner | None:
    if run(["systemctl", "is-active", "--quiet", "systemd-networkd.service"], check=False).rc:
        return None
    status = ["networkctl", "--no-pager", "--lines=0", "status"]
    file = parse_networkd(run([*status, interface], check=False).stdout).get(interface)
    if not file:
        return None
    listed = run(["networkctl", "--no-pager", "--no-legend", "list"]).stdout
    names = [line.split()[1] for line in listed.splitlines() if len(line.split()) > 1]
    every = parse_networkd(run([*status, *names], check=False).stdout)
    others = sorted(name for name, path in every.items() if path == file and name != interface)
    if others:
        raise ProblemsError([_shared(file, ".network file", interface, others)])
    return Owner(NETWORKD, network_file=file)


def _ifupdown(run: Runner, interface: str) -> Owner | None:
    known = run(["ifquery", interface], check=False)
    return None if known.rc else Owner(IFUPDOWN)


def _shared(what: str, kind: str, interface: str, others: Iterable[str]) -> Problem:
    return _no_way(
        f"{what} configures {interface} and {', '.join(others)}", f"Give {interface} a {kind} of its own"
    )


def _no_way(message: str, remedy: str) -> Problem:
    return Problem(message, f"{remedy}, or set ipsec_mtu to route", variable="ipsec_mtu")


def drop_in(network_file: str) -> str:
    """Return the path of our drop-in for a .network file, which may itself be in /run or /usr/lib."""
    return f"/etc/systemd/network/{network_file.rsplit('/', 1)[-1]}.d/{NETWORKD_DROP_IN}"


def networkd_text(mtu: int) -> str:
    """Return the drop-in that gives an interface an MTU (bytes)."""
    return f"{MANAGED}[Link]\nMTUBytes={mtu}\n"


def ifupdown_text(mtus: Iterable[tuple[str, int]]) -> str:
    """Return the hook that gives interfaces their MTU (bytes) whenever ifup has brought one up.

    A hook, because a stanza in /etc/network/interfaces is the operator's; what it says of the MTU is
    carried out before.
    """
    cases = "".join(f'{name}) ip link set dev "$IFACE" mtu {mtu} ;;\n' for name, mtu in sorted(mtus))
    return f"#!/bin/sh\n{MANAGED}case $IFACE in\n{cases}esac\n"


def read_nm(run: Runner, connection: str, setting: str) -> str | None:
    """Return the MTU in a profile (``0``: none), or None if there is no such profile."""
    shown = run(["nmcli", "-g", setting, "connection", "show", connection], check=False)
    value = shown.stdout.strip()
    return None if shown.rc else "0" if value in ("auto", "") else value


def write_nm(run: Runner, connection: str, setting: str, device: str, value: str) -> None:
    """Give a profile an MTU (``0``: none), and have NetworkManager go by it. Raises `CommandError`."""
    same = _applied_as_saved(run, connection, device)
    run(["nmcli", "connection", "modify", connection, setting, value])
    if same:
        reapply(run, device)


def reapply(run: Runner, device: str) -> None:
    """Have NetworkManager take over the profile of *device* while leaving what others put on it.

    Not for the MTU, which ``ip link`` sets, but so that it does not come back to the former one, for
    example with the next DHCP lease. NetworkManager before 1.42 refuses, and then nothing is taken over.
    """
    if path := _device_path(run, device):
        call = ["busctl", "call", _NM_BUS, path, _NM_DEVICE, "Reapply", "a{sa{sv}}tu", "0", "0"]
        run([*call, _NM_PRESERVE_EXTERNAL_IP], check=False)


def _device_path(run: Runner, device: str) -> str:
    shown = run(["nmcli", "-g", "GENERAL.DBUS-PATH", "device", "show", device], check=False)
    return shown.stdout.strip() if shown.rc == 0 else ""


def _applied_as_saved(run: Runner, connection: str, device: str) -> bool:
    """Return whether *device* runs by its profile as it is saved.

    If it does not, the operator has changed the profile for a later time, and to reapply it
    would do that now.
    """
    device_path = _device_path(run, device)
    shown = run(["nmcli", "-g", "DBUS-PATH,UUID", "connection", "show"], check=False).stdout
    saved = next((line.partition(":")[0] for line in shown.splitlines() if line.endswith(connection)), "")
    if not device_path or not saved:
        return False
    asked = (
        [device_path, _NM_DEVICE, "GetAppliedConnection", "u", "0"],
        [saved, f"{_NM_BUS}.Settings.Connection", "GetSettings"],
    )
    answers = [run(["busctl", "--json=short", "call", _NM_BUS, *words], check=False) for words in asked]
    if any(answer.rc for answer in answers):
        return False
    applied, settings = (_essence(answer.stdout) for answer in answers)
    return applied is not None and applied == settings


def _essence(text: str) -> dict[str, Any] | None:
    """Return the settings of a connection without what NetworkManager itself keeps in them."""
    try:
        data: dict[str, Any] = json.loads(text)["data"][0]
    except (ValueError, KeyError, IndexError, TypeError):
        return None
    data.get("connection", {}).pop("timestamp", None)
    return {name: values for name, values in data.items() if values}
