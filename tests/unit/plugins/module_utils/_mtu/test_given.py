# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What templates hand to filters."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.underlay.ipsec.plugins.module_utils._errors import IpsecError
from ansible_collections.underlay.ipsec.plugins.module_utils._mtu.given import flag, number


@pytest.mark.parametrize(("value", "result"), [(1500, 1500), ("1500", 1500), (" 9000 ", 9000), ("-1", -1)])
def test_number(value: Any, result: int) -> None:
    assert number(value, "mtu") == result


@pytest.mark.parametrize("value", ["jumbo", "", None, True, 1.5, "1.5", [1500]])
def test_no_number(value: Any) -> None:
    with pytest.raises(IpsecError, match=r"mtu is .* not a whole number"):
        number(value, "mtu")


@pytest.mark.parametrize(
    ("value", "result"),
    [(True, True), (False, False), ("yes", True), ("False", False), (1, True), ("off", False)],
)
def test_flag(value: Any, result: bool) -> None:
    assert flag(value, "encapsulation") is result


@pytest.mark.parametrize("value", ["always", "", None, 2])
def test_no_flag(value: Any) -> None:
    with pytest.raises(IpsecError, match=r"encapsulation is .* neither true nor false"):
        flag(value, "encapsulation")
