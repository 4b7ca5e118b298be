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


def test_key_is_stable_and_names_the_kind(source: Path) -> None:
    key = image.key("trixie", "qemu")
    assert key == image.key("trixie", "qemu")
    assert key.startswith("trixie-qemu-")


def test_key_changes_with_a_package(source: Path) -> None:
    before = image.key("trixie", "qemu")
    with (source / "packages-offline.txt").open("a") as file:
        file.write("strongswan\n")
    assert image.key("trixie", "qemu") != before


def test_key_of_a_user_mode_image_changes_with_the_kernel(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = image.key("trixie", "qemu"), image.key("trixie", "uml")
    monkeypatch.setattr(kernel, "key", lambda: "another")
    assert image.key("trixie", "qemu") == before[0]
    assert image.key("trixie", "uml") != before[1]


def test_key_changes_with_a_mode(source: Path) -> None:
    before = image.key("trixie", "qemu")
    (source / "customize.sh").chmod(0o644)
    assert image.key("trixie", "qemu") != before


def test_package_lists_allow_comments(tmp_path: Path) -> None:
    path = tmp_path / "packages.txt"
    path.write_text("# what for\none\n\ntwo  # why\n")
    assert packages.listed(path) == ["one", "two"]


def test_own_mirror(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNDERLAY_LAB_MIRROR", "http://mirror.example/debian")
    assert packages.mirror() == "http://mirror.example/debian"
