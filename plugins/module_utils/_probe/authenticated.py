# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""By which certificate each peer authenticated. Pluto says so once, in its journal, when the IKE SA is established."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan.status import parse_states
from ansible_collections.underlay.ipsec.plugins.module_utils._probe.host import Target
from ansible_collections.underlay.ipsec.plugins.module_utils._run import Runner

# A rekey every hour with a thousand peers fills it in four days; what is older is not known.
_LINES = 100000
_TIMEOUT_SECONDS = 30.0
_OF_INTEREST = "(established|rekeyed) IKE SA"

# 4.10: …; authenticated peer 'P-384 ECDSA with SHA2_512' digital signature using peer certificate 'O=x, CN=h3' issued by CA 'O=x, CN=ca'
# 5.2: …; authenticated peer certificate 'O=x, CN=h4' and P-384 ECDSA with SHA2_512 digital signature issued by 'O=x, CN=ca'
_ESTABLISHED = re.compile(
    r" #(?P<serial>\d+): (?:initiator|responder) established IKE SA;.*? peer certificate '(?P<subject>.*?)' (?:issued by|and) "
)
_REKEYED = re.compile(r" #(?P<serial>\d+): (?:initiator|responder) rekeyed IKE SA #(?P<old>\d+)")


def read_authenticated(
    run: Runner, targets: Iterable[Target], connections: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Return the module's ``authenticated``: each established IKE SA with one of *targets*.

    *connections* is the name of a connection with one peer → the address of that peer.
    """
    done = run(["ipsec", "whack", "--showstates"], check=False)
    states = [state for state in parse_states(done.stdout)[0] if state["established"]]
    subjects = parse_subjects(_journal(run)) if states else {}
    peers = {target.reached_at: target for target in targets}
    return list(_described(states, peers, connections, subjects))


def _described(
    states: Iterable[Mapping[str, Any]],
    peers: Mapping[str, Target],
    connections: Mapping[str, str],
    subjects: Mapping[int, str],
) -> Iterator[dict[str, Any]]:
    for state in states:
        target = peers.get(state["peer"] or connections.get(state["name"], ""))
        if target:
            yield {
                "peer": target.peer,
                "network": target.network,
                "serial": state["serial"],
                "certificate": subjects.get(state["serial"]),
            }


def parse_subjects(text: str) -> dict[int, str]:
    """Return the subject of the certificate that the peer showed, by the number of the IKE SA.

    *text* is what one run of pluto wrote to the journal: another one counts from 1 again. An SA that is
    rekeyed has the certificate of the one before, however many there were in between.
    """
    subjects: dict[int, str] = {}
    older: dict[int, int] = {}
    for line in text.splitlines():
        established, rekeyed = _ESTABLISHED.search(line), _REKEYED.search(line)
        # Of a pair of a mesh, pluto names the id instead: @h3.
        if established and "=" in established["subject"]:
            subjects[int(established["serial"])] = established["subject"]
        elif rekeyed:
            older[int(rekeyed["serial"])] = int(rekeyed["old"])
    # Numbers grow, so that what was rekeyed comes first.
    for serial in sorted(older):
        if older[serial] in subjects:
            subjects[serial] = subjects[older[serial]]
    return subjects


def _journal(run: Runner) -> str:
    """Return what the service wrote in its present run about IKE SAs; nothing if there is no journal."""
    asked = ["systemctl", "show", "--property=InvocationID", "--value", "ipsec.service"]
    invocation = run(asked, check=False).stdout.strip()
    if not invocation:
        return ""
    command = [
        "journalctl", f"_SYSTEMD_INVOCATION_ID={invocation}", "--output=cat", "--no-pager", "--quiet", f"--lines={_LINES}",
    ]  # fmt: skip
    done = run([*command, f"--grep={_OF_INTEREST}"], check=False, timeout=_TIMEOUT_SECONDS)
    if done.rc != 0 and "support" in done.stderr:
        # A journalctl that was built without regular expressions.
        done = run(command, check=False, timeout=_TIMEOUT_SECONDS)
    return done.stdout if done.rc == 0 else ""
