# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bring a host's libreswan from what is there to what the plan wants, live.

`difference.delta` compares; `apply` carries out, in an order that an interruption cannot
spoil: a journal names what is about to be touched before the first file changes, and
goes away after the daemon has taken everything over. A run that finds one redoes its
part, whatever the files say.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from ansible_collections.underlay.ipsec.plugins.module_utils._errors import (
    CommandError,
    IpsecError,
    Problem,
    ProblemsError,
)
from ansible_collections.underlay.ipsec.plugins.module_utils._files import write_atomically
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan import render, renewed
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan.connection import (
    PREFIX,
    Connection,
    connections_in,
)
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan.difference import (
    SERVICE,
    Delta,
    Journal,
    Observed,
)
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan.endpoints import (
    is_endpoint,
)
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan.loaded import (
    IkeSa,
    Loaded,
    ending,
    parse,
    useless,
)
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan.status import parse_guests
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan.vips import is_for_anybody
from ansible_collections.underlay.ipsec.plugins.module_utils._probe.xfrm import read_policies
from ansible_collections.underlay.ipsec.plugins.module_utils._run import Runner

JOURNAL = f"{render.CONF_DIR}/underlay-unfinished.json"
_LOAD_SECONDS = 60.0
# How long one connection among many may take at most.
_EACH_SECONDS = 0.5
# How long an SA may look useless: ending one takes an exchange with the peer, and its cleaning up.
_SETTLE_SECONDS = 2.0


def observe(run: Runner, root: Path = Path("/"), *, wait: Callable[[float], None] = time.sleep) -> Observed:
    """Return what is on the host; libreswan may be missing altogether."""
    files = _files(root)
    running = run(["systemctl", "is-active", "--quiet", SERVICE], check=False).rc == 0
    enabled = run(["systemctl", "is-enabled", "--quiet", SERVICE], check=False).rc == 0
    journal, note = _read_journal(root), renewed.noted(root)
    if not running:
        return Observed(files, None, enabled, journal, renewed=note)
    loaded, ailing = _look(run)
    if ailing:
        # Pluto and the kernel answer one after the other, while peers may be ending SAs in
        # a run of their own: what is useless in one look is often just on its way out.
        wait(_SETTLE_SECONDS)
        loaded, still = _look(run)
        before = {sa.serial for sa in ailing}
        ailing = tuple(sa for sa in still if sa.serial in before)
    return Observed(files, loaded, enabled, journal, ailing, renewed=note)


def _look(run: Runner) -> tuple[Loaded, tuple[IkeSa, ...]]:
    loaded = look_loaded(run)
    outbound = frozenset(
        policy.destination.split("/")[0]
        for policy in read_policies(run)
        if policy.direction == "out" and policy.kind == "esp" and policy.protocol is None
    )
    return loaded, useless(loaded, outbound)


def validate(run: Runner, files: Mapping[str, str]) -> None:
    """Raise `ProblemsError` if libreswan would not take *files*.

    ``--checkconfig`` exits 0 for much that it then ignores (a key twice, an unknown
    ``authby``), so a word on standard error counts as well.
    """
    text = "\n".join(
        text for path, text in files.items() if path.endswith(".conf") and path != render.SYSCTL_FILE
    )
    with tempfile.NamedTemporaryFile("w", suffix=".conf", encoding="utf-8") as candidate:
        candidate.write(text)
        candidate.flush()
        answer = run(["ipsec", "addconn", "--config", candidate.name, "--checkconfig"], check=False)
        if answer.rc != 0 or answer.stderr.strip():
            said = (answer.stderr.strip() or answer.stdout.strip()).replace(candidate.name, "underlay-*.conf")
            raise ProblemsError(
                [
                    Problem(
                        f"libreswan does not accept the configuration: {said}",
                        "Check ipsec_ike, ipsec_esp and ipsec_mode against this host's libreswan",
                    )
                ]
            )


