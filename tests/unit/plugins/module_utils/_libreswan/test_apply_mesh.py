# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Live apply in a mesh: a change of one pair is not a change of another."""

from __future__ import annotations

import json
import re
import stat
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.underlay.ipsec.plugins.module_utils._errors import CommandError, IpsecError
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan import apply, difference, render
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan.connection import connections_of
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan.loaded import Loaded, parse
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan.renewed import AUTHORITY, CERTIFICATE
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan.stage import (
    enforcement,
    files_of,
    switching,
)
from ansible_collections.underlay.ipsec.plugins.module_utils._run import Completed
from ansible_collections.underlay.ipsec.tests.unit.plugins.module_utils._libreswan.meshes import (
    DATA,
    SIX,
    V4,
    files,
    first,
    mesh,
    pair,
    states,
)

SETTINGS = mesh(2, 3, 4)
PAIRS = (pair(2), pair(3), pair(4))
PRIVATE, PREPARED, RELAXED = (files(SETTINGS, s) for s in ("private", "prepared", "private-or-clear"))
SECRET = "bm90IGZvciBhbnkgZXllcw=="
KEYS = render.secrets_file([{"ids": ["@h1.example", "@h2.example"], "psk": SECRET}])
OTHER_KEYS = render.secrets_file([{"ids": ["@h1.example", "@h2.example"], "psk": "b3RoZXI="}])

OPPORTUNISTIC = replace(SETTINGS, topology="opportunistic", peers=())
GROUPS = render.files(OPPORTUNISTIC, V4, {"data": "private"})
OPEN_GROUPS = render.files(OPPORTUNISTIC, V4, {"data": "private-or-clear"})


def observed(
    present: dict[str, str],
    *,
    trapped: bool = True,
    journal: difference.Journal | None = None,
    **routed: bool,
) -> difference.Observed:
    """Return a host with the files *present*, which pluto has loaded; *routed* maps ``h2`` to whether its pair is trapped."""
    names = [name for text in present.values() for name in connections_of(text)]
    loaded = {name: routed.get(f"h{name[-1]}", trapped) for name in names}
    return difference.Observed(present, Loaded(loaded), enabled=True, journal=journal)


class Host:
    """Plays a host whose pluto loads what it is told to, but for *refused*; remembers commands and batches."""

    def __init__(self, *refused: str, loaded: Sequence[str] = (), fail: str = "") -> None:
        self.refused = refused
        self.loaded = list(loaded)
        self.fail = fail
        self.changes: list[str] = []
        self.batches: list[str] = []

    def __call__(
        self, argv: Sequence[str], *, stdin: str | None = None, check: bool = True, timeout: float = 1.0
    ) -> Completed:
        command = " ".join(argv)
        if command.endswith("--status"):
            lines = (
                f'000 "{name}": 10.88.0.1...10.88.0.2; unrouted; eroute owner: #0\n' for name in self.loaded
            )
            return Completed(tuple(argv), 0, "".join(lines), "")
        if command.endswith(("--showstates", "is-active", "is-enabled")):
            return Completed(tuple(argv), 0, "", "")
        if "--config" in argv:
            path = Path(argv[list(argv).index("--config") + 1])
            text = path.read_text(encoding="utf-8")
            self.batches.append(text)
            self.loaded += [name for name in connections_of(text) if name not in self.refused]
            command = command.replace(str(path), "FILE")
        self.changes.append(command)
        if self.fail and self.fail in command:
            raise CommandError(argv, 1, "", "refused")
        return Completed(tuple(argv), 0, "", "037 unknown algorithm" if self.refused else "")


def applied(change: difference.Delta, root: Path, host: Host | None = None, **changes: Any) -> Host:
    """Carry out *change* on a host that has the files of all pairs."""
    apply.apply(difference.Delta(PRIVATE), Host(), root)
    host = host or Host(**changes)
    apply.apply(change, host, root)
    return host


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# From one state of all pairs to another.


@pytest.mark.parametrize("present", [PRIVATE, PREPARED, RELAXED])
def test_nothing_to_do_on_a_converged_host(present: dict[str, str]) -> None:
    assert not difference.delta(observed(present, trapped=present is PRIVATE), present)


