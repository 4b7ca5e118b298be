# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the pure core runs commands: through a function that is handed to it.

Unit tests hand in a function that plays a host; modules hand in `host_runner()`.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from ansible_collections.underlay.ipsec.plugins.module_utils._errors import CommandError

_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
_TIMEOUT_SECONDS = 120.0


@dataclass(frozen=True)
class Completed:
    """What a command left behind."""

    argv: tuple[str, ...]
    rc: int
    stdout: str
    stderr: str


class Runner(Protocol):
    """Run *argv* without a shell and return what it printed.

    With *check* (the default) a non-zero exit status raises `CommandError`.
    A program that does not exist is exit status 127, one that outlives *timeout*
    (seconds) is 124. Secrets go in through *stdin* or a file, never through *argv*.
    """

    def __call__(
        self,
        argv: Sequence[str],
        *,
        stdin: str | None = None,
        check: bool = True,
        timeout: float = _TIMEOUT_SECONDS,
    ) -> Completed: ...


def host_runner() -> Runner:
    """Return the runner that really runs commands on this host."""
    env = {"PATH": _PATH, "LC_ALL": "C", "LANG": "C", "HOME": os.environ.get("HOME", "/root")}

    def run(
        argv: Sequence[str],
        *,
        stdin: str | None = None,
        check: bool = True,
        timeout: float = _TIMEOUT_SECONDS,
    ) -> Completed:
        try:
            done = subprocess.run(
                list(argv),
                input="" if stdin is None else stdin,
                capture_output=True,
                text=True,
                errors="replace",
                env=env,
                timeout=timeout,
                check=False,
            )
            completed = Completed(tuple(argv), done.returncode, done.stdout, done.stderr)
        except FileNotFoundError:
            completed = Completed(tuple(argv), 127, "", f"{argv[0]} is not installed")
        except subprocess.TimeoutExpired:
            completed = Completed(tuple(argv), 124, "", f"no answer within {timeout:g} s")
        if check and completed.rc != 0:
            raise CommandError(completed.argv, completed.rc, completed.stdout, completed.stderr)
        return completed

    return run
