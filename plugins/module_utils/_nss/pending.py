# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host remembers between asking for a certificate and getting it.

The record is written before the key is generated, so that an interrupted run
leaves no key behind that nobody knows of.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import dataclass

from ansible_collections.underlay.ipsec.plugins.module_utils._files import write_atomically
from ansible_collections.underlay.ipsec.plugins.module_utils._nss.x509 import (
    CertificateError,
    Request,
    request_from_pem,
)

_NAME = "underlay-request.json"


@dataclass(frozen=True)
class Pending:
    """A request that is being made (*request* is None) or that waits for its certificate."""

    nickname: str
    keys_before: frozenset[str]
    """The ids of the keys that were there before this one was generated."""
    request: Request | None = None

    def made_keys(self, orphans: frozenset[str]) -> frozenset[str]:
        """Return which of the *orphans* this request left.

        Without a request, that is the one new key since. If there are several,
        somebody else made keys too, and none is called ours.
        """
        if self.request is not None:
            return orphans & {self.request.public_key.key_id}
        new = orphans - self.keys_before
        return new if len(new) == 1 else frozenset()


class PendingFile:
    """The record, next to the database that the key is in."""

    def __init__(self, directory: str) -> None:
        self.path = os.path.join(directory, _NAME)

    def load(self) -> Pending | None:
        """Return the record; None if there is none that can be read."""
        try:
            with open(self.path, encoding="utf-8") as file:
                data = json.load(file)
            request = data["request"]
            return Pending(
                data["nickname"],
                frozenset(data["keys_before"]),
                None if request is None else request_from_pem(request),
            )
        except (FileNotFoundError, ValueError, KeyError, TypeError, CertificateError):
            return None

    def exists(self) -> bool:
        """Return whether there is a record, readable or not."""
        return os.path.exists(self.path)

    def save(self, pending: Pending) -> None:
        """Write the record."""
        data = {
            "nickname": pending.nickname,
            "keys_before": sorted(pending.keys_before),
            "request": pending.request.pem if pending.request else None,
        }
        write_atomically(self.path, json.dumps(data, indent=1) + "\n")

    def delete(self) -> bool:
        """Delete the record; return whether there was one."""
        with suppress(FileNotFoundError):
            os.unlink(self.path)
            return True
        return False
