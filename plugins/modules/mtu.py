#!/usr/bin/python
# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: mtu
short_description: Tell a host what its networks really carry
description:
  - Gives the member interfaces, or the routes to the networks, the MTU that the plan wants, now and after each reboot.
    The kernel itself takes off what ESP needs.
  - The live change is C(ip link set) or C(ip route change). No interface goes down, and addresses, connections and security
    associations stay.
  - What was before is kept in C(/etc/underlay-ipsec/mtu.json). O(state=absent) and O(method=advise) put it back.
  - If anything is in the way (an interface that is not there, without its address or without a network manager; an MTU that is too small;
    an interface of another network that would be narrowed), nothing is changed, and all of it is told. If the kernel or a network
    manager refuses in the middle, what the run did is undone.
author:
  - underlay.ipsec contributors (@underlay-ipsec)
extends_documentation_fragment:
  - underlay.ipsec.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  state:
    description:
      - V(present) does what O(method) says.
      - V(absent) puts back what was before, whatever O(method) says.
    type: str
    choices: [present, absent]
    default: present
  method:
    description:
      - V(advise) gives nothing an MTU, and puts back what was before.
      - V(interface) gives the interfaces of O(networks), and O(overlays), their MTU. For it to last, NetworkManager gets it in the
        connection's profile, systemd-networkd in a drop-in C(99-underlay-ipsec.conf) beside the C(.network) file, and ifupdown by a
        hook in C(/etc/network/if-up.d). An interface that none of these configures is refused.
      - V(route) gives the routes of the main table to O(networks) their MTU. A timer, C(underlay-ipsec-mtu.timer), gives it to routes
        that have been made anew, every 10 seconds and after each boot, whatever network manager there is.
    type: str
    choices: [advise, route, interface]
    default: advise
  networks:
    description: The networks that the host is on. These, and O(overlays), are the part C(mtu) of the member's slice of the plan.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the network, for messages.
        type: str
        required: true
      interface:
        description: The host's interface on it. If it is on several networks, it gets the smallest MTU.
        type: str
        required: true
      cidr:
        description: The network.
        type: str
        required: true
      address:
        description: The host's address on it. The interface has to have it.
        type: str
        required: true
      family:
        description: Address family.
        type: int
        choices: [4, 6]
        required: true
      mtu:
        description:
          - The largest packet that the network carries, in bytes. At least 576, and 1280 for IPv6.
          - An error if it is left out, unless nothing is to get an MTU.
        type: int
  overlays:
    description: Interfaces that travel over O(networks), such as VXLAN. Only with O(method=interface).
    type: list
    elements: dict
    default: []
    suboptions:
      interface:
        description:
          - Its name. The kernel has to say that it is bound to an interface or address of O(networks), or leads to one.
        type: str
        required: true
      mtu:
        description: The largest packet that it is to take, in bytes.
        type: int
        required: true
"""

EXAMPLES = r"""
- name: Give the interfaces what the networks carry
  underlay.ipsec.mtu:
    method: interface
    networks:
      - {name: data, interface: eth1, cidr: 10.88.0.0/24, address: 10.88.0.11, family: 4, mtu: 1450}

- name: Put back what was before
  underlay.ipsec.mtu:
    state: absent
"""

RETURN = r"""
changes:
  description: What got another value, in the order in which it did.
  returned: success
  type: list
  elements: str
  sample:
    - "interface eth1: mtu 1500 -> 1450"
    - file /etc/systemd/network/data.network.d/99-underlay-ipsec.conf made
mtu:
  description: The MTU that each interface and route of O(networks) and O(overlays) has been given, by name. Empty with V(advise).
  returned: success
  type: dict
  sample: {eth1: 1450}
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.underlay.ipsec.plugins.module_utils._errors import IpsecError
from ansible_collections.underlay.ipsec.plugins.module_utils._mtu import apply
from ansible_collections.underlay.ipsec.plugins.module_utils._mtu.links import read_links
from ansible_collections.underlay.ipsec.plugins.module_utils._run import host_runner


def argument_spec() -> dict[str, Any]:
    """Return the module's arguments; they mirror the slice."""
    network = {
        **{name: {"type": "str", "required": True} for name in ("name", "interface", "cidr", "address")},
        "family": {"type": "int", "choices": [4, 6], "required": True},
        "mtu": {"type": "int"},
    }
    overlay = {
        "interface": {"type": "str", "required": True},
        "mtu": {"type": "int", "required": True},
    }
    return {
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        "method": {"type": "str", "choices": ["advise", "route", "interface"], "default": "advise"},
        "networks": {"type": "list", "elements": "dict", "default": [], "options": network},
        "overlays": {"type": "list", "elements": "dict", "default": [], "options": overlay},
    }


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec(), supports_check_mode=True)
    try:
        result = _run(module.params, check=module.check_mode)
    except IpsecError as error:
        module.fail_json(msg=str(error))
    for warning in result.pop("warnings"):
        module.warn(warning)
    module.exit_json(**result)


def _run(params: dict[str, Any], *, check: bool) -> dict[str, Any]:
    run = host_runner()
    host = apply.Host(run)
    todo = apply.plan(
        host,
        "advise" if params["state"] == "absent" else params["method"],
        [apply.Network(**network) for network in params["networks"]],
        [apply.Overlay(**overlay) for overlay in params["overlays"]],
        lambda: apply.read_host(run, read_links),
    )
    if not check:
        apply.carry_out(host, todo)
    return {
        "changed": bool(todo.changes),
        "diff": apply.diff(todo),
        "changes": [str(change) for change in todo.changes],
        "mtu": apply.given(todo),
        "warnings": todo.warnings,
    }


if __name__ == "__main__":
    main()
