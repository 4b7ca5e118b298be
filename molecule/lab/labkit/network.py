"""The lab's network namespace: bridges and taps, and no way out of it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from . import plan
from .plan import Machine
from .process import run
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

    def remove(self) -> None:
        """End what still runs inside, then take the namespace away.

        Only this lab puts processes there. The recorded ones are gone by now; what
        remains was started but not yet recorded when `lab up` was killed, or belongs
        to a `lab netns`.
        """
        if not self.exists():
            return
        for pid in self._pids():
            try:
                handle = os.pidfd_open(pid)
            except ProcessLookupError:
                continue
            try:
                if self._inside(pid):
                    signal.pidfd_send_signal(handle, signal.SIGKILL)
            except ProcessLookupError:
                pass
            finally:
                os.close(handle)
        run(["ip", "netns", "delete", self.name])

    def _pids(self) -> list[int]:
        numbers = (entry.name for entry in Path("/proc").iterdir() if entry.name.isdigit())
        return [int(number) for number in numbers if self._inside(int(number))]

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
