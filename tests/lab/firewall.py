# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host's firewall looks like and does, and a stream of packets that can be told on the wire.

As a program, it writes down how things are before the collection comes: ``before.json`` in the
scenario's folder.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from kit import Capture, Lab, eventually

MEMBERS = ("q1", "q2", "q3", "u1", "u2")
BACKEND = {"q1": "firewalld", "q2": "nftables", "q3": "iptables", "u1": "iptables", "u2": "iptables"}
OUTSIDER = "out"
FAMILIES = (4, 6)
TCP_PORTS, UDP_PORTS = (22, 8080, 8081, 8082, 8443), (8090, 8091)
"""What molecule/firewall/operator makes of them: of those that listen, each host lets some through."""

Snapshot = dict[str, str]
Ports = dict[str, str]
T = TypeVar("T")


def on_all(ask: Callable[[str], T], hosts: Iterable[str] = MEMBERS) -> dict[str, T]:
    """Return host → what *ask* says of it."""
    names = list(hosts)
    with ThreadPoolExecutor() as pool:
        return dict(zip(names, pool.map(ask, names), strict=True))


# -- rules and files

_LOOK = r"""
section() { echo "=== $1"; }
# firewalld answers when its rules are there.
if systemctl -q is-active firewalld; then
    section 'firewall-cmd --list-all-zones'; firewall-cmd --list-all-zones
    section 'firewall-cmd --permanent --list-all-zones'; firewall-cmd --permanent --list-all-zones
fi
if command -v nft >/dev/null; then section 'nft list ruleset'; nft -s list ruleset; fi
for tool in iptables ip6tables; do
    if command -v $tool-save >/dev/null; then section $tool-save; $tool-save 2>/dev/null; fi
done
section files
# firewalld keeps the file before each change of its own beside it.
find /etc/nftables.conf /etc/nftables.d /etc/iptables /etc/firewalld /etc/default /etc/sysconfig /etc/underlay-ipsec \
    /etc/systemd/system /etc/network /etc/modules-load.d \
    ! -name '*.old' ! -type d ! -path '*ipsec.service*' ! -name markers.service \
    -printf '%p %m %l ' -exec sh -c '[ -L "$1" ] && echo || sha256sum <"$1"' - {} \; 2>/dev/null | LC_ALL=C sort
"""


def snapshot(lab: Lab, host: str) -> Snapshot:
    """Return the firewall of *host* as text: what each tool prints, and the files.

    Counters are left out, and of iptables the tables that say nothing: the legacy variant prints a
    table once anybody has looked into it.
    """
    found = {}
    for part in lab.ssh(host, _LOOK).split("=== ")[1:]:
        title, _, text = part.partition("\n")
        if title.endswith("-save"):
            text = iptables_text(text)
        elif title == "nft list ruleset":
            if BACKEND[host] == "iptables":
                # The same rules once more, in the order in which their tables were made.
                continue
            text = nft_text(text)
        elif title.startswith("firewall-cmd"):
            text = zones_text(text)
        found[title] = text
    return found


def nft_text(listed: str) -> str:
    """Return what ``nft list ruleset`` printed, in the order of the tables' names: it prints the newest last.

    What is within firewalld's table is sorted as well: it adds its rules in an order of its own at each start.
    """
    tables = re.findall(r"^table .*?^}$", listed, re.DOTALL | re.MULTILINE)
    own = [
        "\n".join(sorted(table.splitlines())) if table.startswith("table inet firewalld ") else table
        for table in tables
    ]
    return "".join(f"{table}\n" for table in sorted(own))


def zones_text(listed: str) -> str:
    """Return what ``firewall-cmd --list-all-zones`` printed with the rich rules of each zone, which have no order, sorted."""
    return re.sub(
        r"(?:^\trule .*\n)+",
        lambda rules: "".join(sorted(rules[0].splitlines(keepends=True))),
        listed,
        flags=re.MULTILINE,
    )


def iptables_text(saved: str) -> str:
    """Return what ``iptables-save`` printed without counters, comments and empty tables."""
    lines = [re.sub(r"\s*\[\d+:\d+\]", "", line) for line in saved.splitlines() if not line.startswith("#")]
    tables = re.findall(r"^\*.*?^COMMIT$", "\n".join(lines), re.DOTALL | re.MULTILINE)
    return "".join(f"{table}\n" for table in tables if re.search(r"^-|^:\S+ (?!ACCEPT)", table, re.MULTILINE))


