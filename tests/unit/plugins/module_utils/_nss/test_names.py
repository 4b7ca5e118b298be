# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One name is one name, however it is written."""

from __future__ import annotations

import pytest
from ansible_collections.underlay.ipsec.plugins.module_utils._nss.names import attributes, distinguished_name
from cryptography import x509
from cryptography.x509.oid import NameOID


def der(*parts: tuple[x509.ObjectIdentifier, str]) -> bytes:
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in parts]).public_bytes()


@pytest.mark.parametrize(
    ("name", "pluto"),
    [
        (((NameOID.ORGANIZATION_NAME, "underlay.ipsec"), (NameOID.COMMON_NAME, "h1")), "CN=h1, O=underlay.ipsec"),
        (((NameOID.ORGANIZATION_NAME, "A, B+C=#1"),), r"O=A\, B\+C\=\#1"),
        (((NameOID.ORGANIZATION_NAME, "#1"),), "O=#0C022331"),
        (((NameOID.ORGANIZATION_NAME, " a "),), "O=\\ a\\ "),
        (((NameOID.COMMON_NAME, "Zürich"),), r"CN=Z\C3\BCrich"),
        (((NameOID.EMAIL_ADDRESS, "a@b.c"), (NameOID.GIVEN_NAME, "x")), "emailAddress=a@b.c, G=x"),
        (((NameOID.BUSINESS_CATEGORY, "x"),), "2.5.4.15=#0C0178"),
        (((NameOID.ORGANIZATIONAL_UNIT_NAME, "1"), (NameOID.ORGANIZATIONAL_UNIT_NAME, "2")), "OU=2, OU=1"),
    ],
)  # fmt: skip
def test_what_pluto_writes_is_what_is_there(
    name: tuple[tuple[x509.ObjectIdentifier, str], ...], pluto: str
) -> None:
    there = attributes(distinguished_name(der(*name)))
    assert attributes(pluto) == there
    assert len(there) == len(name)


def test_rfc_4514() -> None:
    assert attributes("CN=h1,OU=gen2,O=underlay.ipsec") == attributes("OU=gen2, O=underlay.ipsec, CN=h1")


@pytest.mark.parametrize(
    "other",
    ["", "CN=h1", "O=x, CN=h2", "O=x, OU=h1", "OU=gen2, O=x, CN=h1", "O=x, CN=h1, CN=h1", "O=x, CN=#h1", "O=x, CN=H1"],
)  # fmt: skip
def test_other_names(other: str) -> None:
    assert attributes(other) != attributes("O=x, CN=h1")
