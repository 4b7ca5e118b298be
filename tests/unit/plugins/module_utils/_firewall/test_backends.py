# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each backend on a host: what it loads, what is there after a boot, and what is left when it goes."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.underlay.ipsec.plugins.module_utils._errors import IpsecError
from ansible_collections.underlay.ipsec.plugins.module_utils._firewall import (
    backends,
    firewalld,
    iptables,
    nft,
)
from ansible_collections.underlay.ipsec.plugins.module_utils._firewall.rules import Rules, read_rules
from ansible_collections.underlay.ipsec.tests.unit.plugins.module_utils._firewall.machine import (
    Machine,
    Tables,
    Xtables,
    base_chain,
    zone_text,
)

CLOSED = {
    "network": "data",
    "local": ["10.88.0.11"],
    "remote": ["10.88.0.0/24"],
    "clear": ["10.88.0.1/32"],
}
SIX = {"network": "six", "local": ["fd88::11"], "remote": ["fd88::/64"], "clear": []}


def rules(*closed: dict[str, Any], let_in: Sequence[str] = ("10.88.0.0/24", "fd88::/64")) -> Rules:
    return read_rules({"open": let_in, "closed": closed, "clamp": []})


OPEN, ALL = rules(), rules(CLOSED, SIX)
LESS = rules(CLOSED, let_in=("10.88.0.0/24",))
UNIT = "etc/systemd/system/underlay-ipsec-firewall.service"
DROP_IN = "etc/systemd/system/nftables.service.d/underlay-ipsec.conf"
RULES = "*filter\n:INPUT DROP [0:0]\n:OS_FIREWALL_ALLOW - [0:0]\n-A INPUT -i lo -j ACCEPT\n-A INPUT -j OS_FIREWALL_ALLOW\nCOMMIT\n"


def host(root: Path, *services: str) -> Machine:
    """Return a host that has all tools, rules of an operator in each, and *services* enabled."""
    machine = Machine(root, "nft", "iptables", "ip6tables", "firewall-cmd")
    machine.nft = Tables(
        [
            base_chain("inet", "filter", "input", "input", "drop"),
            base_chain("inet", "filter", "output", "output"),
            base_chain("inet", "firewalld", "filter_INPUT", "input"),
        ],
        [{"family": "inet", "table": "filter", "chain": "input", "handle": 4, "expr": [{"accept": None}]}],
    )
    machine.xtables = {"iptables": Xtables(RULES), "ip6tables": Xtables()}
    machine.active = {"firewalld"}
    machine.active_zones = "internal\n  interfaces: eth1\ntrusted\n  sources: fd88::/64\n"
    machine.zones = {name: {False: [], True: []} for name in ("internal", "public", "trusted")}
    machine.enabled = set(services)
    shipped = root / "usr/lib/firewalld/zones"
    shipped.mkdir(parents=True)
    for zone in machine.zones:
        (shipped / f"{zone}.xml").write_text(zone_text([]))
    return machine


def one(name: str, machine: Machine, **options: Any) -> backends.Backend:
    return backends.backend(name, machine, machine.root, **{"interfaces": ("eth1",), **options})


def load(tool: backends.Backend, known: Rules, kept: backends.Kept | None = None) -> backends.Kept:
    """Do what a run does; return what has to be known for the next one."""
    kept = tool.remember(kept or {}, known)
    tool.load(known, kept)
    return kept


BACKENDS = ["nftables", "iptables", "firewalld"]


@pytest.mark.parametrize(
    "services", [(), ("netfilter-persistent",), ("iptables", "ip6tables"), ("iptables",)]
)
@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("steps", [(OPEN,), (ALL,), (OPEN, ALL, LESS), (ALL, rules(let_in=()))])
def test_a_host_is_left_as_it_was(
    name: str, services: tuple[str, ...], steps: tuple[Rules, ...], tmp_path: Path
) -> None:
    machine = host(tmp_path, *services)
    before = machine.everything()
    tool = one(name, machine)
    kept: backends.Kept = {}
    assert machine.everything() == before
    for known in steps:
        kept = load(tool, known, kept)
    assert machine.everything() != before
    tool.remove(kept)
    assert machine.everything() == before


@pytest.mark.parametrize("name", BACKENDS)
def test_removing_twice_is_removing(name: str, tmp_path: Path) -> None:
    machine = host(tmp_path)
    before = machine.everything()
    tool = one(name, machine)
    kept = tool.remember({}, ALL)
    tool.remove(kept)
    assert machine.everything() == before
    kept = load(tool, ALL, kept)
    tool.remove(kept)
    tool.remove(kept)
    assert machine.everything() == before


