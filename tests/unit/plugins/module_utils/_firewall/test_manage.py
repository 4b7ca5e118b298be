# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From what a host has to what is wanted, in two stages, through refusals and changes of mind."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.underlay.ipsec.plugins.module_utils._errors import IpsecError
from ansible_collections.underlay.ipsec.plugins.module_utils._firewall import backends, manage
from ansible_collections.underlay.ipsec.plugins.module_utils._firewall.manage import Outcome, Place
from ansible_collections.underlay.ipsec.plugins.module_utils._firewall.rules import Rules, Session, read_rules
from ansible_collections.underlay.ipsec.tests.unit.plugins.module_utils._firewall.machine import (
    Machine,
    Tables,
    Xtables,
    base_chain,
    zone_text,
)

STATE = "etc/underlay-ipsec/firewall.json"
NFTABLES, IPTABLES = Place("nftables"), Place("iptables")
FIREWALLD = Place("firewalld", interfaces=("eth1",))
NONE = Place("none")
PLACES = [NFTABLES, IPTABLES, FIREWALLD]
CLEAR = ["10.88.0.1/32"]


def rules(
    clear: Sequence[str] = (),
    *,
    remote: Sequence[str] = ("10.88.0.0/24",),
    let_in: Sequence[str] = ("10.88.0.0/24",),
) -> Rules:
    closed = {"network": "data", "local": ["10.88.0.11"], "remote": remote, "clear": clear}
    return read_rules({"open": let_in, "closed": [closed] if remote else [], "clamp": []})


OPEN, ALL, EXCEPTION = rules(remote=()), rules(), rules(CLEAR)


@pytest.fixture
def host(tmp_path: Path) -> Machine:
    machine = Machine(tmp_path, "nft", "iptables", "ip6tables", "firewall-cmd", "firewall-offline-cmd")
    machine.nft = Tables([base_chain("inet", "filter", "input", "input", "drop")])
    machine.xtables["iptables"] = Xtables("*filter\n:INPUT DROP [0:0]\n-A INPUT -i lo -j ACCEPT\nCOMMIT\n")
    machine.active = {"firewalld"}
    machine.active_zones = "public\n  interfaces: eth1\n"
    machine.zones = {"public": {False: [], True: []}}
    shipped = tmp_path / "usr/lib/firewalld/zones"
    shipped.mkdir(parents=True)
    (shipped / "public.xml").write_text(zone_text([]))
    return machine


def establish(
    machine: Machine,
    wanted: Rules,
    stage: str = "close",
    *,
    place: Place = NFTABLES,
    session: Session | None = None,
    check: bool = False,
) -> Outcome:
    return manage.establish(machine, machine.root, place, wanted, stage=stage, session=session, check=check)


def state(machine: Machine) -> manage.State:
    found = manage.read_state(machine.root)
    assert found is not None
    return found


@pytest.mark.parametrize("place", PLACES)
def test_in_two_stages_and_then_nothing_more(host: Machine, place: Place) -> None:
    first = establish(host, ALL, "open", place=place)
    assert (first.changed, first.pending) == (True, True)
    assert state(host).rules == OPEN
    second = establish(host, ALL, "close", place=place)
    assert (second.changed, second.pending, second.before) == (True, False, first.after)
    assert state(host).rules == ALL
    changes, everything = host.changes, host.everything()
    for stage in ("open", "close"):
        assert establish(host, ALL, stage, place=place) == Outcome(False)
    assert (host.changes, host.everything()) == (changes, everything)


@pytest.mark.parametrize("place", PLACES)
def test_nothing_is_left_of_it(host: Machine, place: Place) -> None:
    before = host.everything()
    establish(host, ALL, "open", place=place)
    establish(host, ALL, place=place)
    outcome = manage.remove(host, host.root, check=False)
    assert (outcome.changed, outcome.after) == (True, "")
    assert host.everything() == before
    assert not (host.root / "etc/underlay-ipsec").exists()
    assert manage.remove(host, host.root, check=False) == Outcome(False)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("stage", ["open", "close"])
