# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The file in which a CA keeps the last serial number that it gave, as OpenShift's does."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Container

from ansible_collections.underlay.ipsec.plugins.module_utils._errors import Problem, ProblemsError
from ansible_collections.underlay.ipsec.plugins.module_utils._files import write_atomically

_HEXADECIMAL = re.compile(r"[0-9A-Fa-f]+")
_LAST = 2**63 - 1
"""What ``oc`` can read."""
_FIRST = 2
"""As for ``oc``: 1 is the CA's own."""


def read_last(path: str) -> int:
    """Return the number in the file at *path*. Raises `ProblemsError`."""
    return _read(path)[0]


def take(path: str, count: int, used: Container[int]) -> list[int]:
    """Return the next *count* serial numbers that are not *used*; the file has the last one then.

    It is on the disk when this returns, so that no number is given twice. Only for
    who holds the lock of the CA's folder. Raises `ProblemsError` and OSError.
    """
    last, end = _read(path)
    taken: list[int] = []
    while len(taken) < count:
        last = max(last + 1, _FIRST)
        if last not in used:
            taken.append(last)
    if last > _LAST:
        raise _refused(path, "has no number left")
    if taken:
        text = f"{last:X}"
        # oc of OpenShift 3.11 reads no line's end: the file gets one only if it had one.
        text = f"{text:0>{len(text) + len(text) % 2}}{end}"
        write_atomically(path, text, mode=stat.S_IMODE(os.stat(path).st_mode))
    return taken


def _read(path: str) -> tuple[int, str]:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            text = file.read(100)
    except OSError as error:
        raise _refused(path, f"cannot be read: {error.strerror}") from None
    digits = text.strip()
    if not _HEXADECIMAL.fullmatch(digits) or int(digits, 16) > _LAST:
        raise _refused(path, "does not hold one hexadecimal number")
    return int(digits, 16), "\n" if text.endswith("\n") else ""


def _refused(path: str, fault: str) -> ProblemsError:
    remedy = "Give the file that the CA's owner numbers certificates with, such as ca.serial.txt"
    return ProblemsError([Problem(f"{path} {fault}", remedy, "ipsec_ca_serial")])
