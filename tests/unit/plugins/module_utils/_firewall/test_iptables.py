# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rules as iptables-restore takes them, and files of rules with ours in them and without."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.underlay.ipsec.plugins.module_utils._errors import IpsecError
from ansible_collections.underlay.ipsec.plugins.module_utils._firewall import iptables
from ansible_collections.underlay.ipsec.plugins.module_utils._firewall.rules import Rules, read_rules
from ansible_collections.underlay.ipsec.tests.unit.plugins.module_utils._firewall.machine import Xtables

OURS = {
    "network": "data",
    "local": ["10.88.0.11"],
    "remote": ["10.88.0.12/32", "10.88.0.13/32"],
    "clear": ["10.88.0.1/32", "10.88.0.0/24 tcp 22 0", "10.88.0.0/24 udp 0 53", "10.88.0.0/24 icmp 8 0"],
}
SIX = {
    "network": "six",
    "local": ["fd88::11"],
    "remote": ["fd88::/64"],
    "clear": ["fd88::/64 tcp 22 1024"],
}
CLAMPS = [
    {"interface": "vxlan100", "cidr": None, "mtu": 1388},
    {"interface": "eth1", "cidr": "10.88.0.0/24", "mtu": 1438},
]


def rules(*closed: dict[str, Any], let_in: Any = ("10.88.0.0/24",), clamp: Any = ()) -> Rules:
    return read_rules({"open": let_in, "closed": closed, "clamp": clamp})


OPEN = rules()
ALL = rules(OURS, SIX, let_in=("10.88.0.0/24", "192.0.2.1/32", "fd88::/64"), clamp=CLAMPS)
IN, OUT = "UNDERLAY-IPSEC-IN", "UNDERLAY-IPSEC-OUT"


def test_tables_of_ipv4() -> None:
    syn = "-p tcp -m tcp --tcp-flags SYN,RST SYN -m tcpmss --mss"
    assert iptables.tables(ALL, 4) == {
        "filter": {
            "UNDERLAY-IPSEC-OPEN-IN": (
                "INPUT",
                [
                    "-s 10.88.0.0/24 -p udp -m multiport --dports 500,4500 -j ACCEPT",
                    "-s 10.88.0.0/24 -p esp -j ACCEPT",
                    "-s 192.0.2.1/32 -p udp -m multiport --dports 500,4500 -j ACCEPT",
                    "-s 192.0.2.1/32 -p esp -j ACCEPT",
                ],
            ),
            "UNDERLAY-IPSEC-OPEN-OUT": (
                "OUTPUT",
                [
                    "-d 10.88.0.0/24 -p udp -m multiport --sports 500,4500 -j ACCEPT",
                    "-d 10.88.0.0/24 -p esp -j ACCEPT",
                    "-d 192.0.2.1/32 -p udp -m multiport --sports 500,4500 -j ACCEPT",
                    "-d 192.0.2.1/32 -p esp -j ACCEPT",
                ],
            ),
        },
        "mangle": {
            IN: (
                "INPUT",
                [
                    "-i lo -j RETURN",
                    "-m policy --dir in --pol ipsec -j RETURN",
                    "-p esp -j RETURN",
                    "-p udp -m multiport --dports 500,4500 -j RETURN",
                    "-s 10.88.0.1/32 -d 10.88.0.11/32 -j RETURN",
                    "-s 10.88.0.0/24 -d 10.88.0.11/32 -p tcp -m multiport --dports 22 -j RETURN",
                    "-s 10.88.0.0/24 -d 10.88.0.11/32 -p udp -m multiport --sports 53 -j RETURN",
                    "-s 10.88.0.0/24 -d 10.88.0.11/32 -p icmp -j RETURN",
                    "-s 10.88.0.12/32 -d 10.88.0.11/32 -j DROP",
                    "-s 10.88.0.13/32 -d 10.88.0.11/32 -j DROP",
                ],
            ),
            OUT: (
                "POSTROUTING",
                [
                    "-o lo -j RETURN",
                    "-m policy --dir out --pol ipsec -j RETURN",
                    "-p esp -j RETURN",
                    "-p udp -m multiport --sports 500,4500 -j RETURN",
                    "-s 10.88.0.11/32 -d 10.88.0.1/32 -j RETURN",
                    "-s 10.88.0.11/32 -d 10.88.0.0/24 -p tcp -m multiport --sports 22 -j RETURN",
                    "-s 10.88.0.11/32 -d 10.88.0.0/24 -p udp -m multiport --dports 53 -j RETURN",
                    "-s 10.88.0.11/32 -d 10.88.0.0/24 -p icmp -j RETURN",
                    "-s 10.88.0.11/32 -d 10.88.0.12/32 -j DROP",
                    "-s 10.88.0.11/32 -d 10.88.0.13/32 -j DROP",
                ],
            ),
            "UNDERLAY-IPSEC-FORWARD": (
                "FORWARD",
                [
                    f"-o vxlan100 {syn} 1349:65535 -j TCPMSS --set-mss 1348",
                    f"-i vxlan100 {syn} 1349:65535 -j TCPMSS --set-mss 1348",
                    f"-d 10.88.0.0/24 -o eth1 {syn} 1399:65535 -j TCPMSS --set-mss 1398",
                    f"-s 10.88.0.0/24 -i eth1 {syn} 1399:65535 -j TCPMSS --set-mss 1398",
                ],
            ),
        },
    }


