#!/usr/bin/python
# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: host_info
short_description: Tell the plan what it needs to know of a host
description:
  - Reads a host's addresses, default routes, clock, free space, kernel and libreswan package in one go.
  - Register the result as C(__ipsec_host_info), where M(underlay.ipsec.plan) looks for it.
    The role P(underlay.ipsec.plan#role) does.
  - The addresses are also stored as the fact C(__ipsec_addresses), so that with fact caching a later
    run with C(--limit) knows the addresses of the hosts outside the limit.
author:
  - underlay.ipsec contributors (@underlay-ipsec)
extends_documentation_fragment:
  - underlay.ipsec.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
    details: There is nothing that changes.
  idempotent:
    support: full
options:
  controller_time:
    description:
      - The time on the controller, in ISO 8601 and in UTC if it names no zone. The host's clock is compared with it.
    type: str
    required: true
  refresh:
    description:
      - If libreswan is not installed and the package index does not offer it, fetch the index once. Not in check mode.
    type: bool
    default: true
  connections:
    description: Whether to return RV(connections) and RV(keys). Whoever plans for a part of the members needs them.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Look at the host
  underlay.ipsec.host_info:
    controller_time: "{{ now(utc=true).isoformat() }}"
  register: __ipsec_host_info
"""

RETURN = r"""
addresses:
  description: The host's addresses, without loopback, link-local, deprecated, tentative and temporary ones.
  returned: success
  type: list
  elements: dict
  sample:
    - {interface: eth1, address: 10.88.0.11, prefix: 24, family: 4, scope: global, secondary: false}
default_routes:
  description: The default routes of both families, IPv4 first and the preferred one of a family first.
  returned: success
  type: list
  elements: dict
  sample:
    - {family: 4, interface: eth1, gateway: 10.88.0.1}
controller_address:
  description: The address that Ansible connects from, as the host sees it. Null if it does not come over ssh.
  returned: success
  type: str
  sample: 10.77.0.1
clock_skew:
  description: How far the host's clock is ahead of the controller's, in seconds.
  returned: success
  type: float
  sample: -0.3
free_bytes:
  description: Free space in the file systems of C(/etc) and C(/var), in bytes.
  returned: success
  type: dict
  sample: {/etc: 812343296, /var: 812343296}
libreswan:
  description:
    - C(installed) is the release of libreswan that is installed, or null.
    - C(candidate) is what the package manager would install, or null. It is looked up only if none is installed.
    - C(package) is the name of the package.
  returned: success
  type: dict
  sample: {installed: "4.10", candidate: null, package: libreswan}
connections:
  description: Name → fingerprint of each connection in the collection's files, if O(connections) asks for them; else null.
  returned: success
  type: dict
  sample: {underlay-data+h1+h2: 3b0c44298fc1c149}
keys:
  description: Ids → fingerprint of the pre-shared key of each pair in the collection's file, if O(connections) asks for them; else null.
  returned: success
  type: dict
  sample: {"@h1 @h2": 9afbf4c8996fb924}
setup:
  description: The options that C(/etc/ipsec.conf) itself sets in C(config setup), by name.
  returned: success
  type: dict
  sample: {}
openshift_ipsec:
  description: Whether an OpenShift 4 cluster has IPsec of its own on the host, and so certificates in libreswan's NSS database.
  returned: success
  type: bool
  sample: false
esp:
  description: Whether the kernel can do ESP over IPv4. Null if the host does not show it.
  returned: success
  type: bool
  sample: true
esp6:
  description: Whether the kernel can do ESP over IPv6. Null if the host does not show it.
  returned: success
  type: bool
  sample: true
firewall:
  description:
    - C(active) are the firewalls in use, C(usable) those that would work, of C(firewalld), C(nftables) and C(iptables).
    - In use is firewalld if it runs; of the others those whose service is active and, if there is none, those with rules
      for what comes in. The collection's own rules do not count.
  returned: success
  type: dict
  sample: {active: [firewalld], usable: [nftables, iptables]}
links:
  description:
    - The host's interfaces with their C(name), C(mtu) in bytes and C(kind), null if it is hardware.
    - C(lower) is the interface on which one depends, C(local) and C(remote) are the ends of a tunnel and C(family) is theirs,
      each null if there is none. C(up) is whether it is in use.
  returned: success
  type: list
  elements: dict
  sample:
    - {name: eth1, mtu: 1500, kind: null, lower: null, local: null, remote: null, family: null, up: true}
pacemaker:
  description:
    - The pacemaker cluster that the host is in, null if it is in none. C(node) is the host's name there.
    - C(addresses) are the addresses that the cluster brings up, each with the ids of its resources. C(tunnels) are the ids of
      the resources of the collection. C(maintenance) is whether the cluster neither starts nor stops anything.
  returned: success
  type: dict
  sample:
    cluster: tripleo_cluster
    nodes: [controller-0, controller-1, controller-2]
    node: controller-0
    quorum: true
    maintenance: false
    addresses: {172.16.2.250: [ip-172.16.2.250]}
    tunnels: [ipsec-vip-internal_api]
keys_applied:
  description: Whether the host has a file of the collection with pre-shared keys.
  returned: success
  type: bool
  sample: false
vips_applied:
  description: Whether M(underlay.ipsec.vip) has anything on the host.
  returned: success
  type: bool
mtu_applied:
  description: Whether M(underlay.ipsec.mtu) has changed anything on the host.
  returned: success
  type: bool
  sample: false
python:
  description: The release of Python that the module ran on.
  returned: success
  type: str
  sample: 3.11.2
hostname:
  description: The host's own name.
  returned: success
  type: str
  sample: h1
boot_id:
  description: The kernel's identifier of this boot.
  returned: success
  type: str
  sample: 5f2b8a4c-53f1-4b57-9b0f-6f8d4c2ce7a1
ansible_facts:
  description: RV(addresses) as the fact C(__ipsec_addresses), for the fact cache.
  returned: success
  type: dict
  contains:
    __ipsec_addresses:
      description: The same as RV(addresses).
      returned: success
      type: list
      elements: dict
"""

import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.underlay.ipsec.plugins.module_utils._errors import IpsecError
from ansible_collections.underlay.ipsec.plugins.module_utils._host import inspect_host
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan.configured import (
    fingerprints,
    key_fingerprints,
)
from ansible_collections.underlay.ipsec.plugins.module_utils._run import host_runner


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "controller_time": {"type": "str", "required": True},
            "refresh": {"type": "bool", "default": True},
            "connections": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    if os.geteuid() != 0:
        module.fail_json(
            msg="root is needed, and the play is another user on this host. Run it with --become, or set ansible_become in the inventory"
        )
    try:
        info = inspect_host(
            host_runner(),
            environment=os.environ,
            controller_time=module.params["controller_time"],
            refresh=module.params["refresh"] and not module.check_mode,
        )
    except IpsecError as error:
        module.fail_json(msg=str(error))
    asked = module.params["connections"]
    info["connections"] = fingerprints() if asked else None
    info["keys"] = key_fingerprints() if asked else None
    module.exit_json(changed=False, **info, ansible_facts={"__ipsec_addresses": info["addresses"]})


if __name__ == "__main__":
    main()