def test_prepared_pairs_come_into_force_without_being_loaded_again() -> None:
    change = difference.delta(observed(PREPARED, trapped=False), PRIVATE)
    assert change == difference.Delta(
        write={render.conf_file(DATA): PRIVATE[render.conf_file(DATA)]}, route=PAIRS
    )


def test_what_keeps_the_policy_of_its_sa_anyway_is_not_routed() -> None:
    """4.x puts a trap where an SA was, whatever auto= says."""
    change = difference.delta(observed(PREPARED, h2=True, h3=False, h4=True), PRIVATE)
    assert (change.route, change.add) == ((pair(3),), ())


@pytest.mark.parametrize(("present", "wanted"), [(PRIVATE, RELAXED), (RELAXED, PRIVATE), (PRIVATE, PREPARED)])
def test_other_changes_of_the_state_load_again(present: dict[str, str], wanted: dict[str, str]) -> None:
    change = difference.delta(observed(present), wanted)
    assert (change.add, change.route, change.terminate, change.delete) == (PAIRS, (), (), ())
    assert (change.listen, change.service) == (False, "none")


# One pair among others.


def test_pair_that_comes() -> None:
    present = files(mesh(2, 4), "private")
    assert difference.delta(observed(present), PRIVATE) == difference.Delta(
        write={render.conf_file(DATA): PRIVATE[render.conf_file(DATA)]}, add=(pair(3),)
    )


def test_pair_that_goes() -> None:
    wanted = files(mesh(2, 4), "private")
    assert difference.delta(observed(PRIVATE), wanted) == difference.Delta(
        write={render.conf_file(DATA): wanted[render.conf_file(DATA)]}, delete=(pair(3),)
    )


def test_pair_that_changes() -> None:
    moved = tuple(replace(p, address="10.88.0.33") if p.member == "h3" else p for p in SETTINGS.peers)
    change = difference.delta(observed(PRIVATE), files(replace(SETTINGS, peers=moved), "private"))
    assert (change.add, change.delete, change.terminate, change.route) == ((pair(3),), (), (), ())


@pytest.mark.parametrize(
    ("was", "has_become"),
    [
        ("\tauto=ondemand\n", ""),
        ("\tauto=ondemand\n", "\t# nobody knows why\n\tauto=ondemand\n"),
        ("\tauto=ondemand\n", "\tauto"),
        ("conn ", "connection "),
    ],
    ids=["line gone", "comment", "cut off", "no section"],
)
def test_file_that_somebody_edited_is_put_right(was: str, has_become: str) -> None:
    path = render.conf_file(DATA)
    edited = {**PRIVATE, path: PRIVATE[path].replace(was, has_become)}
    present = replace(observed(PRIVATE), files=edited)
    assert difference.delta(present, PRIVATE).write == {path: PRIVATE[path]}


def test_pair_that_is_opened_alone() -> None:
    enforcement = {**states(SETTINGS, "private"), pair(3): "private-or-clear"}
    change = difference.delta(observed(PRIVATE), render.files(SETTINGS, V4, enforcement))
    assert (change.add, change.delete, change.terminate, change.route) == ((pair(3),), (), (), ())


def test_pair_that_pluto_lost() -> None:
    lost = replace(observed(PRIVATE), loaded=Loaded({pair(2): True, pair(4): True}))
    assert difference.delta(lost, PRIVATE) == difference.Delta(add=(pair(3),))


def test_pair_whose_policy_is_gone() -> None:
    assert difference.delta(observed(PRIVATE, h3=False), PRIVATE) == difference.Delta(route=(pair(3),))


def test_exception_in_a_mesh_ends_no_sas() -> None:
    """It has ports, and pluto lets it stand in front of a pair."""
    wider = replace(SETTINGS, networks=(replace(DATA, clear=("10.88.0.0/24 tcp 0 22",)),))
    change = difference.delta(observed(PRIVATE), files(wider, "private"))
    assert (change.add, change.exceptions) == (("underlay-data-clear-10.88.0.0-24-tcp-0-22",), {})


def test_absent_unloads_all_pairs() -> None:
    change = difference.delta(observed({**PRIVATE, **KEYS}), {}, serve=False)
    assert (change.delete, set(change.remove)) == (PAIRS, {*PRIVATE, *KEYS})
    assert (change.secrets, change.service) == (True, "none")


