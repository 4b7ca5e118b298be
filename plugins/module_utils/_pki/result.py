# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How what becomes of the CA, or goes wrong with it, becomes the result of an action."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ansible_collections.underlay.ipsec.plugins.module_utils._errors import IpsecError, Problem, ProblemsError
from ansible_collections.underlay.ipsec.plugins.module_utils._files import problem_from_os
from ansible_collections.underlay.ipsec.plugins.module_utils._pki.revocation import Crl, iso


def failure(error: IpsecError | OSError, consequence: str) -> dict[str, Any]:
    """Return the failed result for *error*: a list to read and as data, and what follows from it."""
    problems: Sequence[Problem] = ()
    if isinstance(error, ProblemsError):
        problems = error.problems
    elif isinstance(error, OSError):
        problems = [problem_from_os(error)]
    said = [str(problem) for problem in problems] or [str(error)]
    text = said[0] if len(said) == 1 else "\n".join(f"{n}. {line}" for n, line in enumerate(said, start=1))
    count = "" if len(said) == 1 else f"There are {len(said)} problems. "
    return {
        "failed": True,
        "msg": f"{text}\n{consequence}" if len(said) == 1 else f"{count}{consequence}\n{text}",
        "problems": [problem.as_dict() for problem in problems],
    }


def lists(crls: Sequence[Crl]) -> dict[str, Any]:
    """Return the revocation lists for a result: that of the CA that signs, and all."""
    return {
        "crl": next((crl.pem for crl in crls if crl.slot == "ca"), None),
        "crls": [crl.pem for crl in crls],
        "crl_not_after": iso(min(crl.not_after for crl in crls)) if crls else None,
    }
