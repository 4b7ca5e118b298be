"""Root file systems: built once, addressed by their content, shared by all labs."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from . import packages
from .errors import LabError
from .paths import IMAGE_SOURCE, cache_dir
from .process import run
from .progress import Progress

# Sparse: what counts on disk is what is inside.
_DISK_SIZE = "4G"
UML_MODULES = Path("/usr/lib/uml/modules")

# Kept in the image's own configuration, so guests install as lean as the build did.
_APT_OPTIONS = (
    'Acquire::Languages "none"',
    'APT::Install-Recommends "false"',
)
_DPKG_OPTIONS = (
    "force-unsafe-io",
    "path-exclude=/usr/share/man/*",
    "path-exclude=/usr/share/doc/*",
    "path-exclude=/usr/share/locale/*",
)


@dataclass(frozen=True)
class Image:
    """A built root file system; kernel and initrd exist in the qemu flavour only."""

    path: Path

    @property
    def disk(self) -> Path:
        return self.path / "disk.ext4"

    @property
    def kernel(self) -> Path:
        return self.path / "vmlinuz"

    @property
    def initrd(self) -> Path:
        return self.path / "initrd.img"


def key(release: str, flavour: str) -> str:
    """A name that changes with anything that goes into the build."""
    digest = sha256(Path(__file__).read_bytes())
    for source in sorted(path for path in IMAGE_SOURCE.rglob("*") if path.is_file()):
        digest.update(f"{source.relative_to(IMAGE_SOURCE)}\0{os.access(source, os.X_OK)}\0".encode())
        digest.update(source.read_bytes())
    if flavour == "uml":
        digest.update(" ".join(sorted(path.name for path in UML_MODULES.iterdir())).encode())
    return f"{release}-{flavour}-{digest.hexdigest()[:16]}"


def ensure(release: str, flavour: str, progress: Progress) -> Image:
    """The image, built first if the cache has none."""
    cache = cache_dir()
    cache.mkdir(parents=True, exist_ok=True)
    name = key(release, flavour)
    image = Image(cache / name)
    if image.path.is_dir():
        return image
    with _locked(cache / f".{name}.lock"):
        if image.path.is_dir():
            return image
        work = _work(name)
        # Whoever holds the lock is the only builder: this is a dead one's.
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        progress(f"image {release}/{flavour}: building")
        try:
            _build(release, flavour, Image(work))
            work.rename(image.path)
        finally:
            shutil.rmtree(work, ignore_errors=True)
        size = image.disk.stat().st_blocks * 512 >> 20
        progress(f"image {release}/{flavour}: built, {size} MB")
    return image


def clean(in_use: set[Path]) -> list[Path]:
    """Remove every image that no lab uses; returns the ones that stay."""
    kept = []
    for lock in sorted(cache_dir().glob(".*.lock")):
        name = lock.name.removeprefix(".").removesuffix(".lock")
        path = cache_dir() / name
        if path in in_use:
            kept.append(path)
            continue
        # Waits for a build that is under way. The empty lock files stay: whoever
        # waits for one must not be left with a file that nobody else can see.
        with _locked(lock):
            shutil.rmtree(path, ignore_errors=True)
            shutil.rmtree(_work(name), ignore_errors=True)
    return kept


def _work(name: str) -> Path:
    return cache_dir() / f".{name}.building"


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _build(release: str, flavour: str, image: Image) -> None:
    root = image.path / "root"
    include = packages.listed(IMAGE_SOURCE / "packages-base.txt")
    if flavour == "qemu":
        include += packages.listed(IMAGE_SOURCE / "packages-qemu.txt")
    mirror = packages.mirror()
    # The build dies with us, and its mounts with it: a private mount and process
    # namespace, whose first process is killed when we are.
    run(
        [
            "setpriv", "--pdeathsig", "KILL", "--",
            "unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--",
            "mmdebstrap", "--mode=root", "--variant=apt", "--format=directory",
            "--skip=cleanup/apt",
            *(f"--aptopt={option}" for option in _APT_OPTIONS),
            *(f"--dpkgopt={option}" for option in _DPKG_OPTIONS),
            f"--include={','.join(include)}",
            f"--customize-hook={IMAGE_SOURCE / 'customize.sh'} {flavour} \"$1\"",
            release, root, *([mirror] if mirror else []),
        ],
        timeout=1200,
        env={**os.environ, "TMPDIR": str(image.path), "LC_ALL": "C.UTF-8"},
    )  # fmt: skip
    if flavour == "qemu":
        shutil.copy(_only(root / "boot", "vmlinuz-*"), image.kernel)
        shutil.copy(_only(root / "boot", "initrd.img-*"), image.initrd)
    # The file is new, hence zero: nothing left for the guests to initialise.
    run(
        [
            "mke2fs", "-q", "-t", "ext4", "-L", "root", "-m", "0",
            "-E", "lazy_itable_init=0,lazy_journal_init=0,assume_storage_prezeroed=1",
            "-d", root, image.disk, _DISK_SIZE,
        ]
    )  # fmt: skip
    shutil.rmtree(root)


def _only(folder: Path, pattern: str) -> Path:
    found = sorted(folder.glob(pattern))
    if len(found) != 1:
        raise LabError(f"expected one {pattern} in the new image, found {len(found)}")
    return found[0]
