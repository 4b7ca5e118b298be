#!/usr/bin/python
# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: nss_request
short_description: Ask for the certificate that this host should have and has not
description:
  - Looks whether the NSS database of libreswan holds the certificate that the plan wants, with its private key, issued by
    the given CA, not expired and not due for renewal.
  - If it does not, generates a key inside the database and returns a certificate signing request. The key never leaves
    the database. The request of an interrupted run is taken up again, so that no key is left over.
  - Puts right on the way what needs no new certificate, which is the CA certificates with their trust flags and revocation
    lists, the trust flags of the host's certificate, an interrupted replacement, and the mode of the database's files.
  - Creates the database if there is none.
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
    details: No key is generated and RV(csr) is null. Works on a host that has neither libreswan nor certutil.
  diff_mode:
    support: full
  idempotent:
    support: full
    details: With O(force=true) it is not, once the new certificate is in place.
options:
  certificate:
    description: The part C(certificate) of the member's slice, as M(underlay.ipsec.plan) writes it.
    type: dict
    required: true
    suboptions:
      nickname:
        description: The nickname in NSS.
        type: str
        required: true
      subject:
        description:
          - The subject, as C(CN) and C(O). A renewal keeps it, because it is what opportunistic members are known by.
        type: dict
        required: true
      dns:
        description: The DNS names.
        type: list
        elements: str
        required: true
      ip:
        description: The IP addresses.
        type: list
        elements: str
        required: true
      source:
        description:
          - Where certificates come from.
          - V(ca) is the collection's own CA.
          - With V(pkcs12) no key is generated and RV(csr) is null. M(underlay.ipsec.nss_pkcs12) imports both.
          - With V(external) the certificate may have names besides O(certificate.dns) and O(certificate.ip), any subject, and
            any of the given CAs as its issuer. A request that O(force) asked for waits until O(force) is given again and its
            certificate is there.
        type: str
        choices: [ca, pkcs12, external]
        default: ca
      fingerprint:
        description: SHA-256 of the certificate that is wanted, hexadecimal, with O(certificate.source=pkcs12).
        type: str
      key_type:
        description:
          - The kind of key, one of V(ecdsa-p256), V(ecdsa-p384), V(rsa-3072) and V(rsa-4096). Of no consequence with
            O(certificate.source=pkcs12).
        type: str
        required: true
      validity_days:
        description: For how long the CA issues it. Of no consequence on the host.
        type: int
      renew_before_days:
        description: How many days before it expires a certificate is due for renewal.
        type: int
        required: true
  ca_certificate:
    description: The CA certificate in PEM. May be left out in check mode only, when there is no CA yet.
    type: str
  authorities:
    description:
      - The other CA certificates in PEM, which are the issuers of O(ca_certificate), those of endpoints, and the next or old CA
        while a rollover is on. Roots are trusted, intermediates are trusted as far as their roots are.
      - Their nicknames begin with O(ca_nickname) and a plus sign; others with such a nickname are deleted, except for the issuers
        of the certificate that the host has. Where another one becomes O(ca_certificate), the nicknames are swapped, and both
        stay trusted meanwhile.
    type: list
    elements: str
    default: []
  crls:
    description: The certificate revocation lists in PEM of these CAs. Other lists of theirs are deleted.
    type: list
    elements: str
    default: []
  force:
    description: Ask for a new certificate even if the present one serves. Of no consequence with O(certificate.source=pkcs12).
    type: bool
    default: false
seealso:
  - module: underlay.ipsec.ca_sign
  - module: underlay.ipsec.nss_certificate
"""

EXAMPLES = r"""
- name: Ask for a certificate if one is due
  underlay.ipsec.nss_request:
    certificate:
      nickname: underlay-h1
      subject:
        CN: h1.example.org
        O: underlay.ipsec
      dns: [h1.example.org]
      ip: [192.0.2.11]
      key_type: ecdsa-p384
      renew_before_days: 183
    ca_certificate: "{{ lookup('ansible.builtin.file', 'ca.crt') }}"
  register: request
"""

RETURN = r"""
state:
  description:
    - V(valid) if the host has the certificate.
    - V(requested) if RV(csr) has to be signed and the certificate imported.
  returned: success
  type: str
  sample: requested
reason:
  description: Why a certificate is needed; null if none is.
  returned: success
  type: str
  sample: names changed
csr:
  description:
    - The certificate signing request in PEM; null if RV(state=valid), in check mode, and with O(certificate.source=pkcs12).
  returned: success
  type: str
certificate:
  description: The present certificate in PEM; null if RV(state=requested).
  returned: success
  type: str
trust_changed:
  description: Whether a CA, its trust or its revocation list changed, which libreswan may still hold in memory.
  returned: success
  type: bool
fingerprint:
  description: SHA-256 of the present certificate, hexadecimal; null if RV(state=requested).
  returned: success
  type: str
serial:
  description: Serial number of the present certificate, hexadecimal; null if RV(state=requested).
  returned: success
  type: str
not_after:
  description: When the present certificate expires (UTC); null if RV(state=requested).
  returned: success
  type: str
  sample: "2031-01-31T12:00:00Z"
