# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tap's filter, run by a small interpreter, and the probes' form. What needs root is tested on the lab."""

from __future__ import annotations

import socket
import struct

import pytest
from ansible_collections.underlay.ipsec.plugins.module_utils._probe.wire import (
    Route,
    checksum,
    echo_request,
    tap_filter,
)

MARK = b"\xf1\xe2\xd3\xc4"
OUTGOING, INCOMING = 4, 0


def accepts(packet: bytes, packet_type: int = OUTGOING) -> bool:
    """Run the filter on *packet* as the kernel would: a load beyond the packet's end rejects it."""
    program = tap_filter(MARK)
    accumulator = index = here = 0
    while True:
        code, yes, no, operand = program[here]
        here += 1
        if code == 0x30 and operand == 0xFFFFF004:
            accumulator = packet_type
        elif code in (0x30, 0x20, 0x40):
            start = operand + (index if code == 0x40 else 0)
            width = 1 if code == 0x30 else 4
            if start + width > len(packet):
                return False
            accumulator = int.from_bytes(packet[start : start + width], "big")
        elif code == 0xB1:
            index = (packet[operand] & 0x0F) * 4
        elif code == 0x74:
            accumulator >>= operand
        elif code == 0x15:
            here += yes if accumulator == operand else no
        elif code == 0x06:
            return bool(operand)
        else:
            raise AssertionError(f"unknown instruction {code:#x}")


def ipv4(protocol: int, payload: bytes, options: bytes = b"") -> bytes:
    head = bytes([0x45 + len(options) // 4]) + bytes(8) + bytes([protocol]) + bytes(10)
    return head + options + payload


def ipv6(following: int, payload: bytes) -> bytes:
    return struct.pack("!IHBB", 6 << 28, len(payload), following, 64) + bytes(32) + payload


ECHO4 = echo_request(4, 1, 1, MARK + bytes(12))
ECHO6 = echo_request(6, 1, 1, MARK + bytes(12))
FOREIGN = echo_request(4, 1, 1, b"abcd" + bytes(12))


@pytest.mark.parametrize(
    ("packet", "accepted"),
    [
        (ipv4(socket.IPPROTO_ICMP, ECHO4), True),
        (ipv4(socket.IPPROTO_ICMP, ECHO4, options=bytes(8)), True),
        (ipv4(socket.IPPROTO_ICMP, FOREIGN), False),
        (ipv4(socket.IPPROTO_ICMP, b""), False),
        (ipv4(socket.IPPROTO_ESP, ECHO4), False),
        (ipv4(socket.IPPROTO_UDP, ECHO4), False),
        (ipv6(socket.IPPROTO_ICMPV6, ECHO6), True),
        (ipv6(socket.IPPROTO_ICMPV6, FOREIGN), False),
        (ipv6(socket.IPPROTO_ESP, ECHO6), False),
        (ipv6(socket.IPPROTO_HOPOPTS, bytes(8) + ECHO6), True),
        (ipv6(socket.IPPROTO_FRAGMENT, bytes(8) + ECHO6), True),
        (ipv6(socket.IPPROTO_ROUTING, bytes(8) + ECHO6), True),
        (ipv6(socket.IPPROTO_DSTOPTS, bytes(8) + ECHO6), True),
        (b"\x10" + bytes(60), False),
        (b"", False),
    ],
)
def test_filter(packet: bytes, accepted: bool) -> None:
    assert accepts(packet) is accepted
    assert not accepts(packet, INCOMING)


def test_jumps_of_the_filter_stay_inside() -> None:
    program = tap_filter(MARK)
    for here, (_code, yes, no, _operand) in enumerate(program):
        assert 0 <= here + 1 + max(yes, no) <= len(program)
        assert min(yes, no) >= 0


def test_checksum_of_a_packet_with_its_checksum_is_zero() -> None:
    assert checksum(bytes.fromhex("0800 0000 0001 0002 abcd")) == 0xFFFF - (0x0800 + 0x0001 + 0x0002 + 0xABCD)
    assert checksum(ECHO4) == 0


def test_echo_requests() -> None:
    assert ECHO4[:2] == b"\x08\x00"
    assert ECHO6[:4] == b"\x80\x00\x00\x00"
    assert ECHO4[8:] == ECHO6[8:] == MARK + bytes(12)


def test_family_of_a_route() -> None:
    assert Route("10.88.0.11", "10.88.0.12").family == 4
    assert Route("fd88::11", "fd88::12").family == 6
