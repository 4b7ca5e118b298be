# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What this host's NSS database holds, and until when: its certificate, the CAs, their revocation lists."""

from __future__ import annotations

from typing import Any

from ansible_collections.underlay.ipsec.plugins.module_utils._errors import IpsecError
from ansible_collections.underlay.ipsec.plugins.module_utils._nss.authorities import is_ours
from ansible_collections.underlay.ipsec.plugins.module_utils._nss.database import (
    CertutilDatabase,
    Database,
    Entry,
    default_directory,
    iso,
)
from ansible_collections.underlay.ipsec.plugins.module_utils._nss.names import distinguished_name
from ansible_collections.underlay.ipsec.plugins.module_utils._nss.x509 import Certificate
from ansible_collections.underlay.ipsec.plugins.module_utils._run import Runner

_CA_NICKNAME = "underlay-ca"


def read_certificates(run: Runner, nickname: str | None, directory: str | None) -> dict[str, Any]:
    """Return the module's ``certificate``, ``authorities`` and ``crls``.

    *nickname* is that of the host's certificate; None if it has none. A database that is not there or
    cannot be read has nothing.
    """
    database = CertutilDatabase(run, directory or default_directory())
    try:
        if nickname and database.exists():
            return describe_certificates(database, nickname)
    except IpsecError:
        pass
    return {"certificate": None, "authorities": [], "crls": []}


def describe_certificates(database: Database, nickname: str) -> dict[str, Any]:
    """Return what `read_certificates` does; raise `IpsecError` if *database* cannot be read."""
    content, crls = database.content(), database.crls()
    member = content.entry(nickname)
    authorities = [
        (entry.nickname, entry.certificates[0])
        for entry in content.entries
        if entry.certificates and entry is not member and _is_authority(entry, member)
    ]
    return {
        "certificate": _certificate(nickname, member.certificates[0])
        if member and member.certificates
        else None,
        "authorities": [_certificate(name, certificate) for name, certificate in authorities],
        "crls": [
            {
                "issuer": distinguished_name(certificate.subject_name),
                "this_update": iso(crls[name].this_update),
                "next_update": iso(end) if (end := crls[name].next_update) else None,
                "revoked": crls[name].revoked,
            }
            for name, certificate in authorities
            if name in crls
        ],
    }


def _is_authority(entry: Entry, member: Entry | None) -> bool:
    """Return whether *entry* is a CA that libreswan goes by: one of ours, or filed by somebody else."""
    issuer = member is not None and any(
        each.names_as_issuer(entry.certificates[0]) for each in member.certificates
    )
    return is_ours(entry.nickname, _CA_NICKNAME) or bool(entry.flags & set("CT")) or issuer


def _certificate(nickname: str, certificate: Certificate) -> dict[str, Any]:
    return {
        "nickname": nickname,
        "subject": distinguished_name(certificate.subject_name),
        "issuer": distinguished_name(certificate.issuer_name),
        "serial": f"{certificate.serial:x}",
        "not_after": iso(certificate.not_after),
        "key_type": certificate.public_key.key_type,
        "fingerprint": certificate.fingerprint,
    }
