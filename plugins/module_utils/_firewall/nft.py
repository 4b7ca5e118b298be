# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rules for nftables.

What is dropped has a table of its own. What is let in cannot: in nftables a packet has to pass
every base chain of a hook, so that no rule of ours can overrule a foreign chain that drops.
Such a chain gets our rules in front of its own ones, marked by a comment.

Outgoing packets are looked at in *postrouting*, where an IPsec policy has been applied. In *output*
the kernel still holds those that wait for an SA, and would lose them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

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
from ansible_collections.underlay.ipsec.plugins.module_utils._run import Runner

FAMILY, TABLE = "inet", "underlay_ipsec"
COMMENT = "underlay.ipsec"
_IP = {4: "ip", 6: "ip6"}
_IPTABLES_NAMES = frozenset({"filter", "nat", "mangle", "raw", "security"})


def render(rules: Rules) -> str:
    """Return our table for ``nft -f``, which replaces the one that is there in one transaction."""
    ports = _set(str(port) for port in IKE_PORTS)
    types = _set(str(number) for number in NEIGHBOUR_DISCOVERY)
    lines = [
        f"add table {FAMILY} {TABLE}",
        f"delete table {FAMILY} {TABLE}",
        f"table {FAMILY} {TABLE} {{",
    ]
    if rules.closed:
        for name, hook, interface, ipsec, port in (
            ("arriving", "input priority filter - 10", "iifname", "meta ipsec", "dport"),
            ("leaving", "postrouting priority srcnat + 10", "oifname", "rt ipsec", "sport"),
        ):
            lines += [
                f"\tchain {name} {{",
                f"\t\ttype filter hook {hook}; policy accept;",
                f'\t\t{interface} "lo" accept',
                f"\t\t{ipsec} exists accept",
                "\t\tmeta l4proto esp accept",
                f"\t\tudp {port} {ports} accept",
                f"\t\ticmpv6 type {types} accept",
                *(f"\t\t{rule}" for closed in rules.closed for rule in _closed(closed, name == "leaving")),
                "\t}",
            ]
    if rules.clamp:
        lines += [
            "\tchain forwarded {",
            "\t\ttype filter hook forward priority mangle; policy accept;",
            *(f"\t\t{rule}" for rule in _clamps(rules)),
            "\t}",
        ]
    return "\n".join([*lines, "}", ""])


def _set(items: Iterable[str]) -> str:
    return "{ " + ", ".join(items) + " }"


def _closed(closed: Closed, leaving: bool) -> Iterator[str]:
    local, remote = ("saddr", "daddr") if leaving else ("daddr", "saddr")
    for family, ip in _IP.items():
        ours, theirs = of_family(closed.local, family), of_family(closed.remote, family)
        if not ours or not theirs:
            continue
        own = f"{ip} {local} {_addresses(ours)}"
        for entry in closed.clear:
            if entry.cidr.version == family:
                yield f"{own} {ip} {remote} {entry.cidr}{_protocol(entry, leaving)} accept"
        yield f"{own} {ip} {remote} {_addresses(theirs)} counter drop"


def _addresses(cidrs: Sequence[Cidr]) -> str:
    texts = [str(cidr.network_address) if cidr.num_addresses == 1 else str(cidr) for cidr in cidrs]
    return texts[0] if len(texts) == 1 else _set(texts)


def _protocol(entry: ClearEntry, leaving: bool) -> str:
    if entry.protocol is None:
        return ""
    text = f" meta l4proto {entry.protocol}"
    if entry.protocol in PORT_PROTOCOLS:
        local, remote = ("sport", "dport") if leaving else ("dport", "sport")
        for side, port in ((local, entry.source_port), (remote, entry.destination_port)):
            if port:
                text += f" th {side} {port}"
    return text


def _clamps(rules: Rules) -> Iterator[str]:
    for clamp in rules.clamp:
        for family, ip in _IP.items():
            if clamp.cidr and clamp.cidr.version != family:
                continue
            size = clamp.mtu - TCP_HEADERS[family]
            for interface, side in (("oifname", "daddr"), ("iifname", "saddr")):
                where = f" {ip} {side} {clamp.cidr}" if clamp.cidr else f" meta nfproto ipv{family}"
                yield (
                    f'{interface} "{clamp.interface}"{where} tcp flags & (syn | rst) == syn'
                    f" tcp option maxseg size > {size} tcp option maxseg size set {size}"
                )


