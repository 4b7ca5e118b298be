# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module mtu on hosts whose data interface belongs to a real network manager.

A lab host is configured by hand when it boots. An operator's unit undoes that for the data
interface, and the network manager under test takes it over, at each boot.
"""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from kit import Lab, eventually

MEMBERS = ("h1", "h2")
STATE = "/etc/underlay-ipsec"
DROP_IN = "/etc/systemd/network/data.network.d/99-underlay-ipsec.conf"
FOREIGN = "10.88.0.{}/32"
"""An address that somebody else puts on the interface, such as keepalived."""

_PREPARE = """
set -e
apt-get install -y -qq network-manager ifupdown udev >/dev/null 2>&1
mkdir -p /etc/NetworkManager/conf.d
printf '[keyfile]\\nunmanaged-devices=*,except:interface-name:eth1\\n' >/etc/NetworkManager/conf.d/lab.conf
cat >/etc/systemd/system/operator.service <<END
[Unit]
DefaultDependencies=no
After=lab-identity.service
Before=NetworkManager.service networking.service systemd-networkd.service
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -c 'ip address flush dev eth1; ip link set eth1 down'
[Install]
WantedBy=sysinit.target
END
# The image goes without; managers wait for udev to have seen a link.
rm -f /etc/systemd/system/systemd-udev-trigger.service
systemctl daemon-reload
systemctl start systemd-udevd systemd-udev-trigger
"""
_UNITS = "NetworkManager networking systemd-networkd systemd-networkd.socket systemd-networkd-wait-online"
_NOBODY = f"""
systemctl disable -q --now operator underlay-ipsec-mtu.timer {_UNITS} 2>/dev/null
rm -rf /etc/NetworkManager/system-connections/* /etc/systemd/network/data.network* \\
    /etc/network/interfaces.d/data /run/systemd/netif {STATE}
"""
_TAKE_OVER = {
    "NetworkManager": """
cat >/etc/NetworkManager/system-connections/data.nmconnection <<END
[connection]
id=data
uuid=11111111-2222-3333-4444-555555555555
type=ethernet
interface-name=eth1

[ipv4]
address1=$address4
method=manual

[ipv6]
address1=$address6
method=manual
END
chmod 600 /etc/NetworkManager/system-connections/data.nmconnection
systemctl enable -q --now operator NetworkManager
# As NetworkManager itself writes it.
nmcli connection modify data connection.autoconnect-priority 1
""",
    "systemd-networkd": """
cat >/etc/systemd/network/data.network <<END
[Match]
Name=eth1
[Network]
Address=$address4
Address=$address6
END
systemctl enable -q --now operator systemd-networkd
""",
    "ifupdown": """
cat >/etc/network/interfaces.d/data <<END
auto eth1
iface eth1 inet static
    address $address4
    mtu 1480
iface eth1 inet6 static
    address $address6
END
systemctl enable -q operator networking
systemctl start operator
systemctl start networking
""",
}
_RECONFIGURE = {
    "NetworkManager": "nmcli device reapply eth1; nmcli connection up data",
    "systemd-networkd": "networkctl reconfigure eth1; ip link set eth1 down; ip link set eth1 up",
}
_MTU_BEFORE = {"ifupdown": 1480}

_PLAY = """
- hosts: ipsec
  gather_facts: false
  tasks:
    - underlay.ipsec.mtu: "{{ arguments }}"
      register: result
      ignore_errors: true
    - ansible.builtin.copy:
        content: "{{ result | to_json }}"
        dest: "{{ folder }}/mtu-{{ inventory_hostname }}.json"
        mode: "0600"
      delegate_to: localhost
      check_mode: false
      diff: false
"""


def both(lab: Lab, command: str) -> dict[str, str]:
    """Run a shell command on both hosts at once."""
    with ThreadPoolExecutor() as pool:
        return dict(zip(MEMBERS, pool.map(lambda host: lab.ssh(host, command), MEMBERS), strict=True))


def network(lab: Lab, host: str, family: int = 4, **changed: Any) -> dict[str, Any]:
    """Return a network as the slice has it."""
    return {
        "name": f"data{family}",
        "interface": "eth1",
        "cidr": "10.88.0.0/24" if family == 4 else "fd88::/64",
        "address": lab.address(host, family),
        "family": family,
        "mtu": 1400,
        **changed,
    }


def mtu(
    lab: Lab, arguments: dict[str, dict[str, Any]], *flags: str, fails: bool = False
) -> dict[str, dict[str, Any]]:
    """Run the module with *arguments* of each host, over the data network itself; return host → result."""
    variables = {host: {"arguments": found} for host, found in arguments.items()}
    inventory = lab.inventory(arguments, "data", **variables)
    playbook = lab.folder / "mtu.yml"
    playbook.write_text(_PLAY, encoding="utf-8")
    command = ["ansible-playbook", "-i", str(inventory), "-e", f"folder={lab.folder}", *flags, str(playbook)]
    done = subprocess.run(
        command,
        env=lab.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=120,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stdout
    found = {
        host: json.loads((lab.folder / f"mtu-{host}.json").read_text(encoding="utf-8")) for host in arguments
    }
    assert all(result.get("failed", False) == fails for result in found.values()), found
    return found


def wanted(lab: Lab, method: str, **changed: Any) -> dict[str, dict[str, Any]]:
    """Return host → arguments that give both networks an MTU."""
    return {
        host: {"method": method, "networks": [network(lab, host, family, **changed) for family in (4, 6)]}
        for host in MEMBERS
    }


ABSENT: dict[str, dict[str, Any]] = {host: {"state": "absent"} for host in MEMBERS}


def links(lab: Lab) -> list[int]:
    """Return the MTU of the data interface of each host."""
    return [int(found) for found in both(lab, "cat /sys/class/net/eth1/mtu").values()]


def routes(lab: Lab) -> list[str]:
    """Return what the routes to both networks on each host say of the MTU."""
    show = "ip -4 route show table main exact 10.88.0.0/24 dev eth1; ip -6 route show table main exact fd88::/64 dev eth1"
    return [
        (re.findall(r" mtu (\d+)", line) or [""])[0]
        for found in both(lab, show).values()
        for line in found.splitlines()
    ]


def snapshot(lab: Lab) -> dict[str, str]:
    """Return what the module may not leave behind, and may not take away."""
    return both(
        lab,
        "ip -o link show | sed 's/ qdisc .*//'; ip -o address show | sed 's/ *valid_lft.*//' | sort;"
        "ip -4 route; ip -6 route; find /etc/underlay-ipsec /etc/systemd /etc/network 2>/dev/null | sort;"
        "find /etc -type f ! -name '*.nmconnection' ! -name '*-' -exec sha256sum {} + | sort;"
        "grep -v ^timestamp= /etc/NetworkManager/system-connections/* 2>/dev/null; true",
    )


