# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kinds of key that the collection uses, on the control node."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

with suppress(ImportError):  # always there with ansible-core, but not where its sanity tests import this
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

    PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

KEY_TYPES = ("ecdsa-p256", "ecdsa-p384", "rsa-3072", "rsa-4096")
_CURVES = {"secp256r1": "ecdsa-p256", "secp384r1": "ecdsa-p384", "secp521r1": "ecdsa-p521"}


def generate(key_type: str) -> PrivateKey:
    """Return a new key of one of `KEY_TYPES`."""
    if key_type == "ecdsa-p256":
        return ec.generate_private_key(ec.SECP256R1())
    if key_type == "ecdsa-p384":
        return ec.generate_private_key(ec.SECP384R1())
    return rsa.generate_private_key(public_exponent=65537, key_size=int(key_type.removeprefix("rsa-")))


def describe(key: PublicKeyTypes) -> str:
    """Return the kind of a key: as `KEY_TYPES` have it, or words that say what it is instead."""
    if isinstance(key, ec.EllipticCurvePublicKey):
        return _CURVES.get(key.curve.name, f"ecdsa ({key.curve.name})")
    if isinstance(key, rsa.RSAPublicKey):
        return f"rsa-{key.key_size}"
    return type(key).__name__


def hash_for(key: PrivateKey) -> hashes.SHA256 | hashes.SHA384:
    """Return the hash to sign with that is as strong as the key."""
    return hashes.SHA384() if describe(key.public_key()) == "ecdsa-p384" else hashes.SHA256()
