# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts that may hold virtual addresses: what is loaded there, what is changed, and in which order."""

from __future__ import annotations

import json
import stat
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.underlay.ipsec.plugins.module_utils._errors import CommandError, ProblemsError
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan.connection import connections_of
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan.difference import Delta
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan.held import (
    Holder,
    alone,
    apply,
    arrived,
    begin,
    change,
    observe,
    states,
    take_over,
)
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan.loaded import Loaded
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan.vips import (
    FOLDER,
    HELD,
    HOOK_FILE,
    SCRIPT_FILE,
    TIDY_FILE,
    TIDY_SERVICE,
    Vip,
    holder_file,
    node_file,
    vip_files,
)
from ansible_collections.underlay.ipsec.plugins.module_utils._run import Completed
from ansible_collections.underlay.ipsec.tests.unit.plugins.module_utils._libreswan.meshes import (
    DATA,
    V4,
    mesh,
    peer,
)

API = Vip("api", "data", "10.88.0.250", "@underlay-vip-api", holder=True)
DB = Vip("db", "data", "10.88.0.251", "@underlay-vip-db", holder=False)
GROUP = replace(
    mesh(2, 3), topology="opportunistic", peers=(), networks=(replace(DATA, clear=("10.88.0.9/32",)),)
)


def files(
    state: str = "private", *, script: str = "#!/bin/sh\n", members: Sequence[int] = (2, 3)
) -> dict[str, str]:
    """Return the files for both addresses in *state*."""
    wanted = {"api": state, "db": state}
    return vip_files(GROUP, [API, DB], [peer(n) for n in members], V4, wanted, script)


PRIVATE, PREPARED, RELAXED = map(files, ("private", "prepared", "private-or-clear"))
API_NODE, DB_NODE = "underlay-vip+api+node", "underlay-vip+db+node"
HOLDER = tuple(connections_of(PRIVATE[holder_file(API)]))
WITH_H2, WITH_H3, ANYBODY, DROP, CLEAR = HOLDER
BEGUN = (WITH_H2, WITH_H3)
OTHERS = "underlay-data+h1+h2"


def found(
    present: dict[str, str] = PRIVATE,
    *,
    here: bool = False,
    local: Sequence[str] = ("10.88.0.1",),
    lost: Sequence[str] = (),
) -> Holder:
    """Return a host with the files *present*, whose pluto has loaded what it should, and what is not about addresses.

    *here* says whether somebody has said that the address has come; of the kinds *lost*, ``node`` and
    so on, the kernel has no policy.
    """
    held = Holder(present, frozenset({"api"} if here else ()), frozenset(local), None)
    names = [name for text in held.in_force(present).values() for name in connections_of(text)]
    loaded = {name: name.split("+")[2] not in lost for name in names}
    return replace(held, loaded=Loaded({**loaded, OTHERS: True}))


HERE = found(here=True, local=("10.88.0.1", "10.88.0.250"))


# What is in force.


@pytest.mark.parametrize(
    ("held", "local", "expected"),
    [
        ((), ("10.88.0.1",), {node_file(API), node_file(DB)}),
        (("api",), ("10.88.0.1", "10.88.0.250"), {holder_file(API), node_file(DB)}),
        # It has gone, but nobody has said so.
        (("api",), ("10.88.0.1",), {holder_file(API), node_file(DB)}),
        # It has come, but nobody has said so.
        ((), ("10.88.0.1", "10.88.0.250"), {node_file(DB)}),
    ],
)
def test_what_is_in_force(held: tuple[str, ...], local: tuple[str, ...], expected: set[str]) -> None:
    assert set(Holder({}, frozenset(held), frozenset(local), None).in_force(PRIVATE)) == expected


def test_a_host_that_may_hold_it_no_more_is_a_peer_of_whoever_does() -> None:
    others = {path: text for path, text in PRIVATE.items() if path != holder_file(API)}
    assert set(Holder({}, frozenset({"api"}), frozenset(), None).in_force(others)) == {
        node_file(API),
        node_file(DB),
    }


def test_files_elsewhere_are_never_in_force() -> None:
    somewhere = {path.replace(FOLDER, "/etc/ipsec.d"): text for path, text in PRIVATE.items()}
    assert Holder({}, frozenset(), frozenset(), None).in_force(somewhere) == {}


# The states of a run.