# Journal, keys, certificates.


def test_journal_makes_the_next_run_load_its_pairs_and_all_keys() -> None:
    unfinished = observed({**PRIVATE, **KEYS}, journal=difference.Journal(frozenset({pair(3)})))
    change = difference.delta(unfinished, {**PRIVATE, **KEYS})
    assert (change.add, change.secrets, change.listen, change.restart) == ((pair(3),), True, True, False)


def test_journal_of_a_change_without_keys_has_none_read() -> None:
    """Reading them is a danger where certificates are in use, see `difference.first_keys`."""
    unfinished = observed(PRIVATE, journal=difference.Journal(frozenset({pair(3)}), secrets=False))
    assert not difference.delta(unfinished, PRIVATE).secrets


@pytest.mark.parametrize("secrets", [True, False])
def test_journal_says_whether_keys_were_to_be_read(secrets: bool, tmp_path: Path) -> None:
    change = replace(difference.delta(observed({}), PRIVATE), secrets=secrets)
    with pytest.raises(CommandError):
        applied(change, tmp_path, fail="systemctl restart")
    journal = apply.observe(Host(), tmp_path).journal
    assert journal is not None
    assert journal.secrets is secrets


def test_first_keys_are_read_before_anything_is_replaced(tmp_path: Path) -> None:
    change = difference.first_keys(observed(PREPARED), KEYS)
    assert change == difference.Delta(KEYS, secrets=True)
    host = applied(change, tmp_path)
    assert host.changes == ["ipsec whack --rereadsecrets"]
    assert not (tmp_path / apply.JOURNAL.lstrip("/")).exists()


@pytest.mark.parametrize(
    "before",
    [
        pytest.param(observed({**PREPARED, **KEYS}), id="they are there"),
        pytest.param(replace(observed(PREPARED), loaded=None), id="pluto reads them when it starts"),
        pytest.param(observed(PREPARED, journal=difference.Journal()), id="an unfinished run comes first"),
    ],
)
def test_first_keys_that_nobody_waits_for(before: difference.Observed) -> None:
    assert not difference.first_keys(before, KEYS)


@pytest.mark.parametrize(
    ("present", "wanted"), [({}, KEYS), (KEYS, OTHER_KEYS), (KEYS, {})], ids=["first", "other", "none"]
)
def test_other_keys_touch_no_connection(present: dict[str, str], wanted: dict[str, str]) -> None:
    change = difference.delta(observed({**PRIVATE, **present}), {**PRIVATE, **wanted})
    assert change == difference.Delta(
        write=wanted if wanted else {}, remove=() if wanted else tuple(present), secrets=True
    )


def test_the_same_keys_are_not_read_again() -> None:
    change = difference.delta(observed({**PREPARED, **KEYS}, trapped=False), {**PRIVATE, **KEYS})
    assert (change.secrets, change.route) == (False, PAIRS)


def test_another_certificate_is_read_without_ending_sas() -> None:
    renewed = replace(observed(PRIVATE), renewed=frozenset({CERTIFICATE}))
    assert difference.delta(renewed, PRIVATE) == difference.Delta(certificates=True, authorities=True)


def test_another_ca_ends_and_loads_nothing() -> None:
    renewed = replace(observed(PRIVATE), renewed=frozenset({AUTHORITY}))
    assert difference.delta(renewed, PRIVATE) == difference.Delta(authorities=True)


def test_certificate_is_not_read_again_without_need() -> None:
    assert not difference.delta(observed(PREPARED, trapped=False), PRIVATE).certificates


@pytest.mark.parametrize("present", [{}, KEYS, OTHER_KEYS])
def test_diff_holds_no_key(present: dict[str, str]) -> None:
    before = observed({**PREPARED, **present}, trapped=False)
    change = difference.delta(before, {**PRIVATE, **KEYS})
    text = json.dumps(difference.file_diff(before.files, change))
    assert SECRET not in text
    assert "b3RoZXI=" not in text
    assert (render.SECRETS_FILE in text) is (present is not KEYS)


