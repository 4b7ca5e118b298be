# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a host can become a member, by what the module host_info said of it."""

from __future__ import annotations

import re

from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan.render import SETUP, setup_problem
from ansible_collections.underlay.ipsec.plugins.module_utils._model.cluster import HostFacts, Problems

_MOST_SKEW_SECONDS = 300
_LEAST_FREE_BYTES = 64 * 1024 * 1024
_OLDEST_LIBRESWAN = (4, 0)


def release_of(version: str) -> tuple[int, ...]:
    """Return the first two numbers of a package's *version*, whose epoch and revision do not matter."""
    return tuple(int(number) for number in re.findall(r"\d+", version.partition(":")[2] or version)[:2])


def preflight(
    host: str, facts: HostFacts, *, ipv6: bool, check_mode: bool, problems: Problems, warnings: list[str]
) -> None:
    """Find what keeps *host* from becoming a member; *ipv6*: whether it is on an IPv6 network.

    In check mode the package index is not refreshed, so that a package that is not found is only a warning.
    """
    if abs(facts.clock_skew) > _MOST_SKEW_SECONDS:
        direction = "ahead of" if facts.clock_skew > 0 else "behind"
        problems.add(
            f"its clock is {abs(facts.clock_skew):.0f} s {direction} the controller's, certificates would not be valid there",
            "Set the clock, for example with chrony",
            host=host,
        )
    # Paths with the same figure are on the same file system, which is one problem.
    full: dict[int, list[str]] = {}
    for path, free in sorted(facts.free_bytes.items()):
        if free < _LEAST_FREE_BYTES:
            full.setdefault(free, []).append(path)
    for free, paths in full.items():
        problems.add(
            f"the file system of {' and '.join(paths)} has only {free // 1024**2} MiB free",
            f"Make room for {_LEAST_FREE_BYTES // 1024**2} MiB",
            host=host,
        )
    version = facts.libreswan_installed or facts.libreswan_candidate
    if version is None:
        message = f"libreswan is not installed, and no package source offers {facts.libreswan_package}"
        remedy = "Add a package source that has it, or install it"
        if check_mode:
            warnings.append(
                f"{host}: {message} before its package index is refreshed. {remedy} if it still is so then"
            )
        else:
            problems.add(message, remedy, host=host)
    elif release_of(version) < _OLDEST_LIBRESWAN:
        problems.add(f"its libreswan {version} is older than 4.0", "Update libreswan", host=host)
    elif release_of(version)[0] == 4 and facts.setup and not SETUP.items() <= facts.setup.items():
        problems.append(setup_problem(host))
    if facts.esp is False:
        problems.add("its kernel has no ESP (module esp4)", "Boot a kernel that has it", host=host)
    if ipv6 and facts.esp6 is False:
        problems.add("its kernel has no ESP over IPv6 (module esp6)", "Boot a kernel that has it", host=host)
