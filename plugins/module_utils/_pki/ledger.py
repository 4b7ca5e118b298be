# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ledger: a line for each certificate that was issued or revoked, in a file that only grows.

A line is on the disk before its certificate leaves the control node. The ledger
may therefore name a certificate that nobody got, but never misses one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import cached_property

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
    """When it was written here."""


@dataclass(frozen=True)
class Revoked:
    """That a certificate is not to be trusted any more."""

    serial: str
    """Hexadecimal."""
    issuer: str
    """Fingerprint of the CA's certificate."""
    member: str
    reason: str
    """As RFC 5280 calls it."""
    revoked_at: str
    """UTC, ISO 8601."""


@dataclass(frozen=True)
class History:
    """All that the ledger says, each in the order in which it happened."""

    issued: tuple[Issued, ...]
    revoked: tuple[Revoked, ...]

    def revocation(self, entry: Issued) -> Revoked | None:
        """Return how a certificate was revoked; None if it was not."""
        return self._by_serial.get((entry.issuer, entry.serial))

    def excluded(self) -> dict[str, Revoked]:
        """Return the members whose last certificate was revoked, and how."""
        last = {entry.member: entry for entry in self.issued}
        found = {member: self.revocation(entry) for member, entry in last.items()}
        return {member: revoked for member, revoked in found.items() if revoked}

    @cached_property
    def _by_serial(self) -> dict[tuple[str, str], Revoked]:
        return {(each.issuer, each.serial): each for each in self.revoked}


class Ledger:
    """The file. Only who holds the CA folder's lock may use it."""

    def __init__(self, path: str) -> None:
        self.path = path

    def read(self) -> tuple[Issued, ...]:
        """Return all that was issued, in that order; raise `ProblemsError` if a line is damaged."""
        return self.history().issued

    def history(self) -> History:
        """Return all entries; raise `ProblemsError` if one is damaged.

        The rest of a line that an interrupted run could not finish is no entry.
        """
        issued = []
        revoked = []
        for number, line in enumerate(self._whole_lines(), start=1):
            try:
                data = json.loads(line)
                event = data.pop("event")
                if event in ("issued", "found"):
                    issued.append(Issued(**{**data, "names": tuple(data["names"])}))
                elif event == "revoked":
                    revoked.append(Revoked(**data))
            except (ValueError, KeyError, TypeError, AttributeError):
                raise ProblemsError(
                    [
                        Problem(
                            f"line {number} of {self.path} is damaged",
                            "Restore the file from a backup, or move the line to another file",
                        )
                    ]
                ) from None
        return History(tuple(issued), tuple(revoked))

    def append(self, entries: Iterable[Issued | Revoked], *, found: bool = False) -> None:
        """Add *entries*; they are on the disk when this returns. Raises OSError.

        With *found* these certificates were not issued now, but seen at a host.
        """
        lines = []
        for entry in entries:
            event = "revoked" if isinstance(entry, Revoked) else "found" if found else "issued"
            lines.append(json.dumps({"event": event, **asdict(entry)}, sort_keys=True))
        if lines:
            self._append("".join(f"{line}\n" for line in lines).encode())

    def _append(self, text: bytes) -> None:
        new = not os.path.exists(self.path)
        handle = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        with os.fdopen(handle, "r+b") as file:
            # What follows the last end of line is the rest of an interrupted write.
            content = file.read()
            end = content.rfind(b"\n") + 1
            try:
                file.seek(end)
                file.truncate()
                file.write(text)
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
