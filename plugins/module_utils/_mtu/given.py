# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a template hands to a filter: figures and truths may be text."""

from __future__ import annotations

from typing import Any

from ansible_collections.underlay.ipsec.plugins.module_utils._errors import IpsecError

_TRUTHS = {
    "true": True,
    "yes": True,
    "on": True,
    "1": True,
    "false": False,
    "no": False,
    "off": False,
    "0": False,
}


def number(value: Any, name: str) -> int:
    """Return the whole number that *value* is. Raises IpsecError, with *name*, if it is none."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and value.strip().lstrip("-").isdigit():
        return int(value)
    raise IpsecError(f"{name} is {value!r}, which is not a whole number")


def flag(value: Any, name: str) -> bool:
    """Return the truth that *value* is. Raises IpsecError, with *name*, if it is none."""
    found = _TRUTHS.get(str(value).strip().lower())
    if found is None:
        raise IpsecError(f"{name} is {value!r}, which is neither true nor false")
    return found
