# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compare what the members observed with the plan, on the control node, once for all."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.underlay.ipsec.plugins.module_utils._files import problem_from_os, write_atomically
from ansible_collections.underlay.ipsec.plugins.module_utils._registered import registered
from ansible_collections.underlay.ipsec.plugins.module_utils._report.certificates import certificate_lines
from ansible_collections.underlay.ipsec.plugins.module_utils._report.compare import Scope, compare
from ansible_collections.underlay.ipsec.plugins.module_utils._report.html import render
from ansible_collections.underlay.ipsec.plugins.module_utils._report.matrix import (
    endpoint_lines,
    matrix_lines,
    problem_lines,
)
from ansible_collections.underlay.ipsec.plugins.module_utils._report.vips import vip_lines


class ActionModule(ActionBase):
    """See the documentation of the module of the same name."""

    _supports_async = False
    _supports_check_mode = True
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the result of the task."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        _validation, args = self.validate_argument_spec(
            {
                "plan_dir": {"type": "path", "required": True},
                "report_dir": {"type": "path", "required": True},
                "observed": {"type": "str", "required": True},
                "stage": {"type": "str", "default": "verify"},
            }
        )
        plan_dir, report_dir = Path(args["plan_dir"]), Path(args["report_dir"])
        try:
            plan = json.loads((plan_dir / "plan.json").read_text(encoding="utf-8"))
            scope = _scope(plan, task_vars or {}, args["observed"])
            if self._task.check_mode and not any("pairs" in answer for answer in scope.results.values()):
                return {**result, "skipped": True, "msg": "No member has been observed yet."}
            exceptions = {name: _exceptions(plan_dir, name) for name in scope.results}
            report = compare(plan, scope, exceptions, stage=args["stage"], now=datetime.now(UTC))
            check_mode = self._task.check_mode
            written = None if check_mode else _write(report, report_dir)
        except OSError as error:
            return {**result, "failed": True, "msg": str(problem_from_os(error))}
        text = _text(report, written)
        # A check run has not changed the hosts, so they need not be as planned yet.
        failed = not report["ok"] and not check_mode
        if not failed:
            self._display.display(text)
        return {
            **result,
            "changed": False,
            "failed": failed,
            "msg": text,
            "ok": report["ok"],
            "complete": report["complete"],
            "summary": report["summary"],
            "report": written,
        }


def _scope(plan: Mapping[str, Any], task_vars: Mapping[str, Any], name: str) -> Scope:
    """Collect the results that the probe's task registered as *name*."""
    left_play = frozenset(task_vars["ansible_play_hosts_all"]).difference(task_vars["ansible_play_hosts"])
    # With serial, the turn of the others is before or after: what they saw is not of now.
    targeted = left_play.union(task_vars["ansible_play_batch"]) & plan["members"].keys()
    results = {}
    for member, answer in registered(task_vars, targeted, name):
        # A host that has left the play may still have what it saw the time before.
        if member not in left_play or "pairs" not in answer:
            results[member] = answer
    return Scope(results, targeted)


def _exceptions(plan_dir: Path, member: str) -> list[str]:
    """Return the exceptions in the member's own slice."""
    plan = json.loads((plan_dir / "hosts" / f"{member}.json").read_text(encoding="utf-8"))
    return [entry for network in plan["libreswan"]["networks"] for entry in network["clear"]]


def _write(report: Mapping[str, Any], directory: Path) -> dict[str, str]:
    """Write both forms of the report and return their paths."""
    directory.mkdir(parents=True, exist_ok=True)
    files = {"json": json.dumps(report, indent=1) + "\n", "html": render(report)}
    paths = {form: str(directory / f"report.{form}") for form in files}
    for form, text in files.items():
        write_atomically(paths[form], text, mode=0o644)
    return paths


def _text(report: Mapping[str, Any], written: Mapping[str, str] | None) -> str:
    lines = problem_lines(report)
    if lines:
        count = len(report["problems"])
        lines.insert(0, f"Reality is not as planned: {count} {'problem' if count == 1 else 'problems'}.")
    lines += matrix_lines(report) + vip_lines(report) + endpoint_lines(report) + certificate_lines(report)
    if not report["complete"]:
        lines.append(f"Not part of this run, and not observed: {', '.join(report['not_in_this_run'])}")
    lines += [f"Warning: {warning}" for warning in report["warnings"]]
    if written:
        lines.append(f"Report: {written['html']}")
    return "\n".join(lines)
