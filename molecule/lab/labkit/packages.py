"""Debian packages: the ones the controller needs, and where images get theirs."""

from __future__ import annotations

import os
from pathlib import Path

from . import store
from .errors import LabError
from .paths import LAB_DIR
from .process import run
from .progress import Progress


def listed(path: Path) -> list[str]:
    """The names in a package list, one a line, `#` for comments."""
    lines = (line.partition("#")[0].strip() for line in path.read_text().splitlines())
    return [line for line in lines if line]


def ensure(progress: Progress) -> None:
    """Install what is missing on the controller machine; apt would not wait for another lab's."""
    with store.locked("packages"):
        _ensure(progress)


def _ensure(progress: Progress) -> None:
    wanted = listed(LAB_DIR / "packages.txt")
    missing = _missing(wanted)
    if not missing:
        return
    progress(f"installing on this machine: {' '.join(missing)}")
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    install = ["apt-get", "install", "-y", "-q", "--no-install-recommends", *missing]
    if run(install, check=False, env=env).returncode != 0:
        # Most often the package lists are old, or not there at all.
        run(["apt-get", "update", "-q"], env=env)
        run(install, env=env)
    if still := _missing(wanted):
        raise LabError(f"these packages could not be installed: {' '.join(still)}")


def mirror() -> str | None:
    """The Debian mirror that this machine uses itself; None leaves it to mmdebstrap."""
    if own := os.environ.get("UNDERLAY_LAB_MIRROR"):
        return own
    targets = run(
        ["apt-get", "indextargets", "--format", "$(LABEL) $(REPO_URI)", "Created-By: Packages"],
        check=False,
    ).stdout
    for line in targets.splitlines():
        label, _, uri = line.partition(" ")
        if label == "Debian" and uri:
            return uri
    return None


def _missing(names: list[str]) -> list[str]:
    shown = run(["dpkg-query", "-W", "-f", "${Package} ${db:Status-Status}\n", *names], check=False).stdout
    installed = {line.split()[0] for line in shown.splitlines() if line.endswith(" installed")}
    return [name for name in names if name not in installed]
