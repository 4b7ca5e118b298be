# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is let in and dropped, on the way from one state to another, and for one connection."""

from __future__ import annotations

import ipaddress
import itertools
import json
from typing import Any

import pytest
from ansible_collections.underlay.ipsec.plugins.module_utils._firewall.rules import (
    Rules,
    Session,
    drops,
    on_the_way,
    read_rules,
)

OWN = "10.88.0.11/32"
NET = "10.88.0.0/24"


def closed(*remote: str, clear: tuple[str, ...] = (), name: str = "data", local: str = OWN) -> dict[str, Any]:
    return {"network": name, "local": [local], "remote": list(remote), "clear": list(clear)}


def rules(*entries: dict[str, Any], let_in: tuple[str, ...] = (NET,), clamp: tuple[Any, ...] = ()) -> Rules:
    return read_rules({"open": list(let_in), "closed": list(entries), "clamp": list(clamp)})


def peer(address: str, network: str = "data") -> dict[str, str]:
    return {"network": network, "member": "h2", "fqdn": "h2", "address": address}


NOTHING = Rules()
OPEN = rules()
OPPORTUNISTIC = rules(closed(NET))
EXCEPTION = rules(closed(NET, clear=("10.88.0.1/32",)))
OTHER = rules(closed(NET, clear=("10.88.0.64/26 tcp 22 0",)))
MESH = rules(closed("10.88.0.12/32", "10.88.0.13/32"))
GROWN = rules(closed("10.88.0.12/32", "10.88.0.13/32", "10.88.0.14/32"))
TWO = rules(closed(NET), closed("fd88::/64", name="six", local="fd88::11/128"), let_in=(NET, "fd88::/64"))
WIDER = rules(closed("10.88.0.0/23"), let_in=("10.88.0.0/23",))
GATE = closed("10.88.0.70/32", name="endpoint gate")
ENDPOINT = rules(GATE, closed(NET))
ENDPOINT_AND_EXCEPTION = rules(GATE, closed(NET, clear=("10.88.0.1/32",)))
ELSEWHERE = rules(closed("10.99.0.0/24", local="10.99.0.11/32"), let_in=("10.99.0.0/24",))

# present, wanted → what is closed on the way
WAYS: list[tuple[str, Rules, Rules, Rules]] = [
    ("the first run", NOTHING, OPPORTUNISTIC, OPEN),
    ("private to clear", OPPORTUNISTIC, NOTHING, OPEN),
    ("nothing", NOTHING, NOTHING, NOTHING),
    ("an exception more", OPPORTUNISTIC, EXCEPTION, EXCEPTION),
    ("an exception less", EXCEPTION, OPPORTUNISTIC, EXCEPTION),
    (
        "another exception",
        EXCEPTION,
        OTHER,
        rules(closed(NET, clear=("10.88.0.64/26 tcp 22 0", "10.88.0.1/32"))),
    ),
    ("a peer joins", MESH, GROWN, MESH),
    ("a peer leaves", GROWN, MESH, MESH),
    ("opportunistic to mesh", OPPORTUNISTIC, MESH, MESH),
    ("mesh to opportunistic", MESH, OPPORTUNISTIC, MESH),
    ("a network less", TWO, OPPORTUNISTIC, rules(closed(NET), let_in=(NET, "fd88::/64"))),
    ("a network more", OPPORTUNISTIC, TWO, rules(closed(NET), let_in=(NET, "fd88::/64"))),
    ("a wider network", OPPORTUNISTIC, WIDER, rules(closed(NET), let_in=(NET, "10.88.0.0/23"))),
    ("a narrower network", WIDER, OPPORTUNISTIC, rules(closed(NET), let_in=(NET, "10.88.0.0/23"))),
    ("another network", OPPORTUNISTIC, ELSEWHERE, rules(let_in=(NET, "10.99.0.0/24"))),
    ("an endpoint more", OPPORTUNISTIC, ENDPOINT, OPPORTUNISTIC),
    ("an endpoint less", ENDPOINT, OPPORTUNISTIC, OPPORTUNISTIC),
    ("another address", OPPORTUNISTIC, rules(closed(NET, local="10.88.0.21/32")), OPEN),
]


@pytest.mark.parametrize(("present", "wanted", "expected"), [w[1:] for w in WAYS], ids=[w[0] for w in WAYS])
def test_on_the_way(present: Rules, wanted: Rules, expected: Rules) -> None:
    assert on_the_way(present, wanted) == expected


def test_on_the_way_has_the_name_and_the_clamps_that_are_wanted() -> None:
    clamp = {"interface": "vxlan100", "cidr": None, "mtu": 1388}
    wanted = rules(closed(NET, name="renamed"), clamp=(clamp,))
    assert on_the_way(OPPORTUNISTIC, wanted) == wanted
    assert on_the_way(wanted, OPPORTUNISTIC) == OPPORTUNISTIC


ALL = (
    NOTHING,
    OPEN,
    OPPORTUNISTIC,
    EXCEPTION,
    OTHER,
    MESH,
    GROWN,
    TWO,
    WIDER,
    ELSEWHERE,
    ENDPOINT,
    ENDPOINT_AND_EXCEPTION,
)
SESSIONS = [
    Session(ipaddress.ip_address(remote), remote_port, ipaddress.ip_address(local), local_port)
    for remote, local in (
        *(
            (f"10.88.{last}", own)
            for last in ("0.1", "0.12", "0.14", "0.70", "1.1")
            for own in ("10.88.0.11", "10.88.0.21")
        ),
        ("fd88::1", "fd88::11"),
        ("10.99.0.1", "10.99.0.11"),
    )
    for remote_port, local_port in ((22, 50000), (50000, 22), (50000, 8080))
]


