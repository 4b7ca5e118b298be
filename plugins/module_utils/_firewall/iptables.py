# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rules for iptables and ip6tables, legacy or over nf_tables, as ``iptables-restore`` takes them.

All of ours is in chains of our own, one jump to each from the front of a chain that is there anyway.
What is dropped is dropped in the table *mangle*: its chain POSTROUTING sees a packet when an IPsec
policy has been applied to it. In OUTPUT the kernel still holds those that wait for an SA.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from ansible_collections.underlay.ipsec.plugins.module_utils._errors import IpsecError
from ansible_collections.underlay.ipsec.plugins.module_utils._firewall.rules import (
    IKE_PORTS,
    NEIGHBOUR_DISCOVERY,
    PORT_PROTOCOLS,
    TCP_HEADERS,
    Closed,
    Rules,
    of_family,
)
from ansible_collections.underlay.ipsec.plugins.module_utils._model.cluster import Cidr, ClearEntry

PREFIX = "UNDERLAY-IPSEC-"
MARK = "# Made by underlay.ipsec"
"""Before a table that a file of rules did not have."""
_OPEN_IN, _OPEN_OUT = f"{PREFIX}OPEN-IN", f"{PREFIX}OPEN-OUT"
_IN, _OUT, _FORWARD = f"{PREFIX}IN", f"{PREFIX}OUT", f"{PREFIX}FORWARD"

_RULE = re.compile(r"(\[\d+:\d+\] )?-")

Tables = dict[str, dict[str, tuple[str, list[str]]]]
"""Table → our chain → the chain from which it is entered, and its rules."""


def tables(rules: Rules, family: int, chain: str = "INPUT") -> Tables:
    """Return our chains for IPv4 (4) or IPv6 (6); *chain* is where what is let in belongs."""
    found: Tables = {}
    peers = of_family(rules.open, family)
    if peers:
        for name, parent, side, port in (
            (_OPEN_IN, chain, "-s", "--dports"),
            (_OPEN_OUT, "OUTPUT", "-d", "--sports"),
        ):
            found.setdefault("filter", {})[name] = (
                parent,
                [
                    f"{side} {cidr} {match} -j ACCEPT"
                    for cidr in peers
                    for match in (f"-p udp -m multiport {port} {_ports()}", "-p esp")
                ],
            )
    closed = [entry for entry in rules.closed if of_family(entry.local, family)]
    if closed:
        for name, parent, interface, direction, port in (
            (_IN, "INPUT", "-i", "in", "--dports"),
            (_OUT, "POSTROUTING", "-o", "out", "--sports"),
        ):
            found.setdefault("mangle", {})[name] = (
                parent,
                [
                    f"{interface} lo -j RETURN",
                    f"-m policy --dir {direction} --pol ipsec -j RETURN",
                    "-p esp -j RETURN",
                    f"-p udp -m multiport {port} {_ports()} -j RETURN",
                    *_neighbours(family),
                    *(rule for entry in closed for rule in _closed(entry, family, name == _OUT)),
                ],
            )
    clamps = list(_clamps(rules, family))
    if clamps:
        found.setdefault("mangle", {})[_FORWARD] = ("FORWARD", clamps)
    return found


def _ports() -> str:
    return ",".join(str(port) for port in IKE_PORTS)


def _neighbours(family: int) -> list[str]:
    if family == 4:
        return []
    return [f"-p ipv6-icmp -m icmp6 --icmpv6-type {number} -j RETURN" for number in NEIGHBOUR_DISCOVERY]


def _closed(closed: Closed, family: int, leaving: bool) -> Iterator[str]:
    for local in of_family(closed.local, family):
        for entry in closed.clear:
            if entry.cidr.version == family:
                yield f"{_ends(local, entry.cidr, leaving)}{_protocol(entry, leaving)} -j RETURN"
        for remote in of_family(closed.remote, family):
            yield f"{_ends(local, remote, leaving)} -j DROP"


def _ends(local: Cidr, remote: Cidr, leaving: bool) -> str:
    # In the order in which iptables-save has them.
    return f"-s {local} -d {remote}" if leaving else f"-s {remote} -d {local}"


def _protocol(entry: ClearEntry, leaving: bool) -> str:
    if entry.protocol is None:
        return ""
    text = f" -p {entry.protocol}"
    if entry.protocol in PORT_PROTOCOLS:
        local, remote = ("--sports", "--dports") if leaving else ("--dports", "--sports")
        for side, port in ((local, entry.source_port), (remote, entry.destination_port)):
            if port:
                text += f" -m multiport {side} {port}"
    return text


def _clamps(rules: Rules, family: int) -> Iterator[str]:
    for clamp in rules.clamp:
        if clamp.cidr and clamp.cidr.version != family:
            continue
        size = clamp.mtu - TCP_HEADERS[family]
        for interface, side in (("-o", "-d"), ("-i", "-s")):
            where = f"{side} {clamp.cidr} " if clamp.cidr else ""
            yield (
                f"{where}{interface} {clamp.interface} -p tcp -m tcp --tcp-flags SYN,RST SYN"
                f" -m tcpmss --mss {size + 1}:65535 -j TCPMSS --set-mss {size}"
            )


