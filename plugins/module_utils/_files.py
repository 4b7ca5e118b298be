# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writing files so that an interruption leaves the old one or the new one."""

from __future__ import annotations

import os
import tempfile

from ansible_collections.underlay.ipsec.plugins.module_utils._errors import Problem

MANAGED = "# Managed by underlay.ipsec; changes made here are overwritten.\n"
"""The first line of a file that is all ours."""


def write_atomically(path: str, text: str, *, mode: int = 0o600) -> None:
    """Write *text* to *path* with *mode*, on the disk when this returns. Raises OSError."""
    directory = os.path.dirname(path) or "."
    handle, temporary = tempfile.mkstemp(dir=directory, prefix=f".{os.path.basename(path)}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            os.fchmod(file.fileno(), mode)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    sync_directory(directory)


def sync_directory(path: str) -> None:
    """Put a directory's entries on the disk, so that new files survive a crash. Raises OSError."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def problem_from_os(error: OSError) -> Problem:
    """Return what the operating system refused, as a problem."""
    what = f"{error.filename}: {error.strerror}" if error.filename else str(error)
    return Problem(what, "Check that the disk is not full, and the owner and mode of the path")
