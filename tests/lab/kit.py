# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests on real hosts work with: hosts, playbooks, packets on the wire.

A scenario's verify step runs these tests on the hosts of its lab (see
``molecule/lab/pytest.yml``), which also sets the environment read here.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import shlex
import shutil
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

ROOT = Path(__file__).resolve().parents[2]
LAB = ROOT / "molecule/lab/lab"
PASSPHRASE = "the passphrase of the lab"
INTERVAL = 0.05
"""Seconds between two pings of a stream."""
KILL_PLUTO = "kill -9 $(systemctl show -P MainPID ipsec)"
_ESP, _UDP, _TCP, _ICMP, _ICMP6 = 50, 17, 6, 1, 58


def some(cases: Iterable[T], of: int) -> list[T]:
    """Return every *of*-th of the *cases* of a long table, or all of them if the environment has LAB_EVERY_CASE.

    What most of such a table is about costs minutes on the lab, and milliseconds in unit tests.
    """
    return list(cases)[:: 1 if os.environ.get("LAB_EVERY_CASE") else of]


@dataclass(frozen=True)
class Run:
    """What a run of ansible-playbook left behind."""

    rc: int
    output: str

    @property
    def recap(self) -> dict[str, dict[str, int]]:
        """Host → counter → figure of the recap."""
        lines = re.findall(r"^(\S+)\s+: (ok=.*)$", self.output.split("PLAY RECAP")[-1], re.MULTILINE)
        return {host: {k: int(v) for k, v in re.findall(r"(\w+)=(\d+)", rest)} for host, rest in lines}

    @property
    def changed(self) -> int:
        """The number of changes, on all hosts."""
        return sum(host["changed"] for host in self.recap.values())


@dataclass(frozen=True)
class Packet:
    """One packet of a capture."""

    source: str
    destination: str
    protocol: int
    """As in the IP header; ESP in UDP counts as ESP."""
    data: bytes

    def between(self, one: str, other: str) -> bool:
        """Return whether the packet travels between these two addresses, either way."""
        return {self.source, self.destination} == {one, other}


@dataclass
class Capture:
    """What was on a bridge while a block of code ran; complete when the block is over."""

    path: Path
    packets: list[Packet] = field(default_factory=list)

    def holding(self, marker: bytes) -> list[Packet]:
        """Return the packets in which *marker* can be read."""
        return [packet for packet in self.packets if marker in packet.data]

    def esp(self, one: str, other: str) -> list[Packet]:
        """Return the ESP packets between two addresses."""
        return [p for p in self.packets if p.protocol == _ESP and p.between(one, other)]

    def clear_from(self, sources: Iterable[str]) -> list[Packet]:
        """Return what left any of these addresses that is neither ESP, IKE nor neighbour discovery."""
        wanted = set(sources)
        return [p for p in self.packets if p.source in wanted and not harmless(p)]

    def clear(self, one: str, other: str) -> list[Packet]:
        """Return what passed between two addresses that is neither ESP, IKE nor neighbour discovery."""
        return [p for p in self.packets if p.between(one, other) and not harmless(p)]


@dataclass(frozen=True)
class Stream:
    """What became of the pings of one ordered pair while a block of code ran."""

    source: str
    destination: str
    sent: int
    lost: tuple[int, ...]
    """Sequence numbers; number N left (N-1) * `INTERVAL` after the beginning."""

    @property
    def seconds(self) -> float:
        """For how long, all in all, nothing came back."""
        return len(self.lost) * INTERVAL


