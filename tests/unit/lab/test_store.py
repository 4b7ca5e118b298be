"""The cache that labs share: built once, complete or not there."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.underlay.ipsec.molecule.lab.labkit import store
from ansible_collections.underlay.ipsec.molecule.lab.labkit.errors import LabError


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("UNDERLAY_LAB_CACHE", str(tmp_path))
    return tmp_path


def test_an_entry_is_built_once(cache: Path) -> None:
    def build(folder: Path) -> None:
        (folder / "file").touch(exist_ok=False)

    assert store.entry("one", build) == store.entry("one", build) == cache / "one"
    assert (cache / "one" / "file").exists()


def test_a_failed_build_leaves_nothing_and_the_next_one_starts_over(cache: Path) -> None:
    def fails(folder: Path) -> None:
        (folder / "half").touch()
        raise LabError

    with pytest.raises(LabError):
        store.entry("one", fails)
    assert [path for path in cache.iterdir() if path.is_dir()] == []
    assert list(store.entry("one", lambda _folder: None).iterdir()) == []


def test_clean_keeps_what_is_used(cache: Path) -> None:
    for name in ("used", "unused"):
        store.entry(name, lambda _folder: None)
    (cache / ".unused.building").mkdir()
    assert store.clean({cache / "used"}) == [cache / "used"]
    assert sorted(path.name for path in cache.iterdir() if path.is_dir()) == ["used"]
