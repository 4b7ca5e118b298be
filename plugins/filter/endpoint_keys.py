# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter endpoint_keys."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.underlay.ipsec.plugins.module_utils._plan.endpoints import endpoint_keys

DOCUMENTATION = r"""
name: endpoint_keys
short_description: The pre-shared keys of a member's endpoints
description:
  - Returns the keys that a member shares with hosts outside the inventory. The plan says with which of them, and
    has no keys.
positional: member, endpoints
extends_documentation_fragment:
  - underlay.ipsec.plan_filter
options:
  endpoints:
    description: The variable C(ipsec_endpoints), from which the plan was made.
    type: list
    elements: dict
    required: true
"""

EXAMPLES = r"""
- name: Encrypt whatever can be encrypted
  underlay.ipsec.libreswan:
    settings: "{{ __ipsec_slice.libreswan }}"
    keys: "{{ lookup('ansible.builtin.file', 'plan.json') | from_json | underlay.ipsec.endpoint_keys(inventory_hostname, ipsec_endpoints) }}"
"""

RETURN = r"""
_value:
  description: C(ids) and C(psk) of each endpoint with a key, for the option O(underlay.ipsec.libreswan#module:keys).
  type: list
  elements: dict
"""


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return name → function."""
        return {"endpoint_keys": endpoint_keys}
