# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan directory: ``plan.json`` and ``hosts/NAME.json``."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from ansible_collections.underlay.ipsec.plugins.module_utils._errors import IpsecError
from ansible_collections.underlay.ipsec.plugins.module_utils._plan.build import Plan, as_json


def _write(path: Path, text: str) -> None:
    """Write *text* to *path*, which has the old or the new content at any time, and is for its owner only."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def write_plan(plan: Plan, directory: Path) -> None:
    """Write *plan* into *directory* and remove the slices of hosts that it has none for.

    Raises IpsecError if that is not possible.
    """
    hosts = directory / "hosts"
    try:
        hosts.mkdir(parents=True, exist_ok=True)
        for private in (directory, hosts):
            private.chmod(0o700)
        for name, content in plan.slices.items():
            _write(hosts / f"{name}.json", as_json(content))
        for left in set(hosts.iterdir()) - {hosts / f"{name}.json" for name in plan.slices}:
            left.unlink()
        _write(directory / "plan.json", as_json(plan.document))
    except OSError as error:
        raise IpsecError(
            f"The plan cannot be written to {error.filename or directory}: {error.strerror}. "
            "Set ipsec_report_dir to a directory on the controller that you can write to"
        ) from error
