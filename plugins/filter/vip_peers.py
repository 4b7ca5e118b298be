# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter vip_peers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.underlay.ipsec.plugins.module_utils._plan.vips import vip_peers

DOCUMENTATION = r"""
name: vip_peers
short_description: The members that a holder of virtual addresses knows
description:
  - Returns the other members on the networks of the virtual addresses that a member may hold.
positional: member
extends_documentation_fragment:
  - underlay.ipsec.plan_filter
"""

EXAMPLES = r"""
- name: Be ready for the addresses
  underlay.ipsec.vip:
    settings: "{{ __ipsec_slice.libreswan }}"
    members: "{{ lookup('ansible.builtin.file', 'plan.json') | from_json | underlay.ipsec.vip_peers(inventory_hostname) }}"
    script: "{{ lookup('ansible.builtin.file', 'underlay-vip.sh') }}"
"""

RETURN = r"""
_value:
  description: C(network), C(member), C(fqdn) and C(address) of each, for the option O(underlay.ipsec.vip#module:members).
  type: list
  elements: dict
"""


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return name → function."""
        return {"vip_peers": vip_peers}
