# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What hosts answered to ``nss_request``, and what the plan allows them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ansible_collections.underlay.ipsec.plugins.module_utils._errors import Problem, ProblemsError
from ansible_collections.underlay.ipsec.plugins.module_utils._pki.signing import Entitlement


def wanting(answers: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Return the request (PEM) of each host that wants a certificate."""
    return {
        host: answer.get("csr") or ""
        for host, answer in answers.items()
        if answer.get("state") == "requested"
    }


def reported(answers: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Return the certificate (PEM) of each host that has a valid one."""
    return {
        host: answer["certificate"]
        for host, answer in answers.items()
        if answer.get("state") == "valid" and answer.get("certificate")
    }


def entitlements(plan_dir: str, members: Iterable[str]) -> dict[str, Entitlement]:
    """Return what the plan in *plan_dir* allows each of *members*.

    Raises `ProblemsError` for those that it does not know.
    """
    found: dict[str, Entitlement] = {}
    problems = []
    for member in members:
        try:
            plan = json.loads(Path(plan_dir, "hosts", f"{member}.json").read_text(encoding="utf-8"))
            found[member] = Entitlement.from_slice(member, plan["certificate"])
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            problems.append(
                Problem(
                    f"the plan in {plan_dir} does not say which names it may have",
                    "Run the role underlay.ipsec.plan first, for this host too",
                    host=member,
                )
            )
    if problems:
        raise ProblemsError(problems)
    return found
