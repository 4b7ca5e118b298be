# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bring a host's libreswan from what is there to what the plan wants, live.

`delta` compares (pure); `apply` carries out, in an order that an interruption cannot
spoil: a journal names what is about to be touched before the first file changes, and
goes away after the daemon has taken everything over. A run that finds one redoes its
part, whatever the files say.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.underlay.ipsec.plugins.module_utils._errors import IpsecError, Problem, ProblemsError
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan import render
from ansible_collections.underlay.ipsec.plugins.module_utils._run import Runner

SERVICE = "ipsec"
JOURNAL = f"{render.CONF_DIR}/underlay-unfinished.json"
_LOAD_SECONDS = 60.0


@dataclass(frozen=True)
class Journal:
    """What an interrupted run may have left half done."""

    connections: frozenset[str] = frozenset()
    restart: bool = False


@dataclass(frozen=True)
class Observed:
    """What is on the host now."""

    files: Mapping[str, str]
    """Path → text of the collection's files."""
    loaded: frozenset[str] | None
    """Connections in pluto, without instances; None if it is not running."""
    enabled: bool
    """Whether systemd starts the service at boot."""
    journal: Journal | None
    """None if the last run finished."""


@dataclass(frozen=True)
class Delta:
    """What has to be done; falsy if nothing."""

    write: Mapping[str, str]
    remove: tuple[str, ...] = ()
    add: tuple[str, ...] = ()
    """Connections to load, in the order of the plan; a loaded one is replaced."""
    delete: tuple[str, ...] = ()
    listen: bool = False
    """Whether pluto has to read the policy files."""
    enable: bool = False
    start: bool = False
    restart: bool = False
    """Whether an option of ``config setup`` changed, which pluto reads only when it starts."""

    def __bool__(self) -> bool:
        return bool(
            self.write
            or self.remove
            or self.add
            or self.delete
            or self.listen
            or self.enable
            or self.start
            or self.restart
        )

    @property
    def service(self) -> str:
        """What becomes of the service, in one word."""
        done = (("restarted", self.restart), ("started", self.start), ("enabled", self.enable))
        return next((word for word, true in done if true), "none")


def delta(
    observed: Observed, files: Mapping[str, str], reload: Iterable[str] = (), *, serve: bool = True
) -> Delta:
    """Return what turns *observed* into *files*.

    *reload* names connections to load again though their text is the same, because a
    certificate behind them changed. With *serve* the service has to run and be enabled;
    without it a stopped service is left stopped.
    """
    write = {path: text for path, text in files.items() if observed.files.get(path) != text}
    remove = tuple(sorted(set(observed.files) - set(files)))
    wanted = _sections(files)
    present = _sections(observed.files)
    journal = observed.journal or Journal()
    forced = journal.connections | set(reload)
    loaded = observed.loaded
    if loaded is None:
        return Delta(write, remove, enable=serve and not observed.enabled, start=serve)
    add = tuple(
        name
        for name, section in wanted.items()
        if name not in loaded or present.get(name) != section or name in forced
    )
    ours = {name for name in loaded if name.startswith(render.PREFIX)}
    policies = any(path.startswith(render.POLICY_DIR) for path in [*write, *remove])
    return Delta(
        write,
        remove,
        add=add,
        delete=tuple(sorted(ours - set(wanted))),
        listen=policies or bool(add) or observed.journal is not None,
        enable=serve and not observed.enabled,
        restart=journal.restart or (serve and render.SETUP_FILE in write),
    )


def enforcement(settings: render.Settings, observed: Observed, target: str, stage: str) -> dict[str, str]:
    """Return network name → the group that its members fall into after this run.

    In the stage ``prepare`` a network is not made stricter than it is, and one that
    enforces already is not opened again.
    """
    groups = {}
    for network in settings.networks:
        enforced = render.entries_of(observed.files.get(render.policy_file(network, "private"), ""))
        careful = target == "private" and stage == "prepare" and not enforced
        groups[network.name] = "private-or-clear" if careful else target
    return groups


def file_diff(observed: Observed, change: Delta) -> list[dict[str, str]]:
    """Return the change of the files, and of the service, in the form of ``--diff``."""
    after = {**change.write, **dict.fromkeys(change.remove, "")}
    diff = [
        {
            "before_header": path,
            "after_header": path,
            "before": observed.files.get(path, ""),
            "after": text,
        }
        for path, text in sorted(after.items())
    ]
    steps = [
        *(f"load {name}\n" for name in change.add),
        *(f"unload {name}\n" for name in change.delete),
        *([f"service {SERVICE} {change.service}\n"] if change.service != "none" else []),
    ]
    if steps:
        diff.append({"before_header": "live", "after_header": "live", "before": "", "after": "".join(steps)})
    return diff


def observe(run: Runner, root: Path = Path("/")) -> Observed:
    """Return what is on the host; libreswan may be missing altogether."""
    files = {}
    for folder in (render.CONF_DIR, render.POLICY_DIR):
        for path in sorted(_below(root, folder).glob("underlay*")):
            name = f"{folder}/{path.name}"
            if path.is_file() and _is_ours(name):
                files[name] = path.read_text(encoding="utf-8", errors="replace")
    running = run(["systemctl", "is-active", "--quiet", SERVICE], check=False).rc == 0
    enabled = run(["systemctl", "is-enabled", "--quiet", SERVICE], check=False).rc == 0
    return Observed(files, _loaded(run) if running else None, enabled, _read_journal(root))