def accepts(rules: Rules, hook: str, family: str) -> list[str]:
    """Return what lets IKE and ESP through a foreign chain of *hook*, in a table of *family* (ip, ip6 or inet)."""
    side, port = ("saddr", "dport") if hook == "input" else ("daddr", "sport")
    found = []
    for version, ip in _IP.items():
        cidrs = of_family(rules.open, version)
        if cidrs and family in (ip, "inet"):
            peers = f"{ip} {side} {_addresses(cidrs)}"
            found += [f"{peers} udp {port} {_set(map(str, IKE_PORTS))}", f"{peers} meta l4proto esp"]
    return [f'{match} accept comment "{COMMENT}"' for match in found]


@dataclass(frozen=True)
class Chain:
    """A foreign base chain that may drop."""

    family: str
    table: str
    name: str
    hook: str
    filters: bool
    """Whether it can drop anything as it is: by its policy, or because it has rules of its own."""
    ours: tuple[int, ...] = ()
    """The handles of our rules in it."""

    @property
    def place(self) -> str:
        """Where it is, as commands name it."""
        return f"{self.family} {self.table} {self.name}"


def foreign_chains(ruleset: str, *, iptables: bool = False) -> list[Chain]:
    """Return the chains in the output of ``nft -j list ruleset`` that filter what comes and goes.

    Left out are our own table and firewalld's. With *iptables*, those of its tables are left out as well.
    """
    items: list[Mapping[str, Any]] = json.loads(ruleset or '{"nftables": []}')["nftables"]
    rules: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
    for item in items:
        if "rule" in item:
            rule = item["rule"]
            rules.setdefault((rule["family"], rule["table"], rule["chain"]), []).append(rule)
    found = []
    for item in items:
        chain = item.get("chain", {})
        if chain.get("type") != "filter" or chain.get("hook") not in ("input", "output"):
            continue
        family, table, name = chain["family"], chain["table"], chain["name"]
        if family not in ("ip", "ip6", "inet") or table in (TABLE, "firewalld"):
            continue
        if iptables and family != "inet" and table in _IPTABLES_NAMES:
            continue
        inside = rules.get((family, table, name), [])
        ours = tuple(rule["handle"] for rule in inside if rule.get("comment") == COMMENT)
        filters = chain.get("policy") == "drop" or len(inside) > len(ours)
        found.append(Chain(family, table, name, chain["hook"], filters, ours))
    return found


def list_ruleset(run: Runner) -> str:
    """Return the kernel's rules as JSON. Raises IpsecError."""
    said = run(["nft", "-j", "list", "ruleset"], check=False)
    if said.rc:
        raise IpsecError(f"nftables does not answer: {said.stderr.strip()}")
    return said.stdout


def insertions(rules: Rules, chains: Iterable[Chain]) -> str:
    """Return the commands that put our rules in front of those of foreign *chains*."""
    return "".join(
        f"insert rule {chain.place} {rule}\n"
        for chain in chains
        if chain.hook == "input" or chain.filters
        for rule in reversed(accepts(rules, chain.hook, chain.family))
    )


def deletions(chains: Iterable[Chain]) -> str:
    """Return the commands that take our rules out of foreign *chains*."""
    return "".join(
        f"delete rule {chain.place} handle {handle}\n" for chain in chains for handle in chain.ours
    )


def delete_table() -> str:
    """Return the commands that remove our table, whether it is there or not."""
    return f"add table {FAMILY} {TABLE}\ndelete table {FAMILY} {TABLE}\n"


def load(run: Runner, text: str) -> None:
    """Do what *text* says, all of it or nothing. Raises IpsecError."""
    said = run(["nft", "-f", "-"], stdin=text, check=False)
    if said.rc:
        raise IpsecError(f"nftables refused the rules, and nothing changed: {said.stderr.strip()}")


def live(run: Runner) -> str:
    """Return what the kernel has of ours, without counters: to see whether anybody changed it."""
    table = run(["nft", "-s", "list", "table", FAMILY, TABLE], check=False).stdout
    marked = [
        json.dumps([item["rule"][key] for key in ("family", "table", "chain", "expr")], sort_keys=True)
        for item in json.loads(list_ruleset(run))["nftables"]
        if item.get("rule", {}).get("comment") == COMMENT
    ]
    return "\n".join([table.strip(), *marked])
