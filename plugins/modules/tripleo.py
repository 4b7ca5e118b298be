#!/usr/bin/python
# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: tripleo
short_description: Translate a TripleO inventory and the variables of tripleo-ipsec
description:
  - Says what C(enabled_networks), C(<network>_ip), C(<network>_vip) and the variables of tripleo-ipsec mean in the
    variables of this collection. A variable of this collection that is set wins.
  - Runs on the controller, once for all hosts of the group, including those that the play does not work on. It has to run where
    no role has brought defaults of those variables.
  - The action M(underlay.ipsec.plan) takes the result if it is registered as C(__ipsec_tripleo).
  - All problems are found at once and are the message of one failed task.
author:
  - underlay.ipsec contributors (@underlay-ipsec)
extends_documentation_fragment:
  - underlay.ipsec.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
    details: Nothing changes on a host.
  idempotent:
    support: full
options:
  group:
    description: The inventory group whose hosts are the overcloud.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Look at the host
  underlay.ipsec.host_info:
    controller_time: "{{ now(utc=true).isoformat() }}"
  register: __ipsec_host_info

- name: Translate the variables of the overcloud
  underlay.ipsec.tripleo:
    group: overcloud
  register: __ipsec_tripleo
  run_once: true
"""

RETURN = r"""
cluster:
  description: The variables that all hosts share. None of them holds a secret.
  returned: success
  type: dict
  sample:
    ipsec_topology: mesh
hosts:
  description: The variables of each host.
  returned: success
  type: dict
  sample:
    controller-0:
      ipsec_addresses:
        internal_api: 172.16.2.11
keyed:
  description: Whether the keys come from C(ipsec_psk).
  returned: success
  type: bool
  sample: true
"""
