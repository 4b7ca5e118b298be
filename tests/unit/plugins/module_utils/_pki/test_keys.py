# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keys are what their names say."""

from __future__ import annotations

import pytest
from ansible_collections.underlay.ipsec.plugins.module_utils._pki import keys
from ansible_collections.underlay.ipsec.tests.unit.plugins import pki
from cryptography.hazmat.primitives.asymmetric import ec, ed25519


@pytest.mark.parametrize("key_type", keys.KEY_TYPES)
def test_generate(key_type: str) -> None:
    assert keys.describe(pki.key(key_type=key_type).public_key()) == key_type


def test_other_keys_have_a_name_too() -> None:
    assert keys.describe(ec.generate_private_key(ec.SECP521R1()).public_key()) == "ecdsa-p521"
    assert keys.describe(ed25519.Ed25519PrivateKey.generate().public_key()) == "Ed25519PublicKey"


@pytest.mark.parametrize(
    ("key_type", "name"), [("ecdsa-p384", "sha384"), ("ecdsa-p256", "sha256"), ("rsa-3072", "sha256")]
)
def test_hash(key_type: str, name: str) -> None:
    assert keys.hash_for(pki.key(key_type=key_type)).name == name
