# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A virtual address under traffic that moves from host to host, for the tests and for bench/failover.py."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby

from kit import INTERVAL, KILL_PLUTO, Capture, Lab, Packet, eventually, harmless, pings


@dataclass
class Traffic:
    """What became of the pings to a virtual address; complete when the block is over."""

    outages: dict[str, float] = field(default_factory=dict)
    """Host → for how long at a stretch nothing came back, in seconds."""
    lost: dict[str, int] = field(default_factory=dict)
    """Host → number of pings that were not answered."""

    @property
    def worst(self) -> float:
        """The longest of the outages."""
        return max(self.outages.values())


class Address:
    """A virtual address of a lab's pacemaker cluster."""

    def __init__(self, lab: Lab, address: str, network: str, nodes: Sequence[str]) -> None:
        self.lab = lab
        self.address = address
        self.network = network
        self.nodes = nodes
        self.resource = f"ip-{address}".replace(":", ".")

    def cluster(self, command: str, *, node: str | None = None, check: bool = True) -> str:
        """Run a command on *node*, or else on the first node that can be reached."""
        for name in [node] if node else self.nodes:
            if node or self._ask(name, "echo here"):
                return self.lab.ssh(name, command, check=check)
        raise AssertionError("no node can be reached")

    def _ask(self, host: str, command: str) -> str:
        """Return what a host says, which may be dead."""
        try:
            return self.lab.ssh(host, command, check=False, timeout=6)
        except subprocess.TimeoutExpired:
            return ""

    def on(self) -> list[str]:
        """Return the nodes that have the address, of those that can be reached."""
        ask = f"timeout 5 ip -o address show to {self.address}"
        with ThreadPoolExecutor() as pool:
            found = list(pool.map(lambda node: self._ask(node, ask), self.nodes))
        return [node for node, said in zip(self.nodes, found, strict=True) if self.address in said]

    @property
    def owner(self) -> str:
        """The one node that has the address."""
        (owner,) = self.on()
        return owner

    def settle(self, seconds: int = 60) -> None:
        """Wait until the cluster is at rest."""
        self.cluster(f"crm_resource --wait --timeout={seconds}s")

    @contextmanager
    def traffic(self, hosts: Sequence[str], after: float = 3) -> Iterator[Traffic]:
        """Ping the address from *hosts* while the block runs and *after* seconds more; a host may die meanwhile."""
        found = Traffic()
        ping = f"setsid ping -O -n -i {INTERVAL} {self.address} >/tmp/vip-stream 2>&1 </dev/null & echo $! >/tmp/vip-stream.pid"

        def stop(host: str) -> str:
            end = "kill -INT $(cat /tmp/vip-stream.pid) && sleep 0.5 && cat /tmp/vip-stream"
            return self._ask(host, end)

        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda host: self.lab.ssh(host, ping), hosts))
            time.sleep(1)
            try:
                yield found
                time.sleep(after)
            finally:
                said = dict(zip(hosts, pool.map(stop, hosts), strict=True))
        for host, text in said.items():
            if "packets transmitted" in text:
                _sent, lost = pings(text)
                found.lost[host] = len(lost)
                found.outages[host] = _longest(lost) * INTERVAL

    def came(self, seconds: float = 60, not_on: str | None = None) -> bool:
        """Wait until exactly one node has the address, and it is not *not_on*; return whether that came true."""
        # Each look costs the hosts as much as what they are busy with.
        return eventually(lambda: len(on := self.on()) == 1 and on[0] != not_on, seconds, 1)

    def clear(self, wire: Capture) -> list[Packet]:
        """Return what was seen of the address in clear text: neither ESP nor IKE."""
        return [p for p in wire.packets if self.address in (p.source, p.destination) and not harmless(p)]

    # -- what may happen to it: each returns what undoes it

    def move(self) -> Callable[[], object]:
        """Have the cluster move it, as ``pcs resource move`` does."""
        owner = self.owner
        # One command, for each of them has the hosts busy with logging in meanwhile.
        self.cluster(
            f"crm_resource --move --resource {self.resource}; crm_resource --wait --timeout=60s", check=False
        )
        assert self.came(not_on=owner)
        return lambda: self.cluster(f"crm_resource --clear --resource {self.resource}")

    def standby(self) -> Callable[[], object]:
        """Take all resources from its owner, as ``pcs node standby`` does."""
        owner = self.owner
        self.cluster(f"crm_standby --node {owner} --update on; crm_resource --wait --timeout=60s")
        assert self.came(not_on=owner)
        return lambda: self.cluster(f"crm_standby --node {owner} --delete")

    def kill_pluto(self) -> Callable[[], object]:
        """Kill pluto on its owner; the service comes back by itself. Without pluto, nothing happens."""
        self.lab.ssh(self.owner, f"systemctl is-active -q ipsec && {KILL_PLUTO}; true")
        return lambda: None

    def kill_host(self) -> Callable[[], object]:
        """Take the power from its owner."""
        owner = self.owner
        self.lab.cli("kill", owner)
        assert self.came(not_on=owner)
        return lambda: self.lab.cli("start", owner)

    def cut(self) -> Callable[[], object]:
        """Pull all cables of its owner but the one that ssh comes through."""
        owner = self.owner
        networks = [n for n in self.lab.status["hosts"][owner]["addresses"] if n != "mgmt"]

        def connect(*words: str) -> None:
            for network in networks:
                wanted = [word.format(network=network) for word in words]
                self.lab.cli("netns", "--", "ip", "link", "set", f"{owner}-{network}", *wanted)

        # Not the link down: it would not come up again inside of the host.
        connect("nomaster")
        assert eventually(lambda: any(node != owner for node in self.on()), 60, 1)
        return lambda: connect("master", "br-{network}")

    @property
    def events(self) -> dict[str, Callable[[], Callable[[], object]]]:
        """What it is called → what may happen."""
        return {
            "resource move": self.move,
            "node standby": self.standby,
            "pluto killed": self.kill_pluto,
            "host killed": self.kill_host,
            "network cut": self.cut,
        }

    def rest(self, seconds: float = 90) -> None:
        """Wait until all nodes are back and the cluster has nothing to do."""

        def online() -> bool:
            said = self.cluster("crm_mon --one-shot --output-as=xml", check=False)
            nodes = re.findall(r'<node name="\S+"[^>]* online="(\w+)"[^>]* pending="(\w+)"', said)
            return len(nodes) == len(self.nodes) and set(nodes) == {("true", "false")}

        assert eventually(lambda: all(self._ask(node, "echo here") for node in self.nodes), seconds)
        assert eventually(online, seconds)
        self.settle()


def _longest(lost: Sequence[int]) -> int:
    """Return the length of the longest stretch of consecutive numbers."""
    runs = groupby(enumerate(lost), key=lambda item: item[1] - item[0])
    return max((sum(1 for _ in run) for _key, run in runs), default=0)
