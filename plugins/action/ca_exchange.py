# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Export the hosts' certificate requests, and take the certificates that come back."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.underlay.ipsec.plugins.module_utils._errors import IpsecError, ProblemsError
from ansible_collections.underlay.ipsec.plugins.module_utils._pki.answers import entitlements, wanting
from ansible_collections.underlay.ipsec.plugins.module_utils._pki.exchange import (
    Directory,
    exchange,
    to_sign,
)
from ansible_collections.underlay.ipsec.plugins.module_utils._pki.result import failure
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
                "requests": {"type": "str", "required": True},
                "plan_dir": {"type": "path", "required": True},
                "certificate": {"type": "str", "required": True},
            }
        )
        directory = Directory(args["dir"])
        variables = task_vars or {}
        answers = registered(variables, variables["ansible_play_batch"], args["requests"])
        requests = wanting(dict(answers))
        result.update(changed=bool(requests), exported=[], waiting=[], issued_dir=directory.issued_path)
        if self._task.check_mode or not requests:
            return result
        try:
            done = exchange(
                directory,
                requests,
                entitlements(args["plan_dir"], requests),
                args["certificate"].encode(),
                datetime.now(UTC).replace(microsecond=0),
            )
        except (IpsecError, OSError) as error:
            return {**result, "changed": False, **failure(error, "Nothing has been changed.")}
        result.update(
            changed=bool(done.exported or done.issued),
            exported=list(done.exported),
            waiting=list(done.waiting),
        )
        problems = list(done.problems)
        if done.waiting:
            problems.append(to_sign(directory, done.waiting))
        if problems:
            result.update(failure(ProblemsError(problems), "No certificate has been taken over."))
        return result
