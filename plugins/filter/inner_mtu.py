# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter inner_mtu."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.underlay.ipsec.plugins.module_utils._errors import IpsecError
from ansible_collections.underlay.ipsec.plugins.module_utils._mtu.given import flag, number
from ansible_collections.underlay.ipsec.plugins.module_utils._mtu.overhead import TRANSPORT, usable

DOCUMENTATION = r"""
name: inner_mtu
short_description: The largest packet that ESP carries over a link
description:
  - Returns the size of the largest IP packet, with its header, that travels inside ESP over a link without fragments.
  - This is what fits into ESP, for overlays and for what is forwarded. Do not give it to the interface or route below ESP, from
    whose MTU Linux subtracts by itself.
positional: mtu
extends_documentation_fragment:
  - underlay.ipsec.esp_filter
options:
  mtu:
    description: The MTU of the link.
    type: int
    default: 1500
  inner_family:
    description: In tunnel mode, the IP version of the packet inside. By default O(family).
    type: int
    choices: [4, 6]
seealso:
  - plugin: underlay.ipsec.esp_overhead
    plugin_type: filter
  - plugin: underlay.ipsec.overlay_mtu
    plugin_type: filter
"""

EXAMPLES = r"""
- name: What a link of 1500 bytes carries
  ansible.builtin.debug:
    msg:
      - "{{ 'aes_gcm256' | underlay.ipsec.inner_mtu }}" # 1466
      - "{{ 'aes_gcm256' | underlay.ipsec.inner_mtu(1500, mode='tunnel', encapsulation=true) }}" # 1438
      - "{{ 'aes256-sha2_256' | underlay.ipsec.inner_mtu(9000, family=6) }}" # 8950
"""

RETURN = r"""
_value:
  description: Bytes, from the inner IP header to the end of its data.
  type: int
"""


def inner_mtu(
    esp: str,
    mtu: Any = 1500,
    mode: str = TRANSPORT,
    encapsulation: Any = False,
    family: Any = 4,
    inner_family: Any = None,
) -> int:
    try:
        return usable(
            esp,
            mtu=number(mtu, "mtu"),
            mode=mode,
            in_udp=flag(encapsulation, "encapsulation"),
            family=number(family, "family"),
            inner_family=None if inner_family is None else number(inner_family, "inner_family"),
        )
    except IpsecError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return name → function."""
        return {"inner_mtu": inner_mtu}