def test_check_mode_says_what_would_change_and_changes_nothing(
    host: Machine, place: Place, stage: str
) -> None:
    before = host.everything()
    outcome = establish(host, ALL, stage, place=place, check=True)
    assert host.everything() == before
    assert outcome == establish(host, ALL, stage, place=place)
    loaded = host.everything()
    assert manage.remove(host, host.root, check=True).changed
    assert establish(host, EXCEPTION, place=place, check=True).changed
    manage.lift(host, host.root, check=True)
    assert host.everything() == loaded


# present, wanted → the rules after the stage open, whether that changed anything, and whether something is left
STAGES = [
    (ALL, ALL, ALL, False, False),
    (ALL, EXCEPTION, EXCEPTION, True, False),
    (EXCEPTION, ALL, EXCEPTION, False, True),
    (OPEN, ALL, OPEN, False, True),
    (ALL, OPEN, OPEN, True, False),
    (ALL, Rules(), OPEN, True, True),
    (rules(remote=["10.88.0.12/32"]), rules(remote=["10.88.0.13/32"]), OPEN, True, True),
    (
        ALL,
        rules(let_in=["10.88.0.0/24", "10.99.0.0/24"]),
        rules(let_in=["10.88.0.0/24", "10.99.0.0/24"]),
        True,
        False,
    ),
    (rules(let_in=["10.99.0.0/24"]), ALL, rules(let_in=["10.88.0.0/24", "10.99.0.0/24"]), True, True),
]


@pytest.mark.parametrize(("present", "wanted", "way", "changed", "pending"), STAGES)
def test_stages_of_a_change(
    host: Machine, present: Rules, wanted: Rules, way: Rules, changed: bool, pending: bool
) -> None:
    establish(host, present)
    first = establish(host, wanted, "open")
    assert (first.changed, first.pending, state(host).rules) == (changed, pending, way)
    assert establish(host, wanted, "open").changed is False
    assert establish(host, wanted).changed is pending
    if wanted:
        assert state(host).rules == wanted
    assert establish(host, wanted) == Outcome(False)


@pytest.mark.parametrize("place", PLACES)
def test_without_a_firewall_it_is_first_lifted_and_then_left(host: Machine, place: Place) -> None:
    before = host.everything()
    establish(host, ALL, place=place)
    outcome = establish(host, ALL, "open", place=NONE)
    assert (outcome.changed, outcome.pending) == (True, True)
    assert (state(host).place, state(host).rules) == (place, OPEN)
    assert establish(host, ALL, "open", place=NONE).changed is False
    assert establish(host, ALL, place=NONE) == Outcome(True, outcome.after, "")
    assert host.everything() == before


@pytest.mark.parametrize("stage", ["open", "close"])
def test_without_a_firewall_there_is_nothing_to_do(host: Machine, stage: str) -> None:
    host.tools = set()
    assert establish(host, ALL, stage, place=NONE) == Outcome(False)
    assert host.asked == []


def test_nothing_but_closed_is_left_for_the_second_stage(host: Machine) -> None:
    assert establish(host, rules(let_in=()), "open") == Outcome(False, pending=True)
    assert STATE not in host.files()


@pytest.mark.parametrize("old", PLACES)
@pytest.mark.parametrize("new", PLACES)
@pytest.mark.parametrize("stage", ["open", "close"])
def test_another_backend_takes_over(host: Machine, old: Place, new: Place, stage: str) -> None:
    before = host.everything()
    establish(host, ALL, place=new)
    alone, live = host.everything(), state(host).live
    manage.remove(host, host.root, check=False)
    establish(host, ALL, place=old)
    outcome = establish(host, ALL, stage, place=new)
    assert (outcome.changed, outcome.pending) == (old != new, False)
    now = host.everything()
    for found in (alone, now):
        del found["files"][STATE]
        for rule in found["nft"][0]:
            del rule["handle"]
    if new == IPTABLES or old != IPTABLES:
        assert now == alone
    assert state(host).live == live
    assert establish(host, ALL, stage, place=new) == Outcome(False)
    manage.remove(host, host.root, check=False)
    assert host.everything() == before