@pytest.mark.parametrize("name", BACKENDS)
def test_loading_again_changes_nothing_and_loading_less_takes_away(name: str, tmp_path: Path) -> None:
    machine = host(tmp_path)
    tool = one(name, machine)
    kept = load(tool, LESS)
    less, live = copy.deepcopy(kept), tool.live(kept)
    kept = load(tool, LESS, kept)
    assert tool.live(kept) == live
    assert kept == less
    kept = load(tool, ALL, kept)
    assert tool.live(kept) != live
    kept = load(tool, LESS, kept)
    assert tool.live(kept) == live


@pytest.mark.parametrize("name", BACKENDS)
def test_live_notices_when_ours_are_gone(name: str, tmp_path: Path) -> None:
    machine = host(tmp_path)
    tool = one(name, machine)
    kept = load(tool, ALL)
    live = tool.live(kept)
    if name == "iptables":
        machine.xtables["iptables"] = Xtables(RULES)
    else:
        machine.nft.own = None
    assert tool.live(kept) != live


@pytest.mark.parametrize("services", [(), ("netfilter-persistent",), ("iptables",)])
@pytest.mark.parametrize("name", BACKENDS)
def test_live_notices_when_ours_would_not_be_there_after_a_boot(
    name: str, services: tuple[str, ...], tmp_path: Path
) -> None:
    machine = host(tmp_path, *services)
    tool = one(name, machine)
    kept: backends.Kept = {}
    before = machine.files()
    kept = load(tool, ALL, kept)
    live, loaded, enabled = tool.live(kept), machine.files(), set(machine.enabled)
    ours = [path for path in loaded if path not in before and "firewalld" not in path]
    assert ours
    for path in ours:
        (machine.root / path).unlink()
        assert tool.live(kept) != live, path
        (machine.root / path).write_text(loaded[path])
    assert tool.live(kept) == live
    machine.enabled.discard("underlay-ipsec-firewall")
    assert (tool.live(kept) == live) == (machine.enabled == enabled)


@pytest.mark.parametrize(
    ("name", "refusing", "said"),
    [
        ("nftables", {"nft -f": "Error: syntax error"}, "nftables refused the rules, and nothing changed"),
        ("nftables", {"nft -j": "not permitted"}, "nftables does not answer: not permitted"),
        (
            "iptables",
            {"ip6tables-restore": "unknown match"},
            "ip6tables refused the rules: unknown match. Nothing changed",
        ),
        ("firewalld", {"firewall-cmd": "Authorization failed"}, "firewalld refused: Authorization failed"),
    ],
)
def test_a_tool_that_refuses_changes_nothing(
    name: str, refusing: dict[str, str], said: str, tmp_path: Path
) -> None:
    machine = host(tmp_path, "netfilter-persistent")
    tool = one(name, machine)
    before = machine.everything()
    machine.refusing = refusing
    with pytest.raises(IpsecError, match=said):
        load(tool, ALL)
    assert machine.everything() == before


@pytest.mark.parametrize("name", BACKENDS)
def test_systemd_is_told_again_when_it_refused(name: str, tmp_path: Path) -> None:
    machine = host(tmp_path)
    tool = one(name, machine)
    machine.refusing = {"systemctl enable": "Unit file is masked"}
    with pytest.raises(IpsecError, match="Unit file is masked"):
        load(tool, ALL)
    machine.refusing = {}
    load(tool, ALL)
    assert machine.enabled == {"underlay-ipsec-firewall"}
    assert machine.asked.count("systemctl daemon-reload") == 2


def test_nftables_has_a_table_and_rules_in_front_of_others(tmp_path: Path) -> None:
    machine = host(tmp_path)
    tool = one("nftables", machine)
    load(tool, ALL)
    found = [(rule["chain"], rule.get("comment")) for rule in machine.nft.rules]
    assert found == [("input", "underlay.ipsec")] * 4 + [("input", None)]
    assert "chain arriving" in str(machine.nft.own)


def test_nftables_loads_what_is_in_force_after_a_boot(tmp_path: Path) -> None:
    machine = host(tmp_path)
    tool = one("nftables", machine)
    kept = load(tool, OPEN)
    kept = load(tool, ALL, kept)
    live, files = tool.live(kept), machine.files()
    assert "ExecStart=/usr/sbin/nft -f /etc/underlay-ipsec/firewall.nft\n" in files[UNIT]
    # A host without that service.
    assert DROP_IN not in files
    machine.nft.own = None
    machine.nft.rules = [rule for rule in machine.nft.rules if "comment" not in rule]
    machine.nft.load(files["etc/underlay-ipsec/firewall.nft"])
    machine.nft.load(files["etc/underlay-ipsec/firewall-open.nft"])
    assert tool.live(kept) == live


