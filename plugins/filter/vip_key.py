# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter vip_key."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.underlay.ipsec.plugins.module_utils._plan.vips import vip_key

DOCUMENTATION = r"""
name: vip_key
short_description: The pre-shared key of a virtual address
description:
  - Derives the key that a virtual address has if C(ipsec_vips) gives it none, for a host outside the inventory that is to reach it.
author:
  - underlay.ipsec contributors (@underlay-ipsec)
positional: name
options:
  _input:
    description: The master secret, C(ipsec_psk_secret).
    type: str
    required: true
  name:
    description: Name of the virtual address.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Tell a host outside the inventory
  ansible.builtin.template:
    src: storage-vip.secrets.j2
    dest: /etc/ipsec.d/storage-vip.secrets
    mode: "0600"
  vars:
    key: "{{ ipsec_psk_secret | underlay.ipsec.vip_key('storage') }}"
"""

RETURN = r"""
_value:
  description: 48 bytes in Base64.
  type: str
"""


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return name → function."""
        return {"vip_key": vip_key}
