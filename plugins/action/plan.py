# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The action plan: collects what the controller knows of all members, and hands it to the pure core."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase
from ansible.template import Templar
from ansible_collections.underlay.ipsec.plugins.module_utils._errors import IpsecError, ProblemsError
from ansible_collections.underlay.ipsec.plugins.module_utils._model import tripleo
from ansible_collections.underlay.ipsec.plugins.module_utils._model.cluster import (
    Host,
    HostAddress,
    HostFacts,
    Unreadable,
    host_addresses,
)
from ansible_collections.underlay.ipsec.plugins.module_utils._model.typed import Spec
from ansible_collections.underlay.ipsec.plugins.module_utils._model.variables import PREFIX
from ansible_collections.underlay.ipsec.plugins.module_utils._plan.build import make_plan, problem_text
from ansible_collections.underlay.ipsec.plugins.module_utils._plan.write import write_plan

_SPECS = Path(__file__).parents[2] / "roles" / "plan" / "meta" / "argument_specs.yml"
_HOST_INFO = "__ipsec_host_info"
_CACHED_ADDRESSES = "__ipsec_addresses"
TRANSLATION = "__ipsec_tripleo"
"""The result of the action tripleo, if it ran."""


def _is_plain(value: Any) -> bool:
    """Return whether *value* is what it is without templating: most are, and templating takes its time."""
    if isinstance(value, str):
        return "{" not in value
    if isinstance(value, Mapping):
        return all(_is_plain(key) and _is_plain(item) for key, item in value.items())
    if isinstance(value, list):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, (bool, int, float))


def cached_addresses(facts: Mapping[str, Any]) -> tuple[HostAddress, ...] | None:
    """Return the addresses in a host's cached facts, host_info's or else setup's; None if there are none."""
    if _CACHED_ADDRESSES in facts:
        return host_addresses(facts[_CACHED_ADDRESSES])
    if "interfaces" not in facts:
        return None
    found = []
    for interface in facts["interfaces"]:
        fact = facts.get(interface.replace("-", "_").replace(":", "_"), {})
        ipv4 = [fact["ipv4"]] if "ipv4" in fact else []
        for secondary, entries in (
            (False, ipv4 + fact.get("ipv6", [])),
            (True, fact.get("ipv4_secondaries", [])),
        ):
            for entry in entries:
                address = ipaddress.ip_address(entry["address"])
                if not address.is_loopback and not address.is_link_local:
                    found.append(HostAddress(interface, address, int(entry["prefix"]), secondary))
    return tuple(found)


class ActionModule(ActionBase):
    """Plan the cluster."""

    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the result of the task; plugins/modules/plan.py documents it."""
        super().run(tmp, task_vars)
        variables = task_vars or {}
        _result, args = self.validate_argument_spec(
            {
                "group": {"type": "str", "required": True},
                "directory": {"type": "path", "required": True},
                "without": {"type": "list", "elements": "str", "default": []},
            }
        )
        names = variables["groups"].get(args["group"], [])
        hosts = [
            self._translated(self._host(name, variables), variables)
            for name in names
            if name not in args["without"]
        ]
        try:
            plan = make_plan(
                hosts,
                args["group"],
                self._specs(),
                groups=variables["groups"],
                play_hosts=variables["ansible_play_batch"],
                check_mode=self._task.check_mode,
            )
            write_plan(plan, Path(args["directory"]))
        except ProblemsError as error:
            problems = [problem.as_dict() for problem in error.problems]
            return {
                "failed": True,
                "changed": False,
                "msg": problem_text(error.problems),
                "problems": problems,
            }
        except IpsecError as error:
            return {"failed": True, "changed": False, "msg": str(error), "problems": []}
        return {
            "changed": False,
            "plan_dir": args["directory"],
            "digest": plan.document["digest"],
            "members": len(plan.document["members"]),
            "networks": len(plan.document["networks"]),
            "warnings": plan.document["warnings"],
        }

    @staticmethod
    def _specs() -> Mapping[str, Spec]:
        with _SPECS.open() as file:
            options: Mapping[str, Spec] = yaml.safe_load(file)["argument_specs"]["main"]["options"]
        return options

    @staticmethod
    def _translated(host: Host, task_vars: Mapping[str, Any]) -> Host:
        """Return *host* in the words of the cluster model, if the action tripleo has read the inventory."""
        translation = task_vars.get(TRANSLATION)
        if translation is None:
            return host
        facts = host.facts
        if facts is not None:
            # The option goes with what else tripleo-ipsec has left.
            facts = replace(facts, setup=tripleo.without_former_option(facts.setup))
        variables = tripleo.variables_of(host.name, host.variables, translation)
        return replace(host, variables=variables, facts=facts)

    def _host(
        self,
        name: str,
        task_vars: Mapping[str, Any],
        matters: Callable[[str], bool] = lambda key: key.startswith(PREFIX),
    ) -> Host:
        """Return what is known of the host *name*, which this play works on or not."""
        hostvars = task_vars["hostvars"]
        # hostvars[name] would leave out what the play and the role set, and template through a proxy.
        raw = self._task.get_variable_manager().get_vars(
            play=self._task.get_play(), host=hostvars._inventory.get_host(name), task=self._task
        )
        templar = Templar(loader=self._loader, variables=raw)

        def value(key: str) -> Any:
            found = raw.get(key)
            if _is_plain(found):
                return found
            try:
                return templar.template(found)
            except AnsibleError as error:
                return Unreadable(str(error).rstrip("."))

        # Registered results do not outlive the run, and the one of an unreachable host has no addresses.
        info = raw.get(_HOST_INFO, {})
        reached = "addresses" in info
        ansible_host = value("ansible_host") or value("ansible_ssh_host")
        return Host(
            name=name,
            variables={key: value(key) for key in raw if matters(key)},
            facts=HostFacts.from_info(info) if reached else None,
            cached=None if reached else cached_addresses(raw["ansible_facts"]),
            ansible_host=ansible_host if isinstance(ansible_host, str) else None,
        )
