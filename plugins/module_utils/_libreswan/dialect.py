# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What differs between the generations of libreswan, and nothing else.

The command line of ``ipsec whack`` and ``ipsec addconn`` is the same in 4.x and 5.x;
the shell script ``ipsec auto`` in front of it is not, so it is never used.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ansible_collections.underlay.ipsec.plugins.module_utils._errors import Problem, ProblemsError
from ansible_collections.underlay.ipsec.plugins.module_utils._run import Runner

OLDEST = (4, 0)
_VERSION = re.compile(r"[Ll]ibreswan v?(\d+)\.(\d+)")


@dataclass(frozen=True)
class Dialect:
    """One generation's way of saying things."""

    major: int
    minor: int

    @property
    def ikev2(self) -> tuple[str, str]:
        """The keyword that allows IKEv2 only (5.x knows the old one too, but warns)."""
        return ("keyexchange", "ikev2") if self.major >= 5 else ("ikev2", "insist")

    @property
    def tries(self) -> tuple[tuple[str, str], ...]:
        """How often a pair begins again by itself when nobody answers.

        Pluto 4.x has two ways to do so and takes both: a second Child SA comes after the first one, and may end up one-way.
        This leaves the one that is for connections which are to stay up.
        """
        return (("keyingtries", "1"),) if self.major < 5 else ()

    @property
    def hands_over(self) -> bool:
        """Whether a new pluto may take over from the running one without touching what is in the kernel.

        5.x clears the kernel's SAs and policies when it starts.
        """
        return self.major < 5

    @property
    def keeps_keys(self) -> bool:
        """Whether a thread may go on signing while pluto is told to listen, for which it reads its keys again.

        Older ones free the keys meanwhile, and may die of it.
        """
        return (self.major, self.minor) >= (5, 2)

    @property
    def expire_superseded(self) -> str:
        """What makes pluto look at once, not hours later, whether an IKE SA is superseded, for ``whack --impair``."""
        return "event-v2-rekey" if self.major < 5 else "trigger_v2_rekey"

    @property
    def leaves_pairs_broken(self) -> bool:
        """Whether pluto leaves SAs without their outbound policy, or blocks a peer by an SA that outlived its use."""
        return self.major < 5

    @property
    def traps_what_ends(self) -> bool:
        """Whether pluto traps the traffic of a pair whose SA ended though it was not asked to.

        5.x does not, and with a failure shunt refuses every later SA of the pair instead.
        """
        return self.major < 5


def parse_version(text: str) -> Dialect | None:
    """Return the dialect for the output of ``ipsec --version``; None if that isn't libreswan's."""
    found = _VERSION.search(text)
    return Dialect(int(found.group(1)), int(found.group(2))) if found else None


def detect(run: Runner) -> Dialect | None:
    """Return this host's dialect, None without libreswan.

    Raises `ProblemsError` for a generation that is too old to be driven.
    """
    answer = run(["ipsec", "--version"], check=False)
    dialect = parse_version(answer.stdout) if answer.rc == 0 else None
    if dialect and (dialect.major, dialect.minor) < OLDEST:
        raise ProblemsError(
            [
                Problem(
                    f"libreswan {dialect.major}.{dialect.minor} is installed; the oldest supported is 4.0",
                    "Upgrade libreswan on this host",
                )
            ]
        )
    return dialect
