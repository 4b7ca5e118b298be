"""The command line."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from . import packages, plan, spec, store
from .capture import capture
from .errors import LabError
from .lab import Lab, State, build_images, images_in_use
from .paths import LAB_DIR, existing_runs, run_dir
from .progress import Progress

DEFAULT_SPEC = LAB_DIR / "default.json"


def main(argv: Sequence[str]) -> int:
    # Everything after `--` belongs to the command that is to be run.
    words = list(argv)
    split = words.index("--") if "--" in words else len(words)
    arguments = _parser().parse_args(words[:split])
    arguments.words = words[split + 1 :] or getattr(arguments, "words", [])
    try:
        if os.geteuid() != 0:
            raise LabError("the lab needs root: it makes network namespaces")
        code: int = arguments.run(arguments)
        return code
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    named = argparse.ArgumentParser(add_help=False)
    named.add_argument(
        "--name",
        default=os.environ.get("UNDERLAY_LAB_NAME"),
        help="the lab's name (default: $UNDERLAY_LAB_NAME, then the spec's, then dev)",
    )
    parser = argparse.ArgumentParser(prog="lab", description="Real hosts for the tests.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: object, text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, parents=[named], help=text, description=text)
        sub.set_defaults(run=run)
        return sub

    up = command("up", _up, "boot the lab, or what of it is not running")
    up.add_argument("--spec", type=Path, help="a JSON file (default: what is up, then 4 hosts)")
    up.add_argument("--only", action="append", default=[], metavar="HOST", help="just this host")

    command("down", _down, "remove every trace of the lab")
    command("build", _build, "build what of the kernel and the images is missing")
    command("clean", _clean, "remove the cached images that no lab uses")

    status = command("status", _status, "show one lab, or all of them")
    status.add_argument("--json", action="store_true")

    for name, run, text in (
        ("kill", _kill, "take a host's power away"),
        ("start", _start, "boot a host that is off"),
        ("reboot", _reboot, "restart a host from inside and wait for it"),
    ):
        command(name, run, text).add_argument("host")

    ssh = command("ssh", _ssh, "log in, or run one command")
    ssh.add_argument("host")
    ssh.add_argument("words", nargs=argparse.REMAINDER, metavar="COMMAND")

    execute = command("exec", _exec, "run -- COMMAND on a host, or on all at once")
    execute.add_argument("host", help="a host, several with commas, or all")

    command("netns", _netns, "run -- COMMAND in the controller's place on the networks")

    capturing = command("capture", _capture, "write a pcap of a network, while -- COMMAND runs")
    capturing.add_argument("network")
    capturing.add_argument(
        "--seconds", type=float, help="how long; with a command, at most (default: 10, 300)"
    )
    capturing.add_argument("--out", type=Path, help="default: NETWORK.pcap")
    capturing.add_argument("--filter", default="", help="a tcpdump expression")
    return parser


def _lab(arguments: argparse.Namespace) -> Lab:
    return Lab(arguments.name or "dev", Progress())


def _up(arguments: argparse.Namespace) -> int:
    wanted = _wanted(arguments.spec, arguments.name)
    Lab(wanted.name, Progress()).up(wanted, arguments.only)
    return 0


def _wanted(path: Path | None, name: str | None) -> spec.Spec:
    """The given spec; without one, the lab as it is up; else the default."""
    if path:
        wanted = spec.load(path)
        return wanted.named(name) if name else wanted
    wanted = spec.load(DEFAULT_SPEC)
    wanted = wanted.named(name) if name else wanted
    state = State.load(run_dir(wanted.name).state)
    return state.spec if state else wanted


def _down(arguments: argparse.Namespace) -> int:
    _lab(arguments).down()
    return 0


def _build(_arguments: argparse.Namespace) -> int:
    progress = Progress()
    packages.ensure(progress)
    build_images(spec.RELEASES, progress)
    return 0


def _clean(arguments: argparse.Namespace) -> int:
    for kept in store.clean(images_in_use()):
        print(f"kept, a lab uses it: {kept}")
    return 0


def _status(arguments: argparse.Namespace) -> int:
    # A lab whose `up` has only begun has no state to show yet.
    every = [run.name for run in existing_runs() if run.state.exists()]
    names = [arguments.name] if arguments.name else every
    reports = [Lab(name, Progress()).status() for name in names]
    if arguments.json:
        print(json.dumps(reports[0] if arguments.name else reports, indent=2))
        return 0
    if not reports:
        print("no lab is up")
    for report in reports:
        print(f"{report['name']}: namespace {report['namespace']}")
        for network, path in report["inventories"].items():
            addresses = ", ".join(report["networks"][network]["controller"])
            print(f"  {network}: controller {addresses}; inventory {path}")
        for name, host in report["hosts"].items():
            addresses = " ".join(" ".join(found) for found in host["addresses"].values())
            print(f"  {name:12} {host['state']:8} {host['release']:10} {addresses}")
    return 0


def _kill(arguments: argparse.Namespace) -> int:
    _lab(arguments).kill(arguments.host)
    return 0


def _start(arguments: argparse.Namespace) -> int:
    _lab(arguments).start(arguments.host)
    return 0


def _reboot(arguments: argparse.Namespace) -> int:
    _lab(arguments).reboot(arguments.host)
    return 0


def _ssh(arguments: argparse.Namespace) -> int:
    lab = _lab(arguments)
    machine = lab.machine(arguments.host)
    argv = lab.ssh.argv(machine.name, _remote(arguments.words))
    os.execvp(argv[0], argv)


def _exec(arguments: argparse.Namespace) -> int:
    lab = _lab(arguments)
    state = lab.state()
    command = _remote(arguments.words)
    if not command:
        raise LabError("exec needs a command: lab exec all -- uptime")
    if arguments.host == "all":
        hosts = [host.name for host in state.spec.hosts if lab.guest(host.name).process()]
    else:
        hosts = [state.spec.host(name).name for name in arguments.host.split(",")]
    if not hosts:
        raise LabError("no host is running")
    codes = lab.ssh.on_all(hosts, command)
    failed = {host: code for host, code in sorted(codes.items()) if code != 0}
    if failed:
        shown = ", ".join(f"{host} ({code})" for host, code in failed.items())
        print(f"lab: failed on {shown}", file=sys.stderr)
    return 1 if failed else 0


def _netns(arguments: argparse.Namespace) -> int:
    lab = _lab(arguments)
    lab.state()
    command = arguments.words
    if not command:
        raise LabError("netns needs a command: lab netns -- ping -c1 10.88.0.11")
    argv = [*lab.namespace.enter(), *command]
    os.execvp(argv[0], argv)


def _capture(arguments: argparse.Namespace) -> int:
    lab = _lab(arguments)
    network = lab.state().spec.network(arguments.network)
    command = arguments.words
    out = arguments.out or Path(f"{network.name}.pcap")
    seconds = arguments.seconds or (300 if command else 10)
    code = capture(
        lab.namespace,
        network.name,
        out,
        seconds=seconds,
        expression=arguments.filter,
        command=command,
    )
    print(f"{plan.bridge(network.name)}: {out}", file=sys.stderr)
    return code


def _remote(words: Sequence[str]) -> list[str]:
    """For the host's shell: one word is a line for it, several are taken literally."""
    return list(words) if len(words) < 2 else [shlex.join(words)]
