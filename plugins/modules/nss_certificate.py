#!/usr/bin/python
# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: nss_certificate
short_description: Have exactly one certificate under its nickname in libreswan's NSS database
description:
  - Imports a certificate whose private key was generated in the database by M(underlay.ipsec.nss_request), and the CA
    certificate with the trust flags that libreswan needs.
  - A certificate that takes the place of another is imported beside it and checked by NSS. Only then are the nicknames
    swapped and the old certificate and its key deleted. If the new one cannot serve, the old one stays.
  - A running libreswan has to reread certificates afterwards, as O(underlay.ipsec.libreswan#module:reload) does.
author:
  - underlay.ipsec contributors (@underlay-ipsec)
requirements:
  - certutil and crlutil (package C(libnss3-tools) or C(nss-tools)) on the host
extends_documentation_fragment:
  - underlay.ipsec.attributes
  - underlay.ipsec.nss
attributes:
  check_mode:
    support: full
    details: Works on a host that has neither libreswan nor certutil.
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  state:
    description:
      - V(present) has the certificate and its CA in the database.
      - V(absent) deletes the certificate, its private key and a request that waits for a certificate.
    type: str
    choices: [present, absent]
    default: present
  nickname:
    description: The nickname in NSS.
    type: str
    required: true
  certificate:
    description: The certificate in PEM.
    type: str
  ca_certificate:
    description: The certificate in PEM of the CA that has O(ca_nickname).
    type: str
  authorities:
    description:
      - The other CA certificates in PEM, as for M(underlay.ipsec.nss_request). What the certificate before was issued by, and is
        not among them, is deleted once the new one is there.
    type: list
    elements: str
    default: []
  remove_ca:
    description: With O(state=absent), delete the CA certificate too, with all others that were filed beside it.
    type: bool
    default: false
seealso:
  - module: underlay.ipsec.nss_request
  - module: underlay.ipsec.ca_sign
"""

EXAMPLES = r"""
- name: Import the host's certificate
  underlay.ipsec.nss_certificate:
    nickname: underlay-h1
    certificate: "{{ lookup('ansible.builtin.file', 'issued/h1.pem') }}"
    ca_certificate: "{{ lookup('ansible.builtin.file', 'ca.crt') }}"

- name: Remove the host's certificate, its key and the CA
  underlay.ipsec.nss_certificate:
    nickname: underlay-h1
    remove_ca: true
    state: absent
"""

RETURN = r"""
fingerprint:
  description: SHA-256 of the certificate, hexadecimal; null with O(state=absent).
  returned: success
  type: str
serial:
  description: Serial number of the certificate, hexadecimal; null with O(state=absent).
  returned: success
  type: str
not_after:
  description: When the certificate expires (UTC); null with O(state=absent).
  returned: success
  type: str
  sample: "2031-01-31T12:00:00Z"
rotated:
  description: Whether it took the place of another certificate, which libreswan may still hold in memory.
  returned: success
  type: bool
"""

from datetime import datetime, timezone
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.underlay.ipsec.plugins.module_utils._errors import IpsecError
from ansible_collections.underlay.ipsec.plugins.module_utils._files import problem_from_os
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan import renewed
from ansible_collections.underlay.ipsec.plugins.module_utils._nss import authorities, member, metrics
from ansible_collections.underlay.ipsec.plugins.module_utils._nss.database import (
    CertutilDatabase,
    MemoryDatabase,
    default_directory,
    difference,
    facts,
)
from ansible_collections.underlay.ipsec.plugins.module_utils._nss.pending import PendingFile
from ansible_collections.underlay.ipsec.plugins.module_utils._nss.x509 import (
    Certificate,
    certificate_from_pem,
)
from ansible_collections.underlay.ipsec.plugins.module_utils._run import host_runner


def argument_spec() -> dict[str, Any]:
    """Return what the module takes."""
    return {
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        "nickname": {"type": "str", "required": True},
        "certificate": {"type": "str"},
        "ca_certificate": {"type": "str"},
        "ca_nickname": {"type": "str", "default": "underlay-ca"},
        "authorities": {"type": "list", "elements": "str", "default": []},
        "remove_ca": {"type": "bool", "default": False},
        "nss_dir": {"type": "path"},
        "metrics_dir": {"type": "path"},
    }


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec(),
        supports_check_mode=True,
        required_if=[("state", "present", ["certificate", "ca_certificate"])],
    )
    try:
        module.exit_json(**_run(module.params, check=module.check_mode))
    except IpsecError as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=str(problem_from_os(error)))


def _run(params: dict[str, Any], *, check: bool) -> dict[str, Any]:
    nickname, ca_nickname, metrics_dir = params["nickname"], params["ca_nickname"], params["metrics_dir"]
    present = params["state"] == "present"
    certificate: Certificate | None = certificate_from_pem(params["certificate"]) if present else None
    others = [certificate_from_pem(text) for text in params["authorities"]]
    first = certificate_from_pem(params["ca_certificate"]) if present else None
    cas = [first, *others] if first else others
    real = CertutilDatabase(host_runner(), params["nss_dir"] or default_directory())
    rotated = False
    with real.opened(create=False) as exists:
        before = MemoryDatabase.of(real) if exists else MemoryDatabase()
        db = MemoryDatabase.of(before) if check or not exists else real
        record = PendingFile(real.directory)
        if certificate and first:
            if check and not exists:
                # The key would be there once the host had a database.
                db = MemoryDatabase(keys={certificate.public_key.key_id})
            authorities.ensure(db, first, others, ca_nickname, nickname)
            # Libreswan does not use a database elsewhere.
            if not params["nss_dir"] and not check:
                renewed.note_import(before, nickname, certificate, first, others, ca_nickname)
            rotated = member.install(db, nickname, certificate, cas, datetime.now(timezone.utc))
            authorities.ensure(db, first, others, ca_nickname, nickname)
        else:
            member.uninstall(db, nickname, ca_nickname if params["remove_ca"] else None)
        forgotten = member.forget_request(db, record, certificate, dry=check)
        after = MemoryDatabase.of(db)
    listed = authorities.nicknames(after, cas, ca_nickname)
    if certificate:
        measured = metrics.write(metrics_dir, metrics.render(after, nickname, listed), dry=check)
    else:
        measured = metrics.delete(metrics_dir, dry=check)
    shown = tuple(dict.fromkeys([nickname, *authorities.nicknames(before, cas, ca_nickname), *listed]))
    return {
        "changed": forgotten or measured or after != before,
        **facts(certificate),
        "rotated": rotated,
        "diff": difference(before, after, shown),
    }


if __name__ == "__main__":
    main()
