# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Five members, each with a firewall of another kind, and one host that is no member.

All members do the same at once, and each packet on the wire tells who sent it, so that one capture
judges every kind of firewall, on IPv4 and IPv6. The tests share the cluster and run in their order:
those of `TestUnderTraffic` while a stream of markers runs, the last one takes everything away.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager as Context
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import firewall
import pytest
from firewall import BACKEND, FAMILIES, MEMBERS, OUTSIDER, Snapshot, Stream, differences, on_all
from kit import KILL_PLUTO, Lab, Run, eventually

RELOADS = {
    "q1": ["firewall-cmd --quiet --reload", "systemctl restart firewalld"],
    "q2": ["systemctl reload nftables", "systemctl restart nftables"],
    "q3": ["netfilter-persistent reload >/dev/null 2>&1", "systemctl restart netfilter-persistent"],
    "u1": ["netfilter-persistent reload >/dev/null 2>&1", "systemctl restart netfilter-persistent"],
}
FLUSH = "ip xfrm state flush && ip xfrm policy flush"
LIFT = {
    "firewalld": "nft delete table inet underlay_ipsec",
    "nftables": "nft delete table inet underlay_ipsec",
    "iptables": "for tool in iptables ip6tables; do $tool -t mangle -F INPUT; $tool -t mangle -F POSTROUTING; done",
}


@dataclass(frozen=True)
class Event:
    """Something that happens to a member's libreswan."""

    happens: str
    mends: str = "true"
    """What an administrator does about it, if the member does not come back by itself."""


EVENTS = {
    "stop": Event("systemctl stop ipsec", "systemctl start ipsec"),
    "flush": Event(FLUSH, "systemctl restart ipsec"),
    "crash": Event(KILL_PLUTO),
    "restart": Event("systemctl restart ipsec"),
}


@dataclass(frozen=True)
class Refused:
    """A run that has to be refused, and what it has to say."""

    where: str
    """Host and variable, as the message has them."""
    what: str
    remedy: str
    member: str = "u2"
    hosts: Mapping[str, Any] = field(default_factory=dict)
    """Variables of the member."""
    variables: Mapping[str, Any] = field(default_factory=dict)
    network: str = "mgmt"
    """Which Ansible connects over."""
    given: Callable[[Lab], Context[object]] = lambda _lab: nullcontext()


def snapshots(lab: Lab, members: Sequence[str] = MEMBERS) -> dict[str, Snapshot]:
    """Return member → its firewall."""
    return on_all(lambda host: firewall.snapshot(lab, host), members)


def check_same(before: Mapping[str, Snapshot], after: Mapping[str, Snapshot]) -> None:
    """Check that no firewall differs, and say in what if one does."""
    said = {host: text for host in after if (text := differences(before[host], after[host]))}
    assert not said, "\n".join(f"{host}\n{text}" for host, text in said.items())


def check_comes_back(lab: Lab, loaded: Mapping[str, Snapshot]) -> None:
    """Check that all firewalls become what was *loaded*: firewalld goes on loading when its service has started."""
    eventually(lambda: snapshots(lab) == loaded, 60, 5)
    check_same(loaded, snapshots(lab))


@pytest.fixture(scope="module")
def loaded(lab: Lab) -> dict[str, Snapshot]:
    """Return each member's firewall after the first run."""
    return snapshots(lab)


def check_verify(lab: Lab) -> None:
    """Check that verify.yml is content, and all pairs encrypted."""
    run = lab.play("verify", MEMBERS)
    assert run.rc == 0, run.output
    assert set(lab.matrix().values()) == {"encrypted"}
    assert len(lab.matrix()) == len(FAMILIES) * len(MEMBERS) * (len(MEMBERS) - 1)


def diffs(run: Run) -> str:
    """Return the lines that a run with ``--diff`` would add."""
    return "\n".join(line for line in run.output.splitlines() if line.startswith("+"))


def test_each_member_uses_the_firewall_that_it_has(lab: Lab) -> None:
    assert lab.report["ok"]
    for host, backend in BACKEND.items():
        path = lab.folder / f"report/plan/hosts/{host}.json"
        assert f'"backend": "{backend}"' in path.read_text(encoding="utf-8"), host


def test_ports_behave_as_before(lab: Lab) -> None:
    """Towards the non-member, and between members, whose packets now come out of IPsec."""
    assert firewall.all_ports(lab) == firewall.before(lab)["ports"]


