# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A file has its old or its new content, at any time."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest
from ansible_collections.underlay.ipsec.plugins.module_utils._files import problem_from_os, write_atomically


@pytest.mark.parametrize("mode", [0o600, 0o644])
def test_write(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "file"
    for text in ("old", "new"):
        write_atomically(str(path), text, mode=mode)
        assert path.read_text() == text
    assert stat.S_IMODE(path.stat().st_mode) == mode
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def full(_handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left") as caught:
        write_atomically(str(path), "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
    assert str(problem_from_os(caught.value)).startswith(f"{path}: No space left on device. ")
