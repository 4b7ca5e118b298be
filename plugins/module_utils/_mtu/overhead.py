# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How many bytes of a packet ESP takes.

The figures are those by which Linux itself calculates (``__xfrm_state_mtu`` in ``net/xfrm/xfrm_state.c``, before
5.14 ``xfrm_state_mtu``; ``header_len`` is set in ``esp_init_state`` and ``esp6_init_state`` of ``net/ipv4/esp4.c``
and ``net/ipv6/esp6.c``)::

    usable     = ((mtu - header_len - icv - net_adj) & ~(block - 1)) + net_adj - 2
    header_len = 8 (SPI, sequence number) + IV [+ 8 for UDP] [+ 20 or 40, the outer IP header of tunnel mode]
    net_adj    = 20 or 40, the IP header that stays in front of ESP in transport mode; 0 in tunnel mode
    block      = what the cipher encrypts at a time, at least 4
    2          = pad length and next header, at the end of what is encrypted

All sizes are bytes; a packet is counted from its IP header to its end, as an interface's MTU does.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from ansible_collections.underlay.ipsec.plugins.module_utils._errors import IpsecError
from ansible_collections.underlay.ipsec.plugins.module_utils._model.proposals import parts as parts_of

TRANSPORT, TUNNEL = "transport", "tunnel"
IP_HEADER: Mapping[int, int] = {4: 20, 6: 40}
"""Family → its header, without options."""
UDP_HEADER = 8
SMALLEST_MTU: Mapping[int, int] = {4: 68, 6: 1280}
"""What a link has to carry at least: RFC 791 and RFC 8200."""
LARGEST_MTU = 65535

_ESP_HEADER = 8
_TRAILER = 2


@dataclass(frozen=True)
class Transform:
    """What one choice of algorithms costs."""

    iv: int
    block: int
    icv: int
    """The integrity check value at the end of the packet."""


# Block sizes below 4 are rounded up to it, because ESP ends on a multiple of 4 (RFC 4303, section 2.4).
_COMBINED: Mapping[str, Transform] = {
    **dict.fromkeys(
        ("aes_gcm", "aes_gcm_16", "aes_gcm_c", "aes_ccm", "aes_ccm_16", "aes_ccm_c"), Transform(8, 4, 16)
    ),
    **dict.fromkeys(("aes_gcm_12", "aes_gcm_b", "aes_ccm_12", "aes_ccm_b"), Transform(8, 4, 12)),
    **dict.fromkeys(("aes_gcm_8", "aes_gcm_a", "aes_ccm_8", "aes_ccm_a"), Transform(8, 4, 8)),
    **dict.fromkeys(("chacha20_poly1305", "chacha20poly1305"), Transform(8, 4, 16)),
}
_CIPHERS: Mapping[str, tuple[int, int]] = {
    **dict.fromkeys(("aes", "aes_cbc", "camellia", "camellia_cbc"), (16, 16)),
    **dict.fromkeys(("aes_ctr", "aesctr"), (8, 4)),
}
"""Name → IV and block."""
_ICV: Mapping[str, int] = {
    **dict.fromkeys(("sha2", "sha256", "sha2_256", "sha2_256_128", "hmac_sha2_256", "hmac_sha2_256_128"), 16),
    **dict.fromkeys(("sha384", "sha2_384", "sha2_384_192", "hmac_sha2_384", "hmac_sha2_384_192"), 24),
    **dict.fromkeys(("sha512", "sha2_512", "sha2_512_256", "hmac_sha2_512", "hmac_sha2_512_256"), 32),
    **dict.fromkeys(
        ("aes_xcbc", "aes128_xcbc", "aes_xcbc_96", "aes128_xcbc_96", "aes_cmac", "aes_cmac_96"), 12
    ),
    # Too weak for a plan, but a connection of somebody else's may have it.
    **dict.fromkeys(("sha", "sha1", "sha1_96", "hmac_sha1", "hmac_sha1_96"), 12),
}
# Libreswan offers several then, and this is the largest.
_DEFAULT_INTEGRITY = "sha2_512"
_NONE = ("none", "null")


def transforms(esp: str) -> frozenset[Transform]:
    """Return what the two ends may agree on by the proposal *esp*, in libreswan's notation.

    Raises IpsecError if it names an algorithm that is not known.
    """
    found: set[Transform] = set()
    for alternative in esp.lower().split(","):
        head, *rest = parts_of(alternative.strip())
        integrity = rest[0] if rest and rest[0] not in _NONE else _DEFAULT_INTEGRITY
        for name in head.split("+"):
            cipher = _without_key_length(name)
            if cipher in _COMBINED:
                found.add(_COMBINED[cipher])
            elif cipher in _CIPHERS:
                found.update(Transform(*_CIPHERS[cipher], _icv(check, esp)) for check in integrity.split("+"))
            else:
                raise IpsecError(
                    f"{name!r} in the ESP proposal {esp!r} is not an encryption algorithm whose overhead is known"
                )
    return frozenset(found)


def _without_key_length(name: str) -> str:
    if name in _COMBINED or name in _CIPHERS:
        return name
    return re.sub(r"_?(128|192|256)$", "", name)


