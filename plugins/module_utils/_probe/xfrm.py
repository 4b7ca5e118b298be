# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the kernel does: its IPsec states (SAs) and policies, as ``ip xfrm`` prints them."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Union

from ansible_collections.underlay.ipsec.plugins.module_utils._errors import IpsecError
from ansible_collections.underlay.ipsec.plugins.module_utils._run import Runner

NULL_CIPHER = "null"
"""The cipher of an SA that does not encrypt: ESP with null encryption, or AH."""

_STATE = re.compile(r"^src (?P<src>\S+) dst (?P<dst>\S+)")
_ID = re.compile(
    r"\bproto (?P<proto>\S+) spi (?P<spi>0x[0-9a-f]+)\S* reqid (?P<reqid>\d+)\S* mode (?P<mode>\S+)"
)
_ALGORITHM = re.compile(r"^(?P<kind>aead|enc|auth-trunc|auth|comp) (?P<name>\S+)(?P<rest>.*)$")
_KEY = re.compile(r"0x(?P<hex>[0-9a-f]*)")
_ENCAP = re.compile(r"^encap type (?P<type>\S+)")
_PACKETS = re.compile(r"\b(?P<bytes>\d+)\(bytes\), (?P<packets>\d+)\(packets\)")
_POLICY = re.compile(r"^src (?P<src>\S+) dst (?P<dst>\S+)(?: proto (?P<proto>\S+))?(?P<ports>.*)$")
_DIRECTION = re.compile(r"^(?P<socket>socket )?(?:dir )?(?P<dir>in|out|fwd)\b(?P<rest>.*)$")

_Network = Union[ipaddress.IPv4Network, ipaddress.IPv6Network]

# The kernel's names of the algorithms, in libreswan's notation (that of ipsec_esp).
_HASHES = {
    "hmac(sha1)": "sha1",
    "hmac(md5)": "md5",
    "hmac(sha256)": "sha2_256",
    "hmac(sha384)": "sha2_384",
    "hmac(sha512)": "sha2_512",
    "xcbc(aes)": "aes_xcbc",
    "cmac(aes)": "aes_cmac",
    "digest_null": "none",
}
_CIPHERS = {
    "cbc(aes)": "aes",
    "rfc3686(ctr(aes))": "aes_ctr",
    "cbc(camellia)": "camellia",
    "cbc(des3_ede)": "3des",
}
_SALTED = {"rfc4106(gcm(aes))": ("aes_gcm", 4), "rfc4309(ccm(aes))": ("aes_ccm", 3)}


@dataclass(frozen=True)
class State:
    """One kernel SA: one direction of one pair of addresses."""

    source: str
    destination: str
    spi: str
    """As the kernel prints it: ``0x`` and eight hexadecimal digits."""
    reqid: int
    mode: str
    """``transport`` or ``tunnel``."""
    cipher: str
    """In libreswan's notation, with the key's size in bits: ``aes_gcm256``, ``aes256-sha2_512``."""
    encap: str | None
    """``udp`` or ``tcp`` if ESP is wrapped, else None."""
    bytes: int
    packets: int


@dataclass(frozen=True)
class Policy:
    """One kernel policy that is not bound to a socket."""

    source: str
    """A prefix, for example ``10.88.0.11/32``."""
    destination: str
    protocol: str | None
    source_port: int
    """0 means any port."""
    destination_port: int
    direction: str
    """``in``, ``out`` or ``fwd``."""
    priority: int
    """The lowest number wins."""
    kind: str
    """``esp`` (needs an SA), ``pass`` (clear text) or ``block``."""

    def exception(self) -> str:
        """Return the policy as an entry of libreswan's policy files, seen from its source."""
        if self.protocol is None:
            return self.destination
        return f"{self.destination} {self.protocol} {self.source_port} {self.destination_port}"


@dataclass(frozen=True)
class Flow:
    """What the SAs of one direction of one pair counted between two looks at the kernel."""

    spi: str
    """The SA that counted most; the newest one if none counted."""
    spis: tuple[str, ...]
    """Every SA of this direction, also the ones that wait to expire."""
    cipher: str
    encap: str | None
    mode: str
    packets_before: int
    packets_after: int

    @property
    def rise(self) -> int:
        """The number of packets between the two looks."""
        return self.packets_after - self.packets_before


