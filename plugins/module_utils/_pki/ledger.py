# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ledger: a line for each certificate that was ever issued, in a file that only grows.

A line is on the disk before its certificate leaves the control node. The ledger
may therefore name a certificate that nobody got, but never misses one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass

from ansible_collections.underlay.ipsec.plugins.module_utils._errors import Problem, ProblemsError
from ansible_collections.underlay.ipsec.plugins.module_utils._files import sync_directory


@dataclass(frozen=True)
class Issued:
    """What the ledger says about one certificate. Times are in UTC and ISO 8601."""

    serial: str
    """Hexadecimal."""
    member: str
    subject: str
    names: tuple[str, ...]
    """Subject alternative names, as ``dns:…`` and ``ip:…``."""
    not_before: str
    not_after: str
    fingerprint: str
    """SHA-256, hexadecimal."""
    issuer: str
    """Fingerprint of the CA's certificate."""
    issued_at: str


class Ledger:
    """The file. Only who holds the CA folder's lock may use it."""

    def __init__(self, path: str) -> None:
        self.path = path

    def read(self) -> tuple[Issued, ...]:
        """Return all entries, in the order of issue; raise `ProblemsError` if one is damaged.

        The rest of a line that an interrupted run could not finish is no entry.
        """
        entries = []
        for number, line in enumerate(self._whole_lines(), start=1):
            try:
                data = json.loads(line)
                if data.pop("event") == "issued":
                    entries.append(Issued(**{**data, "names": tuple(data["names"])}))
            except (ValueError, KeyError, TypeError, AttributeError):
                raise ProblemsError(
                    [
                        Problem(
                            f"line {number} of {self.path} is damaged",
                            "Restore the file from a backup, or move the line to another file",
                        )
                    ]
                ) from None
        return tuple(entries)

    def append(self, entries: Iterable[Issued]) -> None:
        """Add *entries*; they are on the disk when this returns. Raises OSError."""
        lines = [json.dumps({"event": "issued", **asdict(entry)}, sort_keys=True) for entry in entries]
        new = not os.path.exists(self.path)
        handle = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        with os.fdopen(handle, "r+b") as file:
            # What follows the last end of line is the rest of an interrupted write.
            content = file.read()
            end = content.rfind(b"\n") + 1
            try:
                file.seek(end)
                file.truncate()
                file.write("".join(f"{line}\n" for line in lines).encode())
                file.flush()
                os.fsync(file.fileno())
            except OSError:
                os.truncate(self.path, end)
                raise
        if new:
            sync_directory(os.path.dirname(self.path))

    def _whole_lines(self) -> list[str]:
        try:
            with open(self.path, encoding="utf-8", errors="replace") as file:
                return file.read().split("\n")[:-1]
        except FileNotFoundError:
            return []