@pytest.mark.parametrize(
    ("present", "target", "stage", "expected"),
    [
        ({}, "private", "prepare", "prepared"),
        ({}, "private", "enforce", "private"),
        (PREPARED, "private", "prepare", "prepared"),
        (RELAXED, "private", "prepare", "prepared"),
        (PRIVATE, "private", "prepare", "private"),
        ({}, "private-or-clear", "prepare", "private-or-clear"),
        (PRIVATE, "private-or-clear", "prepare", "private-or-clear"),
    ],
)
def test_states(present: dict[str, str], target: str, stage: str, expected: str) -> None:
    holder = Holder(present, frozenset(), frozenset(), None)
    assert states([API, DB], holder, target, stage) == {"api": expected, "db": expected}


def test_an_address_that_is_new_waits_though_others_are_enforced() -> None:
    holder = Holder({node_file(DB): PRIVATE[node_file(DB)]}, frozenset(), frozenset(), None)
    assert states([API, DB], holder, "private", "prepare") == {"api": "prepared", "db": "private"}


# Addresses that have come.


@pytest.mark.parametrize(
    ("vip", "holder", "expected"),
    [
        (API, found(local=("10.88.0.250",)), ["api"]),
        (API, found(local=("10.88.0.1",)), []),
        (API, HERE, []),
        (DB, found(local=("10.88.0.251",)), []),
        (API, replace(found(local=("10.88.0.250",)), loaded=None), []),
    ],
)
def test_arrived(vip: Vip, holder: Holder, expected: list[str]) -> None:
    assert arrived([vip], holder) == expected


# What is to be done.


@pytest.mark.parametrize("present", [PRIVATE, PREPARED, RELAXED])
@pytest.mark.parametrize("here", [True, False])
def test_nothing_to_do_on_a_converged_host(present: dict[str, str], here: bool) -> None:
    assert not change(found(present, here=here), present)


def test_a_host_without_anything_gets_what_its_members_need() -> None:
    wanted = change(found({}), PRIVATE)
    assert wanted == Delta(write=PRIVATE, add=(API_NODE, DB_NODE))


def test_a_host_whose_pluto_does_not_run_gets_files_only() -> None:
    assert change(replace(found({}), loaded=None), PRIVATE) == Delta(write=PRIVATE)


def test_all_goes() -> None:
    wanted = change(HERE, {})
    assert (dict(wanted.write), set(wanted.remove)) == ({}, set(PRIVATE))
    assert (set(wanted.delete), wanted.add) == ({*HOLDER, DB_NODE}, ())


def test_enforcing_loads_nothing_again_but_what_drops() -> None:
    wanted = change(found(PREPARED, here=True, lost=("holder", "node")), PRIVATE)
    assert (set(wanted.add), wanted.delete) == ({DROP, CLEAR}, ())
    assert set(wanted.route) == {*BEGUN, DB_NODE}


def test_relaxing_loads_what_traps_again_and_takes_away_what_drops() -> None:
    wanted = change(HERE, RELAXED)
    assert (set(wanted.add), set(wanted.delete)) == ({*BEGUN, DB_NODE}, {DROP, CLEAR})


@pytest.mark.parametrize(
    ("lost", "expected"),
    [("node", DB_NODE), ("drop", DROP), ("clear-0", CLEAR)],
)
def test_a_policy_that_the_kernel_lost_comes_back(lost: str, expected: str) -> None:
    assert change(found(here=True, lost=[lost]), PRIVATE) == Delta(route=(expected,))


def test_what_lets_in_anybody_is_never_routed() -> None:
    holder = found(here=True)
    assert holder.loaded is not None
    routed = {**holder.loaded.routed, ANYBODY: False}
    assert not change(replace(holder, loaded=Loaded(routed)), PRIVATE)


def test_what_pluto_lost_is_loaded() -> None:
    holder = found(here=True)
    assert holder.loaded is not None
    left = {name: routed for name, routed in holder.loaded.routed.items() if name != WITH_H3}
    assert change(replace(holder, loaded=Loaded(left)), PRIVATE) == Delta(add=(WITH_H3,))


def test_a_member_that_joins_is_loaded_only_where_the_address_is() -> None:
    more = files(members=(2, 3, 4))
    written = {holder_file(API): more[holder_file(API)]}
    assert change(found(here=True), more) == Delta(write=written, add=("underlay-vip+api+holder+h4",))
    assert change(found(), more) == Delta(write=written)


