"""Packet captures on a bridge: what really is on the wire between the hosts."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from . import plan
from .errors import LabError
from .network import Namespace

_START_SECONDS = 15
# Frames still on their way through the bridge when the command ends.
_SETTLE_SECONDS = 0.3


def capture(
    namespace: Namespace,
    network: str,
    out: Path,
    *,
    seconds: float,
    expression: str = "",
    command: Sequence[str] = (),
) -> int:
    """Write a pcap of a network while a command runs, or for a number of seconds.

    The command's exit code is returned; it is ended when the seconds are over (124).
    """
    argv = [
        *namespace.enter(), "tcpdump", "-i", plan.bridge(network), "-n", "-U",
        "--immediate-mode", "-B", "16384", "-Z", "root", "-w", str(out),
        *([expression] if expression else []),
    ]  # fmt: skip
    log_read, log_write = os.pipe()
    with (
        os.fdopen(log_read, "rb") as log,
        subprocess.Popen(argv, stdin=subprocess.DEVNULL, stderr=log_write) as tcpdump,
    ):
        os.close(log_write)
        try:
            _wait_until_capturing(tcpdump, log.fileno())
            code = _during(command, seconds)
            time.sleep(_SETTLE_SECONDS)
        finally:
            tcpdump.send_signal(signal.SIGINT)
            try:
                tcpdump.wait(_START_SECONDS)
            except subprocess.TimeoutExpired:
                tcpdump.kill()
    return code


def _wait_until_capturing(tcpdump: subprocess.Popen[bytes], log: int) -> None:
    os.set_blocking(log, False)
    said = b""
    deadline = time.monotonic() + _START_SECONDS
    while b"listening on" not in said:
        if tcpdump.poll() is not None or time.monotonic() > deadline:
            raise LabError(f"tcpdump does not capture: {said.decode(errors='replace').strip()}")
        time.sleep(0.02)
        try:
            said += os.read(log, 4096)
        except BlockingIOError:
            continue


def _during(command: Sequence[str], seconds: float) -> int:
    if not command:
        time.sleep(seconds)
        return 0
    try:
        return subprocess.run(list(command), timeout=seconds, check=False).returncode
    except subprocess.TimeoutExpired:
        return 124
    except OSError as error:
        raise LabError(f"cannot run {command[0]}: {error}") from error
