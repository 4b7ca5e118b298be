# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is in force after a stage of a run. Pure.

Nothing is made stricter before the stage ``enforce``, and nothing that is strict is opened in between.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan import render
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan.connection import (
    PREFIX,
    connections_in,
)
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan.dialect import Dialect
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan.difference import Observed
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan.pairs import is_pair


@dataclass(frozen=True)
class Desired:
    """What a host is to have after a stage."""

    files: Mapping[str, str]
    """Path → text."""
    connections: tuple[str, ...]
    """Their names, without those of networks that wait."""
    enforcement: Mapping[str, str]
    """What is in force: see `render.files`."""
    pending: bool
    """Whether the stage ``enforce`` has something left to do."""
    switching: bool
    """Whether a network changes from one topology to the other while it enforces."""


def desired(
    settings: render.Settings,
    observed: Observed,
    dialect: Dialect,
    target: str,
    stage: str,
    *,
    watch: str = "",
    keys: Iterable[Mapping[str, Any]] = (),
) -> Desired:
    """Return what a host is to have after *stage* of a run whose end is *target*.

    *watch* is the script of the service beside pluto, *keys* are the pre-shared ones.
    """
    in_force = enforcement(settings, observed, target, stage)
    changing = switching(settings, observed, target)
    waiting = [network for network in settings.networks if network.name in changing and stage != "enforce"]
    ready = replace(settings, networks=tuple(n for n in settings.networks if n not in waiting))
    # A mesh does without the service, but what waits to become one still needs it.
    files = {
        **render.files(ready, dialect, in_force),
        **render.watch_files("" if settings.mesh and not waiting else watch, dialect),
        **(files_of(observed, waiting) if waiting else {}),
        **render.secrets_file(keys),
    }
    return Desired(
        files,
        tuple(connection.name for connection in render.connections(ready, dialect, in_force)),
        in_force,
        pending=bool(waiting) or any(state != target for state in in_force.values()),
        switching=bool(changing),
    )


def enforcement(settings: render.Settings, observed: Observed, target: str, stage: str) -> dict[str, str]:
    """Return what is in force after this run: see `render.files`.

    Before the stage ``enforce`` nothing is made stricter than it is, and what
    enforces already is not opened again.
    """
    if target == "clear":
        return {} if settings.mesh else {network.name: "clear" for network in settings.networks}
    careful = target == "private" and stage != "enforce"
    if not settings.mesh:
        return {
            network.name: "private-or-clear" if careful and not _enforces(observed, network) else target
            for network in settings.networks
        }
    trapped = _trapped(observed)
    return {
        name: "prepared" if careful and name not in trapped else target
        for network in settings.networks
        for name in settings.pairs(network)
    }


def switching(settings: render.Settings, observed: Observed, target: str) -> frozenset[str]:
    """Return the networks on which the other topology enforces.

    Two topologies want the same kernel policies, and to open a network in between is to let
    clear text out: such a network changes from the one to the other in the stage ``enforce``, at once.
    """
    trapped = _trapped(observed)
    return frozenset(
        network.name
        for network in settings.networks
        if target == "private"
        and (
            _enforces(observed, network)
            if settings.mesh
            else any(name.startswith(f"{PREFIX}{network.name}+") for name in trapped)
        )
    )


def files_of(observed: Observed, networks: Iterable[render.Network]) -> dict[str, str]:
    """Return what there is on the host for *networks*, and the keys."""
    paths = {render.SECRETS_FILE}
    for network in networks:
        paths |= {render.conf_file(network), *(render.policy_file(network, g) for g in render.GROUPS)}
    return {path: text for path, text in observed.files.items() if path in paths}


def _enforces(observed: Observed, network: render.Network) -> bool:
    return bool(render.entries_of(observed.files.get(render.policy_file(network, "private"), "")))


def _trapped(observed: Observed) -> frozenset[str]:
    return frozenset(
        name
        for name, connection in connections_in(observed.files).items()
        if is_pair(name) and connection.traps
    )
