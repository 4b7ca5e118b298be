"""The image cache: a name for everything that goes into an image."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from ansible_collections.underlay.ipsec.molecule.lab.labkit import image, kernel, packages, paths


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    copied = tmp_path / "image"
    shutil.copytree(paths.IMAGE_SOURCE, copied)
    monkeypatch.setattr(image, "IMAGE_SOURCE", copied)
    return copied


def test_key_is_stable_and_names_the_release(source: Path) -> None:
    key = image.key("trixie")
    assert key == image.key("trixie")
    assert key.startswith("trixie-")


def test_key_changes_with_a_package(source: Path) -> None:
    before = image.key("trixie")
    with (source / "packages-offline.txt").open("a") as file:
        file.write("strongswan\n")
    assert image.key("trixie") != before


def test_key_changes_with_the_kernel(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = image.key("trixie")
    monkeypatch.setattr(kernel, "key", lambda: "another")
    assert image.key("trixie") != before


def test_key_changes_with_a_mode(source: Path) -> None:
    before = image.key("trixie")
    (source / "customize.sh").chmod(0o644)
    assert image.key("trixie") != before


def test_package_lists_allow_comments(tmp_path: Path) -> None:
    path = tmp_path / "packages.txt"
    path.write_text("# what for\none\n\ntwo  # why\n")
    assert packages.listed(path) == ["one", "two"]


def test_own_mirror(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNDERLAY_LAB_MIRROR", "http://mirror.example/debian")
    assert packages.mirror() == "http://mirror.example/debian"
