# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Live apply: what is done, in which order, and what an interruption leaves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from ansible_collections.underlay.ipsec.plugins.module_utils._errors import CommandError, ProblemsError
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan import (
    apply,
    difference,
    pause,
    render,
    renewed,
)
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan.dialect import Dialect
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan.loaded import (
    IkeSa,
    Loaded,
    parse,
    useless,
)
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan.stage import enforcement
from ansible_collections.underlay.ipsec.plugins.module_utils._run import Completed

V4 = Dialect(4, 10)
NETWORK = render.Network(
    "data",
    4,
    "10.88.0.0/24",
    "10.88.0.11",
    "transport",
    "auto",
    private=("10.88.0.0/24",),
    clear=("10.88.0.1/32",),
)
SETTINGS = render.Settings("underlay-h1", "ecdsa", "aes_gcm256-sha2_384-dh20", "aes_gcm256", (NETWORK,))
PRIVATE, RELAXED, EXCEPTION = NAMES = tuple(c.name for c in render.connections(SETTINGS, V4))
TARGET = f"{PRIVATE}#10.88.0.0/24"
ENFORCED = render.files(SETTINGS, V4, {"data": "private"})
PREPARED = render.files(SETTINGS, V4, {"data": "private-or-clear"})
LOADED = Loaded({PRIVATE: False, RELAXED: False, EXCEPTION: True, TARGET: True})
CONVERGED = difference.Observed(ENFORCED, LOADED, enabled=True, journal=None)
NOTHING = difference.Observed({}, None, enabled=False, journal=None)

STATUS = f"""\
000 "{PRIVATE}": 10.88.0.11...%opportunisticgroup; unrouted; eroute owner: #0
000 "{RELAXED}": 10.88.0.11...%opportunisticgroup; unrouted; eroute owner: #0
000 "{EXCEPTION}": 10.88.0.11...%any===10.88.0.1/32; prospective erouted; eroute owner: #0
000 "{TARGET}": 10.88.0.11...%opportunistic===10.88.0.0/24; prospective erouted; eroute owner: #0
"""
POLICY = """\
src 10.88.0.11/32 dst 10.88.0.0/24
\tdir out priority 2801873 ptype main
\ttmpl src 0.0.0.0 dst 0.0.0.0
\t\tproto esp reqid 0 mode transport
"""


class Host:
    """Plays a host: remembers commands, answers some."""

    def __init__(self, fail: str = "", setup: str = "export uniqueids='no'\n") -> None:
        self.commands: list[str] = []
        self.fail = fail
        self.answers = {
            "ipsec whack --status": STATUS,
            "ipsec addconn --configsetup": setup,
            "ip xfrm policy": POLICY,
        }

    def __call__(
        self, argv: Sequence[str], *, stdin: str | None = None, check: bool = True, timeout: float = 1.0
    ) -> Completed:
        command = " ".join(argv)
        self.commands.append(command)
        if self.fail and self.fail in command:
            raise CommandError(argv, 1, "", "refused")
        answers = (text for start, text in self.answers.items() if command.startswith(start))
        return Completed(tuple(argv), 0, next(answers, ""), "")

    @property
    def changes(self) -> list[str]:
        """The commands that do something."""
        asking = ("--status", "--showstates", "is-active", "is-enabled")
        return [command for command in self.commands if not command.endswith(asking)]


def test_nothing_to_do_on_a_converged_host() -> None:
    assert not difference.delta(CONVERGED, ENFORCED)


def test_fresh_host_is_started_and_enabled() -> None:
    change = difference.delta(NOTHING, PREPARED)
    assert (change.start, change.enable, change.restart, dict(change.write)) == (True, True, False, PREPARED)


def test_running_daemon_without_our_setup_is_restarted_and_says_so() -> None:
    change = difference.delta(replace(NOTHING, loaded=Loaded(), enabled=True), PREPARED)
    assert (change.restart, change.service) == (True, "restarted")


def test_enforcement_moves_one_entry_and_touches_no_other_connection() -> None:
    change = difference.delta(CONVERGED, PREPARED)
    assert (change.terminate, change.add, change.delete, change.listen) == ((TARGET,), (RELAXED,), (), True)
    assert all(path.startswith(render.POLICY_DIR) for path in change.write)
    assert not change.restart