def configured(lab: Lab) -> bool:
    """Return whether both hosts have their addresses on the data network."""
    found = both(lab, "ip -o address show dev eth1; ip -6 route")
    return all(
        f" {lab.address(host, family)}/" in text and "fd88::/64" in text
        for host, text in found.items()
        for family in (4, 6)
    )


def reboot(lab: Lab) -> None:
    """Restart both hosts, and wait until they can be reached on the data network."""
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda host: lab.cli("reboot", host), MEMBERS))
    assert eventually(lambda: configured(lab)), both(lab, "ip address; journalctl -b | tail -30")
    assert eventually(lambda: all(lab.answers("h1", lab.address("h2", family)) for family in (4, 6)))


def take_over(lab: Lab, manager: str) -> None:
    """Let *manager* have the data interface of both hosts."""
    both(lab, _NOBODY)
    for host in MEMBERS:
        addresses = f"address4={lab.address(host)}/24 address6={lab.address(host, 6)}/64\n"
        lab.ssh(host, addresses + _TAKE_OVER[manager])
    reboot(lab)


@pytest.fixture(scope="module", autouse=True)
def _hosts(lab: Lab) -> Iterator[None]:
    both(lab, _PREPARE)
    yield
    both(lab, _NOBODY + "rm -f /etc/systemd/system/operator.service; systemctl daemon-reload")
    reboot(lab)


def test_refuses_what_nobody_configures(lab: Lab) -> None:
    both(lab, _NOBODY)
    before = snapshot(lab)
    for result in mtu(lab, wanted(lab, "interface"), fails=True).values():
        assert (
            "ipsec_mtu: neither NetworkManager nor systemd-networkd nor ifupdown configures eth1"
            in result["msg"]
        )
        assert "Set ipsec_mtu to route" in result["msg"]
    assert snapshot(lab) == before


