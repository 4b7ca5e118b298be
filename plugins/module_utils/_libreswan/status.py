# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Libreswan's own account of itself as data, the same for 4.x and 5.x.

4.x puts a number in front of each line, prefixes its states' names with ``STATE_V2_``, and writes what
a shunt does with one more word; apart from that the two generations print the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ansible_collections.underlay.ipsec.plugins.module_utils._run import Runner

_NUMBER = re.compile(r"^\d{3} ?")
_NAME = r'"(?P<name>[^"]+)"(?:\[(?P<instance>\d+)\])?'
_STATE = re.compile(
    rf"^#(?P<serial>\d+): {_NAME}(?: \.\.\.(?P<peer>\S+?))?:(?P<port>\d+)(?:\([A-Z0-9]+\))? "
    r"(?P<state>[A-Z]\w+) \((?P<meaning>.*?)\);(?P<rest>.*)$"
)
_GUEST = re.compile(
    rf"^#(?P<serial>\d+): {_NAME} (?P<peer>[0-9a-fA-F.:]+):\d+\S* STATE_V2_ESTABLISHED_IKE_SA "
)
_OWNER = re.compile(r"\bIKE SA #(?P<serial>\d+)")
_ESP = re.compile(
    rf"^#(?P<serial>\d+): {_NAME}.*? (?:esp|ah)[.:](?P<out>[0-9a-f]+)@\S+ (?:esp|ah)[.:](?P<in>[0-9a-f]+)@\S+"
)
_TRAFFIC = re.compile(
    rf"^#(?P<serial>\d+): {_NAME}(?: \.\.\.(?P<peer>\S+?))?(?:\[[^\]]*\])?, .*?"
    r"\binBytes=(?P<in>\d+), outBytes=(?P<out>\d+)(?:.*?, id='(?P<id>.*?)')?"
)
_CONNECTION = re.compile(rf"^{_NAME}: (?P<local>\S.*?)\.\.\.(?P<remote>\S.*?); (?P<routing>[a-z][^;]*);")
_POLICY = re.compile(rf"^{_NAME}:   policy: (?P<words>[^;]*);")
_ID = re.compile(r"\[(?P<id>[^%\]].*?)\](?====|$)")
_ADDRESS = re.compile(r"[0-9a-fA-F:.]+/?\d*")
_SHUNT = re.compile(
    r"^(?P<source>\S+) -(?P<protocol>\d+)-> (?P<destination>\S+) => %(?P<action>\w+)(?: \d+)? +(?P<why>.*)$"
)


def lines(text: str) -> Iterator[str]:
    """Yield the lines that whack printed, without the numbers of 4.x."""
    for line in text.splitlines():
        stripped = _NUMBER.sub("", line)
        if stripped.strip():
            yield stripped


def read_traffic(run: Runner) -> list[dict[str, Any]]:
    """Return the established Child SAs; none if pluto does not run. See `parse_traffic`."""
    done = run(["ipsec", "whack", "--trafficstatus"], check=False)
    return parse_traffic(done.stdout) if done.rc == 0 else []


def parse_traffic(text: str) -> list[dict[str, Any]]:
    """Return name, instance, peer, bytes and the peer's id of each Child SA in ``--trafficstatus``."""
    found = []
    for line in lines(text):
        match = _TRAFFIC.match(line)
        if match:
            found.append(
                {
                    **_which(match),
                    "bytes_in": int(match["in"]),
                    "bytes_out": int(match["out"]),
                    "peer_id": match["id"],
                }
            )
    return found


