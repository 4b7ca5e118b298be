# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filters that calculate with the size of ESP, as templates use them."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from ansible.errors import AnsibleFilterError
from ansible_collections.underlay.ipsec.plugins.filter import esp_overhead, inner_mtu, overlay_mtu
from ansible_collections.underlay.ipsec.plugins.module_utils._mtu.advise import OVERLAYS

FILTERS = {
    name: function
    for plugin in (esp_overhead, inner_mtu, overlay_mtu)
    for name, function in plugin.FilterModule().filters().items()
}


@pytest.mark.parametrize(
    ("name", "positional", "named", "result"),
    [
        ("inner_mtu", (), {}, 1466),
        ("inner_mtu", (1500,), {"mode": "tunnel", "encapsulation": True}, 1438),
        ("inner_mtu", ("9000",), {"family": "6"}, 8966),
        ("inner_mtu", (1500,), {"mode": "tunnel", "family": 6, "inner_family": "4"}, 1426),
        ("esp_overhead", (1500,), {}, 34),
        ("esp_overhead", (1500,), {"mode": "tunnel", "encapsulation": "yes"}, 62),
        ("esp_overhead", (), {"encapsulation": True}, 46),
        ("overlay_mtu", ("vxlan",), {"mode": "tunnel", "encapsulation": True}, 1388),
        ("overlay_mtu", ("geneve", 9000), {"family": 6}, 8896),
        ("overlay_mtu", ("geneve", 1500), {"options": "8"}, 1408),
    ],
)
def test_filter(name: str, positional: tuple[Any, ...], named: dict[str, Any], result: int) -> None:
    assert FILTERS[name]("aes_gcm256", *positional, **named) == result


@pytest.mark.parametrize(
    ("name", "positional", "named", "said"),
    [
        ("inner_mtu", ("large",), {}, "mtu is 'large'"),
        ("inner_mtu", (1200,), {"family": 6}, "1280 to 65535"),
        ("inner_mtu", (1500,), {"encapsulation": "auto"}, "encapsulation is 'auto'"),
        ("esp_overhead", (80,), {"mode": "tunnel"}, "IPv4 needs 68"),
        ("esp_overhead", (), {"mode": "both"}, "'both' is not a mode"),
        ("overlay_mtu", ("vpn",), {}, "'vpn' is not an overlay"),
    ],
)
def test_errors(name: str, positional: tuple[Any, ...], named: dict[str, Any], said: str) -> None:
    with pytest.raises(AnsibleFilterError, match=said):
        FILTERS[name]("aes_gcm256", *positional, **named)


def test_documented_kinds_are_the_known_ones() -> None:
    options = yaml.safe_load(overlay_mtu.DOCUMENTATION)["options"]
    assert options["kind"]["choices"] == list(OVERLAYS)
