# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tasks of a play registered, for the actions that run once for all hosts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any


def registered(
    task_vars: Mapping[str, Any], hosts: Iterable[str], name: str
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield host and result of those of *hosts* for which a task registered *name*.

    A registered result is plain data: reading it past the templating of hostvars
    saves the larger part of the time that hundreds of hosts take.
    """
    for host in hosts:
        answer = task_vars["hostvars"].raw_get(host).get(name)
        if isinstance(answer, Mapping):
            yield host, answer