def apply(
    change: Delta, run: Runner, root: Path = Path("/"), *, wait: Callable[[float], None] = time.sleep
) -> None:
    """Carry out *change*.

    Raises `IpsecError` if libreswan refuses; what was not reached is then in the journal,
    and the next run takes it up.
    """
    _below(root, render.POLICY_DIR).mkdir(mode=0o755, parents=True, exist_ok=True)
    unfinished = {"connections": sorted(change.add), "restart": change.restart, "secrets": change.secrets}
    _write(root, JOURNAL, json.dumps(unfinished) + "\n")
    for path, text in change.write.items():
        _write(root, path, text)
    if render.WATCH_UNIT_FILE in change.remove:
        run(["systemctl", "disable", "--quiet", "--now", render.WATCH_SERVICE], check=False)
    for path in change.remove:
        _below(root, path).unlink(missing_ok=True)
    for changed, values in ((change.write, render.SYSCTL), (change.remove, render.SYSCTL_DEFAULT)):
        if render.SYSCTL_FILE in changed:
            run(
                ["sysctl", "--quiet", "--write", *(f"{key}={value}" for key, value in values.items())],
                check=False,
            )
    if change.enable:
        run(["systemctl", "enable", "--quiet", SERVICE])
    restarted = change.restart or change.start
    if change.restart:
        run(["systemctl", "restart", SERVICE])
    elif change.start:
        run(["systemctl", "start", SERVICE])
    else:
        restarted = not change_live(change, run, connections_in(_files(root)))
    if change.watch:
        run(["systemctl", "daemon-reload"])
        run(["systemctl", "enable", "--quiet", render.WATCH_SERVICE])
        run(["systemctl", "restart", render.WATCH_SERVICE])
    if restarted:
        _check_setup(run)
        await_loaded(run, connections_in(_files(root)), wait)
        renewed.forget(root)  # no SA is left that was made before
    _below(root, JOURNAL).unlink()


def change_live(
    change: Delta, run: Runner, written: Mapping[str, Connection], *, listens: bool = True
) -> bool:
    """Carry out *change* under traffic; return whether that went, or pluto had to be restarted.

    *listens* says whether pluto may be told to listen, as is quickest, where it need not be.
    """
    for target in change.terminate:
        # In this order: the peer is told, and pluto 5.2 forgets the entry before it
        # rereads the policy file, where it would free it a second time and abort.
        run(["ipsec", "whack", "--name", target, "--terminate"], check=False)
        run(["ipsec", "whack", "--name", target, "--delete"], check=False)
    _each(change.delete, "--delete", run)
    if change.secrets:
        run(["ipsec", "whack", "--rereadsecrets"])
    # The NSS of a running pluto goes on with the certificate that is gone, if that one became valid later than
    # the one in its place: one that was made elsewhere, some time ago. Pluto has then none until it starts again.
    if change.certificates and run(["ipsec", "whack", "--rereadcerts"], check=False).rc != 0:
        run(["systemctl", "restart", SERVICE])
        return False
    foreign = any(is_endpoint(name) and "rightca" in written[name].values for name in change.add)
    if foreign or change.authorities:
        # A CA may be new, and pluto keeps the ones it knows until five minutes pass without an
        # authentication. This is what then happens, and --rereadcerts on 4.x does not do.
        run(["ipsec", "whack", "--impair", "trigger:EVENT_FREE_ROOT_CERTS"], check=False)
    single = [name for name in change.add if written[name].is_group or name in change.exceptions]
    batch = [name for name in change.add if name not in single]
    if single:
        # One process for all of them; it leaves them unrouted, whatever auto= says.
        run(["ipsec", "addconn", *single])
    for name in single:
        if cidr := change.exceptions.get(name):
            _route_exception(name, cidr, run)
        else:
            run(["ipsec", "whack", "--name", name, "--route"])
    if batch:
        _load([written[name] for name in batch], run, listens=listens)
    if change.listen:
        run(["ipsec", "whack", "--listen"])
    if listens:
        _each(change.route, "--route", run)
    else:
        _route_known([written[name] for name in change.route], run)
    _end(change.heal, run)
    return True


def _each(names: Sequence[str], verb: str, run: Runner) -> None:
    """Do one thing to each connection. Raises `CommandError` after all of them if any was refused.

    Whack takes one at a time. Of a thousand, the script ``ipsec`` in front of it would take most of
    the time, and to start each from here nearly as much.
    """
    if len(names) == 1:
        run(["ipsec", "whack", "--name", names[0], verb])
    elif names:
        whack = run(["ipsec", "--directory"]).stdout.strip() + "/whack"
        run(
            ["xargs", "--null", "-n", "1", whack, verb, "--name"],
            stdin="".join(f"{name}\0" for name in names),
            timeout=_LOAD_SECONDS + len(names) * _EACH_SECONDS,
        )


def _load(connections: Sequence[Connection], run: Runner, *, listens: bool) -> None:
    """Load connections, and route those that want it, in one process however many they are if pluto *listens* after it.

    None of them begins to negotiate: their peers may not have loaded them yet.
    """
    text = {connection.name: connection.text() for connection in connections}
    names = ["--autoall"] if listens else list(text)
    with tempfile.NamedTemporaryFile("w", suffix=".conf", encoding="utf-8") as batch:
        batch.write("\n".join(text.values()).replace("auto=start", "auto=add"))
        batch.flush()
        answer = run(["ipsec", "addconn", "--config", batch.name, *names], check=False)
    missing = set(text) - look_loaded(run).connections
    if missing:
        raise IpsecError(
            f"pluto did not load {', '.join(sorted(missing))}: {answer.stderr.strip() or answer.stdout.strip()}"
        )
    if not listens:
        _route_known([c for c in connections if c.values.get("auto") == "ondemand"], run)


