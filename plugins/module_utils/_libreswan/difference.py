# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What has to be done to turn what is on a host into what the plan wants. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan import render, renewed
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan.connection import (
    PREFIX,
    Connection,
    connections_in,
)
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan.endpoints import (
    is_endpoint,
    replaced_by,
)
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan.loaded import IkeSa, Loaded
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan.pairs import is_pair
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan.vips import is_vip

SERVICE = "ipsec"


@dataclass(frozen=True)
class Journal:
    """What an interrupted run may have left half done."""

    connections: frozenset[str] = frozenset()
    restart: bool = False
    secrets: bool = True


@dataclass(frozen=True)
class Observed:
    """What is on the host now."""

    files: Mapping[str, str]
    """Path → text of the collection's files."""
    loaded: Loaded | None
    """What pluto has loaded; None if it is not running."""
    enabled: bool
    """Whether systemd starts the service at boot."""
    journal: Journal | None
    """None if the last run finished."""
    useless: tuple[IkeSa, ...] = ()
    """IKE SAs that carry nothing, and did not a moment before either."""
    renewed: frozenset[str] = frozenset()
    """What in NSS may be newer than what pluto uses; see `renewed`."""


@dataclass(frozen=True)
class Delta:
    """What has to be done; falsy if nothing."""

    write: Mapping[str, str] = field(default_factory=dict)
    remove: tuple[str, ...] = ()
    terminate: tuple[str, ...] = ()
    """Targets whose SAs end, because their policy entry goes or their connection changes."""
    delete: tuple[str, ...] = ()
    """Connections to unload."""
    add: tuple[str, ...] = ()
    """Connections to load, in the order of the plan; a loaded one is replaced."""
    exceptions: Mapping[str, str] = field(default_factory=dict)
    """Those of ``add`` that are exceptions from a group, or hosts taken out of one → the CIDR whose SAs end in their favour."""
    secrets: bool = False
    """Whether pluto has to read the pre-shared keys again."""
    certificates: bool = False
    """Whether pluto has to read the certificates again, for connections that stay loaded."""
    authorities: bool = False
    """Whether pluto has to read the CAs again."""
    listen: bool = False
    """Whether pluto has to read the policy files."""
    route: tuple[str, ...] = ()
    """Loaded targets, exceptions and pairs whose policy the kernel lacks."""
    heal: tuple[IkeSa, ...] = ()
    """SAs that pluto has, but that carry nothing."""
    enable: bool = False
    start: bool = False
    restart: bool = False
    """Whether an option of ``config setup`` changed, which pluto reads only when it starts."""

    @property
    def watch(self) -> bool:
        """Whether the service beside pluto is new, or another one than before."""
        return bool({render.WATCH_SCRIPT_FILE, render.WATCH_UNIT_FILE} & set(self.write))

    def __bool__(self) -> bool:
        return self != Delta()

    @property
    def service(self) -> str:
        """What becomes of the service, in one word."""
        done = (("restarted", self.restart), ("started", self.start), ("enabled", self.enable))
        return next((word for word, true in done if true), "none")


