"""Root file systems: built once, addressed by their content, shared by all labs."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from . import kernel, packages, store
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
    """A built root file system and the kernel for it."""

    path: Path

    @property
    def disk(self) -> Path:
        return self.path / "disk.ext4"

    @property
    def kernel(self) -> Path:
        return self.path / "linux"


def key(release: str) -> str:
    """A name that changes with anything that goes into the build."""
    digest = sha256(Path(__file__).read_bytes() + kernel.key().encode())
    for source in sorted(path for path in IMAGE_SOURCE.rglob("*") if path.is_file()):
        digest.update(f"{source.relative_to(IMAGE_SOURCE)}\0{os.access(source, os.X_OK)}\0".encode())
        digest.update(source.read_bytes())
    return f"{release}-{digest.hexdigest()[:16]}"


def ensure(release: str, progress: Progress) -> Image:
    """The image, built first if the cache has none."""

    def build(folder: Path) -> None:
        progress(f"image {release}: building")
        _build(release, Image(folder), progress)
        size = Image(folder).disk.stat().st_blocks * 512 >> 20
        progress(f"image {release}: built, {size} MB")

    return Image(store.entry(key(release), build))


def _build(release: str, image: Image, progress: Progress) -> None:
    root = image.path / "root"
    built = kernel.ensure(progress)
    # A link, so that hosts go on with it whatever becomes of the cache's own.
    os.link(built / "linux", image.kernel)
    include = packages.listed(IMAGE_SOURCE / "packages-base.txt")
    mirror = packages.mirror()
    run(
        [
            *CONTAINED,
            "mmdebstrap", "--mode=root", "--variant=apt", "--format=directory",
            "--skip=cleanup/apt",
            *(f"--aptopt={option}" for option in _APT_OPTIONS),
            *(f"--dpkgopt={option}" for option in _DPKG_OPTIONS),
            f"--include={','.join(include)}",
            f"--customize-hook={IMAGE_SOURCE / 'customize.sh'} \"$1\" {built / 'modules'}",
            release, root, *([mirror] if mirror else []),
        ],
        timeout=1200,
        env={**os.environ, "TMPDIR": str(image.path), "LC_ALL": "C.UTF-8"},
    )  # fmt: skip
    # The file is new, hence zero: nothing left for the guests to initialise.
    run(
        [
            "mke2fs", "-q", "-t", "ext4", "-L", "root", "-m", "0",
            "-E", "lazy_itable_init=0,lazy_journal_init=0,assume_storage_prezeroed=1",
            "-d", root, image.disk, _DISK_SIZE,
        ]
    )  # fmt: skip
    shutil.rmtree(root)
