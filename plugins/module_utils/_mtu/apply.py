# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Give a host's interfaces, or its routes, the MTU of the networks, and take it back.

Everything that can be changed is a `Thing` with a value that can be read and written: the MTU of a
link or of a route, a property of a profile, a file. What a thing was before the first change is kept in
`STATE_FILE`, written before anything changes; what is no longer wanted gets that value back. So a
run that was cut off is taken up by the next one, whichever way that wants to go.
"""

from __future__ import annotations

import ipaddress
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from ansible_collections.underlay.ipsec.plugins.module_utils._errors import (
    CommandError,
    IpsecError,
    Problem,
    ProblemsError,
)
from ansible_collections.underlay.ipsec.plugins.module_utils._files import (
    problem_from_os,
    sync_directory,
    write_atomically,
)
from ansible_collections.underlay.ipsec.plugins.module_utils._mtu import managers, routes
from ansible_collections.underlay.ipsec.plugins.module_utils._run import Runner

STATE_FILE = "/etc/underlay-ipsec/mtu.json"
_VERSION = 1
# RFC 8200 and RFC 791: below, IPv6 does not work, and IPv4 hosts need not take a packet.
SMALLEST: Mapping[int, int] = {4: 576, 6: 1280}
# Links that the kernel makes as narrow as the one below them.
_FOLLOWERS = ("vlan", "macvlan", "macvtap", "ipvlan", "ipvtap")


class Thing(NamedTuple):
    """Something that has a value.

    ``link NAME``: the MTU. ``route FAMILY DESTINATION DEVICE METRIC``: what it says of the MTU, or empty.
    ``nm UUID PROPERTY DEVICE``: the profile's property. ``file PATH`` and ``program PATH``: the text.
    ``directory PATH`` and ``unit NAME``: any text if it is there (and runs). None: it is not there.
    """

    kind: str
    arguments: tuple[str, ...]

    def __str__(self) -> str:
        if self.kind == "link":
            return f"interface {self.arguments[0]}: mtu"
        if self.kind == "route":
            _family, destination, device, metric = self.arguments
            return f"route {destination} dev {device}{metric and ' metric ' + metric}: mtu"
        if self.kind == "nm":
            return f"NetworkManager's connection {self.arguments[0]}: {self.arguments[1]}"
        return f"{self.kind} {self.arguments[0]}"


# What is on the host or is not; all else has to be there to be changed.
_OWN = ("file", "program", "directory", "unit")
Values = dict[Thing, "str | None"]


@dataclass(frozen=True)
class Network:
    """A network that the host is on."""

    name: str
    interface: str
    cidr: str
    address: str
    family: int
    mtu: int | None
    """Bytes on the wire; None if nobody knows."""


@dataclass(frozen=True)
class Overlay:
    """An interface whose packets travel over a member network."""

    interface: str
    mtu: int


@dataclass(frozen=True)
class Change:
    """One thing that gets another value."""

    thing: Thing
    was: str | None
    becomes: str | None

    def __str__(self) -> str:
        if self.thing.kind not in _OWN:
            return f"{self.thing} {self.was or 'none'} -> {self.becomes or 'none'}"
        verb = "removed" if self.becomes is None else "made" if self.was is None else "changed"
        return f"{self.thing} {verb}"


@dataclass(frozen=True)
class Link:
    """What is known of an interface."""

    mtu: int
    kind: str | None = None
    lower: str | None = None
    local: str | None = None
    remote: str | None = None
    addresses: tuple[str, ...] = ()


@dataclass
class Host:
    """The host: reads and writes things."""

    run: Runner
    root: Path = Path("/")

    def read(self, thing: Thing) -> str | None:
        """Return the value of *thing*."""
        first = thing.arguments[0]
        if thing.kind == "link":
            try:
                return self._path(f"/sys/class/net/{first}/mtu").read_text(encoding="utf-8").strip()
            except OSError:
                return None
        if thing.kind == "route":
            found = self._route(thing)
            return found.mtu if found else None
        if thing.kind == "nm":
            return managers.read_nm(self.run, *thing.arguments[:2])
        if thing.kind == "unit":
            states = [
                self.run(["systemctl", verb, "--quiet", first], check=False).rc == 0
                for verb in ("is-enabled", "is-active")
            ]
            return "running" if all(states) else "half" if any(states) else None
        path = self._path(first)
        if thing.kind == "directory":
            return "there" if path.is_dir() else None
        try:
            return path.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return None

    def write(self, thing: Thing, value: str | None) -> None:
        """Give *thing* a value. Raises IpsecError or OSError."""
        first = thing.arguments[0]
        if thing.kind == "link":
            self._write_link(first, str(value))
        elif thing.kind == "route":
            self._write_route(thing, value or "")
        elif thing.kind == "nm":
            connection, setting, device = thing.arguments
            managers.write_nm(self.run, connection, setting, device, str(value))
        elif thing.kind == "unit":
            self.run(["systemctl", "disable" if value is None else "enable", "--quiet", "--now", first])
            if value is None:
                # It may be at work, and would undo what comes next.
                service = first.replace(".timer", ".service")
                self.run(["systemctl", "stop", service], check=False)
                self.run(["systemctl", "reset-failed", service], check=False)
        elif thing.kind == "directory":
            self._write_directory(self._path(first), value)
        else:
            self._write_file(first, value, program=thing.kind == "program")

    def _write_link(self, name: str, value: str) -> None:
        try:
            # This alone: the link stays up, and addresses, routes and security associations with it.
            self.run(["ip", "link", "set", "dev", name, "mtu", value])
        except CommandError as error:
            raise ProblemsError(
                [
                    Problem(
                        f"the kernel does not let {name} have an MTU of {value}: {error.stderr.strip()}",
                        "Set the mtu of the network in ipsec_networks to what the interface can carry",
                        variable="ipsec_mtu",
                    )
                ]
            ) from None

    def _write_route(self, thing: Thing, value: str) -> None:
        found = self._route(thing)
        if found is None:
            return
        try:
            self.run(found.change(value))
        except CommandError as error:
            # NetworkManager puts its own beside ours; if that is what is wanted, the first has to go.
            if "File exists" not in error.stderr:
                raise
            self.run(found.delete())

    def _write_directory(self, path: Path, value: str | None) -> None:
        if value is not None:
            path.mkdir(mode=0o755, parents=True, exist_ok=True)
        elif path.is_dir() and not any(path.iterdir()):
            # Only if nothing is left in it: others may have put something there.
            path.rmdir()

    def _write_file(self, name: str, value: str | None, *, program: bool) -> None:
        path = self._path(name)
        if value is None:
            if path.exists():
                path.unlink()
                sync_directory(str(path.parent))
        else:
            path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            write_atomically(str(path), value, mode=0o755 if program else 0o644)

    def _route(self, thing: Thing) -> routes.Route | None:
        family, destination, device, metric = thing.arguments
        found = routes.read_routes(self.run, int(family), "exact", destination)
        return next((r for r in found if (r.device, r.metric) == (device, metric)), None)

    def _path(self, path: str) -> Path:
        return self.root / path.lstrip("/")


@dataclass
class Plan:
    """What is to be done on a host."""

    wanted: Values
    before: Values
    """What the state file says, and for things that it does not know, what they are now."""
    changes: list[Change]
    saved: str | None
    """The state file as it is."""
    warnings: list[str] = field(default_factory=list)


def plan(
    host: Host,
    method: str,
    networks: Sequence[Network],
    overlays: Sequence[Overlay],
    links: Callable[[], Mapping[str, Link]],
) -> Plan:
    """Return what is to be done for *method* (advise, route, interface).

    *links* is only asked if the host has to have an MTU. Raises `ProblemsError` with all that is in the
    way; then nothing has been changed, and nothing is after this in any case.
    """
    saved, known = load(host)
    wanted: Values = {}
    warnings: list[str] = []
    seen = links() if method != "advise" or known else {}
    if method != "advise":
        check(method, networks, overlays, _restored(seen, known) if method == "route" else seen)
        if method == "interface":
            wanted = _wanted_interfaces(host, networks, overlays)
        else:
            wanted, warnings = _wanted_routes(host, networks)
    now = {thing: host.read(thing) for thing in {**known, **wanted}}
    target = {**{thing: was for thing, was in known.items() if thing not in wanted}, **wanted}
    changes = [
        Change(thing, now[thing], value)
        for thing, value in target.items()
        if now[thing] != value and (now[thing] is not None or thing.kind in _OWN)
    ]
    before = {thing: known.get(thing, now[thing]) for thing in {**known, **wanted}}
    return Plan(wanted, before, _in_order(changes, seen), saved, warnings)


def _restored(links: Mapping[str, Link], known: Values) -> dict[str, Link]:
    """Return *links* with the MTUs that they get back when nothing but routes is to have one."""
    given_back = {
        thing.arguments[0]: int(was) for thing, was in known.items() if thing.kind == "link" and was
    }
    return {name: replace(link, mtu=given_back.get(name, link.mtu)) for name, link in links.items()}


def carry_out(host: Host, todo: Plan) -> None:
    """Do what *todo* says. If anything fails, undo what was done and raise IpsecError."""
    wanted_state = dump({thing: todo.before[thing] for thing in todo.wanted})
    if not todo.changes and todo.saved == wanted_state:
        return
    state, folder = Thing("file", (STATE_FILE,)), Thing("directory", (os.path.dirname(STATE_FILE),))
    done: list[Change] = []
    try:
        if todo.changes:
            # Before anything changes: also what is given back, until that is done.
            host.write(state, dump(todo.before))
        for change in todo.changes:
            done.append(change)
            host.write(change.thing, change.becomes)
        # What is new, systemctl enable has systemd read.
        if any(_is_unit_file(change.thing) and change.was is not None for change in done):
            host.run(["systemctl", "daemon-reload"])
        _insist(host, todo)
        host.write(state, wanted_state)
    except (IpsecError, OSError) as error:
        failed = _undo(host, done)
        if not failed:
            host.write(state, todo.saved)
            host.write(folder, None)
        raise _told(error, failed) from error
    host.write(folder, None)


def _insist(host: Host, todo: Plan) -> None:
    """Set once more what a manager has set differently while it was told of the change."""
    for change in todo.changes:
        if change.thing.kind in ("link", "route") and host.read(change.thing) not in (None, change.becomes):
            host.write(change.thing, change.becomes)
            if host.read(change.thing) != change.becomes:
                raise IpsecError(f"{change.thing} {change.becomes} was set, and is not there")


def _undo(host: Host, done: Sequence[Change]) -> list[str]:
    """Take back *done*, the last first; return what could not be."""
    failed = []
    for change in reversed(done):
        try:
            if host.read(change.thing) != change.was:
                host.write(change.thing, change.was)
        except (IpsecError, OSError) as error:
            failed.append(f"{change.thing}: {error}")
    if any(_is_unit_file(change.thing) for change in done):
        host.run(["systemctl", "daemon-reload"], check=False)
    # A manager that took its change back may have set the MTU once more.
    for change in done:
        if change.thing.kind == "link" and host.read(change.thing) not in (None, change.was):
            try:
                host.write(change.thing, change.was)
            except IpsecError as error:
                failed.append(f"{change.thing}: {error}")
    return failed


def _is_unit_file(thing: Thing) -> bool:
    return thing.kind == "file" and thing.arguments[0].startswith("/etc/systemd/system/")


def _told(error: Exception, failed: Sequence[str]) -> IpsecError:
    said = str(problem_from_os(error)) if isinstance(error, OSError) else str(error)
    if not failed:
        return IpsecError(f"{said}. Everything is as it was before this run")
    return IpsecError(
        f"{said}. This could not be undone: {'; '.join(failed)}."
        f" {STATE_FILE} says what it was before; a run with ipsec_mtu=advise tries again"
    )


# -- what is wanted


def check(
    method: str,
    networks: Sequence[Network],
    overlays: Sequence[Overlay],
    links: Mapping[str, Link],
) -> None:
    """Raise `ProblemsError` with every reason not to give *networks* and *overlays* their MTU."""
    problems = [
        problem for network in networks for problem in _network_problems(method, network, networks, links)
    ]
    if method == "interface":
        members = {n.interface for n in networks}
        targets = {**_interface_mtus(networks), **{o.interface: o.mtu for o in overlays}}
        for overlay in overlays:
            problems += _overlay_problems(overlay, networks, members, links)
        for name, mtu in targets.items():
            problems += _neighbour_problems(name, mtu, targets, links)
    if problems:
        raise ProblemsError(problems)


def _interface_mtus(networks: Iterable[Network]) -> dict[str, int]:
    """Return interface → the smallest MTU of its networks."""
    found: dict[str, int] = {}
    for network in networks:
        mtu = network.mtu or 0
        found[network.interface] = min(mtu, found.get(network.interface, mtu))
    return found


def _network_problems(
    method: str, network: Network, networks: Sequence[Network], links: Mapping[str, Link]
) -> list[Problem]:
    where = f"ipsec_networks, {network.name}"
    link = links.get(network.interface)
    if link is None:
        return [_stale(f"there is no interface {network.interface}", where)]
    if not _holds(link, network.address):
        return [_stale(f"{network.interface} does not have the address {network.address}", where)]
    if network.mtu is None:
        return [Problem("nobody knows the network's MTU", "Give the network an mtu", variable=where)]
    least = SMALLEST[network.family]
    if network.mtu < least:
        return [
            Problem(
                f"an MTU of {network.mtu} is too small for IPv{network.family}",
                f"Give the network an mtu of {least} or more",
                variable=where,
            )
        ]
    if method == "route" and network.mtu > link.mtu:
        return [
            Problem(
                f"an MTU of {network.mtu} is more than that of {network.interface}, {link.mtu}, and a route cannot raise it",
                "Set ipsec_mtu to interface, or give the network a smaller mtu",
                variable=where,
            )
        ]
    return []


def _overlay_problems(
    overlay: Overlay,
    networks: Sequence[Network],
    members: Iterable[str],
    links: Mapping[str, Link],
) -> list[Problem]:
    where = "ipsec_mtu_overlays"
    link = links.get(overlay.interface)
    if link is None:
        return [_stale(f"there is no interface {overlay.interface}", where)]
    over_member = (
        link.lower in set(members)
        or any(link.local and _same(link.local, n.address) for n in networks)
        or any(link.remote and _within(link.remote, n.cidr) for n in networks)
    )
    if not over_member:
        return [
            Problem(
                f"{overlay.interface} does not travel over a member network, as far as the kernel says",
                "Take it out, and set its MTU where it is made",
                variable=where,
            )
        ]
    if overlay.mtu < SMALLEST[4]:
        return [
            Problem(
                f"an MTU of {overlay.mtu} is too small for {overlay.interface}",
                "Give the network below it a larger mtu",
                variable=where,
            )
        ]
    return []


def _neighbour_problems(
    name: str, mtu: int, targets: Mapping[str, int], links: Mapping[str, Link]
) -> list[Problem]:
    """Return what the change of one interface would do to others, or to what it carries besides."""
    link = links.get(name)
    if link is None or mtu >= link.mtu:
        return []
    problems = []
    if mtu < SMALLEST[6] and any(":" in address for address in link.addresses):
        problems.append(
            Problem(
                f"with an MTU of {mtu}, {name} would lose its IPv6 addresses",
                f"Set ipsec_mtu to route, or give the network an mtu of {SMALLEST[6]} or more",
                variable="ipsec_mtu",
            )
        )
    narrowed = sorted(
        other
        for other, info in links.items()
        if info.lower == name
        and info.kind in _FOLLOWERS
        and info.mtu > mtu
        and targets.get(other, mtu + 1) > mtu
    )
    if narrowed:
        problems.append(
            Problem(
                f"with an MTU of {mtu} on {name}, the kernel would narrow {', '.join(narrowed)} as well",
                "Set ipsec_mtu to route",
                variable="ipsec_mtu",
            )
        )
    return problems


def _stale(message: str, where: str) -> Problem:
    return Problem(
        message, "Put the interface right, or run the plan again if it has changed", variable=where
    )


def _holds(link: Link, address: str) -> bool:
    return any(_same(own, address) for own in link.addresses)


def _same(one: str, other: str) -> bool:
    return ipaddress.ip_address(one) == ipaddress.ip_address(other)


def _within(address: str, cidr: str) -> bool:
    return ipaddress.ip_address(address) in ipaddress.ip_network(cidr)


def _wanted_interfaces(host: Host, networks: Sequence[Network], overlays: Sequence[Overlay]) -> Values:
    targets = {**_interface_mtus(networks), **{o.interface: o.mtu for o in overlays}}
    wanted: Values = {Thing("link", (name,)): str(mtu) for name, mtu in targets.items()}
    problems: list[Problem] = []
    hooks: dict[str, int] = {}
    named = {o.interface for o in overlays}
    for name, mtu in targets.items():
        try:
            owner = managers.find_owner(host.run, name)
        except ProblemsError as error:
            problems += error.problems
            continue
        if owner is None:
            problems.append(_unowned(name, mtu, overlay=name in named))
        elif owner.manager == managers.NETWORK_MANAGER:
            wanted[Thing("nm", (owner.connection, owner.setting, name))] = str(mtu)
        elif owner.manager == managers.NETWORKD:
            path = managers.drop_in(owner.network_file)
            wanted[Thing("directory", (os.path.dirname(path),))] = "there"
            wanted[Thing("file", (path,))] = managers.networkd_text(mtu)
        else:
            hooks[name] = mtu
    if problems:
        raise ProblemsError(problems)
    if hooks:
        wanted[Thing("program", (managers.IFUPDOWN_HOOK,))] = managers.ifupdown_text(hooks.items())
    return wanted


def _unowned(name: str, mtu: int, *, overlay: bool) -> Problem:
    message = f"neither NetworkManager nor systemd-networkd nor ifupdown configures {name}"
    if overlay:
        remedy = f"Take {name} out, and set its MTU to {mtu} where it is made"
        return Problem(message, remedy, variable="ipsec_mtu_overlays")
    return Problem(
        f"{message}, so an MTU would not outlive a reboot", "Set ipsec_mtu to route", variable="ipsec_mtu"
    )


def _wanted_routes(host: Host, networks: Sequence[Network]) -> tuple[Values, list[str]]:
    wanted: Values = {}
    warnings: list[str] = []
    problems: list[Problem] = []
    selections = []
    for network in networks:
        selection, complete = routes.select(host.run, network.cidr, network.interface)
        if selection is None:
            problems.append(
                Problem(
                    f"no route but the default one leads to {network.cidr} over {network.interface}",
                    "Add one, or set ipsec_mtu to interface",
                    variable=f"ipsec_networks, {network.name}",
                )
            )
            continue
        if not complete:
            warnings.append(
                f"There are routes to parts of {network.cidr} over {network.interface}, and none to all of it:"
                " what takes the default route is not given an MTU"
            )
        selections.append((selection, network.mtu or 0))
        found = routes.read_routes(host.run, selection.family, selection.selector, selection.cidr)
        for route in (route for route in found if route.device == selection.device):
            devices = {
                r.device for r in found if (r.destination, r.metric) == (route.destination, route.metric)
            }
            if len(devices) > 1:
                # The kernel changes the first that it finds, which may be the other interface's.
                problems.append(
                    Problem(
                        f"there are {len(devices)} routes to {route.destination} that differ only in the interface",
                        "Give them different metrics, or set ipsec_mtu to interface",
                        variable=f"ipsec_networks, {network.name}",
                    )
                )
            thing = Thing("route", (str(route.family), route.destination, route.device, route.metric))
            wanted[thing] = str(network.mtu)
    if problems:
        raise ProblemsError(sorted(set(problems)))
    for path, text in routes.files(selections).items():
        wanted[Thing("file", (path,))] = text
    wanted[Thing("unit", (routes.TIMER,))] = "running"
    return wanted, warnings


def _in_order(changes: Iterable[Change], links: Mapping[str, Link]) -> list[Change]:
    """Return *changes* so that each is possible when its turn comes.

    What mends routes is stopped first and started last. A link that sits on another is narrowed before
    that one, and widened after. The kernel is asked before any file is written: it may refuse.
    """

    def depth(name: str, left: int = 8) -> int:
        link = links.get(name)
        if link is None or not left:
            return 0
        if link.lower and link.lower in links and link.lower != name:
            return 1 + depth(link.lower, left - 1)
        return 1 if link.local or link.remote else 0

    def rank(change: Change) -> tuple[int, int]:
        kind, gone = change.thing.kind, change.becomes is None
        if kind == "link":
            raised = int(change.becomes or 0) > int(change.was or 0)
            at = depth(change.thing.arguments[0])
            return 1, (at if raised else -at - 100)
        places = {"unit": (0 if gone else 9), "route": 2, "nm": 3, "directory": (6 if gone else 4)}
        return places.get(kind, 5), 0

    return sorted(changes, key=rank)


# -- what was before


def load(host: Host) -> tuple[str | None, Values]:
    """Return the state file, and what it says that things were before. Raises `ProblemsError` if it is damaged."""
    text = host.read(Thing("file", (STATE_FILE,)))
    if text is None:
        return None, {}
    try:
        found = json.loads(text)
        if found["version"] != _VERSION:
            raise ValueError
        return text, {Thing(kind, tuple(rest)): was for kind, rest, was in found["before"]}
    except (ValueError, KeyError, TypeError):
        raise ProblemsError(
            [
                Problem(
                    f"{STATE_FILE} cannot be read, so what was before is not known",
                    "Put the MTUs right by hand and remove the file",
                    variable="ipsec_mtu",
                )
            ]
        ) from None


def dump(before: Mapping[Thing, str | None]) -> str | None:
    """Return the text of the state file, or None if there is nothing to remember."""
    if not before:
        return None
    rows = [[thing.kind, list(thing.arguments), was] for thing, was in sorted(before.items())]
    return json.dumps({"version": _VERSION, "before": rows}, indent=1) + "\n"


def diff(todo: Plan) -> list[dict[str, str]]:
    """Return *todo* as Ansible shows differences: one for each file, one for all else."""
    shown = [
        {
            "before_header": change.thing.arguments[0],
            "after_header": change.thing.arguments[0],
            "before": change.was or "",
            "after": change.becomes or "",
        }
        for change in todo.changes
        if change.thing.kind in ("file", "program")
    ]
    rest = [change for change in todo.changes if change.thing.kind not in ("file", "program")]
    if rest:
        lines = {
            side: "".join(f"{change.thing} {getattr(change, side) or 'none'}\n" for change in rest)
            for side in ("was", "becomes")
        }
        shown.insert(
            0,
            {
                "before_header": "live",
                "after_header": "live",
                "before": lines["was"],
                "after": lines["becomes"],
            },
        )
    return shown


def read_host(run: Runner, links: Callable[[Runner], Sequence[Mapping[str, Any]]]) -> dict[str, Link]:
    """Return the host's interfaces with their addresses; *links* reads what `_mtu.links.read_links` does."""
    addresses: dict[str, list[str]] = {}
    for link in json.loads(run(["ip", "-j", "address", "show"]).stdout or "[]"):
        addresses[link["ifname"]] = [info["local"] for info in link.get("addr_info", ()) if "local" in info]
    return {
        found["name"]: Link(
            found["mtu"],
            found["kind"],
            found["lower"],
            found["local"],
            found["remote"],
            tuple(addresses.get(found["name"], ())),
        )
        for found in links(run)
    }


def given(todo: Plan) -> dict[str, int]:
    """Return interface, or destination of a route, → the MTU that it is given."""
    at = {"link": 0, "route": 1}
    return {
        thing.arguments[at[thing.kind]]: int(value or 0)
        for thing, value in todo.wanted.items()
        if thing.kind in at
    }