def test_exception_comes_and_goes_without_a_word_to_the_groups() -> None:
    wider = replace(SETTINGS, networks=(replace(NETWORK, clear=("10.88.0.1/32", "10.88.0.77/32")),))
    files = render.files(wider, V4, {"data": "private"})
    name = "underlay-data-clear-10.88.0.77-32"
    coming = difference.delta(CONVERGED, files)
    assert (coming.add, dict(coming.exceptions)) == ((name,), {name: "10.88.0.77/32"})
    assert (coming.terminate, coming.listen) == ((), False)
    present = replace(CONVERGED, files=files, loaded=Loaded({**LOADED.routed, name: True}))
    going = difference.delta(present, ENFORCED)
    assert (going.delete, going.terminate, going.listen) == ((name,), (), False)


def test_changed_group_ends_its_own_sas_only() -> None:
    wanted = {path: text.replace("failureshunt=drop", "failureshunt=none") for path, text in ENFORCED.items()}
    change = difference.delta(CONVERGED, wanted)
    assert (change.add, change.terminate, change.listen) == ((PRIVATE,), (TARGET,), True)


@pytest.mark.parametrize(
    ("routed", "add", "delete", "route"),
    [
        ({PRIVATE: False, RELAXED: False, TARGET: True}, (EXCEPTION,), (), ()),
        ({**LOADED.routed, "underlay-old-clear": False}, (), ("underlay-old-clear",), ()),
        ({**LOADED.routed, "somebody-elses": True}, (), (), ()),
        ({**LOADED.routed, TARGET: False}, (), (), (TARGET,)),
        ({**LOADED.routed, EXCEPTION: False}, (), (), (EXCEPTION,)),
    ],
)
def test_what_is_loaded_counts_not_what_is_written(
    routed: dict[str, bool], add: tuple[str, ...], delete: tuple[str, ...], route: tuple[str, ...]
) -> None:
    change = difference.delta(replace(CONVERGED, loaded=Loaded(routed)), ENFORCED)
    assert (change.add, change.delete, change.route) == (add, delete, route)


@pytest.mark.parametrize(
    ("established", "protected", "outbound", "healed"),
    [
        (True, {"10.88.0.12"}, {"10.88.0.12"}, []),
        (True, {"10.88.0.12"}, set(), [7]),
        (True, set(), set(), [7]),
        (False, set(), set(), []),
        (False, {"10.88.0.12"}, {"10.88.0.12"}, []),
    ],
)
def test_useless_sa_is_negotiated_again(
    established: bool, protected: set[str], outbound: set[str], healed: list[int]
) -> None:
    sa = IkeSa(7, TARGET, "10.88.0.12", established)
    loaded = Loaded(LOADED.routed, (sa,), frozenset(protected))
    found = useless(loaded, outbound)
    assert [sa.serial for sa in found] == healed
    assert difference.delta(replace(CONVERGED, useless=found), ENFORCED).heal == found


def test_sa_that_a_peer_is_just_ending_is_left_to_it(tmp_path: Path) -> None:
    """Only what is useless in two looks is: the first one may fall between pluto's end and the kernel's."""
    host, later = Host(), Host()
    childless = f'#7: "{TARGET}"[1] ...10.88.0.12:500 ESTABLISHED_IKE_SA (established IKE SA); newest;\n'
    for looked in (host, later):
        looked.answers["ipsec whack --showstates"] = childless
    assert [sa.serial for sa in apply.observe(later, tmp_path, wait=lambda _seconds: None).useless] == [7]

    def end(_seconds: float) -> None:
        host.answers["ipsec whack --showstates"] = ""

    assert apply.observe(host, tmp_path, wait=end).useless == ()


def test_useless_sas_end_by_the_peers_id_and_without_one_by_number(tmp_path: Path) -> None:
    sas = (IkeSa(7, TARGET, "10.88.0.12", peer_id="CN=h2"), IkeSa(8, TARGET, "10.88.0.12", peer_id="CN=h2"))
    host = Host()
    apply.apply(difference.Delta(heal=(*sas, IkeSa(9, TARGET, "10.88.0.13"))), host, tmp_path)
    assert host.changes == ["ipsec whack --deleteid --name CN=h2", "ipsec whack --deletestate 9"]


def test_somebody_elses_sa_is_never_ended() -> None:
    states = """\
#1: "private#10.99.0.0/24"[1] ...10.88.0.12:500 ESTABLISHED_IKE_SA (established IKE SA); newest;
#2: "private#10.99.0.0/24"[1] ...10.88.0.12:500 ESTABLISHED_CHILD_SA (established Child SA); newest; IKE SA #1;
"""
    loaded = parse(STATUS, states)
    assert loaded.ike_sas_with("10.88.0.0/24") == ()
    assert useless(loaded, set()) == ()