def ours(saved: str) -> str:
    """Return what there is of ours in *saved*, the output of ``iptables-save``: to see whether anybody changed it."""
    kept = []
    table = ""
    for line in saved.split("\n"):
        if line.startswith("*"):
            table = line
        elif PREFIX in line:
            kept.append(f"{table} {_without_counters(line)}")
    # What others save of ours is in another order.
    return "\n".join(sorted(kept))


def _without_counters(line: str) -> str:
    return line.partition(" [")[0] if line.startswith(":") else line


def restore(wanted: Tables, saved: str) -> str:
    """Return the input of ``iptables-restore --noflush`` that makes our chains *wanted*.

    *saved* is the output of ``iptables-save``. Each table is replaced in one step; what is not ours stays.
    """
    present = _present(saved)
    lines: list[str] = []
    for table in sorted({*wanted, *present}):
        chains, jumps = present.get(table, ([], []))
        new = wanted.get(table, {})
        lines += [f"*{table}", *(f":{name} - [0:0]" for name in new)]
        lines += [f"-D {jump}" for jump in jumps]
        for name, (parent, rules) in new.items():
            lines += [*(f"-A {name} {rule}" for rule in rules), f"-I {parent} 1 -j {name}"]
        for name in chains:
            if name not in new:
                lines += [f"-F {name}", f"-X {name}"]
        lines.append("COMMIT")
    return "\n".join([*lines, ""])


def _present(saved: str) -> dict[str, tuple[list[str], list[str]]]:
    """Return table → our chains in it, and the jumps to them."""
    found: dict[str, tuple[list[str], list[str]]] = {}
    table = ""
    for line in saved.splitlines():
        if line.startswith("*"):
            table = line[1:]
        elif line.startswith(f":{PREFIX}"):
            found.setdefault(table, ([], []))[0].append(line[1:].split()[0])
        elif line.startswith("-A ") and not line.startswith(f"-A {PREFIX}") and f" -j {PREFIX}" in line:
            found.setdefault(table, ([], []))[1].append(line[3:])
    return found


def chains_of(saved: str, table: str) -> dict[str, bool]:
    """Return the chains of *table* in the output of ``iptables-save``, and whether each can drop or accept anything.

    Our own jumps do not count.
    """
    found: dict[str, bool] = {}
    inside = False
    for line in saved.splitlines():
        if line.startswith("*"):
            inside = line == f"*{table}"
        elif inside and line.startswith(":"):
            name, policy = line[1:].split()[:2]
            found[name] = policy == "DROP"
        elif inside and line.startswith("-A ") and PREFIX not in line:
            found[line.split()[1]] = True
    return found


def merged(text: str, wanted: Tables) -> str:
    """Return *text*, a file as ``iptables-save`` writes it, with our chains in front of what it has.

    Raises IpsecError if it is not such a file.
    """
    lines, end_of_text = _lines(without(text))
    for table, chains in wanted.items():
        if f"*{table}" not in lines:
            parents = sorted({parent for parent, _rules in chains.values()})
            lines += [MARK, f"*{table}", *(f":{parent} ACCEPT [0:0]" for parent in parents), "COMMIT"]
        start = lines.index(f"*{table}")
        if "COMMIT" not in lines[start:]:
            raise IpsecError(f"the table {table} does not end with COMMIT")
        end = lines.index("COMMIT", start)
        block = lines[start:end]
        body = next((i for i, line in enumerate(block) if _RULE.match(line)), len(block))
        jumps = [f"-A {parent} -j {name}" for name, (parent, _rules) in chains.items()]
        rules = [f"-A {name} {rule}" for name, (_parent, rules) in chains.items() for rule in rules]
        declared = [f":{name} - [0:0]" for name in chains]
        lines[start:end] = [*block[:body], *declared, *jumps, *block[body:], *rules]
    return _text(lines, end_of_text)


def without(text: str) -> str:
    """Return *text*, a file as ``iptables-save`` writes it, without anything of ours."""
    lines, end_of_text = _lines(text)
    kept: list[str] = []
    while lines:
        if lines[0] != MARK:
            kept += [line for line in lines[:1] if PREFIX not in line]
            del lines[0]
            continue
        end = lines.index("COMMIT") + 1 if "COMMIT" in lines else len(lines)
        table = [line for line in lines[1:end] if PREFIX not in line]
        # Somebody may have come to use the table that we made.
        if any(_RULE.match(line) for line in table):
            kept += table
        del lines[:end]
    return _text(kept, end_of_text)


def _lines(text: str) -> tuple[list[str], str]:
    """Return the lines of a file, and what is behind the last one."""
    lines = text.split("\n")
    return (lines[:-1], "\n") if lines[-1] == "" else (lines, "")


def _text(lines: Sequence[str], end_of_text: str) -> str:
    return "\n".join(lines) + end_of_text if lines else ""


def emptied(saved: str, before: Sequence[str]) -> list[str]:
    """Return the tables in *saved* that were not there *before* and do nothing."""
    found = []
    for table in (line[1:] for line in saved.splitlines() if line.startswith("*")):
        if table not in before and not any(chains_of(saved, table).values()):
            found.append(table)
    return found
