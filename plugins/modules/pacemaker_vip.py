#!/usr/bin/python
# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pacemaker_vip
short_description: Let the tunnels of virtual addresses follow them in a pacemaker cluster
description:
  - For each virtual address, brings a resource with the agent C(ocf:underlay:ipsec-vip), its colocation with the
    address and both orders into the cluster, or brings what is there to the wanted state.
  - The resource of an address itself is found by the address. It has to be there, and it is not touched.
  - The cluster's configuration is read once, changed in a copy, and the difference is pushed once. Whatever is not the
    collection's stays as it is.
  - Run it on one node of a cluster.
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
  vips:
    description:
      - The virtual addresses. The collection's resources for any other are removed, and with an empty list all of them.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the virtual address, as in C(ipsec_vips).
        type: str
        required: true
      address:
        description: The address.
        type: str
        required: true
      nodes:
        description:
          - Names in the cluster of nodes that are ready for it. If the cluster has given up running it there, for it once found no
            agent or no connections, it is told to look again.
        type: list
        elements: str
        default: []
  add:
    description:
      - Whether to add what is missing. Otherwise the resources of other names or addresses are removed, as before the hosts lose
        their connections.
    type: bool
    default: true
  replaces_tripleo:
    description:
      - Whether the resources C(tripleo-ipsec-*) with the agent C(ocf:heartbeat:ipsec), which the role tripleo-ipsec has made, are
        removed in the same change, with their constraints.
    type: bool
    default: false
  wait_seconds:
    description:
      - How long to wait, before a change, for a cluster that has lost its quorum to have it again, and after a change, until the cluster
        has done what follows from it, in seconds each. V(0) does not wait.
    type: int
    default: 60
"""

EXAMPLES = r"""
- name: Let the tunnel follow the address
  underlay.ipsec.pacemaker_vip:
    vips:
      - name: internal_api
        address: 172.16.2.250
  run_once: true

- name: Take the collection's resources out of the cluster
  underlay.ipsec.pacemaker_vip:
    vips: []
  run_once: true
"""

RETURN = r"""
resources:
  description: The ids of the collection's resources in the cluster after the run.
  returned: success
  type: list
  elements: str
  sample: [ipsec-vip-internal_api]
"""

from typing import Any
from xml.etree.ElementTree import Element

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.underlay.ipsec.plugins.module_utils._errors import IpsecError, Problem, ProblemsError
from ansible_collections.underlay.ipsec.plugins.module_utils._pacemaker import cib, live
from ansible_collections.underlay.ipsec.plugins.module_utils._run import host_runner


def main() -> None:
    """Run the module."""
    vip = {
        "name": {"type": "str", "required": True},
        "address": {"type": "str", "required": True},
        "nodes": {"type": "list", "elements": "str", "default": []},
    }
    module = AnsibleModule(
        {
            "vips": {"type": "list", "elements": "dict", "required": True, "options": vip},
            "add": {"type": "bool", "default": True},
            "replaces_tripleo": {"type": "bool", "default": False},
            "wait_seconds": {"type": "int", "default": 60},
        },
        supports_check_mode=True,
    )
    try:
        module.exit_json(**_run(module.params, check=module.check_mode))
    except IpsecError as error:
        module.fail_json(msg=str(error))


def _run(params: dict[str, Any], *, check: bool) -> dict[str, Any]:
    run = host_runner()
    vips = [cib.Vip(vip["name"], vip["address"]) for vip in params["vips"]]
    before = live.read(run) if check else live.read_with_quorum(run, params["wait_seconds"])
    if before is None:
        if vips:
            raise ProblemsError([live.no_cluster()])
        live.check_none_stored(tripleo=params["replaces_tripleo"])
        return {"changed": False, "diff": {"before": "", "after": ""}, "resources": []}
    lost: list[tuple[str, str]] = []
    if params["add"]:
        lost = _given_up(before, params["vips"])
    else:
        # With another address it would start before there is anything for that, and the cluster would give it up.
        present = cib.vip_resources(before)
        vips = [vip for vip in vips if present.get(vip.resource) == vip.address]
    replaces = params["replaces_tripleo"]
    after = cib.with_vips(before, vips, replaces_tripleo=replaces)
    texts = [
        "\n".join([*cib.ours(element, tripleo=replaces), ""]).lstrip("\n") for element in (before, after)
    ]
    differs = texts[0] != texts[1]
    texts[0] += "".join(f"{resource} is given up on {node}\n" for resource, node in lost)
    changed = differs or bool(lost)
    if changed:
        live.check_ready(before)
    if changed and not check:
        if differs:
            live.push(run, before, after)
        live.look_again(run, lost)
        seconds = params["wait_seconds"]
        if seconds and not live.settle(run, seconds):
            raise ProblemsError(
                [
                    Problem(
                        f"the cluster took the change, but has not carried it out within {seconds} s",
                        "See pcs status --full, then run this again",
                    )
                ]
            )
    return {
        "changed": changed,
        "diff": {
            "before_header": "cluster",
            "after_header": "cluster",
            "before": texts[0],
            "after": texts[1],
        },
        "resources": [vip.resource for vip in vips],
    }


def _given_up(found: Element, vips: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [
        failure
        for vip in vips
        for failure in cib.given_up(found, [cib.Vip(vip["name"], vip["address"]).resource], vip["nodes"])
    ]


if __name__ == "__main__":
    main()
