# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filters' figures against what gets through, and an overlay on top of an encrypted network."""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.underlay.ipsec.plugins.filter.inner_mtu import inner_mtu
from ansible_collections.underlay.ipsec.plugins.filter.overlay_mtu import overlay_mtu
from kit import Lab, eventually

MEMBERS = ("h1", "h2")
LINK = 1500
CIDRS = {"data": "10.88.0.0/24", "data6": "fd88::/64"}
FAMILY = {"data": 4, "data6": 6}
VXLAN = "vxlan100"
OVERLAY = {"h1": "198.51.100.1", "h2": "198.51.100.2"}
BYTES = 2_000_000

# Suite, mode and encapsulation of both networks at a time.
SETTINGS: list[dict[str, tuple[str, str, str]]] = [
    {"data": ("aes_gcm256", "transport", "auto"), "data6": ("aes256-sha2_256", "transport", "never")},
    {"data": ("aes256-sha2_512", "transport", "always"), "data6": ("aes_gcm256", "tunnel", "always")},
    {"data": ("aes_ccm256", "tunnel", "never"), "data6": ("chacha20_poly1305", "transport", "always")},
    # As in OpenShift 3.11; the overlay stays on it.
    {"data": ("aes_gcm256", "tunnel", "always"), "data6": ("aes256-sha2_256", "tunnel", "auto")},
]


def networks(setting: dict[str, tuple[str, str, str]]) -> list[dict[str, Any]]:
    """Return ipsec_networks."""
    return [
        {"name": name, "cidr": CIDRS[name], "esp": esp, "mode": mode, "encapsulation": encapsulation}
        for name, (esp, mode, encapsulation) in setting.items()
    ]


def fits(lab: Lab, size: int, family: int, target: str) -> bool:
    """Return whether an IP packet of *size* bytes goes from h1 to *target* and comes back, in one piece."""
    payload = size - (20 if family == 4 else 40) - 8
    # A packet that is only lost says nothing; one that is too large is refused at once.
    for _attempt in range(4):
        out = lab.ssh("h1", f"ping -{family} -c 1 -W 1 -M do -s {payload} {target} 2>&1; true")
        if "1 received" in out or "message too long" in out.lower():
            return "1 received" in out
    return False


def largest(lab: Lab, family: int, target: str) -> int:
    """Return the size of the largest packet that gets through."""
    low, high = 1280, LINK
    assert fits(lab, low, family, target)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(lab, middle, family, target) else (low, middle - 1)
    return low


def frames(path: Path) -> Iterator[bytes]:
    """Yield the Ethernet frames of a pcap file."""
    raw = path.read_bytes()
    order = "<" if raw[:4] in (b"\xd4\xc3\xb2\xa1", b"\x4d\x3c\xb2\xa1") else ">"
    at = 24
    while at + 16 <= len(raw):
        length = struct.unpack(order + "I", raw[at + 8 : at + 12])[0]
        yield raw[at + 16 : at + 16 + length]
        at += 16 + length


def fragments(path: Path) -> int:
    """Return how many IP packets of a pcap file are fragments."""
    count = 0
    for frame in frames(path):
        if frame[12:14] == b"\x08\x00":
            # More fragments, or an offset.
            count += bool(struct.unpack("!H", frame[20:22])[0] & 0x3FFF)
        elif frame[12:14] == b"\x86\xdd":
            count += frame[20] == 44
    return count


@pytest.mark.parametrize("number", range(len(SETTINGS)))
def test_largest_packet_is_what_the_filter_says(lab: Lab, number: int) -> None:
    setting = SETTINGS[number]
    lab.converge(MEMBERS, ipsec_networks=networks(setting))
    measured, calculated = {}, {}
    for name, (esp, mode, encapsulation) in setting.items():
        family = FAMILY[name]
        calculated[name] = inner_mtu(esp, LINK, mode, encapsulation == "always", family)
        with lab.capture() as capture:
            measured[name] = largest(lab, family, lab.address("h2", family))
        ends = lab.address("h1", family), lab.address("h2", family)
        assert capture.esp(*ends)
        assert not capture.clear(*ends)
        assert not fragments(capture.path)
    assert measured == calculated


@pytest.fixture(scope="module")
def overlay(lab: Lab) -> Iterator[None]:
    """Put a VXLAN over the encrypted network, with the MTU that suits one over a network that is not."""
    for host, peer in (MEMBERS, MEMBERS[::-1]):
        own, other = lab.address(host), lab.address(peer)
        lab.ssh(
            host,
            f"ip link add {VXLAN} type vxlan id 100 local {own} remote {other} dstport 4789 dev eth1"
            f" && ip link set {VXLAN} mtu 1450 up && ip address add {OVERLAY[host]}/24 dev {VXLAN}",
        )
    yield
    for host in MEMBERS:
        lab.ssh(host, f"ip link delete {VXLAN}")


