# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What each change of a running cluster costs, in lost packets.

Boots a lab of five hosts of two releases on two networks, encrypts four of them, then
lets one thing after the other happen by a run of a playbook, under ping streams of 20 packets
a second between all ordered pairs of these four on both networks. Prints, for each event, the
packets sent and lost, and the worst stream. With --keep, pluto's journals and the times
of the losses of each event that lost something go into that folder.

    .venv/bin/python bench/events.py [--runs N] [--keep FOLDER] [--topology mesh|opportunistic] [EVENT…]

Without names: all that change the configuration. Those of certificates (renew, renewall, authority, keytype,
expired, revoke) are named, in both topologies.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests/lab"))

import kit  # noqa: E402
from kit import INTERVAL, Lab, Run  # noqa: E402

OLD = ("h1", "h2", "h3", "h4")
ALL = (*OLD, "h5")
RELEASES = dict(zip(ALL, itertools.cycle(("bookworm", "trixie")), strict=False))
CIDRS = {"data": "10.88.0.0/24", "storage": "10.99.0.0/24"}
# Streams begin before the event and outlast it: an SA that ends late is lost traffic, too.
BEFORE, AFTER = 2.0, 8.0
EXPIRE_SECONDS = 60
SSH_IN_CLEAR = ["10.88.0.0/24 tcp 0 22", "10.88.0.0/24 tcp 22 0"]
START: dict[str, Any] = {
    "ipsec_topology": "mesh",
    "ipsec_networks": [{"name": name, "cidr": cidr} for name, cidr in CIDRS.items()],
    "ipsec_psk_secret": "the first secret of the lab, long enough to be one",
}


@dataclass(frozen=True)
class Event:
    """A run with other variables or other members than the one before."""

    title: str
    change: dict[str, Any] = field(default_factory=dict)
    members: tuple[str, ...] = OLD
    target: str = "0"
    playbook: str = "site"
    once: dict[str, Any] = field(default_factory=dict)
    """Variables for this run alone."""
    prepare: Callable[[Lab, dict[str, Any]], None] | None = None
    """What happens before the streams begin."""


EVENTS = {
    "none": Event("a run that changes nothing"),
    "join": Event("a host joins", members=ALL),
    "leave": Event("a host leaves"),
    "clear": Event("an exception is added (ssh in clear)", {"ipsec_clear": SSH_IN_CLEAR}),
    "unclear": Event("the exception is removed", {"ipsec_clear": []}),
    "esp": Event("another ESP suite", {"ipsec_esp": "aes_gcm128"}, target="some"),
    "ike": Event("another IKE suite", {"ipsec_ike": "aes_gcm256-sha2_512-dh20"}, target="some"),
    "udp": Event("encapsulation auto → always", {"ipsec_encapsulation": "always"}, target="some"),
    "noudp": Event("encapsulation always → auto", {"ipsec_encapsulation": "auto"}, target="some"),
    "tunnel": Event("mode transport → tunnel", {"ipsec_mode": "tunnel"}, target="some"),
    "transport": Event("mode tunnel → transport", {"ipsec_mode": "transport"}, target="some"),
    "psk": Event("auth certificate → psk", {"ipsec_auth": "psk"}, target="some"),
    "rotate": Event("the secret of the pre-shared keys is rotated", {"ipsec_psk_secret": "the second secret of the lab, as long"}),
    "pskjoin": Event("a host joins (psk)", members=ALL),
    "pskleave": Event("a host leaves (psk)"),
    "certificate": Event("auth psk → certificate", {"ipsec_auth": "certificate"}, target="some"),
    "opportunistic": Event("topology mesh → opportunistic", {"ipsec_topology": "opportunistic"}, target="some"),
    "mesh": Event("topology opportunistic → mesh", {"ipsec_topology": "mesh"}, target="some"),
}  # fmt: skip


