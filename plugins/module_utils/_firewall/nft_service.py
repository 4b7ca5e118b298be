# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How our table survives nftables.service, which flushes all there is when it starts, reloads and stops.

A drop-in has each of its commands that flushes also load our table, in the same transaction: loaded
afterwards, it would be missing for as long as a process takes to start. What is let in is loaded
afterwards all the same, because it names foreign chains: if one of them is gone, the operator's rules
must not be refused with it.
"""

from __future__ import annotations

import shlex
from pathlib import Path

from ansible_collections.underlay.ipsec.plugins.module_utils._run import Runner

DROP_IN = "etc/systemd/system/nftables.service.d/underlay-ipsec.conf"
_DIRECTORY = "etc/underlay-ipsec"
_KEYS = ("ExecStart", "ExecReload", "ExecStop")
_NFT = "/usr/sbin/nft"


def _script(key: str) -> str:
    return f"{_DIRECTORY}/nftables-{key.removeprefix('Exec').lower()}.nft"


FILES = (DROP_IN, *map(_script, _KEYS))
"""All files that there may be."""


def service_files(run: Runner, root: Path, table: str, opening: str) -> dict[str, str]:
    """Return path → text of the files that are needed; none if there is no such service.

    *table* and *opening* are the paths of what loads our table, and of what lets in.
    """
    said = run(
        ["systemctl", "show", "-p", "FragmentPath", "-p", "DropInPaths", "nftables.service"], check=False
    )
    properties = dict(line.partition("=")[::2] for line in said.stdout.splitlines())
    fragment = properties.get("FragmentPath", "")
    if not fragment:
        return {}
    paths = [fragment, *properties.get("DropInPaths", "").split()]
    texts = [_read(root / path.lstrip("/")) for path in paths if path.lstrip("/") != DROP_IN]
    return drop_in(texts, table, opening)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def drop_in(units: list[str], table: str, opening: str) -> dict[str, str]:
    """Return path → text for a service that *units*, its unit file and the operator's drop-ins, describe."""
    commands = _commands(units)
    lines = ["[Service]"]
    files: dict[str, str] = {}
    for key in _KEYS:
        scripts = [_nft_input(command) for command in commands.get(key, [])]
        ours = [f"{key}=-{_NFT} -f /{opening}"] if key == "ExecReload" else []
        if scripts and all(scripts):
            text = "\n".join([*(script for script in scripts if script), f'include "/{table}"', ""])
            files[_script(key)] = text
            lines += [f"{key}=", f"{key}={_NFT} -f /{_script(key)}", *ours]
        elif scripts:
            # Not to be told what it does: afterwards, then.
            after = "ExecReload" if key == "ExecReload" else f"{key}Post"
            lines += [f"{after}=-{_NFT} -f /{table}", *ours]
    lines.append(f"ExecStartPost=-{_NFT} -f /{opening}")
    return {DROP_IN: "\n".join([*lines, ""]), **files}


def _commands(units: list[str]) -> dict[str, list[str]]:
    """Return key → commands, as systemd puts them together: an empty one forgets those before."""
    found: dict[str, list[str]] = {}
    for line in (line.strip() for unit in units for line in unit.splitlines()):
        key, equals, value = line.partition("=")
        if equals and key.strip() in _KEYS:
            known = found.setdefault(key.strip(), [])
            if value.strip():
                known.append(value.strip())
            else:
                known.clear()
    return found


def _nft_input(command: str) -> str | None:
    """Return what a command has nft do, in its language; None if it is another program or more than that."""
    try:
        program, *arguments = shlex.split(command)
    except ValueError:
        return None
    if program.rpartition("/")[2] != "nft" or not arguments:
        return None
    if arguments[0] == "-f" and len(arguments) == 2:
        return f'include "{arguments[1]}"'
    return None if arguments[0].startswith("-") else " ".join(arguments)
