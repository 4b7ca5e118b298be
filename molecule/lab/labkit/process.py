"""Commands, and long-lived processes that are only ever ended by proven identity."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .errors import LabError

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


# A build dies with us, and its mounts with it: a private mount and process namespace,
# whose first process is killed when we are.
CONTAINED = (
    "setpriv", "--pdeathsig", "KILL", "--",
    "unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--",
)  # fmt: skip


def run(
    argv: Sequence[str | Path],
    *,
    stdin: str | None = None,
    check: bool = True,
    timeout: float | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; a failure carries what it printed."""
    try:
        result = subprocess.run(
            [str(word) for word in argv],
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            timeout=timeout,
            env=env,
            cwd=cwd,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise LabError(f"{argv[0]} did not end within {timeout:.0f} s") from error
    except FileNotFoundError as error:
        raise LabError(f"{argv[0]} is not installed") from error
    if check and result.returncode != 0:
        output = (result.stderr + result.stdout).strip()
        words = " ".join(str(word) for word in argv)
        raise LabError(f"command failed ({result.returncode}): {words}\n{output[-2000:]}")
    return result


# The process records itself before it becomes the real command: there is no moment
# in which it runs unrecorded, not even when the lab is killed right after the fork.
_RECORD_AND_BECOME = """
read -r boot </proc/sys/kernel/random/boot_id
read -r stat </proc/$$/stat
printf '%s\\n%s\\n' "$boot" "$stat" >"$0"
exec "$@"
"""


def spawn(argv: Sequence[str], *, record: Path, output: Path, cwd: Path) -> None:
    """Start a process that outlives us, in a session of its own."""
    with output.open("wb") as log:
        subprocess.Popen(
            ["/bin/sh", "-c", _RECORD_AND_BECOME, str(record), *argv],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=cwd,
            start_new_session=True,
        )


@dataclass(frozen=True)
class Process:
    """A process that this lab started, in a way that survives pid reuse and reboots."""

    pid: int
    start_ticks: int
    boot_id: str

    @classmethod
    def recorded(cls, record: Path) -> Process | None:
        """What `spawn` left; None if nothing was ever started."""
        try:
            boot_id, line = record.read_text().splitlines()
        except (FileNotFoundError, ValueError):
            return None
        stat = _Stat.parse(line)
        return cls(stat.pid, stat.start_ticks, boot_id)

    def alive(self) -> bool:
        """Whether exactly this process still runs; a zombie does not."""
        if self.boot_id != _boot_id():
            return False
        stat = _stat(self.pid)
        return stat is not None and stat.start_ticks == self.start_ticks and stat.runs


def kill_all(chosen: Callable[[int], bool], seconds: float = 10.0) -> None:
    """SIGKILL every process for which `chosen` holds, until there is none left.

    Through a pidfd, and asked again once that is open: the process that is judged
    is the one that gets the signal, even when pids are reused meanwhile.
    """
    deadline = time.monotonic() + seconds
    while found := [pid for pid in _pids() if chosen(pid)]:
        if time.monotonic() > deadline:
            raise LabError(f"these processes do not end: {found}")
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                handle = os.pidfd_open(pid)
                try:
                    if chosen(pid):
                        signal.pidfd_send_signal(handle, signal.SIGKILL)
                finally:
                    os.close(handle)
        time.sleep(0.02)


def session(pid: int) -> int | None:
    """The session that a process runs in: what `spawn` starts is a session's leader."""
    stat = _stat(pid)
    return stat.session if stat and stat.runs else None


def command_lines() -> Iterator[list[str]]:
    """The words that each process of this machine was started with."""
    for pid in _pids():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
            yield Path(f"/proc/{pid}/cmdline").read_text(errors="replace").split("\0")


def _boot_id() -> str:
    return _BOOT_ID.read_text().strip()


def _pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


@dataclass(frozen=True)
class _Stat:
    """The fields of /proc/PID/stat that matter here."""

    pid: int
    state: str
    session: int
    start_ticks: int

    @property
    def runs(self) -> bool:
        """A zombie does not: it only waits for its parent to look."""
        return self.state not in "ZX"

    @classmethod
    def parse(cls, line: str) -> _Stat:
        # The name between them may itself hold spaces and parentheses.
        before, _, after = line.rpartition(")")
        fields = after.split()
        return cls(int(before.split()[0]), fields[0], int(fields[3]), int(fields[19]))


def _stat(pid: int) -> _Stat | None:
    try:
        return _Stat.parse(Path(f"/proc/{pid}/stat").read_text())
    except (FileNotFoundError, ProcessLookupError):
        return None