def delta(
    observed: Observed,
    files: Mapping[str, str],
    *,
    serve: bool = True,
    reread: bool = True,
    vips: bool = False,
) -> Delta:
    """Return what turns *observed* into *files*.

    With *serve* the service has to run and be enabled; without it a stopped service is left
    stopped. *vips* says that it is about the connections of virtual addresses here, and not about the
    others. *reread* says whether pluto survives it if it is told to read certificates again.
    """
    write = {path: text for path, text in files.items() if observed.files.get(path) != text}
    remove = tuple(sorted(set(observed.files) - set(files)))
    enable = serve and not observed.enabled
    loaded = observed.loaded
    if loaded is None:
        return Delta(write, remove, enable=enable, start=serve)
    wanted, present = connections_in(files), connections_in(observed.files)
    journal = observed.journal or Journal(secrets=False)
    before, after = render.entries_in(observed.files), render.entries_in(files)
    changed = {
        name
        for name, connection in wanted.items()
        if name not in loaded.connections
        or _differ(present.get(name), connection)
        or name in journal.connections
    }
    ours = {name for name in loaded.connections if name.startswith(PREFIX) and is_vip(name) == vips}
    delete = tuple(sorted(ours - set(wanted)))
    # A group that gains an entry is loaded again, though it is the same: pluto 5.2 reads
    # the groups from the newest to the oldest and takes an entry that it meets before
    # those it has for their end, SAs included.
    gaining = {
        name for name, entries in after.items() if entries - before.get(name, set()) and name in wanted
    }
    add = tuple(name for name in wanted if name in changed or name in gaining)
    leaving = (
        f"{name}#{entry}" for name, entries in before.items() for entry in entries - after.get(name, set())
    )
    replaced = (target for name in (*delete, *add) for target in loaded.targets_of(name))
    terminate = {target for target in (*leaving, *replaced) if target in loaded.routed}
    exceptions = {name: cidr for name, connection in wanted.items() if (cidr := connection.exception)}
    outside = {name: wanted[name] for name in wanted if is_endpoint(name)}
    replaces = {name: cidr for name, connection in outside.items() if (cidr := replaced_by(connection))}
    # What it has tried as a member comes to nothing, and ends with the id that its own SA has, too.
    endpoints = {connection.values["right"] for connection in outside.values()}
    trapped = {
        name
        for name, connection in wanted.items()
        if (is_pair(name) and connection.traps) or connection.is_barrier
    }
    return Delta(
        write,
        remove,
        terminate=tuple(sorted(terminate)),
        delete=delete,
        add=add,
        exceptions={name: cidr for name, cidr in {**exceptions, **replaces}.items() if name in add and after},
        secrets=observed.files.get(render.SECRETS_FILE) != files.get(render.SECRETS_FILE) or journal.secrets,
        certificates=renewed.CERTIFICATE in observed.renewed and reread,
        authorities=bool(observed.renewed),
        listen=not vips and bool(gaining or terminate or observed.journal or set(add) & set(after)),
        route=tuple(
            name
            for name, routed in loaded.routed.items()
            if not routed
            and name not in terminate
            and name not in add
            and (name in exceptions or name in trapped or (name.partition("#")[0] in after and "#" in name))
        ),
        heal=tuple(sa for sa in observed.useless if sa.target not in terminate and sa.peer not in endpoints),
        enable=enable,
        restart=journal.restart or (serve and render.SETUP_FILE in write),
    )


def first_keys(observed: Observed, files: Mapping[str, str]) -> Delta:
    """Return what lets a running pluto know pre-shared keys before the connections that need them.

    Up to libreswan 5.1, ``--rereadsecrets`` frees the private keys that a thread may be signing with just then, which
    pluto does not survive. So hosts that have no pre-shared keys yet get them while nobody has a reason to negotiate:
    before the first of them replaces a connection, which its peers would at once bring up again.
    """
    write = {path: text for path, text in files.items() if observed.files.get(path) != text}
    if observed.loaded is None or observed.journal or not write:
        return Delta()
    return Delta(write, secrets=True)


def _differ(present: Connection | None, wanted: Connection) -> bool:
    """Return whether a connection has to be loaded again, which ends its SA, to become what is wanted."""
    if present is None or not is_pair(wanted.name):
        return present != wanted
    # A pair that is to keep the kernel's policy from now on is told so. The other way round it
    # has to go: pluto 4.10 does not survive --unroute while there is an SA.
    relaxed = present.traps and not wanted.traps
    return relaxed or present.without("auto") != wanted.without("auto")


def file_diff(before: Mapping[str, str], change: Delta) -> list[dict[str, str]]:
    """Return the change of the files *before*, path → text, and of the service, in the form of ``--diff``."""
    after = {**change.write, **dict.fromkeys(change.remove, "")}
    diff = [
        {
            "before_header": path,
            "after_header": path,
            "before": before.get(path, ""),
            "after": text,
        }
        for path, text in sorted(after.items())
        if path != render.SECRETS_FILE
    ]
    steps = [
        *(f"load {name}\n" for name in change.add),
        *(f"unload {name}\n" for name in change.delete),
        *(f"route {name}\n" for name in change.route),
        *(f"negotiate again with {sa.peer}\n" for sa in change.heal),
        *([f"load other keys from {render.SECRETS_FILE}\n"] if render.SECRETS_FILE in after else []),
        *([f"service {SERVICE} {change.service}\n"] if change.service != "none" else []),
    ]
    if steps:
        diff.append({"before_header": "live", "after_header": "live", "before": "", "after": "".join(steps)})
    return diff