def expire(lab: Lab, variables: dict[str, Any]) -> None:
    """Give all members certificates that end before this returns."""
    kit.short_lived(lab, OLD, EXPIRE_SECONDS, **variables)
    time.sleep(EXPIRE_SECONDS)


def add(lab: Lab, variables: dict[str, Any]) -> None:
    """Take the fifth host in."""
    lab.converge(ALL, ipsec_reinstate=["h5"], **variables)


CERTIFICATES = {
    "renew": Event("the certificate of one host is renewed", playbook="rotate", once={"ipsec_rotate": "h1"}),
    "renewall": Event("the certificates of all hosts are renewed", playbook="rotate", once={"ipsec_rotate": "all"}),
    "authority": Event("another CA takes over", playbook="rotate", once={"ipsec_rotate_ca": True}),
    "keytype": Event("another kind of key", {"ipsec_key_type": "rsa-3072"}),
    "expired": Event("a cluster whose certificates have expired is repaired", prepare=expire, target="some"),
    "revoke": Event("a host is shut out (streams of the others)", playbook="revoke", once={"ipsec_revoke": "h5"}, members=ALL, prepare=add),
}  # fmt: skip


@dataclass(frozen=True)
class Stream:
    """What became of the packets of one ordered pair on one network."""

    name: str
    sent: int
    lost: tuple[int, ...]
    """Sequence numbers; number N left (N-1) x INTERVAL after the beginning."""


def targets(lab: Lab, host: str) -> dict[str, str]:
    """Return address → the name of the stream to it from *host*."""
    found = {}
    for peer, network in itertools.product(OLD, CIDRS):
        if peer != host:
            address = next(a for a in lab.status["hosts"][peer]["addresses"][network] if ":" not in a)
            found[address] = f"{host}→{peer} {network}"
    return found


def start(lab: Lab) -> None:
    """Begin the streams of all hosts."""

    def one(host: str) -> None:
        ping = f"setsid ping -D -O -n -i {INTERVAL} $peer >/tmp/stream-$peer 2>&1 </dev/null &"
        lab.ssh(host, f"rm -f /tmp/stream-*; for peer in {' '.join(targets(lab, host))}; do {ping} done")

    with ThreadPoolExecutor() as pool:
        list(pool.map(one, OLD))


def stop(lab: Lab) -> list[Stream]:
    """End the streams and return what became of them."""

    def one(host: str) -> list[Stream]:
        lab.ssh(host, "pkill -INT -x ping; sleep 1")
        names = targets(lab, host)
        return [Stream(names[peer], *kit.pings(lab.ssh(host, f"cat /tmp/stream-{peer}"))) for peer in names]

    with ThreadPoolExecutor() as pool:
        return [stream for streams in pool.map(one, OLD) for stream in streams]


def happen(
    lab: Lab, event: Event, variables: dict[str, Any]
) -> tuple[Run, float, tuple[float, float], list[Stream]]:
    """Run the playbook under traffic: return the run, its seconds, when it began and when the streams did, and the streams."""
    if event.prepare:
        event.prepare(lab, variables)
    begun = time.time()
    start(lab)
    time.sleep(BEFORE)
    since = time.time()
    run = lab.play(event.playbook, event.members, **variables, **event.once)
    seconds = time.time() - since
    time.sleep(AFTER)
    return run, seconds, (since, begun), stop(lab)