@pytest.mark.parametrize(
    "cases",
    [
        # What h1 is asked for, and h2, and what they say.
        (
            ("interface", {"interface": "eth7"}, "there is no interface eth7"),
            ("interface", {"interface": "eth0"}, "eth0 does not have the address 10.88.0.12"),
        ),
        (
            ("interface", {"mtu": 1200}, "an MTU of 1200 is too small for IPv6"),
            ("route", {"mtu": 1501}, "a route cannot raise it"),
        ),
    ],
)
def test_refuses(lab: Lab, cases: tuple[tuple[str, dict[str, Any], str], ...]) -> None:
    before = snapshot(lab)
    arguments = {
        host: wanted(lab, method, **changed)[host]
        for host, (method, changed, _reason) in zip(MEMBERS, cases, strict=True)
    }
    found = mtu(lab, arguments, fails=True)
    for host, (_method, _changed, reason) in zip(MEMBERS, cases, strict=True):
        assert reason in found[host]["msg"]
    assert snapshot(lab) == before


@pytest.fixture(scope="module")
def manager(lab: Lab, request: pytest.FixtureRequest) -> str:
    """Let a manager have the data interface of both hosts; pytest does all its tests together."""
    name: str = request.param
    take_over(lab, name)
    return name


@pytest.mark.parametrize("manager", ["ifupdown", "NetworkManager", "systemd-networkd"], indirect=True)
def test_interface(lab: Lab, manager: str) -> None:
    usual = _MTU_BEFORE.get(manager, 1500)
    assert links(lab) == [usual] * 2
    untouched = snapshot(lab)

    foretold = mtu(lab, wanted(lab, "interface"), "--check", "--diff")
    assert all(result["changed"] and result["diff"] for result in foretold.values())
    assert snapshot(lab) == untouched

    both(lab, f"ip address add {FOREIGN.format('$((88 + $(hostname | tr -d h)))')} dev eth1")
    with lab.traffic(MEMBERS, after=1) as streams:
        done = mtu(lab, wanted(lab, "interface"))
    assert links(lab) == [1400] * 2
    assert [stream.lost for stream in streams] == [(), ()]
    assert {host: result["changes"] for host, result in done.items()} == {
        host: result["changes"] for host, result in foretold.items()
    }
    assert all(FOREIGN.format(88 + int(host[1])) in found for host, found in snapshot(lab).items())
    assert not any(result["changed"] for result in mtu(lab, wanted(lab, "interface")).values())

    reboot(lab)
    assert links(lab) == [1400] * 2
    assert not any(result["changed"] for result in mtu(lab, wanted(lab, "interface")).values())

    with lab.traffic(MEMBERS, after=1) as streams:
        assert all(result["changed"] for result in mtu(lab, ABSENT).values())
    assert [stream.lost for stream in streams] == [(), ()]
    assert snapshot(lab) == untouched
    assert not any(result["changed"] for result in mtu(lab, ABSENT).values())


@pytest.mark.parametrize("manager", ["NetworkManager", "systemd-networkd"], indirect=True)
def test_route(lab: Lab, manager: str) -> None:
    untouched = snapshot(lab)
    foretold = mtu(lab, wanted(lab, "route"), "--check", "--diff")
    assert all(result["changed"] and result["diff"] for result in foretold.values())
    assert snapshot(lab) == untouched

    with lab.traffic(MEMBERS, after=1) as streams:
        mtu(lab, wanted(lab, "route"))
    assert [stream.lost for stream in streams] == [(), ()]
    assert routes(lab) == ["1400"] * 4
    assert links(lab) == [1500] * 2
    assert "mtu = 1400" in lab.ssh("h1", f"ping -M do -c 1 -s 1400 {lab.address('h2')} 2>&1; true").replace(
        "=", " = "
    )
    assert not any(result["changed"] for result in mtu(lab, wanted(lab, "route")).values())

    # Whoever makes the routes anew, they get it again.
    both(lab, _RECONFIGURE[manager])
    assert eventually(lambda: routes(lab) == ["1400"] * 4, 40)
    reboot(lab)
    assert eventually(lambda: routes(lab) == ["1400"] * 4, 40)
    assert not any(result["changed"] for result in mtu(lab, wanted(lab, "route")).values())
    assert "failed" not in lab.ssh("h1", "systemctl is-failed underlay-ipsec-mtu.service; true")

    assert all(result["changed"] for result in mtu(lab, ABSENT).values())
    assert snapshot(lab) == untouched


