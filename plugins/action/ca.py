# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Create, adopt or change the certificate authority, on the control node."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.underlay.ipsec.plugins.module_utils._errors import IpsecError
from ansible_collections.underlay.ipsec.plugins.module_utils._pki import authority, chain, lifecycle
from ansible_collections.underlay.ipsec.plugins.module_utils._pki.folder import Folder
from ansible_collections.underlay.ipsec.plugins.module_utils._pki.keys import KEY_TYPES
from ansible_collections.underlay.ipsec.plugins.module_utils._pki.result import failure, lists
from ansible_collections.underlay.ipsec.plugins.module_utils._pki.revocation import iso


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
                "source": {"type": "str", "choices": list(lifecycle.SOURCES), "default": "ca"},
                "certificate": {"type": "path"},
                "key": {"type": "path", "no_log": False},
                "key_passphrase": {"type": "str", "no_log": True},
                "serial_file": {"type": "path"},
                "crl_validity_days": {"type": "int", "default": 90},
                "crl": {"type": "bool", "default": False},
                "rollover": {"type": "str", "choices": list(lifecycle.ROLLOVERS), "default": "none"},
            }
        )
        now = datetime.now(UTC).replace(microsecond=0)
        folder = Folder(args["dir"])
        same = ("source", "certificate", "key", "key_passphrase", "serial_file", "rollover", "crl")
        wanted = lifecycle.Wanted(
            passphrase=args["passphrase"],
            key_type=args["key_type"],
            validity_days=args["validity_days"],
            crl_validity=timedelta(days=args["crl_validity_days"]),
            **{name: args[name] for name in same},
        )
        try:
            served = lifecycle.serve(folder, wanted, now, check=self._task.check_mode)
        except (IpsecError, OSError) as error:
            return {**result, **failure(error, "Nothing has been changed.")}
        current = served.current
        warnings = list(served.warnings)
        if current and args["cert_validity_days"] and wanted.source == "ca":
            warnings += authority.warnings(current.certificate, now, args["cert_validity_days"])
        if warnings:
            result["warnings"] = warnings
        result.update(
            changed=bool(served.changes),
            certificate=chain.pem(current.certificate) if current else None,
            fingerprint=chain.fingerprint(current.certificate) if current else None,
            subject=current.certificate.subject.rfc4514_string() if current else None,
            not_after=iso(current.certificate.not_valid_after_utc) if current else None,
            authorities=[chain.pem(each) for each in served.authorities],
            phase=served.phase,
            revoked=list(served.revoked),
            serial_file=current.serial_file if current else None,
            **lists(served.crls),
        )
        if served.changes:
            result["diff"] = {
                "before": {},
                "after": {"folder": folder.path, "subject": result["subject"], "done": list(served.changes)},
            }
        return result
