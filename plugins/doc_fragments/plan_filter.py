# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What all filters take that say what the plan means for one member."""

from __future__ import annotations


class ModuleDocFragment:
    """A filter extends this and adds what else it takes."""

    DOCUMENTATION = r"""
author:
  - underlay.ipsec contributors (@underlay-ipsec)
options:
  _input:
    description: The content of C(plan.json).
    type: dict
    required: true
  member:
    description: Name of the member.
    type: str
    required: true
"""