def keep(folder: Path, lab: Lab, run: Run, times: tuple[float, float], streams: list[Stream]) -> None:
    """Write what helps to find out why packets were lost."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "run.log").write_text(run.output, encoding="utf-8")
    since, begun = times
    lines = [
        f"{stream.name}: {' '.join(f'{begun - since + n * INTERVAL:.2f}' for n in stream.lost)}\n"
        for stream in streams
        if stream.lost
    ]
    (folder / "lost.txt").write_text(f"seconds since {since:.1f}\n" + "".join(lines), encoding="utf-8")
    for host in ALL:
        journal = (
            f"journalctl -u ipsec -u underlay-ipsec-watch --no-pager -o short-unix --since=@{int(since) - 5}"
        )
        (folder / f"{host}.log").write_text(lab.ssh(host, journal, check=False), encoding="utf-8")


def row(event: Event, run: Run, seconds: float, streams: list[Stream]) -> str:
    """Return the row of the table."""
    worst = max(streams, key=lambda stream: len(stream.lost))
    figures = (
        event.title,
        f"{seconds:.0f} s" + (f", **failed** ({run.rc})" if run.rc else ""),
        str(sum(stream.sent for stream in streams)),
        str(sum(len(stream.lost) for stream in streams)),
        f"{sum(bool(stream.lost) for stream in streams)} of {len(streams)}",
        f"{len(worst.lost)} ({len(worst.lost) * INTERVAL:.2f} s, {worst.name})" if worst.lost else "0",
        event.target,
        f"{os.getloadavg()[0]:.1f}",
    )
    return f"| {' | '.join(figures)} |"


def measure(lab: Lab, names: list[str], kept: Path | None, number: int, first: dict[str, Any]) -> None:
    """Let the events happen and print a row for each; *first* is what the cluster is like before."""
    variables: dict[str, Any] = dict(first)
    members: tuple[str, ...] = OLD
    done = (dict(variables), members)
    # Those of certificates are for themselves: what the others would have changed until then does not matter.
    events = EVENTS if set(names) & set(EVENTS) else {}
    for name, event in {
        **events,
        **{name: CERTIFICATES[name] for name in CERTIFICATES if name in names},
    }.items():
        before = (dict(variables), members)
        variables.update(event.change)
        members = event.members
        if name not in names:
            continue
        # Events that are left out still change what the next one starts from.
        if before != done:
            lab.converge(before[1], **before[0])
        done = (dict(variables), members)
        run, seconds, times, streams = happen(lab, event, variables)
        print(row(event, run, seconds, streams), flush=True)
        if kept and (run.rc or any(stream.lost for stream in streams)):
            keep(kept / f"{number}-{name}", lab, run, times, streams)
        if run.rc:
            lab.play("site", event.members, **variables)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "events", nargs="*", metavar="EVENT", help=f"of {', '.join({**EVENTS, **CERTIFICATES})}"
    )
    parser.add_argument(
        "--topology", choices=("mesh", "opportunistic"), default="mesh", help="of the cluster"
    )
    parser.add_argument("--runs", type=int, default=1, help="how often each event happens")
    parser.add_argument("--keep", type=Path, help="folder for journals of what lost something")
    given = parser.parse_args()
    if unknown := set(given.events) - {*EVENTS, *CERTIFICATES}:
        parser.error(f"no such event: {', '.join(sorted(unknown))}")
    os.environ["ANSIBLE_COLLECTIONS_PATH"] = str(ROOT / ".cache/collections")
    os.environ["PATH"] = f"{ROOT}/.venv/bin:{os.environ['PATH']}"
    with tempfile.TemporaryDirectory() as folder:
        lab = Lab("bench-events", Path(folder))
        spec = {
            "networks": [{"name": name, "ipv4": cidr} for name, cidr in CIDRS.items()],
            "hosts": [{"name": name, "release": release} for name, release in RELEASES.items()],
        }
        (lab.folder / "lab.json").write_text(json.dumps(spec), encoding="utf-8")
        try:
            lab.cli("up", "--spec", str(lab.folder / "lab.json"))
            first = {**START, "ipsec_topology": given.topology}
            lab.converge(OLD, **first)
            print("| event | run | sent | lost | streams with losses | worst stream | target | load |")
            print("|---|---|---|---|---|---|---|---|", flush=True)
            for number in range(given.runs):
                measure(lab, given.events or list(EVENTS), given.keep, number + 1, first)
                lab.converge(OLD, **first)
        finally:
            lab.cli("down", check=False)


if __name__ == "__main__":
    main()