def set_mtu(lab: Lab, mtu: int) -> None:
    """Set the MTU of the overlay, and forget what the hosts have learned about the path."""
    for host in MEMBERS:
        lab.ssh(host, f"ip link set {VXLAN} mtu {mtu} && ip route flush cache")


def transfer(lab: Lab) -> int:
    """Send `BYTES` through the overlay by TCP, and return how many fragments were on the wire meanwhile."""
    lab.ssh("h2", "setsid timeout 60 nc -l -p 7777 >/tmp/received 2>/dev/null </dev/null & sleep 0.5")
    with lab.capture() as capture:
        lab.ssh("h1", f"head -c {BYTES} /dev/urandom | timeout 50 nc -N {OVERLAY['h2']} 7777")
        time.sleep(0.5)
    assert int(lab.ssh("h2", "stat -c %s /tmp/received")) == BYTES
    ends = lab.address("h1"), lab.address("h2")
    assert len(capture.esp(*ends)) > BYTES / LINK
    found = fragments(capture.path)
    # What follows the first fragment has no header that says ESP.
    assert found or not capture.clear(*ends)
    return found


def warned(lab: Lab, about: str, **settings: Any) -> list[str]:
    """Return the warnings of verify that have *about* in them."""
    run = lab.play("verify", MEMBERS, **settings)
    assert run.rc == 0, run.output
    found = [text for text in lab.report["warnings"] if about in text]
    assert all(f"Warning: {text}" in run.output for text in found)
    return found


@pytest.mark.usefixtures("overlay")
def test_overlay_that_is_too_large(lab: Lab) -> None:
    set_mtu(lab, 1450)
    assert transfer(lab) > 0
    said = warned(lab, VXLAN, ipsec_networks=networks(SETTINGS[-1]))
    assert [text.partition(":")[0] for text in said] == list(MEMBERS)
    assert all("has an MTU of 1450, and with ESP 1388 is what fits" in text for text in said)


@pytest.mark.usefixtures("overlay")
def test_overlay_at_the_advised_mtu(lab: Lab) -> None:
    advised = overlay_mtu("aes_gcm256", "vxlan", LINK, mode="tunnel", encapsulation=True)
    assert advised == 1388
    set_mtu(lab, advised)
    assert not transfer(lab)
    assert fits(lab, advised, 4, OVERLAY["h2"])
    assert not warned(lab, VXLAN, ipsec_networks=networks(SETTINGS[-1]))


@pytest.mark.usefixtures("overlay")
def test_one_byte_more_is_a_fragment(lab: Lab) -> None:
    """So the advised MTU is the largest."""
    set_mtu(lab, 1388 + 4)
    with lab.capture() as capture:
        lab.ssh("h1", f"ping -c 3 -i 0.2 -W 1 -M dont -s {1388 + 1 - 28} {OVERLAY['h2']}; true")
    assert fragments(capture.path)


def test_interface_that_is_too_large(lab: Lab) -> None:
    """It is a warning, until the route to the network has the network's MTU."""
    settings: dict[str, Any] = {"ipsec_networks": networks(SETTINGS[-1])}
    settings["ipsec_networks"][0]["mtu"] = 1400
    esp, mode, encapsulation = SETTINGS[-1]["data"]
    said = warned(lab, "eth1 sends", **settings)
    assert [text.partition(":")[0] for text in said] == list(MEMBERS)
    assert all("up to 1500 bytes to the network data, which carries 1400" in text for text in said)
    lab.converge(MEMBERS, ipsec_mtu="route", **settings)
    assert not warned(lab, "eth1 sends", ipsec_mtu="route", **settings)
    assert largest(lab, 4, lab.address("h2")) == inner_mtu(esp, 1400, mode, encapsulation == "always")


def test_impossible_mtu_changes_nothing(lab: Lab) -> None:
    before = [lab.etc(host) for host in MEMBERS]
    wrong = networks(SETTINGS[-1])
    wrong[1]["mtu"] = 1280
    run = lab.play(
        "site", MEMBERS, ipsec_networks=wrong, ipsec_mtu="interface", ipsec_mtu_overlays=["vxlan7"]
    )
    assert run.rc != 0
    assert "ipsec_networks[1].mtu: ESP (aes256-sha2_256, tunnel mode) leaves" in run.output
    assert "ipsec_mtu_overlays: the host has no interface 'vxlan7'" in run.output
    assert [lab.etc(host) for host in MEMBERS] == before


def test_clean_up(lab: Lab) -> None:
    """The settings that the scenario started with, for whoever tests next on its hosts."""
    run = lab.converge(MEMBERS)
    assert run.changed
    assert eventually(lambda: fits(lab, 1400, 4, lab.address("h2")))