def test_another_drop_in_of_nftables_stays(tmp_path: Path) -> None:
    machine = host(tmp_path)
    other = machine.root / "etc/systemd/system/nftables.service.d/site.conf"
    other.parent.mkdir()
    other.write_text("[Service]\n")
    tool = one("nftables", machine)
    kept = load(tool, ALL)
    tool.remove(kept)
    assert list(machine.files()) == [str(other.relative_to(machine.root)), *list(machine.files())[1:]]


@pytest.mark.parametrize(
    "services", [(), ("netfilter-persistent",), ("iptables", "ip6tables"), ("iptables",)]
)
@pytest.mark.parametrize("saved", [True, False])
def test_iptables_loads_what_is_in_force_after_a_boot(
    services: tuple[str, ...], saved: bool, tmp_path: Path
) -> None:
    machine = host(tmp_path, *services)
    folder = "etc/iptables/rules.v{}" if "netfilter-persistent" in services else "etc/sysconfig/{}"
    paths = {
        tool: folder.format(4 if tool == "iptables" else 6)
        if "netfilter-persistent" in services
        else folder.format(tool)
        for tool in machine.xtables
        if services and (tool in services or "netfilter-persistent" in services)
    }
    for tool, path in paths.items():
        if saved:
            (machine.root / path).parent.mkdir(exist_ok=True)
            (machine.root / path).write_text(machine.xtables[tool].save())
    if not saved:
        machine.xtables = {"iptables": Xtables(), "ip6tables": Xtables()}
    before = {tool: tables.save() for tool, tables in machine.xtables.items()}
    backend = one("iptables", machine)
    kept = load(backend, OPEN)
    kept = load(backend, ALL, kept)
    live, files = backend.live(kept), machine.files()
    for tool, version in (("iptables", 4), ("ip6tables", 6)):
        start = f"ExecStart=/usr/sbin/{tool}-restore --noflush --wait 30 /etc/underlay-ipsec/firewall.rules.v{version}\n"
        assert (start in files.get(UNIT, "")) == (tool not in paths)
        if tool in paths:
            machine.xtables[tool] = Xtables(files[paths[tool]])
        else:
            machine.xtables[tool] = Xtables(before[tool])
            machine.xtables[tool].restore(files[f"etc/underlay-ipsec/firewall.rules.v{version}"])
    assert sorted(backend.live(kept).splitlines()) == sorted(live.splitlines())
    backend.remove(kept)
    left = machine.files()
    assert {path for path in paths.values() if path in left} == (set(paths.values()) if saved else set())
    assert all(left[path] == before[tool] for tool, path in paths.items() if saved)


def test_a_file_of_rules_keeps_its_mode_and_a_new_one_is_not_for_everybody(tmp_path: Path) -> None:
    machine = host(tmp_path, "netfilter-persistent")
    path = machine.root / "etc/iptables/rules.v4"
    path.parent.mkdir()
    path.write_text(RULES)
    path.chmod(0o600)
    tool = one("iptables", machine)
    load(tool, ALL)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.with_name("rules.v6").stat().st_mode & 0o777 == 0o640


def test_a_file_of_rules_that_is_none_is_told_before_anything_changes(tmp_path: Path) -> None:
    machine = host(tmp_path, "netfilter-persistent")
    path = machine.root / "etc/iptables/rules.v4"
    path.parent.mkdir()
    path.write_text("*filter\n:INPUT DROP [0:0]\n")
    tool = one("iptables", machine)
    before = machine.everything()
    with pytest.raises(
        IpsecError, match=r"/etc/iptables/rules.v4: the table filter does not end with COMMIT"
    ):
        load(tool, ALL)
    assert machine.everything() == before


def test_iptables_forgets_its_own_files_when_the_distribution_loads_rules(tmp_path: Path) -> None:
    machine = host(tmp_path)
    tool = one("iptables", machine)
    kept = load(tool, ALL)
    assert UNIT in machine.files()
    machine.enabled.add("netfilter-persistent")
    kept = load(tool, ALL, kept)
    assert not [path for path in machine.files() if "underlay" in path]
    assert "underlay-ipsec-firewall" not in machine.enabled
    tool.remove(kept)
    assert not [path for path in machine.files() if "iptables" in path]


def test_iptables_lets_in_through_another_chain_where_there_is_one(tmp_path: Path) -> None:
    machine = host(tmp_path)
    tool = one("iptables", machine, chain="OS_FIREWALL_ALLOW")
    load(tool, ALL)
    filters = {name: tables.tables["filter"] for name, tables in machine.xtables.items()}
    jump = "-j UNDERLAY-IPSEC-OPEN-IN"
    assert filters["iptables"]["OS_FIREWALL_ALLOW"][1][0] == jump
    assert jump not in filters["iptables"]["INPUT"][1]
    assert filters["ip6tables"]["INPUT"][1][0] == jump


