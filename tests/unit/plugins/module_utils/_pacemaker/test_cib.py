# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Our resources in somebody's CIB: what is added, mended and removed, and that nothing else moves."""

from __future__ import annotations

from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import pytest
from ansible_collections.underlay.ipsec.plugins.module_utils._errors import ProblemsError
from ansible_collections.underlay.ipsec.plugins.module_utils._pacemaker import cib

CIB = """
<cib validate-with="pacemaker-3.9" have-quorum="{quorum}" epoch="12" num_updates="4" admin_epoch="0">
  <configuration>
    <crm_config>
      <cluster_property_set id="cib-bootstrap-options">
        <nvpair id="o1" name="cluster-name" value="overcloud"/>
        <nvpair id="o2" name="stonith-enabled" value="false"/>
      </cluster_property_set>
    </crm_config>
    <nodes>
      <node id="2" uname="controller-1"/>
      <node id="1" uname="controller-0"/>
    </nodes>
    <resources>
      <template id="floating" class="ocf" provider="heartbeat" type="IPaddr2">
        <instance_attributes id="f"><nvpair id="f1" name="cidr_netmask" value="32"/></instance_attributes>
      </template>
      <primitive id="ip-172.16.2.250" class="ocf" provider="heartbeat" type="IPaddr2">
        <instance_attributes id="a"><nvpair id="a1" name="ip" value="172.16.2.250"/></instance_attributes>
      </primitive>
      <group id="web">
        <primitive id="address6" class="ocf" provider="heartbeat" type="IPaddr2">
          <instance_attributes id="b"><nvpair id="b1" name="ip" value="FD00:2::0:FA"/></instance_attributes>
        </primitive>
        <primitive id="nginx" class="systemd" type="nginx"/>
      </group>
      <primitive id="templated" template="floating">
        <instance_attributes id="c"><nvpair id="c1" name="ip" value="172.16.1.250"/></instance_attributes>
      </primitive>
      <primitive id="fence" class="stonith" type="fence_ipmilan">
        <instance_attributes id="s"><nvpair id="s1" name="password" value="hush-hush"/></instance_attributes>
      </primitive>
    </resources>
    <constraints>
      <rsc_location id="l" rsc="nginx" node="controller-0" score="100"/>
    </constraints>
  </configuration>
  <status/>
</cib>
"""
INTERNAL = cib.Vip("internal_api", "172.16.2.250")
STORAGE = cib.Vip("storage", "172.16.1.250")
SIX = cib.Vip("six", "fd00:2::fa")


@pytest.fixture
def before() -> Element:
    return cib.parse(CIB.format(quorum=1))


def text(element: Element) -> str:
    return ElementTree.tostring(element, encoding="unicode")


def constraint(found: Element, name: str) -> dict[str, str]:
    return next(e.attrib for e in found.iterfind("configuration/constraints/*") if e.get("id") == name)


@pytest.mark.parametrize("wrong", ["", "nothing", "<cib/>", "<status/>"])
def test_what_is_no_cib(wrong: str) -> None:
    with pytest.raises(ValueError, match="not a CIB"):
        cib.parse(wrong)


@pytest.mark.parametrize(("quorum", "expected"), [("1", True), ("0", False), ("", False)])
def test_the_cluster(quorum: str, expected: bool) -> None:
    found = cib.cluster(cib.parse(CIB.format(quorum=quorum)))
    assert found == cib.Cluster("overcloud", ("controller-0", "controller-1"), expected, maintenance=False)


@pytest.mark.parametrize(("value", "expected"), [("true", True), ("Yes", True), ("false", False)])
def test_maintenance_mode(value: str, expected: bool) -> None:
    text = CIB.format(quorum=1).replace("stonith-enabled", "maintenance-mode")
    text = text.replace('name="maintenance-mode" value="false"', f'name="maintenance-mode" value="{value}"')
    assert cib.cluster(cib.parse(text)).maintenance == expected


def test_addresses_are_found_wherever_they_are(before: Element) -> None:
    assert cib.addresses(before) == {
        "172.16.2.250": ("ip-172.16.2.250",),
        "fd00:2::fa": ("address6",),
        "172.16.1.250": ("templated",),
    }


def test_a_resource_with_colocation_and_both_orders(before: Element) -> None:
    after = cib.with_vips(before, [INTERNAL])
    own = after.find("configuration/resources/primitive[@id='ipsec-vip-internal_api']")
    assert own is not None
    assert (own.get("class"), own.get("provider"), own.get("type")) == ("ocf", "underlay", "ipsec-vip")
    options = {e.get("name"): e.get("value") for e in own.iterfind("instance_attributes/nvpair")}
    assert options == {"name": "internal_api", "vip": "172.16.2.250"}
    assert [child.tag for child in own] == ["instance_attributes", "operations"]
    assert [op.get("name") for op in own.iterfind("operations/op")] == ["start", "stop", "monitor"]
    assert constraint(after, "ipsec-vip-internal_api-with-address")["with-rsc"] == "ip-172.16.2.250"
    for action in ("start", "stop"):
        found = constraint(after, f"ipsec-vip-internal_api-{action}-after-address")
        assert (found["first"], found["first-action"], found["then-action"]) == (
            "ip-172.16.2.250",
            action,
            action,
        )


def test_the_rest_stays_as_it_is(before: Element) -> None:
    original = text(before)
    after = cib.with_vips(before, [INTERNAL, STORAGE, SIX])
    assert text(before) == original
    back = cib.with_vips(after, [])
    assert text(back).split() == original.split()


