# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A connection of libreswan as a ``conn`` section, and the keywords that all of ours share. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

PREFIX = "underlay-"
"""What the name of each connection begins with, and that of each file."""

ENCAPSULATION: Mapping[str, str] = {"auto": "auto", "always": "yes", "never": "no"}
"""The model's word → libreswan's."""

LIVENESS: tuple[tuple[str, str], ...] = (
    # Without these a peer that lost its state stays black-holed for minutes.
    ("dpddelay", "5"),
    ("retransmit-timeout", "5s"),
)


@dataclass(frozen=True)
class Connection:
    """One ``conn`` section."""

    name: str
    keywords: tuple[tuple[str, str], ...]

    def text(self) -> str:
        """Return the section as ipsec.conf wants it."""
        return "".join([f"conn {self.name}\n", *(f"\t{key}={value}\n" for key, value in self.keywords)])
