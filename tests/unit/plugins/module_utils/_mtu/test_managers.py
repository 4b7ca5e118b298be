# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who configures an interface, from what the managers say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
from ansible_collections.underlay.ipsec.plugins.module_utils._errors import CommandError, ProblemsError
from ansible_collections.underlay.ipsec.plugins.module_utils._mtu import managers
from ansible_collections.underlay.ipsec.plugins.module_utils._mtu.managers import Owner
from ansible_collections.underlay.ipsec.plugins.module_utils._run import Completed

UUID = "11111111-2222-3333-4444-555555555555"
SHOW = "nmcli -g GENERAL.STATE,GENERAL.CON-UUID device show eth1"
ETC = "/etc/NetworkManager/system-connections/data.nmconnection"
STATUS = "networkctl --no-pager --lines=0 status"
# As systemd 252 and 257 write it, which differ in the alignment and in the drop-ins.
NETWORKD = """\
● 2: eth0
                     Link File: n/a
                  Network File: n/a
                         State: routable (unmanaged)
                  Online state: unknown

● 3: eth1
                Network File: /etc/systemd/network/data.network
                              └─/etc/systemd/network/data.network.d/99-x.conf
                       State: routable (configured)
"""


class Host:
    """Plays a host: what is not known is a program that is not installed."""

    def __init__(self, answers: Mapping[str, str]) -> None:
        self.answers = answers
        self.commands: list[str] = []

    def __call__(
        self, argv: Sequence[str], *, stdin: str | None = None, check: bool = True, timeout: float = 1.0
    ) -> Completed:
        command = " ".join(argv)
        self.commands.append(command)
        if command in self.answers:
            return Completed(tuple(argv), 0, self.answers[command], "")
        if check:
            raise CommandError(argv, 127, "", "")
        return Completed(tuple(argv), 127, "", "")


def network_manager(
    state: str = "100 (connected)", kind: str = "802-3-ethernet", path: str = ETC
) -> dict[str, str]:
    """Return what nmcli says of eth1."""
    return {
        SHOW: f"{state}\n{UUID}\n",
        f"nmcli -g connection.type connection show {UUID}": f"{kind}\n",
        "nmcli -g UUID,FILENAME connection show": f"99c20f6c-8019-40b1-8306-8d6e04db99cf:/run/x\n{UUID}:{path}\n",
    }


def networkd(every: str = NETWORKD) -> dict[str, str]:
    """Return what systemd-networkd says of eth1."""
    return {
        "systemctl is-active --quiet systemd-networkd.service": "",
        f"{STATUS} eth1": NETWORKD[NETWORKD.index("● 3") :],
        "networkctl --no-pager --no-legend list": " 2 eth0 ether routable unmanaged\n 3 eth1 ether routable configured\n",
        f"{STATUS} eth0 eth1": every,
    }


@pytest.mark.parametrize(
    ("answers", "owner"),
    [
        ({}, None),
        (network_manager(), Owner("NetworkManager", UUID, "802-3-ethernet.mtu")),
        (network_manager(kind="bond"), Owner("NetworkManager", UUID, "802-3-ethernet.mtu")),
        (network_manager(kind="infiniband"), Owner("NetworkManager", UUID, "infiniband.mtu")),
        (network_manager(kind="ip-tunnel"), Owner("NetworkManager", UUID, "ip-tunnel.mtu")),
        (network_manager("100 (connected (externally))"), None),
        ({SHOW: "10 (unmanaged)\n\n"}, None),
        (networkd(), Owner("systemd-networkd", network_file="/etc/systemd/network/data.network")),
        ({**networkd(), **network_manager()}, Owner("NetworkManager", UUID, "802-3-ethernet.mtu")),
        ({"ifquery eth1": "address: 10.88.0.11\n"}, Owner("ifupdown")),
        (
            {**networkd(), f"{STATUS} eth1": NETWORKD.split("\n\n")[0], "ifquery eth1": ""},
            Owner("ifupdown"),
        ),
    ],
)
def test_owner(answers: Mapping[str, str], owner: Owner | None) -> None:
    assert managers.find_owner(Host(answers), "eth1") == owner


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        (
            network_manager(path="/run/NetworkManager/system-connections/netplan-eth1.nmconnection"),
            "does not outlive a reboot",
        ),
        (
            {
                **network_manager(),
                "nmcli -g UUID,DEVICE connection show --active": f"{UUID}:eth1\n{UUID}:eth2\n",
            },
            f"NetworkManager's profile {UUID} configures eth1 and eth2",
        ),
        (
            networkd(
                NETWORKD.replace(
                    "n/a\n                         State", "/etc/systemd/network/data.network\n State"
                )
                .replace("(unmanaged)", "(configured)")
                .replace(
                    "                  Network File: n/a", "  Network File: /etc/systemd/network/data.network"
                )
            ),
            "/etc/systemd/network/data.network configures eth1 and eth0",
        ),
    ],
)
def test_owner_of_whom_it_cannot_be_asked(answers: Mapping[str, str], reason: str) -> None:
    with pytest.raises(ProblemsError, match=reason) as caught:
        managers.find_owner(Host(answers), "eth1")
    assert caught.value.problems[0].remedy.endswith("or set ipsec_mtu to route")