def test_the_old_backend_stays_when_the_new_one_refuses(host: Machine) -> None:
    establish(host, ALL)
    before = host.everything()
    host.refusing = {"iptables-restore": "unknown option"}
    with pytest.raises(IpsecError, match="iptables refused the rules: unknown option"):
        establish(host, ALL, place=IPTABLES)
    now = host.everything()
    assert now["files"].pop(STATE) != before["files"].pop(STATE)
    assert now == before


def test_another_chain_is_another_place(host: Machine) -> None:
    host.xtables["iptables"].restore("*filter\n:SITE - [0:0]\nCOMMIT\n")
    establish(host, ALL, place=IPTABLES)
    assert establish(host, ALL, place=Place("iptables", "SITE")).changed
    filters = host.xtables["iptables"].tables["filter"]
    assert "-j UNDERLAY-IPSEC-OPEN-IN" in filters["SITE"][1]
    assert "-j UNDERLAY-IPSEC-OPEN-IN" not in filters["INPUT"][1]
    assert establish(host, ALL, place=Place("iptables", "SITE")) == Outcome(False)


def test_what_somebody_changed_is_put_right_and_said(host: Machine) -> None:
    establish(host, ALL)
    loaded = host.nft.own
    host.nft.own = None
    outcome = establish(host, ALL)
    assert (outcome.changed, outcome.pending) == (True, False)
    assert outcome.before.startswith("# Somebody has changed these rules. There are:\n")
    assert "chain arriving" not in outcome.before
    assert "chain arriving" in outcome.after
    assert host.nft.own == loaded
    assert establish(host, ALL) == Outcome(False)


@pytest.mark.parametrize("place", [NFTABLES, IPTABLES])
def test_what_others_do_is_theirs(host: Machine, place: Place) -> None:
    establish(host, ALL, place=place)
    host.nft.chains.append(base_chain("inet", "site", "input", "output", "accept"))
    host.xtables["iptables"].restore("*nat\nCOMMIT\n*filter\n-A INPUT -p tcp -j ACCEPT\nCOMMIT\n")
    assert establish(host, ALL, place=place) == Outcome(False)
    assert manage.in_force(host, host.root) is True


def test_a_foreign_chain_that_is_new_is_opened_too(host: Machine) -> None:
    establish(host, ALL)
    host.nft.chains.append(base_chain("ip", "site", "in", "input", "drop"))
    outcome = establish(host, ALL)
    assert outcome.changed
    assert "insert rule ip site in" in outcome.after
    assert [rule["table"] for rule in host.nft.rules].count("site") == 2
    assert establish(host, ALL) == Outcome(False)


def test_rules_are_loaded_again_when_the_collection_says_them_in_another_way(host: Machine) -> None:
    establish(host, ALL)
    path = host.root / STATE
    data = json.loads(path.read_text())
    path.write_text(json.dumps({**data, "text": data["text"].replace("counter ", "")}))
    outcome = establish(host, ALL)
    assert (outcome.changed, outcome.before) == (True, outcome.after.replace("counter ", ""))
    assert establish(host, ALL) == Outcome(False)


@pytest.mark.parametrize(
    ("present", "expected"), [(None, None), (Rules(), None), (OPEN, None), (ALL, True), (EXCEPTION, True)]
)
@pytest.mark.parametrize("place", PLACES)
def test_in_force(host: Machine, place: Place, present: Rules | None, expected: bool | None) -> None:
    if present is not None:
        establish(host, present, place=place)
    assert manage.in_force(host, host.root) is expected
    host.nft.own = None
    host.xtables["ip6tables"] = host.xtables["iptables"] = Xtables()
    assert manage.in_force(host, host.root) is (expected and False)


@pytest.mark.parametrize("place", PLACES)
def test_lift_leaves_open_what_is(host: Machine, place: Place) -> None:
    assert manage.lift(host, host.root, check=False) == Outcome(False)
    establish(host, OPEN, place=place)
    assert manage.lift(host, host.root, check=False) == Outcome(False)
    opened = host.everything()
    establish(host, ALL, place=place)
    assert manage.lift(host, host.root, check=False).changed
    assert state(host).rules == OPEN
    assert manage.lift(host, host.root, check=False) == Outcome(False)
    if place != IPTABLES:
        assert host.nft.own == opened["nft"][1]
    assert "DROP" not in "".join(t.save() for t in host.xtables.values()).replace(":INPUT DROP", "")


