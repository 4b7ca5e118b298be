"""One lab as a whole: what the commands do."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from . import image, inventory, packages, plan
from .errors import LabError
from .guests import Guest
from .network import Namespace
from .paths import RunDir, existing_runs, run_dir
from .plan import Machine
from .progress import Progress
from .spec import Host, Spec, parse
from .ssh import Ssh

# A host that is still busy booting may refuse the first connection.
_SSH_ATTEMPTS = 5

T = TypeVar("T")
R = TypeVar("R")


@dataclass
class State:
    """What a lab remembers between commands."""

    spec: Spec
    numbers: dict[str, int] = field(default_factory=dict)
    # A copy-on-write disk only makes sense on the very image it was made on.
    images: dict[str, str] = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path) -> State | None:
        try:
            data = json.loads(path.read_text())
        except FileNotFoundError:
            return None
        return cls(parse(data["spec"], str(path)), data["numbers"], data["images"])

    def save(self, path: Path) -> None:
        data = {"spec": self.spec.to_data(), "numbers": self.numbers, "images": self.images}
        draft = path.with_suffix(".draft")
        draft.write_text(json.dumps(data, indent=2))
        draft.rename(path)

    def machines(self) -> dict[str, Machine]:
        return plan.machines(self.spec, self.numbers)


class Lab:
    """The lab of a name; whether it is up is found out, never assumed."""

    def __init__(self, name: str, progress: Progress) -> None:
        self.run_dir: RunDir = run_dir(name)
        self.namespace = Namespace(self.run_dir.namespace)
        self.ssh = Ssh(self.run_dir)
        self._progress = progress

    # -- what the commands do ------------------------------------------------------

    def up(self, spec: Spec, only: Sequence[str] = ()) -> None:
        """Make the lab what the spec says; touches only what differs."""
        with self._locked():
            self.run_dir.path.mkdir(parents=True, exist_ok=True)
            before = State.load(self.run_dir.state)
            if before:
                self._check_unchanged(before.spec, spec)
                self._remove_hosts(before, spec)
            state = State(spec, images=before.images if before else {})
            state.numbers = plan.assign_numbers(spec, before.numbers if before else {})
            machines = state.machines()
            chosen = [machines[spec.host(name).name] for name in only] or list(machines.values())
            packages.ensure(self._progress)
            self._boot(state, chosen)
            self._wait(chosen)
            self._write_inventories(state)
        self._progress(f"lab {spec.name} is up: {self.run_dir.inventory('mgmt')}")

    def down(self) -> None:
        """Leave nothing behind, whatever state the lab was left in."""
        with self._locked():
            for guest in self._guests():
                guest.kill()
            self.namespace.remove()
            shutil.rmtree(self.run_dir.path, ignore_errors=True)
            self.run_dir.lock.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self.run_dir.root.rmdir()
        self._progress(f"lab {self.run_dir.name} is down")

    def kill(self, name: str) -> None:
        """Take a host's power away."""
        machine = self.machine(name)
        with self._locked():
            self.guest(name).kill()
            self.ssh.forget(machine)
        self._progress(f"{name}: off")

    def start(self, name: str) -> None:
        """Boot a host that is off."""
        self.up(self.state().spec, only=[name])

    def reboot(self, name: str) -> None:
        """Let the host's own systemd restart it, and wait until it is back."""
        machine = self.machine(name)
        guest = self.guest(name)
        with self._locked():
            boots = guest.boots()
            before = self.ssh.output(name, ["cat", "/proc/sys/kernel/random/boot_id"])
            self._progress(f"{name}: rebooting")
            self.ssh.try_on(name, ["systemctl", "--no-block", "reboot"])
            self.ssh.forget(machine)
            guest.wait_ready(boots + 1)
            if self.ssh.output(name, ["cat", "/proc/sys/kernel/random/boot_id"]) == before:
                raise LabError(f"{name} did not reboot")
        self._progress(f"{name}: ready")

    def status(self) -> dict[str, Any]:
        """Everything that a user or a test may want to know, as plain data."""
        state = self.state()
        hosts = {}
        for machine in state.machines().values():
            guest = self.guest(machine.name)
            process = guest.process()
            hosts[machine.name] = {
                "state": "absent" if not guest.exists() else "running" if process else "off",
                "pid": process.pid if process else None,
                "release": machine.host.release,
                "memory": machine.host.memory,
                "console": str(guest.console),
                "addresses": {
                    interface.network: [
                        address for family in (4, 6) if (address := interface.address(family))
                    ]
                    for interface in machine.interfaces
                },
            }
        return {
            "name": self.run_dir.name,
            "namespace": self.namespace.name if self.namespace.exists() else None,
            "run_dir": str(self.run_dir.path),
            "ssh_config": str(self.run_dir.ssh_config),
            "inventories": {
                network.name: str(self.run_dir.inventory(network.name)) for network in state.spec.networks
            },
            "networks": {
                network.name: {
                    "bridge": plan.bridge(network.name),
                    "controller": plan.controller_addresses(network),
                }
                for network in state.spec.networks
            },
            "hosts": hosts,
        }

    # -- access for the command line -----------------------------------------------

    def state(self) -> State:
        state = State.load(self.run_dir.state)
        if state is None:
            known = ", ".join(run.name for run in existing_runs()) or "none"
            raise LabError(f"lab {self.run_dir.name} is not up (labs here: {known})")
        return state

    def machine(self, name: str) -> Machine:
        state = self.state()
        return state.machines()[state.spec.host(name).name]

    def guest(self, name: str) -> Guest:
        return Guest(self.run_dir.hosts / name, self.namespace)

    # -- parts ---------------------------------------------------------------------

    def _guests(self) -> list[Guest]:
        """By folder, not by state: `down` must find them even without a state."""
        if not self.run_dir.hosts.is_dir():
            return []
        return [self.guest(folder.name) for folder in sorted(self.run_dir.hosts.iterdir())]

    def _boot(self, state: State, chosen: Sequence[Machine]) -> None:
        missing = [machine for machine in chosen if not self.guest(machine.name).process()]
        images = self._images(state, missing)
        state.save(self.run_dir.state)
        public_key = self.ssh.ensure_key()
        self.ssh.write_config(list(state.machines().values()))
        self.namespace.ensure(state.spec)
        for machine in missing:
            self._progress(f"{machine.name}: booting {machine.host.release}")
            self.guest(machine.name).start(machine, images[machine.name], public_key)

    def _images(self, state: State, machines: Sequence[Machine]) -> dict[str, image.Image]:
        """Each machine's image: the one its disk was made on, or the current one."""
        fresh = [
            machine
            for machine in machines
            if not (
                machine.name in state.images
                and self.guest(machine.name).exists()
                and Path(state.images[machine.name]).is_dir()
            )
        ]
        built = build_images(sorted({machine.host.release for machine in fresh}), self._progress)
        for machine in fresh:
            state.images[machine.name] = str(built[machine.host.release].path)
        return {machine.name: image.Image(Path(state.images[machine.name])) for machine in machines}

    def _wait(self, machines: Sequence[Machine]) -> None:
        def one(machine: Machine) -> None:
            guest = self.guest(machine.name)
            waited = not guest.boots()
            guest.wait_ready()
            for attempt in range(_SSH_ATTEMPTS):
                problem = self.ssh.try_on(machine.name, ["true"])
                if problem is None:
                    break
                self._progress(f"{machine.name}: ssh, attempt {attempt + 1}: {problem}")
                time.sleep(1)
            else:
                raise LabError(f"host {machine.name} runs, but ssh does not answer")
            if waited:
                self._progress(f"{machine.name}: ready")

        _parallel(one, machines)

    def _write_inventories(self, state: State) -> None:
        """Of the hosts that exist: with `--only`, not all of the spec's do."""
        machines = [m for m in state.machines().values() if self.guest(m.name).exists()]
        for network in state.spec.networks:
            text = inventory.render(state.spec, machines, self.run_dir, network.name)
            self.run_dir.inventory(network.name).write_text(text)

    def _check_unchanged(self, before: Spec, after: Spec) -> None:
        """A running lab can gain and lose hosts and gain networks, no more."""
        changed = [
            f"{kind} {old.name}"
            for kind, olds, news in (
                ("network", before.networks, after.networks),
                ("host", _machines_only(before.hosts), _machines_only(after.hosts)),
            )
            for old in olds
            for new in news
            if old.name == new.name and old != new
        ]
        if changed:
            raise LabError(
                f"lab {after.name} is up with another definition of {', '.join(changed)}: take it down first"
            )

    def _remove_hosts(self, before: State, spec: Spec) -> None:
        wanted = {host.name for host in spec.hosts}
        for machine in before.machines().values():
            guest = self.guest(machine.name)
            if machine.name not in wanted and guest.exists():
                self._progress(f"{machine.name}: no longer in the spec, removed")
                guest.kill()
                self.ssh.forget(machine)
                self.namespace.remove_taps(machine)
                shutil.rmtree(guest.folder)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """One command at a time changes a lab; the lock dies with its holder."""
        while True:
            self.run_dir.root.mkdir(parents=True, exist_ok=True)
            with self.run_dir.lock.open("w") as handle:
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    self._progress(f"waiting for another command on lab {self.run_dir.name}")
                    fcntl.flock(handle, fcntl.LOCK_EX)
                # `down` removes the file: then this lock is nobody's any more.
                if _same_file(handle.fileno(), self.run_dir.lock):
                    yield
                    return


def build_images(releases: Sequence[str], progress: Progress) -> dict[str, image.Image]:
    """The image of each release, after building what the cache has not."""
    return dict(
        zip(releases, _parallel(lambda release: image.ensure(release, progress), releases), strict=True)
    )


def images_in_use() -> set[Path]:
    """The images under the disks of any lab."""
    states = (State.load(run.state) for run in existing_runs())
    return {Path(path) for state in states if state for path in state.images.values()}


def _machines_only(hosts: Sequence[Host]) -> list[Host]:
    """The hosts without what only the inventory has to know."""
    return [replace(host, groups=()) for host in hosts]


def _same_file(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def _parallel(work: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """Do all at once and report all that failed, not just the first."""
    if not items:
        return []
    with ThreadPoolExecutor(len(items)) as pool:
        futures = [pool.submit(work, item) for item in items]
    errors = [error for future in futures if (error := future.exception())]
    unexpected = [error for error in errors if not isinstance(error, LabError)]
    if unexpected:
        raise unexpected[0]
    if errors:
        raise LabError("\n".join(str(error) for error in errors))
    return [future.result() for future in futures]