@pytest.mark.parametrize("file", ["/etc/systemd/network/10-a.network", "/run/systemd/network/10-a.network"])
def test_drop_in_is_below_etc(file: str) -> None:
    assert managers.drop_in(file) == "/etc/systemd/network/10-a.network.d/99-underlay-ipsec.conf"


def test_texts() -> None:
    assert managers.networkd_text(1400).endswith("\n[Link]\nMTUBytes=1400\n")
    hook = managers.ifupdown_text([("eth2", 1300), ("eth1", 1400)])
    assert hook.startswith("#!/bin/sh\n#")
    assert hook.endswith(
        'case $IFACE in\neth1) ip link set dev "$IFACE" mtu 1400 ;;\neth2) ip link set dev "$IFACE" mtu 1300 ;;\nesac\n'
    )


@pytest.mark.parametrize(("said", "value"), [("auto\n", "0"), ("0\n", "0"), ("1400\n", "1400")])
def test_a_profile_says(said: str, value: str) -> None:
    shown = f"nmcli -g 802-3-ethernet.mtu connection show {UUID}"
    assert managers.read_nm(Host({shown: said}), UUID, "802-3-ethernet.mtu") == value
    assert managers.read_nm(Host({}), UUID, "802-3-ethernet.mtu") is None


@pytest.mark.parametrize(
    ("applied", "saved", "reapplied"),
    [
        (
            '{"connection":{"id":["s","data"]}}',
            '{"connection":{"id":["s","data"],"timestamp":1},"proxy":{}}',
            True,
        ),
        (
            '{"connection":{"id":["s","data"]}}',
            '{"connection":{"id":["s","data"]},"ipv4":{"method":["s","auto"]}}',
            False,
        ),
        (None, '{"connection":{}}', False),
    ],
)
def test_nothing_but_the_mtu_is_taken_over(applied: str | None, saved: str, reapplied: bool) -> None:
    """An operator's own change of the profile that is not yet in force is not put in force."""
    bus = "org.freedesktop.NetworkManager"
    modify = f"nmcli connection modify {UUID} 802-3-ethernet.mtu 1400"
    host = Host(
        {
            "nmcli -g GENERAL.DBUS-PATH device show eth1": "/D/3\n",
            "nmcli -g DBUS-PATH,UUID connection show": f"/S/1:{UUID}\n",
            f"busctl --json=short call {bus} /S/1 {bus}.Settings.Connection GetSettings": f'{{"data":[{saved}]}}',
            **(
                {
                    f"busctl --json=short call {bus} /D/3 {bus}.Device GetAppliedConnection u 0": f'{{"data":[{applied},1]}}'
                }
                if applied
                else {}
            ),
            modify: "",
        }
    )
    managers.write_nm(host, UUID, "802-3-ethernet.mtu", "eth1", "1400")
    assert modify in host.commands
    reapply = f"busctl call {bus} /D/3 {bus}.Device Reapply a{{sa{{sv}}}}tu 0 0 1"
    assert (host.commands[-1] == reapply) == reapplied
