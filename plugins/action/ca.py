# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Create or adopt the certificate authority, on the control node."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.underlay.ipsec.plugins.module_utils._errors import IpsecError
from ansible_collections.underlay.ipsec.plugins.module_utils._pki.authority import Authority
from ansible_collections.underlay.ipsec.plugins.module_utils._pki.folder import Folder
from ansible_collections.underlay.ipsec.plugins.module_utils._pki.keys import KEY_TYPES
from ansible_collections.underlay.ipsec.plugins.module_utils._pki.result import failure


class ActionModule(ActionBase):
    """See the documentation of the module of the same name."""

    _supports_async = False
    _supports_check_mode = True
    _supports_diff = True
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        _validation, args = self.validate_argument_spec(
            {
                "dir": {"type": "path", "required": True},
                "passphrase": {"type": "str", "no_log": True},
                "validity_days": {"type": "int", "default": 3650},
                "cert_validity_days": {"type": "int"},
                "key_type": {"type": "str", "choices": list(KEY_TYPES), "default": "ecdsa-p384"},
            }
        )
        now = datetime.now(UTC).replace(microsecond=0)
        folder = Folder(args["dir"])
        try:
            opened = folder.ensure(
                args["passphrase"],
                args["key_type"],
                args["validity_days"],
                now,
                check=self._task.check_mode,
            )
        except (IpsecError, OSError) as error:
            return {**result, **failure(error, "Nothing has been changed.")}
        authority = opened.authority
        warnings = list(opened.warnings)
        if authority and args["cert_validity_days"]:
            warnings += authority.warnings(now, args["cert_validity_days"])
        if warnings:
            result["warnings"] = warnings
        result.update(
            changed=opened.created,
            certificate=authority.pem if authority else None,
            fingerprint=authority.fingerprint if authority else None,
            subject=authority.subject if authority else None,
            not_after=_expiry(authority) if authority else None,
        )
        if opened.created:
            result["diff"] = {
                "before": {},
                "after": {
                    "folder": folder.path,
                    "subject": authority.subject if authority else "underlay.ipsec CA",
                    "validity_days": args["validity_days"],
                    "key_type": args["key_type"],
                },
            }
        return result


def _expiry(authority: Authority) -> str:
    return authority.certificate.not_valid_after_utc.strftime("%Y-%m-%dT%H:%M:%SZ")