def test_journal_makes_the_next_run_redo_the_unfinished_part() -> None:
    unfinished = replace(CONVERGED, journal=difference.Journal(frozenset({PRIVATE}), restart=False))
    change = difference.delta(unfinished, ENFORCED)
    assert (change.add, change.listen, change.restart) == ((PRIVATE,), True, False)


def test_absent_unloads_ours_and_leaves_the_service_alone() -> None:
    loaded = Loaded({**LOADED.routed, "somebody-elses": True})
    change = difference.delta(replace(CONVERGED, loaded=loaded), {}, serve=False)
    assert (change.delete, set(change.remove)) == (tuple(sorted(NAMES)), set(ENFORCED))
    assert change.service == "none"


@pytest.mark.parametrize(
    ("files", "target", "stage", "expected"),
    [
        ({}, "private", "prepare", "private-or-clear"),
        ({}, "private", "enforce", "private"),
        (PREPARED, "private", "prepare", "private-or-clear"),
        (ENFORCED, "private", "prepare", "private"),
        (ENFORCED, "private-or-clear", "prepare", "private-or-clear"),
        ({}, "clear", "prepare", "clear"),
    ],
)
def test_prepare_never_tightens_and_never_reopens(
    files: dict[str, str], target: str, stage: str, expected: str
) -> None:
    observed = replace(CONVERGED, files=files)
    assert enforcement(SETTINGS, observed, target, stage) == {"data": expected}


def test_order_of_a_live_change(tmp_path: Path) -> None:
    apply.apply(difference.Delta(ENFORCED), Host(), tmp_path)
    host = Host()
    apply.apply(difference.delta(CONVERGED, PREPARED), host, tmp_path)
    assert host.changes == [
        f"ipsec whack --name {TARGET} --terminate",
        f"ipsec whack --name {TARGET} --delete",
        f"ipsec addconn {RELAXED}",
        f"ipsec whack --name {RELAXED} --route",
        "ipsec whack --listen",
    ]
    assert not (tmp_path / apply.JOURNAL.lstrip("/")).exists()


def test_interrupted_apply_is_taken_up_by_the_next_run(tmp_path: Path) -> None:
    apply.apply(difference.Delta(ENFORCED), Host(), tmp_path)
    change = difference.delta(CONVERGED, PREPARED)
    with pytest.raises(CommandError):
        apply.apply(change, Host(fail="--listen"), tmp_path)
    again = difference.delta(apply.observe(Host(), tmp_path), PREPARED)
    assert (again.add, again.listen) == ((RELAXED,), True)


def test_service_beside_pluto_is_for_4x_only() -> None:
    assert set(render.watch_files("#!/bin/sh\n", V4)) == {render.WATCH_SCRIPT_FILE, render.WATCH_UNIT_FILE}
    assert render.watch_files("#!/bin/sh\n", Dialect(5, 2)) == {}
    assert render.watch_files("", V4) == {}


def test_service_beside_pluto_comes_and_goes_with_its_files(tmp_path: Path) -> None:
    (tmp_path / "etc/systemd/system").mkdir(parents=True)
    watched = {**ENFORCED, **render.watch_files("#!/bin/sh\n", V4)}
    apply.apply(difference.delta(CONVERGED, ENFORCED), Host(), tmp_path)
    coming = Host()
    apply.apply(difference.delta(CONVERGED, watched), coming, tmp_path)
    assert coming.changes == [
        "systemctl daemon-reload",
        f"systemctl enable --quiet {render.WATCH_SERVICE}",
        f"systemctl restart {render.WATCH_SERVICE}",
    ]
    present = replace(CONVERGED, files=watched)
    assert not difference.delta(present, watched)
    going = Host()
    apply.apply(difference.delta(present, ENFORCED), going, tmp_path)
    assert going.changes == [f"systemctl disable --quiet --now {render.WATCH_SERVICE}"]
    assert not (tmp_path / render.WATCH_UNIT_FILE.lstrip("/")).exists()


def test_setup_that_libreswan_ignores_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ProblemsError, match=r"/etc/ipsec\.conf"):
        apply.apply(difference.delta(NOTHING, PREPARED), Host(setup="export uniqueids='yes'\n"), tmp_path)


def test_foreign_files_are_not_seen(tmp_path: Path) -> None:
    folder = tmp_path / "etc/ipsec.d/policies"
    folder.mkdir(parents=True)
    (folder / "private").write_text("10.0.0.0/8\n")
    (folder.parent / "other.conf").write_text("conn other\n")
    assert apply.observe(Host(), tmp_path).files == {}


