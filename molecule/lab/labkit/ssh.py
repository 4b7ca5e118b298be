"""ssh into the namespace: the lab's key, its configuration, and running commands."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path

from .paths import RunDir
from .plan import Machine
from .process import run
from .spec import MANAGEMENT

_OPTIONS = """\
Host *
    User root
    IdentityFile {key}
    IdentitiesOnly yes
    IdentityAgent none
    ProxyCommand nsenter --net=/run/netns/{namespace} -- socat - TCP:%h:%p
    StrictHostKeyChecking no
    UserKnownHostsFile /dev/null
    GlobalKnownHostsFile /dev/null
    LogLevel ERROR
    ConnectTimeout 30
    ServerAliveInterval 10
    ServerAliveCountMax 6
    PreferredAuthentications publickey
    ControlMaster auto
    ControlPersist 60
    ControlPath {control}/%h
"""


class Ssh:
    """How to reach the hosts of one lab."""

    def __init__(self, run_dir: RunDir) -> None:
        self._run_dir = run_dir

    def ensure_key(self) -> str:
        """Make the lab's key if there is none; returns the base64 of its public half."""
        if not self._run_dir.key.exists():
            # Made aside, so that a killed `up` leaves no half of a pair.
            draft = self._run_dir.path / "key.draft"
            draft.unlink(missing_ok=True)
            run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "lab", "-f", draft])
            draft.with_suffix(".draft.pub").rename(self._public)
            draft.rename(self._run_dir.key)
        return self._public.read_text().split()[1]

    @property
    def _public(self) -> Path:
        return self._run_dir.path / "id_ed25519.pub"

    def write_config(self, machines: Sequence[Machine]) -> None:
        """The general part, plus the name of every host, for `ssh -F … h1`."""
        self._run_dir.control.mkdir(mode=0o700, exist_ok=True)
        names = "".join(
            f"Host {machine.name}\n    HostName {machine.interface(MANAGEMENT).address(4)}\n"
            for machine in machines
        )
        options = _OPTIONS.format(
            key=self._run_dir.key,
            namespace=self._run_dir.namespace,
            control=self._run_dir.control,
        )
        self._run_dir.ssh_config.write_text(names + options)

    def argv(self, host: str, command: Sequence[str] = ()) -> list[str]:
        return ["ssh", "-F", str(self._run_dir.ssh_config), host, *command]

    def forget(self, machine: Machine) -> None:
        """Drop shared connections to a host that goes away; they would only hang."""
        for interface in machine.interfaces:
            for family in (4, 6):
                address = interface.address(family)
                if address and (self._run_dir.control / address).exists():
                    run(
                        ["ssh", "-F", self._run_dir.ssh_config, "-O", "exit", address],
                        check=False,
                        timeout=10,
                    )

    def try_on(self, host: str, command: Sequence[str]) -> str | None:
        """Run a command that may fail, or break its own connection; what went wrong."""
        result = run(self.argv(host, command), check=False, timeout=60)
        return None if result.returncode == 0 else result.stderr.strip() or "no reason given"

    def output(self, host: str, command: Sequence[str]) -> str:
        return run(self.argv(host, command), timeout=60).stdout

    def on_all(self, hosts: Sequence[str], command: Sequence[str]) -> dict[str, int]:
        """Run a command on several hosts at once, each line marked with its host."""
        codes: dict[str, int] = {}
        width = max(len(host) for host in hosts)
        printing = threading.Lock()

        def one(host: str) -> None:
            with subprocess.Popen(
                self.argv(host, command),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
            ) as process:
                assert process.stdout is not None
                for line in process.stdout:
                    with printing:
                        print(f"{host:{width}} | {line.rstrip()}", flush=True)
            codes[host] = process.returncode

        threads = [threading.Thread(target=one, args=(host,)) for host in hosts]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return codes