def test_tables_of_ipv6_let_neighbours_find_each_other() -> None:
    mangle = iptables.tables(ALL, 6)["mangle"]
    for chain, ports in (
        (IN, "--dports 22 -m multiport --sports 1024"),
        (OUT, "--sports 22 -m multiport --dports 1024"),
    ):
        ends = "-s fd88::/64 -d fd88::11/128" if chain == IN else "-s fd88::11/128 -d fd88::/64"
        assert mangle[chain][1][4:] == [
            *(f"-p ipv6-icmp -m icmp6 --icmpv6-type {number} -j RETURN" for number in range(133, 138)),
            f"{ends} -p tcp -m multiport {ports} -j RETURN",
            f"{ends} -j DROP",
        ]
    assert [rule.rpartition(" ")[2] for rule in mangle["UNDERLAY-IPSEC-FORWARD"][1]] == ["1328", "1328"]


@pytest.mark.parametrize(
    ("known", "family", "expected"),
    [
        (Rules(), 4, {}),
        (OPEN, 4, {"filter": ["UNDERLAY-IPSEC-OPEN-IN", "UNDERLAY-IPSEC-OPEN-OUT"]}),
        (OPEN, 6, {}),
        (rules(SIX, let_in=()), 6, {"mangle": [IN, OUT]}),
        (rules(SIX, let_in=()), 4, {}),
        (rules(let_in=(), clamp=CLAMPS[1:]), 4, {"mangle": ["UNDERLAY-IPSEC-FORWARD"]}),
        (rules(let_in=(), clamp=CLAMPS[1:]), 6, {}),
    ],
)
def test_tables_have_no_chain_without_a_purpose(
    known: Rules, family: int, expected: dict[str, list[str]]
) -> None:
    assert {table: list(chains) for table, chains in iptables.tables(known, family).items()} == expected


def test_only_what_comes_in_is_let_in_by_another_chain() -> None:
    found = iptables.tables(ALL, 4, "OS_FIREWALL_ALLOW")
    parents = {name: parent for chains in found.values() for name, (parent, _rules) in chains.items()}
    assert parents["UNDERLAY-IPSEC-OPEN-IN"] == "OS_FIREWALL_ALLOW"
    assert (parents["UNDERLAY-IPSEC-OPEN-OUT"], parents[IN]) == ("OUTPUT", "INPUT")


DEBIAN = """\
# Generated by iptables-save v1.8.9 (nf_tables) on Sun Nov 22 12:00:00 2026
*filter
:INPUT DROP [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
:site - [0:0]
# what the site lets in
-A INPUT -i lo -j ACCEPT
-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A INPUT -j site
-A INPUT -j REJECT --reject-with icmp-port-unreachable
-A site -p tcp -m tcp --dport 22 -m comment --comment "ssh, and no more" -j ACCEPT
COMMIT
# Completed on Sun Nov 22 12:00:00 2026
"""
WITH_MANGLE = (
    """\
*mangle
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
-A POSTROUTING -o eth0 -j TTL --ttl-set 64
COMMIT
"""
    + DEBIAN
)
OTHERS = ["", DEBIAN, WITH_MANGLE, "*nat\n:PREROUTING ACCEPT [0:0]\nCOMMIT\n", "# empty\n\n"]
WANTED = [iptables.tables(known, family) for known in (OPEN, ALL) for family in (4, 6)]


