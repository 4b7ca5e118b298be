#!/usr/bin/env python3
# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write docs/reference.md from the roles' argument_specs and the plugins' DOCUMENTATION."""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
REFERENCE = ROOT / "docs" / "reference.md"
COLLECTION = "underlay.ipsec"
PLUGIN_TYPES = {"module": "Modules", "filter": "Filters", "lookup": "Lookups"}
HEADER = """\
# Reference

<!-- Written by `make docs` from the roles' argument_specs and the modules' documentation: change those. -->

"""
MARKUP = re.compile(r"\b([BCEIMOPRUV]|RV|L)\(((?:\\.|[^\\)])*)\)")


def prose(text: str | Sequence[str]) -> str:
    """Return Ansible's documentation markup as Markdown, its paragraphs joined by a space."""
    joined = text if isinstance(text, str) else " ".join(text)

    def replace(match: re.Match[str]) -> str:
        kind, body = match[1], re.sub(r"\\(.)", r"\1", match[2])
        if kind == "B":
            return f"**{body}**"
        if kind == "I":
            return f"*{body}*"
        if kind == "U":
            return f"<{body}>"
        if kind in ("L", "R"):
            label, _comma, target = body.rpartition(",")
            return f"[{label}]({target.strip()})" if kind == "L" else label
        if kind in ("O", "P", "RV") and "#" in body:
            # P(plugin#type) names a plugin, O(plugin#type:option) an option of another one.
            plugin, _hash, rest = body.partition("#")
            option = rest.partition(":")[2]
            return f"`{option}` of `{plugin}`" if option else f"`{plugin}`"
        return f"`{body}`"

    return re.sub(r"\s+", " ", MARKUP.sub(replace, joined)).strip()


def literal(value: object) -> str:
    """Return a default or choice as it is written in YAML."""
    plain = isinstance(value, str) and value
    return f"`{value if plain else json.dumps(value, ensure_ascii=False)}`"


def kind_of(option: Mapping[str, Any]) -> str:
    """Return what may be given for an option, for example ``list of dict, required``."""
    kind = option.get("type", "str")
    parts = [f"{kind} of {option['elements']}" if option.get("elements") else kind]
    if option.get("required"):
        parts.append("required")
    if option.get("default") is not None:
        parts.append(f"default {literal(option['default'])}")
    if option.get("choices"):
        parts.append(f"one of {', '.join(literal(choice) for choice in option['choices'])}")
    if option.get("returned"):
        parts.append(f"returned {prose(option['returned'])}")
    return ", ".join(parts)


def options_list(options: Mapping[str, Any], indent: str = "") -> Iterator[str]:
    """Yield an item for each option, and nested ones for what is inside it."""
    for name, option in options.items():
        yield f"{indent}- **`{name}`** ({kind_of(option)}): {prose(option.get('description', ''))}"
        nested = option.get("options") or option.get("suboptions") or option.get("contains") or {}
        yield from options_list(nested, indent + "  ")


def roles() -> dict[str, dict[str, Any]]:
    """Return role name → entry point → argument spec."""
    specs = {}
    for path in sorted(ROOT.glob("roles/*/meta/argument_specs.yml")):
        specs[path.parent.parent.name] = yaml.safe_load(path.read_text(encoding="utf-8"))["argument_specs"]
    return specs


def plugins() -> dict[str, dict[str, Any]]:
    """Return plugin type → full name → its documentation as ansible-doc reads it."""
    dumped = subprocess.run(
        [Path(sys.executable).with_name("ansible-doc"), "--metadata-dump", COLLECTION],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".cache" / "collections")},
    ).stdout
    found: dict[str, dict[str, Any]] = json.loads(dumped)["all"]
    return found


def variables_section(specs: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Yield every role's variables once, each with the roles that read it."""
    options: dict[str, Any] = {}
    readers: dict[str, list[str]] = {}
    for role, entry_points in specs.items():
        for entry_point in entry_points.values():
            for name, option in entry_point.get("options", {}).items():
                options.setdefault(name, option)
                if role not in readers.setdefault(name, []):
                    readers[name].append(role)
    yield "## Variables\n"
    for name in sorted(options):
        yield from options_list({name: options[name]})
        yield f"  - Read by: {', '.join(f'`{role}`' for role in readers[name])}."
    yield ""


def roles_section(specs: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Yield what each role and each of its entry points is for."""
    yield "## Roles\n"
    for role, entry_points in specs.items():
        yield f"### {COLLECTION}.{role}\n"
        for name, spec in entry_points.items():
            where = "" if name == "main" else f"`tasks_from: {name}`: "
            yield f"{where}{prose(spec.get('short_description', ''))}. {prose(spec.get('description', ''))}\n"
            if spec.get("options"):
                yield f"Variables: {', '.join(f'`{option}`' for option in sorted(spec['options']))}.\n"


def plugin_section(name: str, plugin: Mapping[str, Any]) -> Iterator[str]:
    """Yield the documentation of one plugin."""
    doc = plugin["doc"]
    yield f"### {name}\n"
    yield f"{prose(doc['short_description'])}. {prose(doc['description'])}\n"
    if doc.get("options"):
        yield "Options:\n"
        yield from options_list(doc["options"])
        yield ""
    if doc.get("attributes"):
        supports = (
            f"{attribute} {details.get('support', '')}" for attribute, details in doc["attributes"].items()
        )
        yield f"Support: {', '.join(supports)}.\n"
    if doc.get("notes"):
        yield from (f"> {prose(note)}\n" for note in doc["notes"])
    if plugin.get("return"):
        yield "Returns:\n"
        yield from options_list(plugin["return"])
        yield ""
    if plugin.get("examples"):
        yield f"```yaml\n{plugin['examples'].strip()}\n```\n"


def render() -> str:
    """Return the reference as Markdown."""
    specs, found = roles(), plugins()
    lines = [*variables_section(specs), *roles_section(specs)]
    for kind, title in PLUGIN_TYPES.items():
        if found.get(kind):
            lines.append(f"## {title}\n")
            for name, plugin in sorted(found[kind].items()):
                lines += plugin_section(name, plugin)
    return HEADER + "\n".join(lines).rstrip() + "\n"


def main() -> int:
    """Write the reference, or with ``--check`` compare it with what is there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="only say whether the file is current")
    wanted = render()
    if not parser.parse_args().check:
        REFERENCE.write_text(wanted, encoding="utf-8")
    elif not REFERENCE.exists() or REFERENCE.read_text(encoding="utf-8") != wanted:
        print("docs/reference.md is out of date: run `make docs` and commit it", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
