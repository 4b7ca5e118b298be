"""The cache that all labs share: each entry built once, under a name for all that goes into it."""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from .paths import cache_dir


def entry(name: str, build: Callable[[Path], None]) -> Path:
    """The folder `name`; if there is none, `build` fills it aside, and it is renamed when complete."""
    path = cache_dir() / name
    if path.is_dir():
        return path
    with locked(name):
        if path.is_dir():
            return path
        work = _work(name)
        # Whoever holds the lock is the only builder: this is a dead one's.
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        try:
            build(work)
            work.rename(path)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return path


def clean(in_use: set[Path]) -> list[Path]:
    """Remove every entry that no lab uses; returns the ones that stay."""
    kept = []
    for lock in sorted(cache_dir().glob(".*.lock")):
        name = lock.name.removeprefix(".").removesuffix(".lock")
        path = cache_dir() / name
        if path in in_use:
            kept.append(path)
            continue
        # Waits for a build that is under way. The empty lock files stay: whoever
        # waits for one must not be left with a file that nobody else can see.
        with locked(name):
            shutil.rmtree(path, ignore_errors=True)
            shutil.rmtree(_work(name), ignore_errors=True)
    return kept


def _work(name: str) -> Path:
    return cache_dir() / f".{name}.building"


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Let one at a time work on `name`, an entry or anything else that labs share."""
    cache = cache_dir()
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / f".{name}.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
