# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host is configured with, as fingerprints: enough to tell whether a plan would change it."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan import render
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan.connection import (
    PREFIX,
    connections_of,
)

# Derived ones are 48 bytes in Base64. Those of endpoints may be words, whose fingerprint would give them away.
_KEY = re.compile(r'^(?P<ids>\S+ \S+) : PSK "(?P<psk>[A-Za-z0-9+/]{64})"$', re.MULTILINE)


def fingerprints(root: Path = Path("/")) -> dict[str, str]:
    """Return connection name → fingerprint of what the collection's files below *root* hold."""
    folder = root / render.CONF_DIR.lstrip("/")
    return {
        name: connection.fingerprint
        for path in sorted([*folder.glob(f"{PREFIX}*.conf"), *folder.glob(f"{PREFIX}vip/*.node.conf")])
        for name, connection in connections_of(path.read_text(encoding="utf-8", errors="replace")).items()
    }


def key_fingerprints(root: Path = Path("/")) -> dict[str, str]:
    """Return ids → fingerprint of the pairs' pre-shared keys in the collection's file below *root*."""
    path = root / render.SECRETS_FILE.lstrip("/")
    text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    return {found["ids"]: key_fingerprint(found["psk"]) for found in _KEY.finditer(text)}


def key_fingerprint(psk: str) -> str:
    """Return 16 hexadecimal digits that tell two keys apart, and nothing else about a random one."""
    return hashlib.sha256(psk.encode()).hexdigest()[:16]
