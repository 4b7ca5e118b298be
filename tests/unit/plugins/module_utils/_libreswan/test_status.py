# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Libreswan's account of itself, from what 4.10 and 5.2 really printed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan import status
from ansible_collections.underlay.ipsec.plugins.module_utils._run import Completed

SAMPLES = Path(__file__).parent / "samples"
FILES = {"status": "status", "showstates": "showstates", "trafficstatus": "traffic", "shuntstatus": "shunt"}
BOTH = pytest.mark.parametrize(("version", "own"), [("4.10", "10.88.0.11"), ("5.2", "10.88.0.13")])


def pluto(version: str, topology: str = "") -> Any:
    def run(argv: list[str], **_options: object) -> Completed:
        path = SAMPLES / f"{topology}{FILES[argv[2][2:]]}-{version}.txt"
        return Completed(tuple(argv), 0, path.read_text(encoding="utf-8"), "")

    return run


def silent(argv: list[str], **_options: object) -> Completed:
    return Completed(tuple(argv), 33, "", "whack: Pluto is not running")


@BOTH
def test_connections_are_the_same_for_both(version: str, own: str) -> None:
    found = {(c["name"], c["instance"] is None): c for c in status.read_info(pluto(version))["connections"]}

    def of(name: str, *, instance: bool = False) -> tuple[Any, ...]:
        connection = found[name, not instance]
        return tuple(
            connection[key]
            for key in ("role", "type", "opportunistic", "failure", "local", "remote", "routed")
        )

    assert of("underlay-data-private") == (
        "group",
        "transport",
        True,
        "drop",
        own,
        "%opportunisticgroup",
        False,
    )
    assert of("underlay-data-clear") == ("group", "pass", False, None, own, "%group", False)
    target = "underlay-data-private-or-clear#10.88.0.0/24"
    assert of(target) == ("entry", "transport", True, "pass", own, "10.88.0.0/24", True)
    assert of(target, instance=True)[0] == "instance"
    assert of(target, instance=True)[-1] is True
    peer = found[target, False]
    assert peer["peer_id"] == f"O=underlay.ipsec, CN=h{peer['remote'][-1]}"
    assert found[target, True]["peer_id"] is None
    assert of("underlay-data-clear#10.88.0.1/32") == ("entry", "pass", False, None, own, "10.88.0.1/32", True)
    ssh = "underlay-data-clear#10.88.0.0/24-(0--6--22)"
    assert of(ssh) == ("entry", "pass", False, None, own, "10.88.0.0/24", True)
    assert of("underlay-data6-private-or-clear#fd88::/64")[5] == "fd88::/64"


@BOTH
def test_every_connection_is_complete(version: str, own: str) -> None:
    keys = {
        "name",
        "instance",
        "local",
        "remote",
        "peer_id",
        "routed",
        "trapped",
        "type",
        "role",
        "opportunistic",
        "failure",
    }
    found = status.read_info(pluto(version))["connections"]
    assert len(found) > 10
    assert all(set(connection) == keys for connection in found)


@pytest.mark.parametrize(
    ("version", "ike", "child", "first"),
    [
        (
            "4.10",
            3,
            3,
            {
                "serial": 2,
                "name": "underlay-data-private-or-clear#10.88.0.0/24",
                "instance": 1,
                "peer": "10.88.0.12",
                "state": "ESTABLISHED_CHILD_SA",
                "established": True,
                "newest": True,
                "ike_serial": 1,
                "spi_out": "0x7afb8c48",
                "spi_in": "0x3adbfd73",
                "bytes_in": 2624,
                "bytes_out": 2752,
                "peer_id": "O=underlay.ipsec, CN=h2",
            },
        ),
        (
            "5.2",
            4,
            4,
            {
                "serial": 9,
                "name": "underlay-data-private-or-clear#10.88.0.0/24",
                "instance": 2,
                "peer": "10.88.0.14",
                "state": "ESTABLISHED_CHILD_SA",
                "established": True,
                "newest": False,
                "ike_serial": 5,
                "spi_out": "0x6efdf14e",
                "spi_in": "0xeea4dcae",
                "bytes_in": 128,
                "bytes_out": 192,
                "peer_id": "O=underlay.ipsec, CN=h4",
            },
        ),
    ],
)
def test_sas(version: str, ike: int, child: int, first: dict[str, Any]) -> None:
    info = status.read_info(pluto(version))
    assert (len(info["ike_sas"]), len(info["child_sas"])) == (ike, child)
    assert info["child_sas"][0] == first
    assert {sa["state"] for sa in info["ike_sas"]} == {"ESTABLISHED_IKE_SA"}