@pytest.mark.parametrize("present", ALL)
@pytest.mark.parametrize("wanted", ALL)
def test_what_is_dropped_on_the_way_is_dropped_before_and_afterwards(present: Rules, wanted: Rules) -> None:
    way = on_the_way(present, wanted)
    for session in SESSIONS:
        assert drops(way, session) == (drops(present, session) and drops(wanted, session))
    assert set(way.open) == {*present.open, *wanted.open}


@pytest.mark.parametrize("same", ALL)
def test_who_has_arrived_stays_there(same: Rules) -> None:
    assert on_the_way(same, same) == same


@pytest.mark.parametrize(("present", "wanted"), list(itertools.permutations(ALL, 2)))
def test_the_first_step_is_made_once(present: Rules, wanted: Rules) -> None:
    way = on_the_way(present, wanted)
    assert on_the_way(way, wanted) == way


@pytest.mark.parametrize(
    ("clear", "remote", "remote_port", "local_port", "expected"),
    [
        ((), "10.88.0.1", 50000, 22, True),
        ((), "10.89.0.1", 50000, 22, False),
        ((), "fd88::1", 50000, 22, False),
        (("10.88.0.1/32",), "10.88.0.1", 50000, 22, False),
        (("10.88.0.1/32",), "10.88.0.2", 50000, 22, True),
        (("10.88.0.0/24 tcp 22 0",), "10.88.0.1", 50000, 22, False),
        (("10.88.0.0/24 tcp 22 0",), "10.88.0.1", 50000, 2222, True),
        (("10.88.0.0/24 tcp 0 22",), "10.88.0.1", 50000, 22, True),
        (("10.88.0.0/24 tcp 0 22",), "10.88.0.1", 22, 50000, False),
        (("10.88.0.0/24 tcp 22 50000",), "10.88.0.1", 50000, 22, False),
        (("10.88.0.0/24 tcp 22 50000",), "10.88.0.1", 50001, 22, True),
        (("10.88.0.0/24 6 22 0",), "10.88.0.1", 50000, 22, False),
        (("10.88.0.0/24 udp 22 0",), "10.88.0.1", 50000, 22, True),
        (("10.88.0.0/24 icmp 0 0",), "10.88.0.1", 50000, 22, True),
        (("10.88.0.64/26 tcp 22 0",), "10.88.0.1", 50000, 22, True),
        (("10.88.0.0/24 udp 0 0", "10.88.0.1/32 tcp 22 0"), "10.88.0.1", 50000, 22, False),
    ],
)
def test_drops(
    clear: tuple[str, ...], remote: str, remote_port: int, local_port: int, expected: bool
) -> None:
    local = "fd88::11" if ":" in remote else "10.88.0.11"
    session = Session(ipaddress.ip_address(remote), remote_port, ipaddress.ip_address(local), local_port)
    assert drops(rules(closed(NET, clear=clear)), session) is expected


def test_a_session_to_another_address_of_the_host_is_not_dropped() -> None:
    session = Session(ipaddress.ip_address("10.88.0.1"), 50000, ipaddress.ip_address("10.77.0.11"), 22)
    assert not drops(OPPORTUNISTIC, session)


def test_peers_complete_what_is_closed_in_a_mesh() -> None:
    data = {
        "open": [NET],
        "closed": [closed("192.0.2.1/32", name="endpoint gate"), closed(), closed(name="other")],
        "clamp": [],
    }
    found = read_rules(data, [peer("10.88.0.13"), peer("10.88.0.12"), peer("10.88.0.12")])
    assert [(entry.network, [str(cidr) for cidr in entry.remote]) for entry in found.closed] == [
        ("endpoint gate", ["192.0.2.1/32"]),
        ("data", ["10.88.0.12/32", "10.88.0.13/32"]),
    ]
    assert read_rules(data).closed == found.closed[:1]


@pytest.mark.parametrize(
    "known",
    [
        *ALL,
        rules(
            closed(
                NET, "fd88::/64", clear=("10.88.0.1/32", "10.88.0.0/24 tcp 0 22", "fd88::/64 ipv6-icmp 0 0")
            ),
            clamp=(
                {"interface": "vxlan100", "cidr": None, "mtu": 1388},
                {"interface": "eth1", "cidr": "10.88.0.0/24", "mtu": 1438},
            ),
        ),
    ],
)
def test_what_is_written_down_is_read_again(known: Rules) -> None:
    assert read_rules(json.loads(json.dumps(known.as_dict()))) == known


def test_the_order_and_repetition_of_addresses_does_not_matter() -> None:
    assert rules(let_in=("fd88::/64", "10.88.0.0/24", "10.9.0.0/24", "10.88.0.0/24")) == rules(
        let_in=("10.9.0.0/24", "10.88.0.0/24", "fd88::/64")
    )


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        (NOTHING, False),
        (OPEN, True),
        (rules(closed(NET), let_in=()), True),
        (rules(let_in=(), clamp=({"interface": "vxlan100", "cidr": None, "mtu": 1388},)), True),
    ],
)
def test_whether_there_is_anything_to_do(known: Rules, expected: bool) -> None:
    assert bool(known) is expected
