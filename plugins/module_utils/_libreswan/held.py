# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bring a holder of virtual addresses to the wanted state, whether an address is here at the moment or not."""

from __future__ import annotations

import fcntl
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from ansible_collections.underlay.ipsec.plugins.module_utils._files import write_atomically
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan import apply as live
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan import vips
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan.connection import (
    connections_in,
    connections_of,
)
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan.difference import (
    SERVICE,
    Delta,
    Observed,
    delta,
)
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan.loaded import Loaded
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan.vips import Vip
from ansible_collections.underlay.ipsec.plugins.module_utils._probe.host import own_addresses
from ansible_collections.underlay.ipsec.plugins.module_utils._run import Runner


@dataclass(frozen=True)
class Holder:
    """What is on the host now."""

    files: Mapping[str, str]
    """Path → text."""
    held: frozenset[str]
    """Names of the addresses that the script has taken over, and that are still here."""
    local: frozenset[str]
    """All addresses of the host."""
    loaded: Loaded | None
    """What pluto has loaded; None if it is not running."""

    def in_force(self, files: Mapping[str, str]) -> dict[str, str]:
        """Return those of *files* whose connections are to be loaded now."""
        found = {}
        for path, text in files.items():
            folder, _slash, name = path.rpartition("/")
            vip, _dot, role = name.partition(".")
            held = vip in self.held and f"{folder}/{vip}.holder.conf" in files
            if folder == vips.FOLDER and role == ("holder.conf" if held else "node.conf"):
                # Until somebody says that it has come, or gone, an address that is here has neither.
                if role == "node.conf" and self.local & set(_remotes(text)):
                    continue
                found[path] = text
        return found

    @property
    def here(self) -> frozenset[str]:
        """Names of the addresses that are here, whether somebody has said so or not."""
        return _here(self.files, self.local)


def _here(files: Mapping[str, str], local: Collection[str]) -> frozenset[str]:
    nodes = {path: path.removeprefix(f"{vips.FOLDER}/").removesuffix(".node.conf") for path in files}
    return frozenset(
        name
        for path, name in nodes.items()
        if path == f"{vips.FOLDER}/{name}.node.conf" and not set(local).isdisjoint(_remotes(files[path]))
    )


def _remotes(text: str) -> Iterator[str]:
    return (connection.values.get("right", "") for connection in connections_of(text).values())


def observe(run: Runner, root: Path = Path("/")) -> Holder:
    """Return what is on the host; libreswan may be missing altogether."""
    folder = _below(root, vips.FOLDER)
    paths = [f"{vips.FOLDER}/{path.name}" for path in sorted(folder.glob("*"))]
    paths += [vips.SCRIPT_FILE, vips.HOOK_FILE, vips.TIDY_FILE]
    files = {path: _below(root, path).read_text() for path in paths if _below(root, path).is_file()}
    marks = (mark.name for mark in _below(root, vips.HELD).glob("[!.]*"))
    running = run(["systemctl", "is-active", "--quiet", SERVICE], check=False).rc == 0
    local = own_addresses(run)
    here = _here(files, local)
    return Holder(
        files,
        frozenset(name for name in marks if name in here and f"{vips.FOLDER}/{name}.holder.conf" in files),
        local,
        live.look_loaded(run) if running else None,
    )


def states(wanted: Iterable[Vip], holder: Holder, target: str, stage: str) -> dict[str, str]:
    """Return name → what is in force after *stage* of a run whose end is *target*, see `pairs.AUTO`.

    Before the stage ``enforce`` nothing is made stricter than it is, and what enforces is not opened.
    """
    careful = target == "private" and stage != "enforce"
    return {vip.name: "prepared" if careful and not _enforces(vip, holder) else target for vip in wanted}


def _enforces(vip: Vip, holder: Holder) -> bool:
    connections = connections_of(holder.files.get(vips.node_file(vip), "")).values()
    return any(connection.traps for connection in connections)


