"""The life of one host: its disk, its process, and whether it is ready."""

from __future__ import annotations

import re
import time
from pathlib import Path

from . import plan, process, store, uml
from .errors import LabError
from .image import Image
from .network import Namespace
from .process import Process

# What the image's units lab-ready and lab-identity write on the console.
_READY = b"lab: ready"
_FAILED = b"lab: failed"
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_BOOT_SECONDS = 180


class Guest:
    """A host's machine under `folder`; the disk lives as long as the lab."""

    def __init__(self, folder: Path, namespace: Namespace) -> None:
        self.folder = folder
        self.console = folder / "console.log"
        self._record = folder / "process"
        self._namespace = namespace

    @property
    def name(self) -> str:
        return self.folder.name

    def exists(self) -> bool:
        return self.folder.is_dir()

    def process(self) -> Process | None:
        """The running process, if there is one."""
        recorded = Process.recorded(self._record)
        return recorded if recorded and recorded.alive() else None

    def start(self, machine: plan.Machine, image: Image, public_key: str) -> None:
        """Boot; a host that was off finds its disk as it left it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        # A host that ended by itself may have left something that holds its disk.
        self.kill()
        self._record.unlink(missing_ok=True)
        self._namespace.ensure_taps(machine)
        with store.locked("processors"):
            argv = uml.command(machine, image, self.folder, public_key)
            process.spawn(
                [*self._namespace.enter(), *argv],
                record=self._record,
                output=self.console,
                cwd=self.folder,
            )

    def boots(self) -> int:
        """How often the host became ready since it was started."""
        return self._said().count(_READY)

    def wait_ready(self, boots: int = 1) -> None:
        """Wait for the console to say so: unlike probing, that costs the host nothing."""
        deadline = time.monotonic() + _BOOT_SECONDS
        while self.boots() < boots:
            time.sleep(0.1)
            recorded = Process.recorded(self._record)
            if recorded and not recorded.alive():
                raise LabError(f"host {self.name} ended while booting\n{self._tail()}")
            if _FAILED in self._said():
                raise LabError(f"host {self.name} could not set itself up\n{self._tail()}")
            if time.monotonic() > deadline:
                raise LabError(f"host {self.name} not ready in {_BOOT_SECONDS} s\n{self._tail()}")

    def kill(self) -> None:
        """Power loss."""
        if recorded := Process.recorded(self._record):
            self._namespace.kill_session(recorded.pid)

    def _said(self) -> bytes:
        try:
            return self.console.read_bytes()
        except FileNotFoundError:
            return b""

    def _tail(self) -> str:
        # The console's lines end in carriage returns, and systemd colours them.
        text = _COLOUR.sub("", self._said().decode(errors="replace"))
        lines = [line for line in text.splitlines() if line.strip()][-15:]
        return "\n".join(["last lines of its console:", *(f"  {line}" for line in lines)])
