# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Raw values to typed ones, by the argument specification that documents them.

This is stricter than Ansible's own validation of arguments, which makes a list of
any string, and it does not stop at the first problem. Numbers and booleans may come
as strings, because an INI inventory and ``--extra-vars key=value`` have nothing else.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from ansible_collections.underlay.ipsec.plugins.module_utils._model.cluster import Problems, Unreadable

Spec = Mapping[str, Any]
"""The specification of one option, as in a role's ``meta/argument_specs.yml``."""

_BOOLEANS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
_EXPECTED = {
    "str": "a string",
    "path": "a string",
    "int": "a whole number",
    "bool": "true or false",
    "list": "a list",
    "dict": "a dictionary",
}


def did_you_mean(name: str, known: Collection[str]) -> str | None:
    """Return the one of *known* that *name* is probably a misspelling of, or None."""
    close = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.75)
    return close[0] if close else None


def _scalar(value: Any, kind: str) -> Any:
    """Return *value* as *kind*, or None if it is something else."""
    if kind in ("str", "path"):
        return value if isinstance(value, str) else None
    if kind == "int":
        if isinstance(value, str) and value.strip().lstrip("-").isdigit():
            return int(value)
        return value if isinstance(value, int) and not isinstance(value, bool) else None
    if isinstance(value, str):
        return _BOOLEANS.get(value.strip().lower())
    return value if isinstance(value, bool) else None


def _name_type(value: Any) -> str:
    for kind, name in (
        (bool, "a boolean"),
        (int, "a number"),
        (float, "a number"),
        (str, "a string"),
        (Mapping, "a dictionary"),
        (Sequence, "a list"),
    ):
        if isinstance(value, kind):
            return name
    return "empty" if value is None else f"a {type(value).__name__}"


def typed(value: Any, spec: Spec, *, variable: str, problems: Problems, host: str | None = None) -> Any:
    """Return *value* as the type that *spec* asks for, suboptions and their defaults included.

    None, and a problem, if that is not possible.
    """
    if isinstance(value, Unreadable):
        problems.add(
            f"its value cannot be read: {value.reason}",
            "Correct the template or the vault secret",
            variable=variable,
            host=host,
        )
        return None
    kind = spec["type"]
    if kind == "raw":
        return value
    wrong = f"it is {_name_type(value)}, not {_EXPECTED[kind]}"
    if kind == "list":
        if isinstance(value, str) or not isinstance(value, Sequence):
            problems.add(
                wrong, "Write it as a YAML list, one item a line after a dash", variable=variable, host=host
            )
            return None
        item_spec = {**spec, "type": spec["elements"]}
        items = [
            typed(item, item_spec, variable=f"{variable}[{index}]", problems=problems, host=host)
            for index, item in enumerate(value)
        ]
        return None if any(item is None for item in items) else items
    if kind == "dict":
        if not isinstance(value, Mapping):
            problems.add(
                wrong, "Write it as a YAML dictionary, one 'key: value' a line", variable=variable, host=host
            )
            return None
        options = spec.get("options")
        return dict(value) if options is None else _suboptions(value, options, variable, problems, host)
    result = _scalar(value, kind)
    if result is None:
        quote = ", in quotes if it looks like a number" if kind == "str" else ""
        problems.add(wrong, f"Set it to {_EXPECTED[kind]}{quote}", variable=variable, host=host)
        return None
    choices = spec.get("choices")
    if choices and result not in choices:
        problems.add(
            f"{result!r} is not one of its values",
            f"Set it to {' or '.join(choices)}",
            variable=variable,
            host=host,
        )
        return None
    return result


def _suboptions(
    value: Mapping[str, Any], options: Mapping[str, Spec], variable: str, problems: Problems, host: str | None
) -> dict[str, Any] | None:
    before = len(problems)
    for key in sorted(map(str, value.keys() - options.keys())):
        meant = did_you_mean(key, options.keys())
        remedy = f"Did you mean {meant!r}" if meant else f"It takes {', '.join(options)}"
        problems.add(f"it has no key {key!r}", remedy, variable=variable, host=host)
    result: dict[str, Any] = {}
    for key, spec in options.items():
        if value.get(key) is not None:
            result[key] = typed(value[key], spec, variable=f"{variable}.{key}", problems=problems, host=host)
        elif spec.get("required"):
            problems.add(f"the key {key!r} is missing", f"Add {key!r}", variable=variable, host=host)
        else:
            result[key] = spec.get("default")
    return result if len(problems) == before else None
