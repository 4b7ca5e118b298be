# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sign the certificate requests of all hosts at once, on the control node."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.underlay.ipsec.plugins.module_utils._errors import (
    IpsecError,
    Problem,
    ProblemsError,
)
from ansible_collections.underlay.ipsec.plugins.module_utils._pki.folder import Folder
from ansible_collections.underlay.ipsec.plugins.module_utils._pki.result import failure
from ansible_collections.underlay.ipsec.plugins.module_utils._pki.signing import (
    Entitlement,
    record,
    sign,
)
from ansible_collections.underlay.ipsec.plugins.module_utils._registered import registered


class ActionModule(ActionBase):
    """See the documentation of the module of the same name."""

    _supports_async = False
    _supports_check_mode = True
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        _validation, args = self.validate_argument_spec(
            {
                "dir": {"type": "path", "required": True},
                "passphrase": {"type": "str", "no_log": True},
                "requests": {"type": "str", "required": True},
                "plan_dir": {"type": "path", "required": True},
                "reinstate": {"type": "list", "elements": "str", "default": []},
            }
        )
        folder = Folder(args["dir"])
        answers = dict(registered(task_vars or {}, (task_vars or {})["ansible_play_batch"], args["requests"]))
        wanting = {
            host: answer.get("csr") or ""
            for host, answer in answers.items()
            if answer.get("state") == "requested"
        }
        reported = {
            host: answer["certificate"]
            for host, answer in answers.items()
            if answer.get("state") == "valid" and answer.get("certificate")
        }
        result.update(changed=bool(wanting), signed=[], recorded=[], issued_dir=folder.issued_path)
        if self._task.check_mode:
            return result
        now = datetime.now(UTC).replace(microsecond=0)
        try:
            if reported and folder.exists:
                result["recorded"] = record(folder, reported, now)
            if wanting:
                entitlements = _entitlements(Path(args["plan_dir"]) / "hosts", wanting)
                result["signed"] = sign(
                    folder, args["passphrase"], wanting, entitlements, now, args["reinstate"]
                )
        except (IpsecError, OSError) as error:
            return {**result, "changed": False, **failure(error, "No certificate has been signed.")}
        result["changed"] = bool(result["signed"] or result["recorded"])
        return result


def _entitlements(slices: Path, members: Mapping[str, str]) -> dict[str, Entitlement]:
    """Return what the plan allows each of *members*; raise `ProblemsError` for those that it does not know."""
    found: dict[str, Entitlement] = {}
    problems = []
    for member in members:
        try:
            plan = json.loads((slices / f"{member}.json").read_text(encoding="utf-8"))
            found[member] = Entitlement.from_slice(member, plan["certificate"])
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            problems.append(
                Problem(
                    f"the plan in {slices.parent} does not say which names it may have",
                    "Run the role underlay.ipsec.plan first, for this host too",
                    host=member,
                )
            )
    if problems:
        raise ProblemsError(problems)
    return found
