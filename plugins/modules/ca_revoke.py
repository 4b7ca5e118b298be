#!/usr/bin/python
# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: ca_revoke
short_description: Revoke the certificates of members
description:
  - Writes into the ledger that all certificates of the members that have not expired are revoked, and issues a new
    revocation list (CRL) of their CA.
  - It is of no effect until hosts have the list, and security associations of the members are ended.
  - M(underlay.ipsec.ca_sign) refuses to sign for these members from then on.
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
  diff_mode:
    support: none
  idempotent:
    support: full
options:
  dir:
    description: The folder of the CA that M(underlay.ipsec.ca) created or adopted.
    type: path
    required: true
  passphrase:
    description: The passphrase of the CA's key. Without it the task fails.
    type: str
  members:
    description: The inventory names of the members, as the ledger has them. They need not be in the inventory any more.
    type: list
    elements: str
    required: true
  reason:
    description: Why, as RFC 5280 calls it.
    type: str
    choices: [unspecified, keyCompromise, affiliationChanged, superseded, cessationOfOperation, privilegeWithdrawn]
    default: unspecified
  crl_validity_days:
    description: For how many days the revocation list is valid.
    type: int
    default: 90
seealso:
  - module: underlay.ipsec.ca
  - module: underlay.ipsec.ca_sign
"""

EXAMPLES = r"""
- name: Shut a stolen machine out
  underlay.ipsec.ca_revoke:
    dir: ~/.config/underlay-ipsec/ca
    passphrase: "{{ vaulted_passphrase }}"
    members: [h3]
    reason: keyCompromise
  run_once: true
  register: revocation
"""

RETURN = r"""
revoked:
  description: The certificates of O(members) that are revoked, now or before.
  returned: success
  type: list
  elements: dict
  contains:
    member:
      description: The inventory name.
      type: str
    serial:
      description: The serial number, hexadecimal.
      type: str
    subject:
      description: The subject (RFC 4514).
      type: str
      sample: CN=h3.example.org,O=underlay.ipsec
    names:
      description: The subject alternative names, as C(dns:…) and C(ip:…).
      type: list
      elements: str
crl:
  description: The revocation list (PEM) of the CA that signs; null if it has none.
  returned: success
  type: str
crls:
  description: The revocation lists (PEM) of all CAs that are trusted and have one.
  returned: success
  type: list
  elements: str
crl_not_after:
  description: When the first of RV(crls) expires (UTC).
  returned: success
  type: str
  sample: "2026-05-01T12:00:00Z"
problems:
  description: What is wrong, each with C(message), C(remedy), C(variable) and C(host).
  returned: failure
  type: list
  elements: dict
"""
