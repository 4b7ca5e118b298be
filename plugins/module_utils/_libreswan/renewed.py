# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A note of what has changed in NSS, and that pluto may still use as it was before.

It is written before the change and goes after pluto has taken it up, so that an interruption in
between does not leave a pluto that goes on with what is gone.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ansible_collections.underlay.ipsec.plugins.module_utils._nss import authorities, member
from ansible_collections.underlay.ipsec.plugins.module_utils._nss.database import Database
from ansible_collections.underlay.ipsec.plugins.module_utils._nss.x509 import Certificate

CERTIFICATE = "certificate"
"""The host's own certificate and key are others."""
IDENTITY = "identity"
"""That certificate has another subject."""
AUTHORITY = "authority"
"""Other CAs are trusted."""
REVOCATION = "revocation"
"""Certificates are revoked that were not."""

PATH = "/etc/ipsec.d/underlay-renewed"


def note(kind: str, root: Path = Path("/")) -> None:
    """Add *kind* to the note, if there is a libreswan that it could be for."""
    path = root / PATH.lstrip("/")
    if path.parent.is_dir() and kind not in noted(root):
        with path.open("a", encoding="utf-8") as file:
            file.write(f"{kind}\n")


def note_import(
    before: Database,
    nickname: str,
    certificate: Certificate,
    first: Certificate,
    others: Sequence[Certificate],
    ca_nickname: str,
) -> None:
    """Add what the import of *certificate* changes of *before*, with the CAs *first* and *others*.

    *nickname* is the certificate's, *ca_nickname* that of *first*.
    """
    kinds = {
        CERTIFICATE: member.replaces(before.content(), nickname, certificate),
        IDENTITY: member.renames(before.content(), nickname, certificate),
        AUTHORITY: bool(authorities.superfluous(before, first, others, ca_nickname)),
    }
    for kind, changes in kinds.items():
        if changes:
            note(kind)


def noted(root: Path = Path("/")) -> frozenset[str]:
    """Return the kinds in the note; none if there is no note."""
    try:
        return frozenset((root / PATH.lstrip("/")).read_text(encoding="utf-8").split())
    except FileNotFoundError:
        return frozenset()


def forget(root: Path = Path("/")) -> None:
    """Take the note away."""
    (root / PATH.lstrip("/")).unlink(missing_ok=True)
