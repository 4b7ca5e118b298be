# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading the CIB of the cluster that a host is in, and changing it once.

The CIB holds other people's secrets (passwords of fencing devices), so it goes through pipes
and through files that only root can read, and its text is never part of a message.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from ansible_collections.underlay.ipsec.plugins.module_utils._errors import (
    CommandError,
    Problem,
    ProblemsError,
)
from ansible_collections.underlay.ipsec.plugins.module_utils._pacemaker import cib
from ansible_collections.underlay.ipsec.plugins.module_utils._run import Runner

STORED = "/var/lib/pacemaker/cib/cib.xml"
"""Where a node keeps the CIB, also while it is down."""
_DIFFERENT = 1
_NOT_INSTALLED = 127


def read(run: Runner) -> Element | None:
    """Return the CIB; None if no cluster runs here, whether pacemaker is installed or not."""
    answer = run(["cibadmin", "--query"], check=False)
    if answer.rc != 0:
        return None
    try:
        return cib.parse(answer.stdout)
    except ValueError:
        return None


def read_with_quorum(
    run: Runner, seconds: int, pause: Callable[[float], None] = time.sleep
) -> Element | None:
    """Return what `read` does, once the cluster has quorum or *seconds* have passed: it may just have lost it.

    When tunnels between its nodes are replaced, they do not hear each other for a while.
    """
    found = read(run)
    for _second in range(seconds):
        if found is None or cib.cluster(found).quorum:
            break
        pause(1)
        found = read(run)
    return found


def check_none_stored(root: Path = Path("/"), *, tripleo: bool) -> None:
    """Raise `ProblemsError` if a cluster that does not run will start with something that has to go, with *tripleo* theirs, too."""
    try:
        found = cib.parse((root / STORED.lstrip("/")).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return
    if cib.ours(found, tripleo=tripleo):
        raise ProblemsError(
            [
                Problem(
                    "pacemaker does not run, and will start with the resources that have to go, while their agent is gone by then",
                    "Start it (pcs cluster start), then run this again",
                )
            ]
        )


def facts(run: Runner) -> dict[str, Any] | None:
    """Return what the plan needs to know of the cluster that this host is in; None if it is in none."""
    found = read(run)
    if found is None:
        return None
    cluster = cib.cluster(found)
    return {
        "cluster": cluster.name,
        "nodes": list(cluster.nodes),
        "node": run(["crm_node", "--name"], check=False).stdout.strip() or None,
        "quorum": cluster.quorum,
        "maintenance": cluster.maintenance,
        "addresses": {address: list(ids) for address, ids in sorted(cib.addresses(found).items())},
        "tunnels": sorted(cib.vip_resources(found)),
    }


def push(run: Runner, before: Element, after: Element) -> None:
    """Turn *before* into *after* in the running cluster: one change, which is taken as a whole or not at all.

    What somebody else changed since *before* was read stays. Raises `CommandError` if the cluster refuses.
    """
    with tempfile.TemporaryDirectory(prefix="underlay-ipsec-") as folder:
        paths = []
        for name, content in (("before", before), ("after", after)):
            path = Path(folder) / f"{name}.xml"
            path.write_text(ElementTree.tostring(content, encoding="unicode"), encoding="utf-8")
            paths.append(str(path))
        made = run(["crm_diff", "--no-version", "--original", paths[0], "--new", paths[1]], check=False)
    if made.rc not in (0, _DIFFERENT) or not made.stdout.strip():
        raise CommandError(made.argv[:1], made.rc, "", made.stderr)
    run(["cibadmin", "--patch", "--xml-pipe"], stdin=made.stdout)


def look_again(run: Runner, failures: Iterable[tuple[str, str]]) -> None:
    """Have the cluster forget *failures*, of resource and node each, and look anew. Raises `CommandError` if it refuses."""
    for resource, node in failures:
        run(["crm_resource", "--cleanup", "--resource", resource, "--node", node])


def settle(run: Runner, seconds: int) -> bool:
    """Wait until the cluster has done what follows from a change; return whether it has within *seconds*."""
    answer = run(["crm_resource", "--wait", f"--timeout={seconds}s"], check=False, timeout=seconds + 10)
    return answer.rc == 0


def no_cluster(host: str | None = None) -> Problem:
    """Return what is wrong where virtual addresses are to be, and no cluster runs."""
    return Problem(
        "no pacemaker cluster runs there, which could hold the virtual addresses",
        "Start it (pcs cluster start), or name its nodes in holders, or set ipsec_vip_manager to none",
        variable="ipsec_vips",
        host=host,
    )


def check_ready(found: Element) -> None:
    """Raise `ProblemsError` if the cluster would take a change and not carry it out now, but later, who knows when.

    What it has not stopped by then would lack its agent.
    """
    cluster = cib.cluster(found)
    if not cluster.quorum:
        raise ProblemsError(
            [
                Problem(
                    "the pacemaker cluster has no quorum",
                    "Bring its nodes back (pcs status), then run this again",
                )
            ]
        )
    if cluster.maintenance:
        raise ProblemsError([cib.in_maintenance()])