def differences(before: Snapshot, after: Snapshot) -> str:
    """Return what two snapshots differ in, for a person to read; nothing if they are equal."""
    said = []
    for title in sorted({*before, *after}):
        old, new = before.get(title, "").splitlines(), after.get(title, "").splitlines()
        if old != new:
            gone, added = [line for line in old if line not in new], [line for line in new if line not in old]
            said += [f"{title}:", *(f"  - {line}" for line in gone), *(f"  + {line}" for line in added)]
            if not gone and not added:
                said.append("  another order, or another number of the same lines")
    return "\n".join(said)


# -- how ports behave

_PROBE = r"""
import json, socket, sys, threading
found = {}
def probe(address, protocol, port):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
    for attempt in range(3):
        with socket.socket(family, kind) as client:
            client.settimeout(3)
            try:
                client.connect((address, port))
                if protocol == "udp":
                    client.send(b"hello")
                    client.recv(100)
                return "open"
            except ConnectionRefusedError:
                return "refused"
            except OSError:
                pass
    return "filtered"
def one(address, protocol, port):
    found[f"{address} {protocol} {port}"] = probe(address, protocol, port)
threads = [threading.Thread(target=one, args=args) for args in json.loads(sys.argv[1])]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(json.dumps(found))
"""


def ports(lab: Lab, source: str, targets: Sequence[str]) -> Ports:
    """Return how the ports of *targets* behave towards *source*: open, refused or filtered.

    Whether an error or silence tells of a filter is not told apart: errors are limited to so many a second.
    """
    wanted = [
        (lab.address(target, family), protocol, port)
        for target in targets
        for family in FAMILIES
        for protocol, numbers in (("tcp", TCP_PORTS), ("udp", UDP_PORTS))
        for port in numbers
        if target != source
    ]
    said = lab.ssh(source, f"python3 - '{json.dumps(wanted)}' <<'E'\n{_PROBE}E")
    found: Ports = json.loads(said)
    return dict(sorted(found.items()))


def all_ports(lab: Lab) -> dict[str, Ports]:
    """Return host → how the ports of all members behave towards it."""
    return on_all(lambda host: ports(lab, host, MEMBERS), (*MEMBERS, OUTSIDER))


# -- packets that can be told

_SENDER = r"""
import itertools, json, os, socket, struct, sys, time
marker, *targets = sys.argv[1:]
counts = {target: {"sent": 0, "refused": 0, "answered": 0} for target in targets}
data = marker.encode()

def checksum(words):
    total = sum(struct.unpack(f"!{len(words) // 2}H", words))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF

def echo(kind, number):
    bare = struct.pack("!BBHHH", kind, 0, 0, 0x5A5A, number & 0xFFFF) + data + bytes(len(data) % 2)
    return bare[:2] + struct.pack("!H", checksum(bare) if kind == 8 else 0) + bare[4:]

udp = {4: socket.socket(socket.AF_INET, socket.SOCK_DGRAM), 6: socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)}
raw = {
    4: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP),
    6: socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6),
}
# Only echo replies: what is set is kept out.
raw[4].setsockopt(255, 1, struct.pack("=I", 0xFFFFFFFF ^ 1))
raw[6].setsockopt(socket.IPPROTO_ICMPV6, 1, struct.pack("=8I", *(0xFFFFFFFF ^ (2 if i == 4 else 0) for i in range(8))))
for sock in (*udp.values(), *raw.values()):
    sock.setblocking(False)
told = 0
for number in itertools.count():
    for target in targets:
        family = 6 if ":" in target else 4
        for sock, packet, port in (udp[family], data, 7778), (raw[family], echo(128 if family == 6 else 8, number), 0):
            try:
                sock.sendto(packet, (target, port))
                counts[target]["sent"] += 1
            except OSError:  # no network yet, or what forbids it
                counts[target]["refused"] += 1
    for sock in raw.values():
        try:
            while True:
                packet, source = sock.recvfrom(2000)
                if data in packet and source[0] in counts:
                    counts[source[0]]["answered"] += 1
        except OSError:
            pass
    if time.monotonic() - told > 0.5:
        told = time.monotonic()
        with open("/run/markers.new", "w") as file:
            json.dump(counts, file)
        os.rename("/run/markers.new", "/run/markers.json")
    time.sleep(0.15)
"""
# As early and as long as a host can send at all, and not for ever.
_UNIT = """\
[Unit]
DefaultDependencies=no
After=local-fs.target
[Service]
ExecStart=/usr/bin/python3 /usr/local/lib/markers.py %s
RuntimeMaxSec=1800
[Install]
WantedBy=sysinit.target
"""


