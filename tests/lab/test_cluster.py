# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The main job: three members of two releases, certificates of our own CA, enforced.

Each claim of the README is looked at from outside: on the bridge, and in the kernels.
"""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
from kit import Lab, eventually

MEMBERS = ("h1", "h2", "h3")
PAIRS = list(itertools.permutations(MEMBERS, 2))
EXTRA = {"h4": "trixie", "x1": "trixie"}


@pytest.fixture(scope="module", autouse=True)
def extra_hosts(lab: Lab) -> None:
    """Boot one host that will join, and one that never does."""
    lab.add(**EXTRA)


@pytest.fixture
def marker() -> str:
    """Return what no packet of anybody else holds."""
    return uuid.uuid4().hex


@pytest.fixture
def pluto(lab: Lab) -> Iterator[dict[str, str]]:
    """Check that pluto neither restarted nor crashed on any member during the test."""
    before = {host: lab.pluto(host) for host in MEMBERS}
    yield before
    assert {host: lab.pluto(host) for host in MEMBERS} == before


def spis_between_members(lab: Lab) -> dict[str, set[tuple[str, str, str]]]:
    """Return member → its SAs with other members."""
    addresses = {lab.address(host) for host in MEMBERS}
    return {host: {sa for sa in lab.spis(host) if {sa[0], sa[1]} <= addresses} for host in MEMBERS}


def answers(lab: Lab, other: str) -> list[bool]:
    """Return whether pings between *other* and each member are answered, both ways."""
    both = [way for member in MEMBERS for way in ((member, other), (other, member))]
    with ThreadPoolExecutor() as pool:
        return list(pool.map(lambda way: lab.answers(way[0], lab.address(way[1])), both))


def forgotten(lab: Lab, member: str, address: str) -> bool:
    """Return whether the kernel of *member* knows nothing of *address* any more."""
    return address not in lab.ssh(member, "ip xfrm state; ip xfrm policy")


def test_every_ordered_pair_is_encrypted(lab: Lab) -> None:
    assert lab.report["ok"]
    assert {pair[:2]: status for pair, status in lab.matrix().items()} == dict.fromkeys(PAIRS, "encrypted")


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("step", [1, 2])
def test_marker_is_on_the_wire_as_esp_only(lab: Lab, marker: str, step: int, family: int) -> None:
    """All ordered pairs, in two steps.

    The IPv6 addresses are on no network of the plan: their marker is there to be read,
    which also shows that the capture would.
    """
    capture, pairs = lab.exchange(MEMBERS, step, marker, family)
    assert bool(capture.holding(marker.encode())) == (family == 6)
    for sender, receiver in pairs:
        ends = lab.address(sender, family), lab.address(receiver, family)
        assert bool(capture.esp(*ends)) == (family == 4)
        assert bool(capture.clear(*ends)) == (family == 6)


def test_second_run_changes_nothing(lab: Lab, pluto: dict[str, str]) -> None:
    before = spis_between_members(lab)
    run = lab.converge(MEMBERS)
    assert run.changed == 0
    assert spis_between_members(lab) == before


def test_clear_text_is_reported_as_clear_whatever_libreswan_says(lab: Lab) -> None:
    """Break one pair by hand below libreswan, which goes on claiming its SAs, and see verify go red."""
    target = lab.address("h2")
    rule = f"src {lab.address('h1')}/32 dst {target}/32"
    back = f"src {target}/32 dst {lab.address('h1')}/32"
    for host, out, into in (("h1", rule, back), ("h2", back, rule)):
        lab.ssh(
            host,
            f"ip xfrm policy add {out} dir out priority 1 action allow index 9001 2>/dev/null ||"
            f" ip xfrm policy update {out} proto icmp dir out priority 1 action allow;"
            f"ip xfrm policy update {into} proto icmp dir in priority 1 action allow",
        )
    try:
        run = lab.play("verify", MEMBERS)
        assert run.rc != 0
        # Which is all that can happen while the firewall fails closed.
        assert lab.matrix()[("h1", "h2", "default")] == "blocked"
        with lab.unguarded("h1", "h2"):
            run = lab.play("verify", MEMBERS)
        assert run.rc != 0
        assert lab.matrix()[("h1", "h2", "default")] == "clear"
        assert "h1, h2: its firewall does not fail closed" in run.output
    finally:
        for host, out, into in (("h1", rule, back), ("h2", back, rule)):
            lab.ssh(
                host,
                f"ip xfrm policy delete {out} proto icmp dir out; ip xfrm policy delete {into} proto icmp dir in",
            )
    assert lab.play("verify", MEMBERS).rc == 0


def test_host_without_ipsec_cannot_exchange_a_byte(lab: Lab, marker: str) -> None:
    stranger = lab.address("x1")
    with lab.capture() as capture:
        assert not any(answers(lab, "x1"))
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda member: lab.send_markers(member, "x1", marker), MEMBERS))
    from_members = [
        p for p in capture.clear_from(lab.address(m) for m in MEMBERS) if p.destination == stranger
    ]
    assert not from_members
    assert not capture.holding(marker.encode())


def test_host_in_clear_talks_in_clear_and_only_as_long(lab: Lab, pluto: dict[str, str], marker: str) -> None:
    """An exception comes and goes live: the SAs of the members stay the very same."""
    stranger = lab.address("x1")
    before = spis_between_members(lab)
    # libreswan and the firewall of each.
    assert lab.converge(MEMBERS, ipsec_clear=[f"{stranger}/32"]).changed == 2 * len(MEMBERS)
    with lab.capture() as capture:
        assert all(answers(lab, "x1"))
        lab.send_markers("x1", "h1", marker)
    assert capture.holding(marker.encode())
    assert lab.converge(MEMBERS).changed == 2 * len(MEMBERS)
    assert not any(answers(lab, "x1"))
    for member in MEMBERS:
        assert stranger not in lab.ssh(member, "cat /etc/ipsec.d/underlay* /etc/ipsec.d/policies/*")
    assert spis_between_members(lab) == before


def test_certificate_of_another_ca_is_no_way_in(lab: Lab) -> None:
    """The stranger runs this very collection, with a CA of its own."""
    other = {name: str(lab.folder / f"other-{name}") for name in ("ca", "report")}
    lab.converge(["x1"], ipsec_ca_dir=other["ca"], ipsec_report_dir=other["report"])
    stranger = lab.address("x1")
    with lab.capture() as capture:
        assert not any(answers(lab, "x1"))
    for member in MEMBERS:
        assert not capture.esp(stranger, lab.address(member))
        assert not capture.clear(stranger, lab.address(member))
    assert lab.play("remove", ["x1"]).rc == 0


def test_joining_and_leaving_leaves_the_others_alone(lab: Lab, pluto: dict[str, str]) -> None:
    four = (*MEMBERS, "h4")
    before = spis_between_members(lab)
    run = lab.converge(four)
    # The certificate is signed once, on behalf of the first host.
    assert {host: run.recap[host]["changed"] for host in MEMBERS} == {"h1": 1, "h2": 0, "h3": 0}
    assert set(lab.matrix().values()) == {"encrypted"}
    assert len(lab.matrix()) == 12
    assert spis_between_members(lab) == before

    assert lab.play("remove", four, "--limit", "h4").rc == 0
    gone = lab.address("h4")
    for member in MEMBERS:
        assert eventually(partial(forgotten, lab, member, gone), 60)
        assert gone not in lab.ssh(member, "cat /etc/ipsec.d/underlay* /etc/ipsec.d/policies/*")
    assert "underlay" not in lab.ssh(
        "h4", "ls /etc/ipsec.d /etc/ipsec.d/policies; certutil -L -d sql:/var/lib/ipsec/nss"
    )
    assert "no keys" in lab.ssh("h4", "certutil -K -d sql:/var/lib/ipsec/nss 2>&1 || true")
    assert lab.converge(MEMBERS).changed == 0
    assert spis_between_members(lab) == before


def test_nothing_secret_is_left_on_a_host(lab: Lab) -> None:
    for member in MEMBERS:
        found = lab.ssh(member, "grep -rls 'PRIVATE KEY' /etc /root /tmp /var/tmp /var/lib/ipsec || true")
        assert [path for path in found.split() if not path.startswith(("/etc/ssh/", "/etc/ssl/"))] == []
        assert lab.ssh(member, "find /var/lib/ipsec/nss -type f -perm /077").split() == []
        assert "lab" not in lab.ssh(
            member, "journalctl --no-pager | grep -F 'the passphrase of the lab' || true"
        )
