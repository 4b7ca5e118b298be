# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Authenticate anew with every peer, with the certificates that are in NSS now, under traffic.

An SA outlives the certificate that it was made with: renewing one proves nothing about the other.
Libreswan has no command for it (``--rekey-ike`` does not authenticate, ``reauth=yes`` ends the SA first).

4.x with opportunistic SAs: pluto leaves, the kernel's SAs and policies stay and carry the traffic, and a new pluto makes new SAs
beside them, which also reads certificates, CAs and CRLs as nothing else does on 4.x (``--rereadcerts``
crashes it if there is an opportunistic SA). Then what the old pluto left in the kernel is removed.

Otherwise: pluto reads the certificates again, and then ends and begins the SAs with one peer after the other.
In between the kernel keeps the packets (`render.SYSCTL`): lost is what is on the wire at that moment.
"""

from __future__ import annotations

import ipaddress
import json
import time
from collections.abc import Callable, Collection, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from ansible_collections.underlay.ipsec.plugins.module_utils._errors import IpsecError, Problem, ProblemsError
from ansible_collections.underlay.ipsec.plugins.module_utils._files import write_atomically
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan.apply import await_loaded, look_loaded
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan.connection import PREFIX
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan.dialect import Dialect
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan.difference import SERVICE
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan.loaded import Loaded, ending
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan.status import (
    parse_shunts,
    parse_states,
)
from ansible_collections.underlay.ipsec.plugins.module_utils._nss.names import attributes
from ansible_collections.underlay.ipsec.plugins.module_utils._probe.xfrm import read_states
from ansible_collections.underlay.ipsec.plugins.module_utils._run import Runner

MEMORY = "/run/underlay-ipsec-handover.json"
DROP_IN = "/run/systemd/system/ipsec.service.d/underlay-handover.conf"
# What the unit does before pluto starts is done already, and one of its steps would clear the kernel.
_DROP_IN_TEXT = "# Managed by underlay.ipsec: there only while one pluto takes over from another.\n[Service]\nExecStartPre=\n"

_STOP_SECONDS = 15.0
_LOOK_SECONDS = 0.05
# How long a peer may take before the next one is begun with.
_PATIENCE_SECONDS = 1.0
# After this long without an SA, begin again.
_AGAIN_SECONDS = 4.0
# How long the SAs of before are still there for what is on the wire.
_DRAIN_SECONDS = 1.0
_REFUSALS = 2
_REFUSAL_SECONDS = 2.0


@dataclass(frozen=True)
class Association:
    """A pair of hosts that has an SA: what pluto calls it, and its ends' addresses."""

    name: str
    peer: str
    own: str

    @property
    def begin(self) -> tuple[str, ...]:
        """Whack's arguments that begin it. The name of an opportunistic one is that of its group's entry."""
        if "#" in self.name:
            return ("--oppohere", self.own, "--oppothere", self.peer)
        return ("--initiate", "--name", self.name)


@dataclass(frozen=True)
class Outcome:
    """What came of it."""

    reauthenticated: set[str]
    """The addresses of the peers that this host has authenticated with anew."""
    missing: set[str]
    """Of those that it could not, in the time that there was."""
    left: set[str]
    """The numbers (SPIs) of the SAs towards this host that are gone, and that peers still have: a new pluto took over."""


def reauthenticate(
    networks: Mapping[str, str],
    dialect: Dialect,
    run: Runner,
    seconds: float,
    *,
    without: Container[str] = (),
    root: Path = Path("/"),
    wait: Callable[[float], None] = time.sleep,
    now: Callable[[], float] = time.monotonic,
) -> Outcome:
    """Authenticate anew with every peer that there is an SA with, *without* some; *networks* is CIDR → own address.

    That ends after *seconds*. Where a new pluto took over, what is missing then still has the SAs of
    before; otherwise none, until a packet asks for one. Raises `IpsecError`.
    """
    memory = _Memory.load(root)
    if memory is None and look_loaded(run).crashes_on_reread(dialect):
        hand_over(networks, run, root=root, wait=wait)
        memory = _Memory.load(root)
    child = parse_states(_said(run, "--showstates"))[1]
    present = memory.associations if memory else associations_of(child, networks)
    associations = [each for each in present if each.peer not in without]
    clock = Clock(seconds, wait, now)
    left: set[str] = set()
    if memory:
        missing, left = _take_up(memory, associations, run, clock)
        _Memory.forget(root)
    else:
        missing = _one_by_one(associations, run, clock)
    silent = {each.peer for each in missing}
    return Outcome({each.peer for each in associations} - silent, silent, left)


