# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A directory of files that change together or not at all, used by one run at a time."""

from __future__ import annotations

import fcntl
import json
import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

from ansible_collections.underlay.ipsec.plugins.module_utils._errors import Problem, ProblemsError
from ansible_collections.underlay.ipsec.plugins.module_utils._files import sync_directory, write_atomically

_LOCK_TIMEOUT_SECONDS = 60.0
_LOCK_POLL_SECONDS = 0.05
_TEMPORARY = re.compile(r"\.(?:.+[.-])?(?:crt|json|key|pem|serial)\.[a-z0-9_]{8}")
"""How `write_atomically` calls what it has not finished."""


class Store:
    """The directory, at an absolute *path*.

    What is to change is written to ``changes.json`` first. From then on it happens,
    if not by this run then by the next one that takes the lock: doing it twice is
    doing it once.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._changes_path = os.path.join(path, "changes.json")
        self._foretold: Mapping[str, str | None] = {}

    @contextmanager
    def locked(self, timeout: float = _LOCK_TIMEOUT_SECONDS) -> Iterator[None]:
        """Keep every other run out of the folder; wait *timeout* seconds for one that is in it."""
        handle = os.open(os.path.join(self.path, "lock"), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            until = time.monotonic() + timeout
            while True:
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > until:
                        raise ProblemsError(
                            [
                                Problem(
                                    f"another run has been using the CA in {self.path} for {timeout:g} s",
                                    "Wait until it ends, and run again",
                                )
                            ]
                        ) from None
                    time.sleep(_LOCK_POLL_SECONDS)
            self._clean()
            self._complete()
            yield
        finally:
            os.close(handle)

    def read(self, name: str) -> str | None:
        """Return the content of a file, as it is once a change that was interrupted is completed."""
        changes = {**self._changes(), **self._foretold}
        if name in changes:
            return changes[name]
        try:
            with open(os.path.join(self.path, name), encoding="utf-8", errors="replace") as file:
                return file.read()
        except FileNotFoundError:
            return None

    @contextmanager
    def foretelling(self, changes: Mapping[str, str | None]) -> Iterator[None]:
        """Let `read` answer as if *changes* had been made, for check mode."""
        self._foretold = changes
        try:
            yield
        finally:
            self._foretold = {}

    def commit(self, changes: Mapping[str, str | None]) -> None:
        """Give the files their new content, None for none: all of them or none. Raises OSError.

        Only who holds the lock may do it. If it is interrupted, the next to take the lock completes it.
        """
        write_atomically(self._changes_path, json.dumps(dict(changes)))
        self._complete()

    def _clean(self) -> None:
        """Delete what a run that was killed in the middle of a write left, for example of a key."""
        for directory in (self.path, os.path.join(self.path, "retired")):
            with suppress(FileNotFoundError):
                for name in filter(_TEMPORARY.fullmatch, os.listdir(directory)):
                    os.unlink(os.path.join(directory, name))

    def _changes(self) -> dict[str, str | None]:
        try:
            with open(self._changes_path, encoding="utf-8") as file:
                changes: dict[str, str | None] = json.load(file)
                return changes
        except FileNotFoundError:
            return {}
        except ValueError:
            raise ProblemsError(
                [
                    Problem(
                        f"{self._changes_path} is damaged", "Restore the folder from a backup", "ipsec_ca_dir"
                    )
                ]
            ) from None

    def _complete(self) -> None:
        changes = self._changes()
        if not changes:
            return
        for name, text in changes.items():
            path = os.path.join(self.path, name)
            if text is None:
                with suppress(FileNotFoundError):
                    os.unlink(path)
            else:
                os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
                write_atomically(path, text, mode=0o600 if name.endswith(".key") else 0o644)
        sync_directory(self.path)
        os.unlink(self._changes_path)
        sync_directory(self.path)
