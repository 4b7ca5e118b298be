# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Echo requests with a secret mark, and a tap that sees whether the mark leaves this host in clear text.

The tap sits where frames leave for a network device, which is behind IPsec: an encrypted probe passes it
as ESP, and only a probe that IPsec did not touch still shows its mark. That holds whatever libreswan says.
"""

from __future__ import annotations

import ctypes
import errno
import ipaddress
import os
import selectors
import socket
import struct
import time
from collections.abc import Iterable
from dataclasses import dataclass

from ansible_collections.underlay.ipsec.plugins.module_utils._errors import IpsecError

_ETH_P_ALL = 0x0003
_SO_ATTACH_FILTER = 26
_SO_RCVBUFFORCE = 33
_SOL_PACKET = 263
_PACKET_STATISTICS = 6
_ARPHRD_LOOPBACK = 772
_ICMP6_FILTER = 1
_ECHO_REQUEST = {4: 8, 6: 128}
_ECHO_REPLY = {4: 0, 6: 129}
# Room for the answers of a thousand peers: the kernel charges about 1 kB for each.
_RECEIVE_BUFFER_BYTES = 8 << 20
_NONCE_BYTES = 16
_MARK_BYTES = 4
_CONTROL_SECONDS = 2.0


@dataclass(frozen=True)
class Route:
    """From which own address to which peer's address a probe goes."""

    source: str
    destination: str

    @property
    def family(self) -> int:
        """4 or 6."""
        return 6 if ":" in self.destination else 4


@dataclass
class Tally:
    """What became of the probes of one round to one peer."""

    sent: int = 0
    """Probes handed to the kernel, whether it took them or not."""
    clear: int = 0
    """Probes that left this host in clear text."""
    replies: int = 0
    error: str | None = None
    """Why the kernel refused a probe: the symbolic name, for example ``EPERM``."""


def tap_filter(mark: bytes) -> list[tuple[int, int, int, int]]:
    """Return the classic BPF program that lets the tap see outgoing probes and nothing else.

    *mark* is the first word of every nonce. Packets are read from the IP header on. An ICMPv6 message behind
    extension headers has no fixed place, so all of those pass; there are few.
    """
    word = int.from_bytes(mark, "big")
    load_byte, load_index_word, load_word = 0x30, 0x40, 0x20
    shift_right, jump_equal, load_header_length, give = 0x74, 0x15, 0xB1, 0x06
    packet_type, outgoing = 0xFFFFF004, 4
    take, drop = 20, 21

    def jump(here: int, value: int, yes: int, no: int) -> tuple[int, int, int, int]:
        return (jump_equal, yes - here - 1, no - here - 1, value)

    return [
        (load_byte, 0, 0, packet_type),
        jump(1, outgoing, 2, drop),
        (load_byte, 0, 0, 0),
        (shift_right, 0, 0, 4),
        jump(4, 6, 11, 5),
        jump(5, 4, 6, drop),
        (load_byte, 0, 0, 9),
        jump(7, socket.IPPROTO_ICMP, 8, drop),
        (load_header_length, 0, 0, 0),
        (load_index_word, 0, 0, 8),
        jump(10, word, take, drop),
        (load_byte, 0, 0, 6),
        jump(12, socket.IPPROTO_ICMPV6, 18, 13),
        jump(13, socket.IPPROTO_HOPOPTS, take, 14),
        jump(14, socket.IPPROTO_ROUTING, take, 15),
        jump(15, socket.IPPROTO_FRAGMENT, take, 16),
        jump(16, socket.IPPROTO_DSTOPTS, take, 17),
        jump(17, socket.IPPROTO_ICMPV6, 18, drop),
        (load_word, 0, 0, 48),
        jump(19, word, take, drop),
        (give, 0, 0, 0xFFFF),
        (give, 0, 0, 0),
    ]


def echo_request(family: int, identifier: int, sequence: int, nonce: bytes) -> bytes:
    """Return an ICMP or ICMPv6 echo request; the kernel fills in ICMPv6's checksum, which needs the addresses."""
    head = struct.pack("!BBHHH", _ECHO_REQUEST[family], 0, 0, identifier, sequence)
    if family == 6:
        return head + nonce
    return head[:2] + struct.pack("!H", checksum(head + nonce)) + head[4:] + nonce


def checksum(data: bytes) -> int:
    """Return the Internet checksum (RFC 1071) of *data*, whose length is even."""
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