def test_lift_of_what_opens_nothing_is_removal(host: Machine) -> None:
    before = host.everything()
    establish(host, rules(let_in=()))
    assert manage.lift(host, host.root, check=False).changed
    assert host.everything() == before


@pytest.mark.parametrize("place", [NFTABLES, IPTABLES])
@pytest.mark.parametrize("then", ["again", "remove"])
@pytest.mark.parametrize(
    "refusing",
    ["nft -f", "iptables-restore", "ip6tables-restore", "systemctl daemon-reload", "systemctl enable"],
)
def test_after_a_refusal_it_can_be_done_again_and_be_undone(
    host: Machine, place: Place, then: str, refusing: str
) -> None:
    before = host.everything()
    host.refusing = {refusing: "no"}
    try:
        establish(host, ALL, place=place)
    except IpsecError:
        assert STATE in host.files()
    host.refusing = {}
    if then == "again":
        establish(host, ALL, place=place)
        assert manage.in_force(host, host.root) is True
        assert host.enabled == {"underlay-ipsec-firewall"}
    assert manage.remove(host, host.root, check=False).changed
    assert host.everything() == before


@pytest.mark.parametrize(
    "refusing", ["nft -f", "systemctl daemon-reload", "firewall-cmd --permanent --zone=public --add"]
)
@pytest.mark.parametrize("then", ["again", "remove"])
def test_firewalld_after_a_refusal_can_be_undone(host: Machine, refusing: str, then: str) -> None:
    before = host.everything()
    host.refusing = {refusing: "no"}
    with pytest.raises(IpsecError):
        establish(host, ALL, place=FIREWALLD)
    host.refusing = {}
    if then == "again":
        establish(host, ALL, place=FIREWALLD)
    manage.remove(host, host.root, check=False)
    assert host.everything() == before


@pytest.mark.parametrize("old", PLACES)
@pytest.mark.parametrize("new", PLACES)
@pytest.mark.parametrize("then", ["again", "back", "remove"])
def test_a_change_of_the_backend_that_was_refused_can_be_undone(
    host: Machine, old: Place, new: Place, then: str
) -> None:
    before = host.everything()
    establish(host, ALL, place=old)
    host.refusing = {"systemctl daemon-reload": "no"}
    with pytest.raises(IpsecError):
        establish(host, EXCEPTION, place=new)
    host.refusing = {}
    if then != "remove":
        establish(host, ALL, place=new if then == "again" else old)
        assert state(host).place == (new if then == "again" else old)
        assert state(host).former == ()
    manage.remove(host, host.root, check=False)
    assert host.everything() == before


@pytest.mark.parametrize(
    ("old", "new", "gone"),
    [
        (FIREWALLD, NFTABLES, set()),
        (FIREWALLD, IPTABLES, set()),
        (FIREWALLD, NFTABLES, {"firewall-cmd", "firewall-offline-cmd"}),
        (IPTABLES, NFTABLES, {"iptables", "ip6tables"}),
        (NFTABLES, IPTABLES, {"nft"}),
    ],
)
def test_the_old_tool_was_stopped_or_removed_before_another_was_chosen(
    host: Machine, old: Place, new: Place, gone: set[str]
) -> None:
    establish(host, ALL, place=old)
    host.active = set()
    host.tools -= gone
    assert establish(host, ALL, place=new).changed
    assert state(host).place == new
    assert establish(host, ALL, place=new) == Outcome(False)
    if not gone:
        assert host.zones["public"][True] == []


def test_firewalld_that_was_stopped_keeps_nothing_of_ours(host: Machine) -> None:
    before = host.everything()
    establish(host, ALL, place=FIREWALLD)
    host.active = set()
    host.zones["public"][False] = []
    manage.remove(host, host.root, check=False)
    assert host.everything() == before


