# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""By which certificate each peer authenticated."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.underlay.ipsec.plugins.module_utils._probe.authenticated import (
    parse_subjects,
    read_authenticated,
)
from ansible_collections.underlay.ipsec.plugins.module_utils._probe.host import Target
from ansible_collections.underlay.ipsec.plugins.module_utils._probe.wire import Route
from ansible_collections.underlay.ipsec.plugins.module_utils._run import Completed

SAMPLES = Path(__file__).parent / "samples"
OPPORTUNISTIC = '"underlay-data-private#10.88.0.0/24"[4] ...10.88.0.13 '
V4 = (
    "{which} established IKE SA; authenticated peer 'P-384 ECDSA with SHA2_512' digital signature "
    "using peer certificate 'O=underlay.ipsec, CN={name}' issued by CA 'O=underlay.ipsec, CN=ca'"
)
V5 = (
    "{which} established IKE SA; authenticated peer certificate 'O=underlay.ipsec, CN={name}' and P-384 ECDSA "
    "with SHA2_512 digital signature issued by 'O=underlay.ipsec, CN=ca'"
)
REKEYED = "{which} rekeyed IKE SA #{old} {{cipher=AES_GCM_16_256 integ=n/a prf=HMAC_SHA2_384 group=DH20}}"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "crossed",
            {1: "O=underlay.ipsec, CN=h2", 10: "O=underlay.ipsec, CN=h3", 8: "O=underlay.ipsec, CN=h4"},
        ),
        ("debian13", {29: "O=underlay.ipsec, CN=h1"}),
        ("rejected", {15: "O=underlay.ipsec, CN=h2"}),
    ],
)
def test_what_pluto_wrote(name: str, expected: dict[int, str]) -> None:
    assert parse_subjects((SAMPLES / f"journal-{name}.txt").read_text()) == expected


@pytest.mark.parametrize("template", [V4, V5])
@pytest.mark.parametrize("which", ["initiator", "responder"])
@pytest.mark.parametrize("prefix", [OPPORTUNISTIC, '"underlay-data+h1+h2" '])
def test_rekeyed_sas_have_the_certificate_of_the_first(template: str, which: str, prefix: str) -> None:
    lines = [
        f"{prefix}#3: {template.format(which=which, name='h2')}",
        f"{prefix}#7: {REKEYED.format(which='initiator', old=3)}",
        f"{prefix}#9: {REKEYED.format(which='responder', old=7)}",
        f"{prefix}#11: {REKEYED.format(which=which, old=10)}",
    ]
    subject = "O=underlay.ipsec, CN=h2"
    # journalctl --grep begins with the last line.
    assert parse_subjects("\n".join(lines)) == parse_subjects("\n".join(reversed(lines)))
    assert parse_subjects("\n".join(lines)) == {3: subject, 7: subject, 9: subject}


@pytest.mark.parametrize(
    "line",
    [
        "",
        f"{OPPORTUNISTIC}#3: initiator established Child SA using #2; IPsec transport",
        f"{OPPORTUNISTIC}#3: initiator established IKE SA; authenticated peer using authby=secret",
    ],
)
def test_lines_without_a_certificate(line: str) -> None:
    assert parse_subjects(line) == {}


class FakeHost:
    """Answers by the beginning of the command."""

    def __init__(self, answers: Mapping[str, tuple[int, str, str]]) -> None:
        self.answers = answers
        self.asked: list[str] = []

    def __call__(self, argv: Any, **_options: Any) -> Completed:
        command = " ".join(argv)
        self.asked.append(command)
        found = next(
            (answer for start, answer in self.answers.items() if command.startswith(start)), (1, "", "")
        )
        return Completed(tuple(argv), *found)


STATES = "\n".join(
    [
        '#5: "underlay-data-private#10.88.0.0/24"[2] ...10.88.0.13:500 ESTABLISHED_IKE_SA (established IKE SA); REKEY in 9s; idle;',
        '#6: "underlay-data-private#10.88.0.0/24"[2] ...10.88.0.13:500 ESTABLISHED_CHILD_SA (established Child SA); IKE SA #5; idle;',
        '#7: "underlay-data+h1+h2":500 ESTABLISHED_IKE_SA (established IKE SA); REKEY in 9s; newest; idle;',
        '#8: "underlay-endpoint+gate":500 ESTABLISHED_IKE_SA (established IKE SA); REKEY in 9s; newest; idle;',
        '#9: "underlay-data+h1+h2":500 V2_PARENT_I1 (sent IKE_SA_INIT request); RETRANSMIT in 9s; idle;',
    ]
)
TARGETS = [
    Target("h2", "data", Route("10.88.0.11", "10.99.0.12"), nat_address="10.88.0.50"),
    Target("h3", "data", Route("10.88.0.11", "10.88.0.13")),
    Target("h4", "data", Route("10.88.0.11", "10.88.0.14")),
]
NAMED = {"underlay-data+h1+h2": "10.88.0.50", "underlay-endpoint+gate": "192.0.2.7"}
JOURNAL = f"{OPPORTUNISTIC}#5: {V5.format(which='responder', name='h3')}\n"


def test_established_sas_with_peers() -> None:
    host = FakeHost(
        {
            "ipsec whack": (0, STATES, ""),
            "systemctl show": (0, "0123456789abcdef\n", ""),
            "journalctl _SYSTEMD_INVOCATION_ID=0123456789abcdef": (0, JOURNAL, ""),
        }
    )
    assert read_authenticated(host, TARGETS, NAMED) == [
        {"peer": "h3", "network": "data", "serial": 5, "certificate": "O=underlay.ipsec, CN=h3"},
        {"peer": "h2", "network": "data", "serial": 7, "certificate": None},
    ]


@pytest.mark.parametrize(
    ("answers", "asked"),
    [
        pytest.param({}, 1, id="pluto does not run"),
        pytest.param({"ipsec whack": (0, STATES, "")}, 2, id="no systemd"),
        pytest.param(
            {"ipsec whack": (0, STATES, ""), "systemctl": (0, "ab\n", ""), "journalctl": (1, "", "")},
            3,
            id="nothing in the journal",
        ),
        pytest.param(
            {
                "ipsec whack": (0, STATES, ""),
                "systemctl": (0, "ab\n", ""),
                "journalctl": (1, "", "Compiled without pattern matching support"),
            },
            4,
            id="no regular expressions",
        ),
    ],
)
def test_unknown(answers: dict[str, tuple[int, str, str]], asked: int) -> None:
    host = FakeHost(answers)
    assert [entry["certificate"] for entry in read_authenticated(host, TARGETS, NAMED)] == [None] * (
        2 if asked > 1 else 0
    )
    assert len(host.asked) == asked


def test_the_id_of_a_pair_is_not_taken_for_a_subject() -> None:
    line = (
        "\"underlay-data+h1+h3\" #4: initiator established IKE SA; authenticated peer certificate '@h3' and "
        "P-384 ECDSA with SHA2_512 digital signature issued by 'O=x, CN=ca'\n"
    )
    assert parse_subjects(line) == {}