def test_nothing_is_loaded_for_an_address_that_has_come_unannounced() -> None:
    holder = found(local=("10.88.0.250",))
    assert holder.loaded is not None
    assert set(holder.loaded.connections) == {DB_NODE, OTHERS}
    assert not change(holder, PRIVATE)


def test_what_came_with_another_role_is_unloaded() -> None:
    holder = found(here=True)
    gone = replace(holder, held=frozenset())
    wanted = change(gone, PRIVATE)
    assert (set(wanted.delete), wanted.add) == (set(HOLDER), (API_NODE,))


# A host.


class Host:
    """Plays a host whose pluto loads what it is told to; remembers commands."""

    def __init__(
        self,
        *loaded: str,
        running: bool = True,
        local: Sequence[str] = ("10.88.0.1",),
        complaint: str = "",
        fail: str = "",
        fails: int = 1000,
        states: str = "",
        root: Path | None = None,
    ) -> None:
        self.loaded = list(loaded)
        self.running = running
        self.local = local
        self.complaint = complaint
        self.fail = fail
        self.fails = fails
        self.states = states
        self.root = root
        self.changes: list[str] = []
        self.checked = ""
        self.files: dict[str, set[str]] = {}
        """Command → the files that were there when it was run."""

    def __call__(
        self, argv: Sequence[str], *, stdin: str | None = None, check: bool = True, timeout: float = 1.0
    ) -> Completed:
        command = " ".join(argv)
        answer = Completed(tuple(argv), 0, "", "")
        if "is-active" in argv:
            return replace(answer, rc=0 if self.running else 3)
        if argv[0] == "ip":
            links = [{"addr_info": [{"local": address} for address in self.local]}]
            return replace(answer, stdout=json.dumps(links))
        if command.endswith("--status"):
            lines = (
                f'000 "{name}": 10.88.0.1...10.88.0.2; erouted; eroute owner: #0\n' for name in self.loaded
            )
            return replace(answer, stdout="".join(lines))
        if command.endswith("--showstates"):
            return replace(answer, stdout=self.states)
        if "--config" in argv:
            path = Path(argv[list(argv).index("--config") + 1])
            text = path.read_text(encoding="utf-8")
            if "--checkconfig" in argv:
                self.checked = text
                return replace(answer, stderr=self.complaint)
            self.loaded += connections_of(text)
            command = command.replace(str(path), "FILE")
        self.changes.append(command)
        if self.root is not None:
            self.files[command] = set(on_disk(self.root))
        if self.fail and self.fail in command and check and self.fails:
            self.fails -= 1
            raise CommandError(argv, 1, "", "refused")
        return answer


def on_disk(root: Path) -> dict[str, str]:
    """Return path → text of what is in /etc."""
    return {
        f"/{path.relative_to(root)}": path.read_text() for path in (root / "etc").rglob("*") if path.is_file()
    }


def put(root: Path, *marks: str, present: dict[str, str] = PRIVATE) -> None:
    """Make a host that has the files *present* and the addresses *marks*."""
    for path, text in {**present, **{f"{HELD}/{mark}": "" for mark in marks}}.items():
        where = root / path.lstrip("/")
        where.parent.mkdir(parents=True, exist_ok=True)
        where.write_text(text)


def applied(
    holder: Holder, wanted: dict[str, str], root: Path, new: Sequence[str] = (), **options: Any
) -> Host:
    """Bring *holder* to the files *wanted*, and return the host."""
    host = Host(*(holder.loaded.connections if holder.loaded else ()), root=root, **options)
    delta = change(holder, wanted)
    with alone(root):
        apply(delta, holder, wanted, host, root)
    begin(delta, holder, wanted, host)
    take_over(new, host)
    return host


LOAD = "ipsec addconn --config FILE --autoall"
TIDY = [
    "systemctl daemon-reload",
    f"systemctl enable --quiet {TIDY_SERVICE}",
    f"systemctl restart {TIDY_SERVICE}",
]


def test_observing_a_holder(tmp_path: Path) -> None:
    put(tmp_path, "api")
    (tmp_path / HELD.lstrip("/") / ".lock").touch()
    seen = observe(Host(DB_NODE, local=("10.88.0.1", "10.88.0.250", "fd88::1")), tmp_path)
    assert seen == Holder(
        PRIVATE,
        frozenset({"api"}),
        frozenset({"10.88.0.1", "10.88.0.250", "fd88::1"}),
        Loaded({DB_NODE: True}),
    )


