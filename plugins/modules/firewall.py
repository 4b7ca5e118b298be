#!/usr/bin/python
# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: firewall
short_description: Let IPsec through a host's firewall, and nothing else between members
description:
  - Lets IKE (UDP 500 and 4500) and ESP in from where members and endpoints are. Source ports do not matter, since NAT changes them.
    AH is never needed, because this collection does not use it.
  - Drops packets between members that are to be encrypted and are not, in both directions, whether libreswan runs or not. Let through
    are IKE, ESP, the exceptions, and the neighbour discovery of IPv6.
  - All that it adds is its own and marked, is there again after a boot before there is a network, and goes without a trace.
    See P(underlay.ipsec.firewall#role).
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
      - V(present) wants what O(rules) say.
      - V(lifted) leaves open what is open, and drops nothing any more. It needs no other option.
      - V(absent) leaves the firewall as it was before. It needs no other option.
    type: str
    choices: [present, lifted, absent]
    default: present
  stage:
    description:
      - With V(open), more is let through than either the present rules or O(rules) want, and no more is dropped than both do.
        RV(pending) tells whether that leaves anything to do.
      - V(close) is what O(rules) say. It is for when the cluster has been seen to be encrypted.
    type: str
    choices: [open, close]
    default: close
  rules:
    description: The part C(firewall) of the member's slice. Required with O(state=present).
    type: dict
    suboptions:
      backend:
        description: What to do it with. With V(none), as with O(state=absent).
        type: str
        choices: [firewalld, nftables, iptables, none]
        required: true
      chain:
        description: With V(iptables), the chain of the table C(filter) in which IKE and ESP are let in.
        type: str
        default: INPUT
      interfaces:
        description: With V(firewalld), the interfaces whose zones let IKE and ESP in.
        type: list
        elements: str
        default: []
      open:
        description: Addresses and networks in CIDR notation from which IKE and ESP come.
        type: list
        elements: str
        default: []
      fail_closed:
        description: Whether O(rules.closed) is wanted at all. It is empty if not.
        type: bool
        default: true
      closed:
        description:
          - What is encrypted or dropped, each item with C(network), C(local) and C(remote) (CIDRs) and C(clear) (exceptions).
          - In a mesh, C(remote) is completed from O(peers).
        type: list
        elements: dict
        default: []
      clamp:
        description: Interfaces through which forwarded TCP gets smaller segments, each item with C(interface), C(cidr) and C(mtu).
        type: list
        elements: dict
        default: []
  peers:
    description: In a mesh, whom this host has connections with, as for M(underlay.ipsec.libreswan).
    type: list
    elements: dict
    default: []
"""

EXAMPLES = r"""
- name: Drop what is not encrypted
  underlay.ipsec.firewall:
    rules:
      backend: nftables
      open: [10.88.0.0/24]
      closed:
        - network: data
          local: [10.88.0.11]
          remote: [10.88.0.0/24]
          clear: [10.88.0.1/32]

- name: Let everything through again
  underlay.ipsec.firewall:
    state: lifted
"""

RETURN = r"""
pending:
  description: Whether something is left to do for the stage V(close).
  returned: success
  type: bool
  sample: false
"""

import os
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.underlay.ipsec.plugins.module_utils._errors import IpsecError
from ansible_collections.underlay.ipsec.plugins.module_utils._files import problem_from_os
from ansible_collections.underlay.ipsec.plugins.module_utils._firewall.manage import (
    Outcome,
    Place,
    establish,
    lift,
    remove,
    session_of,
)
from ansible_collections.underlay.ipsec.plugins.module_utils._firewall.rules import read_rules
from ansible_collections.underlay.ipsec.plugins.module_utils._host import ssh_connection
from ansible_collections.underlay.ipsec.plugins.module_utils._run import host_runner

_RULES = {
    "backend": {"type": "str", "choices": ["firewalld", "nftables", "iptables", "none"], "required": True},
    "chain": {"type": "str", "default": "INPUT"},
    "interfaces": {"type": "list", "elements": "str", "default": []},
    "open": {"type": "list", "elements": "str", "default": []},
    "fail_closed": {"type": "bool", "default": True},
    "closed": {"type": "list", "elements": "dict", "default": []},
    "clamp": {"type": "list", "elements": "dict", "default": []},
}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["present", "lifted", "absent"], "default": "present"},
            "stage": {"type": "str", "choices": ["open", "close"], "default": "close"},
            "rules": {"type": "dict", "options": _RULES},
            "peers": {"type": "list", "elements": "dict", "default": []},
        },
        required_if=[("state", "present", ["rules"])],
        supports_check_mode=True,
    )
    try:
        outcome = _run(module)
    except IpsecError as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=str(problem_from_os(error)))
    diff = {
        "before": outcome.before,
        "after": outcome.after,
        "before_header": "firewall",
        "after_header": "firewall",
    }
    module.exit_json(changed=outcome.changed, pending=outcome.pending, diff=diff if outcome.changed else {})


def _run(module: AnsibleModule) -> Outcome:
    run, root, check = host_runner(), Path("/"), module.check_mode
    state, rules = module.params["state"], module.params["rules"]
    if state == "lifted":
        return lift(run, root, check=check)
    if state == "absent":
        return remove(run, root, check=check)
    return establish(
        run,
        root,
        Place(rules["backend"], rules["chain"], tuple(rules["interfaces"])),
        read_rules(rules, module.params["peers"]),
        stage=module.params["stage"],
        session=session_of(ssh_connection(os.environ, root, os.getppid())),
        check=check,
    )


if __name__ == "__main__":
    main()
