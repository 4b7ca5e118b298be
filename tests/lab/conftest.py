# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab that the tests run on."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from kit import Lab


@pytest.fixture(scope="session")
def lab() -> Lab:
    """Return the lab of the scenario that runs these tests."""
    return Lab(os.environ["LAB_NAME"], Path(os.environ["LAB_FOLDER"]))
