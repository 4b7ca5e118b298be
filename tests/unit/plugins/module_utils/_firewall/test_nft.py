# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rules in the language of nft, and where they go."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from ansible_collections.underlay.ipsec.plugins.module_utils._errors import IpsecError
from ansible_collections.underlay.ipsec.plugins.module_utils._firewall import nft
from ansible_collections.underlay.ipsec.plugins.module_utils._firewall.rules import Rules, read_rules
from ansible_collections.underlay.ipsec.plugins.module_utils._run import Completed

OURS = {
    "network": "data",
    "local": ["10.88.0.11"],
    "remote": ["10.88.0.0/24", "10.89.0.0/24"],
    "clear": ["10.88.0.1/32", "10.88.0.0/24 tcp 22 0", "10.88.0.0/24 udp 0 53", "10.88.0.0/24 icmp 8 0"],
}
SIX = {
    "network": "six",
    "local": ["fd88::11", "fd88::12"],
    "remote": ["fd88::/64"],
    "clear": ["fd88::/64 tcp 22 1024"],
}
CLAMP = {"interface": "vxlan100", "cidr": None, "mtu": 1388}


def rules(
    *closed: dict[str, Any], let_in: Sequence[str] = (), clamp: Sequence[dict[str, Any]] = (), peers: Any = ()
) -> Rules:
    return read_rules({"open": let_in, "closed": closed, "clamp": clamp}, peers)


RENDERED = """\
add table inet underlay_ipsec
delete table inet underlay_ipsec
table inet underlay_ipsec {
\tchain arriving {
\t\ttype filter hook input priority filter - 10; policy accept;
\t\tiifname "lo" accept
\t\tmeta ipsec exists accept
\t\tmeta l4proto esp accept
\t\tudp dport { 500, 4500 } accept
\t\ticmpv6 type { 133, 134, 135, 136, 137 } accept
\t\tip daddr 10.88.0.11 ip saddr 10.88.0.1/32 accept
\t\tip daddr 10.88.0.11 ip saddr 10.88.0.0/24 meta l4proto tcp th dport 22 accept
\t\tip daddr 10.88.0.11 ip saddr 10.88.0.0/24 meta l4proto udp th sport 53 accept
\t\tip daddr 10.88.0.11 ip saddr 10.88.0.0/24 meta l4proto icmp accept
\t\tip daddr 10.88.0.11 ip saddr { 10.88.0.0/24, 10.89.0.0/24 } counter drop
\t\tip6 daddr { fd88::11, fd88::12 } ip6 saddr fd88::/64 meta l4proto tcp th dport 22 th sport 1024 accept
\t\tip6 daddr { fd88::11, fd88::12 } ip6 saddr fd88::/64 counter drop
\t}
\tchain leaving {
\t\ttype filter hook postrouting priority srcnat + 10; policy accept;
\t\toifname "lo" accept
\t\trt ipsec exists accept
\t\tmeta l4proto esp accept
\t\tudp sport { 500, 4500 } accept
\t\ticmpv6 type { 133, 134, 135, 136, 137 } accept
\t\tip saddr 10.88.0.11 ip daddr 10.88.0.1/32 accept
\t\tip saddr 10.88.0.11 ip daddr 10.88.0.0/24 meta l4proto tcp th sport 22 accept
\t\tip saddr 10.88.0.11 ip daddr 10.88.0.0/24 meta l4proto udp th dport 53 accept
\t\tip saddr 10.88.0.11 ip daddr 10.88.0.0/24 meta l4proto icmp accept
\t\tip saddr 10.88.0.11 ip daddr { 10.88.0.0/24, 10.89.0.0/24 } counter drop
\t\tip6 saddr { fd88::11, fd88::12 } ip6 daddr fd88::/64 meta l4proto tcp th sport 22 th dport 1024 accept
\t\tip6 saddr { fd88::11, fd88::12 } ip6 daddr fd88::/64 counter drop
\t}
\tchain forwarded {
\t\ttype filter hook forward priority mangle; policy accept;
\t\toifname "vxlan100" meta nfproto ipv4 tcp flags & (syn | rst) == syn tcp option maxseg size > 1348 tcp option maxseg size set 1348
\t\tiifname "vxlan100" meta nfproto ipv4 tcp flags & (syn | rst) == syn tcp option maxseg size > 1348 tcp option maxseg size set 1348
\t\toifname "vxlan100" meta nfproto ipv6 tcp flags & (syn | rst) == syn tcp option maxseg size > 1328 tcp option maxseg size set 1328
\t\tiifname "vxlan100" meta nfproto ipv6 tcp flags & (syn | rst) == syn tcp option maxseg size > 1328 tcp option maxseg size set 1328
\t}
}
"""


def test_render() -> None:
    assert nft.render(rules(OURS, SIX, let_in=["10.88.0.0/24"], clamp=[CLAMP])) == RENDERED


