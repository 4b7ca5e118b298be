#!/usr/bin/python
# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: ca_exchange
short_description: Have the certificate requests of all hosts signed elsewhere
description:
  - Writes what the hosts of the play's batch returned from M(underlay.ipsec.nss_request) to C(<inventory_hostname>.csr) in
    a directory of the control node. Hosts that need no certificate are left out.
  - The task fails, with a list of what is to be signed, until each of these hosts has its certificate beside the request,
    in C(<inventory_hostname>.crt).
  - Each certificate is checked. It has to belong to the key of the request, be valid now, have all names of the plan, and
    come from the CA whose chain is given. All that is wrong is reported at once, and then none is taken over.
  - A certificate that is there from the time before the request counts as missing.
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
    details: Nothing is written; there would be something to sign if RV(ignore:changed).
  diff_mode:
    support: none
  idempotent:
    support: full
options:
  dir:
    description: The directory. It is created if it is missing. Nothing in it is secret.
    type: path
    required: true
  requests:
    description: The name of the variable in which each host registered the result of M(underlay.ipsec.nss_request).
    type: str
    required: true
  plan_dir:
    description: The directory that M(underlay.ipsec.plan) wrote.
    type: path
    required: true
  certificate:
    description: The certificate of the CA that signs and those of its issuers up to the root, in PEM.
    type: str
    required: true
seealso:
  - module: underlay.ipsec.nss_request
  - module: underlay.ipsec.nss_certificate
  - module: underlay.ipsec.ca_sign
"""

EXAMPLES = r"""
- name: Have signed what was asked for
  underlay.ipsec.ca_exchange:
    dir: ipsec-report/signing
    requests: request
    plan_dir: ipsec-report/plan
    certificate: "{{ lookup('ansible.builtin.file', 'company-ca.crt') }}"
  run_once: true
  register: exchange
"""

RETURN = r"""
exported:
  description: The hosts whose request was written now.
  returned: always
  type: list
  elements: str
waiting:
  description: The hosts whose certificate is not there yet.
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