def read_states(run: Runner) -> list[State]:
    """Return the ESP and AH SAs of this kernel."""
    return parse_states(_ip(run, ["ip", "-s", "xfrm", "state"]))


def read_policies(run: Runner) -> list[Policy]:
    """Return the policies of this kernel, without the ones that belong to sockets."""
    return parse_policies(_ip(run, ["ip", "xfrm", "policy"]))


def behind(states: Iterable[State], own: Mapping[str, str]) -> Iterable[State]:
    """Return *states* with the peers' *own* addresses, a mapping, in the place of those that NAT gives them."""
    return (
        replace(
            state,
            source=own.get(state.source, state.source),
            destination=own.get(state.destination, state.destination),
        )
        for state in states
    )


def _ip(run: Runner, argv: list[str]) -> str:
    done = run(argv, check=False)
    if done.rc != 0:
        # Not CommandError: the output of `ip xfrm state` holds keys and must not get into a message.
        said = done.stderr.strip() or f"exit status {done.rc}"
        raise IpsecError(f"the kernel's IPsec state cannot be read: {' '.join(argv)}: {said}")
    return done.stdout


def parse_states(text: str) -> list[State]:
    """Return the SAs in the output of ``ip -s xfrm state``, in its order.

    Larval SAs (SPI 0: the kernel waits for libreswan) are left out.
    """
    return [state for block in _blocks(text) for state in _state(block)]


def _blocks(text: str) -> Iterable[list[str]]:
    """Yield the lines of each entry: it starts in the first column, the rest of it is indented."""
    block: list[str] = []
    for line in text.splitlines():
        if line[:1].strip() and block:
            yield block
            block = []
        if line.strip():
            block.append(line)
    if block:
        yield block