class Wire:
    """Sends probes and counts what became of them. Needs root. Use as a context manager."""

    def __init__(self, sources: Iterable[str]) -> None:
        self._mark = os.urandom(_MARK_BYTES)
        self._identifier = int.from_bytes(os.urandom(2), "big")
        self._sequence = 0
        self._round: dict[bytes, Route] = {}
        self._seen_clear: set[bytes] = set()
        self._answered: set[bytes] = set()
        self._tallies: dict[Route, Tally] = {}
        self._selector = selectors.DefaultSelector()
        self._senders: dict[str, socket.socket] = {}
        self._control: bytes | None = None
        try:
            self._tap = self._open_tap()
            for source in sources:
                if source not in self._senders:
                    self._senders[source] = self._open_sender(source)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close every socket."""
        for key in list(self._selector.get_map().values()):
            key.fileobj.close()  # type: ignore[union-attr]
        self._selector.close()

    def _register(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._selector.register(sock, selectors.EVENT_READ)

    def _open_tap(self) -> socket.socket:
        tap = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ETH_P_ALL))
        self._register(tap)
        program = b"".join(struct.pack("HBBI", *step) for step in tap_filter(self._mark))
        code = ctypes.create_string_buffer(program, len(program))
        # The kernel copies the program during the call.
        tap.setsockopt(
            socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", len(program) // 8, ctypes.addressof(code))
        )
        tap.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE_BUFFER_BYTES)
        # Frames that came in between opening and filtering are not ours.
        self._drain(tap)
        self._dropped(tap)
        return tap

    def _open_sender(self, source: str) -> socket.socket:
        six = ":" in source
        family, protocol = (
            (socket.AF_INET6, socket.IPPROTO_ICMPV6) if six else (socket.AF_INET, socket.IPPROTO_ICMP)
        )
        sender = socket.socket(family, socket.SOCK_RAW, protocol)
        self._register(sender)
        sender.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE_BUFFER_BYTES)
        if six:
            wanted = [0xFFFFFFFF] * 8
            wanted[_ECHO_REPLY[6] >> 5] &= ~(1 << (_ECHO_REPLY[6] & 31))
            sender.setsockopt(socket.IPPROTO_ICMPV6, _ICMP6_FILTER, struct.pack("8I", *wanted))
        try:
            sender.bind((source, 0))
        except OSError as error:
            raise IpsecError(
                f"{source} is not an address of this host ({error.strerror}), so nothing can be sent from it"
            ) from error
        return sender

    @staticmethod
    def _drain(sock: socket.socket) -> Iterable[tuple[bytes, tuple[object, ...]]]:
        received = []
        while True:
            try:
                received.append(sock.recvfrom(65535))
            except BlockingIOError:
                return received
            except OSError as error:
                # An interface went down, or an ICMP error came back: the socket itself is fine.
                if error.errno not in (errno.ENETDOWN, errno.EHOSTUNREACH, errno.ECONNREFUSED):
                    raise

    @staticmethod
    def _dropped(tap: socket.socket) -> int:
        _seen, dropped = struct.unpack("II", tap.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8))
        return int(dropped)

    def check_tap(self, families: Iterable[int]) -> None:
        """Prove that the tap works: a probe to the loopback address, which no policy covers, must be seen.

        A tap that sees nothing would otherwise make clear text look like silence.
        """
        for family in sorted(set(families)):
            address = "127.0.0.1" if family == 4 else "::1"
            route = Route(address, address)
            self._senders[address] = self._senders.get(address) or self._open_sender(address)
            self.start()
            self._control = self.send(route)
            end = time.monotonic() + _CONTROL_SECONDS
            while not self.tally(route).clear and time.monotonic() < end:
                self.pump(0.05)
            if not self.tally(route).clear:
                raise IpsecError(
                    f"the tap on this host's interfaces did not see a probe to {address},"
                    " so it would not see clear text either"
                )
            self._control = None

    def start(self) -> None:
        """Begin a new round: earlier probes are forgotten."""
        self._round.clear()
        self._seen_clear.clear()
        self._answered.clear()
        self._tallies = {}

    def tally(self, route: Route) -> Tally:
        """Return what became of this round's probes on *route*."""
        return self._tallies.setdefault(route, Tally())

    def send(self, route: Route) -> bytes:
        """Send one probe and return its nonce."""
        nonce = self._mark + os.urandom(_NONCE_BYTES - _MARK_BYTES)
        self._round[nonce] = route
        self._sequence = (self._sequence + 1) & 0xFFFF
        tally = self.tally(route)
        tally.sent += 1
        try:
            self._senders[route.source].sendto(
                echo_request(route.family, self._identifier, self._sequence, nonce), (route.destination, 0)
            )
        except OSError as error:
            tally.error = errno.errorcode.get(error.errno or 0, str(error))
        return nonce

    def pump(self, seconds: float, routes: Iterable[Route] = ()) -> None:
        """Collect for *seconds*, or until each of *routes* was sent a probe and answered all of this round."""
        end = time.monotonic() + seconds
        waiting = set(routes)
        early = bool(waiting)
        while True:
            remaining = end - time.monotonic()
            waiting = {
                route for route in waiting if not 0 < self.tally(route).sent <= self.tally(route).replies
            }
            done = remaining <= 0 or (early and not waiting)
            # A last look without waiting: what has left is at the tap before its answer is here.
            for key, _events in self._selector.select(0 if done else remaining):
                self._collect(key.fileobj)  # type: ignore[arg-type]
            if done:
                return

    def _collect(self, sock: socket.socket) -> None:
        for packet, origin in self._drain(sock):
            position = packet.find(self._mark)
            nonce = packet[position : position + _NONCE_BYTES] if position >= 0 else b""
            route = self._round.get(nonce)
            if route is None:
                continue
            if sock is self._tap:
                # Nothing on the loopback interface is on a wire, except for check_tap().
                if nonce not in self._seen_clear and (
                    origin[3] != _ARPHRD_LOOPBACK or nonce == self._control
                ):
                    self._seen_clear.add(nonce)
                    self.tally(route).clear += 1
            elif nonce not in self._answered and self._is_answer(packet, str(origin[0]), route):
                self._answered.add(nonce)
                self.tally(route).replies += 1

    @staticmethod
    def _is_answer(packet: bytes, origin: str, route: Route) -> bool:
        message = packet[(packet[0] & 0x0F) * 4 :] if route.family == 4 else packet
        from_peer = ipaddress.ip_address(origin.partition("%")[0]) == ipaddress.ip_address(route.destination)
        return from_peer and message[:1] == bytes([_ECHO_REPLY[route.family]])

    def lost(self) -> int:
        """Return how many frames the tap had no room for since the last call."""
        return self._dropped(self._tap)
