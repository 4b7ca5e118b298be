#!/usr/bin/python
# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: plan
short_description: Plan the cluster
description:
  - Validates the variables and what M(underlay.ipsec.host_info) found out about the hosts, and writes what the cluster
    and each of its hosts are to be.
  - Runs on the controller, once for all hosts of the group, including those that the play does not work on.
  - Reads the files on the controller that certificates come from, among them the bundle of each member, and checks what is in them.
    No secret of theirs gets into the plan.
  - All problems are found at once and are the message of one failed task. Then nothing is written.
  - The plan is the controller's working state, not a change. It is written in check mode, too.
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
    description: The inventory group whose hosts are the members.
    type: str
    required: true
  directory:
    description:
      - Where to write C(plan.json), and C(hosts/NAME.json) for each member that the play works on. Both are for their owner only.
      - Slices of hosts that the play does not work on are removed from there, because nobody knows whether they still hold.
    type: path
    required: true
  without:
    description: Names of hosts in the group that are not members any more.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Look at the host
  underlay.ipsec.host_info:
    controller_time: "{{ now(utc=true).isoformat() }}"
  register: __ipsec_host_info

- name: Plan the cluster
  underlay.ipsec.plan:
    group: ipsec
    directory: "{{ playbook_dir }}/ipsec-report/plan"
  run_once: true
"""

RETURN = r"""
plan_dir:
  description: Where the plan is.
  returned: success
  type: str
  sample: /home/me/ipsec-report/plan
digest:
  description: The SHA-256 of what the plan wants, in hexadecimal. It does not depend on who was reached.
  returned: success
  type: str
  sample: 0b0f8a1d0f5ce0d9d2b8a1f9d9a9f7c2a7f5e2b0c3d4e5f60718293a4b5c6d7e
members:
  description: How many members there are.
  returned: success
  type: int
  sample: 4
networks:
  description: How many networks there are.
  returned: success
  type: int
  sample: 1
problems:
  description: What is wrong. RV(ignore:msg) has the same as a numbered list.
  returned: failure
  type: list
  elements: dict
  contains:
    host:
      description: The inventory name of the host at fault, or null if it is the cluster.
      returned: always
      type: str
    variable:
      description: The variable at fault, or null.
      returned: always
      type: str
    message:
      description: What is wrong.
      returned: always
      type: str
    remedy:
      description: What to do about it.
      returned: always
      type: str
  sample:
    - host: h2
      variable: ipsec_addresses.data
      message: 10.88.0.11 is also the address of h1
      remedy: Correct ipsec_addresses, or the address of one of the two hosts
"""
