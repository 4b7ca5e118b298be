"""Where the lab keeps things: images in a cache, everything else in a run folder."""

from __future__ import annotations

import os
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

LAB_DIR = Path(__file__).resolve().parent.parent
IMAGE_SOURCE = LAB_DIR / "image"


def cache_dir() -> Path:
    """The image cache, shared by all labs."""
    if own := os.environ.get("UNDERLAY_LAB_CACHE"):
        return Path(own)
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "underlay-ipsec-lab"


def run_root() -> Path:
    """The folder that holds one run folder for each lab."""
    return Path(os.environ.get("UNDERLAY_LAB_RUN", "/run/underlay-ipsec-lab"))


@dataclass(frozen=True)
class RunDir:
    """Everything on disk that belongs to one lab; `down` removes all of it."""

    name: str
    root: Path

    @property
    def path(self) -> Path:
        return self.root / self.name

    @property
    def lock(self) -> Path:
        """Next to the folder, not in it, so that `down` can hold it to the end."""
        return self.root / f"{self.name}.lock"

    @property
    def namespace(self) -> str:
        """Unique for this run folder, so whoever owns the folder owns the namespace.

        The suffix keeps labs of the same name under different roots apart.
        """
        digest = sha256(str(self.path.resolve()).encode()).hexdigest()[:6]
        return f"lab-{self.name}-{digest}"

    @property
    def state(self) -> Path:
        return self.path / "state.json"

    @property
    def key(self) -> Path:
        return self.path / "id_ed25519"

    @property
    def ssh_config(self) -> Path:
        return self.path / "ssh_config"

    @property
    def control(self) -> Path:
        """ssh's control sockets; short, because a socket path has 108 characters."""
        return self.path / "cm"

    @property
    def hosts(self) -> Path:
        return self.path / "hosts"

    def inventory(self, network: str) -> Path:
        """The inventory that connects over a network; the plain name is for mgmt."""
        suffix = "" if network == "mgmt" else f"-{network}"
        return self.path / f"inventory{suffix}.yml"


def run_dir(name: str) -> RunDir:
    return RunDir(name, run_root())


def existing_runs() -> list[RunDir]:
    """The labs that have a run folder, up or not."""
    root = run_root()
    if not root.is_dir():
        return []
    return [RunDir(entry.name, root) for entry in sorted(root.iterdir()) if entry.is_dir()]