def test_a_second_run_changes_nothing(lab: Lab, loaded: dict[str, Snapshot]) -> None:
    run = lab.converge(MEMBERS)
    assert run.changed == 0, run.output
    check_same(loaded, snapshots(lab))


class TestUnderTraffic:
    """Everybody sends everybody datagrams and pings all the time, also while a host boots."""

    @pytest.fixture(scope="class")
    def stream(self, lab: Lab) -> Iterator[Stream]:
        """Return the stream."""
        with firewall.stream(lab) as stream:
            yield stream

    @pytest.fixture
    def silent(self, lab: Lab, stream: Stream) -> Iterator[None]:
        """Check that no byte of the stream can be read on the wire, and that everybody tried."""
        before = on_all(stream.attempts)
        with lab.capture() as capture:
            yield
            time.sleep(3)
            after = on_all(stream.attempts)
        assert firewall.leaks(lab, capture, stream.marker) == {}
        assert all(after[host] not in (0, before[host]) for host in MEMBERS), after

    def test_members_talk_only_esp_and_ike(self, lab: Lab, stream: Stream) -> None:
        assert not stream.heals()
        with lab.capture() as capture:
            assert not stream.heals()
            # TCP, too.
            between = {host: firewall.ports(lab, host, MEMBERS) for host in MEMBERS[:1]}
        assert "open" in between[MEMBERS[0]].values()
        assert firewall.leaks(lab, capture, stream.marker) == {}
        assert firewall.without_esp(lab, capture) == []
        assert firewall.in_clear(lab, capture) == []

    @pytest.mark.usefixtures("silent")
    @pytest.mark.parametrize("event", EVENTS)
    def test_nothing_leaves_in_clear_text(self, lab: Lab, event: str) -> None:
        """While it happens, until libreswan is back, and then."""
        case = EVENTS[event]
        on_all(lambda host: lab.ssh(host, case.happens, timeout=300))
        time.sleep(3)
        on_all(lambda host: lab.ssh(host, case.mends, timeout=300))

    @pytest.mark.usefixtures("silent")
    def test_a_firewall_that_is_reloaded_does_not_forget(self, lab: Lab, loaded: dict[str, Snapshot]) -> None:
        """With libreswan stopped, so that nothing else keeps the stream back."""
        on_all(lambda host: lab.ssh(host, f"systemctl stop ipsec; {FLUSH}", timeout=300))
        try:
            on_all(lambda host: [lab.ssh(host, command, timeout=300) for command in RELOADS[host]], RELOADS)
            check_comes_back(lab, loaded)
        finally:
            on_all(lambda host: lab.ssh(host, "systemctl start ipsec", timeout=300))

    @pytest.mark.usefixtures("silent")
    def test_a_reboot_brings_the_same_rules_back(self, lab: Lab, loaded: dict[str, Snapshot]) -> None:
        """Before the network: the stream begins before that."""
        for turn in (("q1", "q2"), ("q3", "u1"), ("u2",)):
            on_all(lambda host: lab.cli("reboot", host, timeout=600), turn)
        check_comes_back(lab, loaded)

    def test_without_the_rules_the_stream_can_be_read(self, lab: Lab, stream: Stream) -> None:
        """Lifted by hand, which is to show that the tests above can fail."""
        with lab.capture() as capture:
            on_all(
                lambda host: lab.ssh(
                    host, f"systemctl stop ipsec; {FLUSH}; {LIFT[BACKEND[host]]}", timeout=300
                )
            )
            time.sleep(3)
        for family in FAMILIES:
            sources = {packet.source for packet in capture.holding(stream.marker.encode())}
            assert sources >= {lab.address(host, family) for host in MEMBERS}


def test_the_next_run_puts_the_rules_back(lab: Lab, loaded: dict[str, Snapshot]) -> None:
    """And check mode says so, and does nothing."""
    # Without the stream: slow hosts that all begin at once keep each other waiting (docs/failures.md).
    on_all(lambda host: lab.ssh(host, "systemctl restart ipsec", timeout=300))
    lifted = snapshots(lab)
    run = lab.converge(MEMBERS, "--check", "--diff")
    for host in MEMBERS:
        assert run.recap[host]["changed"], run.output
        assert lab.address(host) in diffs(run)
        assert lab.address(host, 6) in diffs(run)
    check_same(lifted, snapshots(lab))
    run = lab.converge(MEMBERS)
    assert all(run.recap[host]["changed"] for host in MEMBERS), run.output
    check_same(loaded, snapshots(lab))
    check_verify(lab)


