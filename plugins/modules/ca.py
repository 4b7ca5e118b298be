#!/usr/bin/python
# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: ca
short_description: Create, adopt or change the certificate authority on the control node
description:
  - Creates a certificate authority in a folder of the control node, once. Its key is encrypted with the passphrase, and
    never leaves the folder.
  - A CA that is there already is adopted with O(certificate) and O(key), or by putting it into the folder as C(ca.crt) and
    C(ca.key) in PEM. Each run checks that the passphrase opens the key, that key and certificate belong together, that the
    certificate is that of a CA, and that it is valid.
  - With O(rollover) one CA follows another, in three steps. Between them both are trusted.
  - Issues a revocation list as soon as a certificate is revoked, and a new one when half of its time is over.
  - What an interrupted run began is completed by the next run.
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
    details:
      - The results are those of the CA as it would be, except for one that would be created. RV(certificate) is null if that is
        the first one.
      - Each step of a rollover is foretold for itself, as if those before it had not been taken. So O(rollover=finish) in check
        mode tells what hosts should trust in the end, and the step itself can wait until they do.
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
    description: The passphrase of the CA's key. Without it the task fails, if O(source=ca).
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
  source:
    description:
      - Where the hosts' certificates come from.
      - With V(ca) from the folder's CA.
      - With V(pkcs12) and V(external) from the CA in O(certificate), whose key is not needed. The folder remembers which CA
        is trusted, so that a change of it is a rollover too.
    type: str
    choices: [ca, pkcs12, external]
    default: ca
  certificate:
    description:
      - A file in PEM with the certificate of the CA that signs, followed by those of its issuers up to the root.
      - If the folder has another CA, the task fails, unless O(rollover=prepare).
      - Required unless O(source=ca).
    type: path
  key:
    description:
      - A file in PEM with the key of that CA. It is copied into the folder, encrypted with O(passphrase), and not read again.
    type: path
  key_passphrase:
    description: The passphrase of the file O(key), if it is encrypted.
    type: str
  serial_file:
    description:
      - A file with the last serial number that the adopted CA gave, in hexadecimal, such as OpenShift's C(ca.serial.txt).
        Certificates are numbered from there, and the file is kept up to date.
      - The folder remembers the path. Without one, serial numbers are random.
    type: path
  crl_validity_days:
    description: For how many days a revocation list is valid.
    type: int
    default: 90
  crl:
    description: Issue a revocation list even if nothing is revoked, for hosts that refuse to go without.
    type: bool
    default: false
  rollover:
    description:
      - With V(prepare) the CA in O(certificate), or else a new one, is put beside the one that signs.
      - With V(switch) it signs from then on, and the old one remains trusted.
      - With V(finish) the old one is moved to C(retired).
      - A step that was taken already changes nothing, so that an interrupted rollover can begin again with V(prepare).
    type: str
    choices: [none, prepare, switch, finish]
    default: none
seealso:
  - module: underlay.ipsec.ca_sign
  - module: underlay.ipsec.ca_revoke
  - module: underlay.ipsec.ca_exchange
notes:
  - The folder holds C(ca.crt), C(chain.crt) (the CA's issuers), C(ca.key), C(crl.pem), the ledger of certificates
    C(ledger.jsonl), C(issued/<member>.pem), and C(lock); during a rollover also C(next.*) or C(old.*); and former CAs in
    C(retired). Back it up as a whole.
"""

EXAMPLES = r"""
- name: Have a CA
  underlay.ipsec.ca:
    dir: ~/.config/underlay-ipsec/ca
    passphrase: "{{ vaulted_passphrase }}"
  run_once: true
  register: ca

- name: Use the CA of an OpenShift 3.11 cluster
  underlay.ipsec.ca:
    dir: ~/.config/underlay-ipsec/ca
    passphrase: "{{ vaulted_passphrase }}"
    certificate: /etc/origin/master/ca.crt
    key: /etc/origin/master/ca.key
    serial_file: /etc/origin/master/ca.serial.txt
  run_once: true
  register: ca
"""

RETURN = r"""
certificate:
  description: The certificate (PEM) of the CA whose certificates hosts should have; null in check mode if there is none yet.
  returned: success
  type: str
authorities:
  description: The other CAs (PEM) to trust - the issuers of RV(certificate), and during a rollover the next or the old CA.
  returned: success
  type: list
  elements: str
phase:
  description:
    - V(steady) if there is one CA.
    - V(prepared) if the next one is trusted, and does not sign yet.
    - V(switched) if the next one signs, and the old one is still trusted.
  returned: success
  type: str
  sample: steady
crl:
  description: The revocation list (PEM) of RV(certificate); null if it has none.
  returned: success
  type: str
crls:
  description: The revocation lists (PEM) of all CAs that are trusted and have one.
  returned: success
  type: list
  elements: str
crl_not_after:
  description: When the first of RV(crls) expires (UTC); null if there is none.
  returned: success
  type: str
  sample: "2026-05-01T12:00:00Z"
revoked:
  description: The members whose last certificate is revoked.
  returned: success
  type: list
  elements: str
serial_file:
  description: The file with the last serial number; null if they are random.
  returned: success
  type: str
fingerprint:
  description: SHA-256 of RV(certificate), hexadecimal.
  returned: success
  type: str
subject:
  description: The subject of RV(certificate) (RFC 4514).
  returned: success
  type: str
  sample: CN=underlay.ipsec CA e629a04c2973,O=underlay.ipsec
not_after:
  description: When RV(certificate) expires (UTC).
  returned: success
  type: str
  sample: "2036-01-31T12:00:00Z"
problems:
  description: What is wrong, each with C(message), C(remedy), C(variable) and C(host).
  returned: failure
  type: list
  elements: dict
"""
