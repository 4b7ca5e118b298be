"""Processes are recorded from their first moment on, and recognised for certain."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from ansible_collections.underlay.ipsec.molecule.lab.labkit import process
from ansible_collections.underlay.ipsec.molecule.lab.labkit.errors import LabError
from ansible_collections.underlay.ipsec.molecule.lab.labkit.process import Process


@pytest.fixture
def spawned(tmp_path: Path) -> Iterator[Process]:
    record = tmp_path / "process"
    process.spawn(["sleep", "60"], record=record, output=tmp_path / "log", cwd=tmp_path)
    deadline = time.monotonic() + 5
    while (found := Process.recorded(record)) is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    yield found
    process.kill_all(lambda pid: process.session(pid) == found.pid)
    assert not found.alive()


def test_a_spawned_process_lives_in_its_own_session(spawned: Process) -> None:
    assert spawned.alive()
    assert process.session(spawned.pid) == spawned.pid != process.session(os.getpid())


def test_another_process_with_that_pid_is_not_it(spawned: Process) -> None:
    assert not replace(spawned, start_ticks=spawned.start_ticks + 1).alive()


def test_after_a_restart_of_the_machine_nothing_is_alive(spawned: Process) -> None:
    assert not replace(spawned, boot_id="another").alive()


@pytest.mark.parametrize("content", [None, "", "half a line"])
def test_no_record(tmp_path: Path, content: str | None) -> None:
    record = tmp_path / "process"
    if content is not None:
        record.write_text(content)
    assert Process.recorded(record) is None


def test_a_failed_command_carries_what_it_said() -> None:
    with pytest.raises(LabError, match=r"command failed \(3\): sh .*\nno such thing"):
        process.run(["sh", "-c", "echo no such thing >&2; exit 3"])


def test_a_command_that_is_not_there() -> None:
    with pytest.raises(LabError, match="no-such-command is not installed"):
        process.run(["no-such-command"])


def test_a_command_that_does_not_end() -> None:
    with pytest.raises(LabError, match="sleep did not end within 0 s"):
        process.run(["sleep", "60"], timeout=0.1)