def _route_known(connections: Sequence[Connection], run: Runner) -> None:
    """Route connections of virtual addresses. A peer that was anybody until now ends that, and comes back as the one it is.

    Only one of the two connections can have the policy. Raises `CommandError` if pluto refuses for another reason.
    """
    peers = {connection.values.get("right") for connection in connections}
    for last in (False,) * 9 + (True,):
        try:
            _each([connection.name for connection in connections], "--route", run)
        except CommandError:
            if last:
                raise
            for sa in parse_guests(run(["ipsec", "whack", "--showstates"], check=False).stdout):
                if is_for_anybody(sa["name"]) and sa["peer"] in peers:
                    run(["ipsec", "whack", "--deletestate", str(sa["serial"])], check=False)
        else:
            return


def _end(sas: Iterable[IkeSa], run: Runner) -> None:
    """End *sas*; see `ending`."""
    for target in ending(sas):
        run(["ipsec", "whack", *target], check=False)


def _route_exception(name: str, cidr: str, run: Runner) -> None:
    """Put an exception in force, ending the SAs with its peers: pluto lets only one of them have the policy.

    Traffic may make pluto negotiate again between the end and the exception, hence the tries.
    """
    for last in (False,) * 9 + (True,):
        _end(look_loaded(run).ike_sas_with(cidr), run)
        if run(["ipsec", "whack", "--name", name, "--route"], check=last).rc == 0:
            return


def _check_setup(run: Runner) -> None:
    """Raise `ProblemsError` if libreswan reads other values than ours.

    The plan looks into /etc/ipsec.conf before anything is changed; this also sees what that includes.
    """
    effective = dict(
        line.removeprefix("export ").split("=", 1)
        for line in run(["ipsec", "addconn", "--configsetup"]).stdout.splitlines()
        if "=" in line
    )
    if effective.get("uniqueids", "'no'").strip("'") != render.SETUP["uniqueids"]:
        raise ProblemsError([render.setup_problem()])


def await_loaded(run: Runner, names: Iterable[str], wait: Callable[[float], None]) -> None:
    """Return once pluto has loaded *names*: systemd says "started" while a child of pluto still loads them."""
    missing = set(names)
    deadline = time.monotonic() + _LOAD_SECONDS
    while missing := missing - look_loaded(run).connections:
        if time.monotonic() > deadline:
            raise IpsecError(
                f"pluto runs, but did not load {', '.join(sorted(missing))} within {_LOAD_SECONDS:g} s: see journalctl -u {SERVICE}"
            )
        wait(0.3)


def look_loaded(run: Runner) -> Loaded:
    status = run(["ipsec", "whack", "--status"], check=False).stdout
    return parse(status, run(["ipsec", "whack", "--showstates"], check=False).stdout)


def _files(root: Path) -> dict[str, str]:
    """Return path → text of the collection's files that are on the host."""
    named = {
        f"{folder}/{path.name}"
        for folder in (render.CONF_DIR, render.POLICY_DIR)
        for path in _below(root, folder).glob("underlay*")
    }
    paths = (path for path in sorted({*named, render.WATCH_UNIT_FILE, render.SYSCTL_FILE}) if _is_ours(path))
    return {
        path: _below(root, path).read_text(encoding="utf-8", errors="replace")
        for path in paths
        if _below(root, path).is_file()
    }


def _is_ours(path: str) -> bool:
    if path in (
        render.SETUP_FILE,
        render.SECRETS_FILE,
        render.SYSCTL_FILE,
        render.WATCH_SCRIPT_FILE,
        render.WATCH_UNIT_FILE,
    ):
        return True
    name = path.rsplit("/", 1)[-1]
    return name.startswith(PREFIX) and (path.startswith(render.POLICY_DIR) or name.endswith(".conf"))


def _read_journal(root: Path) -> Journal | None:
    try:
        found = json.loads(_below(root, JOURNAL).read_text(encoding="utf-8"))
        return Journal(
            frozenset(found["connections"]), bool(found["restart"]), bool(found.get("secrets", True))
        )
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        # Damaged from outside, for it is written atomically: something was unfinished, but not what.
        return Journal()


def _below(root: Path, path: str) -> Path:
    return root / path.lstrip("/")


def _write(root: Path, path: str, text: str) -> None:
    mode = 0o600 if path == render.SECRETS_FILE else 0o644
    _below(root, path).parent.mkdir(parents=True, exist_ok=True)
    write_atomically(str(_below(root, path)), text, mode=mode)
