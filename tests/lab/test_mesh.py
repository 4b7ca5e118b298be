# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An explicit mesh: four members of two releases, two networks, certificates and then pre-shared keys.

h4 is on one of the networks only. What the members have is looked at from outside: on the
bridges, in the kernels and in pluto's journal.
"""

from __future__ import annotations

import itertools
import math
import re
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan.pairs import begins, pair_name
from kit import Lab, Stage, cut_off

MEMBERS = ("h1", "h2", "h3", "h4")
ON = {"data": MEMBERS, "store": MEMBERS[:3]}
FAMILY = {"data": 4, "store": 6}
PAIRS = [(a, b, network) for network, names in ON.items() for a, b in itertools.permutations(names, 2)]
SECRET, OTHER_SECRET = "a secret of thirty-two characters", "another one of thirty-two characters"
PSK: dict[str, Any] = {"ipsec_auth": "psk", "ipsec_psk_secret": SECRET}

Sa = tuple[str, str, str]


@pytest.fixture
def marker() -> str:
    """Return what no packet of anybody else holds."""
    return uuid.uuid4().hex


@pytest.fixture
def same_pluto(lab: Lab) -> Iterator[None]:
    """Check that pluto neither restarted nor crashed on any member during the test."""
    before = on_all(lab, lab.pluto)
    yield
    assert on_all(lab, lab.pluto) == before


def on_all(_lab: Lab, ask: Any, members: Sequence[str] = MEMBERS) -> dict[str, Any]:
    """Return member → what *ask* says of it."""
    with ThreadPoolExecutor() as pool:
        return dict(zip(members, pool.map(ask, members), strict=True))


def spis(lab: Lab, members: Sequence[str] = MEMBERS) -> dict[str, set[Sa]]:
    """Return member → its SAs with *members*."""
    addresses = {lab.address(m, FAMILY[n], n) for n in ON for m in members if m in ON[n]}
    return {
        member: {sa for sa in found if {sa[0], sa[1]} <= addresses}
        for member, found in on_all(lab, lab.spis, members).items()
    }


def check_encrypted(lab: Lab, members: Sequence[str] = MEMBERS) -> None:
    """Check that the last report has every ordered pair, and all of them encrypted."""
    pairs = [pair for pair in PAIRS if {pair[0], pair[1]} <= set(members)]
    assert lab.matrix() == dict.fromkeys(pairs, "encrypted")


def check_wire(lab: Lab, network: str, marker: str) -> None:
    """Let all ordered pairs exchange the marker, and check that it is on the wire as ESP only."""
    members, family = ON[network], FAMILY[network]
    for step in range(1, len(members)):
        capture, pairs = lab.exchange(members, step, marker, family, network)
        assert not capture.holding(marker.encode())
        for sender, receiver in pairs:
            ends = lab.address(sender, family, network), lab.address(receiver, family, network)
            assert capture.esp(*ends), ends
            assert not capture.clear(*ends), ends


def test_one_end_of_each_pair_began(lab: Lab) -> None:
    """Both ends starting at once is what goes wrong in meshes of 4.x. This comes first: a restart may be crossed."""
    journals = on_all(lab, lambda host: lab.ssh(host, "journalctl -u ipsec --no-pager"))
    for a, b, network in PAIRS:
        began = f'"{pair_name(network, a, b)}" #'
        lines = [line for line in journals[a].splitlines() if began in line and "initiating IKEv2" in line]
        assert bool(lines) == begins(network, a, b), lines


def test_every_ordered_pair_is_encrypted(lab: Lab) -> None:
    assert lab.report["ok"]
    check_encrypted(lab)


@pytest.mark.parametrize("network", ON)
def test_marker_is_on_the_wire_as_esp_only(lab: Lab, marker: str, network: str) -> None:
    check_wire(lab, network, marker)


@pytest.mark.usefixtures("same_pluto")
def test_second_run_changes_nothing(lab: Lab) -> None:
    before = spis(lab)
    assert lab.converge(MEMBERS).changed == 0
    assert spis(lab) == before


@pytest.mark.parametrize("member", ["h1", "h2"])
def test_nothing_leaves_without_an_sa(lab: Lab, marker: str, member: str) -> None:
    """Pluto of the peer is gone and the SAs are ended: the trap holds what there is to send, on both releases."""
    peer = "h3" if member == "h1" else "h4"
    lab.ssh(peer, "systemctl stop ipsec")
    name = pair_name("data", member, peer)
    ends = lab.address(member), lab.address(peer)
    try:
        with lab.capture() as capture:
            lab.ssh(member, f"ipsec whack --terminate --name {name}")
            lab.send_markers(member, peer, marker)
        assert not [packet for packet in capture.clear(*ends) if packet.source == ends[0]]
        assert not [packet for packet in capture.holding(marker.encode()) if packet.source == ends[0]]
    finally:
        lab.ssh(peer, "systemctl start ipsec")
    lab.converge(MEMBERS)


def test_a_limited_run_does_not_touch_what_others_share(lab: Lab) -> None:
    addresses = {
        member: {
            "ipsec_addresses": {n: lab.address(member, FAMILY[n], n) for n in ON if member in ON[n]},
        }
        for member in MEMBERS
    }
    before, etc = spis(lab), on_all(lab, lab.etc)
    run = lab.play("site", MEMBERS, "--limit", "h1,h2", host_variables=addresses, ipsec_esp="aes_gcm128")
    assert run.rc != 0
    assert "h1, h2: this run would change its connections with h3, h4, which are not part of it" in run.output
    assert (spis(lab), on_all(lab, lab.etc)) == (before, etc)
    # What changes nothing there is done.
    assert lab.play("site", MEMBERS, "--limit", "h1", host_variables=addresses).rc == 0
    assert spis(lab) == before


@pytest.mark.usefixtures("same_pluto")
def test_exceptions_come_and_go_beside_the_sas(lab: Lab, marker: str) -> None:
    before = spis(lab)
    ssh = ["10.88.0.0/24 tcp 0 7777", "10.88.0.0/24 tcp 7777 0"]
    # libreswan and the firewall of each.
    assert lab.converge(MEMBERS, ipsec_clear=ssh).changed == 2 * len(MEMBERS)
    with lab.capture() as capture:
        lab.send_markers("h1", "h2", marker)
    readable = capture.holding(marker.encode())
    assert readable
    assert {packet.protocol for packet in readable} == {6}
    assert lab.converge(MEMBERS).changed == 2 * len(MEMBERS)
    with lab.capture() as capture:
        lab.send_markers("h1", "h2", marker)
    assert not capture.holding(marker.encode())
    assert spis(lab) == before


@pytest.mark.usefixtures("same_pluto")
def test_pre_shared_keys(lab: Lab, marker: str) -> None:
    """Another way to authenticate; the run shows no key, with all that can be asked for."""
    run = lab.converge(MEMBERS, "-vvv", "--diff", **PSK)
    check_encrypted(lab)
    check_wire(lab, "data", marker)
    keys = keys_of(lab)
    for member, own in keys.items():
        assert {frozenset(ids) for ids in own} == {
            frozenset((f"@{member}", f"@{peer}")) for peer in MEMBERS if peer != member
        }
    distinct = {(frozenset(ids), key) for own in keys.values() for ids, key in own.items()}
    # As many as there are pairs: both ends have the same one, and no other pair has it.
    assert len(distinct) == len({key for _ids, key in distinct}) == math.comb(len(MEMBERS), 2)
    assert_secret(lab, run.output, [key for _ids, key in distinct])
    assert lab.converge(MEMBERS, **PSK).changed == 0


def keys_of(lab: Lab) -> dict[str, dict[tuple[str, str], str]]:
    """Return member → ids → key in its file, which is for root alone."""
    found = {}
    for member in MEMBERS:
        text = lab.ssh(
            member, "stat -c %a:%U /etc/ipsec.d/underlay.secrets; cat /etc/ipsec.d/underlay.secrets"
        )
        assert text.startswith("600:root")
        lines = re.findall(r'^(\S+) (\S+) : PSK "(\S+)"$', text, re.MULTILINE)
        found[member] = {(one, other): key for one, other, key in lines}
    return found


def assert_secret(lab: Lab, output: str, keys: Sequence[str]) -> None:
    """Check that neither a key nor what it is derived from is anywhere but in the hosts' files."""
    written = "".join(
        path.read_text(encoding="utf-8", errors="replace")
        for path in Path(lab.folder / "report").rglob("*")
        if path.is_file()
    )
    for secret in (SECRET, OTHER_SECRET, *keys):
        assert secret not in output
        assert secret not in written
    for member in MEMBERS:
        elsewhere = lab.ssh(
            member,
            f"grep -rlsF -e '{keys[0]}' -e '{SECRET}' /etc /var /root /tmp /run 2>/dev/null |"
            " grep -v '^/etc/ipsec.d/underlay.secrets$'; journalctl --no-pager | grep -cF -e '"
            + SECRET
            + "' -e '"
            + "' -e '".join(keys)
            + "'; true",
        )
        assert elsewhere.split() == ["0"], elsewhere


