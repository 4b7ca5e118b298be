# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A mesh on two networks with settings of their own, and a member that is on one of them only, behind NAT.

What is on the wire decides: on ``data`` ESP travels inside UDP, on ``storage`` it never does.
"""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Iterable
from typing import Any

import pytest
from kit import KILL_PLUTO, Capture, Lab, Packet, eventually

MEMBERS = ("h1", "h2", "h3")
NAT_ADDRESS = "10.88.0.50"
PORT_4500_BOTH = (4500).to_bytes(2, "big") * 2
BEHIND_NAT: dict[str, Any] = {
    "ipsec_addresses": {"data": "10.99.0.13"},
    "ipsec_nat_addresses": {"data": NAT_ADDRESS},
}


def address(lab: Lab, host: str, network: str) -> str:
    """Return the IPv4 address of *host* on *network*."""
    found: list[str] = lab.status["hosts"][host]["addresses"][network]
    return next(one for one in found if ":" not in one)


def in_udp(packets: Iterable[Packet]) -> set[bool]:
    """Return whether *packets*, which are ESP, are inside UDP: some are, some are not, or both."""
    return {packet.data[:4] == PORT_4500_BOTH for packet in packets}


def both_ways(capture: Capture, one: str, other: str) -> set[bool]:
    """Return `in_udp` of what passed between two addresses, which has to be ESP alone, both ways."""
    found = capture.esp(one, other)
    assert {(packet.source, packet.destination) for packet in found} == {(one, other), (other, one)}
    assert not capture.clear(one, other)
    return in_udp(found)


def spis(lab: Lab, *ends: str) -> set[tuple[str, str, str]]:
    """Return what h1 has SAs for between two addresses."""
    return {sa for sa in lab.spis("h1") if {*sa[:2]} == set(ends)}


def test_every_ordered_pair_is_encrypted(lab: Lab) -> None:
    assert lab.report["ok"]
    expected = {(*pair, "data"): "encrypted" for pair in itertools.permutations(MEMBERS, 2)}
    expected |= {(*pair, "storage"): "encrypted" for pair in itertools.permutations(MEMBERS[:2], 2)}
    assert lab.matrix() == expected


def test_report_tells_the_networks_apart(lab: Lab) -> None:
    found = {(pair["network"], pair["encapsulation"], pair["cipher"]) for pair in lab.report["pairs"]}
    assert found == {("data", "udp", "aes_gcm256"), ("storage", None, "aes_gcm128")}


@pytest.mark.parametrize(("network", "wrapped"), [("data", True), ("storage", False)])
def test_encapsulation_of_a_network(lab: Lab, network: str, wrapped: bool) -> None:
    marker = uuid.uuid4().hex
    ends = address(lab, "h1", network), address(lab, "h2", network)
    with lab.capture(network) as capture:
        lab.ssh("h1", f"ping -q -c 5 -i 0.2 -p {marker} {ends[1]}")
    assert not capture.holding(bytes.fromhex(marker))
    assert both_ways(capture, *ends) == {wrapped}


@pytest.mark.parametrize("sender", MEMBERS)
def test_member_behind_nat(lab: Lab, sender: str) -> None:
    """It and the others reach each other by their own addresses; on the wire there is the NAT address only."""
    marker = uuid.uuid4().hex
    inside = address(lab, "h3", "inside")
    peers = ("h1", "h2") if sender == "h3" else (sender,)
    for peer in peers:
        outside = address(lab, peer, "data")
        target = outside if sender == "h3" else inside
        with lab.capture() as capture:
            lab.ssh(sender, f"ping -q -c 5 -i 0.2 -p {marker} {target}")
        assert not capture.holding(bytes.fromhex(marker))
        assert both_ways(capture, outside, NAT_ADDRESS) == {True}
        assert not [packet for packet in capture.packets if inside in (packet.source, packet.destination)]


def test_nat_address_itself_is_not_a_way_round(lab: Lab) -> None:
    """No pair is for it, so that it would be clear text."""
    for member in ("h1", "h2"):
        own = address(lab, member, "data")
        with lab.capture() as capture:
            assert not lab.answers(member, NAT_ADDRESS)
        assert not capture.clear(own, NAT_ADDRESS)


def test_change_of_one_network_leaves_the_other_alone(lab: Lab) -> None:
    networks = [dict(network) for network in lab.defaults["ipsec_networks"]]
    networks[1]["encapsulation"] = "always"
    on_data = address(lab, "h1", "data"), address(lab, "h2", "data")
    on_storage = address(lab, "h1", "storage"), address(lab, "h2", "storage")
    nat = on_data[0], NAT_ADDRESS
    before = [spis(lab, *ends) for ends in (on_data, nat, on_storage)]
    assert all(before)
    lab.converge(MEMBERS, host_variables={"h3": BEHIND_NAT}, ipsec_networks=networks)
    after = [spis(lab, *ends) for ends in (on_data, nat, on_storage)]
    assert after[:2] == before[:2]
    assert not after[2] & before[2]
    with lab.capture("storage") as capture:
        lab.ssh("h2", f"ping -q -c 3 -i 0.2 {on_storage[0]}")
    assert both_ways(capture, *on_storage) == {True}


def test_pair_comes_back_through_nat(lab: Lab) -> None:
    """Pluto is killed behind the NAT."""
    lab.ssh("h3", KILL_PLUTO)
    ways = {"h1": address(lab, "h3", "inside"), "h3": address(lab, "h1", "data")}
    assert eventually(lambda: all(lab.answers(member, target) for member, target in ways.items()), 90)