@dataclass
class Stream:
    """Datagrams and pings with a marker, some 13 a second from each host to each address of the others."""

    lab: Lab
    members: Sequence[str]
    marker: str = field(default_factory=lambda: uuid.uuid4().hex)

    def targets(self, host: str) -> list[str]:
        """Return the addresses that *host* sends to."""
        return [self.lab.address(peer, f) for peer in self.members if peer != host for f in FAMILIES]

    def counts(self, host: str) -> dict[str, dict[str, int]]:
        """Return address → how many packets *host* sent, could not send, and got an answer to; since it booted."""
        with suppress(AssertionError, ValueError):
            found: dict[str, dict[str, int]] = json.loads(
                self.lab.ssh(host, "cat /run/markers.json", timeout=60)
            )
            return found
        return {}

    def attempts(self, host: str) -> int:
        """Return how many packets *host* wanted to send since it booted."""
        return sum(count["sent"] + count["refused"] for count in self.counts(host).values())

    def heals(self, seconds: float = 120) -> dict[str, list[str]]:
        """Wait until everybody has new answers from everybody; return who has none from whom."""
        before = on_all(self.counts, self.members)

        def silent(host: str) -> list[str]:
            now, old = self.counts(host), before[host]
            return [
                target
                for target in self.targets(host)
                # A host that booted meanwhile counts from zero again.
                if now.get(target, {}).get("answered", 0) in (0, old.get(target, {}).get("answered", 0))
            ]

        left: dict[str, list[str]] = {}

        def claim() -> bool:
            nonlocal left
            left = {host: who for host, who in on_all(silent, left or self.members).items() if who}
            return not left

        eventually(claim, seconds, 2)
        return left


@contextmanager
def stream(lab: Lab, members: Sequence[str] = MEMBERS) -> Iterator[Stream]:
    """Let *members* send each other a marker while the block runs, also while they boot."""
    found = Stream(lab, members)

    def start(host: str) -> None:
        arguments = " ".join([found.marker, *found.targets(host)])
        lab.ssh(
            host,
            f"rm -f /run/markers.json; cat >/usr/local/lib/markers.py <<'E'\n{_SENDER}E\n"
            f"cat >/etc/systemd/system/markers.service <<'E'\n{_UNIT % arguments}E\n"
            "systemctl daemon-reload && systemctl enable --quiet markers && systemctl restart markers",
        )

    def stop(host: str) -> None:
        lab.ssh(
            host,
            "systemctl disable --quiet --now markers;"
            " rm -f /etc/systemd/system/markers.service /usr/local/lib/markers.py; systemctl daemon-reload",
        )

    try:
        on_all(start, members)
        yield found
    finally:
        on_all(stop, members)


def leaks(lab: Lab, capture: Capture, marker: str, members: Sequence[str] = MEMBERS) -> dict[str, int]:
    """Return who sent the marker in clear text → how many packets of it, both families together."""
    names = {lab.address(host, family): host for host in members for family in FAMILIES}
    found: dict[str, int] = {}
    for packet in capture.holding(marker.encode()):
        name = names.get(packet.source, packet.source)
        found[name] = found.get(name, 0) + 1
    return found


def without_esp(lab: Lab, capture: Capture, members: Sequence[str] = MEMBERS) -> list[str]:
    """Return which pairs had no ESP on the wire, of either family."""
    return [
        f"{one} {other} IPv{family}"
        for one, other, family in _pairs(members)
        if not capture.esp(lab.address(one, family), lab.address(other, family))
    ]


def in_clear(lab: Lab, capture: Capture, members: Sequence[str] = MEMBERS) -> list[str]:
    """Return which pairs had anything but ESP, IKE and neighbour discovery on the wire, with the first packet of it."""
    found = {
        f"{one} {other} IPv{family}": capture.clear(lab.address(one, family), lab.address(other, family))
        for one, other, family in _pairs(members)
    }
    return [f"{pair}: {len(packets)}, first {packets[0]}" for pair, packets in found.items() if packets]


def _pairs(members: Sequence[str]) -> Iterator[tuple[str, str, int]]:
    for one, other in itertools.combinations(members, 2):
        for family in FAMILIES:
            yield one, other, family


# -- before the collection comes


def before_path(lab: Lab) -> Path:
    """Return where this program writes to."""
    return lab.folder / "before.json"


def before(lab: Lab) -> dict[str, Any]:
    """Return what this program wrote: ``rules`` and ``ports``, each by host."""
    found: dict[str, Any] = json.loads(before_path(lab).read_text(encoding="utf-8"))
    return found


def main() -> None:
    """Write down how things are."""
    lab = Lab(os.environ["LAB_NAME"], Path(os.environ["LAB_FOLDER"]))
    found = {"rules": on_all(lambda host: snapshot(lab, host)), "ports": all_ports(lab)}
    before_path(lab).write_text(json.dumps(found, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