def arrived(wanted: Iterable[Vip], holder: Holder) -> list[str]:
    """Return the names of the addresses that are here, and that nobody has said of that they are."""
    return sorted(
        vip.name
        for vip in wanted
        if vip.holder and vip.address in holder.local and vip.name not in holder.held and holder.loaded
    )


def change(holder: Holder, files: Mapping[str, str]) -> Delta:
    """Return what turns *holder* into *files*."""
    observed = Observed(holder.in_force(holder.files), holder.loaded, enabled=True, journal=None)
    connections = delta(observed, holder.in_force(files), serve=False, vips=True)
    return replace(
        connections,
        write={path: text for path, text in files.items() if holder.files.get(path) != text},
        remove=tuple(sorted(set(holder.files) - set(files))),
    )


def apply(
    wanted: Delta,
    holder: Holder,
    files: Mapping[str, str],
    run: Runner,
    root: Path = Path("/"),
    *,
    listens: bool = True,
) -> None:
    """Carry out *wanted*, `alone`; *listens*: see `live.change_live`.

    Raises `IpsecError` if libreswan refuses; a second run takes it up.
    """
    if wanted:
        live.validate(run, {p: text for p, text in wanted.write.items() if p.startswith(vips.FOLDER)})
        # Before the files: of a run that is cut off, the next one sees by them that it was.
        if holder.loaded is not None:
            live.change_live(wanted, run, connections_in(holder.in_force(files)), listens=listens)
        _write(wanted, run, root)
    for mark in _below(root, vips.HELD).glob("[!.]*"):
        # It says nothing of an address that has gone, or that the host may not hold.
        if mark.name not in holder.held or f"{vips.FOLDER}/{mark.name}.holder.conf" not in files:
            mark.unlink()
    if not files:
        for name in (vips.FOLDER, vips.HELD):
            _remove_folder(_below(root, name))


def begin(wanted: Delta, holder: Holder, files: Mapping[str, str], run: Runner) -> None:
    """Begin with the members whose connections *wanted* has loaded, where the address is; they will, if this fails."""
    for name in sorted(holder.held) if holder.loaded is not None else ():
        if f"{vips.FOLDER}/{name}.holder.conf" in files and any(
            vips.begins_with(connection, name) for connection in wanted.add
        ):
            run(["sh", vips.SCRIPT_FILE, "begin", name], check=False)


def take_over(new: Iterable[str], run: Runner) -> None:
    """Take over the addresses *new*. Raises `CommandError` if that fails."""
    for name in new:
        run(["sh", vips.SCRIPT_FILE, "hold", name])


def _write(wanted: Delta, run: Runner, root: Path) -> None:
    if vips.TIDY_FILE in wanted.remove:
        run(["systemctl", "disable", "--quiet", "--now", vips.TIDY_SERVICE], check=False)
    for path, text in wanted.write.items():
        _below(root, path).parent.mkdir(parents=True, exist_ok=True)
        write_atomically(str(_below(root, path)), text, mode=0o644)
    for path in wanted.remove:
        _below(root, path).unlink(missing_ok=True)
    changed = {*wanted.write, *wanted.remove}
    if changed & {vips.HOOK_FILE, vips.TIDY_FILE}:
        run(["systemctl", "daemon-reload"])
    if changed & {vips.SCRIPT_FILE, vips.TIDY_FILE} and vips.TIDY_FILE not in wanted.remove:
        run(["systemctl", "enable", "--quiet", vips.TIDY_SERVICE])
        run(["systemctl", "restart", vips.TIDY_SERVICE])


def _remove_folder(folder: Path) -> None:
    if folder.is_dir():
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()


@contextmanager
def alone(root: Path = Path("/")) -> Iterator[None]:
    """Keep the script out: an address that comes or goes while its connections are changed waits until that is done."""
    folder = _below(root, vips.HELD)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _below(root: Path, path: str) -> Path:
    return root / path.lstrip("/")
