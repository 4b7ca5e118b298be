#!/usr/bin/python
# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: tripleo_ipsec
short_description: Remove what the role tripleo-ipsec has left on a host
description:
  - Removes the files C(overcloud-*) of tripleo-ipsec below C(/etc/ipsec.d) with their keys, and C(uniqueids=no) in
    C(/etc/ipsec.conf) unless C(config setup) there sets other options as well. No copies are kept.
  - What libreswan has loaded of it is unloaded only if it is not about to be restarted by M(underlay.ipsec.libreswan), which
    restarts it when it brings the collection's C(config setup) to a host for the first time. Until then it carries the traffic.
  - The resources in the pacemaker cluster are replaced by M(underlay.ipsec.pacemaker_vip).
author:
  - underlay.ipsec contributors (@underlay-ipsec)
extends_documentation_fragment:
  - underlay.ipsec.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
    details: Only names are shown, for the files hold keys.
  idempotent:
    support: full
options:
  leaving:
    description: Whether nothing of the collection takes its place. Then everything is unloaded at once.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Make way for the collection's connections
  underlay.ipsec.tripleo_ipsec:

- name: Take the tunnels of tripleo-ipsec away
  underlay.ipsec.tripleo_ipsec:
    leaving: true
"""

RETURN = r"""
files:
  description: The paths of its files.
  returned: success
  type: list
  elements: str
  sample: [/etc/ipsec.d/overcloud-storage-node-to-node-tunnels.secrets]
connections:
  description: Its connections that libreswan had loaded.
  returned: success
  type: list
  elements: str
  sample: [overcloud-private-node-to-node-storage-ip-0]
unloaded:
  description: Those of them that were unloaded. The others go when libreswan is restarted.
  returned: success
  type: list
  elements: str
  sample: []
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.underlay.ipsec.plugins.module_utils._errors import IpsecError
from ansible_collections.underlay.ipsec.plugins.module_utils._run import host_runner
from ansible_collections.underlay.ipsec.plugins.module_utils._tripleo import former


def main() -> None:
    """Run the module."""
    module = AnsibleModule({"leaving": {"type": "bool", "default": False}}, supports_check_mode=True)
    try:
        module.exit_json(**_run(leaving=module.params["leaving"], check=module.check_mode))
    except IpsecError as error:
        module.fail_json(msg=str(error))


def _run(*, leaving: bool, check: bool) -> dict[str, Any]:
    run = host_runner()
    found = former.observe(run, leaving=leaving)
    if found and not check:
        former.remove(found, run)
    return {
        "changed": bool(found),
        "diff": former.diff(found),
        "files": list(found.files),
        "connections": list(found.connections),
        "unloaded": list(found.unload),
    }


if __name__ == "__main__":
    main()
