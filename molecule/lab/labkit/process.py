"""Commands, and long-lived processes that are only ever ended by proven identity."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .errors import LabError

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def run(
    argv: Sequence[str | Path],
    *,
    stdin: str | None = None,
    check: bool = True,
    timeout: float | None = None,
    env: Mapping[str, str] | None = None,
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
            boot_id, stat = record.read_text().splitlines()
        except (FileNotFoundError, ValueError):
            return None
        return cls(int(stat.split()[0]), _start_ticks(stat), boot_id)

    def alive(self) -> bool:
        """Whether exactly this process still runs; a zombie does not."""
        if self.boot_id != _boot_id():
            return False
        stat = _stat(self.pid)
        return stat is not None and stat[1] == self.start_ticks and stat[0] not in "ZX"

    def kill(self) -> None:
        """SIGKILL, through a pidfd: the check and the signal hit the same process."""
        try:
            handle = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return
        try:
            if self.alive():
                signal.pidfd_send_signal(handle, signal.SIGKILL)
        except ProcessLookupError:
            pass
        finally:
            os.close(handle)
        self.wait_gone()

    def wait_gone(self, timeout: float = 10.0) -> None:
        deadline = time.monotonic() + timeout
        while self.alive():
            if time.monotonic() > deadline:
                raise LabError(f"process {self.pid} does not end")
            time.sleep(0.02)


def _boot_id() -> str:
    return _BOOT_ID.read_text().strip()


def _stat(pid: int) -> tuple[str, int] | None:
    """State letter and start time of a process; None if there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return _after_name(text)[0], _start_ticks(text)


def _start_ticks(stat: str) -> int:
    return int(_after_name(stat)[19])


def _after_name(stat: str) -> list[str]:
    """The fields after the name, which may itself hold spaces and parentheses."""
    return stat.rpartition(")")[2].split()
