# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the modules' documentation says about attributes in the same words everywhere."""

from __future__ import annotations


class ModuleDocFragment:
    """A module extends this and adds ``support`` (and ``details``) to each attribute."""

    DOCUMENTATION = r"""
options: {}
attributes:
  check_mode:
    description: With C(--check), nothing is changed, and what would change is returned.
  diff_mode:
    description: With C(--diff), what changes is returned as it was before and after, without secrets.
  idempotent:
    description: Run again with the same input on an unchanged host, it changes nothing.
  platform:
    description: The systems that it runs on.
    support: full
    platforms: linux
"""