def test_diff_names_what_becomes_of_pairs() -> None:
    before = observed(PREPARED, h2=True, h3=False, h4=True)
    live = difference.file_diff(before.files, difference.delta(before, {**PRIVATE, **OTHER_KEYS}))[-1]
    assert live["after"].splitlines() == [f"route {pair(3)}", f"load other keys from {render.SECRETS_FILE}"]


def test_journal_holds_no_key(tmp_path: Path) -> None:
    change = difference.delta(observed({}), {**PRIVATE, **KEYS})
    with pytest.raises(CommandError):
        applied(change, tmp_path, fail="systemctl restart")
    text = (tmp_path / apply.JOURNAL.lstrip("/")).read_text(encoding="utf-8")
    assert SECRET not in text
    assert set(json.loads(text)["connections"]) == set(PAIRS)


def test_keys_are_for_root_only_and_in_no_command(tmp_path: Path) -> None:
    host = applied(difference.delta(observed(PRIVATE), {**PRIVATE, **KEYS}), tmp_path)
    path = tmp_path / render.SECRETS_FILE.lstrip("/")
    assert (mode(path), path.read_text(encoding="utf-8")) == (0o600, KEYS[render.SECRETS_FILE])
    assert mode(tmp_path / render.conf_file(DATA).lstrip("/")) == 0o644
    assert host.changes == ["ipsec whack --rereadsecrets"]
    applied(difference.delta(observed({**PRIVATE, **KEYS}), {**PRIVATE, **OTHER_KEYS}), tmp_path)
    assert mode(path) == 0o600


def test_keys_that_are_not_needed_any_more_go(tmp_path: Path) -> None:
    applied(difference.Delta(KEYS), tmp_path)
    host = applied(difference.delta(observed({**PRIVATE, **KEYS}), PRIVATE), tmp_path)
    assert not (tmp_path / render.SECRETS_FILE.lstrip("/")).exists()
    assert host.changes == ["ipsec whack --rereadsecrets"]


def test_keys_are_seen_as_the_collections_own(tmp_path: Path) -> None:
    applied(difference.Delta(KEYS), tmp_path)
    assert apply.observe(Host(), tmp_path).files == {**PRIVATE, **KEYS}


def test_keys_are_not_validated_in_a_file_of_their_own() -> None:
    host = Host()
    apply.validate(host, {**PRIVATE, **KEYS})
    assert [SECRET in text for text in host.batches] == [False]


# What pluto has loaded.

SAMPLES = Path(__file__).parent / "samples"


@pytest.mark.parametrize("version", ["4.10", "5.2"])
def test_loaded_is_read_alike_from_both_generations(version: str) -> None:
    status, showstates = (
        (SAMPLES / f"mesh-{name}-{version}.txt").read_text(encoding="utf-8")
        for name in ("status", "showstates")
    )
    loaded = parse(status, showstates)
    assert loaded.routed == {
        "underlay-data+h1+h2": True,
        "underlay-data-clear-10.88.0.0-24-tcp-0-22": True,
        "underlay-data-clear-10.88.0.0-24-tcp-22-0": True,
        "underlay-six+h1+h2": True,
    }
    assert loaded.connections == set(loaded.routed)
    assert loaded.established == {"underlay-data+h1+h2", "underlay-six+h1+h2"}


def test_policy_of_a_pair_counts_only_if_it_outlives_its_sa() -> None:
    """5.2, before the pair is in force: the SA has a policy, and takes it along."""
    status = f"""\
"{pair(2)}": 10.88.0.1[@h1]...10.88.0.2[@h2]; routed-tunnel; my_ip=unset; their_ip=unset;
"{pair(2)}":   policy: IKEv2+ECDSA+ENCRYPT+TRANSPORT+PFS+IKE_FRAG_ALLOW+ESN_NO+ESN_YES;
"""
    loaded = parse(status, "")
    assert loaded.routed == {pair(2): False}
    converged = replace(observed(files(mesh(2), "private")), loaded=loaded)
    assert difference.delta(converged, files(mesh(2), "private")).route == (pair(2),)


# The batch.


def test_pairs_are_loaded_in_one_process_however_many_they_are(tmp_path: Path) -> None:
    many = files(mesh(*range(2, 102)), "private")
    host = Host()
    apply.apply(difference.delta(observed(PRIVATE), many), host, tmp_path)
    assert host.changes == ["ipsec addconn --config FILE --autoall"]
    assert len(connections_of(host.batches[0])) == 97


