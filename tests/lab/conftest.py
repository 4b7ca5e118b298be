# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab that the tests run on, and what pluto said of an end that nobody asked for."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Generator
from contextlib import suppress
from pathlib import Path

import pytest
from kit import ROOT, Lab

# Why libreswan's main process ended, by its own words or systemd's, with what went before.
LAST_WORDS = (
    "journalctl --unit ipsec --boot --no-pager --output short-precise"
    " | grep --before-context 25 --extended-regexp 'ABORT|ASSERTION FAILED|Main process exited' | tail -n 80"
)


@pytest.fixture(scope="session", autouse=True)
def kept_modules() -> None:
    """Let all runs of ansible-playbook share what they pack of modules, as long as these do not change."""
    # What is packed besides is of the ansible-core that the requirements name.
    sources = [ROOT / "requirements.txt", *sorted((ROOT / "plugins").rglob("*.py"))]
    state = [(str(path), path.stat().st_mtime_ns, path.stat().st_size) for path in sources]
    folder = ROOT / ".cache/ansible/modules" / hashlib.sha256(repr(state).encode()).hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    os.environ |= {
        "LAB_MODULES": str(folder),
        "ANSIBLE_CALLBACK_PLUGINS": str(Path(__file__).parent / "callback"),
        "ANSIBLE_CALLBACKS_ENABLED": "kept_modules",
    }


@pytest.fixture(scope="session")
def lab() -> Lab:
    """Return the lab of the scenario that runs these tests."""
    return Lab(os.environ["LAB_NAME"], Path(os.environ["LAB_FOLDER"]))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add pluto's last words to the report of a test that failed, for the hosts are gone when it is read."""
    report = yield
    lab = item.funcargs.get("lab") if isinstance(item, pytest.Function) else None
    if report.failed and isinstance(lab, Lab):
        for host in lab.status["hosts"]:
            with suppress(subprocess.TimeoutExpired):  # a host that the test killed or cut off
                if said := lab.ssh(host, LAST_WORDS, check=False, timeout=30):
                    report.sections.append((f"pluto on {host}", said))
    return report
