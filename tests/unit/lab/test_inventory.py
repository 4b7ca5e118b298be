"""The inventories that `lab up` writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.underlay.ipsec.molecule.lab.labkit import inventory, plan, spec
from ansible_collections.underlay.ipsec.molecule.lab.labkit.paths import RunDir

SPEC = spec.parse(
    {
        "name": "t",
        "networks": [{"name": "data", "ipv4": "10.88.0.0/24"}, {"name": "six", "ipv6": "fd66::/64"}],
        "hosts": [{"name": "h1"}, {"name": "h2", "groups": ["clients"], "networks": ["data"]}],
    }
)
RUN_DIR = RunDir("t", Path("/run/lab"))


def groups(network: str) -> dict[str, Any]:
    machines = plan.machines(SPEC, plan.assign_numbers(SPEC, {}))
    text = inventory.render(SPEC, list(machines.values()), RUN_DIR, network)
    children: dict[str, Any] = json.loads(text)["all"]["children"]
    return children


@pytest.mark.parametrize(
    ("network", "addresses"),
    [
        ("mgmt", {"h1": "10.77.0.11", "h2": "10.77.0.12"}),
        ("data", {"h1": "10.88.0.11", "h2": "10.88.0.12"}),
        ("six", {"h1": "fd66::11"}),
    ],
)
def test_connects_over_a_network(network: str, addresses: dict[str, str]) -> None:
    hosts = groups(network)["lab"]["hosts"]
    assert {name: host["ansible_host"] for name, host in hosts.items()} == addresses


def test_groups() -> None:
    found = groups("mgmt")
    assert {group: list(found[group]["hosts"]) for group in found} == {
        "lab": ["h1", "h2"],
        "ipsec": ["h1"],
        "clients": ["h2"],
    }


def test_says_nothing_about_ipsec_and_nothing_to_localhost() -> None:
    found = groups("mgmt")
    names = {*found["lab"]["vars"], *(name for host in found["lab"]["hosts"].values() for name in host)}
    assert all(name.startswith(("ansible_", "lab_")) for name in names)


def test_connections_of_two_labs_are_never_shared() -> None:
    assert f"ControlPath={RUN_DIR.control}/" in groups("mgmt")["lab"]["vars"]["ansible_ssh_common_args"]


def test_files() -> None:
    assert [RUN_DIR.inventory(name).name for name in ("mgmt", "data")] == [
        "inventory.yml",
        "inventory-data.yml",
    ]


def test_same_name_elsewhere_is_another_namespace() -> None:
    assert RUN_DIR.namespace != RunDir("t", Path("/run/other")).namespace