def test_pairs_are_unloaded_and_routed_in_one_process_each(tmp_path: Path) -> None:
    host = applied(
        difference.delta(observed(PREPARED, trapped=False), files(mesh(3, 4), "private")), tmp_path
    )
    assert host.changes == [
        f"ipsec whack --name {pair(2)} --delete",
        "ipsec --directory",
        "xargs --null -n 1 /whack --route --name",
    ]


def test_order_of_a_change_with_everything(tmp_path: Path) -> None:
    clear = replace(SETTINGS, networks=(replace(DATA, clear=("10.88.0.0/24 tcp 0 22",)),))
    wanted = {**files(replace(clear, peers=SETTINGS.peers[:2]), "private"), **KEYS}
    change = difference.delta(observed({**files(mesh(2, 4), "prepared")}, trapped=False), wanted)
    host = applied(replace(change, certificates=True, authorities=True), tmp_path)
    assert host.changes == [
        f"ipsec whack --name {pair(4)} --delete",
        "ipsec whack --rereadsecrets",
        "ipsec whack --rereadcerts",
        "ipsec whack --impair trigger:EVENT_FREE_ROOT_CERTS",
        "ipsec addconn --config FILE --autoall",
        f"ipsec whack --name {pair(2)} --route",
    ]
    assert list(connections_of(host.batches[0])) == [
        pair(3),
        "underlay-data-clear-10.88.0.0-24-tcp-0-22",
    ]


@pytest.mark.parametrize(
    ("begin", "state", "auto"),
    [
        (True, "prepared", "add"),
        (False, "prepared", "add"),
        (True, "private-or-clear", "add"),
        (True, "private", "ondemand"),
        (False, "private", "ondemand"),
    ],
)
def test_loading_begins_no_negotiation(tmp_path: Path, begin: bool, state: str, auto: str) -> None:
    """The peer may not have loaded the pair yet."""
    number = first(begin=begin)
    wanted = files(mesh(number), state)
    host = Host()
    apply.apply(difference.delta(observed(files(mesh(), state)), wanted), host, tmp_path)
    (loaded,) = connections_of(host.batches[0]).values()
    written = connections_of(wanted[render.conf_file(DATA)])[pair(number)]
    assert loaded.values == {**written.values, "auto": auto}


def test_pair_that_pluto_does_not_load_is_an_error(tmp_path: Path) -> None:
    host = Host(pair(3))
    with pytest.raises(IpsecError, match=re.escape(f"pluto did not load {pair(3)}: 037 unknown algorithm")):
        applied(difference.delta(observed(files(mesh(), "private")), PRIVATE), tmp_path, host)
    again = difference.delta(apply.observe(host, tmp_path), PRIVATE)
    assert set(again.add) == set(PAIRS)


def test_started_pluto_is_waited_for_until_it_has_loaded_all_pairs(tmp_path: Path) -> None:
    host = Host()
    fresh = difference.Observed({}, None, enabled=False, journal=None)

    def load(_seconds: float) -> None:
        host.loaded += PAIRS

    apply.apply(difference.delta(fresh, PRIVATE), host, tmp_path, wait=load)
    assert set(host.loaded) == set(PAIRS)
    assert not (tmp_path / apply.JOURNAL.lstrip("/")).exists()


# What is in force after a run.

SOME = {**states(SETTINGS, "prepared"), pair(3): "private"}


@pytest.mark.parametrize(
    ("present", "target", "stage", "expected"),
    [
        ({}, "private", "prepare", states(SETTINGS, "prepared")),
        ({}, "private", "enforce", states(SETTINGS, "private")),
        (PREPARED, "private", "prepare", states(SETTINGS, "prepared")),
        (RELAXED, "private", "prepare", states(SETTINGS, "prepared")),
        (PRIVATE, "private", "prepare", states(SETTINGS, "private")),
        (render.files(SETTINGS, V4, SOME), "private", "prepare", SOME),
        (render.files(SETTINGS, V4, SOME), "private", "enforce", states(SETTINGS, "private")),
        (files(mesh(3), "private"), "private", "prepare", SOME),
        (PRIVATE, "private-or-clear", "prepare", states(SETTINGS, "private-or-clear")),
        (PRIVATE, "clear", "prepare", {}),
        ({}, "clear", "enforce", {}),
    ],
)
def test_prepare_never_tightens_and_never_reopens_a_pair(
    present: dict[str, str], target: str, stage: str, expected: dict[str, str]
) -> None:
    assert enforcement(SETTINGS, observed(present), target, stage) == expected


