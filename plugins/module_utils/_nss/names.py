# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Distinguished names as pluto writes and reads them."""

from __future__ import annotations

import re

from ansible_collections.underlay.ipsec.plugins.module_utils._nss import der
from ansible_collections.underlay.ipsec.plugins.module_utils._nss.x509 import ATTRIBUTES

# What pluto 4.10 and 5.2 know by name.
_ATTRIBUTES = {**ATTRIBUTES, "1.2.840.113549.1.9.1": "E"}
_OIDS = {
    **{name: oid for known in (ATTRIBUTES, _ATTRIBUTES) for oid, name in known.items()},
    "SN": "2.5.4.5",
    "UID": "0.9.2342.19200300.100.1.1",
    "S": "2.5.4.4",
    "T": "2.5.4.12",
    "D": "2.5.4.13",
    "N": "2.5.4.41",
    "G": "2.5.4.42",
    "I": "2.5.4.43",
    "ID": "2.5.4.45",
}


def distinguished_name(name: bytes) -> str:
    """Return *name* (DER), in its own order, so that pluto reads from it what is in there."""
    return ", ".join(
        _attribute(*attribute.expect(der.SEQUENCE).children())
        for relative in der.read(name).children()
        for attribute in relative.expect(der.SET).children()
    )


def _attribute(kind: der.Element, value: der.Element) -> str:
    oid, text = kind.oid(), value.text()
    if oid not in _ATTRIBUTES or not text.isascii() or not text.isprintable():
        return f"{_ATTRIBUTES.get(oid, oid)}=#{value.encoded.hex()}"
    # A backslash and two digits is a byte: the file's own syntax sees nothing of it.
    safe = re.sub(r"[^A-Za-z0-9 .:@()_-]", lambda found: f"\\{ord(found[0]):02x}", text)
    return f"{_ATTRIBUTES[oid]}={safe}"


def attributes(name: str) -> list[tuple[str, bytes]]:
    """Return the attributes of a name as text, OID and value, sorted: two that are equal say the same.

    Pluto and `distinguished_name` escape differently, and RFC 4514 turns the order around.
    """
    return sorted(
        (_OIDS.get(kind.strip(), kind.strip()), _value(value))
        for kind, _equals, value in (
            part.partition("=") for part in re.findall(r"(?:\\.|[^\\,+])+", name, re.DOTALL)
        )
    )


def _value(text: str) -> bytes:
    if text.startswith("#"):
        try:
            return der.read(bytes.fromhex(text[1:])).value
        except (ValueError, der.DerError):
            return text.encode()
    return re.sub(
        rb"\\([0-9A-Fa-f]{2}|.)",
        lambda found: bytes.fromhex(found[1].decode()) if len(found[1]) == 2 else found[1],
        text.encode(),
        flags=re.DOTALL,
    )
