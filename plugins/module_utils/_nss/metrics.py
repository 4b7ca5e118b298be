# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When certificates expire, as metrics for the textfile collector of Prometheus's node exporter."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import datetime

from ansible_collections.underlay.ipsec.plugins.module_utils._files import write_atomically
from ansible_collections.underlay.ipsec.plugins.module_utils._nss.database import Database, Entry
from ansible_collections.underlay.ipsec.plugins.module_utils._nss.x509 import rfc1485

_NAME = "underlay_ipsec.prom"

Sample = tuple[dict[str, str], datetime]


def render(db: Database, nickname: str, authorities: Sequence[str]) -> str:
    """Return the metrics of the member's certificate and of the CAs, all by their nicknames."""
    content, crls = db.content(), db.crls()
    member = [entry for entry in [content.entry(nickname)] if entry]
    cas = [entry for entry in map(content.entry, authorities) if entry]
    issued: list[Sample] = []
    for entry in cas:
        update = crls[entry.nickname].next_update if entry.nickname in crls else None
        if update:
            issued.append(({"issuer": rfc1485(entry.certificates[0].subject)}, update))
    families = [
        ("certificate_not_after", "When the member's certificate expires.", _expiries(member)),
        ("ca_not_after", "When the certificate of a CA expires.", _expiries(cas)),
        ("crl_next_update", "When the revocation list of a CA has to be followed by the next.", issued),
    ]
    lines: list[str] = []
    for name, meaning, samples in families:
        metric = f"underlay_ipsec_{name}_seconds"
        lines += [f"# HELP {metric} {meaning} Unix time.", f"# TYPE {metric} gauge"]
        lines += [f"{metric}{{{_labels(labels)}}} {int(time.timestamp())}" for labels, time in samples]
    return "\n".join(lines) + "\n"


def write(directory: str | None, text: str, *, dry: bool = False) -> bool:
    """Write the metrics where the collector has its *directory*; return whether they changed."""
    if directory is None or not os.path.isdir(directory):
        return False
    path = os.path.join(directory, _NAME)
    with suppress(FileNotFoundError), open(path, encoding="utf-8") as file:
        if file.read() == text:
            return False
    if not dry:
        write_atomically(path, text, mode=0o644)
    return True


def delete(directory: str | None, *, dry: bool = False) -> bool:
    """Delete the metrics; return whether there were any."""
    path = os.path.join(directory or "", _NAME)
    if directory is None or not os.path.exists(path):
        return False
    if not dry:
        os.unlink(path)
    return True


def _expiries(entries: Iterable[Entry]) -> list[Sample]:
    return [
        (
            {
                "nickname": entry.nickname,
                "subject": rfc1485(certificate.subject),
                "serial": f"{certificate.serial:x}",
            },
            certificate.not_after,
        )
        for entry in entries
        for certificate in entry.certificates
    ]


def _labels(labels: dict[str, str]) -> str:
    return ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items())


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
