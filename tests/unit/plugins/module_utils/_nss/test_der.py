# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The DER reader takes what is DER and nothing else."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from ansible_collections.underlay.ipsec.plugins.module_utils._nss.der import DerError, Element, read


@pytest.mark.parametrize(
    ("data", "value"),
    [
        ("020100", 0),
        ("02017f", 127),
        ("02020080", 128),
        ("0201ff", -1),
        ("020900ffffffffffffffff", 2**64 - 1),
    ],
)
def test_integer(data: str, value: int) -> None:
    assert read(bytes.fromhex(data)).integer() == value


@pytest.mark.parametrize(
    ("data", "value"),
    [
        ("0603550403", "2.5.4.3"),
        ("06092a864886f70d01010b", "1.2.840.113549.1.1.11"),
        ("06052b81040022", "1.3.132.0.34"),
        ("0603883703", "2.999.3"),
    ],
)
def test_oid(data: str, value: str) -> None:
    assert read(bytes.fromhex(data)).oid() == value


@pytest.mark.parametrize(
    ("tag", "text", "value"),
    [
        (0x17, "260131120000Z", datetime(2026, 1, 31, 12, tzinfo=UTC)),
        (0x17, "491231235959Z", datetime(2049, 12, 31, 23, 59, 59, tzinfo=UTC)),
        (0x17, "500101000000Z", datetime(1950, 1, 1, tzinfo=UTC)),
        (0x18, "20500101000000Z", datetime(2050, 1, 1, tzinfo=UTC)),
    ],
)
def test_time(tag: int, text: str, value: datetime) -> None:
    assert Element(tag, text.encode(), b"").time() == value


@pytest.mark.parametrize("text", ["2601311200Z", "260131120000+0100", "261331120000Z", "", "260131120000"])
def test_time_in_another_form(text: str) -> None:
    with pytest.raises(DerError):
        Element(0x17, text.encode(), b"").time()


@pytest.mark.parametrize(
    "data",
    [
        pytest.param("", id="nothing"),
        pytest.param("02", id="no length"),
        pytest.param("020201", id="truncated"),
        pytest.param("02010102", id="something after it"),
        pytest.param("020101020102", id="two elements"),
        pytest.param("3080020100000000"[:12], id="indefinite length"),
        pytest.param("02810101", id="length in long form without need"),
        pytest.param("0282000101", id="length with a leading zero"),
        pytest.param("028201", id="truncated length"),
        pytest.param("1f8101", id="tag of several bytes"),
    ],
)
def test_not_der(data: str) -> None:
    with pytest.raises(DerError):
        read(bytes.fromhex(data))


@pytest.mark.parametrize(
    ("data", "read_as"),
    [
        ("0500", "integer"),
        ("0200", "integer"),
        ("010101", "boolean"),
        ("030101", "bits"),
        ("0300", "bits"),
        ("0601ff", "oid"),
        ("0600", "oid"),
        ("0c01ff", "text"),
        ("0401ff", "text"),
    ],
)
def test_the_wrong_contents(data: str, read_as: str) -> None:
    with pytest.raises(DerError):
        getattr(read(bytes.fromhex(data)), read_as)()


def test_each_truncation_is_noticed() -> None:
    nested = bytes.fromhex("300b3009020101020102020103")
    assert [child.integer() for child in read(nested).children()[0].children()] == [1, 2, 3]
    for length in range(len(nested)):
        with pytest.raises(DerError):
            read(nested[:length])
