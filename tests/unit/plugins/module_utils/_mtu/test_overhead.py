# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What ESP takes: the formula against what real kernels carried."""

from __future__ import annotations

import pytest
from ansible_collections.underlay.ipsec.plugins.module_utils._errors import IpsecError
from ansible_collections.underlay.ipsec.plugins.module_utils._mtu.overhead import (
    SMALLEST_MTU,
    needed_mtu,
    overhead,
    reserve,
    usable,
)

WAYS = [
    (mode, family, inner, in_udp)
    for mode, family, inner in (
        ("transport", 4, 4),
        ("transport", 6, 6),
        ("tunnel", 4, 4),
        ("tunnel", 6, 6),
        ("tunnel", 4, 6),
        ("tunnel", 6, 4),
    )
    for in_udp in (False, True)
]
# The largest packet that `ping -M do` got through, in the order of WAYS: see docs/mtu.md.
MEASURED = {
    1500: {
        "aes_gcm128": (1466, 1458, 1466, 1458, 1446, 1438, 1426, 1418, 1446, 1438, 1426, 1418),
        "aes_gcm256": (1466, 1458, 1466, 1458, 1446, 1438, 1426, 1418, 1446, 1438, 1426, 1418),
        "aes_gcm_12_256": (1470, 1462, 1470, 1462, 1450, 1442, 1430, 1422, 1450, 1442, 1430, 1422),
        "aes_gcm_8_256": (1474, 1466, 1474, 1466, 1454, 1446, 1434, 1426, 1454, 1446, 1434, 1426),
        "chacha20_poly1305": (1466, 1458, 1466, 1458, 1446, 1438, 1426, 1418, 1446, 1438, 1426, 1418),
        "aes_ccm256": (1466, 1458, 1466, 1458, 1446, 1438, 1426, 1418, 1446, 1438, 1426, 1418),
        "aes_ccm_12_256": (1470, 1462, 1470, 1462, 1450, 1442, 1430, 1422, 1450, 1442, 1430, 1422),
        "aes_ccm_8_256": (1474, 1466, 1474, 1466, 1454, 1446, 1434, 1426, 1454, 1446, 1434, 1426),
        "aes256-sha1": (1458, 1442, 1462, 1446, 1438, 1422, 1422, 1406, 1438, 1422, 1422, 1406),
        "aes256-sha2_256": (1458, 1442, 1446, 1446, 1438, 1422, 1406, 1406, 1438, 1422, 1406, 1406),
        "aes256-sha2_384": (1442, 1442, 1446, 1430, 1422, 1422, 1406, 1390, 1422, 1422, 1406, 1390),
        "aes256-sha2_512": (1442, 1426, 1430, 1430, 1422, 1406, 1390, 1390, 1422, 1406, 1390, 1390),
        "aes256-aes_xcbc": (1458, 1442, 1462, 1446, 1438, 1422, 1422, 1406, 1438, 1422, 1422, 1406),
        "aes256-aes_cmac_96": (1458, 1442, 1462, 1446, 1438, 1422, 1422, 1406, 1438, 1422, 1422, 1406),
        "aes_ctr256-sha2_256": (1466, 1458, 1466, 1458, 1446, 1438, 1426, 1418, 1446, 1438, 1426, 1418),
        "aes_ctr256-sha2_512": (1450, 1442, 1450, 1442, 1430, 1422, 1410, 1402, 1430, 1422, 1410, 1402),
        "camellia256-sha2_256": (1458, 1442, 1446, 1446, 1438, 1422, 1406, 1406, 1438, 1422, 1406, 1406),
        "camellia256-sha2_512": (1442, 1426, 1430, 1430, 1422, 1406, 1390, 1390, 1422, 1406, 1390, 1390),
    },
    1497: {
        "aes_gcm256": (1462, 1454, 1462, 1454, 1442, 1434, 1422, 1414, 1442, 1434, 1422, 1414),
        "aes256-sha1": (1458, 1442, 1446, 1446, 1438, 1422, 1406, 1406, 1438, 1422, 1406, 1406),
        "aes256-sha2_256": (1442, 1442, 1446, 1446, 1422, 1422, 1406, 1406, 1422, 1422, 1406, 1406),
        "aes256-sha2_384": (1442, 1426, 1446, 1430, 1422, 1406, 1406, 1390, 1422, 1406, 1406, 1390),
        "aes256-sha2_512": (1426, 1426, 1430, 1430, 1406, 1406, 1390, 1390, 1406, 1406, 1390, 1390),
        "aes_ctr256-sha2_512": (1446, 1438, 1446, 1438, 1426, 1418, 1406, 1398, 1426, 1418, 1406, 1398),
    },
}
VECTORS = [
    (mtu, esp, *way, size)
    for mtu, table in MEASURED.items()
    for esp, sizes in table.items()
    for way, size in zip(WAYS, sizes, strict=True)
]


@pytest.mark.parametrize(("mtu", "esp", "mode", "family", "inner", "in_udp", "size"), VECTORS)
def test_as_measured(mtu: int, esp: str, mode: str, family: int, inner: int, in_udp: bool, size: int) -> None:
    assert usable(esp, mtu=mtu, mode=mode, in_udp=in_udp, family=family, inner_family=inner) == size
    assert overhead(esp, mtu=mtu, mode=mode, in_udp=in_udp, family=family, inner_family=inner) == mtu - size


