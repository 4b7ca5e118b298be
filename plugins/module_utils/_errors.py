# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The errors that the pure core raises.

Nothing below ``module_utils`` calls ``fail_json``: functions raise one of these,
and only the module or action plugin on top turns it into Ansible's result.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


class IpsecError(Exception):
    """Base class of every error that a user is meant to read."""


@dataclass(frozen=True, order=True)
class Problem:
    """One thing that is wrong, in the words a user needs to put it right."""

    message: str
    """What is wrong, as a sentence without a final full stop."""
    remedy: str
    """What to do about it, as an instruction."""
    variable: str | None = None
    """The variable at fault, for example ``ipsec_networks[0].cidr``."""
    host: str | None = None
    """The inventory name of the host at fault; None if it is the cluster's."""

    def __str__(self) -> str:
        where = ": ".join(part for part in (self.host, self.variable) if part)
        return f"{where}: {self.message}. {self.remedy}" if where else f"{self.message}. {self.remedy}"

    def as_dict(self) -> dict[str, str | None]:
        """Return the problem as data for a task's result or a report."""
        return {"host": self.host, "variable": self.variable, "message": self.message, "remedy": self.remedy}


class ProblemsError(IpsecError):
    """One or more problems, found together and reported together."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems: tuple[Problem, ...] = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class CommandError(IpsecError):
    """A command could not be run, or failed.

    The message names the program only: arguments may be long, and whoever knows
    what the command was for says more than its argument list would.
    """

    def __init__(self, argv: Sequence[str], rc: int, stdout: str, stderr: str) -> None:
        self.argv: tuple[str, ...] = tuple(argv)
        self.rc = rc
        self.stdout = stdout
        self.stderr = stderr
        said = (stderr.strip() or stdout.strip() or "it printed nothing").splitlines()
        super().__init__(f"{' '.join(self.argv[:2])} failed with exit status {rc}: {' / '.join(said[-3:])}")
