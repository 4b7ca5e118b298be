# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Serial numbers follow on the last one in the file, as ``oc adm ca`` counts."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from ansible_collections.underlay.ipsec.plugins.module_utils._errors import ProblemsError
from ansible_collections.underlay.ipsec.plugins.module_utils._pki import serials


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of a file that does not exist yet."""
    return tmp_path / "ca.serial.txt"


@pytest.mark.parametrize(
    ("text", "count", "used", "taken", "after"),
    [
        pytest.param("00", 1, (), [2], "02", id="a new CA of OpenShift"),
        pytest.param("01\n", 2, (), [2, 3], "03\n", id="newer OpenShift"),
        pytest.param("0F", 1, (), [0x10], "10", id="hexadecimal"),
        pytest.param("ff", 1, (), [0x100], "0100", id="an even number of digits"),
        pytest.param("05", 2, (6, 8), [7, 9], "09", id="some are used"),
        pytest.param("05", 0, (), [], "05", id="none is needed"),
    ],
)
def test_take(path: Path, text: str, count: int, used: tuple[int, ...], taken: list[int], after: str) -> None:
    path.write_text(text)
    path.chmod(0o640)
    assert serials.take(str(path), count, used) == taken
    assert path.read_text() == after
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_the_last_number(path: Path) -> None:
    path.write_text("7FFFFFFFFFFFFFFF")
    with pytest.raises(ProblemsError, match="has no number left"):
        serials.take(str(path), 1, ())
    assert path.read_text() == "7FFFFFFFFFFFFFFF"


def test_a_file_that_is_gone(path: Path) -> None:
    with pytest.raises(ProblemsError, match="No such file") as caught:
        serials.take(str(path), 1, ())
    assert caught.value.problems[0].variable == "ipsec_ca_serial"


def test_killed_before_the_number_is_used(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.write_text("05")

    def killed(_old: str, _new: str) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            serials.take(str(path), 1, ())
    assert serials.take(str(path), 1, ()) == [6]
