"""Root file systems: built once, addressed by their content, shared by all labs."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from . import kernel, packages, store
from .errors import LabError
from .paths import IMAGE_SOURCE
from .process import CONTAINED, run
from .progress import Progress

# Sparse: what counts on disk is what is inside.
_DISK_SIZE = "4G"

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
    """A built root file system and its kernel; the initrd exists in the qemu flavour only."""

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
        digest.update(kernel.key().encode())
    return f"{release}-{flavour}-{digest.hexdigest()[:16]}"


def ensure(release: str, flavour: str, progress: Progress) -> Image:
    """The image, built first if the cache has none."""

    def build(folder: Path) -> None:
        progress(f"image {release}/{flavour}: building")
        _build(release, flavour, Image(folder), progress)
        size = Image(folder).disk.stat().st_blocks * 512 >> 20
        progress(f"image {release}/{flavour}: built, {size} MB")

    return Image(store.entry(key(release, flavour), build))


def _build(release: str, flavour: str, image: Image, progress: Progress) -> None:
    root = image.path / "root"
    modules = ""
    if flavour == "uml":
        built = kernel.ensure(progress)
        modules = str(built / "modules")
        # A link, so that hosts go on with it whatever becomes of the cache's own.
        os.link(built / "linux", image.kernel)
    include = packages.listed(IMAGE_SOURCE / "packages-base.txt")
    if flavour == "qemu":
        include += packages.listed(IMAGE_SOURCE / "packages-qemu.txt")
    mirror = packages.mirror()
    run(
        [
            *CONTAINED,
            "mmdebstrap", "--mode=root", "--variant=apt", "--format=directory",
            "--skip=cleanup/apt",
            *(f"--aptopt={option}" for option in _APT_OPTIONS),
            *(f"--dpkgopt={option}" for option in _DPKG_OPTIONS),
            f"--include={','.join(include)}",
            f"--customize-hook={IMAGE_SOURCE / 'customize.sh'} {flavour} \"$1\" {modules}",
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