def test_iptables_without_the_chain_that_is_asked_for(tmp_path: Path) -> None:
    machine = host(tmp_path)
    before = machine.everything()
    tool = one("iptables", machine, chain="OS_FIREWALL_ALOW")
    with pytest.raises(IpsecError, match="ipsec_firewall_chain: iptables has no chain OS_FIREWALL_ALOW"):
        load(tool, ALL)
    assert machine.everything() == before
    load(tool, rules(CLOSED, let_in=()))


@pytest.mark.parametrize(
    ("over_nftables", "expected"),
    [(True, "nft delete table ip mangle"), (False, "modprobe -r iptable_mangle")],
)
def test_iptables_unloads_tables_that_were_not_there(
    over_nftables: bool, expected: str, tmp_path: Path
) -> None:
    machine = host(tmp_path)
    machine.over_nftables = over_nftables
    tool = one("iptables", machine)
    kept = load(tool, ALL)
    tool.remove(kept)
    assert expected in machine.asked
    assert "nft delete table ip filter" not in machine.asked


def test_firewalld_has_rules_in_the_zones_that_decide(tmp_path: Path) -> None:
    machine = host(tmp_path)
    tool = one("firewalld", machine)
    kept = load(tool, ALL)
    wanted = firewalld.rich_rules(ALL)
    assert machine.zones == {
        "internal": {False: wanted, True: wanted},
        "trusted": {False: wanted, True: wanted},
        "public": {False: [], True: []},
    }
    assert machine.nft.own is not None
    assert machine.nft.own in nft.render(Rules(closed=ALL.closed))
    assert kept["files"] == {"internal": None, "trusted": None}


def test_firewalld_follows_an_interface_into_another_zone(tmp_path: Path) -> None:
    machine = host(tmp_path)
    tool = one("firewalld", machine)
    kept = load(tool, LESS)
    machine.active_zones = "public\n  interfaces: eth1\n"
    kept = load(one("firewalld", machine), LESS, kept)
    wanted = firewalld.rich_rules(LESS)
    assert machine.zones["internal"] == {False: [], True: []}
    assert machine.zones["public"] == {False: wanted, True: wanted}


def test_firewalld_leaves_what_the_operator_had_before(tmp_path: Path) -> None:
    machine = host(tmp_path)
    theirs = firewalld.rich_rules(LESS)[-1:]
    machine.zones["internal"] = {False: list(theirs), True: list(theirs)}
    tool = one("firewalld", machine)
    kept: backends.Kept = {}
    for known in (LESS, LESS, ALL, OPEN):
        kept = load(tool, known, kept)
    tool.remove(kept)
    assert machine.zones["internal"] == {False: theirs, True: theirs}


def test_firewalld_gets_back_what_a_reload_has_lost(tmp_path: Path) -> None:
    machine = host(tmp_path)
    tool = one("firewalld", machine)
    kept = load(tool, LESS)
    machine.zones["internal"][True].clear()
    tool = one("firewalld", machine)
    kept = load(tool, LESS, kept)
    assert machine.zones["internal"][True] == firewalld.rich_rules(LESS)
    tool.remove(kept)
    assert machine.zones["internal"] == {False: [], True: []}


def test_firewalld_leaves_the_operator_s_file_of_a_zone_to_the_byte(tmp_path: Path) -> None:
    machine = host(tmp_path)
    path = machine.root / "etc/firewalld/zones/internal.xml"
    path.parent.mkdir(parents=True)
    text = zone_text([]).replace("  ", "\t").replace("<zone>", "<zone><!-- ours -->")
    path.write_text(text)
    tool = one("firewalld", machine)
    kept = load(tool, ALL)
    assert path.read_text() != text
    tool.remove(kept)
    assert path.read_text() == text


@pytest.mark.parametrize("name", BACKENDS)
def test_text_says_what_would_be_loaded_and_changes_nothing(name: str, tmp_path: Path) -> None:
    machine = host(tmp_path)
    before = machine.everything()
    text = one(name, machine).text(ALL)
    assert machine.everything() == before
    assert "10.88.0.0/24" in text
    assert "fd88::/64" in text
    for expected in {
        "nftables": [nft.render(ALL), "insert rule inet filter input"],
        "iptables": ["# iptables\n", "# ip6tables\n", iptables.restore(iptables.tables(ALL, 4), "")],
        "firewalld": [nft.render(Rules(closed=ALL.closed)), 'rule family="ipv4"'],
    }[name]:
        assert expected in text
