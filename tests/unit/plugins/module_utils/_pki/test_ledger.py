# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ledger only grows, and survives what interrupts it."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest
from ansible_collections.underlay.ipsec.plugins.module_utils._errors import ProblemsError
from ansible_collections.underlay.ipsec.plugins.module_utils._pki.ledger import Issued, Ledger


def entry(number: int) -> Issued:
    """Return an entry that differs from that of another number."""
    return Issued(
        serial=f"{number:x}",
        member=f"h{number}",
        subject=f"CN=h{number}",
        names=(f"dns:h{number}", "ip:10.88.0.1"),
        not_before="2026-01-01T00:00:00Z",
        not_after="2031-01-01T00:00:00Z",
        fingerprint="ab" * 32,
        issuer="cd" * 32,
        issued_at="2026-01-01T00:00:00Z",
    )


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """Return a ledger that does not exist yet."""
    return Ledger(str(tmp_path / "ledger.jsonl"))


def test_append_and_read(ledger: Ledger) -> None:
    assert ledger.read() == ()
    ledger.append([entry(1), entry(2)])
    ledger.append([])
    ledger.append([entry(3)])
    assert ledger.read() == (entry(1), entry(2), entry(3))
    assert stat.S_IMODE(Path(ledger.path).stat().st_mode) == 0o600


@pytest.mark.parametrize("cut", [1, 10, 100])
def test_a_torn_last_line_is_repaired(ledger: Ledger, cut: int) -> None:
    ledger.append([entry(1), entry(2)])
    path = Path(ledger.path)
    path.write_bytes(path.read_bytes()[:-cut])
    assert ledger.read() == (entry(1),)
    ledger.append([entry(3)])
    assert ledger.read() == (entry(1), entry(3))


def test_events_of_later_versions_are_kept(ledger: Ledger) -> None:
    ledger.append([entry(1)])
    with Path(ledger.path).open("a", encoding="utf-8") as file:
        file.write('{"event": "suspended", "serial": "1"}\n')
    ledger.append([entry(2)])
    assert ledger.read() == (entry(1), entry(2))
    assert '"suspended"' in Path(ledger.path).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "damage", ["x", "[]", "{}", '{"event": "issued"}', '{"event": "revoked"}', "null", "\x00\xff"]
)
def test_damage_is_reported(ledger: Ledger, damage: str) -> None:
    ledger.append([entry(1)])
    with Path(ledger.path).open("a", encoding="utf-8") as file:
        file.write(damage + "\n")
    ledger.append([entry(2)])
    with pytest.raises(ProblemsError, match=r"line 2 of .* is damaged"):
        ledger.read()


def test_a_full_disk_leaves_it_as_it_was(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger.append([entry(1)])
    before = Path(ledger.path).read_bytes()

    def full(_handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        ledger.append([entry(2)])
    assert Path(ledger.path).read_bytes() == before
