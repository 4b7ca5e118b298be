# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sign the certificate requests of all hosts at once, on the control node."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.underlay.ipsec.plugins.module_utils._errors import IpsecError
from ansible_collections.underlay.ipsec.plugins.module_utils._pki.answers import (
    entitlements,
    reported,
    wanting,
)
from ansible_collections.underlay.ipsec.plugins.module_utils._pki.folder import Folder
from ansible_collections.underlay.ipsec.plugins.module_utils._pki.result import failure
from ansible_collections.underlay.ipsec.plugins.module_utils._pki.signing import record, sign
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
        variables = task_vars or {}
        answers = dict(registered(variables, variables["ansible_play_batch"], args["requests"]))
        requests = wanting(answers)
        certificates = reported(answers)
        result.update(changed=bool(requests), signed=[], recorded=[], issued_dir=folder.issued_path)
        if self._task.check_mode:
            return result
        now = datetime.now(UTC).replace(microsecond=0)
        try:
            if certificates and folder.exists:
                result["recorded"] = record(folder, certificates, now)
            if requests:
                allowed = entitlements(args["plan_dir"], requests)
                result["signed"] = sign(folder, args["passphrase"], requests, allowed, now, args["reinstate"])
        except (IpsecError, OSError) as error:
            return {**result, "changed": False, **failure(error, "No certificate has been signed.")}
        result["changed"] = bool(result["signed"] or result["recorded"])
        return result