@pytest.mark.parametrize(
    ("esp", "size"),
    [
        ("AES_GCM256", 1466),
        ("aes_gcm256-null", 1466),
        ("aes_gcm_16_256", 1466),
        ("aes_gcm_c-256", 1466),
        ("chacha20_poly1305-none-dh20", 1466),
        ("aes_gcm256+aes_gcm128", 1466),
        ("aes256-sha2_256;modp2048", 1458),
        # The most expensive of several.
        ("aes_gcm256,aes256-sha2_256", 1458),
        ("aes256-sha2_256+sha2_512", 1442),
        ("aes_gcm_8+aes_gcm_16", 1466),
        ("aes_gcm256+aes_ctr256-sha2_512", 1450),
        # Libreswan offers SHA2-512 and SHA2-256 by itself.
        ("aes256", 1442),
        ("aes256-none", 1442),
    ],
)
def test_proposals(esp: str, size: int) -> None:
    assert usable(esp, mtu=1500) == size


@pytest.mark.parametrize(
    "esp", ["aes_gcm256", "aes256-sha2_256", "aes256-sha2_512", "aes_gcm256,aes256-sha2_384"]
)
@pytest.mark.parametrize(("mode", "family", "inner", "in_udp"), WAYS)
def test_needed_mtu_is_the_inverse(esp: str, mode: str, family: int, inner: int, in_udp: bool) -> None:
    for size in (1280, 1281, 1388, 1400, 1401, 1500, 8950):
        mtu = needed_mtu(esp, inner=size, mode=mode, in_udp=in_udp, family=family, inner_family=inner)
        fits = {"mode": mode, "in_udp": in_udp, "family": family, "inner_family": inner}
        assert usable(esp, mtu=mtu, **fits) >= size  # type: ignore[arg-type]
        if size > 1300:
            assert usable(esp, mtu=mtu - 1, **fits) < size  # type: ignore[arg-type]


def test_a_link_is_never_smaller_than_its_family_allows() -> None:
    assert needed_mtu("aes_gcm256", inner=1, family=6) == SMALLEST_MTU[6]


@pytest.mark.parametrize(
    ("esp", "in_udp"), [("aes_gcm256", False), ("aes_gcm256", True), ("aes256-sha2_512", True)]
)
def test_reserve_is_one_more_than_the_largest(esp: str, in_udp: bool) -> None:
    largest = max(overhead(esp, mtu=mtu, in_udp=in_udp) for mtu in range(1400, 1464))
    assert reserve(esp, in_udp=in_udp) == largest + 1


def test_operator_of_openshift_4() -> None:
    """Its constant is 46, for transport mode and AES-GCM."""
    assert reserve("aes_gcm256", in_udp=True) == 46
    assert max(overhead("aes_gcm256", mtu=mtu, in_udp=True) for mtu in range(1280, 9100)) == 45


def test_openshift_3_11() -> None:
    assert overhead("aes_gcm256", mtu=1500, mode="tunnel", in_udp=True) == 62


@pytest.mark.parametrize(
    ("esp", "arguments", "said"),
    [
        ("rot13", {"mtu": 1500}, "'rot13' in the ESP proposal 'rot13' is not an encryption"),
        ("", {"mtu": 1500}, "'' in the ESP proposal"),
        ("aes_gcm256,", {"mtu": 1500}, "'' in the ESP proposal 'aes_gcm256,'"),
        ("aes512-sha2_256", {"mtu": 1500}, "'aes512'"),
        ("aes256-crc32", {"mtu": 1500}, "'crc32' in the ESP proposal 'aes256-crc32' is not an integrity"),
        ("aes_gcm256", {"mtu": 67}, "68 to 65535"),
        ("aes_gcm256", {"mtu": -1}, "68 to 65535"),
        ("aes_gcm256", {"mtu": 65536}, "68 to 65535"),
        ("aes_gcm256", {"mtu": 1279, "family": 6}, "1280 to 65535"),
        (
            "aes_gcm256",
            {"mtu": 68},
            "leaves 34 of 68 bytes, and IPv4 needs 68: the link has to carry at least 104",
        ),
        ("aes256-sha2_512", {"mtu": 70, "mode": "tunnel"}, "leaves nothing of 70 bytes"),
        (
            "aes_gcm256",
            {"mtu": 1280, "family": 6},
            "leaves 1246 of 1280 bytes, and IPv6 needs 1280: .* least 1316",
        ),
        # An SA between IPv6 addresses gets 1280 from the kernel, whatever is inside.
        ("aes_gcm256", {"mtu": 1300, "family": 6, "inner_family": 4, "mode": "tunnel"}, "IPv6 needs 1280"),
        ("aes_gcm256", {"mtu": 1300, "inner_family": 6, "mode": "tunnel"}, "IPv6 needs 1280"),
        ("aes_gcm256", {"mtu": 1500, "inner_family": 6}, "use tunnel mode"),
        ("aes_gcm256", {"mtu": 1500, "mode": "beet"}, "'beet' is not a mode"),
        ("aes_gcm256", {"mtu": 1500, "family": 5}, "no IPv5"),
    ],
)
def test_what_cannot_be(esp: str, arguments: dict[str, int], said: str) -> None:
    with pytest.raises(IpsecError, match=said):
        usable(esp, **arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("mtu", [104, 105, 106, 107])
def test_smallest_that_is_left(mtu: int) -> None:
    assert usable("aes_gcm256", mtu=mtu) >= 68


@pytest.mark.parametrize(
    ("inner", "said"), [(0, "no packet of 0"), (65535, "no link carries more than 65535")]
)
def test_what_no_link_carries(inner: int, said: str) -> None:
    with pytest.raises(IpsecError, match=said):
        needed_mtu("aes_gcm256", inner=inner)