def parse_states(text: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the IKE SAs and the Child SAs in the output of ``--showstates``."""
    ike: list[dict[str, Any]] = []
    child: dict[int, dict[str, Any]] = {}
    for line in lines(text):
        match = _STATE.match(line)
        spis = _ESP.match(line)
        if match:
            entry = {
                **_which(match),
                "state": match["state"].replace("STATE_V2_", "", 1),
                "established": match["state"].replace("STATE_V2_", "", 1).startswith("ESTABLISHED_"),
                "newest": "newest" in match["rest"],
            }
            owner = _OWNER.search(match["rest"])
            if owner or "CHILD" in entry["state"]:
                ike_serial = int(owner["serial"]) if owner else None
                child[entry["serial"]] = {**entry, "ike_serial": ike_serial, "spi_out": None, "spi_in": None}
            else:
                ike.append(entry)
        elif spis and int(spis["serial"]) in child:
            child[int(spis["serial"])].update(spi_out=f"0x{spis['out']}", spi_in=f"0x{spis['in']}")
    return ike, list(child.values())


def parse_guests(text: str) -> list[dict[str, Any]]:
    """Return serial, name, instance and peer of each IKE SA in ``--showstates`` with a peer that a connection with ``%any`` let in."""
    return [_which(match) for line in lines(text) if (match := _GUEST.match(line)) and match["instance"]]


def parse_connections(text: str) -> list[dict[str, Any]]:
    """Return the connections in the output of ``--status``: groups, what became of their entries, instances."""
    found: dict[tuple[str, int | None], dict[str, Any]] = {}
    for line in lines(text):
        head, policy = _CONNECTION.match(line), _POLICY.match(line)
        if head:
            name, instance = _named(head)
            found[name, instance] = {
                "name": name,
                "instance": instance,
                "local": _host(head["local"].rpartition("===")[2]),
                "remote": _remote(head["remote"]),
                "peer_id": _peer_id(head["remote"]),
                "routed": head["routing"] != "unrouted",
                # 4.x puts a trap in the place of an SA that ends; 5.x only where it was asked to.
                "trapped": head["routing"] in ("prospective erouted", "erouted"),
            }
        elif policy and _named(policy) in found:
            found[_named(policy)].update(_properties(policy["words"].split("+"), _named(policy)[1]))
    return list(found.values())


def _named(match: re.Match[str]) -> tuple[str, int | None]:
    return match["name"], int(match["instance"]) if match["instance"] else None


def _host(text: str) -> str:
    """Return the address that a side of a connection starts with: ``10.88.0.11[O=x, CN=h1]``."""
    match = _ADDRESS.match(text)
    return match.group() if match else text


def _remote(text: str) -> str:
    """Return the remote side's network, else its address: ``%any===10.88.0.0/24:TCP/22``, ``10.88.0.12[CN=h2]``."""
    host, _separator, network = text.partition("===")
    return _host(network) if network else _host(host.partition("[")[0])


def _peer_id(text: str) -> str | None:
    """Return the peer's id once it is known: ``CN=h2`` of ``10.88.0.12[CN=h2]``, nothing of ``10.88.0.12[%fromcert]``."""
    match = _ID.search(text)
    return match["id"] if match else None


def _properties(words: Sequence[str], instance: int | None) -> dict[str, Any]:
    """Return what a connection is and does, from the words of its policy; the generations differ in most others."""
    if "PASS" in words:
        kind = "pass"
    elif "DROP" in words or "REJECT" in words:
        kind = "drop"
    else:
        kind = "tunnel" if "TUNNEL" in words else "transport"
    if instance is not None:
        role = "instance"
    elif "GROUPINSTANCE" in words:
        role = "entry"
    else:
        role = "group" if "GROUP" in words else "connection"
    failure = next((word[len("failure") :].lower() for word in words if word.startswith("failure")), None)
    return {
        **({"trapped": True} if "ROUTE" in words else {}),
        "type": kind,
        "role": role,
        "opportunistic": "OPPORTUNISTIC" in words,
        "failure": None if failure == "none" else failure,
    }


def parse_shunts(text: str) -> list[dict[str, Any]]:
    """Return what pluto does with peers that it has no SA with, from ``--shuntstatus``."""
    return [
        {
            "source": match["source"],
            "destination": match["destination"],
            "protocol": int(match["protocol"]),
            "action": match["action"],
            "reason": match["why"].strip(),
        }
        for match in map(_SHUNT.match, lines(text))
        if match
    ]


def read_info(run: Runner) -> dict[str, Any]:
    """Return whether pluto runs, and its connections, SAs and shunts."""
    said = {}
    for question in ("status", "showstates", "trafficstatus", "shuntstatus"):
        done = run(["ipsec", "whack", f"--{question}"], check=False)
        said[question] = done.stdout if done.rc == 0 else ""
    ike, child = parse_states(said["showstates"])
    return {
        "running": bool(said["status"]),
        "connections": parse_connections(said["status"]),
        "ike_sas": ike,
        "child_sas": join(child, parse_traffic(said["trafficstatus"])),
        "shunts": parse_shunts(said["shuntstatus"]),
    }


def join(child: Iterable[Mapping[str, Any]], traffic: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Add the counters of *traffic* to the Child SAs of *child*."""
    counted = {entry["serial"]: entry for entry in traffic}
    empty = {"bytes_in": 0, "bytes_out": 0, "peer_id": None}
    return [{**entry, **{key: counted.get(entry["serial"], empty)[key] for key in empty}} for entry in child]


def _which(match: re.Match[str]) -> dict[str, Any]:
    return {
        "serial": int(match["serial"]),
        "name": match["name"],
        "instance": int(match["instance"]) if match["instance"] else None,
        "peer": match["peer"],
    }
