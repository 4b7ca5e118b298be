# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The action establish: runs the module of that name in slices of time, and says how far it is in between."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan.establish import ENDPOINT_SECONDS

# Enough for most meshes, so that there is only one.
_SLICE_SECONDS = 10.0
_NAMES = 5


def progress(result: Mapping[str, Any]) -> str:
    """Return how many pairs are up, and what the first of the others wait for."""
    missing = result["missing"]
    silent = [endpoint for endpoint in result["endpoints"] if not endpoint["established"]]
    waiting = [
        f"{pair['member']} ({': '.join(filter(None, (pair['network'], pair['reason'])))})" for pair in missing
    ]
    waiting += [f"the endpoint {e['name']}{' (' + e['reason'] + ')' if e['reason'] else ''}" for e in silent]
    parts = [f"{result['pairs'] - len(missing)} of {result['pairs']} pairs are up"] if result["pairs"] else []
    if waiting:
        more = f" and {len(waiting) - _NAMES} more" if len(waiting) > _NAMES else ""
        parts.append(f"waiting for {', '.join(waiting[:_NAMES])}{more}")
    return "; ".join(parts)


def waits(answer: Mapping[str, Any], elapsed: float) -> bool:
    """Return whether another slice may bring what is missing; an endpoint may never answer."""
    silent = not all(endpoint["established"] for endpoint in answer.get("endpoints", ()))
    return bool(answer.get("missing")) or (silent and elapsed < ENDPOINT_SECONDS)


class ActionModule(ActionBase):
    """See the documentation of the module of the same name."""

    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the result of the task."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        variables = task_vars or {}
        host = variables["inventory_hostname"]
        arguments = dict(self._task.args)
        timeout = float(arguments.get("timeout", 60))
        started = time.monotonic()
        begun: set[str] = set()
        elapsed = 0.0
        while True:
            arguments.update(timeout=min(_SLICE_SECONDS, timeout - elapsed), elapsed=elapsed)
            answer = self._execute_module(
                module_name="underlay.ipsec.establish", module_args=arguments, task_vars=variables
            )
            begun.update(answer.get("begun", ()))
            elapsed = time.monotonic() - started
            if elapsed >= timeout or not waits(answer, elapsed):
                break
            self._display.display(f"  {host}: {progress(answer)}")
        result.update(answer)
        if "missing" in result:
            result.update(begun=sorted(begun), changed=not begun.issubset(result["unestablished"]))
            if result["unestablished"]:
                result["msg"] = progress(result)
        return result
