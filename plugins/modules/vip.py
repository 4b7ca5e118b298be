#!/usr/bin/python
# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: vip
short_description: Prepare a host to hold virtual addresses
description:
  - Writes what the holder of a virtual address loads when the address comes, what any other host loads, and the script
    that does both. Pluto itself loads none of it when it starts.
  - If the host holds an address, or does not, what is loaded for that is brought to the wanted state, under traffic.
  - An address that is on the host when the module first sees it is taken over at once.
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
    description: V(absent) takes away all that the module made.
    type: str
    choices: [present, absent]
    default: present
  settings:
    description: The part C(libreswan) of the host's slice of the plan. Required if O(state=present).
    type: dict
  members:
    description:
      - The members on the networks of the addresses, with C(network), C(member), C(fqdn) and C(address), see
        P(underlay.ipsec.vip_peers#filter). Whoever comes to hold an address begins with them.
    type: list
    elements: dict
    default: []
  script:
    description: The text of the script. Required if O(state=present).
    type: str
  enforcement:
    description: What becomes of traffic with a host that does not authenticate.
    type: str
    choices: [clear, private-or-clear, private]
    default: private
  stage:
    description: Before V(enforce), nothing is made stricter than it is.
    type: str
    choices: [prepare, enforce]
    default: prepare
  one_ca:
    description: As in M(underlay.ipsec.libreswan).
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Be ready for the addresses
  underlay.ipsec.vip:
    settings: "{{ __ipsec_slice.libreswan }}"
    members: "{{ __ipsec_plan | underlay.ipsec.vip_peers(inventory_hostname) }}"
    script: "{{ lookup('ansible.builtin.file', 'underlay-vip.sh') }}"
"""

RETURN = r"""
held:
  description: Names of the addresses that this host holds.
  returned: success
  type: list
  elements: str
  sample: [internal_api]
pending:
  description: Whether O(enforcement) still waits for O(stage=enforce).
  returned: success
  type: bool
connections:
  description: Names of the connections that were loaded or replaced (C(added)) and unloaded (C(removed)).
  returned: success
  type: dict
  sample: {"added": ["underlay-vip+internal_api+node"], "removed": []}
"""

from contextlib import nullcontext
from dataclasses import replace
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.underlay.ipsec.plugins.module_utils._errors import IpsecError
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan import held, render
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan.dialect import Dialect, detect
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan.difference import file_diff
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan.pairs import peer_from
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan.vips import vip_files, vip_from
from ansible_collections.underlay.ipsec.plugins.module_utils._run import host_runner

# Only to predict in check mode what a host without libreswan would get.
_LIKELY = Dialect(4, 10)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        {
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "settings": {"type": "dict"},
            "members": {"type": "list", "elements": "dict", "default": []},
            "script": {"type": "str"},
            "enforcement": {
                "type": "str",
                "choices": ["clear", "private-or-clear", "private"],
                "default": "private",
            },
            "stage": {"type": "str", "choices": ["prepare", "enforce"], "default": "prepare"},
            "one_ca": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
        required_if=[("state", "present", ["settings", "script"])],
    )
    try:
        module.exit_json(**_run(module.params, check=module.check_mode))
    except IpsecError as error:
        module.fail_json(msg=str(error))


def _run(params: dict[str, Any], *, check: bool) -> dict[str, Any]:
    run = host_runner()
    files: dict[str, str] = {}
    states: dict[str, str] = {}
    new: list[str] = []
    target = params["enforcement"]
    dialect = detect(run)
    with nullcontext() if check else held.alone():
        observed = held.observe(run)
        if params["state"] == "present" and target != "clear":
            settings = replace(render.settings_from(params["settings"]), one_ca=params["one_ca"])
            vips = list(map(vip_from, params["settings"]["vips"]))
            new = held.arrived(vips, observed)
            states = held.states(vips, observed, target, params["stage"])
            members = list(map(peer_from, params["members"]))
            files = vip_files(settings, vips, members, dialect or _LIKELY, states, params["script"])
        change = held.change(observed, files)
        if not check:
            held.apply(change, observed, files, run, listens=(dialect or _LIKELY).keeps_keys)
    if not check:
        held.begin(change, observed, files, run)
        held.take_over(new, run)
    return {
        "changed": bool(change or new),
        "diff": file_diff(observed.files, change),
        "held": sorted({*observed.here, *new}),
        "pending": any(state != target for state in states.values()),
        "connections": {"added": list(change.add), "removed": list(change.delete)},
    }


if __name__ == "__main__":
    main()
