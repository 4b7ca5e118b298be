# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The action nss_pkcs12: reads a bundle on the control node and hands it to the module of that name."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

with suppress(ImportError):  # always there with ansible-core, but not where its sanity tests import this
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.serialization import pkcs12

from ansible.plugins.action import ActionBase
from ansible_collections.underlay.ipsec.plugins.module_utils._errors import (
    IpsecError,
    Problem,
    ProblemsError,
)
from ansible_collections.underlay.ipsec.plugins.module_utils._nss.member import staged
from ansible_collections.underlay.ipsec.plugins.module_utils._pki.bundle import (
    Contents,
    check_bundle,
    read_bundle,
)
from ansible_collections.underlay.ipsec.plugins.module_utils._pki.result import failure


class ActionModule(ActionBase):
    """See the documentation of the module of the same name."""

    _supports_async = False
    _supports_check_mode = True
    _supports_diff = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        variables = task_vars or {}
        _validation, args = self.validate_argument_spec(
            {
                "nickname": {"type": "str", "required": True},
                "bundle": {"type": "path", "required": True},
                "password": {"type": "str", "no_log": True},
                "password_file": {"type": "path", "no_log": False},
                "ca_certificate": {"type": "str", "required": True},
                "ca_nickname": {"type": "str", "default": "underlay-ca"},
                "authorities": {"type": "list", "elements": "str", "default": []},
                "nss_dir": {"type": "path"},
                "metrics_dir": {"type": "path"},
            },
            mutually_exclusive=[("password", "password_file")],
        )
        try:
            made = travelling(args, variables["inventory_hostname"], datetime.now(UTC))
        except (IpsecError, OSError) as error:
            return {**result, **failure(error, "Nothing has been changed.")}
        if not self._is_pipelining_enabled("new"):
            result["warnings"] = [
                "The way that Ansible becomes root on this host does not allow pipelining: the bundle is in a file "
                "in its temporary folder there while the module runs"
            ]
        arguments = {
            key: value for key, value in args.items() if value is not None and key != "password_file"
        }
        answer = self._execute_module(
            module_name="underlay.ipsec.nss_pkcs12", module_args={**arguments, **made}, task_vars=variables
        )
        result.update(answer)
        return result

    def _is_pipelining_enabled(self, module_style: str, wrap_async: bool = False) -> bool:
        """Return whether the module gets to the host without a file there: whatever is configured, if it can."""
        become = self._connection.become
        return bool(
            module_style == "new" and self._connection.has_pipelining and (not become or become.pipelining)
        )


def travelling(args: Mapping[str, Any], host: str, now: datetime) -> dict[str, str]:
    """Return the options of the module that the bundle and its password become. Raises `ProblemsError`."""
    path = args["bundle"]
    password = args.get("password")
    if args.get("password_file"):
        try:
            lines = (
                _read(args["password_file"], "ipsec_pkcs12_password_file", host).decode("utf-8").splitlines()
            )
        except UnicodeDecodeError:
            raise _problem(
                f"{args['password_file']} is not text",
                "Write the password into it",
                "ipsec_pkcs12_password_file",
                host,
            ) from None
        password = lines[0] if lines else ""
    data = _read(path, "ipsec_pkcs12", host)
    authorities = "\n".join([args["ca_certificate"], *args["authorities"]]).encode()
    facts = check_bundle(data, password, authorities, frozenset(), now, path=path, host=host)
    once = secrets.token_urlsafe(32)
    contents = read_bundle(data, password, path=path, host=host)
    packed = pack(contents, staged(args["nickname"]), once)
    return {
        "contents": base64.b64encode(packed).decode("ascii"),
        "password": once,
        "certificate": facts.leaf_pem,
    }


def pack(contents: Contents, nickname: str, password: str) -> bytes:
    """Return a bundle with the key and its certificate only, which NSS files under *nickname*."""
    return pkcs12.serialize_key_and_certificates(
        nickname.encode(),
        contents.key,
        contents.leaf,
        None,
        serialization.BestAvailableEncryption(password.encode()),
    )


def _read(path: str, variable: str, host: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise _problem(
            f"{path} cannot be read: {error.strerror}",
            "Correct the path, or put the file there",
            variable,
            host,
        ) from None


def _problem(message: str, remedy: str, variable: str, host: str) -> ProblemsError:
    return ProblemsError([Problem(message, remedy, variable, host)])
