#!/usr/bin/python
# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: ca_sign
short_description: Sign the certificate requests of all hosts at once
description:
  - Signs what the hosts of the play's batch returned from M(underlay.ipsec.nss_request). Hosts that need no certificate
    are left out.
  - What names a host may have certified comes from the plan. A request that asks for other names, or has a wrong
    signature, another kind of key, or the key of another host, is refused. All that is wrong is reported at once, and then
    nothing is signed.
  - Each certificate is in the ledger, on the disk, before it is handed out. A request that an interrupted run signed
    already gets the same certificate again.
  - A host whose certificate was revoked is refused, unless it is in O(reinstate).
  - A certificate that a host has from this CA, and that the ledger misses, is written into it. So any run restores a ledger
    that was lost.
  - Two control nodes that share the folder wait for each other.
  - This is an action plugin. It runs on the control node, and connects to no host. Call it with C(run_once).
author:
  - underlay.ipsec contributors (@underlay-ipsec)
requirements:
  - cryptography >= 42 on the control node
extends_documentation_fragment:
  - underlay.ipsec.attributes
attributes:
  check_mode:
    support: full
    details: Nothing is signed; there would be something to sign if RV(ignore:changed).
  diff_mode:
    support: none
  idempotent:
    support: full
options:
  dir:
    description: The folder of the CA that M(underlay.ipsec.ca) created.
    type: path
    required: true
  passphrase:
    description: The passphrase of the CA's key. Without it the task fails.
    type: str
  requests:
    description: The name of the variable in which each host registered the result of M(underlay.ipsec.nss_request).
    type: str
    required: true
  plan_dir:
    description: The directory that M(underlay.ipsec.plan) wrote.
    type: path
    required: true
  reinstate:
    description: The members that may have a new certificate although theirs was revoked.
    type: list
    elements: str
    default: []
seealso:
  - module: underlay.ipsec.ca
  - module: underlay.ipsec.ca_revoke
  - module: underlay.ipsec.nss_request
  - module: underlay.ipsec.nss_certificate
"""

EXAMPLES = r"""
- name: Sign what was asked for
  underlay.ipsec.ca_sign:
    dir: ~/.config/underlay-ipsec/ca
    passphrase: "{{ vaulted_passphrase }}"
    requests: request
    plan_dir: ipsec-report/plan
  run_once: true
  register: signed
"""

RETURN = r"""
signed:
  description: The hosts that got a new certificate.
  returned: always
  type: list
  elements: str
recorded:
  description: The hosts whose certificate the ledger missed.
  returned: always
  type: list
  elements: str
issued_dir:
  description: The directory on the control node with the hosts' certificates, C(<inventory_hostname>.pem).
  returned: always
  type: str
problems:
  description: What is wrong, each with C(message), C(remedy), C(variable) and C(host).
  returned: failure
  type: list
  elements: dict
"""
