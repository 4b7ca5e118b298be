#!/usr/bin/python
# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: ca
short_description: Create or adopt the certificate authority on the control node
description:
  - Creates a certificate authority in a folder of the control node, once. Its key is encrypted with the passphrase, and
    never leaves the folder.
  - A CA that is in the folder already, as C(ca.crt) and C(ca.key) in PEM, is adopted. Each run checks that the passphrase
    opens the key, that key and certificate belong together, that the certificate is that of a CA, and that it is valid.
  - An interrupted creation is completed by the next run.
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
    details: As long as there is no CA, RV(certificate) is null.
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  dir:
    description: The folder. It is created with mode 0700.
    type: path
    required: true
  passphrase:
    description: The passphrase of the CA's key. Without it the task fails.
    type: str
  validity_days:
    description: For how many days a new CA is valid.
    type: int
    default: 3650
  cert_validity_days:
    description: For how many days hosts' certificates are valid. If given, and the CA ends sooner, there is a warning.
    type: int
  key_type:
    description: The kind of key of a new CA.
    type: str
    choices: [ecdsa-p256, ecdsa-p384, rsa-3072, rsa-4096]
    default: ecdsa-p384
seealso:
  - module: underlay.ipsec.ca_sign
notes:
  - The folder holds C(ca.crt), C(ca.key), the ledger of issued certificates C(ledger.jsonl), C(issued/<member>.pem), and
    C(lock). Back it up as a whole.
"""

EXAMPLES = r"""
- name: Have a CA
  underlay.ipsec.ca:
    dir: ~/.config/underlay-ipsec/ca
    passphrase: "{{ vaulted_passphrase }}"
  run_once: true
  register: ca
"""

RETURN = r"""
certificate:
  description: The CA's certificate in PEM; null in check mode if there is none yet.
  returned: success
  type: str
fingerprint:
  description: SHA-256 of the certificate, hexadecimal.
  returned: success
  type: str
subject:
  description: The certificate's subject (RFC 4514).
  returned: success
  type: str
  sample: CN=underlay.ipsec CA e629a04c2973,O=underlay.ipsec
not_after:
  description: When the CA expires (UTC).
  returned: success
  type: str
  sample: "2036-01-31T12:00:00Z"
problems:
  description: What is wrong, each with C(message), C(remedy), C(variable) and C(host).
  returned: failure
  type: list
  elements: dict
"""