def associations_of(
    child: Iterable[Mapping[str, object]], networks: Mapping[str, str]
) -> tuple[Association, ...]:
    """Return what has an SA, from the Child SAs in ``--showstates``; *networks* is CIDR → own address."""
    found = set()
    for entry in child:
        if not entry["established"] or not entry["peer"] or not str(entry["name"]).startswith(PREFIX):
            continue
        peer = ipaddress.ip_address(str(entry["peer"]))
        own = next((own for cidr, own in networks.items() if peer in ipaddress.ip_network(cidr)), None)
        if own or "#" not in str(entry["name"]):
            found.add(Association(str(entry["name"]), str(peer), own or ""))
    return tuple(sorted(found, key=lambda each: (each.name, each.peer)))


class Clock:
    """What is left of the time for the whole."""

    def __init__(self, seconds: float, wait: Callable[[float], None], now: Callable[[], float]) -> None:
        self.wait, self.now = wait, now
        self._ends = now() + seconds

    @property
    def left(self) -> float:
        return self._ends - self.now()


def _said(run: Runner, question: str) -> str:
    return run(["ipsec", "whack", question], check=False).stdout


def hand_over(
    networks: Mapping[str, str],
    run: Runner,
    *,
    root: Path = Path("/"),
    wait: Callable[[float], None] = time.sleep,
) -> None:
    """Have a new pluto take over, and remember what it has to make anew; `reauthenticate` does that.

    Several hosts may do this at once, and should if their old certificates serve no more: each is
    authenticated by the others' new pluto, and the kernel carries the traffic until then.
    """
    # What an interrupted run was to make anew still is to be.
    before = _Memory.load(root) or _Memory((), (), ())
    associations = associations_of(parse_states(_said(run, "--showstates"))[1], networks)
    memory = _Memory(
        [*before.associations, *(each for each in associations if each not in before.associations)],
        [*before.states, *((state.source, state.destination, state.spi) for state in read_states(run))],
        [
            *before.shunts,
            *((s["source"], s["destination"]) for s in parse_shunts(_said(run, "--shuntstatus"))),
        ],
    )
    memory.save(root)
    exchange(run, root, wait)


@dataclass(frozen=True)
class _Memory:
    """What there was before a new pluto took over."""

    associations: Sequence[Association]
    states: Sequence[tuple[str, str, str]]
    """Source, destination and SPI of the kernel's SAs."""
    shunts: Sequence[tuple[str, str]]
    """Source and destination of what pluto dropped or let pass."""

    def save(self, root: Path) -> None:
        data = [[(each.name, each.peer, each.own) for each in self.associations], self.states, self.shunts]
        write_atomically(str(root / MEMORY.lstrip("/")), json.dumps(data), mode=0o600)

    @classmethod
    def load(cls, root: Path) -> _Memory | None:
        try:
            text = (root / MEMORY.lstrip("/")).read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        associations, states, shunts = json.loads(text)
        return cls([Association(*each) for each in associations], states, shunts)

    @staticmethod
    def forget(root: Path) -> None:
        (root / MEMORY.lstrip("/")).unlink(missing_ok=True)


def _take_up(
    memory: _Memory, associations: Sequence[Association], run: Runner, clock: Clock
) -> tuple[set[Association], set[str]]:
    """Make anew what the old pluto had; return what has no new SA, and the numbers of what peers still have."""
    missing = begin(associations, run, clock, 0)
    # A bare shunt is a note of pluto's, and the kernel's policy for it ends with that note.
    for source, destination in memory.shunts:
        drop_shunt(["src", source, "dst", destination, "dir", "out"], run)
    clock.wait(_DRAIN_SECONDS)
    known = {
        spi
        for entry in parse_states(_said(run, "--showstates"))[1]
        for spi in (entry["spi_in"], entry["spi_out"])
    }
    peers = {each.peer for each in associations} - {each.peer for each in missing}
    old = left_over(memory.states, known, peers)
    for source, destination, spi in old:
        _delete_state(source, destination, spi, run)
    return missing, {spi for source, _destination, spi in old if source in peers}


def drop_shunt(selectors: Sequence[str], run: Runner) -> None:
    """Delete a policy of the old pluto that drops or passes; one that a new SA has taken over stays."""
    policy = run(["ip", "xfrm", "policy", "get", *selectors], check=False).stdout
    # One that drops has a template, too, which is never asked for.
    if policy and ("action block" in policy or "tmpl" not in policy):
        run(["ip", "xfrm", "policy", "delete", *selectors], check=False)


def left_over(
    before: Iterable[tuple[str, str, str]], known: Iterable[str | None], peers: Iterable[str]
) -> list[tuple[str, str, str]]:
    """Return the kernel's SAs of *before* with *peers* that pluto does not know: the old one's."""
    spis = {int(spi, 16) for spi in known if spi}
    ends = set(peers)
    return [
        (source, destination, spi)
        for source, destination, spi in before
        if {source, destination} & ends and int(spi, 16) not in spis
    ]


