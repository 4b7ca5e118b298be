# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every cause has a remedy."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from ansible_collections.underlay.ipsec.plugins.module_utils._probe import account, verdict
from ansible_collections.underlay.ipsec.plugins.module_utils._report.remedy import causes, remedy


def test_every_cause_of_a_verdict_has_one() -> None:
    text = Path(verdict.__file__).read_text(encoding="utf-8")
    found = set(re.findall(r'Verdict\(\s*[A-Z]+, "(\w+)"', text))
    assert len(found) > 8
    assert found <= causes()


def test_every_cause_of_an_account_has_one() -> None:
    assert {cause for cause, _pattern, _clause in account._FINDINGS} <= causes()


@pytest.mark.parametrize("cause", sorted(causes()))
def test_form(cause: str) -> None:
    text = remedy(cause)
    assert text[0].isupper()
    assert not text.endswith(".")
    assert text.count("`") % 2 == 0
