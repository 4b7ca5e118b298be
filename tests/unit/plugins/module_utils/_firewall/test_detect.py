# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which firewalls a host has in use, and which would work."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.underlay.ipsec.plugins.module_utils._firewall import detect
from ansible_collections.underlay.ipsec.tests.unit.plugins.module_utils._firewall.machine import (
    Machine,
    Tables,
    Xtables,
    base_chain,
)

ALL = ("nft", "iptables", "ip6tables", "firewall-cmd")
BOTH = ["nftables", "iptables"]
DROPPING = "*filter\n:INPUT DROP [0:0]\nCOMMIT\n"
REJECTING = "*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -j REJECT --reject-with icmp-host-prohibited\nCOMMIT\n"
OURS = (
    "*filter\n:INPUT ACCEPT [0:0]\n:UNDERLAY-IPSEC-OPEN-IN - [0:0]\n-A INPUT -j UNDERLAY-IPSEC-OPEN-IN\n"
    "-A UNDERLAY-IPSEC-OPEN-IN -s 10.88.0.0/24 -p esp -j ACCEPT\nCOMMIT\n"
)
ROUTING = "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD DROP [0:0]\n-A FORWARD -j DROP\nCOMMIT\n*nat\nCOMMIT\n"


@pytest.mark.parametrize(
    ("tools", "services", "active", "usable"),
    [
        ((), set(), [], []),
        (ALL, set(), [], BOTH),
        (("nft",), set(), [], ["nftables"]),
        (("iptables",), set(), [], []),
        (("iptables", "ip6tables"), set(), [], ["iptables"]),
        (ALL, {"firewalld"}, ["firewalld"], BOTH),
        (ALL, {"nftables"}, ["nftables"], BOTH),
        (ALL, {"netfilter-persistent"}, ["iptables"], BOTH),
        (ALL, {"iptables"}, ["iptables"], BOTH),
        (ALL, {"iptables", "netfilter-persistent"}, ["iptables"], BOTH),
        (ALL, {"nftables", "iptables"}, ["nftables", "iptables"], BOTH),
        (ALL, {"firewalld", "nftables"}, ["firewalld", "nftables"], BOTH),
        (ALL, {"sshd"}, [], BOTH),
    ],
)
def test_services(
    tools: tuple[str, ...], services: set[str], active: list[str], usable: list[str], tmp_path: Path
) -> None:
    host = Machine(tmp_path, *tools)
    host.active = services
    assert detect.firewalls(host) == {"active": active, "usable": usable}


@pytest.mark.parametrize(
    ("four", "six", "expected"),
    [
        ("", "", []),
        (DROPPING, "", ["iptables"]),
        ("", REJECTING, ["iptables"]),
        (OURS, OURS, []),
        (OURS.replace("ACCEPT [", "DROP ["), "", ["iptables"]),
        (ROUTING, ROUTING, []),
    ],
)
def test_rules_of_iptables_without_a_service(
    four: str, six: str, expected: list[str], tmp_path: Path
) -> None:
    host = Machine(tmp_path, *ALL)
    host.xtables = {"iptables": Xtables(four), "ip6tables": Xtables(six)}
    assert detect.firewalls(host)["active"] == expected


@pytest.mark.parametrize(
    ("family", "table", "hook", "policy", "over_nftables", "expected"),
    [
        ("inet", "filter", "input", "drop", True, ["nftables"]),
        ("inet", "filter", "input", "accept", True, []),
        ("inet", "filter", "output", "drop", True, []),
        ("inet", "underlay_ipsec", "input", "drop", True, []),
        ("inet", "firewalld", "input", "drop", True, []),
        ("ip", "filter", "input", "drop", True, []),
        ("ip", "filter", "input", "drop", False, ["nftables"]),
        ("ip", "site", "input", "drop", True, ["nftables"]),
    ],
)
def test_chains_of_nftables_without_a_service(
    family: str, table: str, hook: str, policy: str, over_nftables: bool, expected: list[str], tmp_path: Path
) -> None:
    host = Machine(tmp_path, *ALL)
    host.over_nftables = over_nftables
    host.nft = Tables([base_chain(family, table, "in", hook, policy)])
    assert detect.firewalls(host)["active"] == expected


def test_a_service_counts_more_than_rules(tmp_path: Path) -> None:
    host = Machine(tmp_path, *ALL)
    host.active = {"nftables"}
    host.xtables["iptables"] = Xtables(DROPPING)
    assert detect.firewalls(host)["active"] == ["nftables"]


@pytest.mark.parametrize(
    ("refusing", "usable"),
    [
        ({"nft -c": "Error: Could not process rule: Operation not supported"}, ["iptables"]),
        ({"ip6tables-save": "modprobe: FATAL: Module ip6_tables not found"}, ["nftables"]),
        ({"nft -j": "Error: JSON support not compiled-in"}, BOTH),
    ],
)
def test_tools_that_do_not_work(refusing: dict[str, str], usable: list[str], tmp_path: Path) -> None:
    host = Machine(tmp_path, *ALL)
    host.refusing = refusing
    assert detect.firewalls(host) == {"active": [], "usable": usable}


@pytest.mark.parametrize(
    ("tools", "over_nftables", "expected"),
    [(ALL, True, True), (ALL, False, False), (("nft",), True, False)],
)
def test_over_nftables(tools: tuple[str, ...], over_nftables: bool, expected: bool, tmp_path: Path) -> None:
    host = Machine(tmp_path, *tools)
    host.over_nftables = over_nftables
    assert detect.over_nftables(host) is expected


def test_looking_changes_nothing(tmp_path: Path) -> None:
    host = Machine(tmp_path, *ALL)
    detect.firewalls(host)
    assert host.changes == 0
