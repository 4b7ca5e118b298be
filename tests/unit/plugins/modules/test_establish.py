# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module establish, on a host whose pluto knows one pair."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from ansible_collections.underlay.ipsec.plugins.module_utils._run import Completed
from ansible_collections.underlay.ipsec.plugins.modules import establish

STATES = """\
#1: "underlay-data+h1+h2":500 ESTABLISHED_IKE_SA (established IKE SA); newest; idle;
#3: "underlay-data+h1+h2":500 ESTABLISHED_CHILD_SA (established Child SA); newest; IKE SA #1; idle;
"""


def pluto(argv: Sequence[str], **_options: object) -> Completed:
    return Completed(tuple(argv), 0, STATES if "--showstates" in argv else "", "")


def peer(number: int) -> dict[str, Any]:
    return {"network": "data", "member": f"h{number}", "fqdn": f"h{number}", "address": f"10.88.0.{number}"}


@pytest.mark.parametrize(
    ("peers", "missing"), [([], []), ([2], []), ([3, 2], ["h3"]), ([4, 2, 3], ["h3", "h4"])]
)
def test_it_names_the_peers_without_an_sa(
    monkeypatch: pytest.MonkeyPatch, peers: list[int], missing: list[str]
) -> None:
    monkeypatch.setattr(establish, "host_runner", lambda: pluto)
    result = establish._run(
        {
            "member": "h1",
            "peers": list(map(peer, peers)),
            "vips": [],
            "endpoints": [],
            "timeout": 0.0,
            "elapsed": 0.0,
        }
    )
    assert (result["changed"], result["pairs"], result["begun"]) == (False, len(peers), [])
    assert result["missing"] == [{"member": name, "network": "data", "reason": ""} for name in missing]


def test_reason_of_a_peer_behind_nat_is_at_its_nat_address(monkeypatch: pytest.MonkeyPatch) -> None:
    def log(argv: Sequence[str], **_options: object) -> Completed:
        if argv[0] != "journalctl":
            return pluto(argv)
        line = (
            '1.0 h1 pluto[1]: "x" #7: 10.88.0.50: IKE_AUTH response rejected Child SA with TS_UNACCEPTABLE\n'
        )
        return Completed(tuple(argv), 0, line, "")

    monkeypatch.setattr(establish, "host_runner", lambda: log)
    nat = {**peer(3), "address": "10.99.0.13", "nat_address": "10.88.0.50"}
    result = establish._run(
        {"member": "h1", "peers": [nat], "vips": [], "endpoints": [], "timeout": 0.0, "elapsed": 0.0}
    )
    assert "TS_UNACCEPTABLE" in result["missing"][0]["reason"]