"""

from collections.abc import Sequence
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
    RevocationList,
    certificate_from_pem,
    revocation_list_from_pem,
)
from ansible_collections.underlay.ipsec.plugins.module_utils._run import host_runner


def argument_spec() -> dict[str, Any]:
    """Return what the module takes."""
    certificate = {
        "nickname": {"type": "str", "required": True},
        "subject": {"type": "dict", "required": True},
        "dns": {"type": "list", "elements": "str", "required": True},
        "ip": {"type": "list", "elements": "str", "required": True},
        "source": {"type": "str", "choices": ["ca", "pkcs12", "external"], "default": "ca"},
        "fingerprint": {"type": "str"},
        "key_type": {"type": "str", "required": True, "no_log": False},
        "validity_days": {"type": "int"},
        "renew_before_days": {"type": "int", "required": True},
    }
    return {
        "certificate": {"type": "dict", "required": True, "options": certificate},
        "ca_certificate": {"type": "str"},
        "ca_nickname": {"type": "str", "default": "underlay-ca"},
        "authorities": {"type": "list", "elements": "str", "default": []},
        "crls": {"type": "list", "elements": "str", "default": []},
        "nss_dir": {"type": "path"},
        "metrics_dir": {"type": "path"},
        "force": {"type": "bool", "default": False},
    }


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec(), supports_check_mode=True)
    if not module.params["ca_certificate"] and not module.check_mode:
        module.fail_json(msg="ca_certificate is required")
    try:
        module.exit_json(**_run(module.params, check=module.check_mode))
    except IpsecError as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=str(problem_from_os(error)))


def _run(params: dict[str, Any], *, check: bool) -> dict[str, Any]:
    now = datetime.now(timezone.utc)
    wanted = member.Wanted.from_slice(params["certificate"])
    pem, ca_nickname = params["ca_certificate"], params["ca_nickname"]
    first = certificate_from_pem(pem) if pem else None
    others = [certificate_from_pem(text) for text in params["authorities"]]
    crls = [revocation_list_from_pem(text) for text in params["crls"]]
    cas = [first, *others] if first else others
    real = CertutilDatabase(host_runner(), params["nss_dir"] or default_directory())
    with real.opened(create=not check) as existed:
        before = MemoryDatabase.of(real) if existed else MemoryDatabase()
        was_trusted = authorities.trusted(before, cas, ca_nickname)
        db = MemoryDatabase.of(before) if check else real
        record = PendingFile(real.directory)
        secured = real.secure(dry=check) if existed else []
        reason: str | None = "there is no CA yet"
        # Libreswan does not use a database elsewhere.
        if first and existed and not check and not params["nss_dir"]:
            _note(before, wanted.nickname, first, others, crls, ca_nickname)
        if first:
            # Who signs elsewhere may do so with any CA that was given, but not with another one that is
            # trusted, such as the former one.
            issuers = [first, *authorities.issuers(first, others)] if wanted.source == "external" else [first]
            authorities.ensure(db, first, others, ca_nickname, wanted.nickname)
            authorities.ensure_crls(db, crls, cas, ca_nickname)
            member.repair(db, wanted, issuers, now)
            reason = member.fault(db.content(), wanted.nickname, wanted, issuers, now)
            if reason is None and params["force"] and wanted.source != "pkcs12":
                reason = "forced"
            if reason is None:
                # What check mode only imagines, NSS cannot be asked about.
                imagined = db is not real and (db.content(), db.crls()) != (before.content(), before.crls())
                refusal = (db if imagined else real).refusal(wanted.nickname)
                reason = f"NSS does not accept it: {refusal}" if refusal else None
        csr = None
        forgotten = False
        if reason is None or wanted.source == "pkcs12":
            if not member.awaits_signature(db.content(), record, wanted):
                forgotten = member.forget_request(db, record, dry=check)
        elif not check:
            csr = member.ensure_request(real, record, wanted).pem
        after = MemoryDatabase.of(db)
        listed = authorities.nicknames(after, cas, ca_nickname)
        measured = metrics.write(
            params["metrics_dir"], metrics.render(after, wanted.nickname, listed), dry=check
        )
    content = after.content()
    shown = tuple(dict.fromkeys([wanted.nickname, *authorities.nicknames(before, cas, ca_nickname), *listed]))
    diff = difference(before, after, shown)
    foretold = diff["after"]
    if reason is not None and wanted.source == "pkcs12":
        foretold["bundle"] = {"reason": reason, "fingerprint": wanted.fingerprint}
    elif reason is not None:
        foretold["request"] = {
            "reason": reason,
            "subject": wanted.subject,
            "names": wanted.names.as_list(),
            "key_type": wanted.key_type,
        }
    if secured:
        foretold["mode 0600"] = secured
    entry = content.entry(wanted.nickname) if reason is None else None
    certificate = entry.certificates[0] if entry else None
    return {
        "changed": bool(reason or secured or forgotten or measured or after != before),
        "state": "valid" if reason is None else "requested",
        "reason": reason,
        "csr": csr,
        "certificate": certificate.pem if certificate else None,
        **facts(certificate),
        "trust_changed": authorities.trusted(after, cas, ca_nickname) != was_trusted,
        "diff": diff,
    }


def _note(
    before: MemoryDatabase,
    nickname: str,
    first: Certificate,
    others: Sequence[Certificate],
    crls: Sequence[RevocationList],
    ca_nickname: str,
) -> None:
    """Note for libreswan that CAs or revocations are about to change."""
    after, cas = MemoryDatabase.of(before), [first, *others]
    authorities.ensure(after, first, others, ca_nickname, nickname)
    authorities.ensure_crls(after, crls, cas, ca_nickname)
    was, will = (
        {trusted[:2] for trusted in authorities.trusted(db, cas, ca_nickname)} for db in (before, after)
    )
    if was != will:
        renewed.note(renewed.AUTHORITY)
    if any(
        crl.revoked > (before.lists[ca].revoked if ca in before.lists else 0)
        for ca, crl in after.lists.items()
    ):
        renewed.note(renewed.REVOCATION)


if __name__ == "__main__":
    main()
