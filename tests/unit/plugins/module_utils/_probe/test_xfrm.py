# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kernel states and policies, from what iproute2 of Debian 12 and 13 really printed."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.underlay.ipsec.plugins.module_utils._errors import IpsecError
from ansible_collections.underlay.ipsec.plugins.module_utils._probe import xfrm
from ansible_collections.underlay.ipsec.plugins.module_utils._run import Completed

SAMPLES = Path(__file__).parent / "samples"


def sample(name: str) -> str:
    return (SAMPLES / f"{name}.txt").read_text(encoding="utf-8")


def state(spi: str, packets: int, **changes: object) -> xfrm.State:
    values: dict[str, object] = {
        "source": "10.88.0.11",
        "destination": "10.88.0.12",
        "spi": spi,
        "reqid": 1,
        "mode": "transport",
        "cipher": "aes_gcm256",
        "encap": None,
        "bytes": packets * 64,
        "packets": packets,
    }
    return xfrm.State(**{**values, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "count", "first"),
    [
        (
            "state-debian12",
            6,
            xfrm.State("fd88::12", "fd88::11", "0x175edc3a", 16461, "transport", "aes_gcm256", None, 64, 1),
        ),
        (
            "state-debian13",
            8,
            xfrm.State(
                "10.88.0.13", "10.88.0.14", "0x5853e43e", 16457, "transport", "aes_gcm256", None, 4224, 66
            ),
        ),
    ],
)
def test_states_of_libreswan(name: str, count: int, first: xfrm.State) -> None:
    states = xfrm.parse_states(sample(name))
    assert len(states) == count
    assert states[0] == first
    assert {s.cipher for s in states} == {"aes_gcm256"}


@pytest.mark.parametrize(
    ("spi", "mode", "cipher", "encap"),
    [
        ("0x00001001", "tunnel", "aes_gcm256", "udp"),
        ("0x00001002", "transport", "aes256-sha2_512", None),
        ("0x00001003", "transport", "aes128-sha2_256", None),
        ("0x00001004", "transport", "chacha20_poly1305", None),
        ("0x00001005", "transport", xfrm.NULL_CIPHER, None),
        ("0x00001006", "transport", xfrm.NULL_CIPHER, None),
        ("0x00001007", "transport", "3des-sha1", None),
        ("0x00001008", "transport", "aes_gcm128", None),
        ("0x00001009", "transport", xfrm.NULL_CIPHER, None),
    ],
)
def test_algorithms_modes_and_encapsulation(spi: str, mode: str, cipher: str, encap: str | None) -> None:
    found = {s.spi: s for s in xfrm.parse_states(sample("algorithms"))}
    assert (found[spi].mode, found[spi].cipher, found[spi].encap) == (mode, cipher, encap)


def test_larval_states_and_other_protocols_are_left_out() -> None:
    text = "src 10.0.0.1 dst 10.0.0.2\n\tproto esp spi 0x00000000(0) reqid 0 mode transport\n"
    text += "src 10.0.0.1 dst 10.0.0.2\n\tproto comp spi 0x00001234(4660) reqid 0 mode transport\n"
    assert xfrm.parse_states(text) == []
    assert xfrm.parse_states("") == []


@pytest.mark.parametrize(
    ("name", "source", "destination", "kind"),
    [
        ("policy-debian12", "10.88.0.11", "10.88.0.12", "esp"),
        ("policy-debian12", "10.88.0.11", "10.88.0.99", "esp"),
        ("policy-debian12", "10.88.0.11", "10.88.0.1", "pass"),
        ("policy-debian12", "10.77.0.11", "10.77.0.12", None),
        ("policy-debian12", "fd88::11", "fd88::14", "esp"),
        ("policy-debian12", "fd88::11", "fd88::1", "pass"),
        ("policy-debian13", "10.88.0.13", "10.88.0.14", "esp"),
        ("policy-debian13", "fd88::13", "fd88::1", "pass"),
        ("policy-blocked", "10.88.0.11", "10.88.0.13", "block"),
        ("policy-passed", "10.88.0.13", "10.88.0.11", "pass"),
    ],
)
def test_decisive_policy(name: str, source: str, destination: str, kind: str | None) -> None:
    found = xfrm.Policies(xfrm.parse_policies(sample(name))).decisive(source, destination)
    assert (found.kind if found else None) == kind


