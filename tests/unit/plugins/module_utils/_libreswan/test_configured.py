# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host says of its own configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan import configured, render
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan.dialect import Dialect
from ansible_collections.underlay.ipsec.tests.unit.plugins.module_utils._libreswan.meshes import mesh

PAIR_KEY = "Zm9v" * 16


def put(root: Path, files: dict[str, str]) -> None:
    for path, text in files.items():
        (root / path.lstrip("/")).parent.mkdir(parents=True, exist_ok=True)
        (root / path.lstrip("/")).write_text(text, encoding="utf-8")


def written(root: Path, state: str, **changes: Any) -> dict[str, str]:
    settings = mesh(2, 3, **changes)
    pairs = {name: state for network in settings.networks for name in settings.pairs(network)}
    put(root, render.files(settings, Dialect(5, 2), pairs))
    return configured.fingerprints(root)


def test_a_fingerprint_tells_what_the_peer_has_to_know(tmp_path: Path) -> None:
    prepared = written(tmp_path, "prepared")
    assert len(set(prepared.values())) == len(prepared) == 2
    assert written(tmp_path, "private") == prepared
    other = written(tmp_path, "private", esp="aes_gcm128")
    assert all(other[name] != found for name, found in prepared.items())


def test_nothing_is_there_yet(tmp_path: Path) -> None:
    assert (configured.fingerprints(tmp_path), configured.key_fingerprints(tmp_path)) == ({}, {})


def test_keys_of_pairs_only(tmp_path: Path) -> None:
    keys = [
        {"ids": ["@h1", "@h2"], "psk": PAIR_KEY},
        {"ids": ["@h1", "@gate"], "psk": "words that somebody has thought of himself"},
    ]
    put(tmp_path, render.secrets_file(keys))
    assert configured.key_fingerprints(tmp_path) == {"@h1 @h2": configured.key_fingerprint(PAIR_KEY)}
