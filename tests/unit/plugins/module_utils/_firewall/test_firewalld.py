# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Zones of firewalld: which matter, what they get, and their files afterwards."""

from __future__ import annotations

import ipaddress
from pathlib import Path

import pytest
from ansible_collections.underlay.ipsec.plugins.module_utils._errors import IpsecError
from ansible_collections.underlay.ipsec.plugins.module_utils._firewall import firewalld
from ansible_collections.underlay.ipsec.plugins.module_utils._firewall.rules import Rules
from ansible_collections.underlay.ipsec.tests.unit.plugins.module_utils._firewall.machine import Machine

OPEN = Rules(open=(ipaddress.ip_network("10.88.0.0/24"), ipaddress.ip_network("fd88::1/128")))
ACTIVE = """\
internal
  interfaces: eth1 eth2
public (default)
  interfaces: eth0
trusted
  sources: 10.88.0.64/26 192.0.2.0/24
six
  interfaces: eth6
  sources: fd88::/64 ipset:friends 00:11:22:33:44:55
"""


def test_rich_rules_are_written_as_firewalld_lists_them() -> None:
    assert firewalld.rich_rules(OPEN) == [
        'rule family="ipv4" source address="10.88.0.0/24" port port="500" protocol="udp" accept',
        'rule family="ipv4" source address="10.88.0.0/24" port port="4500" protocol="udp" accept',
        'rule family="ipv4" source address="10.88.0.0/24" protocol value="esp" accept',
        'rule family="ipv6" source address="fd88::1/128" port port="500" protocol="udp" accept',
        'rule family="ipv6" source address="fd88::1/128" port port="4500" protocol="udp" accept',
        'rule family="ipv6" source address="fd88::1/128" protocol value="esp" accept',
    ]
    assert firewalld.rich_rules(Rules()) == []


def machine(root: Path) -> Machine:
    host = Machine(root, "firewall-cmd")
    host.active = {"firewalld"}
    host.active_zones = ACTIVE
    host.zones = {name: {False: [], True: []} for name in ("internal", "public", "trusted", "six")}
    return host


def test_active_zones() -> None:
    by_interface, by_source = firewalld.active_zones(ACTIVE)
    assert by_interface == {"eth0": "public", "eth1": "internal", "eth2": "internal", "eth6": "six"}
    assert {str(source): zone for source, zone in by_source.items()} == {
        "10.88.0.64/26": "trusted",
        "192.0.2.0/24": "trusted",
        "fd88::/64": "six",
    }
    assert firewalld.active_zones("") == ({}, {})


@pytest.mark.parametrize(
    ("interfaces", "open_to", "expected"),
    [
        (["eth1"], (), ["internal"]),
        (["eth1", "eth2"], (), ["internal"]),
        (["eth1", "eth6"], (), ["internal", "six"]),
        (["eth9"], (), ["public"]),
        (["eth1", "eth9"], (), ["internal", "public"]),
        ([], (), []),
        (["eth1"], ("10.88.0.0/24",), ["internal", "trusted"]),
        (["eth1"], ("10.88.0.0/26",), ["internal"]),
        (["eth1"], ("10.88.0.70/32", "fd88::1/128"), ["internal", "six", "trusted"]),
    ],
)
def test_zones_that_matter(
    interfaces: list[str], open_to: tuple[str, ...], expected: list[str], tmp_path: Path
) -> None:
    rules = Rules(open=tuple(ipaddress.ip_network(text) for text in open_to))
    assert firewalld.Zones(machine(tmp_path)).of(interfaces, rules) == expected


def test_rules_of_a_zone(tmp_path: Path) -> None:
    host = machine(tmp_path)
    rules = firewalld.rich_rules(OPEN)
    zones = firewalld.Zones(host)
    zones.change("internal", add=rules[:2], remove=[], permanent=True)
    zones.change("internal", add=rules, remove=[], permanent=False)
    zones.change("internal", add=rules[2:3], remove=rules[:1], permanent=True)
    # What is known of it is what it is.
    for asked in (zones, firewalld.Zones(host)):
        assert asked.rules("internal", permanent=True) == rules[1:3]
        assert asked.rules("internal", permanent=False) == rules
        assert asked.rules("public", permanent=True) == []


