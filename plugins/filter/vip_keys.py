# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter vip_keys."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.underlay.ipsec.plugins.module_utils._plan.vips import vip_keys

DOCUMENTATION = r"""
name: vip_keys
short_description: The pre-shared keys that a member needs for virtual addresses
description:
  - Returns the keys of the virtual addresses on a member's networks, once for each end that the member may be.
  - Returns nothing if the plan is not for pre-shared keys.
positional: member, secret, vips
extends_documentation_fragment:
  - underlay.ipsec.plan_filter
options:
  secret:
    description: The master secret, from which the keys are derived that O(vips) does not have. It stays on the controller.
    type: str
    required: true
  vips:
    description: The variable C(ipsec_vips), from which the plan was made.
    type: list
    elements: dict
    required: true
"""

EXAMPLES = r"""
- name: Encrypt whatever can be encrypted
  underlay.ipsec.libreswan:
    settings: "{{ __ipsec_slice.libreswan }}"
    keys: "{{ lookup('ansible.builtin.file', 'plan.json') | from_json | underlay.ipsec.vip_keys(inventory_hostname, ipsec_psk_secret, ipsec_vips) }}"
"""

RETURN = r"""
_value:
  description: C(ids) and C(psk) of each, for the option O(underlay.ipsec.libreswan#module:keys).
  type: list
  elements: dict
"""


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return name → function."""
        return {"vip_keys": vip_keys}
