# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A strict reader for DER, the encoding of certificates and requests.

Hosts have Python's standard library and nothing else, and that has no ASN.1.
Only what certificates need is here: definite lengths and tags below 31.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone

from ansible_collections.underlay.ipsec.plugins.module_utils._errors import IpsecError

BOOLEAN = 0x01
INTEGER = 0x02
BIT_STRING = 0x03
OCTET_STRING = 0x04
OBJECT_IDENTIFIER = 0x06
UTC_TIME = 0x17
GENERALIZED_TIME = 0x18
SEQUENCE = 0x30
SET = 0x31

_STRINGS = {
    0x0C: "utf-8",  # UTF8String
    0x12: "ascii",  # NumericString
    0x13: "ascii",  # PrintableString
    0x14: "latin-1",  # TeletexString, as everyone reads it
    0x16: "ascii",  # IA5String
    0x1C: "utf-32-be",  # UniversalString
    0x1E: "utf-16-be",  # BMPString
}


class DerError(IpsecError):
    """The bytes are not the DER that was expected."""


@dataclass(frozen=True)
class Element:
    """One element: its tag byte, its contents, and all of its bytes."""

    tag: int
    value: bytes
    encoded: bytes

    def expect(self, *tags: int) -> Element:
        """Return the element itself if its tag is one of *tags*; raise `DerError` if not."""
        if self.tag not in tags:
            wanted = " or ".join(f"0x{tag:02x}" for tag in tags)
            raise DerError(f"expected a DER element with tag {wanted}, found 0x{self.tag:02x}")
        return self

    def children(self) -> tuple[Element, ...]:
        """Return the elements inside this one."""
        return tuple(_elements(self.value))

    def integer(self) -> int:
        """Return an INTEGER's value."""
        value = self.expect(INTEGER).value
        if not value:
            raise DerError("an INTEGER without contents")
        return int.from_bytes(value, "big", signed=True)

    def boolean(self) -> bool:
        """Return a BOOLEAN's value."""
        value = self.expect(BOOLEAN).value
        if value not in (b"\x00", b"\xff"):
            raise DerError("a BOOLEAN that is neither true nor false")
        return value == b"\xff"

    def bits(self) -> bytes:
        """Return a BIT STRING's contents, which must be whole bytes."""
        value = self.expect(BIT_STRING).value
        if not value or value[0] != 0:
            raise DerError("a BIT STRING that is not made of whole bytes")
        return value[1:]

    def oid(self) -> str:
        """Return an OBJECT IDENTIFIER in dotted notation."""
        value = self.expect(OBJECT_IDENTIFIER).value
        if not value or value[-1] & 0x80:
            raise DerError("a truncated OBJECT IDENTIFIER")
        arcs: list[int] = []
        arc = 0
        for byte in value:
            arc = arc << 7 | byte & 0x7F
            if not byte & 0x80:
                arcs.append(arc)
                arc = 0
        top = min(arcs[0] // 40, 2)
        return ".".join(str(number) for number in (top, arcs[0] - 40 * top, *arcs[1:]))

    def text(self) -> str:
        """Return the text of any of the string types that names use."""
        try:
            return self.value.decode(_STRINGS[self.tag])
        except (KeyError, UnicodeDecodeError) as error:
            raise DerError(f"a text of tag 0x{self.tag:02x} that cannot be decoded") from error

    def time(self) -> datetime:
        """Return a UTCTime or GeneralizedTime, which must be in UTC to the second."""
        self.expect(UTC_TIME, GENERALIZED_TIME)
        try:
            said = self.value.decode("ascii")
            if self.tag == UTC_TIME:  # RFC 5280: years 50 to 99 are in the 1900s
                said = ("19" if said >= "50" else "20") + said
            if len(said) != len("20260101000000Z"):
                raise ValueError(said)
            return datetime.strptime(said, "%Y%m%d%H%M%SZ").replace(tzinfo=timezone.utc)
        except ValueError as error:
            raise DerError("a time that is not in the form that certificates use") from error


def read(data: bytes) -> Element:
    """Return the single element that *data* is; raise `DerError` if it is anything else."""
    elements = tuple(_elements(data))
    if len(elements) != 1:
        raise DerError(f"expected one DER element, found {len(elements)}")
    return elements[0]


def _elements(data: bytes) -> Iterator[Element]:
    start = 0
    while start < len(data):
        if len(data) - start < 2:
            raise DerError("the data ends within a DER element")
        tag = data[start]
        if tag & 0x1F == 0x1F:
            raise DerError("a DER tag of more than one byte")
        length, begin = data[start + 1], start + 2
        if length & 0x80:
            size = length & 0x7F
            begin += size
            length = int.from_bytes(data[begin - size : begin], "big")
            if size == 0 or length < 0x80 or length >> 8 * (size - 1) == 0:
                raise DerError("a DER length that is not in its shortest form")
        end = begin + length
        if end > len(data):
            raise DerError("the data ends within a DER element")
        yield Element(tag, data[begin:end], data[start:end])
        start = end
