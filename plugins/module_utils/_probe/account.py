# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What pluto wrote to the journal about a peer, condensed to one clause. It explains a verdict and never makes one."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from ansible_collections.underlay.ipsec.plugins.module_utils._run import Runner

# Long enough for the attempt before the last one: a peer that failed is left alone for half a minute.
_WINDOW_SECONDS = 180
_LINES = 20000
# The lines of one negotiation, and of its retries, lie this close together.
_EPISODE_SECONDS = 60.0

_LINE = re.compile(r"^(?P<time>\d+\.\d+) \S+ pluto\[\d+\]: (?P<text>.*)$")
_CONNECTION = re.compile(r'"(?P<name>[^"]+)"')
_NONE: Mapping[str, str] = MappingProxyType({})
_ADDRESS = re.compile(r"\d{1,3}(?:\.\d{1,3}){3}|[0-9a-fA-F]*:[0-9a-fA-F:]*:[0-9a-fA-F:.]*")

# The first that fits wins: what is known precisely comes before what merely follows from it.
_FINDINGS = (
    (
        "certificate",
        r"certificate .*invalid: (?P<code>SEC_ERROR_\w+)",
        "the peer's certificate is invalid ({code})",
    ),
    ("certificate", r"X509: [Cc]ertificate .*rejected", "the peer's certificate was rejected"),
    ("certificate", r"(?:could not|failed to) .*(?:private key|CKAID)", "the own private key cannot be used"),
    (
        "proposal",
        r"no local proposal matches|NO_PROPOSAL_CHOSEN",
        "no common algorithms (NO_PROPOSAL_CHOSEN)",
    ),
    ("selectors", r"TS_UNACCEPTABLE", "the peer does not accept the addresses (TS_UNACCEPTABLE)"),
    (
        "authentication",
        r"rejected by peer: AUTHENTICATION_FAILED",
        "the peer rejects the authentication (AUTHENTICATION_FAILED)",
    ),
    ("authentication", r"authentication failed: (?P<code>.*)", "the peer's authentication failed: {code}"),
    ("authentication", r"AUTHENTICATION_FAILED", "authentication failed (AUTHENTICATION_FAILED)"),
    (
        "crossed",
        r"IKE_AUTH response has no corresponding IKE SA",
        "both ends negotiated at the same time and each dropped the other's SA",
    ),
    ("selectors", r"no suitable connection found", "no connection here fits the peer's request"),
    ("no_response", r"No response \(or no acceptable response\) to our", "the peer does not answer IKE"),
    ("no_response", r"retransmission; will wait", "the peer does not answer IKE"),
    ("no_response", r"asynchronous network error report", "the network reports an error for IKE"),
)
_COMPILED = tuple((cause, re.compile(pattern), clause) for cause, pattern, clause in _FINDINGS)


@dataclass(frozen=True)
class Account:
    """Why libreswan says there is no SA."""

    cause: str
    """One of the causes that a report has a remedy for."""
    clause: str


def read_accounts(
    run: Runner, now: float, peers: Iterable[str], connections: Mapping[str, str] = _NONE
) -> dict[str, Account]:
    """Return what the journal of the last three minutes says about each of *peers*' addresses.

    *connections* is the name of a connection with one peer → that peer: lines about it need not
    name the address. *now* is Unix time. Without a journal there are no accounts, which is no error.
    """
    done = run(
        [
            "journalctl", "--unit=ipsec.service", "--output=short-unix", "--no-pager", "--quiet",
            f"--since=@{int(now) - _WINDOW_SECONDS}", f"--lines={_LINES}",
        ],
        check=False,
    )  # fmt: skip
    return parse_accounts(done.stdout, peers, connections)


def parse_accounts(
    text: str, peers: Iterable[str], connections: Mapping[str, str] = _NONE
) -> dict[str, Account]:
    """Return the last thing that went wrong with each of *peers*, from ``journalctl --output=short-unix``.

    *connections* is as in `read_accounts`.
    """
    wanted = {ipaddress.ip_address(peer): peer for peer in peers}
    found: dict[str, list[tuple[float, int, Account]]] = {}
    for line in text.splitlines():
        parsed = _LINE.match(line)
        finding = _finding(parsed["text"]) if parsed else None
        if parsed and finding:
            named = _CONNECTION.match(parsed["text"])
            known = connections.get(named["name"]) if named else None
            for address in {known} if known else set(_ADDRESS.findall(parsed["text"])):
                normal = _normal(address)
                peer = wanted.get(normal) if normal else None
                if peer:
                    found.setdefault(peer, []).append((float(parsed["time"]), *finding))
    accounts = {}
    for peer, entries in found.items():
        last = entries[-1][0]
        episode = [entry for entry in entries if entry[0] >= last - _EPISODE_SECONDS]
        accounts[peer] = min(episode, key=lambda entry: (entry[1], -entry[0]))[2]
    return accounts


def _finding(text: str) -> tuple[int, Account] | None:
    """Return the rank of what *text* tells, and what it tells; None if it is of no interest."""
    for rank, (cause, pattern, clause) in enumerate(_COMPILED):
        match = pattern.search(text)
        if match:
            return rank, Account(cause, clause.format(**match.groupdict()))
    return None


def _normal(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(address)
    except ValueError:
        return None
