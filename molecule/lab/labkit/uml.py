"""How a host is booted: user-mode Linux, which is quick and needs no KVM."""

from __future__ import annotations

import os
from pathlib import Path

from .image import Image
from .paths import LAB_DIR
from .plan import Machine

_BOOT = LAB_DIR / "uml-boot"


def command(machine: Machine, image: Image, folder: Path, public_key: str) -> list[str]:
    """How to boot the host; its console is the process's stdout."""
    ports = [
        f"vec{index}:transport=tap,ifname={interface.tap},mac={interface.mac},depth=128,gro=1"
        for index, interface in enumerate(machine.interfaces)
    ]
    # A system call wakes the kernel's process and waits for it: on one processor that is a switch,
    # from an idle one to another it is several times as slow.
    processors = sorted(os.sched_getaffinity(0))
    return [
        "taskset", "--cpu-list", str(processors[machine.number % len(processors)]),
        str(_BOOT),
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
