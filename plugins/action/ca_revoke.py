# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Revoke the certificates of members, on the control node."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.underlay.ipsec.plugins.module_utils._errors import IpsecError
from ansible_collections.underlay.ipsec.plugins.module_utils._pki.folder import Folder
from ansible_collections.underlay.ipsec.plugins.module_utils._pki.result import failure, lists
from ansible_collections.underlay.ipsec.plugins.module_utils._pki.revocation import REASONS, revoke


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
                "members": {"type": "list", "elements": "str", "required": True},
                "reason": {"type": "str", "choices": list(REASONS), "default": "unspecified"},
                "crl_validity_days": {"type": "int", "default": 90},
            }
        )
        try:
            done = revoke(
                Folder(args["dir"]),
                args["passphrase"],
                args["members"],
                args["reason"],
                timedelta(days=args["crl_validity_days"]),
                datetime.now(UTC).replace(microsecond=0),
                check=self._task.check_mode,
            )
        except (IpsecError, OSError) as error:
            return {**result, **failure(error, "No certificate has been revoked.")}
        result.update(
            changed=done.changed,
            revoked=[
                {
                    "member": entry.member,
                    "serial": entry.serial,
                    "subject": entry.subject,
                    "names": list(entry.names),
                }
                for entry in done.entries
            ],
            **lists(done.crls),
        )
        return result