def test_twice_is_once(before: Element) -> None:
    once = cib.with_vips(before, [INTERNAL, SIX])
    assert text(cib.with_vips(once, [INTERNAL, SIX])) == text(once)


def test_options_and_constraints_are_put_right_and_additions_stay(before: Element) -> None:
    wanted = cib.with_vips(before, [INTERNAL])
    changed = cib.parse(
        text(wanted)
        .replace('value="internal_api"', 'value="other"')
        .replace('timeout="40s"', 'timeout="5s"')
        .replace('score="INFINITY"', 'score="10"')
    )
    own = changed.find("configuration/resources/primitive[@id='ipsec-vip-internal_api']")
    assert own is not None
    meta = ElementTree.SubElement(own, "meta_attributes", id="m")
    ElementTree.SubElement(meta, "nvpair", id="m1", name="migration-threshold", value="3")
    mended = cib.with_vips(changed, [INTERNAL])
    assert cib.ours(mended) == [*cib.ours(wanted)[:8], *_meta(), *cib.ours(wanted)[8:]]


def _meta() -> list[str]:
    return [
        "  meta_attributes id='m'",
        "    nvpair id='m1' name='migration-threshold' value='3'",
    ]


def test_an_address_that_has_moved_to_another_resource(before: Element) -> None:
    wanted = cib.with_vips(before, [cib.Vip("internal_api", "172.16.1.250")])
    after = cib.with_vips(wanted, [INTERNAL])
    assert constraint(after, "ipsec-vip-internal_api-with-address")["with-rsc"] == "ip-172.16.2.250"
    assert "templated" not in "".join(cib.ours(after))


def test_what_refers_to_a_resource_goes_with_it(before: Element) -> None:
    after = cib.with_vips(before, [INTERNAL])
    constraints = after.find("configuration/constraints")
    assert constraints is not None
    ElementTree.SubElement(
        constraints, "rsc_location", id="cli-ban", rsc=INTERNAL.resource, node="controller-0"
    )
    ticket = ElementTree.SubElement(constraints, "rsc_order", id="set")
    resource_set = ElementTree.SubElement(ticket, "resource_set", id="set-0")
    for name in ("nginx", INTERNAL.resource):
        ElementTree.SubElement(resource_set, "resource_ref", id=name)
    left = text(cib.with_vips(after, []))
    assert "ipsec-vip" not in left
    assert '<resource_ref id="nginx" />' in left


def test_the_diff_shows_nothing_of_others(before: Element) -> None:
    assert cib.ours(before) == []
    assert "hush" not in "".join(cib.ours(cib.with_vips(before, [INTERNAL])))


def test_an_address_without_a_resource(before: Element) -> None:
    with pytest.raises(ProblemsError) as caught:
        cib.with_vips(before, [INTERNAL, cib.Vip("lost", "10.0.0.1")])
    assert str(caught.value).startswith("ipsec_vips: no resource of the cluster brings up 10.0.0.1")


def test_an_address_with_two_resources() -> None:
    twice = CIB.format(quorum=1).replace("172.16.1.250", "172.16.2.250")
    with pytest.raises(ProblemsError, match=r"ip-172\.16\.2\.250 and templated both bring up"):
        cib.with_vips(cib.parse(twice), [INTERNAL])


def test_one_of_ours_in_a_group_is_not_torn_out_of_it(before: Element) -> None:
    after = cib.with_vips(before, [INTERNAL])
    resources, group = after.find("configuration/resources"), after.find("configuration/resources/group")
    assert resources is not None
    assert group is not None
    own = resources.find(f"primitive[@id='{INTERNAL.resource}']")
    assert own is not None
    resources.remove(own)
    group.append(own)
    assert text(cib.with_vips(after, [INTERNAL])) == text(after)
    with pytest.raises(ProblemsError, match="somebody has put it into a group"):
        cib.with_vips(after, [])


def test_resources_are_told_with_their_addresses(before: Element) -> None:
    assert cib.vip_resources(before) == {}
    assert cib.vip_resources(cib.with_vips(before, [INTERNAL, SIX])) == {
        INTERNAL.resource: "172.16.2.250",
        SIX.resource: "fd00:2::fa",
    }


HISTORY = """
<node_state uname="{node}"><lrm id="1"><lrm_resources>
  <lrm_resource id="{resource}">
    <lrm_rsc_op id="{resource}_last_0" operation="{operation}" rc-code="{code}"/>
    <lrm_rsc_op id="{resource}_last_failure_0" operation="{operation}" rc-code="{code}"/>
  </lrm_resource>
</lrm_resources></lrm></node_state>
"""


@pytest.mark.parametrize(
    ("node", "resource", "code", "expected"),
    [
        ("controller-1", INTERNAL.resource, 5, [(INTERNAL.resource, "controller-1")]),
        ("controller-1", INTERNAL.resource, 6, [(INTERNAL.resource, "controller-1")]),
        # The cluster tries again by itself.
        ("controller-1", INTERNAL.resource, 1, []),
        ("controller-1", INTERNAL.resource, 7, []),
        ("controller-1", "nginx", 5, []),
        # Not ready for it: it would be given up again.
        ("controller-2", INTERNAL.resource, 5, []),
    ],
)
def test_where_the_cluster_has_given_up(
    before: Element, node: str, resource: str, code: int, expected: list[tuple[str, str]]
) -> None:
    status = before.find("status")
    assert status is not None
    history = HISTORY.format(node=node, resource=resource, operation="monitor", code=code)
    status.append(ElementTree.fromstring(history))
    assert cib.given_up(before, [INTERNAL.resource], ["controller-0", "controller-1"]) == expected
