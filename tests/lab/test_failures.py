# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pluto stops, dies, or its host restarts: the member comes back, and the others never notice.

Meanwhile the member and the others send each other a stream of packets that can be told
on the wire. None of them may be read there, because the firewall fails closed; docs/failures.md
has how many it was before it did.
"""

from __future__ import annotations

import itertools
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
from kit import KILL_PLUTO, Capture, Lab, eventually, some

MEMBERS = ("h1", "h2", "h3")
RECOVERY = 90
"""Seconds until every pair is encrypted again: until a dead peer is noticed (13), and of a shunt (30), and once more."""
UDP = 17
CONNECTIONS = "/etc/ipsec.d/underlay-default.conf"

SENDER = """\
import itertools, socket, sys, time
marker, *targets = sys.argv[1:]
sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for number in itertools.count():
    for target in targets:
        try:
            sender.sendto(f"{marker} {number}".encode(), (target, 7778))
        except OSError:
            pass  # no network yet, or a policy that forbids it
    time.sleep(0.05)
"""
# As early and as long as a host can send at all, and never for more than a few minutes.
UNIT = """\
[Unit]
DefaultDependencies=no
After=local-fs.target
[Service]
ExecStart=/usr/bin/python3 /usr/local/lib/markers.py %s
RuntimeMaxSec=240
[Install]
WantedBy=sysinit.target
"""


@dataclass(frozen=True)
class Failure:
    """Something that happens to a member."""

    happens: Callable[[Lab, str], object]
    mends: Callable[[Lab, str], object] | None = None
    """What an administrator does about it; None if the member comes back by itself."""


def kill(lab: Lab, host: str) -> None:
    lab.ssh(host, KILL_PLUTO)


def listens(lab: Lab, host: str) -> bool:
    """Return whether *host*'s pluto is up and answers."""
    command = "systemctl is-active --quiet ipsec && ipsec whack --showstates >&2 && echo yes; true"
    return "yes" in lab.ssh(host, command)


FAILURES = {
    "stop": Failure(
        lambda lab, host: lab.ssh(host, "systemctl stop ipsec"),
        lambda lab, host: lab.ssh(host, "systemctl start ipsec"),
    ),
    "kill": Failure(kill),
    "kill and restart": Failure(kill, lambda lab, host: lab.ssh(host, "systemctl restart ipsec")),
    "reboot": Failure(lambda lab, host: lab.cli("reboot", host)),
}


# Of two neighbours, the one is of the one release, the other of the other.
CASES = [
    (failure, member)
    for failure, order in zip(FAILURES, itertools.cycle((("h2", "h3"), ("h3", "h2"))), strict=False)
    for member in order
]


@contextmanager
def markers(lab: Lab, member: str, marker: str) -> Iterator[None]:
    """Let *member* and all others send each other *marker*, 20 times a second, even while it boots."""
    others = [host for host in MEMBERS if host != member]
    for host in MEMBERS:
        targets = others if host == member else [member]
        arguments = " ".join([marker, *map(lab.address, targets)])
        lab.ssh(
            host,
            f"cat >/usr/local/lib/markers.py <<'E'\n{SENDER}E\n"
            f"cat >/etc/systemd/system/markers.service <<'E'\n{UNIT % arguments}E\n"
            "systemctl daemon-reload && systemctl enable --quiet --now markers",
        )
    try:
        yield
    finally:
        for host in MEMBERS:
            lab.ssh(
                host, "systemctl disable --quiet --now markers; rm -f /etc/systemd/system/markers.service"
            )


def readable(capture: Capture, marker: str, source: str) -> int:
    """Return how many packets of the stream *source* sent in clear text."""
    return sum(
        packet.source == source and packet.protocol == UDP for packet in capture.holding(marker.encode())
    )


def talk(lab: Lab, one: str, other: str) -> bool:
    """Return whether *one* gets an answer from *other*, and both have the SAs for it; where ``private`` is in force.

    In this order: without traffic there is no reason for an SA.
    """
    ends = lab.address(one), lab.address(other)
    return lab.answers(one, ends[1]) and {ends, ends[::-1]} <= {
        sa[:2] for sa in lab.spis(one) & lab.spis(other)
    }


