# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the rules that a host has to those that it is to have, and what is remembered in between."""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ansible_collections.underlay.ipsec.plugins.module_utils._errors import IpsecError
from ansible_collections.underlay.ipsec.plugins.module_utils._files import write_atomically
from ansible_collections.underlay.ipsec.plugins.module_utils._firewall.backends import (
    DIRECTORY,
    Backend,
    Kept,
    backend,
)
from ansible_collections.underlay.ipsec.plugins.module_utils._firewall.rules import (
    Rules,
    Session,
    drops,
    on_the_way,
    read_rules,
)
from ansible_collections.underlay.ipsec.plugins.module_utils._run import Runner

NONE = "none"
STATE_FILE = f"{DIRECTORY}/firewall.json"
_SA = re.compile(r"^src (\S+) dst (\S+)", re.MULTILINE)


@dataclass(frozen=True)
class Place:
    """Where the rules go."""

    backend: str
    chain: str = "INPUT"
    """For iptables: the chain in which IKE and ESP are let in."""
    interfaces: tuple[str, ...] = ()
    """For firewalld: those whose zones let IKE and ESP in."""


@dataclass(frozen=True)
class State:
    """What was done to a host's firewall."""

    place: Place
    rules: Rules = field(default_factory=Rules)
    loading: Rules | None = None
    """What a run began to load in the place of the rules, if it did not come to its end."""
    text: str = ""
    """The rules in the tool's language; it may say the same in another way after an update of the collection."""
    live: str = ""
    """What there was of ours afterwards."""
    kept: Kept = field(default_factory=dict)
    former: tuple[tuple[Place, Kept], ...] = ()
    """Where rules of ours may be as well, because the place has changed and the run did not come to its end."""

    @property
    def present(self) -> Rules:
        """What can be relied on to be in force."""
        return self.rules if self.loading is None else on_the_way(self.rules, self.loading)

    @property
    def closed(self) -> bool:
        """Whether anything may be dropped; nobody knows while something is being loaded."""
        return bool(self.rules.closed) or self.loading is not None


@dataclass(frozen=True)
class Outcome:
    """What was changed, or would be."""

    changed: bool
    before: str = ""
    after: str = ""
    pending: bool = False
    """Whether something is left for the stage ``close``."""


def read_state(root: Path) -> State | None:
    """Return what was done to the host; None if nothing was."""
    try:
        data = json.loads((root / STATE_FILE).read_text(encoding="utf-8"))
        return State(
            _place(data["place"]),
            read_rules(data["rules"]),
            read_rules(data["loading"]) if data["loading"] else None,
            data["text"],
            data["live"],
            data["kept"],
            tuple((_place(place), kept) for place, kept in data["former"]),
        )
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        raise IpsecError(f"/{STATE_FILE} is damaged. Put it back from a backup, or remove it") from None


def _place(data: Mapping[str, Any]) -> Place:
    return Place(data["backend"], data["chain"], tuple(data["interfaces"]))


def _write_state(root: Path, state: State) -> None:
    data: dict[str, Any] = {
        "place": asdict(state.place),
        "rules": state.rules.as_dict(),
        "loading": state.loading.as_dict() if state.loading is not None else None,
        "text": state.text,
        "live": state.live,
        "kept": state.kept,
        "former": [[asdict(place), kept] for place, kept in state.former],
    }
    (root / DIRECTORY).mkdir(mode=0o755, parents=True, exist_ok=True)
    # It says whom this host talks to: for root alone.
    write_atomically(str(root / STATE_FILE), json.dumps(data, indent=1) + "\n", mode=0o600)