TWO = mesh(2, networks=(DATA, SIX))
TWO_GROUPS = replace(TWO, topology="opportunistic", peers=())
LONGER = replace(DATA, name="data2", cidr="10.89.0.0/24", address="10.89.0.1", private=("10.89.0.0/24",))


@pytest.mark.parametrize(
    ("settings", "present", "target", "expected"),
    [
        (SETTINGS, {}, "private", set()),
        (SETTINGS, PRIVATE, "private", set()),
        (SETTINGS, OPEN_GROUPS, "private", set()),
        (SETTINGS, GROUPS, "private", {"data"}),
        (SETTINGS, GROUPS, "private-or-clear", set()),
        (SETTINGS, GROUPS, "clear", set()),
        (OPPORTUNISTIC, GROUPS, "private", set()),
        (OPPORTUNISTIC, PREPARED, "private", set()),
        (OPPORTUNISTIC, PRIVATE, "private", {"data"}),
        (OPPORTUNISTIC, PRIVATE, "private-or-clear", set()),
        (
            TWO,
            render.files(TWO_GROUPS, V4, {"data": "private-or-clear", "six": "private"}),
            "private",
            {"six"},
        ),
        (TWO_GROUPS, render.files(TWO, V4, {pair(2): "private"}), "private", {"data"}),
        (OPPORTUNISTIC, files(mesh(2, networks=(LONGER,)), "private"), "private", set()),
    ],
)
def test_network_on_which_the_other_topology_enforces_switches(
    settings: render.Settings, present: dict[str, str], target: str, expected: set[str]
) -> None:
    assert switching(settings, observed(present), target) == expected


def behind_nat(state: str) -> dict[str, str]:
    """Return the files of a mesh whose member h2 is behind NAT."""
    settings = mesh(2, 3)
    nat = tuple(replace(p, nat_address="10.88.0.50") if p.member == "h2" else p for p in settings.peers)
    return files(replace(settings, peers=nat), state)


BARRIER = "underlay-data-nat-10.88.0.50"


def test_nat_address_is_barred_when_the_pair_comes_into_force_and_opened_with_it() -> None:
    tighter = difference.delta(observed(behind_nat("prepared"), trapped=False), behind_nat("private"))
    assert (tighter.add, tighter.delete) == ((BARRIER,), ())
    wider = difference.delta(observed(behind_nat("private")), behind_nat("private-or-clear"))
    assert wider.delete == (BARRIER,)


def test_barrier_that_the_kernel_lacks_is_routed_again() -> None:
    present = behind_nat("private")
    assert not difference.delta(observed(present), present)
    assert set(difference.delta(observed(present, trapped=False), present).route) == {
        BARRIER,
        pair(2),
        pair(3),
    }


def test_barrier_is_loaded_in_the_batch(tmp_path: Path) -> None:
    host = Host(loaded=[pair(2), pair(3)])
    (tmp_path / "etc/ipsec.d").mkdir(parents=True)
    apply.apply(difference.Delta(behind_nat("private"), add=(BARRIER,)), host, tmp_path)
    assert [list(connections_of(batch)) for batch in host.batches] == [[BARRIER]]
    assert not [command for command in host.changes if "--route" in command]


def test_files_of_a_network_that_waits_for_its_switch() -> None:
    groups = render.files(TWO_GROUPS, V4, {"data": "private", "six": "private"})
    kept = files_of(observed({**groups, **KEYS}), [DATA])
    paths = {render.conf_file(DATA), *(render.policy_file(DATA, group) for group in render.GROUPS)}
    assert kept == {**{path: groups[path] for path in paths}, **KEYS}
    pairs = files(TWO, "private")
    path = render.conf_file(SIX)
    assert files_of(observed(pairs), [SIX]) == {path: pairs[path]}
