# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Holding negotiations up where pairs have the kernel's policies."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan import pause
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan.render import Network
from ansible_collections.underlay.ipsec.plugins.module_utils._probe.xfrm import read_policies
from ansible_collections.underlay.ipsec.plugins.module_utils._run import Completed
from ansible_collections.underlay.ipsec.tests.unit.plugins.module_utils._libreswan.meshes import DATA, SIX

# What 4.10 and 5.2 made of a mesh, both the same.
PAIR = """\
src 10.88.0.1/32 dst 10.88.0.2/32
\tdir out priority 1753281 ptype main
\ttmpl src 0.0.0.0 dst 0.0.0.0
\t\tproto esp reqid 16389 mode transport
src 10.88.0.2/32 dst 10.88.0.1/32
\tdir in priority 1753281 ptype main
\ttmpl src 0.0.0.0 dst 0.0.0.0
\t\tproto esp reqid 16389 mode transport
"""
PAIR6 = """\
src fd88::1/128 dst fd88::2/128
\tdir out priority 1703937 ptype main
\ttmpl src :: dst ::
\t\tproto esp reqid 16401 mode transport
"""
EXCEPTION = """\
src 10.88.0.1/32 dst 10.88.0.0/24 proto tcp sport 22
\tdir out priority 1360081 ptype main
"""
GROUP = """\
src 10.88.0.1/32 dst 10.88.0.0/24
\tdir out priority 2801873 ptype main
\ttmpl src 0.0.0.0 dst 0.0.0.0
\t\tproto esp reqid 0 mode transport
"""
SHUNT = """\
src 10.88.0.1/32 dst 10.88.0.3/32
\tdir out priority 1753290 ptype main
"""
ELSEWHERE = PAIR.replace("dst 10.88.0.2", "dst 10.99.0.2").replace("1753281", "1999999")


class Kernel:
    """Answers with policies, and remembers what it is told."""

    def __init__(self, policies: str) -> None:
        self.policies = policies
        self.changes: list[str] = []

    def __call__(
        self, argv: Sequence[str], *, stdin: str | None = None, check: bool = True, timeout: float = 1.0
    ) -> Completed:
        words = " ".join(argv)
        if not ({"update", "delete"} & set(argv)):
            return Completed(tuple(argv), 0, self.policies, "")
        self.changes.append(words)
        return Completed(tuple(argv), 0, "", "")


@pytest.mark.parametrize(
    ("network", "policies", "expected"),
    [
        (DATA, "", None),
        (DATA, PAIR6, None),
        (DATA, PAIR, 1753283),
        (DATA, PAIR + SHUNT + ELSEWHERE, 1753283),
        (DATA, PAIR + EXCEPTION, 1753283),
        (DATA, GROUP + EXCEPTION, 2801873),
        (DATA, PAIR + PAIR.replace("0.2/", "0.3/").replace("1753281", "1753300"), 1753302),
        (SIX, PAIR + PAIR6, 1703939),
        (DATA, GROUP, 2801873),
        (DATA, PAIR + GROUP, 2801873),
        (DATA, ELSEWHERE, None),
    ],
)
def test_priority_of_what_asks_for_sas(network: Network, policies: str, expected: int | None) -> None:
    kernel = Kernel(policies)
    assert pause._trap_priority(network, read_policies(kernel)) == expected


def test_hold_lets_pairs_alone() -> None:
    """They stand in front of it; what comes into force behind them does not ask before it ends."""
    kernel = Kernel(PAIR + PAIR6)
    pause.hold([DATA, SIX], kernel, 30, lower_only=False, action="block")
    assert kernel.changes == [
        "ip xfrm policy update src 10.88.0.0/24 dst 10.88.0.0/24 dir out priority 1753282 action block limit time-hard 30",
        "ip xfrm policy update src fd88::/64 dst fd88::/64 dir out priority 1703938 action block limit time-hard 30",
    ]


def test_release_in_a_mesh_needs_no_order() -> None:
    """One end of each pair begins anyway."""
    kernel = Kernel(PAIR)
    pause.release([DATA, SIX], kernel, 5, ordered=False)
    assert kernel.changes == [
        "ip xfrm policy delete src 10.88.0.0/24 dst 10.88.0.0/24 dir out",
        "ip xfrm policy delete src fd88::/64 dst fd88::/64 dir out",
    ]


def test_release_of_groups_is_in_favour_of_lower_peers() -> None:
    kernel = Kernel(GROUP.replace("10.88.0.1/", "10.88.0.4/"))
    network = Network(**{**vars(DATA), "address": "10.88.0.4"})
    pause.release([network], kernel, 5, ordered=True)
    assert kernel.changes == [
        "ip xfrm policy update src 10.88.0.0/24 dst 10.88.0.0/30 dir out priority 2801872 action block limit time-hard 5",
        "ip xfrm policy delete src 10.88.0.0/24 dst 10.88.0.0/24 dir out",
    ]
