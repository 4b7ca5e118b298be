# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The routes to a network, and what keeps their MTU.

Nothing that configures a host's network can be asked to give the kernel's own route to a
connected network an ``mtu``: the kernel makes that route when the address appears, and makes
it anew when the link has been down. So a timer of ours looks at the routes and mends them,
whatever manager the host has.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass

from ansible_collections.underlay.ipsec.plugins.module_utils._files import MANAGED
from ansible_collections.underlay.ipsec.plugins.module_utils._run import Runner

TIMER = "underlay-ipsec-mtu.timer"
SCRIPT_FILE = "/etc/underlay-ipsec/mtu-routes.sh"
SERVICE_FILE = "/etc/systemd/system/underlay-ipsec-mtu.service"
TIMER_FILE = f"/etc/systemd/system/{TIMER}"

# What `ip route show` says of a route that `ip route change` does not take.
_STATE = "linkdown|dead|pervasive|offload|offload_failed|trap|rt_offload|rt_trap|notify|unresolved"
_SCRIPT = r"""# Gives the routes to the IPsec networks their MTU: FAMILY SELECTOR CIDR DEVICE MTU
set -f

keep() {
    ip -"$1" route show table main "$2" "$3" | {
        result=0 last=
        while IFS= read -r said; do
            case $said in [!0-9a-fu]*) continue ;; esac
            case " $said " in *" dev $4 "*) ;; *) continue ;; esac
            route=$(echo "$said" | sed -E \
                -e 's/ mtu (lock )?[0-9]+//; s/ expires ([0-9]+)sec/ expires \1/; s/ error -?[0-9]+//' \
                -e ':again' -e 's/ (STATE)( |$)/\2/' -e 't again')
            # NetworkManager puts its own beside ours. The first is in force.
            [ "$route" != "$last" ] || continue
            last=$route
            case " $said " in *" mtu $5 "*) continue ;; esac
            # shellcheck disable=SC2086
            error=$(ip -"$1" route change $route mtu "$5" 2>&1) && continue
            # Ours is there, but behind the other, which this takes away.
            # shellcheck disable=SC2086
            case $error in *"File exists"*) ip -"$1" route delete $route && continue ;; esac
            echo "$route: $error" >&2
            result=1
        done
        exit $result
    }
}

status=0
CALLSexit $status
"""


@dataclass(frozen=True)
class Route:
    """One route of the main table."""

    family: int
    destination: str
    """As ``ip`` writes it: a CIDR, an address or ``default``."""
    device: str
    metric: str
    """Empty if it has none."""
    mtu: str
    """What it says of the MTU: empty, bytes, or ``lock`` and bytes."""
    rest: str
    """All that ``ip route change`` needs besides the MTU."""

    def delete(self) -> list[str]:
        """Return the command that removes it, if it is the first of those that only differ in the MTU."""
        return ["ip", f"-{self.family}", "route", "delete", *self.rest.split()]

    @property
    def prefix(self) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
        """The destination as a network."""
        everything = "::/0" if self.family == 6 else "0.0.0.0/0"
        return ipaddress.ip_network(everything if self.destination == "default" else self.destination)

    def change(self, mtu: str) -> list[str]:
        """Return the command that gives the route this *mtu*; empty for none."""
        return [
            "ip",
            f"-{self.family}",
            "route",
            "change",
            *self.rest.split(),
            *(["mtu", *mtu.split()] if mtu else []),
        ]


@dataclass(frozen=True)
class Selection:
    """Which routes carry a network, in the words of ``ip route show``."""

    family: int
    selector: str
    """``root``: the CIDR and all within; ``exact``: this one only."""
    cidr: str
    device: str


def parse_routes(text: str, family: int) -> list[Route]:
    """Return the routes in the output of ``ip route show`` that have one next hop."""
    found = []
    for line in text.splitlines():
        # Further next hops of a route stand in lines of their own; such a route has no device itself.
        device = re.search(r" dev (\S+)", line)
        if line[:1].isspace() or not device:
            continue
        destination = line.removeprefix("unicast ").split()[0]
        if not re.match(r"default$|[0-9a-f.:]+(/\d+)?$", destination):
            continue
        metric = re.search(r" metric (\S+)", line)
        mtu = re.search(r" mtu ((?:lock )?\d+)", line)
        rest = re.sub(r" mtu (?:lock )?\d+", "", line)
        rest = re.sub(r" expires (\d+)sec", r" expires \1", rest)
        rest = re.sub(rf" (?:{_STATE})(?= |$)", "", re.sub(r" error -?\d+", "", rest)).strip()
        found.append(
            Route(family, destination, device[1], metric[1] if metric else "", mtu[1] if mtu else "", rest)
        )
    return found


def read_routes(run: Runner, family: int, selector: str, cidr: str) -> list[Route]:
    """Return the routes of the main table that *selector* (root, match, exact) finds for *cidr*."""
    out = run(["ip", f"-{family}", "route", "show", "table", "main", selector, cidr]).stdout
    return parse_routes(out, family)


def select(run: Runner, cidr: str, device: str) -> tuple[Selection | None, bool]:
    """Return which routes carry *cidr* over *device*, and whether that is all of it.

    These are the routes to it and to parts of it; if there is none to all of it, and none to a
    part, then the narrowest route to more than it. The default route is not taken: it
    carries much that has nothing to do with the network.
    """
    network = ipaddress.ip_network(cidr)
    family = network.version
    within = [r for r in read_routes(run, family, "root", cidr) if r.device == device]
    if within:
        complete = any(route.prefix == network for route in within)
        return Selection(family, "root", cidr, device), complete
    covering = [
        route
        for route in read_routes(run, family, "match", cidr)
        if route.device == device and route.prefix.prefixlen
    ]
    if not covering:
        return None, False
    narrowest = max(covering, key=lambda route: route.prefix.prefixlen)
    return Selection(family, "exact", str(narrowest.prefix), device), True


def script(wanted: Iterable[tuple[Selection, int]]) -> str:
    """Return the shell script that gives the routes of each selection its MTU (bytes).

    It knows what `parse_routes` knows, but in shell: whatever Python there is on the host may change.
    """
    calls = "".join(
        f"keep {s.family} {s.selector} {s.cidr} {s.device} {mtu} || status=1\n" for s, mtu in wanted
    )
    return f"#!/bin/sh\n{MANAGED}{_SCRIPT.replace('STATE', _STATE).replace('CALLS', calls)}"


def files(wanted: Iterable[tuple[Selection, int]]) -> dict[str, str]:
    """Return path → text of the files that keep the routes' MTU."""
    service = f"""
[Unit]
Description=Give the routes to the IPsec networks their MTU
After=network-online.target

[Service]
Type=oneshot
ExecStart=/bin/sh {SCRIPT_FILE}
# It starts too often for a word each time.
LogLevelMax=warning
"""
    timer = """
[Unit]
Description=Give the routes to the IPsec networks their MTU, whoever made them anew

[Timer]
OnActiveSec=0
OnUnitInactiveSec=10
AccuracySec=1

[Install]
WantedBy=timers.target
"""
    return {SCRIPT_FILE: script(wanted), SERVICE_FILE: MANAGED + service, TIMER_FILE: MANAGED + timer}