def validate(run: Runner, files: Mapping[str, str]) -> None:
    """Raise `ProblemsError` if libreswan would not take *files*.

    ``--checkconfig`` exits 0 for much that it then ignores (a key twice, an unknown
    ``authby``), so a word on standard error counts as well.
    """
    text = "\n".join(text for path, text in files.items() if path.endswith(".conf"))
    with tempfile.NamedTemporaryFile("w", suffix=".conf", encoding="utf-8") as candidate:
        candidate.write(text)
        candidate.flush()
        answer = run(["ipsec", "addconn", "--config", candidate.name, "--checkconfig"], check=False)
        if answer.rc != 0 or answer.stderr.strip():
            said = (answer.stderr.strip() or answer.stdout.strip()).replace(candidate.name, "underlay-*.conf")
            raise ProblemsError(
                [
                    Problem(
                        f"libreswan does not accept the configuration: {said}",
                        "Check ipsec_ike, ipsec_esp and ipsec_mode against this host's libreswan",
                    )
                ]
            )


def apply(
    change: Delta, run: Runner, root: Path = Path("/"), *, wait: Callable[[float], None] = time.sleep
) -> None:
    """Carry out *change*.

    Raises `IpsecError` if libreswan refuses; what was not reached is then in the journal,
    and the next run takes it up.
    """
    _write(root, JOURNAL, json.dumps({"connections": sorted(change.add), "restart": change.restart}) + "\n")
    for path, text in change.write.items():
        _write(root, path, text)
    for path in change.remove:
        _below(root, path).unlink(missing_ok=True)
    if change.enable:
        run(["systemctl", "enable", "--quiet", SERVICE])
    if change.restart:
        run(["systemctl", "restart", SERVICE])
    elif change.start:
        run(["systemctl", "start", SERVICE])
    else:
        _live(change, run)
    if change.restart or change.start:
        _check_setup(run)
        _await_loaded(run, _sections(_ours(root)), wait)
    _below(root, JOURNAL).unlink()


def _live(change: Delta, run: Runner) -> None:
    for name in change.delete:
        run(["ipsec", "whack", "--name", name, "--delete"])
    if change.add:
        # One process for all of them; it leaves them unrouted, whatever auto= says.
        run(["ipsec", "addconn", *change.add])
        for name in change.add:
            run(["ipsec", "whack", "--name", name, "--route"])
    if change.listen:
        run(["ipsec", "whack", "--listen"])


def _check_setup(run: Runner) -> None:
    """Raise if libreswan reads other values than ours.

    4.x takes nothing from a second ``config setup`` if the first one, in
    /etc/ipsec.conf, is not empty, and says nothing.
    """
    effective = dict(
        line.removeprefix("export ").split("=", 1)
        for line in run(["ipsec", "addconn", "--configsetup"]).stdout.splitlines()
        if "=" in line
    )
    if effective.get("uniqueids", "'no'").strip("'") != render.SETUP["uniqueids"]:
        wanted = " and ".join(f"{key}={value}" for key, value in render.SETUP.items())
        raise ProblemsError(
            [
                Problem(
                    "/etc/ipsec.conf sets options of its own in 'config setup', and libreswan 4 then ignores ours",
                    f"Add {wanted} to 'config setup' in /etc/ipsec.conf, or move what stands there to a file below /etc/ipsec.d",
                )
            ]
        )


def _await_loaded(run: Runner, names: Iterable[str], wait: Callable[[float], None]) -> None:
    """Return once pluto has loaded *names*: systemd says "started" while a child of pluto still loads them."""
    missing = set(names)
    deadline = time.monotonic() + _LOAD_SECONDS
    while missing := missing - _loaded(run):
        if time.monotonic() > deadline:
            raise IpsecError(
                f"pluto runs, but did not load {', '.join(sorted(missing))} within {_LOAD_SECONDS:g} s: see journalctl -u {SERVICE}"
            )
        wait(0.3)


def _loaded(run: Runner) -> frozenset[str]:
    return loaded_connections(run(["ipsec", "whack", "--status"], check=False).stdout)


def loaded_connections(status: str) -> frozenset[str]:
    """Return the names in the output of ``whack --status``, without group targets and instances.

    4.x puts ``000 `` before each line; a target is ``"NAME#CIDR"``, an instance has ``[N]`` behind it.
    """
    return frozenset(re.findall(r'^(?:000 )?"([^"#]+)":', status, re.MULTILINE))


def _sections(files: Mapping[str, str]) -> dict[str, str]:
    return {
        name: section
        for path, text in files.items()
        if path.endswith(".conf")
        for name, section in render.sections_of(text).items()
    }


def _ours(root: Path) -> dict[str, str]:
    return {
        f"{render.CONF_DIR}/{path.name}": path.read_text(encoding="utf-8")
        for path in _below(root, render.CONF_DIR).glob(f"{render.PREFIX}*.conf")
    }


def _is_ours(path: str) -> bool:
    if path == render.SETUP_FILE:
        return True
    name = path.rsplit("/", 1)[-1]
    return name.startswith(render.PREFIX) and (path.startswith(render.POLICY_DIR) or name.endswith(".conf"))


def _read_journal(root: Path) -> Journal | None:
    try:
        found = json.loads(_below(root, JOURNAL).read_text(encoding="utf-8"))
        return Journal(frozenset(found["connections"]), bool(found["restart"]))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        # Torn while it was written: nothing else had been touched yet.
        return Journal()


def _below(root: Path, path: str) -> Path:
    return root / path.lstrip("/")


def _write(root: Path, path: str, text: str) -> None:
    """Write *text* so that a reader sees the old file or the new one, never half of it."""
    target = _below(root, path)
    target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fchmod(file.fileno(), 0o644)
            os.fsync(file.fileno())
        os.replace(name, target)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise
