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
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan import apply, render
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan.dialect import Dialect
from ansible_collections.underlay.ipsec.plugins.module_utils._run import Completed

V4 = Dialect(4, 10)
NETWORK = render.Network(
    "data", 4, "10.88.0.11", "transport", "auto", private=("10.88.0.0/24",), clear=("10.88.0.1/32",)
)
SETTINGS = render.Settings("underlay-h1", "ecdsa", "aes_gcm256-sha2_384-dh20", "aes_gcm256", (NETWORK,))
NAMES = tuple(connection.name for connection in render.connections(SETTINGS, V4))
PRIVATE = render.files(SETTINGS, V4, {"data": "private"})
RELAXED = render.files(SETTINGS, V4, {"data": "private-or-clear"})
CONVERGED = apply.Observed(PRIVATE, frozenset(NAMES), enabled=True, journal=None)


class Host:
    """Plays a host: remembers commands, answers some."""

    def __init__(self, loaded: Sequence[str] = NAMES, fail: str = "") -> None:
        self.commands: list[str] = []
        self.loaded = loaded
        self.fail = fail

    def __call__(
        self, argv: Sequence[str], *, stdin: str | None = None, check: bool = True, timeout: float = 1.0
    ) -> Completed:
        command = " ".join(argv)
        self.commands.append(command)
        if self.fail and self.fail in command:
            raise CommandError(argv, 1, "", "refused")
        out = ""
        if command == "ipsec whack --status":
            out = "".join(f'000 "{name}": 10.88.0.11...%group; unrouted\n' for name in self.loaded)
        if command == "ipsec addconn --configsetup":
            out = "export uniqueids='no'\n"
        return Completed(tuple(argv), 0, out, "")


def test_nothing_to_do_on_a_converged_host() -> None:
    assert not apply.delta(CONVERGED, PRIVATE)


def test_fresh_host_is_started_and_enabled() -> None:
    change = apply.delta(apply.Observed({}, None, enabled=False, journal=None), RELAXED)
    assert (change.start, change.enable, change.restart, dict(change.write)) == (True, True, False, RELAXED)


def test_running_daemon_without_our_setup_is_restarted_and_says_so() -> None:
    change = apply.delta(apply.Observed({}, frozenset(), enabled=True, journal=None), RELAXED)
    assert (change.restart, change.service) == (True, "restarted")


def test_policy_change_only_rereads_the_policy_files() -> None:
    change = apply.delta(CONVERGED, RELAXED)
    assert (change.add, change.delete, change.listen, change.restart) == ((), (), True, False)
    assert all(path.startswith(render.POLICY_DIR) for path in change.write)


def test_changed_connection_is_the_only_one_replaced() -> None:
    wanted = {path: text.replace("failureshunt=drop", "failureshunt=none") for path, text in PRIVATE.items()}
    assert apply.delta(CONVERGED, wanted).add == ("underlay-data-private",)


@pytest.mark.parametrize(
    ("loaded", "add", "delete"),
    [
        (frozenset(NAMES[1:]), NAMES[:1], ()),
        (frozenset({*NAMES, "underlay-old-clear"}), (), ("underlay-old-clear",)),
        (frozenset({*NAMES, "somebody-elses"}), (), ()),
    ],
)
def test_what_is_loaded_counts_not_what_is_written(
    loaded: frozenset[str], add: tuple[str, ...], delete: tuple[str, ...]
) -> None:
    change = apply.delta(replace(CONVERGED, loaded=loaded), PRIVATE)
    assert (change.add, change.delete) == (add, delete)


def test_journal_makes_the_next_run_redo_the_unfinished_part() -> None:
    unfinished = replace(CONVERGED, journal=apply.Journal(frozenset(NAMES[:1]), restart=False))
    change = apply.delta(unfinished, PRIVATE)
    assert (change.add, change.listen, change.restart) == (NAMES[:1], True, False)


def test_absent_unloads_ours_and_leaves_the_service_alone() -> None:
    loaded = frozenset({*NAMES, "somebody-elses"})
    change = apply.delta(replace(CONVERGED, loaded=loaded), {}, serve=False)
    assert (change.delete, set(change.remove)) == (tuple(sorted(NAMES)), set(PRIVATE))
    assert (change.start, change.enable, change.restart) == (False, False, False)


@pytest.mark.parametrize(
    ("files", "target", "stage", "expected"),
    [
        ({}, "private", "prepare", "private-or-clear"),
        ({}, "private", "enforce", "private"),
        (RELAXED, "private", "prepare", "private-or-clear"),
        (PRIVATE, "private", "prepare", "private"),
        (PRIVATE, "private-or-clear", "prepare", "private-or-clear"),
        ({}, "clear", "prepare", "clear"),
    ],
)
def test_prepare_never_tightens_and_never_reopens(
    files: dict[str, str], target: str, stage: str, expected: str
) -> None:
    observed = replace(CONVERGED, files=files)
    assert apply.enforcement(SETTINGS, observed, target, stage) == {"data": expected}


def test_apply_live_in_one_batch_and_without_a_restart(tmp_path: Path) -> None:
    host = Host()
    change = apply.delta(apply.Observed({}, frozenset({"x"}), enabled=True, journal=None), PRIVATE)
    apply.apply(replace(change, restart=False), host, tmp_path)
    assert host.commands == [
        f"ipsec addconn {' '.join(NAMES)}",
        *(f"ipsec whack --name {name} --route" for name in NAMES),
        "ipsec whack --listen",
    ]
    assert apply.observe(host, tmp_path) == replace(CONVERGED, loaded=frozenset(NAMES))


def test_interrupted_apply_is_taken_up_by_the_next_run(tmp_path: Path) -> None:
    change = apply.delta(CONVERGED, RELAXED)
    with pytest.raises(CommandError):
        apply.apply(change, Host(fail="--listen"), tmp_path)
    again = apply.delta(apply.observe(Host(), tmp_path), RELAXED)
    assert again.listen


def test_setup_that_libreswan_ignores_is_an_error(tmp_path: Path) -> None:
    class Stubborn(Host):
        def __call__(self, argv: Sequence[str], **kwargs: object) -> Completed:  # type: ignore[override]
            done = super().__call__(argv)
            return replace(done, stdout=done.stdout.replace("'no'", "'yes'"))

    change = apply.delta(apply.Observed({}, None, enabled=False, journal=None), RELAXED)
    with pytest.raises(ProblemsError, match=r"/etc/ipsec\.conf"):
        apply.apply(change, Stubborn(), tmp_path)


def test_foreign_files_are_not_seen(tmp_path: Path) -> None:
    folder = tmp_path / "etc/ipsec.d/policies"
    folder.mkdir(parents=True)
    (folder / "private").write_text("10.0.0.0/8\n")
    (folder.parent / "other.conf").write_text("conn other\n")
    assert apply.observe(Host(), tmp_path).files == {}
