# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the action plan makes of Ansible's variables."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest
from ansible_collections.underlay.ipsec.plugins.action import plan
from ansible_collections.underlay.ipsec.plugins.module_utils._model.cluster import HostAddress


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        ("private", True),
        ("{{ x }}", False),
        ("{% if x %}a{% endif %}", False),
        (None, True),
        (5, True),
        ([{"name": "data", "cidr": "10.88.0.0/24"}], True),
        ([{"name": "data", "clear": ["{{ gateway }}"]}], False),
        ({"{{ key }}": 1}, False),
        (object(), False),
    ],
)
def test_plain_values_are_not_templated(value: Any, plain: bool) -> None:
    assert plan._is_plain(value) == plain


SETUP_FACTS = {
    "interfaces": ["lo", "br-ex", "eth0"],
    "lo": {"ipv4": {"address": "127.0.0.1", "prefix": "8"}},
    "br_ex": {
        "ipv4": {"address": "10.88.0.1", "prefix": "24"},
        "ipv4_secondaries": [{"address": "10.88.0.100", "prefix": "24"}],
        "ipv6": [
            {"address": "fd00:88::1", "prefix": "64", "scope": "global"},
            {"address": "fe80::1", "prefix": "64", "scope": "link"},
        ],
    },
    "eth0": {"active": True},
}


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        pytest.param({}, None, id="nothing is cached"),
        pytest.param(
            SETUP_FACTS,
            [
                ("br-ex", "10.88.0.1", 24, False),
                ("br-ex", "fd00:88::1", 64, False),
                ("br-ex", "10.88.0.100", 24, True),
            ],
            id="setup",
        ),
        pytest.param(
            {
                **SETUP_FACTS,
                "__ipsec_addresses": [
                    {
                        "interface": "eth1",
                        "address": "10.88.0.9",
                        "prefix": 24,
                        "family": 4,
                        "scope": "global",
                        "secondary": False,
                    }
                ],
            },
            [("eth1", "10.88.0.9", 24, False)],
            id="host_info",
        ),
    ],
)
def test_cached_addresses(facts: dict[str, Any], expected: list[tuple[str, str, int, bool]] | None) -> None:
    wanted = expected and tuple(
        HostAddress(name, ipaddress.ip_address(text), prefix, secondary)
        for name, text, prefix, secondary in expected
    )
    assert plan.cached_addresses(facts) == wanted