@pytest.mark.parametrize("before", OTHERS)
@pytest.mark.parametrize("wanted", WANTED)
def test_restore_makes_our_chains_what_is_wanted_and_can_be_repeated(
    before: str, wanted: iptables.Tables
) -> None:
    host = Xtables(before)
    for former in ({}, *WANTED):
        host.restore(iptables.restore(former, host.save()))
        host.restore(iptables.restore(wanted, host.save()))
        saved = host.save()
        for table, chains in wanted.items():
            for name, (parent, inside) in chains.items():
                assert host.tables[table][name] == ("-", inside)
                assert host.tables[table][parent][1][0] == f"-j {name}"
        assert sum(f" -j {iptables.PREFIX}" in line for line in saved.splitlines()) == sum(
            map(len, wanted.values())
        )
        host.restore(iptables.restore(wanted, saved))
        assert host.save() == saved


@pytest.mark.parametrize("before", OTHERS)
@pytest.mark.parametrize("wanted", WANTED)
def test_restore_takes_all_away_and_lets_others_alone(before: str, wanted: iptables.Tables) -> None:
    host = Xtables(before)
    host.restore(iptables.restore(wanted, host.save()))
    tables = [table for table, chains in Xtables(before).tables.items() if chains]
    host.restore(iptables.restore({}, host.save()))
    for table in iptables.emptied(host.save(), tables):
        del host.tables[table]
    assert host.tables == Xtables(before).tables
    assert iptables.restore({}, host.save()).strip() == ""


def test_restore_finds_a_jump_that_somebody_moved_or_doubled() -> None:
    host = Xtables(DEBIAN)
    wanted = iptables.tables(OPEN, 4)
    host.restore(iptables.restore(wanted, host.save()))
    rules = host.tables["filter"]["INPUT"][1]
    rules.append(rules.pop(0))
    rules.append(rules[-1])
    host.restore(iptables.restore(wanted, host.save()))
    assert host.tables["filter"]["INPUT"][1][0] == "-j UNDERLAY-IPSEC-OPEN-IN"
    assert sum(iptables.PREFIX in rule for rule in host.tables["filter"]["INPUT"][1]) == 1


def test_restore_follows_the_jump_to_another_chain() -> None:
    host = Xtables(DEBIAN)
    host.restore(iptables.restore(iptables.tables(OPEN, 4, "INPUT"), host.save()))
    host.restore(iptables.restore(iptables.tables(OPEN, 4, "site"), host.save()))
    assert host.tables["filter"]["site"][1][0] == "-j UNDERLAY-IPSEC-OPEN-IN"
    assert "-j UNDERLAY-IPSEC-OPEN-IN" not in host.tables["filter"]["INPUT"][1]


@pytest.mark.parametrize("before", OTHERS)
@pytest.mark.parametrize("wanted", WANTED)
def test_a_file_with_our_chains_loads_what_is_in_force(before: str, wanted: iptables.Tables) -> None:
    booted, host = Xtables(iptables.merged(before, wanted)), Xtables(before)
    host.restore(iptables.restore(wanted, host.save()))

    def meaning(tables: Xtables) -> dict[str, Any]:
        return {table: dict(sorted(chains.items())) for table, chains in sorted(tables.tables.items())}

    assert meaning(booted) == meaning(host)


UNUSUAL = [
    DEBIAN.rstrip("\n"),
    DEBIAN.replace("ssh, and", "ssh\u2028\x0c and"),
    DEBIAN.replace("\n-A", "\n[12:3456] -A"),
]


@pytest.mark.parametrize(
    "before", [*OTHERS, *UNUSUAL, DEBIAN.replace("\n", "\n\n"), "\n" + DEBIAN + "\n# the end\n"]
)
@pytest.mark.parametrize("wanted", WANTED)
def test_a_file_is_the_same_without_ours_to_the_byte(before: str, wanted: iptables.Tables) -> None:
    merged = iptables.merged(before, wanted)
    assert iptables.without(merged) == before
    assert iptables.merged(merged, wanted) == merged
    assert iptables.merged(iptables.merged(before, WANTED[0]), wanted) == merged


