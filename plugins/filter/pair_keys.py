# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter pair_keys."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.underlay.ipsec.plugins.module_utils._plan.mesh import pair_keys

DOCUMENTATION = r"""
name: pair_keys
short_description: The pre-shared keys of a member of a mesh
description:
  - Derives the key of each pair that the member belongs to from a master secret, by HKDF (RFC 5869) with SHA-384 over the
    host names of the two ends. Both ends get the same key in any run, and no two pairs do.
  - Returns nothing if the plan is not for pre-shared keys.
positional: member, secret
extends_documentation_fragment:
  - underlay.ipsec.plan_filter
options:
  secret:
    description: The master secret. It stays on the controller.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Encrypt whatever can be encrypted
  underlay.ipsec.libreswan:
    settings: "{{ __ipsec_slice.libreswan }}"
    keys: "{{ lookup('ansible.builtin.file', 'plan.json') | from_json | underlay.ipsec.pair_keys(inventory_hostname, ipsec_psk_secret) }}"
"""

RETURN = r"""
_value:
  description: C(ids) and C(psk) of each pair, for the option O(underlay.ipsec.libreswan#module:keys).
  type: list
  elements: dict
"""


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return name → function."""
        return {"pair_keys": pair_keys}