@pytest.mark.parametrize(
    ("version", "source", "reason"),
    [("4.10", "10.88.0.11/32", "oe-failed"), ("5.2", "10.88.0.13/32", "oe-failing")],
)
def test_shunts(version: str, source: str, reason: str) -> None:
    shunts = status.read_info(pluto(version))["shunts"]
    assert len(shunts) == 4
    assert {
        "source": source,
        "destination": "10.88.0.11/32" if version == "5.2" else "10.88.0.13/32",
        "protocol": 0,
        "action": "pass",
        "reason": reason,
    } in shunts


@pytest.mark.parametrize(
    ("version", "own", "peer", "spis"),
    [("4.10", "1", "2", ("0x845c8f79", "0x67417637")), ("5.2", "2", "1", ("0x67417637", "0x845c8f79"))],
)
def test_pair_of_a_mesh(version: str, own: str, peer: str, spis: tuple[str, str]) -> None:
    """Whose states name no peer: the connection does."""
    info = status.read_info(pluto(version, "mesh-"))
    found = {connection["name"]: connection for connection in info["connections"]}
    assert found["underlay-data+h1+h2"] == {
        "name": "underlay-data+h1+h2",
        "instance": None,
        "local": f"10.88.0.1{own}",
        "remote": f"10.88.0.1{peer}",
        "peer_id": f"@h{peer}",
        "routed": True,
        "trapped": True,
        "type": "transport",
        "role": "connection",
        "opportunistic": False,
        "failure": None,
    }
    assert found["underlay-six+h1+h2"]["remote"] == f"fd88::1{peer}"
    assert found["underlay-data-clear-10.88.0.0-24-tcp-0-22"]["type"] == "pass"
    sas = [(sa["name"], sa["instance"], sa["established"]) for sa in info["ike_sas"]]
    assert sas == [("underlay-data+h1+h2", None, True), ("underlay-six+h1+h2", None, True)]
    assert info["child_sas"][0] == {
        "serial": 3,
        "name": "underlay-data+h1+h2",
        "instance": None,
        "peer": None,
        "state": "ESTABLISHED_CHILD_SA",
        "established": True,
        "newest": True,
        "ike_serial": 1,
        "spi_out": spis[0],
        "spi_in": spis[1],
        "bytes_in": 384,
        "bytes_out": 384,
        "peer_id": f"@h{peer}",
    }
    assert info["shunts"] == []


WORDS4 = "IKEv2+ECDSA+ENCRYPT+PFS+UP+IKE_FRAG_ALLOW+ESN_NO+ESN_YES"
WORDS5 = "IKEv2+ECDSA+ENCRYPT+TRANSPORT+PFS{}+IKE_FRAG_ALLOW+ESN_NO+ESN_YES"


@pytest.mark.parametrize(
    ("routing", "words", "routed", "trapped"),
    [
        ("unrouted; eroute owner: #0", WORDS4, False, False),
        ("prospective erouted; eroute owner: #0", WORDS4, True, True),
        ("erouted; eroute owner: #6", WORDS4, True, True),
        ("fail erouted; eroute owner: #0", f"{WORDS4}+failurePASS", True, False),
        ("unrouted; my_ip=unset", WORDS5.format(""), False, False),
        ("routed-ondemand; my_ip=unset", WORDS5.format("+ROUTE"), True, True),
        ("routed-tunnel; my_ip=unset", WORDS5.format("+ROUTE"), True, True),
        ("routed-tunnel; my_ip=unset", WORDS5.format(""), True, False),
        ("routed-failure; my_ip=unset", f"{WORDS5.format('')}+failurePASS", True, False),
    ],
)
def test_policy_that_outlives_the_sa_of_its_pair(
    routing: str, words: str, routed: bool, trapped: bool
) -> None:
    """A policy that is there for the SA alone goes with it in 5.x; 4.x puts a trap in its place."""
    (found,) = status.parse_connections(
        f'"underlay-data+h1+h2": 10.88.0.11[@h1]...10.88.0.12[@h2]; {routing};\n'
        f'"underlay-data+h1+h2":   policy: {words};\n'
    )
    assert (found["routed"], found["trapped"]) == (routed, trapped)


def test_half_open_states() -> None:
    text = (
        '000 #4: "underlay-data-private#10.88.0.0/24"[3] ...10.88.0.13:500 STATE_V2_PARENT_I1 '
        "(sent IKE_SA_INIT request); RETRANSMIT in 4s; REPLACE in 60s; idle;"
    )
    ike, child = status.parse_states(text)
    assert (len(ike), child) == (1, [])
    assert (ike[0]["state"], ike[0]["established"]) == ("PARENT_I1", False)


def test_without_pluto_everything_is_empty() -> None:
    info = status.read_info(silent)  # type: ignore[arg-type]
    assert info == {"running": False, "connections": [], "ike_sas": [], "child_sas": [], "shunts": []}
    assert status.read_traffic(silent) == []  # type: ignore[arg-type]
