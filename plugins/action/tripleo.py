# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The action tripleo: collects what the inventory of an overcloud says, and hands it to the pure core."""

from __future__ import annotations

from typing import Any

from ansible_collections.underlay.ipsec.plugins.action.plan import ActionModule as PlanAction
from ansible_collections.underlay.ipsec.plugins.module_utils._model.cluster import Problems
from ansible_collections.underlay.ipsec.plugins.module_utils._model.tripleo import Node, matters, translate
from ansible_collections.underlay.ipsec.plugins.module_utils._plan.build import problem_text


class ActionModule(PlanAction):
    """Translate the variables of an overcloud."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the result of the task; plugins/modules/tripleo.py documents it."""
        super(PlanAction, self).run(tmp, task_vars)
        variables = task_vars or {}
        _result, args = self.validate_argument_spec({"group": {"type": "str", "required": True}})
        problems = Problems()
        names = variables["groups"].get(args["group"], [])
        translation = translate(
            [self._node(name, variables) for name in names], variables["groups"], problems
        )
        if problems:
            return {
                "failed": True,
                "changed": False,
                "msg": problem_text(problems),
                "problems": [problem.as_dict() for problem in problems],
            }
        return {"changed": False, **translation.as_dict()}

    def _node(self, name: str, task_vars: dict[str, Any]) -> Node:
        host = self._host(name, task_vars, matters)
        known = host.facts.addresses if host.facts else host.cached
        return Node(name, host.variables, known or ())
