# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Prometheus gets to see."""

from __future__ import annotations

import stat
from pathlib import Path

from ansible_collections.underlay.ipsec.plugins.module_utils._nss import metrics
from ansible_collections.underlay.ipsec.plugins.module_utils._nss.database import Entry, MemoryDatabase
from ansible_collections.underlay.ipsec.plugins.module_utils._nss.x509 import rfc1485
from ansible_collections.underlay.ipsec.tests.unit.plugins import pki


def test_render() -> None:
    ca, leaf = pki.as_host_sees(pki.authority()), pki.leaf(subject=pki.name('h"1'))
    db = MemoryDatabase([Entry("underlay-ca", "CT,,", (ca,)), Entry("underlay-h1", "u,u,u", (leaf,))])
    db.add_crl(pki.revocation_list())
    subject = rfc1485(ca.subject).replace('"', '\\"')
    lines = metrics.render(db, "underlay-h1", ["underlay-ca", "absent"]).splitlines()
    assert lines == [
        "# HELP underlay_ipsec_certificate_not_after_seconds When the member's certificate expires. Unix time.",
        "# TYPE underlay_ipsec_certificate_not_after_seconds gauge",
        'underlay_ipsec_certificate_not_after_seconds{nickname="underlay-h1",'
        f'subject="O=underlay.ipsec,CN=\\"h\\\\\\"1\\"",serial="{leaf.serial:x}"}} '
        f"{int(leaf.not_after.timestamp())}",
        "# HELP underlay_ipsec_ca_not_after_seconds When the certificate of a CA expires. Unix time.",
        "# TYPE underlay_ipsec_ca_not_after_seconds gauge",
        f'underlay_ipsec_ca_not_after_seconds{{nickname="underlay-ca",subject="{subject}",'
        f'serial="{ca.serial:x}"}} {int(ca.not_after.timestamp())}',
        "# HELP underlay_ipsec_crl_next_update_seconds "
        "When the revocation list of a CA has to be followed by the next. Unix time.",
        "# TYPE underlay_ipsec_crl_next_update_seconds gauge",
        f'underlay_ipsec_crl_next_update_seconds{{issuer="{subject}"}} '
        f"{int((pki.NOW + 89 * pki.DAY).timestamp())}",
    ]


def test_written_only_where_there_is_a_collector_and_only_when_changed(tmp_path: Path) -> None:
    directory = tmp_path / "collector"
    assert not metrics.write(str(directory), "a 1\n")
    assert not metrics.write(None, "a 1\n")
    directory.mkdir()
    path = directory / "underlay_ipsec.prom"
    assert metrics.write(str(directory), "a 1\n", dry=True)
    assert not path.exists()
    assert metrics.write(str(directory), "a 1\n")
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert not metrics.write(str(directory), "a 1\n")
    assert metrics.write(str(directory), "a 2\n")
    assert [each.name for each in directory.iterdir()] == ["underlay_ipsec.prom"]


def test_delete(tmp_path: Path) -> None:
    assert not metrics.delete(None)
    assert not metrics.delete(str(tmp_path / "absent"))
    metrics.write(str(tmp_path), "a 1\n")
    assert metrics.delete(str(tmp_path), dry=True)
    assert metrics.delete(str(tmp_path))
    assert not metrics.delete(str(tmp_path))
    assert [*tmp_path.iterdir()] == []
