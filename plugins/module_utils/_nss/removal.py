# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How an entry of the NSS database goes, with all that belongs to it."""

from __future__ import annotations

from ansible_collections.underlay.ipsec.plugins.module_utils._nss.database import Database
from ansible_collections.underlay.ipsec.plugins.module_utils._nss.x509 import Certificate


def remove(db: Database, nickname: str, keep: Certificate | None = None) -> None:
    """Delete all certificates under *nickname* and their keys, except keys of *keep* or in use elsewhere.

    ``certutil -F`` reports success where it did nothing, ``-D`` leaves the key: so
    the key goes by its id, and first, as a key without a certificate is nobody's.
    A revocation list goes before its CA, without which NSS would not find it.
    """
    content = db.content()
    entry = content.entry(nickname)
    if entry is None:
        return
    if nickname in db.crls():
        db.delete_crl(nickname)
    in_use = {
        other.public_key.key_id
        for elsewhere in content.entries
        for other in elsewhere.certificates
        if other not in entry.certificates
    }
    if keep is not None:
        in_use.add(keep.public_key.key_id)
    for key_id in {certificate.public_key.key_id for certificate in entry.certificates} - in_use:
        if key_id in content.keys:
            db.delete_key(key_id)
    for _certificate in entry.certificates:
        if db.content().entry(nickname):
            db.delete_certificate(nickname)