def _state(block: list[str]) -> Iterable[State]:
    addresses = _STATE.match(block[0])
    identity = next((found for found in map(_ID.search, block) if found), None)
    if (
        addresses is None
        or identity is None
        or identity["proto"] not in ("esp", "ah")
        or int(identity["spi"], 16) == 0
    ):
        return
    algorithms: dict[str, tuple[str, int]] = {}
    encap = None
    total_bytes = packets = 0
    current = False
    for line in (line.strip() for line in block[1:]):
        algorithm = _ALGORITHM.match(line)
        wrapped = _ENCAP.match(line)
        if algorithm:
            key = _KEY.search(algorithm["rest"])
            kind = "auth" if algorithm["kind"] == "auth-trunc" else algorithm["kind"]
            algorithms[kind] = (algorithm["name"], len(key["hex"]) // 2 if key else 0)
        elif wrapped:
            encap = "tcp" if "tcp" in wrapped["type"] else "udp"
        elif line.startswith("lifetime "):
            current = line.startswith("lifetime current")
        elif current:
            counted = _PACKETS.search(line)
            if counted:
                total_bytes, packets = int(counted["bytes"]), int(counted["packets"])
                current = False
    yield State(
        source=addresses["src"],
        destination=addresses["dst"],
        spi=identity["spi"],
        reqid=int(identity["reqid"]),
        mode=identity["mode"],
        cipher=NULL_CIPHER if identity["proto"] == "ah" else _cipher(algorithms),
        encap=encap,
        bytes=total_bytes,
        packets=packets,
    )


def _cipher(algorithms: Mapping[str, tuple[str, int]]) -> str:
    """Name the algorithms of an ESP SA; *algorithms* maps aead/enc/auth to (kernel's name, key bytes)."""
    if "aead" in algorithms:
        name, size = algorithms["aead"]
        if name in _SALTED:
            short, salt = _SALTED[name]
            return f"{short}{(size - salt) * 8}"
        if "chacha20" in name:
            return "chacha20_poly1305"
        # rfc4543 (GMAC) authenticates without encrypting.
        return NULL_CIPHER if name.startswith("rfc4543") else name
    name, size = algorithms.get("enc", ("ecb(cipher_null)", 0))
    if "null" in name:
        return NULL_CIPHER
    # The last four bytes of a CTR key are the nonce.
    bits = (size - 4 if name.startswith("rfc3686") else size) * 8
    cipher = _CIPHERS.get(name, name)
    cipher = cipher if cipher == "3des" else f"{cipher}{bits}"
    integrity = algorithms.get("auth", ("digest_null", 0))[0]
    return f"{cipher}-{_HASHES.get(integrity, integrity)}"


def parse_policies(text: str) -> list[Policy]:
    """Return the policies in the output of ``ip xfrm policy``, without the ones that belong to sockets."""
    return [policy for block in _blocks(text) for policy in _policy(block)]


def _policy(block: list[str]) -> Iterable[Policy]:
    head = _POLICY.match(block[0].rstrip())
    direction = next(
        (found for found in map(_DIRECTION.match, (line.strip() for line in block[1:])) if found), None
    )
    if head is None or direction is None or direction["socket"]:
        return
    words: list[str] = direction["rest"].split()
    options = dict(zip(words, words[1:]))
    if options.get("action") == "block":
        kind = "block"
    else:
        kind = "esp" if any(line.strip().startswith("tmpl ") for line in block) else "pass"
    words = head["ports"].split()
    ports: dict[str, str] = dict(zip(words, words[1:]))
    yield Policy(
        source=head["src"],
        destination=head["dst"],
        protocol=head["proto"],
        source_port=int(ports.get("sport", ports.get("type", "0"))),
        destination_port=int(ports.get("dport", ports.get("code", "0"))),
        direction=direction["dir"],
        priority=int(options.get("priority", "0")),
        kind=kind,
    )


class Policies:
    """The outgoing policies, arranged so that each of many peers is looked up quickly."""

    def __init__(self, policies: Iterable[Policy]) -> None:
        self._of_peer: dict[str, list[Policy]] = {}
        self._of_networks: list[tuple[_Network, Policy]] = []
        for policy in policies:
            if policy.direction != "out":
                continue
            network = ipaddress.ip_network(policy.destination, strict=False)
            if network.prefixlen == network.max_prefixlen:
                self._of_peer.setdefault(str(network.network_address), []).append(policy)
            else:
                self._of_networks.append((network, policy))

    def covering(self, source: str, destination: str) -> list[Policy]:
        """Return the policies that cover traffic between two addresses, the ones that win first."""
        own, peer = ipaddress.ip_address(source), ipaddress.ip_address(destination)
        candidates = [policy for network, policy in self._of_networks if peer in network]
        candidates += self._of_peer.get(str(peer), [])
        covering = [p for p in candidates if own in ipaddress.ip_network(p.source, strict=False)]
        return sorted(covering, key=lambda policy: policy.priority)

    def decisive(self, source: str, destination: str) -> Policy | None:
        """Return the policy that decides about traffic of no particular port, or None if none covers it."""
        return next((p for p in self.covering(source, destination) if p.protocol is None), None)

    def exceptions(self, source: str, destination: str) -> list[str]:
        """Return the ports that pass in clear text, as entries of libreswan's policy files."""
        found = []
        for policy in self.covering(source, destination):
            if policy.protocol is None:
                break
            if policy.kind == "pass" and policy.protocol not in ("icmp", "ipv6-icmp"):
                found.append(policy.exception())
        return found


def flows(before: Iterable[State], after: Iterable[State]) -> dict[tuple[str, str], Flow]:
    """Return what each direction counted between two looks, by (source, destination).

    A direction can have several SAs (a rekey, or both ends that initiated at once): they are added up.
    An SA that went away in between is not counted at all: too low a rise is safe, a negative one is not.
    """
    known = {(state.source, state.destination, state.spi): state.packets for state in before}
    grouped: dict[tuple[str, str], list[tuple[int, int, State]]] = {}
    for position, state in enumerate(after):
        rise = state.packets - known.get((state.source, state.destination, state.spi), 0)
        grouped.setdefault((state.source, state.destination), []).append((rise, -position, state))
    result = {}
    for pair, measured in grouped.items():
        busiest = max(measured, key=lambda entry: entry[:2])[2]
        result[pair] = Flow(
            spi=busiest.spi,
            spis=tuple(sorted(state.spi for _rise, _position, state in measured)),
            cipher=NULL_CIPHER
            if any(s.cipher == NULL_CIPHER and r for r, _p, s in measured)
            else busiest.cipher,
            encap=busiest.encap,
            mode=busiest.mode,
            packets_before=sum(state.packets - rise for rise, _position, state in measured),
            packets_after=sum(state.packets for _rise, _position, state in measured),
        )
    return result
