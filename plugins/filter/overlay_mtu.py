# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter overlay_mtu."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.underlay.ipsec.plugins.module_utils._errors import IpsecError
from ansible_collections.underlay.ipsec.plugins.module_utils._mtu import advise
from ansible_collections.underlay.ipsec.plugins.module_utils._mtu.given import flag, number
from ansible_collections.underlay.ipsec.plugins.module_utils._mtu.overhead import TRANSPORT, usable

DOCUMENTATION = r"""
name: overlay_mtu
short_description: The MTU of an overlay whose packets travel inside ESP
description:
  - Returns the largest MTU with which an overlay's packets, with the overlay's own headers and inside ESP, fit into a link.
positional: kind, mtu
extends_documentation_fragment:
  - underlay.ipsec.esp_filter
options:
  kind:
    description: The kind of overlay, by the name that Linux gives it.
    type: str
    choices: [vxlan, geneve, gre, gretap, ip6gre, ip6gretap, ipip, sit, ip6tnl]
    required: true
  mtu:
    description: The MTU of the link.
    type: int
    default: 1500
  options:
    description: Bytes of options that the overlay adds to its headers, for example those of Geneve, or 4 for a key of GRE.
    type: int
    default: 0
seealso:
  - plugin: underlay.ipsec.inner_mtu
    plugin_type: filter
"""

EXAMPLES = r"""
- name: What suits pods
  ansible.builtin.debug:
    msg:
      - "{{ 'aes_gcm256' | underlay.ipsec.overlay_mtu('vxlan', mode='tunnel', encapsulation=true) }}" # 1388, as in OpenShift 3.11
      - "{{ 'aes_gcm256' | underlay.ipsec.overlay_mtu('geneve', 9000, family=6) }}" # 8896
"""

RETURN = r"""
_value:
  description: Bytes; the largest IP packet inside the overlay.
  type: int
"""


def overlay_mtu(
    esp: str,
    kind: str,
    mtu: Any = 1500,
    mode: str = TRANSPORT,
    encapsulation: Any = False,
    family: Any = 4,
    options: Any = 0,
) -> int:
    try:
        version = number(family, "family")
        in_udp = flag(encapsulation, "encapsulation")
        inner = usable(esp, mtu=number(mtu, "mtu"), mode=mode, in_udp=in_udp, family=version)
        return advise.overlay_mtu(inner, kind, family=version, options=number(options, "options"))
    except IpsecError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return name → function."""
        return {"overlay_mtu": overlay_mtu}
