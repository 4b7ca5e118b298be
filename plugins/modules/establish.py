#!/usr/bin/python
# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: establish
short_description: Bring the pairs of a mesh and connections with endpoints up, and wait for them
description:
  - Waits until each connection with a peer has a security association. One end of each pair begins, always the same one;
    the other one only if nothing has come for twelve seconds.
  - Says on the terminal how far it is as long as it has to wait.
  - Connections with endpoints are begun by this host, and waited for fifteen seconds at most.
  - A pair or an endpoint that does not come up is not a failure of this module. M(underlay.ipsec.probe) and M(underlay.ipsec.report) judge.
author:
  - underlay.ipsec contributors (@underlay-ipsec)
extends_documentation_fragment:
  - underlay.ipsec.attributes
attributes:
  check_mode:
    support: full
    details: It begins nothing, and does not wait.
  diff_mode:
    support: none
  idempotent:
    support: full
options:
  member:
    description: This host's inventory name.
    type: str
    required: true
  peers:
    description: The other ends, as P(underlay.ipsec.mesh_peers#filter) returns them.
    type: list
    elements: dict
    required: true
    suboptions:
      network:
        description: Name of the network.
        type: str
        required: true
      member:
        description: The peer's inventory name.
        type: str
        required: true
      fqdn:
        description: The name that the peer authenticates as. Not used by this module.
        type: str
        required: true
      address:
        description: The peer's address on the network.
        type: str
        required: true
      nat_address:
        description: Where to find the peer if it is behind NAT.
        type: str
  vips:
    description: Virtual addresses, the C(vips) in the part C(libreswan) of the member's slice. Those that are here are left out.
    type: list
    elements: dict
    default: []
  endpoints:
    description: The C(endpoints) in the part C(libreswan) of the member's slice. Only those that are to be initiated count.
    type: list
    elements: dict
    default: []
  timeout:
    description: How long to wait at most, in seconds.
    type: float
    default: 60
  elapsed:
    description: How many seconds earlier runs of the module have waited for the same pairs.
    type: float
    default: 0
seealso:
  - module: underlay.ipsec.libreswan
  - module: underlay.ipsec.probe
"""

EXAMPLES = r"""
- name: Wait for the security associations
  underlay.ipsec.establish:
    member: "{{ inventory_hostname }}"
    peers: "{{ lookup('ansible.builtin.file', 'plan.json') | from_json | underlay.ipsec.mesh_peers(inventory_hostname) }}"
    timeout: 30
"""

RETURN = r"""
pairs:
  description: How many pairs this host has.
  returned: success
  type: int
begun:
  description: Names of the connections that this host began to negotiate.
  returned: success
  type: list
  elements: str
unestablished:
  description: Names of the connections without a security association.
  returned: success
  type: list
  elements: str
endpoints:
  description: The endpoints that this host brings up.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Name of the endpoint.
      type: str
    established:
      description: Whether all its connections have a security association.
      type: bool
    reason:
      description: What libreswan says if not; empty if it says nothing.
      type: str
missing:
  description: The peers without a security association.
  returned: success
  type: list
  elements: dict
  contains:
    member:
      description: Name of the peer.
      type: str
    network:
      description: Name of the network.
      type: str
    reason:
      description: What libreswan says about it; empty if it says nothing.
      type: str
"""

import time
from collections.abc import Iterable
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.underlay.ipsec.plugins.module_utils._errors import IpsecError
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan.endpoints import endpoint_from
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan.establish import establish
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan.pairs import (
    begins,
    pair_name,
    peer_from,
)
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan.vips import vip_from
from ansible_collections.underlay.ipsec.plugins.module_utils._probe.account import read_accounts
from ansible_collections.underlay.ipsec.plugins.module_utils._probe.host import own_addresses
from ansible_collections.underlay.ipsec.plugins.module_utils._run import host_runner


def argument_spec() -> dict[str, Any]:
    """Return what the module takes."""
    peer = {
        "network": {"type": "str", "required": True},
        "member": {"type": "str", "required": True},
        "fqdn": {"type": "str", "required": True},
        "address": {"type": "str", "required": True},
        "nat_address": {"type": "str"},
    }
    return {
        "member": {"type": "str", "required": True},
        "peers": {"type": "list", "elements": "dict", "required": True, "options": peer},
        "vips": {"type": "list", "elements": "dict", "default": []},
        "endpoints": {"type": "list", "elements": "dict", "default": []},
        "timeout": {"type": "float", "default": 60},
        "elapsed": {"type": "float", "default": 0},
    }


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec(), supports_check_mode=True)
    if module.check_mode:
        module.exit_json(skipped=True, msg="nothing is begun in check mode")
    try:
        module.exit_json(**_run(module.params))
    except IpsecError as error:
        module.fail_json(msg=str(error))


def _run(params: dict[str, Any]) -> dict[str, Any]:
    run = host_runner()
    own = params["member"]
    peers = {pair_name(peer.network, own, peer.member): peer for peer in map(peer_from, params["peers"])}
    vips = list(map(vip_from, params["vips"]))
    here = own_addresses(run) if vips else frozenset()
    peers.update({vip.node: vip.peer for vip in vips if vip.address not in here})
    endpoints = [endpoint for endpoint in map(endpoint_from, params["endpoints"]) if endpoint.initiate]
    outside = {name: endpoint for endpoint in endpoints for name in endpoint.connections}
    ours = {name: begins(peer.network, own, peer.member) for name, peer in peers.items()}
    missing, begun = establish(
        {**ours, **dict.fromkeys(outside, True)},
        run,
        params["timeout"],
        outside=outside,
        elapsed=params["elapsed"],
    )
    addresses = {
        **{name: peer.reached_at for name, peer in peers.items()},
        **{name: endpoint.address for name, endpoint in outside.items()},
    }
    silent = sorted({addresses[name] for name in missing})
    accounts = read_accounts(run, time.time(), silent, addresses) if missing else {}

    def reason(names: Iterable[str]) -> str:
        found = (accounts.get(addresses[name]) for name in sorted(missing.intersection(names)))
        return next((account.clause for account in found if account), "")

    return {
        # An attempt that came to nothing has changed nothing.
        "changed": bool(begun - missing),
        "pairs": len(peers),
        "begun": sorted(begun),
        "unestablished": sorted(missing),
        "missing": [
            {"member": peer.member, "network": peer.network, "reason": reason([name])}
            for name, peer in sorted(peers.items())
            if name in missing
        ],
        "endpoints": [
            {
                "name": endpoint.name,
                "established": missing.isdisjoint(endpoint.connections),
                "reason": reason(endpoint.connections),
            }
            for endpoint in endpoints
        ],
    }


if __name__ == "__main__":
    main()
