# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A connection of libreswan as a ``conn`` section, and the keywords that all of ours share. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

PREFIX = "underlay-"
"""What the name of each connection begins with, and that of each file."""

EVERYBODY = "%opportunisticgroup"
"""The other end of a connection that is a group."""

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

    @cached_property
    def values(self) -> Mapping[str, str]:
        """Keyword → value."""
        return dict(self.keywords)

    @property
    def traps(self) -> bool:
        """Whether the kernel asks for an SA, and lets nothing out in clear while there is none."""
        return self.values.get("auto") == "ondemand"

    @property
    def exception(self) -> str | None:
        """The CIDR that it leaves in clear; None for what encrypts."""
        return self.values.get("rightsubnet") if self.values.get("type") == "passthrough" else None

    @property
    def is_group(self) -> bool:
        """Whether it is opportunistic: for all hosts in its policy file."""
        return self.values.get("right") == EVERYBODY

    @property
    def is_barrier(self) -> bool:
        """Whether it drops what goes to the NAT address of a peer."""
        return self.values.get("type") == "drop"

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that differ if two connections need different peers.

        Whether the kernel traps the traffic, and whose certificates will do, is this end's own affair.
        """
        return hashlib.sha256(json.dumps(sorted(self.without("auto", "rightca"))).encode()).hexdigest()[:16]

    def without(self, *keywords: str) -> tuple[tuple[str, str], ...]:
        """Return the keywords but for some."""
        return tuple(item for item in self.keywords if item[0] not in keywords)


def connections_of(conf_text: str) -> dict[str, Connection]:
    """Return the connections in the text of a file, by name.

    The file is one of ours, but somebody may have edited it.
    """
    found: dict[str, list[tuple[str, str]]] = {}
    current: list[tuple[str, str]] | None = None
    for line in conf_text.splitlines():
        words = line.split()
        if line.startswith("conn ") and len(words) == 2:
            current = found.setdefault(words[1], [])
        elif words and not line[0].isspace():
            current = None
        elif current is not None and words:
            key, value = line.strip().partition("=")[::2]
            current.append((key, value))
    return {name: Connection(name, tuple(keywords)) for name, keywords in found.items()}


def connections_in(files: Mapping[str, str]) -> dict[str, Connection]:
    """Return the connections in *files*, path → text, by name."""
    return {
        name: connection
        for path, text in files.items()
        if path.endswith(".conf")
        for name, connection in connections_of(text).items()
    }
