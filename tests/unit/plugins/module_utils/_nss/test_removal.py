# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What goes with an entry, and what stays."""

from __future__ import annotations

from ansible_collections.underlay.ipsec.plugins.module_utils._nss.database import Entry, MemoryDatabase
from ansible_collections.underlay.ipsec.plugins.module_utils._nss.removal import remove
from ansible_collections.underlay.ipsec.tests.unit.plugins import pki


def test_a_key_in_use_elsewhere_stays() -> None:
    gone, kept = pki.leaf(), pki.leaf(subject=pki.name("mine"))
    db = MemoryDatabase(
        [Entry("underlay-h1", "u,u,u", (gone,)), Entry("mine", "u,u,u", (kept,))], {gone.public_key.key_id}
    )
    remove(db, "underlay-h1")
    assert [entry.nickname for entry in db.content().entries] == ["mine"]
    assert db.keys == {kept.public_key.key_id}


def test_a_revocation_list_goes_with_its_ca() -> None:
    ca = pki.as_host_sees(pki.authority())
    db = MemoryDatabase([Entry("underlay-ca", "CT,,", (ca,))])
    db.add_crl(pki.revocation_list())
    assert [*db.crls()] == ["underlay-ca"]
    remove(db, "underlay-ca")
    db.add("underlay-ca", ca, "CT,,")
    assert not db.crls()