def exchange(run: Runner, root: Path, wait: Callable[[float], None]) -> None:
    """Have a new pluto in the place of the running one, under SAs and policies that stay.

    Raises `IpsecError` if the old one does not leave, or the new one does not come; it is then started
    as usual, because a host without pluto is worse than one whose SAs have to be made again.
    """
    _check_unit(run)
    drop_in = root / DROP_IN.lstrip("/")
    loaded = look_loaded(run).connections
    drop_in.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(str(drop_in), _DROP_IN_TEXT, mode=0o644)
    try:
        run(["systemctl", "daemon-reload"])
        run(["ipsec", "whack", "--shutdown", "--leave-state"], check=False)
        _await_stopped(run, wait)
        run(["systemctl", "reset-failed", SERVICE], check=False)
        started = run(["systemctl", "start", SERVICE], check=False)
    finally:
        drop_in.unlink(missing_ok=True)
        run(["systemctl", "daemon-reload"], check=False)
    if started.rc != 0:
        run(["systemctl", "restart", SERVICE])
        raise IpsecError(
            f"a new pluto did not come up beside the SAs of the old one ({started.stderr.strip()}); "
            f"{SERVICE} was restarted, which has ended all SAs"
        )
    await_loaded(run, {name for name in loaded if name.startswith(PREFIX)}, wait)


def _check_unit(run: Runner) -> None:
    """Raise `ProblemsError` if systemd would not leave the kernel alone."""
    unit = run(["systemctl", "cat", SERVICE], check=False).stdout
    if "RestartPreventExitStatus=12" not in unit:
        raise ProblemsError(
            [
                Problem(
                    "the unit ipsec.service does not know of a pluto that leaves its SAs to another",
                    f"Run systemctl restart {SERVICE} at a time of your choice: it makes all SAs of this host again",
                )
            ]
        )


def _await_stopped(run: Runner, wait: Callable[[float], None]) -> None:
    for _attempt in range(int(_STOP_SECONDS / _LOOK_SECONDS)):
        state = run(["systemctl", "is-active", SERVICE], check=False).stdout.strip()
        if state in ("inactive", "failed"):
            return
        wait(_LOOK_SECONDS)
    raise IpsecError(f"pluto did not leave within {_STOP_SECONDS:g} s: see journalctl -u {SERVICE}")


def begin(
    associations: Sequence[Association],
    run: Runner,
    clock: Clock,
    after: int,
    already: Mapping[Association, float] = MappingProxyType({}),
) -> set[Association]:
    """Begin *associations* until each has a Child SA of an IKE SA with a number above *after*; return what has none.

    One at a time: the peer sends by the new SA as soon as it has it, and what it sends before this end has
    worked off the answer is lost. So this end should have nothing else to work off.
    """
    begun: dict[Association, float] = {}
    while True:
        _ike, child = parse_states(_said(run, "--showstates"))
        there = {
            (entry["name"], entry["peer"])
            for entry in child
            if entry["established"] and (entry["ike_serial"] or 0) > after
        }
        missing = {each for each in associations if (each.name, each.peer) not in there}
        if not missing or clock.left <= 0:
            return missing
        ages = {each: clock.now() - begun[each] if each in begun else _AGAIN_SECONDS for each in missing}
        due = [each for each in associations if ages.get(each, 0) >= _AGAIN_SECONDS]
        if due and not any(age < _PATIENCE_SECONDS for age in ages.values()):
            # One that does not answer comes after those that were not asked yet.
            next_one = min(due, key=lambda each: begun.get(each, -1.0))
            run(["ipsec", "whack", "--asynchronous", *next_one.begin], check=False)
            begun[next_one] = clock.now()
        clock.wait(_LOOK_SECONDS)


def _one_by_one(associations: Sequence[Association], run: Runner, clock: Clock) -> set[Association]:
    """See the module's text on what does not hand over; return what has no new SA."""
    run(["ipsec", "whack", "--rereadcerts"])
    missing: set[Association] = set()
    for group in _by_identity(associations, look_loaded(run)):
        ends = {(each.name, each.peer) for each in group}
        sas = [sa for sa in look_loaded(run).ike_sas if (sa.target, sa.peer) in ends]
        for arguments in _again(ending(sas), group):
            run(["ipsec", "whack", "--asynchronous", *arguments], check=False)
        after = max((sa.serial for sa in sas), default=0)
        missing |= begin(group, run, clock, after, dict.fromkeys(group, clock.now()))
    return missing


