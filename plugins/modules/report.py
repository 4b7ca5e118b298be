#!/usr/bin/python
# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is only the documentation: plugins/action/report.py runs on the control node.

from __future__ import annotations

DOCUMENTATION = r"""
module: report
short_description: Compare what the members observed with the plan
description:
  - Runs on the control node, once for all members. Takes what M(underlay.ipsec.probe) found on each of them, compares
    every ordered pair on every network with the plan, and writes C(report.json) and C(report.html).
  - Fails if reality differs from the plan, and then says which pairs differ, why, and what to do about it.
  - A member that should have been observed and was not is a problem. A member that a C(--limit) left out is not; what it
    sends is listed as not observed, and the report says that it is not complete.
  - Fails, too, if the kernel of a member lets traffic through in clear text that is no exception in the plan.
author:
  - underlay.ipsec contributors (@underlay-ipsec)
extends_documentation_fragment:
  - underlay.ipsec.attributes
attributes:
  check_mode:
    support: full
    details: Nothing is written, and a difference is no failure, because a check run has not made the hosts as planned.
  diff_mode:
    support: none
  idempotent:
    support: full
    details: The report is written anew each time; this does not count as a change.
options:
  plan_dir:
    description: The directory that M(underlay.ipsec.plan) wrote.
    type: path
    required: true
  report_dir:
    description: Where to write the report. It is created if it does not exist.
    type: path
    required: true
  observed:
    description: The name of the variable in which the result of M(underlay.ipsec.probe) is registered on each member.
    type: str
    required: true
  stage:
    description: What has just been done, in one word, for the reader of the report.
    type: str
    default: verify
notes:
  - Use C(run_once). In a play with C(serial), each batch is compared by itself, and the others are listed as not observed.
  - In a play with C(any_errors_fatal), turn it off for the probe's task, so that the report can say what happened.
seealso:
  - module: underlay.ipsec.probe
"""

EXAMPLES = r"""
- name: Look at the wire
  underlay.ipsec.probe:
    member: "{{ inventory_hostname }}"
    networks: "{{ lookup('ansible.builtin.file', 'ipsec-report/plan/plan.json') | from_json | underlay.ipsec.probe_networks(inventory_hostname) }}"
  register: probe
  any_errors_fatal: false

- name: Compare with the plan
  underlay.ipsec.report:
    plan_dir: ipsec-report/plan
    report_dir: ipsec-report
    observed: probe
  run_once: true
"""

RETURN = r"""
msg:
  description: What is wrong and what to do, the matrix as text, and where the report is. Several lines; the same as data
    is in C(report.json).
  returned: always
  type: str
ok:
  description: Whether everything that was observed is as planned.
  returned: always
  type: bool
complete:
  description: Whether the run was for all members.
  returned: always
  type: bool
summary:
  description: How many pairs there are, how many are as planned, and how many there are of each status.
  returned: always
  type: dict
report:
  description: Paths of the report, C(json) and C(html); null in check mode.
  returned: always
  type: dict
"""
