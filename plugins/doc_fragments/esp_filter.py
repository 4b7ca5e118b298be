# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What all filters take that calculate with the size of ESP."""

from __future__ import annotations


class ModuleDocFragment:
    """A filter extends this and adds what else it takes."""

    DOCUMENTATION = r"""
author:
  - underlay.ipsec contributors (@underlay-ipsec)
options:
  _input:
    description:
      - The cipher suite of ESP in libreswan's notation, as in C(ipsec_esp). Of several alternatives, the most expensive counts.
    type: str
    required: true
  mode:
    description: The mode of ESP.
    type: str
    choices: [transport, tunnel]
    default: transport
  encapsulation:
    description: Whether ESP travels inside UDP.
    type: bool
    default: false
  family:
    description: The IP version of the addresses between which ESP travels.
    type: int
    choices: [4, 6]
    default: 4
notes:
  - The figures are exact for Linux, which calculates in the same way (C(__xfrm_state_mtu) in C(net/xfrm/xfrm_state.c)).
"""
