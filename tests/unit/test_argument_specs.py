# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each role documents its variables in argument_specs, and its defaults are the documented ones."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
ROLES = sorted(path.name for path in (ROOT / "roles").iterdir() if (path / "tasks").is_dir())
EVERY_ROLE = pytest.mark.parametrize("role", ROLES)
# The variables of a role's user; everything else is the role's own.
PUBLIC = re.compile(r"ipsec_[a-z0-9_]+")
PRIVATE = re.compile(r"__ipsec_[a-z0-9_]+")


def load(role: str, path: str) -> dict[str, Any]:
    """Return a YAML file of the role, empty if there is none."""
    file = ROOT / "roles" / role / path
    return (yaml.safe_load(file.read_text(encoding="utf-8")) or {}) if file.exists() else {}


def entry_points(role: str) -> dict[str, dict[str, Any]]:
    """Return entry point → variable → its documentation."""
    specs = load(role, "meta/argument_specs.yml").get("argument_specs", {})
    return {name: spec.get("options") or {} for name, spec in specs.items()}


def documented(role: str) -> dict[str, dict[str, Any]]:
    """Return the variables of all entry points of the role."""
    return {name: option for options in entry_points(role).values() for name, option in options.items()}


def registered(role: str) -> set[str]:
    """Return the names of variables that the role's tasks set."""
    names: set[str] = set()

    def walk(node: object) -> None:
        if isinstance(node, dict):
            if isinstance(node.get("register"), str):
                names.add(node["register"])
            names.update(name for name in node.get("ansible.builtin.set_fact") or {} if name != "cacheable")
            for child in node.values():
                walk(child)
        elif isinstance(node, list):
            for child in node:
                walk(child)

    for path in (ROOT / "roles" / role).glob("*/*.yml"):
        if path.parent.name in ("tasks", "handlers"):
            walk(yaml.safe_load(path.read_text(encoding="utf-8")))
    return names


def test_there_are_roles() -> None:
    assert ROLES


@EVERY_ROLE
def test_entry_points_are_task_files(role: str) -> None:
    assert "main" in entry_points(role)
    tasks = {path.stem for path in (ROOT / "roles" / role / "tasks").glob("*.yml")}
    assert set(entry_points(role)) <= tasks


@EVERY_ROLE
def test_documented_defaults_are_the_real_ones(role: str) -> None:
    defaults = load(role, "defaults/main.yml")
    claimed = {name: option["default"] for name, option in documented(role).items() if "default" in option}
    assert claimed == {name: value for name, value in defaults.items() if PUBLIC.fullmatch(name)}


@EVERY_ROLE
def test_required_variables_have_no_default(role: str) -> None:
    required = {name for name, option in documented(role).items() if option.get("required")}
    assert not required & set(load(role, "defaults/main.yml"))


@EVERY_ROLE
def test_names_tell_who_a_variable_belongs_to(role: str) -> None:
    assert [name for name in documented(role) if not PUBLIC.fullmatch(name)] == []
    private = {*load(role, "vars/main.yml"), *registered(role)}
    if role == "tripleo":
        # It is there to set what the user of the role plan sets.
        private -= documented("plan").keys()
    assert [name for name in private if not PRIVATE.fullmatch(name)] == []
    defaults = load(role, "defaults/main.yml")
    assert [name for name in defaults if not (PUBLIC.fullmatch(name) or PRIVATE.fullmatch(name))] == []


def test_roles_agree_on_the_variables_they_share() -> None:
    def facts(option: dict[str, Any]) -> dict[str, Any]:
        return {key: option.get(key) for key in ("type", "elements", "choices", "default", "required")}

    seen: dict[str, tuple[str, dict[str, Any]]] = {}
    disagreements = []
    for role in ROLES:
        for name, option in documented(role).items():
            first, said = seen.setdefault(name, (role, facts(option)))
            if said != facts(option):
                disagreements.append(f"{name}: {first} and {role}")
    assert disagreements == []