def _icv(name: str, esp: str) -> int:
    if name not in _ICV:
        raise IpsecError(
            f"{name!r} in the ESP proposal {esp!r} is not an integrity algorithm whose overhead is known"
        )
    return _ICV[name]


def usable(
    esp: str,
    *,
    mtu: int,
    mode: str = TRANSPORT,
    in_udp: bool = False,
    family: int = 4,
    inner_family: int | None = None,
) -> int:
    """Return the largest packet that ESP carries over a link of *mtu* without fragments.

    With several algorithms to choose from in *esp*, it is the figure of the most expensive one. *family* is that of
    the addresses between which ESP travels; *inner_family*, in tunnel mode, that of the packet inside.

    Raises IpsecError if *esp* cannot be read, *mtu* is no MTU of *family*, or too little of it is left.
    """
    inner_family = _checked(mode, family, inner_family)
    if not SMALLEST_MTU[family] <= mtu <= LARGEST_MTU:
        raise IpsecError(
            f"an MTU of {mtu} is not possible with IPv{family}: it is {SMALLEST_MTU[family]} to {LARGEST_MTU}"
        )
    left = min(_usable(transform, mtu, mode, in_udp, family) for transform in transforms(esp))
    # Linux gives an SA between IPv6 addresses at least 1280, whatever is left, and then sends fragments of ESP.
    smallest = max(SMALLEST_MTU[family], SMALLEST_MTU[inner_family])
    if left < smallest:
        what = f"{left} of {mtu} bytes" if left > 0 else f"nothing of {mtu} bytes"
        needed = needed_mtu(
            esp, inner=smallest, mode=mode, in_udp=in_udp, family=family, inner_family=inner_family
        )
        raise IpsecError(
            f"ESP ({esp}, {mode} mode{', in UDP' if in_udp else ''}) leaves {what},"
            f" and IPv{6 if smallest == SMALLEST_MTU[6] else 4} needs {smallest}: the link has to carry at least {needed}"
        )
    return left


def overhead(
    esp: str,
    *,
    mtu: int,
    mode: str = TRANSPORT,
    in_udp: bool = False,
    family: int = 4,
    inner_family: int | None = None,
) -> int:
    """Return how much smaller than *mtu* the packets inside have to be; see `usable`."""
    return mtu - usable(esp, mtu=mtu, mode=mode, in_udp=in_udp, family=family, inner_family=inner_family)


def reserve(esp: str, *, mode: str = TRANSPORT, in_udp: bool = False, family: int = 4) -> int:
    """Return an overhead that is enough whatever the MTU: all headers, and a whole block of padding.

    The kernel never pads by a whole block, so the largest overhead that there really is, is one byte less.

    Raises IpsecError if *esp* cannot be read.
    """
    _checked(mode, family, None)
    return max(
        _headers(transform, mode, in_udp, family) + transform.icv + _TRAILER + transform.block
        for transform in transforms(esp)
    )


def needed_mtu(
    esp: str,
    *,
    inner: int,
    mode: str = TRANSPORT,
    in_udp: bool = False,
    family: int = 4,
    inner_family: int | None = None,
) -> int:
    """Return the smallest MTU of a link that carries packets of *inner* bytes inside ESP; the inverse of `usable`.

    Raises IpsecError if *esp* cannot be read, or no link can carry it.
    """
    _checked(mode, family, inner_family)
    if inner < 1:
        raise IpsecError(f"there is no packet of {inner} bytes")
    kept = IP_HEADER[family] if mode == TRANSPORT else 0
    needed = max(
        -(-(inner - kept + _TRAILER) // transform.block) * transform.block
        + _headers(transform, mode, in_udp, family)
        + transform.icv
        + kept
        for transform in transforms(esp)
    )
    if needed > LARGEST_MTU:
        raise IpsecError(
            f"a packet of {inner} bytes needs a link of {needed}, and no link carries more than {LARGEST_MTU}"
        )
    return max(needed, SMALLEST_MTU[family])


def _checked(mode: str, family: int, inner_family: int | None) -> int:
    """Return the family of the packet inside. Raises IpsecError if one of these cannot be."""
    if mode not in (TRANSPORT, TUNNEL):
        raise IpsecError(f"{mode!r} is not a mode of ESP: it is {TRANSPORT} or {TUNNEL}")
    inner = family if inner_family is None else inner_family
    for number in (family, inner):
        if number not in IP_HEADER:
            raise IpsecError(f"there is no IPv{number}: the family is 4 or 6")
    if mode == TRANSPORT and inner != family:
        raise IpsecError(
            f"in transport mode, an IPv{inner} packet cannot travel in IPv{family}: use tunnel mode"
        )
    return inner


def _headers(transform: Transform, mode: str, in_udp: bool, family: int) -> int:
    """Return the kernel's ``header_len``."""
    outer = IP_HEADER[family] if mode == TUNNEL else 0
    return outer + (UDP_HEADER if in_udp else 0) + _ESP_HEADER + transform.iv


def _usable(transform: Transform, mtu: int, mode: str, in_udp: bool, family: int) -> int:
    kept = IP_HEADER[family] if mode == TRANSPORT else 0
    room = mtu - _headers(transform, mode, in_udp, family) - transform.icv - kept
    return room // transform.block * transform.block + kept - _TRAILER