def test_a_mark_of_what_the_host_may_not_hold_says_nothing(tmp_path: Path) -> None:
    put(tmp_path, "api", "db")
    assert observe(Host(local=("10.88.0.250", "10.88.0.251")), tmp_path).held == {"api"}


def test_a_mark_of_what_has_gone_says_nothing(tmp_path: Path) -> None:
    put(tmp_path, "api")
    assert not observe(Host(), tmp_path).held


def test_what_is_here_is_here_whether_it_was_said_or_not() -> None:
    assert found(local=("10.88.0.250", "10.88.0.251")).here == {"api", "db"}
    assert not found(here=True).here


def test_without_being_told_to_listen_pluto_loads_by_name_and_traps_after(tmp_path: Path) -> None:
    host = Host(root=tmp_path)
    holder = found({})
    apply(change(holder, PRIVATE), holder, PRIVATE, host, tmp_path, listens=False)
    by_name = f"ipsec addconn --config FILE {API_NODE} {DB_NODE}"
    assert [command for command in host.changes if "systemctl" not in command] == [
        by_name,
        "ipsec --directory",
        "xargs --null -n 1 /whack --route --name",
    ]


def test_observing_a_host_without_anything(tmp_path: Path) -> None:
    assert observe(Host(running=False, local=()), tmp_path) == Holder({}, frozenset(), frozenset(), None)


@pytest.mark.parametrize("here", [True, False])
def test_what_was_applied_is_what_is_observed(tmp_path: Path, here: bool) -> None:
    if here:
        put(tmp_path, "api", present={})
    local = ("10.88.0.1", "10.88.0.250") if here else ("10.88.0.1",)
    first = observe(Host(local=local), tmp_path)
    host = applied(first, PRIVATE, tmp_path, local=local)
    assert on_disk(tmp_path) == PRIVATE
    assert not change(observe(host, tmp_path), PRIVATE)


def test_marks_of_what_the_host_may_not_hold_go(tmp_path: Path) -> None:
    put(tmp_path, "api", "db")
    others = {path: text for path, text in PRIVATE.items() if path != holder_file(API)}
    host = applied(HERE, others, tmp_path)
    assert not list((tmp_path / HELD.lstrip("/")).glob("[!.]*"))
    assert not [command for command in host.changes if " begin " in command]


def test_a_mark_that_the_script_needs_stays(tmp_path: Path) -> None:
    put(tmp_path, "api")
    applied(HERE, files(members=(2, 3, 4)), tmp_path)
    assert (tmp_path / HELD.lstrip("/") / "api").exists()


def test_a_member_that_was_anybody_until_now(tmp_path: Path) -> None:
    put(tmp_path, "api")
    # As 4.10 says it.
    rest = "REKEY in 28529s; REPLACE in 28799s; newest; idle;"
    states = "".join(
        f'000 #{number}: "{name}"{instance}:500 STATE_V2_ESTABLISHED_IKE_SA (established IKE SA); {rest}\n'
        for number, name, instance in (
            (7, ANYBODY, "[1] 10.88.0.4"),
            (9, ANYBODY, "[2] 10.88.0.5"),
            (11, "underlay-endpoint+x", "[1] 10.88.0.4"),
            (13, OTHERS, ""),
        )
    )
    host = Host(*(HERE.loaded.connections if HERE.loaded else ()), fail="--route", fails=1, states=states)
    wanted = files(members=(2, 3, 4))
    apply(change(HERE, wanted), HERE, wanted, host, tmp_path, listens=False)
    route = "ipsec whack --name underlay-vip+api+holder+h4 --route"
    assert host.changes[1:] == [route, "ipsec whack --deletestate 7", route]


def test_pluto_may_refuse_a_member_for_another_reason(tmp_path: Path) -> None:
    put(tmp_path, "api")
    host = Host(*(HERE.loaded.connections if HERE.loaded else ()), fail="--route")
    wanted = files(members=(2, 3, 4))
    with pytest.raises(CommandError):
        apply(change(HERE, wanted), HERE, wanted, host, tmp_path, listens=False)


def test_files_are_written_for_all_to_read(tmp_path: Path) -> None:
    applied(found({}), PRIVATE, tmp_path)
    assert {stat.S_IMODE((tmp_path / path.lstrip("/")).stat().st_mode) for path in PRIVATE} == {0o644}