@pytest.mark.usefixtures("same_pluto")
def test_a_rotation_of_the_secret_keeps_the_sas(lab: Lab) -> None:
    before, old = spis(lab), keys_of(lab)
    assert lab.converge(MEMBERS, **{**PSK, "ipsec_psk_secret": OTHER_SECRET}).changed == len(MEMBERS)
    new = keys_of(lab)
    assert all(old[member][ids] != key for member, own in new.items() for ids, key in own.items())
    assert spis(lab) == before


def test_the_new_keys_are_in_use(lab: Lab) -> None:
    """A member that comes back authenticates with all others by the keys of the rotation."""
    lab.ssh("h2", "systemctl restart ipsec")
    run = lab.converge(MEMBERS, **{**PSK, "ipsec_psk_secret": OTHER_SECRET})
    check_encrypted(lab)
    assert "authentication failed" not in run.output


def test_a_wrong_key_is_named_and_repaired(lab: Lab) -> None:
    """A member has the key of one pair wrong, and lost another network's file."""
    new: dict[str, Any] = {**PSK, "ipsec_psk_secret": OTHER_SECRET}
    others = spis(lab, ("h3", "h4"))
    lab.ssh(
        "h1",
        "sed -i 's/^@h1 @h2 : PSK \"/&x/' /etc/ipsec.d/underlay.secrets; ipsec whack --rereadsecrets;"
        f" ipsec whack --terminate --name {pair_name('data', 'h1', 'h2')};"
        " rm /etc/ipsec.d/underlay-store.conf",
    )
    run = lab.play("verify", MEMBERS, ipsec_verify_timeout=10, **new)
    assert run.rc != 0
    found = {(p["from"], p["to"]): p for p in lab.report["problems"]}
    assert set(found) == {("h1", "h2"), ("h2", "h1")}, run.output
    assert "authentication" in found["h1", "h2"]["cause"] + found["h2", "h1"]["cause"]
    lab.converge(MEMBERS, **new)
    check_encrypted(lab)
    assert spis(lab, ("h3", "h4")) == others