def start_over(lab: Lab) -> bool:
    """Give each pair one new SA, so that a case begins without what an earlier one left."""
    for host in MEMBERS:
        peers = [f"O=underlay.ipsec, CN={peer}" for peer in MEMBERS if peer != host]
        lab.ssh(host, "; ".join(f"ipsec whack --deleteid --name '{peer}'" for peer in peers))
    return eventually(lambda: all(talk(lab, *pair) for pair in itertools.combinations(MEMBERS, 2)), RECOVERY)


def between(lab: Lab, host: str, peer: str) -> set[tuple[str, str, str]]:
    """Return the SAs that *host* has with *peer*."""
    ends = {lab.address(host), lab.address(peer)}
    return {sa for sa in lab.spis(host) if {*sa[:2]} == ends}


@pytest.mark.parametrize(("failure", "member"), some(CASES, 2))
def test_member_comes_back(lab: Lab, failure: str, member: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing leaks, the others keep their SAs and their traffic, and every pair is encrypted again, by itself."""
    one, other = others = [host for host in MEMBERS if host != member]
    case, marker = FAILURES[failure], uuid.uuid4().hex
    assert start_over(lab)
    before, pluto = between(lab, one, other), lab.pluto(member)
    with lab.capture() as capture, markers(lab, member, marker):
        case.happens(lab, member)
        assert lab.answers(one, lab.address(other))
        if case.mends:
            case.mends(lab, member)
        since = time.monotonic()
        back = eventually(lambda: all(talk(lab, member, host) for host in others), RECOVERY)
        seconds = time.monotonic() - since
        unaffected = between(lab, one, other)
    release = lab.status["hosts"][member]["release"]
    out = readable(capture, marker, lab.address(member))
    into = sum(readable(capture, marker, lab.address(host)) for host in others)
    with capsys.disabled():
        print(f"\n| {failure} | {release} | {out} | {into} | {seconds:.0f} s |")
    assert (out, into) == (0, 0)
    assert back
    assert unaffected == before
    assert lab.pluto(member) != pluto
    run = lab.play("verify", MEMBERS)
    assert run.rc == 0, run.output
    assert set(lab.matrix().values()) == {"encrypted"}


@contextmanager
def without_dead_peer_detection(lab: Lab, host: str) -> Iterator[None]:
    """Let *host*'s pluto keep its SAs with a peer that is gone, however long that takes to be back."""
    # libreswan reads only what ends in .conf.
    lab.ssh(host, f"sed -i.before 's/dpddelay=.*/dpddelay=3600/' {CONNECTIONS} && systemctl restart ipsec")
    try:
        yield
    finally:
        lab.ssh(host, f"mv {CONNECTIONS}.before {CONNECTIONS} && systemctl restart ipsec")


def test_what_a_crash_left_does_not_block_the_pair(lab: Lab) -> None:
    """A peer crashes, and is back before anyone noticed: libreswan keeps the old SA beside the new one.

    On 4.x it is in the way as soon as the new one ends. Then only the member that has it
    sends, so that nothing but that member's own service can mend the pair.
    """
    here, peer = "h1", lab.address("h2")

    def has_both() -> bool:
        answered = lab.answers("h2", lab.address(here))
        sas = lab.ssh(here, f"ipsec whack --showstates | grep -c '{peer}:500 .*ESTABLISHED_IKE_SA'; true")
        return answered and int(sas) > 1

    with without_dead_peer_detection(lab, here):
        assert start_over(lab)
        crashed = lab.pluto("h2")
        kill(lab, "h2")
        assert eventually(lambda: lab.pluto("h2") != crashed and listens(lab, "h2"), RECOVERY)
        assert eventually(has_both, RECOVERY)
        assert talk(lab, here, "h2")
        lab.ssh("h2", "systemctl restart ipsec")
        assert eventually(lambda: talk(lab, here, "h2"), RECOVERY)