def _again(ends: Sequence[tuple[str, ...]], group: Sequence[Association]) -> list[tuple[str, ...]]:
    """Return whack's arguments that end what there is with a peer, and begin *group* at once.

    The next packet of either side would make that side begin. So they are one message where whack can say both.
    """
    begins = [each.begin for each in group]
    if len(ends) == 1 and "--deleteid" in ends[0] and "--oppohere" in begins[0]:
        return [(*ends[0], *begins[0]), *begins[1:]]
    return [*ends, *begins]


def _by_identity(associations: Sequence[Association], loaded: Loaded) -> list[list[Association]]:
    """Return *associations* by the identity of the peer: on several networks, they end together."""
    ids = {(sa.target, sa.peer): sa.peer_id for sa in loaded.ike_sas}
    groups: dict[str, list[Association]] = {}
    for each in associations:
        groups.setdefault(ids.get((each.name, each.peer)) or each.peer, []).append(each)
    return list(groups.values())


def retire(left: Iterable[str], dialect: Dialect, run: Runner) -> set[str]:
    """Have pluto end the SAs whose Child SA to a peer is one of *left*, SPIs; return these peers.

    That is what a pluto has left behind at its peers that has handed over to another. It would end by
    itself when it is due for renewal, up to eight hours later; until then, if it outlived the newer
    one, it would keep 4.x from making another. Not all that newer SAs have replaced: of two that were
    made at once, each end may use another one.
    """
    spis = {int(spi, 16) for spi in left}
    _ike, child = parse_states(_said(run, "--showstates"))
    parents = {
        entry["ike_serial"] for entry in child if entry["spi_out"] and int(entry["spi_out"], 16) in spis
    }
    old = [sa for sa in look_loaded(run).ike_sas if sa.superseded and sa.serial in parents]
    for sa in old:
        run(
            ["ipsec", "whack", "--asynchronous", "--impair", f"{dialect.expire_superseded}:{sa.serial}"],
            check=False,
        )
    return {sa.peer for sa in old}


def forget(subjects: Mapping[str, str], run: Runner) -> set[str]:
    """End all that there is with whoever had other *subjects* (address → present one); return their addresses.

    In an opportunistic group, pluto (4.10 and 5.2) takes an address for the subject that authenticated there
    first, and refuses any other ("ID_DER_ASN1_DN … does not match expected"), as long as it has anything
    with it: an established SA, or a negotiation that got lost, which lasts 200 seconds. What is new
    stays: a negotiation that is cut off has pluto drop all packets to that peer for half a minute.
    """
    sas = [
        sa
        for sa in look_loaded(run).ike_sas
        if sa.peer in subjects
        and sa.peer_id is not None
        and attributes(sa.peer_id) != attributes(subjects[sa.peer])
    ]
    for target in ending(sas):
        run(["ipsec", "whack", *target], check=False)
    return {sa.peer for sa in sas}


def banish(
    peers: Collection[str],
    networks: Mapping[str, str],
    run: Runner,
    seconds: float,
    *,
    wait: Callable[[float], None] = time.sleep,
    now: Callable[[], float] = time.monotonic,
) -> tuple[set[str], set[str]]:
    """End all SAs with *peers*, whose certificates are revoked, until they cannot make others.

    Returns the peers whose SAs were ended, and those that still can make some after *seconds*; see `reauthenticate` for *networks*. 5.x looks for
    another CRL every ten seconds or so. So each peer is invited again: it has to be refused twice.
    """
    clock = Clock(seconds, wait, now)
    invited = {
        each
        for each in associations_of(parse_states(_said(run, "--showstates"))[1], networks)
        if each.peer in peers
    }
    ended: set[str] = set()
    refused = 0
    while True:
        sas = [sa for sa in look_loaded(run).ike_sas if sa.peer in peers]
        present = {sa.peer for sa in sas if sa.established}
        ended |= present
        for target in ending(sas):
            run(["ipsec", "whack", *target], check=False)
        refused = 0 if present else refused + 1
        if refused >= _REFUSALS or clock.left <= 0:
            break
        for each in invited:
            run(["ipsec", "whack", "--asynchronous", *each.begin], check=False)
        wait(_REFUSAL_SECONDS)
    # What a pluto that is gone has left in the kernel would still carry traffic.
    for state in read_states(run):
        if state.source in peers or state.destination in peers:
            _delete_state(state.source, state.destination, state.spi, run)
            ended |= {state.source, state.destination} & set(peers)
    return ended, present


def _delete_state(source: str, destination: str, spi: str, run: Runner) -> None:
    ids = ["src", source, "dst", destination, "proto", "esp", "spi", spi]
    run(["ip", "xfrm", "state", "delete", *ids], check=False)