def test_merged() -> None:
    clamp = {"mangle": {"UNDERLAY-IPSEC-FORWARD": ("FORWARD", ["-o x -j y"])}}
    opened = iptables.tables(OPEN, 4)
    assert iptables.merged(DEBIAN, {**opened, **clamp}) == (
        DEBIAN.replace(
            "# what the site lets in\n",
            "# what the site lets in\n"
            ":UNDERLAY-IPSEC-OPEN-IN - [0:0]\n"
            ":UNDERLAY-IPSEC-OPEN-OUT - [0:0]\n"
            "-A INPUT -j UNDERLAY-IPSEC-OPEN-IN\n"
            "-A OUTPUT -j UNDERLAY-IPSEC-OPEN-OUT\n",
        ).replace(
            "COMMIT\n",
            "".join(
                f"-A {name} {rule}\n" for name, (_parent, rules) in opened["filter"].items() for rule in rules
            )
            + "COMMIT\n",
        )
        + "# Made by underlay.ipsec\n*mangle\n:FORWARD ACCEPT [0:0]\n:UNDERLAY-IPSEC-FORWARD - [0:0]\n"
        "-A FORWARD -j UNDERLAY-IPSEC-FORWARD\n-A UNDERLAY-IPSEC-FORWARD -o x -j y\nCOMMIT\n"
    )


def test_ours_come_first_in_a_file_with_counters() -> None:
    lines = iptables.merged(UNUSUAL[2], WANTED[0]).split("\n")
    assert lines.index("-A INPUT -j UNDERLAY-IPSEC-OPEN-IN") < lines.index(
        "[12:3456] -A INPUT -i lo -j ACCEPT"
    )


def test_what_the_operator_wrote_into_our_table_stays() -> None:
    wanted = iptables.tables(ALL, 4)
    head, mangle = iptables.merged("", wanted).split("*mangle\n")
    text = head + "*mangle\n" + mangle.replace("COMMIT\n", "-A FORWARD -j LOG\nCOMMIT\n")
    assert "-A FORWARD -j LOG\n" in iptables.merged(text, wanted)
    assert "-A FORWARD -j LOG\n" in iptables.without(text)


@pytest.mark.parametrize("text", ["*filter\n:INPUT ACCEPT [0:0]\n", "*filter", "COMMIT\n*filter\n"])
def test_a_file_whose_table_does_not_end(text: str) -> None:
    with pytest.raises(IpsecError, match="the table filter does not end with COMMIT"):
        iptables.merged(text, WANTED[0])


def test_a_file_that_was_saved_with_our_chains_loses_them() -> None:
    """``netfilter-persistent save`` keeps no comments."""
    host = Xtables(DEBIAN)
    host.restore(iptables.restore(WANTED[2], host.save()))
    bare = Xtables(iptables.without(host.save()))
    assert bare.tables["filter"] == Xtables(DEBIAN).tables["filter"]
    assert not any(iptables.chains_of(bare.save(), "mangle").values())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (DEBIAN, {"INPUT": True, "FORWARD": True, "OUTPUT": False, "site": True}),
        (
            WITH_MANGLE.replace("-A site", "-A INPUT"),
            {"INPUT": True, "FORWARD": True, "OUTPUT": False, "site": False},
        ),
        ("*mangle\n:INPUT DROP [0:0]\n-A INPUT -j DROP\nCOMMIT\n", {}),
        ("*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -j UNDERLAY-IPSEC-OPEN-IN\nCOMMIT\n", {"INPUT": False}),
        ("", {}),
    ],
)
def test_chains_that_do_something(text: str, expected: dict[str, bool]) -> None:
    assert iptables.chains_of(text, "filter") == expected


@pytest.mark.parametrize(
    ("saved", "before", "expected"),
    [
        ("*mangle\n:INPUT ACCEPT [5:6]\nCOMMIT\n", [], ["mangle"]),
        ("*mangle\n:INPUT ACCEPT [5:6]\nCOMMIT\n", ["mangle"], []),
        ("*mangle\n:INPUT DROP [5:6]\nCOMMIT\n", [], []),
        ("*mangle\n:INPUT ACCEPT [5:6]\n-A INPUT -j LOG\nCOMMIT\n", [], []),
        (DEBIAN + "*mangle\n:INPUT ACCEPT [5:6]\nCOMMIT\n", [], ["mangle"]),
    ],
)
def test_tables_that_are_there_because_of_us(saved: str, before: list[str], expected: list[str]) -> None:
    assert iptables.emptied(saved, before) == expected


def test_what_is_ours_does_not_depend_on_counters_and_on_others() -> None:
    host = Xtables(DEBIAN)
    host.restore(iptables.restore(WANTED[2], host.save()))
    ours = iptables.ours(host.save())
    assert iptables.ours(host.save().replace("[12:3456]", "[99:9999]")) == ours
    host.tables["filter"]["INPUT"][1].append("-p tcp -j ACCEPT")
    assert iptables.ours(host.save()) == ours
    assert "ctstate" not in ours
    host.tables["mangle"][IN][1].pop()
    assert iptables.ours(host.save()) != ours
