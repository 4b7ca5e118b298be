# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The note of what libreswan may still hold in memory."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan import renewed


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return the root of a host that has libreswan."""
    (tmp_path / renewed.PATH.lstrip("/")).parent.mkdir(parents=True)
    return tmp_path


def test_kinds_accumulate_until_they_are_forgotten(root: Path) -> None:
    assert renewed.noted(root) == set()
    for kind in (renewed.CERTIFICATE, renewed.REVOCATION, renewed.CERTIFICATE):
        renewed.note(kind, root)
    assert renewed.noted(root) == {renewed.CERTIFICATE, renewed.REVOCATION}
    assert (root / renewed.PATH.lstrip("/")).read_text() == "certificate\nrevocation\n"
    renewed.forget(root)
    assert renewed.noted(root) == set()
    renewed.forget(root)


def test_a_host_without_libreswan_has_no_note(tmp_path: Path) -> None:
    renewed.note(renewed.AUTHORITY, tmp_path)
    assert renewed.noted(tmp_path) == set()
    assert list(tmp_path.iterdir()) == []