def test_a_rule_of_the_operator_s_own_is_no_change(host: Machine) -> None:
    theirs = 'rule family="ipv4" source address="192.0.2.9/32" port port="22" protocol="tcp" accept'
    establish(host, ALL, place=FIREWALLD)
    for scope in (False, True):
        host.zones["public"][scope].append(theirs)
    assert manage.in_force(host, host.root) is True
    assert establish(host, ALL, place=FIREWALLD) == Outcome(False)


def test_firewalld_needs_no_nftables_to_let_in(host: Machine) -> None:
    host.tools.discard("nft")
    assert establish(host, OPEN, place=FIREWALLD).changed
    assert establish(host, OPEN, place=FIREWALLD) == Outcome(False)
    assert manage.remove(host, host.root, check=False).changed


REFUSING = {"nft -f": "no", "iptables-restore": "no", "firewall-cmd --zone=public --add": "no"}


@pytest.mark.parametrize("place", PLACES)
def test_what_was_refused_is_not_in_force(host: Machine, place: Place) -> None:
    host.refusing = REFUSING
    with pytest.raises(IpsecError):
        establish(host, ALL, place=place)
    host.refusing = {}
    assert manage.in_force(host, host.root) is False
    assert establish(host, ALL, place=place).changed
    assert manage.in_force(host, host.root) is True


@pytest.mark.parametrize("place", [NFTABLES, IPTABLES])
def test_lift_that_was_refused_is_not_done(host: Machine, place: Place) -> None:
    establish(host, ALL, place=place)
    host.refusing = REFUSING
    with pytest.raises(IpsecError):
        manage.lift(host, host.root, check=False)
    host.refusing = {}
    assert manage.in_force(host, host.root) is False
    assert manage.lift(host, host.root, check=False).changed
    assert state(host).rules == OPEN
    assert "drop\n" not in (host.nft.own or "")


@pytest.mark.parametrize("place", [NFTABLES, IPTABLES])
def test_what_was_not_closed_is_not_closed_on_the_way(host: Machine, place: Place) -> None:
    establish(host, ALL, "open", place=place)
    host.refusing = REFUSING
    with pytest.raises(IpsecError):
        establish(host, ALL, place=place)
    host.refusing = {}
    assert establish(host, ALL, "open", place=place).pending
    assert state(host).rules == OPEN


@pytest.mark.parametrize("place", PLACES)
def test_a_removal_that_was_interrupted_goes_on(host: Machine, place: Place) -> None:
    before = host.everything()
    establish(host, ALL, place=place)
    host.refusing = {"systemctl daemon-reload": "no"}
    with pytest.raises(IpsecError):
        manage.remove(host, host.root, check=False)
    host.refusing = {}
    assert manage.remove(host, host.root, check=False).changed
    assert host.everything() == before


def test_state_is_for_root_alone_and_complete(host: Machine) -> None:
    establish(host, EXCEPTION, place=FIREWALLD)
    path = host.root / STATE
    assert path.stat().st_mode & 0o777 == 0o600
    data = json.loads(path.read_text())
    assert data["rules"] == EXCEPTION.as_dict()
    assert state(host) == manage.State(
        place=FIREWALLD, rules=EXCEPTION, text=data["text"], live=data["live"], kept=data["kept"]
    )
    assert manage.read_state(host.root / "elsewhere") is None


@pytest.mark.parametrize("text", ["", "{", "\0"])
def test_a_damaged_state_is_nothing_to_go_on_with(host: Machine, text: str) -> None:
    establish(host, ALL)
    (host.root / STATE).write_text(text)
    before = host.everything()
    for act in (
        lambda: establish(host, ALL),
        lambda: manage.remove(host, host.root, check=False),
        lambda: manage.lift(host, host.root, check=False),
    ):
        with pytest.raises(IpsecError, match=r"/etc/underlay-ipsec/firewall\.json is damaged"):
            act()
    assert host.everything() == before


SSH = Session(ipaddress.ip_address("10.88.0.1"), 51234, ipaddress.ip_address("10.88.0.11"), 22)
XFRM = """\
src {0} dst {1}
\tproto esp spi 0xc0ffee01 reqid 16389 mode transport
\treplay-window 0
\tsel src {0}/32 dst {1}/32
"""
THERE, BACK = XFRM.format("10.88.0.1", "10.88.0.11"), XFRM.format("10.88.0.11", "10.88.0.1")


