# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.underlay.ipsec.plugins.module_utils._model.cluster import Problems, Unreadable
from ansible_collections.underlay.ipsec.plugins.module_utils._model.typed import did_you_mean, typed

DICTS = {
    "type": "list",
    "elements": "dict",
    "options": {
        "name": {"type": "str", "required": True},
        "clear": {"type": "list", "elements": "str", "default": []},
        "mtu": {"type": "int"},
    },
}


@pytest.mark.parametrize(
    ("value", "spec", "expected"),
    [
        ("x", {"type": "str"}, "x"),
        ("~/x", {"type": "path"}, "~/x"),
        (5, {"type": "int"}, 5),
        ("365", {"type": "int"}, 365),
        ("-1", {"type": "int"}, -1),
        (True, {"type": "bool"}, True),
        ("False", {"type": "bool"}, False),
        ("yes", {"type": "bool"}, True),
        ("b", {"type": "str", "choices": ["a", "b"]}, "b"),
        (["a", "b"], {"type": "list", "elements": "str"}, ["a", "b"]),
        ([], {"type": "list", "elements": "str"}, []),
        ({"x": 1}, {"type": "dict"}, {"x": 1}),
        ([{"name": "n", "mtu": "1400"}], DICTS, [{"name": "n", "clear": [], "mtu": 1400}]),
        ([{"name": "n", "clear": None}], DICTS, [{"name": "n", "clear": [], "mtu": None}]),
    ],
)
def test_types(value: Any, spec: dict[str, Any], expected: Any) -> None:
    problems = Problems()
    assert typed(value, spec, variable="v", problems=problems) == expected
    assert problems == []


@pytest.mark.parametrize(
    ("value", "spec", "said"),
    [
        (
            5,
            {"type": "str"},
            "v: it is a number, not a string. Set it to a string, in quotes if it looks like a number",
        ),
        (["x"], {"type": "str"}, "v: it is a list, not a string"),
        ("x", {"type": "int"}, "v: it is a string, not a whole number"),
        (1.5, {"type": "int"}, "v: it is a number, not a whole number"),
        (True, {"type": "int"}, "v: it is a boolean, not a whole number"),
        ("maybe", {"type": "bool"}, "v: it is a string, not true or false"),
        (1, {"type": "bool"}, "v: it is a number, not true or false"),
        ("x", {"type": "list", "elements": "str"}, "v: it is a string, not a list"),
        ({"x": 1}, {"type": "list", "elements": "str"}, "v: it is a dictionary, not a list"),
        (["a", 2], {"type": "list", "elements": "str"}, "v[1]: it is a number, not a string"),
        ("x", {"type": "dict"}, "v: it is a string, not a dictionary"),
        (["x"], DICTS, "v[0]: it is a string, not a dictionary"),
        ([{}], DICTS, "v[0]: the key 'name' is missing. Add 'name'"),
        ([{"name": "n", "claer": []}], DICTS, "v[0]: it has no key 'claer'. Did you mean 'clear'"),
        ([{"name": "n", "vlan": 1}], DICTS, "v[0]: it has no key 'vlan'. It takes name, clear, mtu"),
        ([{"name": "n", "clear": "x"}], DICTS, "v[0].clear: it is a string, not a list"),
        ("c", {"type": "str", "choices": ["a", "b"]}, "v: 'c' is not one of its values. Set it to a or b"),
        (Unreadable("'x' is undefined"), {"type": "str"}, "v: its value cannot be read: 'x' is undefined"),
        (None, {"type": "str"}, "v: it is empty, not a string"),
    ],
)
def test_problems(value: Any, spec: dict[str, Any], said: str) -> None:
    problems = Problems()
    assert typed(value, spec, variable="v", problems=problems) is None
    assert len(problems) == 1
    assert str(problems[0]).startswith(said)


def test_all_suboptions_are_looked_at() -> None:
    problems = Problems()
    typed([{"mtu": "x", "vlan": 1}, {"name": 1}], DICTS, variable="v", problems=problems, host="h1")
    assert {problem.variable for problem in problems} == {"v[0]", "v[0].mtu", "v[1].name"}
    assert {problem.host for problem in problems} == {"h1"}


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("ipsec_netwoks", "ipsec_networks"),
        ("ipsec_adresses", "ipsec_addresses"),
        ("ipsec_wireguard_port", None),
    ],
)
def test_did_you_mean(name: str, meant: str | None) -> None:
    assert did_you_mean(name, {"ipsec_networks", "ipsec_addresses", "ipsec_mode"}) == meant
