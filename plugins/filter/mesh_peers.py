# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter mesh_peers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.underlay.ipsec.plugins.module_utils._plan.mesh import mesh_peers

DOCUMENTATION = r"""
name: mesh_peers
short_description: A member's peers in a mesh, from the plan
description:
  - Returns the other ends of a member's connections, from the content of C(plan.json).
  - They are none if the topology is V(opportunistic).
positional: member
extends_documentation_fragment:
  - underlay.ipsec.plan_filter
"""

EXAMPLES = r"""
- name: Encrypt whatever can be encrypted
  underlay.ipsec.libreswan:
    settings: "{{ __ipsec_slice.libreswan }}"
    peers: "{{ lookup('ansible.builtin.file', 'plan.json') | from_json | underlay.ipsec.mesh_peers(inventory_hostname) }}"
"""

RETURN = r"""
_value:
  description:
    - C(network), C(member), C(fqdn) and C(address) of each, for the option O(underlay.ipsec.libreswan#module:peers).
    - Those behind NAT also have a C(nat_address).
  type: list
  elements: dict
"""


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return name → function."""
        return {"mesh_peers": mesh_peers}