def test_a_table_without_rules_takes_the_place_of_the_one_before() -> None:
    text = "add table inet underlay_ipsec\ndelete table inet underlay_ipsec\ntable inet underlay_ipsec {\n}\n"
    assert nft.render(rules(let_in=["10.88.0.0/24"])) == text


@pytest.mark.parametrize(
    ("cidr", "expected"),
    [
        (
            "10.88.0.0/24",
            ['oifname "eth1" ip daddr 10.88.0.0/24 tcp', 'iifname "eth1" ip saddr 10.88.0.0/24 tcp'],
        ),
        ("fd88::/64", ['oifname "eth1" ip6 daddr fd88::/64 tcp', 'iifname "eth1" ip6 saddr fd88::/64 tcp']),
    ],
)
def test_clamping_of_one_network(cidr: str, expected: list[str]) -> None:
    text = nft.render(rules(clamp=[{"interface": "eth1", "cidr": cidr, "mtu": 1438}]))
    lines = [line.strip() for line in text.splitlines() if "ifname" in line]
    assert [line.partition(" flags")[0] for line in lines] == expected
    assert all(f"set {1398 if '.' in cidr else 1378}" in line for line in lines)


def test_addresses_of_another_family_are_nobody_s() -> None:
    mixed = {
        "network": "data",
        "local": ["10.88.0.11"],
        "remote": ["10.88.0.0/24", "fd88::/64"],
        "clear": ["fd88::1/128"],
    }
    assert "ip6" not in nft.render(rules(mixed))


@pytest.mark.parametrize(
    ("hook", "family", "expected"),
    [
        (
            "input",
            "inet",
            [
                "ip saddr { 10.88.0.0/24, 192.0.2.1 } udp dport { 500, 4500 }",
                "ip saddr { 10.88.0.0/24, 192.0.2.1 } meta l4proto esp",
                "ip6 saddr fd88::/64 udp dport { 500, 4500 }",
                "ip6 saddr fd88::/64 meta l4proto esp",
            ],
        ),
        (
            "output",
            "ip6",
            ["ip6 daddr fd88::/64 udp sport { 500, 4500 }", "ip6 daddr fd88::/64 meta l4proto esp"],
        ),
        (
            "input",
            "ip",
            [
                "ip saddr { 10.88.0.0/24, 192.0.2.1 } udp dport { 500, 4500 }",
                "ip saddr { 10.88.0.0/24, 192.0.2.1 } meta l4proto esp",
            ],
        ),
    ],
)
def test_what_lets_ipsec_through_a_foreign_chain(hook: str, family: str, expected: list[str]) -> None:
    found = nft.accepts(rules(let_in=["10.88.0.0/24", "fd88::/64", "192.0.2.1/32"]), hook, family)
    assert found == [f'{match} accept comment "underlay.ipsec"' for match in expected]


def chain(family: str, table: str, name: str, hook: str | None = None, **more: Any) -> dict[str, Any]:
    base = {"type": "filter", "hook": hook, "prio": 0, "policy": "accept"} if hook else {}
    return {"chain": {"family": family, "table": table, "name": name, "handle": 1, **base, **more}}


def rule(family: str, table: str, name: str, handle: int, **more: Any) -> dict[str, Any]:
    match = {"match": {"op": "==", "left": {"meta": {"key": "iifname"}}, "right": "lo"}}
    return {
        "rule": {
            "family": family,
            "table": table,
            "chain": name,
            "handle": handle,
            "expr": [match, {"accept": None}],
            **more,
        }
    }


def ruleset(*items: dict[str, Any]) -> str:
    metainfo = {"metainfo": {"version": "1.0.6", "release_name": "Lester Gooch #5", "json_schema_version": 1}}
    return json.dumps({"nftables": [metainfo, *items]})


OPERATOR = ruleset(
    {"table": {"family": "inet", "name": "filter", "handle": 1}},
    chain("inet", "filter", "input", "input", policy="drop"),
    chain("inet", "filter", "forward", "forward", policy="drop"),
    chain("inet", "filter", "output", "output", handle=3),
    chain("inet", "filter", "services"),
    rule("inet", "filter", "input", 4),
    rule("inet", "filter", "input", 7, comment="underlay.ipsec"),
    rule("inet", "filter", "services", 5),
)
INPUT = nft.Chain("inet", "filter", "input", "input", True)
OUTPUT = nft.Chain("inet", "filter", "output", "output", False)


def test_foreign_chains() -> None:
    found = nft.foreign_chains(OPERATOR)
    assert found == [nft.Chain("inet", "filter", "input", "input", True, (7,)), OUTPUT]


