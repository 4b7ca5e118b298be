# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What tripleo-ipsec has left on a host: its files, its option in ipsec.conf, and what pluto has loaded of it.

Pluto goes on with what it has loaded after the files are gone. That is of use: where it is about to be
restarted with our connections, theirs carry the traffic until then.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.underlay.ipsec.plugins.module_utils._files import write_atomically
from ansible_collections.underlay.ipsec.plugins.module_utils._host import parse_setup
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan import apply as live
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan import render
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan.difference import SERVICE, Delta
from ansible_collections.underlay.ipsec.plugins.module_utils._model.tripleo import without_former_option
from ansible_collections.underlay.ipsec.plugins.module_utils._run import Runner

PREFIX = "overcloud-"
"""What the names of its files and connections begin with."""
MAIN_FILE = "/etc/ipsec.conf"
_OPTION = re.compile(r"^[ \t]+uniqueids[ \t]*=.*\n", re.MULTILINE)


@dataclass(frozen=True)
class Former:
    """What there is of it."""

    files: tuple[str, ...] = ()
    """Paths, sorted."""
    connections: tuple[str, ...] = ()
    """Those that pluto has loaded, sorted."""
    main: str | None = None
    """The text of ipsec.conf without its option; None if that is not there."""
    restarts: bool = False
    """Whether pluto will be restarted, since it has never read our ``config setup``."""

    @property
    def unload(self) -> tuple[str, ...]:
        """The connections to unload without waiting for the restart."""
        return () if self.restarts else self.connections

    def __bool__(self) -> bool:
        return bool(self.files or self.connections or self.main is not None)


def observe(run: Runner, root: Path = Path("/"), *, leaving: bool = False) -> Former:
    """Return what is on the host; *leaving*: whether nothing of ours will take its place."""
    files = tuple(
        f"{folder}/{path.name}"
        for folder in (render.CONF_DIR, render.POLICY_DIR)
        for path in sorted(_below(root, folder).glob(f"{PREFIX}*"))
    )
    running = run(["systemctl", "is-active", "--quiet", SERVICE], check=False).rc == 0
    loaded = live.look_loaded(run).connections if running else frozenset()
    return Former(
        files,
        tuple(sorted(name for name in loaded if name.startswith(PREFIX))),
        _main_without_option(_below(root, MAIN_FILE)),
        restarts=not leaving and not _below(root, render.SETUP_FILE).exists(),
    )


def remove(former: Former, run: Runner, root: Path = Path("/")) -> None:
    """Remove what there is of it."""
    if former.main is not None:
        write_atomically(str(_below(root, MAIN_FILE)), former.main, mode=0o644)
    for path in former.files:
        _below(root, path).unlink(missing_ok=True)
    live.change_live(Delta(delete=former.unload), run, {})


def diff(former: Former) -> list[Mapping[str, str]]:
    """Return what `remove` does, in the form of ``--diff``: without texts, for there are keys in them."""
    lines = [
        *(f"{path}\n" for path in former.files),
        *([f"uniqueids=no in {MAIN_FILE}\n"] if former.main is not None else []),
        *(f"connection {name}\n" for name in former.connections),
    ]
    header = {"before_header": "tripleo-ipsec", "after_header": "tripleo-ipsec"}
    return [{**header, "before": "".join(lines), "after": ""}] if lines else []


def _main_without_option(path: Path) -> str | None:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None
    setup = parse_setup(text)
    return _OPTION.sub("", text) if without_former_option(setup) != setup else None


def _below(root: Path, path: str) -> Path:
    return root / path.lstrip("/")