def test_a_full_disk_is_found_before_anything_is_changed(lab: Lab) -> None:
    full = "fallocate -l $(( ($(stat -f -c '%a * %S' /) ) - 16777216 )) /var/tmp/full"
    lab.ssh("h3", full)
    try:
        before = on_all(lab, lab.etc)
        run = lab.play("site", MEMBERS)
        assert run.rc != 0
        assert "h3: the file system of" in run.output
        assert on_all(lab, lab.etc) == before
    finally:
        lab.ssh("h3", "rm /var/tmp/full")


def test_a_change_that_one_host_cannot_write_is_finished_by_the_next_run(lab: Lab) -> None:
    """From pre-shared keys to certificates, while a host refuses to write: both ends of its pairs differ for a while."""
    lab.ssh("h3", "mount --bind /etc/ipsec.d /etc/ipsec.d && mount -o remount,ro,bind /etc/ipsec.d")
    try:
        run = lab.play("site", MEMBERS)
        assert run.rc != 0
        assert "h3" in run.output.split("PLAY RECAP")[0].split("fatal")[1]
        assert all(on_all(lab, lab.reachable).values())
    finally:
        lab.ssh("h3", "umount /etc/ipsec.d")
    lab.converge(MEMBERS)
    check_encrypted(lab)
    assert lab.converge(MEMBERS).changed == 0


def test_a_change_during_which_a_host_dies_is_finished_by_the_next_run(lab: Lab) -> None:
    """From certificates to pre-shared keys, and h3 dies in the middle of it."""
    stage = Stage("libreswan : Configure libreswan, private or clear")
    run = cut_off(lab, MEMBERS, stage, lambda _process: lab.cli("kill", "h3"), 0.2, **PSK)
    assert run.rc != 0, run.output
    assert all(on_all(lab, lab.reachable, [m for m in MEMBERS if m != "h3"]).values())
    lab.cli("start", "h3")
    lab.converge(MEMBERS, **PSK)
    check_encrypted(lab)
    keys = keys_of(lab)
    assert all(
        keys[b][f"@{b}", f"@{a}"] == keys[a][f"@{a}", f"@{b}"] for a, b in itertools.permutations(MEMBERS, 2)
    )


def test_leaving_and_joining_leaves_the_others_alone(lab: Lab) -> None:
    """h4 is dead when it is taken out of the group, and a member again when it is back."""
    rest = MEMBERS[:3]
    before, running = spis(lab, rest), on_all(lab, lab.pluto, rest)
    lab.cli("kill", "h4")
    assert lab.converge(rest, **PSK).changed == 2 * len(rest)
    check_encrypted(lab, rest)
    gone = lab.address("h4")
    for member in rest:
        left = lab.ssh(
            member, "cat /etc/ipsec.d/underlay*; ipsec whack --status; ip xfrm policy; ip xfrm state"
        )
        assert gone not in left
        assert "+h4" not in left
        assert "@h4" not in left
    assert spis(lab, rest) == before
    lab.cli("start", "h4")
    lab.converge(MEMBERS, **PSK)
    check_encrypted(lab)
    assert spis(lab, rest) == before
    assert on_all(lab, lab.pluto, rest) == running


def test_nothing_is_left_after_removal(lab: Lab) -> None:
    assert lab.play("remove", MEMBERS).rc == 0
    for member in MEMBERS:
        left = lab.ssh(
            member,
            "ls -R /etc/ipsec.d; ipsec whack --status; ip xfrm policy; certutil -L -d sql:/var/lib/ipsec/nss",
        )
        assert "underlay" not in left
        assert "10.88.0." not in lab.ssh(member, "ip xfrm policy; ip xfrm state")
