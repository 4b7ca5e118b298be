# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter esp_overhead."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.underlay.ipsec.plugins.module_utils._errors import IpsecError
from ansible_collections.underlay.ipsec.plugins.module_utils._mtu.given import flag, number
from ansible_collections.underlay.ipsec.plugins.module_utils._mtu.overhead import (
    TRANSPORT,
    overhead,
    reserve,
)

DOCUMENTATION = r"""
name: esp_overhead
short_description: How many bytes of a packet ESP takes
description:
  - With the MTU of a link, returns how much smaller than it the packets inside ESP have to be.
  - Without, returns what is enough whatever the MTU; all headers and a whole block of padding. What ESP really takes is at least one
    byte less.
positional: mtu
extends_documentation_fragment:
  - underlay.ipsec.esp_filter
options:
  mtu:
    description: The MTU of the link.
    type: int
seealso:
  - plugin: underlay.ipsec.inner_mtu
    plugin_type: filter
"""

EXAMPLES = r"""
- name: What ESP takes
  ansible.builtin.debug:
    msg:
      - "{{ 'aes_gcm256' | underlay.ipsec.esp_overhead(1500) }}" # 34
      - "{{ 'aes_gcm256' | underlay.ipsec.esp_overhead(1500, mode='tunnel', encapsulation=true) }}" # 62, as in OpenShift 3.11
      - "{{ 'aes_gcm256' | underlay.ipsec.esp_overhead(encapsulation=true) }}" # 46, as in OpenShift 4
"""

RETURN = r"""
_value:
  description: Bytes.
  type: int
"""


def esp_overhead(
    esp: str, mtu: Any = None, mode: str = TRANSPORT, encapsulation: Any = False, family: Any = 4
) -> int:
    try:
        in_udp = flag(encapsulation, "encapsulation")
        version = number(family, "family")
        if mtu is None:
            return reserve(esp, mode=mode, in_udp=in_udp, family=version)
        return overhead(esp, mtu=number(mtu, "mtu"), mode=mode, in_udp=in_udp, family=version)
    except IpsecError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return name → function."""
        return {"esp_overhead": esp_overhead}
