# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter probe_networks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.underlay.ipsec.plugins.module_utils._report.expectation import networks_of

DOCUMENTATION = r"""
name: probe_networks
short_description: A member's networks and peers, from the plan
description:
  - Returns what M(underlay.ipsec.probe) wants to know of a member's networks, from the content of C(plan.json).
positional: member
extends_documentation_fragment:
  - underlay.ipsec.plan_filter
"""

EXAMPLES = r"""
- name: Look at the wire
  underlay.ipsec.probe:
    member: "{{ inventory_hostname }}"
    networks: "{{ lookup('ansible.builtin.file', 'plan.json') | from_json | underlay.ipsec.probe_networks(inventory_hostname) }}"
"""

RETURN = r"""
_value:
  description: The networks that the member is on, for the option O(underlay.ipsec.probe#module:networks).
  type: list
  elements: dict
"""


def probe_networks(plan: Mapping[str, Any], member: str) -> list[dict[str, Any]]:
    """Return the networks of *member*."""
    if member not in plan["members"]:
        raise AnsibleFilterError(
            f"{member} is not in the plan of the group {plan['group']}. Run the role underlay.ipsec.plan"
        )
    return networks_of(plan, member)


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return name → function."""
        return {"probe_networks": probe_networks}