@contextmanager
def second_service(lab: Lab) -> Iterator[None]:
    """Have nftables.service active on q3, next to netfilter-persistent, and do nothing. (It stops firewalld.)"""
    folder = "/run/systemd/system/nftables.service.d"
    lines = ["[Service]", "ExecStart=", "ExecStart=/bin/true", "ExecStop="]
    lab.ssh("q3", f"mkdir -p {folder}; printf '%s\\n' {' '.join(lines)} >{folder}/nothing.conf")
    lab.ssh("q3", "systemctl daemon-reload; systemctl start nftables")
    try:
        yield
    finally:
        lab.ssh("q3", f"systemctl stop nftables; rm -r {folder}; systemctl daemon-reload")


@contextmanager
def no_tool(lab: Lab) -> Iterator[None]:
    """Hide iptables on u2, which has nothing else."""
    lab.ssh("u2", "mkdir -p /root/hidden; mv /usr/sbin/*tables* /root/hidden/")
    try:
        yield
    finally:
        lab.ssh("u2", "mv /root/hidden/* /usr/sbin/; rmdir /root/hidden")


REFUSED = {
    "two active firewalls": Refused(
        "q3: ipsec_firewall",
        "nftables and iptables are in use",
        "Stop and disable all but one",
        member="q3",
        given=second_service,
    ),
    "a firewall that nobody knows": Refused(
        "ipsec_firewall", "ufw", "nftables", variables={"ipsec_firewall": "ufw"}
    ),
    "one that is not installed": Refused(
        "u2, u1: ipsec_firewall",
        "firewalld does not run",
        "Install and start it",
        variables={"ipsec_firewall": "firewalld"},
    ),
    "one whose tool is not installed": Refused(
        "u2, u1: ipsec_firewall",
        "nftables does not work",
        "Install and start it",
        variables={"ipsec_firewall": "nftables"},
    ),
    "none at all": Refused(
        "u2: ipsec_firewall", "no firewall tool", "Install nftables or iptables", given=no_tool
    ),
    "closing without a firewall": Refused(
        "ipsec_fail_closed",
        "none",
        "ipsec_firewall",
        variables={"ipsec_firewall": "none", "ipsec_fail_closed": True},
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_is_refused_and_changes_nothing(lab: Lab, case: str) -> None:
    wanted = REFUSED[case]
    # Not all of them, which takes time: there is nothing wrong with the others.
    members = (wanted.member, "u1")
    with wanted.given(lab):
        before = lab.etc(wanted.member), snapshots(lab, members)
        run = lab.play("site", members, network=wanted.network, **wanted.variables)
        after = lab.etc(wanted.member), snapshots(lab, members)
    assert run.rc, run.output
    assert run.changed == 0, run.output
    assert not re.search(r"Traceback|VARIABLE IS NOT DEFINED", run.output)
    for text in (wanted.where, wanted.what, wanted.remedy):
        assert text in run.output, f"{text}: {run.output}"
    assert before[0] == after[0]
    check_same(before[1], after[1])


def test_a_host_is_not_cut_off_from_its_controller(lab: Lab) -> None:
    """Ansible comes over the private network, and the controller is no exception: refused before anything is dropped."""
    before = snapshots(lab)
    run = lab.play(
        "site",
        MEMBERS,
        network="data",
        ipsec_topology="opportunistic",
        ipsec_exempt_controller=False,
    )
    assert run.rc, run.output
    assert "ipsec_exempt_controller" in run.output
    assert all(lab.reachable(host) for host in MEMBERS)
    check_same(before, snapshots(lab))


def test_removal_leaves_the_firewalls_as_they_were(lab: Lab) -> None:
    """Rules as text, and files byte by byte."""
    run = lab.play("remove", MEMBERS)
    assert run.rc == 0, run.output
    check_same(firewall.before(lab)["rules"], snapshots(lab))
    left = on_all(
        lambda host: lab.ssh(
            host,
            "grep -rlIi underlay /etc /run/systemd /usr/local; nft list ruleset 2>&1 | grep -i underlay; true",
        )
    )
    assert not any(left.values()), left
    assert eventually(
        lambda: firewall.ports(lab, OUTSIDER, MEMBERS) == firewall.before(lab)["ports"][OUTSIDER], 30
    )
