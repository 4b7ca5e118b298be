"""How a host is booted: user-mode Linux, which is quick and needs no KVM."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

from . import process
from .image import Image
from .paths import LAB_DIR
from .plan import Machine

_BOOT = LAB_DIR / "uml-boot"
# Says in the command line of a host's processes on which processor they are, from the first moment: `taskset` has
# yet to put them there. The kernel takes no notice.
_PROCESSOR = "lab.processor"


def command(machine: Machine, image: Image, folder: Path, public_key: str) -> list[str]:
    """How to boot the host; its console is the process's stdout.

    Hold the lock ``processors`` until the process is there, so that others see where it is.
    """
    ports = [
        f"vec{index}:transport=tap,ifname={interface.tap},mac={interface.mac},depth=128,gro=1"
        for index, interface in enumerate(machine.interfaces)
    ]
    # A system call wakes the kernel's process and waits for it: on one processor that is a switch,
    # from an idle one to another it is several times as slow.
    processor = _least_occupied()
    return [
        "taskset", "--cpu-list", str(processor),
        str(_BOOT),
        f"{_PROCESSOR}={processor}",
        f"lab.kernel={image.kernel}",
        # Where the machine allows it: faster than tracing the processes.
        "seccomp=auto",
        f"umid={machine.name}",
        f"uml_dir={folder}/",
        f"mem={machine.host.memory}M",
        # A copy-on-write file, which UML makes by itself at the first boot.
        f"ubd0={folder / 'disk.cow'},{image.disk}",
        "root=/dev/ubda",
        "rw",
        *ports,
        "con=null",
        "con0=null,fd:1",
        # Null consoles 1 and up, or every getty-less tty floods the log.
        "con1=null",
        *machine.boot_words(public_key),
    ]  # fmt: skip


def _least_occupied() -> int:
    """The processor with the fewest hosts, of all labs."""
    hosts = Counter(dict.fromkeys(sorted(os.sched_getaffinity(0)), 0))
    hosts.update(processor for processor in _occupied().values() if processor in hosts)
    return min(hosts, key=lambda processor: hosts[processor])


def _occupied() -> dict[str, int]:
    """The folder of each running host → its processor; a host consists of several processes."""
    found = {}
    for line in process.command_lines():
        words = dict(word.partition("=")[::2] for word in line)
        if processor := words.get(_PROCESSOR):
            found[words["uml_dir"]] = int(processor)
    return found
