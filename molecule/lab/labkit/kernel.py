"""The kernel of the user-mode hosts: built once from Debian's source, with kernel/config.

Debian's own user-mode-linux lacks what the tests need: nftables' families, or, since it has dropped
them, legacy iptables; and before 6.16 a system call of its hosts costs two switches of a traced
process, which makes everything there two to three times as slow (docs/lab.md, "Measured").
"""

from __future__ import annotations

import os
import re
import shutil
from hashlib import sha256
from pathlib import Path

from . import packages, store
from .errors import LabError
from .paths import LAB_DIR
from .process import CONTAINED, run
from .progress import Progress

_CONFIG = LAB_DIR / "kernel" / "config"
# The release that has it, and the package; if that release has moved on, its newest kernel.
_RELEASE = "trixie-backports"
_SOURCE = "linux-source-7.2"
_NEWEST = "linux-source"
_BUILD_SECONDS = 3600
# To be raised when other steps below make another kernel of the same source and configuration.
_STEPS = 1


def key() -> str:
    """A name that changes with anything that goes into the build."""
    digest = sha256(f"{_STEPS} {_RELEASE} {_SOURCE}\n{_CONFIG.read_text()}".encode())
    return f"kernel-{digest.hexdigest()[:16]}"


def ensure(progress: Progress) -> Path:
    """The folder with `linux` and `modules/VERSION`; compiled first if the cache has none, in minutes."""

    def build(folder: Path) -> None:
        progress("kernel: building from Debian's source, which takes minutes, once")
        _build(folder)
        progress(f"kernel: built, {next((folder / 'modules').iterdir()).name}")

    return store.entry(key(), build)


def _build(folder: Path) -> None:
    tree = _source(folder)
    defaults = (tree / "arch/um/configs/x86_64_defconfig").read_text()
    (tree / ".config").write_text(defaults + _CONFIG.read_text())
    _make(tree, "olddefconfig")
    if missing := _missing((tree / ".config").read_text()):
        raise LabError(f"kernel/config: {tree.name} does not have {', '.join(missing)}")
    _make(tree, f"-j{(os.cpu_count() or 1) + 1}", "linux")
    version = (tree / "include/config/kernel.release").read_text().strip()
    # Everything is built in; modprobe wants to be told so.
    modules = folder / "modules" / version
    modules.mkdir(parents=True)
    for name in ("modules.builtin", "modules.builtin.modinfo"):
        shutil.copy(tree / name, modules)
    (modules / "modules.order").touch()
    shutil.copy(tree / "linux", folder / "linux")
    shutil.rmtree(folder / "work")


def _source(folder: Path) -> Path:
    """Unpack the kernel's source below `folder`, verified by apt with Debian's keys."""
    work = folder / "work"
    for name in ("state/lists/partial", "cache/archives/partial"):
        (work / name).mkdir(parents=True)
    keys = "/usr/share/keyrings/debian-archive-keyring.gpg"
    mirror = packages.mirror()
    if mirror is None:
        raise LabError("no Debian mirror is known for the kernel's source: set UNDERLAY_LAB_MIRROR")
    (work / "sources.list").write_text(f"deb [signed-by={keys}] {mirror} {_RELEASE} main\n")
    (work / "status").touch()
    options = [
        "-q", "-o", f"Dir::Etc::SourceList={work / 'sources.list'}",
        "-o", "Dir::Etc::SourceParts=/dev/null", "-o", f"Dir::State={work / 'state'}",
        "-o", f"Dir::State::status={work / 'status'}", "-o", f"Dir::Cache={work / 'cache'}",
        "-o", "APT::Sandbox::User=root", "-o", "Acquire::Languages=none",
    ]  # fmt: skip
    apt = ["apt-get", *options]
    run([*apt, "update"], timeout=600)
    name = _SOURCE
    if run([*apt, "download", name], cwd=work, check=False, timeout=1200).returncode != 0:
        shown = run(["apt-cache", *options, "depends", _NEWEST]).stdout
        name = next(iter(re.findall(r"Depends: (linux-source-\S+)", shown)), _NEWEST)
        run([*apt, "download", name], cwd=work, timeout=1200)
    package = next(work.glob(f"{name}_*.deb"))
    run(["dpkg-deb", "--extract", package, work], timeout=600)
    run(
        ["tar", "--extract", "--file", next((work / "usr/src").glob("*.tar.xz")), "--directory", work],
        timeout=600,
    )
    return work / name


def _missing(config: str) -> list[str]:
    """What kernel/config sets and the build would not have."""
    have = set(config.splitlines())
    return [
        line for line in _CONFIG.read_text().splitlines() if line.startswith("CONFIG_") and line not in have
    ]


def _make(tree: Path, *words: str) -> None:
    run([*CONTAINED, "make", "--silent", "ARCH=um", *words], cwd=tree, timeout=_BUILD_SECONDS)
