# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter that turns the plan into the probe's peers."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.underlay.ipsec.plugins.filter.probe_networks import FilterModule
from ansible_collections.underlay.ipsec.tests.unit.plugins.module_utils._report.plans import plan

probe_networks = FilterModule().filters()["probe_networks"]


def test_member() -> None:
    assert [network["name"] for network in probe_networks(plan(), "h1")] == ["data"]


def test_a_host_that_is_not_planned() -> None:
    with pytest.raises(AnsibleFilterError, match="h9 is not in the plan of the group ipsec"):
        probe_networks(plan(), "h9")