class Lab:
    """The lab of a scenario."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.folder = folder
        """Where the scenario keeps its state; the CA and the reports are in there."""
        self.group = "ipsec"
        """The group of the members."""
        self.group_variables: dict[str, Any] = {}
        """Its variables in the inventories that playbooks run with."""

    # -- the lab itself

    def cli(self, *arguments: str, check: bool = True, timeout: float = 300) -> str:
        """Run a command of the lab and return what it printed."""
        verb, *rest = arguments
        return self._run([LAB, verb, "--name", self.name, *rest], check=check, timeout=timeout)

    def _run(self, argv: Sequence[str | Path], *, check: bool, timeout: float) -> str:
        done = subprocess.run(
            argv,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        assert not check or done.returncode == 0, f"{shlex.join(map(str, argv))}: {done.stdout}{done.stderr}"
        return done.stdout

    @cached_property
    def status(self) -> dict[str, Any]:
        """What ``lab status --json`` says."""
        found: dict[str, Any] = json.loads(self.cli("status", "--json"))
        return found

    def address(self, host: str, family: int = 4, network: str = "data") -> str:
        """Return the address of *host* on a network."""
        found: list[str] = self.status["hosts"][host]["addresses"][network]
        return next(address for address in found if (":" in address) == (family == 6))

    def ssh(self, host: str, command: str, *, check: bool = True, timeout: float = 120) -> str:
        """Run a shell command on *host*."""
        # Without `lab ssh`, which takes several times as long as what it starts.
        argv = ["ssh", "-F", self.status["ssh_config"], host, command]
        return self._run(argv, check=check, timeout=timeout)

    def reachable(self, host: str) -> bool:
        """Return whether ssh gets through to *host*."""
        return "yes" in self.ssh(host, "echo yes", check=False, timeout=30)

    @contextmanager
    def unguarded(self, *hosts: str) -> Iterator[None]:
        """Let *hosts*, whose firewall is iptables, send and take clear text; otherwise nothing would get out to be seen."""
        both = "for tool in iptables ip6tables; do {}; done".format
        flush = both(
            "$tool-save -t mangle >/run/$tool.saved; $tool -t mangle -F INPUT; $tool -t mangle -F POSTROUTING"
        )
        for host in hosts:
            self.ssh(host, flush)
        try:
            yield
        finally:
            for host in hosts:
                self.ssh(host, both("$tool-restore -T mangle </run/$tool.saved"))

    def add(self, **hosts: str) -> None:
        """Boot more hosts, given as name=release."""
        spec = json.loads((self.folder / "lab.json").read_text(encoding="utf-8"))
        present = {host["name"] for host in spec["hosts"]}
        spec["hosts"] += [{"name": n, "release": r} for n, r in hosts.items() if n not in present]
        path = self.folder / "lab-more.json"
        path.write_text(json.dumps(spec), encoding="utf-8")
        self.cli("up", "--spec", str(path))
        self.__dict__.pop("status", None)

    # -- playbooks

    def variables(self, extra: Mapping[str, Any]) -> Path:
        """Write the variables of a run into a file."""
        path = self.folder / "tests-vars.json"
        path.touch(mode=0o600)
        path.write_text(json.dumps({**self.defaults, **extra}), encoding="utf-8")
        return path

    @property
    def defaults(self) -> dict[str, Any]:
        """The variables that the scenario's converge step runs with."""
        return {
            "ipsec_ca_passphrase": PASSPHRASE,
            "ipsec_ca_dir": str(self.folder / "ca"),
            "ipsec_report_dir": str(self.folder / "report"),
            **json.loads(os.environ.get("LAB_VARIABLES", "{}")),
        }

    def inventory(self, members: Iterable[str], network: str = "mgmt", **host_variables: Any) -> Path:
        """Write an inventory with *members* only; *host_variables* is host → its variables."""
        full = json.loads(Path(self.status["inventories"][network]).read_text(encoding="utf-8"))
        group = full["all"]["children"][self.group]
        group["hosts"] = {name: {**group["hosts"][name], **host_variables.get(name, {})} for name in members}
        group["vars"] = {**group.get("vars", {}), **self.group_variables}
        path = self.folder / "tests-inventory.yml"
        path.write_text(json.dumps(full), encoding="utf-8")
        return path

    def command(
        self,
        playbook: str,
        members: Iterable[str],
        *arguments: str,
        network: str = "mgmt",
        host_variables: Mapping[str, Any] | None = None,
        **extra: Any,
    ) -> list[str]:
        """Return the command that runs a playbook of the collection on *members*."""
        inventory = self.inventory(members, network, **(host_variables or {}))
        path = str(ROOT / f"playbooks/{playbook}.yml")
        return ["ansible-playbook", "-i", str(inventory), "-e", f"@{self.variables(extra)}", *arguments, path]

    def play(
        self, playbook: str, members: Iterable[str], *arguments: str, timeout: float = 600, **rest: Any
    ) -> Run:
        """Run a playbook of the collection; see `command`."""
        done = subprocess.run(
            self.command(playbook, members, *arguments, **rest),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=timeout,
            check=False,
            stdin=subprocess.DEVNULL,
            env=self.environment,
        )
        return Run(done.returncode, done.stdout)

    def converge(self, members: Iterable[str], *arguments: str, **rest: Any) -> Run:
        """Run site.yml, which has to succeed."""
        run = self.play("site", members, *arguments, **rest)
        assert run.rc == 0, run.output
        return run

    @property
    def environment(self) -> dict[str, str]:
        """The environment of ansible-playbook."""
        # Molecule forces colours on whatever it starts, and the test runner another format.
        output = {
            "ANSIBLE_FORCE_COLOR": "0",
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_CALLBACK_RESULT_FORMAT": "json",
        }
        return {**os.environ, **output, "ANSIBLE_FORKS": "20", "ANSIBLE_HOST_KEY_CHECKING": "0"}

    @property
    def report(self) -> dict[str, Any]:
        """The last report."""
        found: dict[str, Any] = json.loads((self.folder / "report/report.json").read_text(encoding="utf-8"))
        return found

    def matrix(self) -> dict[tuple[str, str, str], str]:
        """(from, to, network) → what the last report observed."""
        return {(p["from"], p["to"], p["network"]): p["observed"] for p in self.report["pairs"]}

    # -- the wire

    @contextmanager
    def capture(self, network: str = "data") -> Iterator[Capture]:
        """Capture a network while the block runs."""
        found = Capture(self.folder / f"capture-{network}.pcap")
        ready = "echo capturing; cat >/dev/null"
        process = subprocess.Popen(
            [LAB, "capture", "--name", self.name, "--out", found.path, network, "--", "sh", "-c", ready],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdin
        assert process.stdout
        try:
            assert "capturing" in process.stdout.readline()
            yield found
        finally:
            process.stdin.close()
            process.wait(timeout=60)
            process.stdout.close()
        found.packets = list(_packets(found.path))

    def send_markers(
        self, sender: str, receiver: str, marker: str, family: int = 4, network: str = "data"
    ) -> None:
        """Send *marker* from host to host by TCP, UDP and ping, whether or not it arrives."""
        target = self.address(receiver, family, network)
        pattern = marker.encode().hex()[:32]
        flag = "-6" if family == 6 else "-4"
        self.ssh(
            receiver,
            f"setsid timeout 30 nc {flag} -l -p 7777 >/tmp/tcp.out 2>/dev/null </dev/null &",
            check=False,
        )
        self.ssh(
            sender,
            f"ping {flag} -q -c 3 -i 0.2 -W 1 -p {pattern} {target} >/dev/null;"
            f"for i in 1 2 3; do echo {marker} | timeout 2 nc {flag} -u -w 1 {target} 7778; done;"
            f"echo {marker} | timeout 10 nc {flag} -N -w 5 {target} 7777; true",
        )

    def exchange(
        self, members: Sequence[str], step: int, marker: str, family: int = 4, network: str = "data"
    ) -> tuple[Capture, list[tuple[str, str]]]:
        """Let each member send *marker* to the one *step* places after it, all at once.

        Return what was on the wire, and the pairs (from, to); all steps together are all
        ordered pairs. The marker has to arrive, for its absence to mean anything.
        """
        pairs = [(host, members[(at + step) % len(members)]) for at, host in enumerate(members)]
        with self.capture(network) as capture, ThreadPoolExecutor() as pool:
            list(pool.map(lambda pair: self.send_markers(pair[0], pair[1], marker, family, network), pairs))
        for _sender, receiver in pairs:
            assert marker in self.ssh(receiver, "cat /tmp/tcp.out")
        return capture, pairs

    def answers(self, sender: str, target: str, *, count: int = 3, seconds: int = 4) -> bool:
        """Return whether any ping from *sender* to the address *target* is answered."""
        out = self.ssh(sender, f"ping -c {count} -i 0.3 -w {seconds} {target}; true")
        received = re.search(r"(\d+) received", out)
        return bool(received and int(received.group(1)))

    @contextmanager
    def traffic(self, members: Sequence[str], after: float = 2) -> Iterator[list[Stream]]:
        """Ping between all ordered pairs of *members* while the block runs and *after* seconds more.

        The list is filled when the block is over.
        """
        found: list[Stream] = []
        ping = (
            f"setsid ping -O -n -i {INTERVAL} $peer >/tmp/stream-$peer 2>&1 </dev/null &"
            " echo $! >/tmp/stream-$peer.pid;"
        )

        def start(host: str) -> None:
            peers = " ".join(self.address(peer) for peer in members if peer != host)
            self.ssh(host, f"rm -f /tmp/stream-*; for peer in {peers}; do {ping} done")

        def stop(host: str) -> list[Stream]:
            self.ssh(host, "kill -INT $(cat /tmp/stream-*.pid); sleep 1")
            peers = [peer for peer in members if peer != host]
            return [
                Stream(host, p, *pings(self.ssh(host, f"cat /tmp/stream-{self.address(p)}"))) for p in peers
            ]

        with ThreadPoolExecutor() as pool:
            list(pool.map(start, members))
            try:
                yield found
                time.sleep(after)
            finally:
                ended = list(pool.map(stop, members))
        found += itertools.chain.from_iterable(ended)

    # -- what hosts are up to

    def spis(self, host: str) -> set[tuple[str, str, str]]:
        """Return (source, destination, spi) of the SAs in the kernel of *host*, but not what only waits for one."""
        out = self.ssh(host, "ip xfrm state")
        found = set(re.findall(r"^src (\S+) dst (\S+)\s+proto esp spi (0x[0-9a-f]+)", out, re.MULTILINE))
        return {sa for sa in found if int(sa[2], 16)}

    def pluto(self, host: str) -> str:
        """Return what tells one run of pluto from the next."""
        return self.ssh(host, "systemctl show -p InvocationID,NRestarts,MainPID ipsec").strip()

    def etc(self, host: str) -> str:
        """Return a digest of everything below /etc, the NSS database and the kernel's policies."""
        return self.ssh(
            host,
            "{ find /etc /var/lib/ipsec -type f -exec sha256sum {} + 2>/dev/null | sort;"
            " dpkg -l | sha256sum; } | sha256sum",
        ).strip()


def eventually(claim: Callable[[], bool], seconds: float = 30, pause: float = 1) -> bool:
    """Return whether *claim* comes true in time."""
    deadline = time.monotonic() + seconds
    while not claim():
        if time.monotonic() > deadline:
            return False
        time.sleep(pause)
    return True


@dataclass(frozen=True)
class Stage:
    """Where a run is cut off."""

    task: str
    """Its role and name, as in the banner."""
    occurrence: int = 1
    loosened: bool = False
    """Whether the hosts have to stop enforcing first, for the stage to have anything to do: a cut may come late."""


def interrupt(process: subprocess.Popen[bytes]) -> None:
    """Press Ctrl-C until the run ends, as a person does.

    Python drops the KeyboardInterrupt of a signal that arrives while it forks: it is raised in
    logging's at-fork callback, whose exceptions are ignored. ansible-playbook then goes on.
    """
    while process.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=3)


