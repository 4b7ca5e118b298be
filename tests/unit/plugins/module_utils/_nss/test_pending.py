# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The record of a request survives an interruption, and damage to it does no harm."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from ansible_collections.underlay.ipsec.plugins.module_utils._nss.pending import Pending, PendingFile
from ansible_collections.underlay.ipsec.plugins.module_utils._nss.x509 import request_from_pem
from ansible_collections.underlay.ipsec.tests.unit.plugins import pki

REQUEST = request_from_pem(pki.request())
KEY = REQUEST.public_key.key_id


@pytest.mark.parametrize("request_made", [None, REQUEST])
def test_round_trip(tmp_path: Path, request_made: None) -> None:
    record = PendingFile(str(tmp_path))
    assert record.load() is None
    pending = Pending("underlay-h1", frozenset({"aa", "bb"}), request_made)
    record.save(pending)
    assert record.load() == pending
    assert stat.S_IMODE(Path(record.path).stat().st_mode) == 0o600
    assert record.delete()
    assert not record.delete()


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "{}", '{"nickname": "n", "keys_before": [], "request": "x"}']
)
def test_damage(tmp_path: Path, text: str) -> None:
    record = PendingFile(str(tmp_path))
    Path(record.path).write_text(text, encoding="utf-8")
    assert record.load() is None
    assert record.exists()


@pytest.mark.parametrize(
    ("pending", "orphans", "made"),
    [
        (Pending("n", frozenset(), REQUEST), {KEY, "aa"}, {KEY}),
        (Pending("n", frozenset(), REQUEST), {"aa"}, set()),
        (Pending("n", frozenset({"aa"})), {"aa", KEY}, {KEY}),
        (Pending("n", frozenset({"aa"})), {"aa"}, set()),
        (Pending("n", frozenset({"aa"})), {"aa", KEY, "bb"}, set()),
    ],
)
def test_only_our_own_keys_are_ours(pending: Pending, orphans: set[str], made: set[str]) -> None:
    assert pending.made_keys(frozenset(orphans)) == made