def test_a_fresh_host(tmp_path: Path) -> None:
    host = applied(found({}), PRIVATE, tmp_path)
    assert host.changes == [LOAD, *TIDY]
    assert set(connections_of(host.checked)) == {API_NODE, DB_NODE, *HOLDER}


def test_a_host_whose_pluto_does_not_run(tmp_path: Path) -> None:
    host = applied(replace(found({}), loaded=None), PRIVATE, tmp_path)
    assert host.changes == TIDY
    assert on_disk(tmp_path) == PRIVATE


def test_pluto_is_changed_before_the_files_say_so(tmp_path: Path) -> None:
    host = applied(found({}), PRIVATE, tmp_path)
    assert host.files[LOAD] == set()
    assert host.files[TIDY[0]] == set(PRIVATE)


def test_what_libreswan_does_not_take_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ProblemsError, match="does not accept the configuration: bad keyword"):
        applied(found({}), PRIVATE, tmp_path, complaint="bad keyword")
    assert not (tmp_path / "etc").exists()


def test_the_files_of_a_run_that_is_cut_off_say_so(tmp_path: Path) -> None:
    put(tmp_path, present=PREPARED)
    with pytest.raises(CommandError):
        applied(found(PREPARED, lost=["node"]), PRIVATE, tmp_path, fail="xargs")
    assert on_disk(tmp_path) == PREPARED


def test_an_address_that_has_come_is_taken_over_at_the_end(tmp_path: Path) -> None:
    host = applied(found({}, local=("10.88.0.250",)), PRIVATE, tmp_path, ["api"])
    assert host.changes[-1] == f"sh {SCRIPT_FILE} hold api"
    assert API_NODE not in host.loaded


def test_taking_over_must_not_fail(tmp_path: Path) -> None:
    with pytest.raises(CommandError):
        applied(found({}), PRIVATE, tmp_path, ["api"], fail=" hold ")


def test_the_holder_begins_with_a_member_that_joins(tmp_path: Path) -> None:
    put(tmp_path, "api")
    host = applied(found(here=True), files(members=(2, 3, 4)), tmp_path)
    assert host.changes == [LOAD, f"sh {SCRIPT_FILE} begin api"]


def test_nobody_begins_where_the_address_is_not(tmp_path: Path) -> None:
    put(tmp_path)
    assert applied(found(), files(members=(2, 3, 4)), tmp_path).changes == []


def test_that_beginning_fails_is_no_fault(tmp_path: Path) -> None:
    put(tmp_path, "api")
    host = applied(found(here=True), files(members=(2, 3, 4)), tmp_path, fail=" begin ")
    assert host.changes[-1] == f"sh {SCRIPT_FILE} begin api"


def test_another_script_restarts_what_runs_it(tmp_path: Path) -> None:
    put(tmp_path)
    host = applied(found(), files(script="#!/bin/sh\n:\n"), tmp_path)
    assert host.changes == TIDY[1:]


@pytest.mark.parametrize(
    ("path", "expected"), [(HOOK_FILE, TIDY[:1]), (TIDY_FILE, TIDY), (SCRIPT_FILE, TIDY[1:])]
)
def test_what_systemd_is_told(tmp_path: Path, path: str, expected: list[str]) -> None:
    present = {**PRIVATE, path: "old"}
    put(tmp_path, present=present)
    assert applied(found(present), PRIVATE, tmp_path).changes == expected


def test_all_that_was_there_goes(tmp_path: Path) -> None:
    put(tmp_path, "api")
    host = applied(HERE, {}, tmp_path)
    assert on_disk(tmp_path) == {}
    assert not (tmp_path / FOLDER.lstrip("/")).exists()
    assert not (tmp_path / HELD.lstrip("/")).exists()
    disable = host.changes.index(f"systemctl disable --quiet --now {TIDY_SERVICE}")
    # The unit is there as long as systemd has to know it.
    assert TIDY_FILE in host.files[host.changes[disable]]
    assert host.changes[disable + 1 :] == ["systemctl daemon-reload"]


def test_a_host_that_never_had_any_is_left_alone(tmp_path: Path) -> None:
    host = applied(found({}), {}, tmp_path)
    assert host.changes == []
    assert not (tmp_path / HELD.lstrip("/")).exists()