def kill(process: subprocess.Popen[bytes]) -> None:
    """Let the controller die: ansible-playbook and whatever it started, without a word to anybody."""
    process.send_signal(signal.SIGSTOP)
    for pid in (*_descendants(process.pid), process.pid):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _descendants(pid: int) -> Iterator[int]:
    # Not its process group: Ansible gives each worker a session of its own.
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(path.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[1])
        except OSError:
            continue
        if parent == pid:
            child = int(path.parent.name)
            yield child
            yield from _descendants(child)


def cut_off(
    lab: Lab,
    members: Iterable[str],
    stage: Stage,
    cut: Callable[[subprocess.Popen[bytes]], object],
    delay: float,
    playbook: str = "site",
    **rest: Any,
) -> Run:
    """Run a playbook as far as *stage* and *delay* seconds more, and let *cut* end it one way or the other."""
    path = lab.folder / "interrupted.log"
    with path.open("wb") as log:
        process = subprocess.Popen(
            lab.command(playbook, members, **rest),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=lab.environment,
            start_new_session=True,
        )
    try:
        eventually(
            lambda: banner(stage, path.read_text(errors="replace")) or process.poll() is not None, 400, 0.1
        )
        time.sleep(delay)
        cut(process)
        process.wait(timeout=400)
    finally:
        if process.poll() is None:
            kill(process)
            process.wait(timeout=10)
    return Run(process.returncode, path.read_text(errors="replace"))


