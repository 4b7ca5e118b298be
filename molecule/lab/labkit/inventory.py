"""The Ansible inventories. Nothing about ipsec is in them: that is the play's to say."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from . import plan
from .paths import RunDir
from .plan import Machine
from .spec import LAB_GROUP, Spec


def render(spec: Spec, machines: Sequence[Machine], run_dir: RunDir, network: str) -> str:
    """An inventory that connects over the given network; JSON, which is YAML too."""
    hosts = {
        machine.name: _variables(machine, network)
        for machine in machines
        if any(interface.network == network for interface in machine.interfaces)
    }
    common = {
        "ansible_user": "root",
        "ansible_python_interpreter": "/usr/bin/python3",
        "ansible_ssh_private_key_file": str(run_dir.key),
        # Ansible's own ControlPath depends on the address only, and two labs may
        # have the same addresses: the lab's folder keeps them apart.
        "ansible_ssh_common_args": (f"-F {run_dir.ssh_config} -o ControlPath={run_dir.control}/%h"),
        "ansible_ssh_pipelining": True,
        "lab_name": spec.name,
        "lab_namespace": run_dir.namespace,
        "lab_controller": {
            entry.name: [address.partition("/")[0] for address in plan.controller_addresses(entry)]
            for entry in spec.networks
        },
    }
    # Not variables of `all`: the controller's own localhost must not see them.
    groups: dict[str, Any] = {LAB_GROUP: {"hosts": hosts, "vars": common}}
    for machine in machines:
        if machine.name in hosts:
            for group in machine.host.groups:
                groups.setdefault(group, {"hosts": {}})["hosts"][machine.name] = {}
    return json.dumps({"all": {"children": groups}}, indent=2) + "\n"


def _variables(machine: Machine, network: str) -> dict[str, Any]:
    connection = machine.interface(network)
    return {
        "ansible_host": connection.address(4) or connection.address(6),
        "lab_release": machine.host.release,
        "lab_addresses": {
            interface.network: {
                "interface": interface.guest_name,
                "ipv4": interface.address(4),
                "ipv6": interface.address(6),
            }
            for interface in machine.interfaces
        },
    }
