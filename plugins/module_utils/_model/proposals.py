# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Cipher suites in libreswan's notation, as ``ike=`` and ``esp=`` take them.

A proposal is a comma-separated list of alternatives, an alternative consists of
parts separated by ``-`` (or ``;`` before a Diffie-Hellman group), and a part may
offer several algorithms separated by ``+``: ``aes_gcm256+aes_gcm128-sha2_512-dh20``.
The names are those of libreswan's algorithm tables.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping

_AEAD = "aead"
_PLAIN = "plain"

_CCM = frozenset({"aes_ccm", "aes_ccm_16", "aes_ccm_c", "aes_ccm_12", "aes_ccm_b", "aes_ccm_8", "aes_ccm_a"})
_CHACHA = frozenset({"chacha20_poly1305", "chacha20poly1305"})
_GCM = frozenset({"aes_gcm", "aes_gcm_16", "aes_gcm_c", "aes_gcm_12", "aes_gcm_b", "aes_gcm_8", "aes_gcm_a"})
_ENCRYPTION: Mapping[str, str] = {
    **dict.fromkeys(_CCM | _CHACHA | _GCM, _AEAD),
    **dict.fromkeys(("aes", "aes_cbc", "aes_ctr", "aesctr", "camellia", "camellia_cbc"), _PLAIN),
}
_KEY_LENGTHS = ("128", "192", "256")
_SHA2 = frozenset({"sha2_256", "sha2_384", "sha2_512", "hmac_sha2_256", "hmac_sha2_384", "hmac_sha2_512"})
_PRF = _SHA2 | {"sha2", "sha256", "sha384", "sha512", "aes_xcbc", "aes128_xcbc"}
_INTEGRITY = (
    _PRF
    | {
        "sha2_256_128",
        "sha2_384_192",
        "sha2_512_256",
        "hmac_sha2_256_128",
        "hmac_sha2_384_192",
        "hmac_sha2_512_256",
    }
    | {"aes_xcbc_96", "aes128_xcbc_96", "aes_cmac", "aes_cmac_96"}
)
_DH = frozenset(
    {f"dh{number}" for number in (14, 15, 16, 17, 18, 19, 20, 21, 31)}
    | {f"modp{bits}" for bits in (2048, 3072, 4096, 6144, 8192)}
    | {"ecp256", "ecp_256", "ecp384", "ecp_384", "ecp521", "ecp_521", "curve25519"}
)
_NONE = frozenset({"none", "null"})

_WEAK: Mapping[str, str] = {
    **dict.fromkeys(
        ("3des", "3des_cbc", "des", "blowfish", "cast", "cast_cbc"), "its 64-bit blocks are too small"
    ),
    **dict.fromkeys(("null_auth_aes_gmac", "aes_gmac"), "it does not encrypt"),
    **dict.fromkeys(("md5", "hmac_md5", "hmac_md5_96"), "MD5 is broken"),
    **dict.fromkeys(("sha", "sha1", "sha1_96", "hmac_sha1", "hmac_sha1_96"), "SHA-1 is broken"),
    **dict.fromkeys(
        ("dh1", "modp768", "dh2", "modp1024", "dh5", "modp1536", "dh22", "dh23", "dh24", "dh25", "dh26"),
        "its Diffie-Hellman group is too small",
    ),
}


def _unknown(kind: str, name: str, known: frozenset[str]) -> str:
    if name in _WEAK:
        return f"{name!r} is too weak to use: {_WEAK[name]}"
    close = difflib.get_close_matches(name, sorted(known), n=1)
    hint = f", did you mean {close[0]!r}" if close else ""
    return f"{name!r} is not {kind} that libreswan knows{hint}"


def _encryption(name: str, esp: bool, faults: list[str]) -> str | None:
    """Return whether *name* (with or without a key length) is AEAD or not; None, and a fault, if it is unknown."""
    if name in _NONE:
        faults.append(f"{name!r} does not encrypt")
        return None
    known = frozenset(_ENCRYPTION) if esp else frozenset(_ENCRYPTION) - _CCM
    bare, length = name, _KEY_LENGTHS[0]
    match = re.fullmatch(r"(.*?)_?(\d{3,})", name)
    if name not in known and match and match.group(1) in known - _CHACHA:
        bare, length = match.group(1), match.group(2)
    if bare not in known:
        faults.append(_unknown("an encryption algorithm", name, known))
        return None
    if length not in _KEY_LENGTHS:
        faults.append(
            f"{name!r} has a key length that does not exist, it is one of {', '.join(_KEY_LENGTHS)}"
        )
    return _ENCRYPTION[bare]


def parts(text: str) -> list[str]:
    # A key length may be set off by the same dash that separates the parts.
    return re.sub(r"-(\d{3})(?=[-;+]|$)", r"_\1", text).replace(";", "-").split("-")


def _check(part: str, kind: str, known: frozenset[str], faults: list[str]) -> None:
    faults.extend(_unknown(kind, name, known) for name in part.split("+") if name not in known)


def _alternative(text: str, esp: bool, faults: list[str]) -> None:
    head, *rest = parts(text)
    kinds = {kind for kind in (_encryption(name, esp, faults) for name in head.split("+")) if kind}
    if len(kinds) > 1:
        faults.append(f"{text!r} mixes algorithms that need a separate integrity check with some that do not")
    if len(rest) > 2:
        faults.append(f"{text!r} has more than three parts")
        return
    if esp and kinds == {_AEAD}:
        if rest and rest[0] not in _NONE:
            faults.append(f"{text!r} has the integrity algorithm {rest[0]!r}, but {head!r} brings its own")
    elif rest and esp:
        _check(rest[0], "an integrity algorithm", _INTEGRITY, faults)
    elif rest:
        _check(rest[0], "a pseudo-random function", _PRF, faults)
    if len(rest) == 2:
        _check(rest[1], "a Diffie-Hellman group", _DH | _NONE if esp else _DH, faults)


def proposal_faults(text: str, *, esp: bool) -> list[str]:
    """Return what is wrong with the proposal *text* for IKE, or for ESP; an empty list if nothing is."""
    faults: list[str] = []
    alternatives = [alternative.strip() for alternative in text.lower().split(",")]
    for alternative in alternatives:
        if alternative:
            _alternative(alternative, esp, faults)
        else:
            faults.append("there is an empty alternative")
    if esp and len({len(parts(alternative)) > 2 for alternative in alternatives}) > 1:
        faults.append("either all alternatives name a Diffie-Hellman group, or none does")
    return faults