def test_hold_of_all_catches_only_what_would_ask_for_an_sa() -> None:
    host = Host()
    pause.hold([NETWORK], host, 30, lower_only=False, action="block")
    assert host.changes[-1] == (
        "ip xfrm policy update src 10.88.0.0/24 dst 10.88.0.0/24 dir out"
        " priority 2801872 action block limit time-hard 30"
    )


def test_hold_of_lower_peers_covers_exactly_their_addresses() -> None:
    host = Host()
    pause.hold([NETWORK], host, 5, lower_only=True, action="allow")
    held = [command.split()[7] for command in host.changes if " update " in command]
    assert held == ["10.88.0.0/29", "10.88.0.8/31", "10.88.0.10/32"]


def test_loaded_is_read_alike_from_both_generations() -> None:
    v4 = """\
000 "underlay-data-private#10.88.0.0/24": 10.88.0.11...%opportunistic===10.88.0.0/24; unrouted; eroute owner: #0
000 "underlay-data-private#10.88.0.0/24"[1]: 10.88.0.11[CN=h1]...10.88.0.13[CN=h3]; erouted; eroute owner: #2
"""
    v5 = """\
"underlay-data-private#10.88.0.0/24": 10.88.0.13...%opportunistic===10.88.0.0/24; unrouted; my_ip=unset;
"underlay-data-private#10.88.0.0/24":   routing: unrouted;
"underlay-data-private#10.88.0.0/24"[1]: 10.88.0.11[CN=h1]...10.88.0.13[CN=h3]; routed-tunnel; my_ip=unset;
"underlay-data-private#10.88.0.0/24"[1]:   routing: routed-tunnel; owner: Child SA #2;
"""
    states4 = """\
000 #1: "underlay-data-private#10.88.0.0/24"[1] ...10.88.0.13:500 STATE_V2_ESTABLISHED_IKE_SA (established IKE SA);
000 #2: "underlay-data-private#10.88.0.0/24"[1] ...10.88.0.13:500 STATE_V2_ESTABLISHED_CHILD_SA (established Child SA);
000 #2: "underlay-data-private#10.88.0.0/24"[1] ...10.88.0.13 esp.1ff77d1@10.88.0.13 esp.b3dc4df6@10.88.0.11
000 #3: "underlay-data-private#10.88.0.0/24"[2] ...fd88::12:500 STATE_V2_PARENT_I1 (sent IKE_SA_INIT request);
000 #4: "underlay-data-private#10.88.0.0/24"[2] ...fd88::14 esp:8dba2956@fd88::14 esp:c871850@fd88::11 Traffic: ESPin=1KB
"""
    expected = Loaded(
        {"underlay-data-private#10.88.0.0/24": False},
        (
            IkeSa(1, "underlay-data-private#10.88.0.0/24", "10.88.0.13", peer_id="CN=h3"),
            IkeSa(3, "underlay-data-private#10.88.0.0/24", "fd88::12", established=False),
        ),
        frozenset({"10.88.0.13"}),
        frozenset({"underlay-data-private#10.88.0.0/24"}),
    )
    states5 = states4.replace("000 ", "").replace("STATE_V2_", "").replace("PARENT_I1", "IKE_SA_INIT_I")
    assert parse(v4, states4) == expected
    assert parse(v5, states5) == expected


@pytest.mark.parametrize("rc", [0, 27])
def test_a_certificate_that_pluto_cannot_read_again_takes_a_restart(rc: int, tmp_path: Path) -> None:
    class Rereading(Host):
        def __call__(
            self, argv: Sequence[str], *, stdin: str | None = None, check: bool = True, timeout: float = 1.0
        ) -> Completed:
            answer = super().__call__(argv, stdin=stdin, check=check, timeout=timeout)
            return replace(answer, rc=rc) if "--rereadcerts" in argv else answer

    note = tmp_path / renewed.PATH.lstrip("/")
    note.parent.mkdir(parents=True)
    note.write_text("certificate\n")
    for path, text in ENFORCED.items():
        target = tmp_path / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
    host = Rereading()
    change = difference.delta(replace(CONVERGED, renewed=renewed.noted(tmp_path)), ENFORCED)
    apply.apply(change, host, tmp_path, wait=lambda _seconds: None)
    restarted = rc != 0
    assert ("systemctl restart ipsec" in " ".join(host.commands)) == restarted
    # Without a restart, the SAs of before are still to be made anew.
    assert note.exists() != restarted
