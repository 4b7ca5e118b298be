"""The lab's network namespace: bridges and taps, and no way out of it."""

from __future__ import annotations

import os
from pathlib import Path

from . import plan
from .plan import Machine
from .process import kill_all, run, session
from .spec import Network, Spec

_NAMED = Path("/run/netns")


class Namespace:
    """One named network namespace. Nothing connects it to the machine's own."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.path = _NAMED / name

    def exists(self) -> bool:
        return self.path.exists()

    def enter(self) -> list[str]:
        """The words that run a command inside."""
        return ["nsenter", f"--net={self.path}", "--"]

    def ensure(self, spec: Spec) -> None:
        """The namespace with the controller's side of every network."""
        if not self.exists():
            run(["ip", "netns", "add", self.name])
        run([*self.enter(), "ip", "link", "set", "lo", "up"])
        # A new namespace takes over the machine's setting. This one never routes.
        for family in ("ipv4.conf.all", "ipv6.conf.all"):
            run([*self.enter(), "sysctl", "-q", "-w", f"net.{family}.forwarding=0"])
        present = self._links()
        for network in spec.networks:
            if plan.bridge(network.name) not in present:
                self._add_bridge(network)

    def ensure_taps(self, machine: Machine) -> None:
        """The host's ports. They outlive its process, so that it can start again."""
        present = self._links()
        for interface in machine.interfaces:
            if interface.tap in present:
                continue
            self._batch(
                f"tuntap add dev {interface.tap} mode tap",
                f"link set dev {interface.tap} master {plan.bridge(interface.network)} up",
            )

    def remove_taps(self, machine: Machine) -> None:
        present = self._links()
        for interface in machine.interfaces:
            if interface.tap in present:
                self._batch(f"link delete dev {interface.tap}")

    def kill_session(self, leader: int) -> None:
        """End a process that `spawn` started here, and all that came from it.

        A UML kernel that is killed leaves its user-space processes behind. Being
        inside this namespace proves that they are the lab's, whoever has their
        leader's pid today.
        """
        if self.exists():
            kill_all(lambda pid: self._inside(pid) and session(pid) == leader)

    def remove(self) -> None:
        """Take the namespace away, and first what still runs inside: a `lab netns`,
        say, or a capture. Only this lab's commands put processes there.
        """
        if self.exists():
            kill_all(self._inside)
            run(["ip", "netns", "delete", self.name])

    def _inside(self, pid: int) -> bool:
        try:
            theirs = os.stat(f"/proc/{pid}/ns/net")
        except OSError:
            return False
        ours = self.path.stat()
        return (theirs.st_dev, theirs.st_ino) == (ours.st_dev, ours.st_ino)

    def _links(self) -> set[str]:
        listing = run([*self.enter(), "ip", "-o", "link", "show"]).stdout
        return {line.split(": ")[1].partition("@")[0] for line in listing.splitlines()}

    def _add_bridge(self, network: Network) -> None:
        name = plan.bridge(network.name)
        # Without a querier, snooping would lose IPv6 neighbour discovery.
        self._batch(
            f"link add {name} type bridge stp_state 0 forward_delay 0 mcast_snooping 0",
            f"link set dev {name} up",
            *(
                f"address add {address} dev {name}{' nodad' if ':' in address else ' brd +'}"
                for address in plan.controller_addresses(network)
            ),
        )

    def _batch(self, *commands: str) -> None:
        run([*self.enter(), "ip", "-batch", "-"], stdin="\n".join(commands) + "\n")