@pytest.mark.parametrize(
    ("items", "expected"),
    [
        ([chain("ip", "filter", "in", "input")], [("ip filter in", False)]),
        ([chain("ip", "filter", "in", "input", policy="drop")], [("ip filter in", True)]),
        ([chain("ip", "t", "in", "input"), rule("ip", "t", "in", 4)], [("ip t in", True)]),
        (
            [chain("ip", "t", "in", "input"), rule("ip", "t", "in", 4, comment="underlay.ipsec")],
            [("ip t in", False)],
        ),
        ([chain("ip", "t", "in", "input"), rule("ip6", "t", "in", 4)], [("ip t in", False)]),
        (
            [chain("ip6", "t", "out", "output"), rule("ip6", "t", "out", 4, comment="mine")],
            [("ip6 t out", True)],
        ),
        ([chain("ip", "nat", "POSTROUTING", "postrouting", type="nat")], []),
        ([chain("ip", "t", "out", "output", type="route")], []),
        ([chain("ip", "t", "pre", "prerouting", policy="drop")], []),
        ([chain("bridge", "t", "in", "input", policy="drop"), chain("arp", "t", "in", "input")], []),
        ([chain("inet", "underlay_ipsec", "arriving", "input")], []),
        ([chain("inet", "firewalld", "filter_INPUT", "input", policy="drop")], []),
        ([], []),
    ],
)
def test_which_chains_filter(items: list[dict[str, Any]], expected: list[tuple[str, bool]]) -> None:
    assert [(found.place, found.filters) for found in nft.foreign_chains(ruleset(*items))] == expected


def test_an_nft_that_says_nothing_has_no_chains() -> None:
    assert nft.foreign_chains("") == []


def test_tables_of_iptables_are_left_out_only_where_it_keeps_them_there() -> None:
    text = ruleset(
        chain("ip", "filter", "INPUT", "input", policy="drop"),
        chain("ip6", "mangle", "INPUT", "input"),
        chain("inet", "filter", "input", "input"),
        chain("ip", "site", "input", "input"),
    )
    assert [found.place for found in nft.foreign_chains(text, iptables=True)] == [
        "inet filter input",
        "ip site input",
    ]
    assert len(nft.foreign_chains(text)) == 4


def test_ours_come_before_the_rules_of_others_in_their_order() -> None:
    known = rules(let_in=["10.88.0.0/24"])
    # Each insertion goes to the front.
    assert nft.insertions(known, [INPUT, OUTPUT]) == (
        'insert rule inet filter input ip saddr 10.88.0.0/24 meta l4proto esp accept comment "underlay.ipsec"\n'
        "insert rule inet filter input ip saddr 10.88.0.0/24 udp dport { 500, 4500 } accept"
        ' comment "underlay.ipsec"\n'
    )
    assert nft.insertions(rules(), [INPUT]) == ""


def test_what_leaves_needs_to_be_let_through_only_where_it_is_filtered() -> None:
    known = rules(let_in=["10.88.0.0/24"])
    filtering = nft.Chain("ip", "t", "out", "output", True)
    assert [line.split(" ip daddr")[0] for line in nft.insertions(known, [filtering]).splitlines()] == [
        "insert rule ip t out",
        "insert rule ip t out",
    ]


def test_deletions() -> None:
    chains = [nft.Chain("ip", "t", "in", "input", True, (7, 9)), OUTPUT]
    assert nft.deletions(chains) == "delete rule ip t in handle 7\ndelete rule ip t in handle 9\n"


class Nft:
    def __init__(self, *, refuses: str = "", table: str = "", ruleset: str = "") -> None:
        self.refuses = refuses
        self.said = {"table": table, "ruleset": ruleset}
        self.got: list[str | None] = []

    def __call__(
        self, argv: Sequence[str], *, stdin: str | None = None, check: bool = True, timeout: float = 0
    ) -> Completed:
        self.got.append(stdin)
        said = self.said["ruleset" if "ruleset" in argv else "table"] if "list" in argv else ""
        return Completed(tuple(argv), 1 if self.refuses else 0, said, self.refuses)


def test_load() -> None:
    run = Nft()
    nft.load(run, "add table inet t\n")
    assert run.got == ["add table inet t\n"]
    with pytest.raises(
        IpsecError, match="nftables refused the rules, and nothing changed: Error: syntax error"
    ):
        nft.load(Nft(refuses="Error: syntax error\n"), "")


def test_an_nft_that_does_not_answer() -> None:
    with pytest.raises(IpsecError, match="nftables does not answer: Operation not permitted"):
        nft.list_ruleset(Nft(refuses="Operation not permitted\n"))


def test_live_is_ours_and_does_not_depend_on_handles_and_on_others() -> None:
    table = "table inet underlay_ipsec {\n\tchain arriving {\n\t}\n}\n"
    before = nft.live(Nft(table=table, ruleset=OPERATOR))
    items = json.loads(OPERATOR)["nftables"]
    for item in items:
        if "rule" in item:
            item["rule"]["handle"] += 50
    more = json.dumps({"nftables": [*items, rule("inet", "filter", "input", 99)]})
    assert nft.live(Nft(table=table, ruleset=more)) == before
    fewer = json.dumps({"nftables": [item for item in items if item.get("rule", {}).get("comment") is None]})
    assert nft.live(Nft(table=table, ruleset=fewer)) != before
    assert nft.live(Nft(table="", ruleset=OPERATOR)) != before
