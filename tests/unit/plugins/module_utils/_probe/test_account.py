# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pluto's account, from what libreswan 4.10 and 5.2 really wrote to the journal."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.underlay.ipsec.plugins.module_utils._probe.account import (
    parse_accounts,
    read_accounts,
)
from ansible_collections.underlay.ipsec.plugins.module_utils._run import Completed

SAMPLES = Path(__file__).parent / "samples"


@pytest.mark.parametrize(
    ("name", "peer", "cause", "clause"),
    [
        ("debian12", "10.88.0.12", "no_response", "the peer does not answer IKE"),
        ("debian12", "10.88.0.13", "proposal", "no common algorithms (NO_PROPOSAL_CHOSEN)"),
        (
            "debian12",
            "10.88.0.14",
            "certificate",
            "the peer's certificate is invalid (SEC_ERROR_UNKNOWN_ISSUER)",
        ),
        ("debian13", "10.88.0.11", "proposal", "no common algorithms (NO_PROPOSAL_CHOSEN)"),
        ("debian13", "10.88.0.12", "no_response", "the peer does not answer IKE"),
        (
            "rejected",
            "10.88.0.11",
            "authentication",
            "the peer rejects the authentication (AUTHENTICATION_FAILED)",
        ),
        (
            "crossed",
            "10.88.0.13",
            "crossed",
            "both ends negotiated at the same time and each dropped the other's SA",
        ),
    ],
)
def test_account(name: str, peer: str, cause: str, clause: str) -> None:
    text = (SAMPLES / f"journal-{name}.txt").read_text(encoding="utf-8")
    account = parse_accounts(text, [peer])[peer]
    assert (account.cause, account.clause) == (cause, clause)


LINE = '{time}.5 h1 pluto[7]: "underlay-data-private#10.88.0.0/24"[1] ...{peer} #3: {text}'
REJECTED = "IKE SA authentication request rejected by peer: AUTHENTICATION_FAILED"
SILENT = "STATE_V2_PARENT_I1: retransmission; will wait 4 seconds for response"


@pytest.mark.parametrize(
    ("lines", "cause"),
    [
        ([(100, "10.88.0.12", REJECTED), (110, "10.88.0.12", SILENT)], "authentication"),
        ([(100, "10.88.0.12", REJECTED), (200, "10.88.0.12", SILENT)], "no_response"),
        ([(100, "10.88.0.1", REJECTED)], None),
        ([(100, "10.88.0.123", REJECTED)], None),
        ([(100, "10.88.0.12", "responder established IKE SA")], None),
    ],
    ids=["the same attempt", "a later attempt", "a prefix", "a longer one", "nothing wrong"],
)
def test_which_lines_count(lines: list[tuple[int, str, str]], cause: str | None) -> None:
    text = "\n".join(LINE.format(time=time, peer=peer, text=said) for time, peer, said in lines)
    accounts = parse_accounts(text, ["10.88.0.12"])
    assert (accounts["10.88.0.12"].cause if accounts else None) == cause


def test_addresses_are_compared_as_addresses() -> None:
    text = f"1.5 h1 pluto[7]: packet from [fd88::12]:500: {SILENT}"
    assert set(parse_accounts(text, ["fd88:0::12"])) == {"fd88:0::12"}


def test_without_a_journal_there_is_no_account() -> None:
    def run(argv: list[str], **_options: object) -> Completed:
        return Completed(tuple(argv), 127, "", "journalctl is not installed")

    assert read_accounts(run, 1000.0, ["10.88.0.12"]) == {}  # type: ignore[arg-type]


def test_lines_that_name_a_connection_and_no_address() -> None:
    text = f'100.5 h1 pluto[7]: "underlay-endpoint+gate" #3: {REJECTED}\n'
    assert parse_accounts(text, ["192.0.2.1"]) == {}
    found = parse_accounts(text, ["192.0.2.1"], {"underlay-endpoint+gate": "192.0.2.1"})
    assert found["192.0.2.1"].cause == "authentication"
