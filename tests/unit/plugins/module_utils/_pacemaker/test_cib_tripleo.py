# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The resources of tripleo-ipsec make way for ours, in one change."""

from __future__ import annotations

from xml.etree.ElementTree import Element

import pytest
from ansible_collections.underlay.ipsec.plugins.module_utils._errors import ProblemsError
from ansible_collections.underlay.ipsec.plugins.module_utils._pacemaker import cib

FORMER = """
      <primitive id="tripleo-ipsec-storage" class="ocf" provider="heartbeat" type="ipsec">
        <instance_attributes id="t"><nvpair id="t1" name="vip" value="172.16.1.250"/></instance_attributes>
      </primitive>"""
CIB = """
<cib validate-with="pacemaker-3.9" have-quorum="1" epoch="12" num_updates="4" admin_epoch="0">
  <configuration>
    <crm_config/>
    <nodes><node id="1" uname="controller-0"/></nodes>
    <resources>
      <primitive id="ip-172.16.1.250" class="ocf" provider="heartbeat" type="IPaddr2">
        <instance_attributes id="a"><nvpair id="a1" name="ip" value="172.16.1.250"/></instance_attributes>
      </primitive>{former}
      <primitive id="tripleo-ipsec-other" class="ocf" provider="acme" type="ipsec"/>
      <primitive id="office" class="ocf" provider="heartbeat" type="ipsec"/>
    </resources>
    <constraints>
      <rsc_colocation id="colocation-tripleo-ipsec-storage-ip" rsc="tripleo-ipsec-storage" with-rsc="ip-172.16.1.250" score="INFINITY"/>
      <rsc_order id="order-ip-tripleo-ipsec-storage-mandatory" first="ip-172.16.1.250" first-action="start" then="tripleo-ipsec-storage"/>
      <rsc_order id="order-ip-tripleo-ipsec-storage-mandatory-1" first="ip-172.16.1.250" first-action="stop" then="tripleo-ipsec-storage"/>
      <rsc_location id="l" rsc="office" node="controller-0" score="100"/>
    </constraints>
  </configuration>
</cib>
"""
VIP = cib.Vip("storage", "172.16.1.250")


@pytest.fixture
def before() -> Element:
    return cib.parse(CIB.format(former=FORMER))


def ids(found: Element, section: str) -> list[str]:
    return [element.get("id", "") for element in found.iterfind(f"configuration/{section}/*")]


def test_ours_take_the_place_of_theirs(before: Element) -> None:
    after = cib.with_vips(before, [VIP], replaces_tripleo=True)
    assert ids(after, "resources") == [
        "ip-172.16.1.250",
        "tripleo-ipsec-other",
        "office",
        "ipsec-vip-storage",
    ]
    assert ids(after, "constraints") == [
        "l",
        "ipsec-vip-storage-with-address",
        "ipsec-vip-storage-start-after-address",
        "ipsec-vip-storage-stop-after-address",
    ]
    assert cib.ours(after, tripleo=True) == cib.ours(
        cib.with_vips(after, [VIP], replaces_tripleo=True), tripleo=True
    )


def test_theirs_go_without_ours(before: Element) -> None:
    after = cib.with_vips(before, [], replaces_tripleo=True)
    assert ids(after, "resources") == ["ip-172.16.1.250", "tripleo-ipsec-other", "office"]
    assert ids(after, "constraints") == ["l"]


def test_theirs_stay_unless_they_are_to_go(before: Element) -> None:
    after = cib.with_vips(before, [VIP])
    assert "tripleo-ipsec-storage" in ids(after, "resources")
    assert not any("tripleo" in line for line in cib.ours(before))


def test_the_diff_shows_them(before: Element) -> None:
    shown = "\n".join(cib.ours(before, tripleo=True))
    assert "tripleo-ipsec-storage" in shown
    assert "colocation-tripleo-ipsec-storage-ip" in shown
    assert "office" not in shown


def test_one_in_a_group_is_not_torn_out_of_it() -> None:
    before = cib.parse(CIB.format(former=f'<group id="g">{FORMER}</group>'))
    with pytest.raises(ProblemsError, match="tripleo-ipsec-storage has to go, and somebody has put it into"):
        cib.with_vips(before, [VIP], replaces_tripleo=True)
