#!/usr/bin/python
# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: nss_pkcs12
short_description: Have the certificate and key of a PKCS#12 bundle in libreswan's NSS database
description:
  - Imports a bundle on the control node into the NSS database, under a nickname that does not depend on what the bundle says.
    Other certificates in the bundle are left out; CAs are those of O(ca_certificate) and O(authorities).
  - The bundle is read and checked on the control node, and travels encrypted with a password for this one time. On the host
    it is in memory only, and the connection uses pipelining where it can, so that it is not written to a disk either.
  - A certificate that takes the place of another is checked by NSS first. The old certificate and its key are deleted, and
    so is a request of M(underlay.ipsec.nss_request) that waits for a certificate. If the new one cannot serve, the old one
    stays.
  - A running libreswan has to reread certificates afterwards, as O(underlay.ipsec.libreswan#module:reload) does.
author:
  - underlay.ipsec contributors (@underlay-ipsec)
requirements:
  - certutil, crlutil and pk12util (package C(libnss3-tools) or C(nss-tools)) on the host
  - cryptography on the control node
extends_documentation_fragment:
  - underlay.ipsec.attributes
  - underlay.ipsec.nss
attributes:
  check_mode:
    support: full
    details: Works on a host that has neither libreswan nor certutil. The bundle has to be there.
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  nickname:
    description: The nickname in NSS.
    type: str
    required: true
  bundle:
    description: The path of the bundle on the control node.
    type: path
    required: true
  password:
    description: The password of the bundle.
    type: str
  password_file:
    description: The path on the control node of a file with the password in its first line, instead of O(password).
    type: path
  contents:
    description: The bundle as it travels, in base64. The action plugin sets it.
    type: str
  certificate:
    description: The certificate in the bundle in PEM. The action plugin sets it.
    type: str
  ca_certificate:
    description: The certificate in PEM of the CA that has O(ca_nickname).
    type: str
    required: true
  authorities:
    description:
      - The other CA certificates in PEM, as for M(underlay.ipsec.nss_request). What the certificate before was issued by, and is
        not among them, is deleted once the new one is there.
    type: list
    elements: str
    default: []
seealso:
  - module: underlay.ipsec.nss_request
  - module: underlay.ipsec.nss_certificate
"""

EXAMPLES = r"""
- name: Import the host's bundle
  underlay.ipsec.nss_pkcs12:
    nickname: underlay-{{ inventory_hostname }}
    bundle: "bundles/{{ inventory_hostname }}.p12"
    password: "{{ vaulted_bundle_password }}"
    ca_certificate: "{{ lookup('ansible.builtin.file', 'ca.crt') }}"
"""

RETURN = r"""
fingerprint:
  description: SHA-256 of the certificate, hexadecimal.
  returned: success
  type: str
serial:
  description: Serial number of the certificate, hexadecimal.
  returned: success
  type: str
not_after:
  description: When the certificate expires (UTC).
  returned: success
  type: str
  sample: "2031-01-31T12:00:00Z"
rotated:
  description: Whether it took the place of another certificate, which libreswan may still hold in memory.
  returned: success
  type: bool
"""

import base64
from datetime import datetime, timezone
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.underlay.ipsec.plugins.module_utils._errors import IpsecError
from ansible_collections.underlay.ipsec.plugins.module_utils._files import problem_from_os
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan import renewed
from ansible_collections.underlay.ipsec.plugins.module_utils._nss import authorities, member, metrics
from ansible_collections.underlay.ipsec.plugins.module_utils._nss.database import (
    Bundle,
    CertutilDatabase,
    MemoryDatabase,
    default_directory,
    difference,
    facts,
)
from ansible_collections.underlay.ipsec.plugins.module_utils._nss.pending import PendingFile
from ansible_collections.underlay.ipsec.plugins.module_utils._nss.x509 import certificate_from_pem
from ansible_collections.underlay.ipsec.plugins.module_utils._run import host_runner


def argument_spec() -> dict[str, Any]:
    """Return what the module takes."""
    return {
        "nickname": {"type": "str", "required": True},
        "bundle": {"type": "path", "required": True},
        "password": {"type": "str", "no_log": True},
        "password_file": {"type": "path", "no_log": False},
        "contents": {"type": "str", "no_log": True},
        "certificate": {"type": "str"},
        "ca_certificate": {"type": "str", "required": True},
        "ca_nickname": {"type": "str", "default": "underlay-ca"},
        "authorities": {"type": "list", "elements": "str", "default": []},
        "nss_dir": {"type": "path"},
        "metrics_dir": {"type": "path"},
    }


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec(), supports_check_mode=True)
    if not (module.params["contents"] and module.params["certificate"]):
        module.fail_json(msg="the bundle was not read: the action plugin of this name has to run first")
    try:
        module.exit_json(**_run(module.params, check=module.check_mode))
    except IpsecError as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=str(problem_from_os(error)))


def _run(params: dict[str, Any], *, check: bool) -> dict[str, Any]:
    nickname, ca_nickname = params["nickname"], params["ca_nickname"]
    certificate = certificate_from_pem(params["certificate"])
    bundle = Bundle(certificate, base64.b64decode(params["contents"]), params["password"])
    first = certificate_from_pem(params["ca_certificate"])
    others = [certificate_from_pem(text) for text in params["authorities"]]
    cas = [first, *others]
    now = datetime.now(timezone.utc)
    real = CertutilDatabase(host_runner(), params["nss_dir"] or default_directory())
    with real.opened(create=not check) as exists:
        before = MemoryDatabase.of(real) if exists else MemoryDatabase()
        db = MemoryDatabase.of(before) if check else real
        # Also before the CAs, so that a bundle that does not fit changes nothing.
        member.check_fit(before.content(), nickname, certificate, cas, now)
        authorities.ensure(db, first, others, ca_nickname, nickname)
        # Libreswan does not use a database elsewhere.
        if not params["nss_dir"] and not check:
            renewed.note_import(before, nickname, certificate, first, others, ca_nickname)
        rotated = member.import_bundle(db, nickname, bundle, cas, now)
        authorities.ensure(db, first, others, ca_nickname, nickname)
        # A request for the certificate that the bundle's takes the place of is of no use any more.
        forgotten = member.forget_request(db, PendingFile(real.directory), dry=check)
        after = MemoryDatabase.of(db)
    listed = authorities.nicknames(after, cas, ca_nickname)
    measured = metrics.write(params["metrics_dir"], metrics.render(after, nickname, listed), dry=check)
    shown = tuple(dict.fromkeys([nickname, *authorities.nicknames(before, cas, ca_nickname), *listed]))
    return {
        "changed": forgotten or measured or after != before,
        **facts(certificate),
        "rotated": rotated,
        "diff": difference(before, after, shown),
    }


if __name__ == "__main__":
    main()