@pytest.mark.parametrize(
    ("wanted", "stage", "associated", "cut"),
    [
        (ALL, "close", "", True),
        (ALL, "open", "", False),
        (EXCEPTION, "close", "", False),
        (rules(["10.88.0.0/24 tcp 22 0"]), "close", "", False),
        (rules(["10.88.0.0/24 tcp 0 22"]), "close", "", True),
        (rules(remote=["10.88.0.12/32"]), "close", "", False),
        (ALL, "close", THERE, True),
        (ALL, "close", BACK, True),
        (ALL, "close", THERE + BACK, False),
        (ALL, "close", THERE + XFRM.format("10.88.0.11", "10.88.0.12"), True),
    ],
)
@pytest.mark.parametrize("check", [True, False])
def test_nobody_cuts_the_branch_they_sit_on(
    host: Machine, wanted: Rules, stage: str, associated: str, cut: bool, check: bool
) -> None:
    host.associated = associated
    before = host.everything()
    if cut:
        with pytest.raises(
            IpsecError, match=r"comes from 10\.88\.0\.1 to 10\.88\.0\.11 port 22 in clear text"
        ):
            establish(host, wanted, stage, session=SSH, check=check)
        assert host.everything() == before
    else:
        assert establish(host, wanted, stage, session=SSH, check=check).changed


def test_what_is_in_force_already_cuts_nobody(host: Machine) -> None:
    establish(host, ALL)
    assert establish(host, ALL, session=SSH) == Outcome(False)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (["10.88.0.1", "51234", "10.88.0.11", "22"], SSH),
        (
            ["fd88::1", "51234", "fd88::11", "22"],
            Session(ipaddress.ip_address("fd88::1"), 51234, ipaddress.ip_address("fd88::11"), 22),
        ),
        ([], None),
        (["10.88.0.1", "51234", "22"], None),
    ],
)
def test_session(fields: list[str], expected: Session | None) -> None:
    assert manage.session_of(fields) == expected


def test_tools_that_are_missing(host: Machine) -> None:
    host.tools = set()
    places: list[tuple[Place, str]] = [
        (NFTABLES, "nftables does not answer: nft is not installed"),
        (IPTABLES, "iptables-save is not installed"),
        (FIREWALLD, "firewall-cmd is not installed"),
    ]
    for place, said in places:
        before: dict[str, Any] = host.everything()
        with pytest.raises(IpsecError, match=said):
            establish(host, ALL, place=place)
        manage_state = host.root / STATE
        manage_state.unlink(missing_ok=True)
        assert {**before, "files": {}} == {**host.everything(), "files": {}}


@pytest.mark.parametrize("services", [{"netfilter-persistent"}, {"iptables", "ip6tables"}])
def test_the_distribution_does_not_load_rules_any_more(host: Machine, services: set[str]) -> None:
    host.enabled = set(services)
    establish(host, ALL, place=IPTABLES)
    host.enabled -= services
    assert establish(host, ALL, place=IPTABLES).changed
    assert host.enabled == {"underlay-ipsec-firewall"}


def test_firewalld_s_table_goes_when_its_file_was_not_written(
    host: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    establish(host, ALL, "open", place=FIREWALLD)
    with monkeypatch.context() as patch:
        patch.setattr(backends, "_start_nft", killed)
        with pytest.raises(KeyboardInterrupt):
            establish(host, ALL, place=FIREWALLD)
    assert "drop" in (host.nft.own or "")
    assert manage.lift(host, host.root, check=False).changed
    assert "drop" not in (host.nft.own or "")


def test_what_was_interrupted_twice_is_not_relied_on(host: Machine) -> None:
    establish(host, ALL)
    host.refusing = {"systemctl daemon-reload": "no"}
    with pytest.raises(IpsecError):
        manage.lift(host, host.root, check=False)
    assert "drop" not in (host.nft.own or "")
    host.refusing = {"nft -f": "no"}
    with pytest.raises(IpsecError):
        establish(host, ALL)
    host.refusing = {}
    assert establish(host, ALL, "open").pending
    assert "drop" not in (host.nft.own or "")