def banner(stage: Stage, output: str) -> bool:
    """Return whether a run has come as far as *stage*."""
    return output.count(f"TASK [underlay.ipsec.{stage.task}]") >= stage.occurrence


_SHORT_LIVED = """
- hosts: ipsec
  gather_facts: false
  any_errors_fatal: true
  vars:
    slice: "{{ lookup('ansible.builtin.file', short ~ '/hosts/' ~ inventory_hostname ~ '.json') | from_json }}"
    ca: "{{ lookup('ansible.builtin.file', ipsec_ca_dir ~ '/ca.crt') }}"
  tasks:
    - underlay.ipsec.nss_request:
        certificate: "{{ slice.certificate | combine({'validity_days': 1}) }}"
        ca_certificate: "{{ ca }}"
        crls: "{{ [lookup('ansible.builtin.file', ipsec_ca_dir ~ '/crl.pem')] if (ipsec_ca_dir ~ '/crl.pem') is exists else [] }}"
        force: true
      register: request
    - underlay.ipsec.ca_sign:
        dir: "{{ ipsec_ca_dir }}"
        passphrase: "{{ ipsec_ca_passphrase }}"
        requests: request
        plan_dir: "{{ short }}"
      run_once: true
    - underlay.ipsec.nss_certificate:
        nickname: "{{ slice.certificate.nickname }}"
        certificate: "{{ lookup('ansible.builtin.file', ipsec_ca_dir ~ '/issued/' ~ inventory_hostname ~ '.pem') }}"
        ca_certificate: "{{ ca }}"
"""


