"""The QEMU backend: the release's own kernel, with KVM where that really works."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from .errors import LabError
from .image import Image
from .paths import cache_dir
from .plan import Machine
from .process import run
from .progress import Progress

QEMU = "/usr/bin/qemu-system-x86_64"
_PROBE_SECONDS = 20


def disk_name() -> str:
    return "disk.qcow2"


def create_disk(image: Image, disk: Path) -> None:
    run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", image.disk, disk])


def command(machine: Machine, image: Image, folder: Path, public_key: str, accelerator: str) -> list[str]:
    """How to boot the host; its console is the process's stdout."""
    ports = [
        word
        for index, interface in enumerate(machine.interfaces)
        for word in (
            "-netdev",
            f"tap,id=n{index},ifname={interface.tap},script=no,downscript=no",
            "-device",
            f"virtio-net-pci,netdev=n{index},mac={interface.mac},romfile=",
        )
    ]
    kernel = [
        "console=ttyS0", "root=/dev/vda", "rw", "quiet", "panic=-1",
        # No getty waits for a serial device that udev never announces.
        "systemd.getty_auto=no",
        *machine.boot_words(public_key),
    ]  # fmt: skip
    return [
        QEMU, "-name", machine.name,
        *_machine(accelerator),
        "-m", f"{machine.host.memory}M",
        "-drive", f"file={folder / disk_name()},if=virtio,format=qcow2,cache=unsafe",
        *ports,
        "-device", "virtio-rng-pci",
        "-kernel", str(image.kernel), "-initrd", str(image.initrd),
        "-append", " ".join(kernel),
    ]  # fmt: skip


def accelerator(image: Image, progress: Progress) -> str:
    """`kvm` if a kernel really boots with it here, else `tcg`; probed once per boot.

    /dev/kvm may exist and still not run a stock kernel, so only a boot that reaches
    user space counts.
    """
    if not Path("/dev/kvm").exists():
        return "tcg"
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    memory = cache_dir() / ".kvm-probe.json"
    try:
        known = json.loads(memory.read_text())
    except (OSError, ValueError):
        known = {}
    if known.get("boot_id") != boot_id:
        progress(f"probing whether KVM boots a kernel here, at most {_PROBE_SECONDS} s")
        known = {"boot_id": boot_id, "works": _kvm_boots(image)}
        memory.write_text(json.dumps(known))
    return "kvm" if known["works"] else "tcg"


def _kvm_boots(image: Image) -> bool:
    argv = [
        QEMU, *_machine("kvm"), "-m", "256M", "-no-reboot",
        "-kernel", str(image.kernel), "-initrd", str(image.initrd),
        # An init that ends at once makes the kernel say so and stop.
        "-append", "console=ttyS0 panic=-1 rdinit=/bin/true",
    ]  # fmt: skip
    try:
        result = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_PROBE_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return False
    except OSError as error:
        raise LabError(f"cannot start {QEMU}: {error}") from error
    return b"Attempted to kill init" in result.stdout


def _machine(accelerator: str) -> list[str]:
    # QEMU 7.2 emulates cmpxchg16b wrongly now and then, and trixie's kernel, which
    # uses it to allocate memory, dies of a double fault. Four page levels are faster.
    cpu = "host" if accelerator == "kvm" else "max,cx16=off,la57=off"
    return [
        "-machine", "q35,usb=off,vmport=off", "-accel", accelerator, "-cpu", cpu,
        "-nodefaults", "-no-user-config", "-display", "none",
        "-serial", "stdio", "-monitor", "none",
    ]  # fmt: skip