def test_a_zone_is_asked_for_once_and_not_told_what_it_knows(tmp_path: Path) -> None:
    host = machine(tmp_path)
    zones = firewalld.Zones(host)
    for _ in range(2):
        zones.of(["eth1", "eth9"], OPEN)
        zones.change("internal", add=[], remove=[], permanent=True)
    assert host.asked == [
        "firewall-cmd --get-active-zones",
        "firewall-cmd --get-default-zone",
        "firewall-cmd --permanent --zone=internal --list-rich-rules",
    ]


def test_what_is_known_of_a_zone_is_nobody_s_to_change(tmp_path: Path) -> None:
    zones = firewalld.Zones(machine(tmp_path))
    zones.rules("internal", permanent=False).append("rule")
    assert zones.rules("internal", permanent=False) == []


def test_a_firewalld_that_refuses(tmp_path: Path) -> None:
    host = machine(tmp_path)
    with pytest.raises(IpsecError, match="firewalld refused: Error: INVALID_ZONE: dmz"):
        firewalld.Zones(host).rules("dmz", permanent=True)
    host.active = set()
    with pytest.raises(IpsecError, match="firewalld refused: FirewallD is not running"):
        firewalld.Zones(host).of(["eth1"], OPEN)


SHIPPED = """\
<?xml version="1.0" encoding="utf-8"?>
<zone>
  <short>Public</short>
  <description>For use in public areas.</description>
  <service name="ssh"/>
  <service name="dhcpv6-client"/>
  <forward/>
</zone>
"""
# As firewalld writes it: in another order, and with a version that nobody set.
REWRITTEN = """\
<?xml version="1.0" encoding="utf-8"?>
<zone version="1.0">
  <short>Public</short>
  <description>For use in public areas.</description>
  <service name="dhcpv6-client"/>
  <service name="ssh"/>
  <forward/>
</zone>
"""
OPERATOR = """\
<?xml version='1.0' encoding='utf-8'?>
<!-- agreed with the site's office -->
<zone><short>Public</short><description>For use in public areas.</description>
\t<forward/><service name='ssh'/><service name='dhcpv6-client'></service></zone>"""
CHANGED = REWRITTEN.replace('<service name="ssh"/>', '<service name="ssh"/>\n  <service name="http"/>')


def zone_files(root: Path, shipped: str | None, now: str | None) -> Path:
    for folder, text in (("usr/lib/firewalld/zones", shipped), ("etc/firewalld/zones", now)):
        (root / folder).mkdir(parents=True)
        if text is not None:
            (root / folder / "public.xml").write_text(text)
    (root / "etc/firewalld/zones/public.xml.old").write_text("the one before")
    return root / "etc/firewalld/zones/public.xml"


@pytest.mark.parametrize(
    ("shipped", "before", "now", "expected"),
    [
        (SHIPPED, None, REWRITTEN, None),
        (SHIPPED, None, CHANGED, CHANGED),
        (SHIPPED, None, None, None),
        (None, None, REWRITTEN, REWRITTEN),
        (SHIPPED, OPERATOR, REWRITTEN, OPERATOR),
        (None, OPERATOR, REWRITTEN, OPERATOR),
        (SHIPPED, OPERATOR, CHANGED, CHANGED),
        (SHIPPED, OPERATOR, OPERATOR, OPERATOR),
        (SHIPPED, OPERATOR, None, None),
        (SHIPPED, CHANGED, REWRITTEN, REWRITTEN),
        (SHIPPED, SHIPPED.replace("<zone>", '<zone target="DROP">'), REWRITTEN, REWRITTEN),
    ],
)
def test_put_back(
    shipped: str | None, before: str | None, now: str | None, expected: str | None, tmp_path: Path
) -> None:
    path = zone_files(tmp_path, shipped, now)
    firewalld.put_back(tmp_path, "public", before)
    assert firewalld.zone_file(tmp_path, "public") == expected
    assert path.exists() == (expected is not None)


def test_what_firewalld_kept_of_a_file_that_was_not_there_goes_with_it(tmp_path: Path) -> None:
    path = zone_files(tmp_path, SHIPPED, REWRITTEN)
    firewalld.put_back(tmp_path, "public", None)
    assert list(path.parent.iterdir()) == []