def short_lived(lab: Lab, members: Iterable[str], seconds: float, **rest: Any) -> None:
    """Give *members* certificates that last *seconds*, signed by what signs the others."""
    short = lab.folder / "short"
    shutil.rmtree(short, ignore_errors=True)
    shutil.copytree(lab.folder / "report/plan", short)
    for path in (short / "hosts").glob("*.json"):
        found = json.loads(path.read_text(encoding="utf-8"))
        found["certificate"].update(validity_days=seconds / 86400, renew_before_days=0)
        path.write_text(json.dumps(found), encoding="utf-8")
    playbook = lab.folder / "short_lived.yml"
    playbook.write_text(_SHORT_LIVED, encoding="utf-8")
    command = lab.command("site", members, short=str(short), **rest)
    done = subprocess.run(
        [*command[:-1], str(playbook)], env=lab.environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def quoted(command: Sequence[str]) -> str:
    """Return *command* as a shell reads it."""
    return " ".join(shlex.quote(word) for word in command)


def pings(said: str) -> tuple[int, tuple[int, ...]]:
    """Return how many packets a ping sent, and the sequence numbers of those that were lost, from what it printed."""
    summary = re.search(r"(\d+) packets transmitted", said)
    assert summary, f"ping said nothing in the end: {said[-300:]}"
    answered = {int(number) for number in re.findall(r"bytes from \S+ icmp_seq=(\d+) ttl", said)}
    sent = int(summary[1])
    # What was on the way when ping was ended is not lost.
    if answered and (sent - max(answered)) * INTERVAL < 1:
        sent = max(answered)
    return sent, tuple(n for n in range(1, sent + 1) if n not in answered)


def harmless(packet: Packet) -> bool:
    """Return whether a packet is ESP, IKE or neighbour discovery."""
    if packet.protocol == _ESP:
        return True
    if packet.protocol == _UDP:
        ports = struct.unpack("!HH", packet.data[:4])
        return bool({500, 4500} & set(ports))
    return packet.protocol == _ICMP6 and 133 <= packet.data[0] <= 137


def _packets(path: Path) -> Iterator[Packet]:
    """Read the IP packets of a pcap file of Ethernet frames."""
    raw = path.read_bytes()
    order = "<" if raw[:4] in (b"\xd4\xc3\xb2\xa1", b"\x4d\x3c\xb2\xa1") else ">"
    at = 24
    while at + 16 <= len(raw):
        length = struct.unpack(order + "I", raw[at + 8 : at + 12])[0]
        frame, at = raw[at + 16 : at + 16 + length], at + 16 + length
        kind = frame[12:14]
        if kind == b"\x08\x00":
            header = (frame[14] & 15) * 4
            ends = [socket.inet_ntop(socket.AF_INET, frame[i : i + 4]) for i in (26, 30)]
            protocol, data = frame[23], frame[14 + header :]
        elif kind == b"\x86\xdd":
            ends = [socket.inet_ntop(socket.AF_INET6, frame[i : i + 16]) for i in (22, 38)]
            protocol, data = frame[20], frame[54:]
        else:
            continue
        # On port 4500, IKE starts with four zero bytes and ESP with its SPI.
        if (
            protocol == _UDP
            and 4500 in struct.unpack("!HH", data[:4])
            and data[8:12] not in (b"", b"\0\0\0\0")
        ):
            protocol = _ESP
        yield Packet(ends[0], ends[1], protocol, data)