def establish(
    run: Runner,
    root: Path,
    place: Place,
    wanted: Rules,
    *,
    stage: str,
    session: Session | None,
    check: bool,
) -> Outcome:
    """Bring the firewall to *wanted*, or in the stage ``open`` to where the way there begins.

    Raises IpsecError if it would cut *session*, if the tool is missing or refuses.
    """
    state = read_state(root)
    present = state.present if state else Rules()
    if place.backend == NONE:
        # With what did it, so that it is lifted first here, too.
        place, wanted = state.place if state else place, Rules()
    target = wanted if stage == "close" else on_the_way(present, wanted)
    pending = target != wanted
    if not target:
        outcome = remove(run, root, check=check)
        return Outcome(outcome.changed, outcome.before, outcome.after, pending)
    tool = _backend(run, root, place)
    text = tool.text(target)
    if state and _is_loaded(state, place, target, text) and tool.live(state.kept) == state.live:
        return Outcome(False, pending=pending)
    _check_session(target, session, run)
    before = state.text if state else ""
    if state and before == text:
        before = f"# Somebody has changed these rules. There are:\n{tool.live(state.kept)}\n"
    outcome = Outcome(True, before, text, pending)
    if not check:
        _load(run, root, place, state, target)
    return outcome


def _is_loaded(state: State, place: Place, target: Rules, text: str) -> bool:
    return state.loading is None and (state.place, state.rules, state.text) == (place, target, text)


def _load(run: Runner, root: Path, place: Place, state: State | None, target: Rules) -> None:
    """Load *target*. Each step is written down before it is done, so that what was cut off can be undone."""
    tool = _backend(run, root, place)
    state = state or State(place)
    former = {at.backend: (at, kept) for at, kept in state.former}
    kept = state.kept
    if state.place.backend != place.backend:
        former[state.place.backend] = state.place, state.kept
        kept = former.pop(place.backend, (place, {}))[1]
    kept = tool.remember(kept, target)
    state = State(place, state.present, target, kept=kept, former=tuple(former.values()))
    _write_state(root, state)
    tool.load(target, kept)
    if former:
        # First the new one, which may refuse. The old one may take what both have with it.
        for at, its in former.values():
            _backend(run, root, at).remove(its)
        tool.load(target, kept)
    _write_state(root, State(place, target, None, tool.text(target), tool.live(kept), kept))


def _backend(run: Runner, root: Path, place: Place) -> Backend:
    return backend(place.backend, run, root, chain=place.chain, interfaces=place.interfaces)


def in_force(run: Runner, root: Path) -> bool | None:
    """Return whether the rules that drop are those that were loaded; None if none were. Raises IpsecError."""
    state = read_state(root)
    if state is None or not state.closed:
        return None
    return state.loading is None and _backend(run, root, state.place).live(state.kept) == state.live


def lift(run: Runner, root: Path, *, check: bool) -> Outcome:
    """Drop nothing any more, and leave open what is. Raises IpsecError."""
    state = read_state(root)
    if state is None or not state.closed:
        return Outcome(False)
    return establish(
        run, root, state.place, Rules(open=state.present.open), stage="close", session=None, check=check
    )


def remove(run: Runner, root: Path, *, check: bool) -> Outcome:
    """Leave the firewall as it was before. Raises IpsecError."""
    state = read_state(root)
    if state is None:
        return Outcome(False)
    if not check:
        for place, kept in [*state.former, (state.place, state.kept)]:
            _backend(run, root, place).remove(kept)
        (root / STATE_FILE).unlink()
        if not any((root / DIRECTORY).iterdir()):
            (root / DIRECTORY).rmdir()
    return Outcome(True, state.text, "")


def _check_session(rules: Rules, session: Session | None, run: Runner) -> None:
    """Raise IpsecError if *rules* would cut the connection that this run came by."""
    if session is None or not drops(rules, session):
        return
    associated = set(_SA.findall(run(["ip", "xfrm", "state"], check=False).stdout))
    ends = str(session.remote), str(session.local)
    if ends in associated and ends[::-1] in associated:
        return
    raise IpsecError(
        f"ipsec_fail_closed: the rules would drop this very connection: Ansible comes from {session.remote} to"
        f" {session.local} port {session.local_port} in clear text, and neither is an exception. Nothing was changed."
        " Put the controller's address into ipsec_clear, or set ipsec_exempt_controller to true"
    )


def session_of(fields: Sequence[str]) -> Session | None:
    """Return the session that the four *fields* of SSH_CONNECTION name; None if they name none."""
    if len(fields) != 4:
        return None
    remote, remote_port, local, local_port = fields
    return Session(
        ipaddress.ip_address(remote), int(remote_port), ipaddress.ip_address(local), int(local_port)
    )
