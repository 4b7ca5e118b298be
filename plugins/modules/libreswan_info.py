#!/usr/bin/python
# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: libreswan_info
short_description: Libreswan's connections, SAs, counters and policies as data
description:
  - Asks libreswan what it has loaded and which SAs it holds, and the kernel which policies and SAs are in force.
  - The result has the same form for libreswan 4.x and 5.x.
  - This is libreswan's account of itself. Whether traffic is encrypted is for M(underlay.ipsec.probe) to say.
author:
  - underlay.ipsec contributors (@underlay-ipsec)
extends_documentation_fragment:
  - underlay.ipsec.attributes
attributes:
  check_mode:
    support: full
    details: It changes nothing.
  diff_mode:
    support: none
  idempotent:
    support: full
options: {}
seealso:
  - module: underlay.ipsec.probe
"""

EXAMPLES = r"""
- name: Ask libreswan
  underlay.ipsec.libreswan_info:
  register: info

- name: List the peers with an established SA
  ansible.builtin.debug:
    msg: "{{ info.child_sas | selectattr('established') | map(attribute='peer') | unique }}"
"""

RETURN = r"""
version:
  description: Version of libreswan; null if it is not installed.
  returned: always
  type: str
  sample: "5.2"
running:
  description: Whether libreswan answers. If it does not, the lists that it would fill are empty.
  returned: always
  type: bool
connections:
  description: The loaded connections.
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: Name of the connection; an entry of a policy file adds C(#) and its CIDR.
      type: str
    instance:
      description: Number of the instance for one peer; null for what is not an instance.
      type: int
    role:
      description:
        - C(group) is a connection for policy files, C(entry) what an entry of them became, C(instance) what became of that
          for one peer. Anything else is a C(connection).
      type: str
    type:
      description: C(transport) or C(tunnel), C(pass) for clear text, C(drop).
      type: str
    opportunistic:
      description: Whether it negotiates with peers that it does not know.
      type: bool
    failure:
      description: What becomes of traffic if negotiating fails, C(pass) or C(drop); null if nothing is set.
      type: str
    local:
      description: This host's address.
      type: str
    remote:
      description: The peer's address, a network, or libreswan's word for it such as C(%group).
      type: str
    peer_id:
      description: What the peer calls itself; null until it has authenticated.
      type: str
    routed:
      description: Whether the kernel has a policy for it.
      type: bool
    trapped:
      description: Whether the kernel goes on asking for an SA when there is none. Means nothing for a C(group).
      type: bool
ike_sas:
  description: The IKE SAs.
  returned: always
  type: list
  elements: dict
  contains: &sa
    serial:
      description: Libreswan's number of the SA.
      type: int
    name:
      description: Name of the connection.
      type: str
    instance:
      description: Number of the connection's instance; null if it has none.
      type: int
    peer:
      description: Address of the peer.
      type: str
    state:
      description: The state, in the words of libreswan 5.
      type: str
      sample: ESTABLISHED_IKE_SA
    established:
      description: Whether it is established.
      type: bool
    newest:
      description: Whether it is the newest of its connection.
      type: bool
child_sas:
  description: The Child SAs, those that carry traffic.
  returned: always
  type: list
  elements: dict
  contains:
    <<: *sa
    ike_serial:
      description: Number of the IKE SA that it belongs to.
      type: int
    spi_out:
      description: SPI to the peer.
      type: str
    spi_in:
      description: SPI from the peer.
      type: str
    bytes_in:
      description: Bytes received.
      type: int
    bytes_out:
      description: Bytes sent.
      type: int
    peer_id:
      description: As whom the peer authenticated.
      type: str
      sample: O=underlay.ipsec, CN=h2
shunts:
  description: What libreswan does with peers that it has no SA with, for the time being.
  returned: always
  type: list
  elements: dict
  contains:
    source:
      description: Prefix of the source.
      type: str
    destination:
      description: Prefix of the destination.
      type: str
    protocol:
      description: Number of the protocol; 0 is any.
      type: int
    action:
      description: What is done.
      type: str
      sample: pass
    reason:
      description: Why.
      type: str
      sample: oe-failed
policies:
  description: The kernel's IPsec policies, except those of sockets.
  returned: always
  type: list
  elements: dict
  contains:
    source:
      description: Prefix of the source.
      type: str
    destination:
      description: Prefix of the destination.
      type: str
    protocol:
      description: The protocol that it is for; null is any.
      type: str
    source_port:
      description: The source port (the type, for ICMP); 0 is any.
      type: int
    destination_port:
      description: The destination port (the code, for ICMP); 0 is any.
      type: int
    direction:
      description: C(in), C(out) or C(fwd).
      type: str
    priority:
      description: The lowest number wins.
      type: int
    kind:
      description: C(esp) needs an SA, C(pass) is clear text, C(block) is dropped.
      type: str
kernel_sas:
  description: The kernel's SAs, one for each direction. No keys.
  returned: always
  type: list
  elements: dict
  contains:
    source:
      description: The sender's address.
      type: str
    destination:
      description: The receiver's address.
      type: str
    spi:
      description: The SPI.
      type: str
    reqid:
      description: The number by which policies refer to it.
      type: int
    mode:
      description: C(transport) or C(tunnel).
      type: str
    cipher:
      description: In libreswan's notation; C(null) does not encrypt.
      type: str
      sample: aes_gcm256
    encap:
      description: C(udp) or C(tcp) if ESP is wrapped in it, else null.
      type: str
    bytes:
      description: Bytes counted.
      type: int
    packets:
      description: Packets counted.
      type: int
"""

from dataclasses import asdict
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.underlay.ipsec.plugins.module_utils._errors import IpsecError
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan.dialect import detect
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan.status import read_info
from ansible_collections.underlay.ipsec.plugins.module_utils._probe.xfrm import read_policies, read_states
from ansible_collections.underlay.ipsec.plugins.module_utils._run import host_runner


def main() -> None:
    """Run the module."""
    module = AnsibleModule({}, supports_check_mode=True)
    try:
        module.exit_json(changed=False, **_run())
    except IpsecError as error:
        module.fail_json(msg=str(error))


def _run() -> dict[str, Any]:
    run = host_runner()
    dialect = detect(run)
    return {
        "version": f"{dialect.major}.{dialect.minor}" if dialect else None,
        **read_info(run),
        "policies": [asdict(policy) for policy in read_policies(run)],
        "kernel_sas": [asdict(state) for state in read_states(run)],
    }


if __name__ == "__main__":
    main()