@pytest.mark.parametrize("manager", ["systemd-networkd"], indirect=True)
@pytest.mark.usefixtures("manager")
def test_from_one_method_to_the_other(lab: Lab) -> None:
    """What the one has set is put back when the other is asked for, or neither."""
    untouched = snapshot(lab)
    mtu(lab, wanted(lab, "interface"))
    mtu(lab, wanted(lab, "route", mtu=1420))
    assert links(lab) == [1500] * 2
    assert routes(lab) == ["1420"] * 4
    mtu(lab, wanted(lab, "interface", mtu=1450))
    assert links(lab) == [1450] * 2
    assert routes(lab) == [""] * 4
    assert all(result["changed"] for result in mtu(lab, wanted(lab, "advise")).values())
    assert snapshot(lab) == untouched


@pytest.mark.parametrize("manager", ["systemd-networkd"], indirect=True)
@pytest.mark.usefixtures("manager")
def test_is_undone_if_it_fails_in_the_middle(lab: Lab) -> None:
    """The kernel cannot (what a device carries is given), or the disk cannot."""
    untouched = snapshot(lab)
    for result in mtu(lab, wanted(lab, "interface", mtu=9000), fails=True).values():
        assert "the kernel does not let eth1 have an MTU of 9000" in result["msg"]
        assert "Everything is as it was before this run" in result["msg"]
    assert snapshot(lab) == untouched

    both(lab, "touch /etc/systemd/network/data.network.d")
    blocked = snapshot(lab)
    mtu(lab, wanted(lab, "interface"), fails=True)
    assert snapshot(lab) == blocked
    both(lab, "rm /etc/systemd/network/data.network.d")


@pytest.mark.parametrize("manager", ["systemd-networkd"], indirect=True)
@pytest.mark.usefixtures("manager")
def test_a_run_that_was_cut_off_is_finished(lab: Lab) -> None:
    untouched = snapshot(lab)
    mtu(lab, wanted(lab, "interface"))
    # As if it had come no further than to remember what was.
    both(lab, f"ip link set eth1 mtu 1500; rm -r {DROP_IN}")
    time.sleep(1)
    assert all(result["changed"] for result in mtu(lab, wanted(lab, "interface")).values())
    assert links(lab) == [1400] * 2
    both(lab, f"ip link set eth1 mtu 1500; rm -r {DROP_IN}")
    mtu(lab, ABSENT)
    assert snapshot(lab) == untouched


@pytest.mark.parametrize("manager", ["systemd-networkd"], indirect=True)
@pytest.mark.usefixtures("manager")
def test_overlay(lab: Lab) -> None:
    """An overlay of systemd-networkd over the data network gets its MTU, one over another network is refused."""
    both(
        lab,
        "printf '[NetDev]\\nName=vx5\\nKind=vxlan\\n[VXLAN]\\nVNI=5\\nLocal=%s\\nDestinationPort=4789\\nIndependent=yes\\n'"
        " $(ip -4 -o address show dev eth1 | sed 's,.*inet \\([0-9.]*\\)/.*,\\1,') >/etc/systemd/network/vx5.netdev;"
        "printf '[Match]\\nName=vx5\\n[Network]\\nLinkLocalAddressing=no\\n' >/etc/systemd/network/vx5.network;"
        "ip link add foreign type vxlan id 6 local $(ip -4 -o address show dev eth0 | sed 's,.*inet \\([0-9.]*\\)/.*,\\1,') dstport 4790;"
        "systemctl restart systemd-networkd",
    )
    assert eventually(lambda: all("vx5" in found for found in both(lab, "ip link").values()))
    assert eventually(lambda: all("configured" in f for f in both(lab, "networkctl list vx5").values()))
    untouched = snapshot(lab)
    arguments = wanted(lab, "interface")

    def over(name: str) -> dict[str, dict[str, Any]]:
        return {host: {**a, "overlays": [{"interface": name, "mtu": 1300}]} for host, a in arguments.items()}

    for result in mtu(lab, over("foreign"), fails=True).values():
        assert "foreign does not travel over a member network" in result["msg"]
    assert snapshot(lab) == untouched
    mtu(lab, over("vx5"))
    assert links(lab) == [1400] * 2
    assert set(both(lab, "cat /sys/class/net/vx5/mtu").values()) == {"1300\n"}
    assert not any(result["changed"] for result in mtu(lab, over("vx5")).values())
    mtu(lab, ABSENT)
    assert snapshot(lab) == untouched
    both(lab, "rm /etc/systemd/network/vx5.*; ip link delete vx5; ip link delete foreign")