def test_policies_of_sockets_are_left_out() -> None:
    assert "socket" in sample("policy-debian12")
    assert {p.direction for p in xfrm.parse_policies(sample("policy-debian12"))} == {"in", "out", "fwd"}


def policy(destination: str, priority: int, kind: str, protocol: str | None, port: int) -> xfrm.Policy:
    return xfrm.Policy("10.88.0.11/32", destination, protocol, 0, port, "out", priority, kind)


TRAP = policy("10.88.0.0/24", 500, "esp", None, 0)


@pytest.mark.parametrize(
    ("policies", "expected"),
    [
        ([TRAP], []),
        ([TRAP, policy("10.88.0.0/24", 400, "pass", "tcp", 22)], ["10.88.0.0/24 tcp 0 22"]),
        ([TRAP, policy("10.88.0.12/32", 400, "pass", "udp", 53)], ["10.88.0.12/32 udp 0 53"]),
        ([TRAP, policy("10.88.0.0/24", 600, "pass", "tcp", 22)], []),
        ([TRAP, policy("10.88.0.99/32", 400, "pass", "tcp", 22)], []),
        ([TRAP, policy("10.88.0.0/24", 400, "block", "tcp", 22)], []),
        ([TRAP, policy("10.88.0.0/24", 400, "pass", "icmp", 0)], []),
    ],
    ids=["none", "port", "one peer", "outranked", "another peer", "blocked", "icmp"],
)
def test_exceptions(policies: list[xfrm.Policy], expected: list[str]) -> None:
    assert xfrm.Policies(policies).exceptions("10.88.0.11", "10.88.0.12") == expected


@pytest.mark.parametrize(
    ("before", "after", "spi", "rise"),
    [
        ([state("0x01", 5)], [state("0x01", 8)], "0x01", 3),
        ([], [state("0x01", 3)], "0x01", 3),
        ([state("0x01", 9)], [state("0x02", 3)], "0x02", 3),
        ([state("0x01", 9), state("0x02", 1)], [state("0x01", 10), state("0x02", 3)], "0x02", 3),
        ([state("0x01", 9), state("0x02", 1)], [state("0x02", 1)], "0x02", 0),
        ([state("0x01", 9)], [state("0x02", 0), state("0x01", 9)], "0x02", 0),
    ],
    ids=["one", "new", "replaced", "two add up", "one went", "none counted"],
)
def test_flows(before: list[xfrm.State], after: list[xfrm.State], spi: str, rise: int) -> None:
    flow = xfrm.flows(before, after)["10.88.0.11", "10.88.0.12"]
    assert (flow.spi, flow.rise) == (spi, rise)
    assert flow.packets_after - flow.packets_before == rise


def test_a_flow_does_not_encrypt_if_one_of_its_busy_states_does_not() -> None:
    after = [state("0x01", 3), state("0x02", 1, cipher=xfrm.NULL_CIPHER)]
    assert xfrm.flows([], after)["10.88.0.11", "10.88.0.12"].cipher == xfrm.NULL_CIPHER


def test_a_failure_does_not_quote_the_output() -> None:
    def run(argv: object, **_options: object) -> Completed:
        return Completed(("ip",), 1, "aead rfc4106(gcm(aes)) 0xsecret", "")

    with pytest.raises(IpsecError, match="exit status 1") as caught:
        xfrm.read_states(run)
    assert "secret" not in str(caught.value)


def test_states_with_a_peer_behind_nat_have_its_own_address() -> None:
    states = [
        state("0x1", 1, source="10.88.0.11", destination="10.88.0.50"),
        state("0x1", 1, source="10.88.0.50", destination="10.88.0.11"),
        state("0x1", 1, source="10.88.0.11", destination="10.88.0.12"),
    ]
    found = [(state.source, state.destination) for state in xfrm.behind(states, {"10.88.0.50": "10.99.0.13"})]
    assert found == [
        ("10.88.0.11", "10.99.0.13"),
        ("10.99.0.13", "10.88.0.11"),
        ("10.88.0.11", "10.88.0.12"),
    ]
