#!/usr/bin/env python3
# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run test layers one after the other and print, as the last line, what passed and failed.

A layer that fails does not stop the next one. A pytest test, a lint tool, a sanity
test and a scenario count as one each; see docs/testing.md.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".cache"
JUNIT = CACHE / "junit"
BIN = ROOT / ".venv" / "bin"
INSTALLED = Path("ansible_collections/underlay/ipsec")
IMPORT_PATH = CACHE / "collections" / INSTALLED
# Folders of Python code that are imported as parts of the collection, for mypy.
TYPED = ("plugins", "tests/unit", "tools", "bench", "molecule")
# The oldest Python of a managed host.
HOST_PYTHON = "3.9"
# The pip that ansible-test of this ansible-core puts into the environments it makes.
SANITY_PIP = "24.2"
SANITY_PYTHON = "3.11"
# How long a scenario may take before it is taken for stuck.
SCENARIO_SECONDS = 60 * 60
# How many scenarios, or lint tools, run at once.
AT_ONCE = 2
# These begin first, the longest one before the others, so that none of them is the last one, alone.
LONG_SCENARIOS = (
    "vip",
    "certificates",
    "tripleo",
    "mesh",
    "firewall",
    "default",
    "mtu_apply",
    "refused",
    "endpoints",
    "interrupted",
)
# What a built collection consists of; anything else in the artifact is a leak.
SHIPPED = {
    "CHANGELOG.rst", "COPYING", "FILES.json", "MANIFEST.json", "README.md", "changelogs", "docs",
    "meta", "playbooks", "plugins", "requirements.txt", "roles", "tests",
}  # fmt: skip


@dataclass
class Tally:
    """How many tests passed, failed and were skipped."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0

    def add(self, other: Tally) -> None:
        """Add *other*'s numbers to these."""
        self.passed += other.passed
        self.failed += other.failed
        self.skipped += other.skipped

    def __str__(self) -> str:
        skipped = f", {self.skipped} skipped" if self.skipped else ""
        return f"{self.passed} passed, {self.failed} failed{skipped}"


def one(ok: bool) -> Tally:
    """Return the tally of a single test."""
    return Tally(passed=int(ok), failed=int(not ok))


def say(text: str) -> None:
    """Print a line at once, in order with what child processes print."""
    print(text, flush=True)


@contextmanager
def stopwatch() -> Iterator[Callable[[], str]]:
    """Yield a function that returns the time since, as ``12.3 s``."""
    start = time.monotonic()
    yield lambda: f"{time.monotonic() - start:.1f} s"


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment in which every tool runs: .venv first, this collection importable."""
    plain = {} if sys.stdout.isatty() else {"NO_COLOR": "1", "ANSIBLE_NOCOLOR": "1"}
    return {
        "HOME": str(Path.home()),
        **os.environ,
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "ANSIBLE_COLLECTIONS_PATH": str(CACHE / "collections"),
        "ANSIBLE_CALLBACK_RESULT_FORMAT": "yaml",  # a failed task's output in lines, as it was
        "ANSIBLE_HOME": str(CACHE / "ansible"),
        "PYTHONDONTWRITEBYTECODE": "1",
        **plain,
        **(extra or {}),
    }


def run(
    argv: Sequence[object],
    *,
    cwd: Path = ROOT,
    env: Mapping[str, str] | None = None,
    limit: float | None = None,
    log: Path | None = None,
) -> bool:
    """Run a command whose output the reader wants to follow, or to find in *log*; return whether it succeeded.

    After *limit* seconds it is terminated with all that it started, and has failed.
    """
    with (
        log.open("a") if log else nullcontext() as out,
        subprocess.Popen(
            list(map(str, argv)),
            cwd=cwd,
            env=environment(env),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT if out else None,
            start_new_session=True,
        ) as process,
    ):
        try:
            return process.wait(limit) == 0
        except subprocess.TimeoutExpired:
            say(f"  FAILED {argv[0]} did not end within {limit:g} s")
            return False
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)


def check(name: str, argv: Sequence[object], *, env: Mapping[str, str] | None = None) -> Tally:
    """Run a command whose output matters only if it fails."""
    with stopwatch() as elapsed:
        done = subprocess.run(
            list(map(str, argv)),
            cwd=ROOT,
            env=environment(env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
    ok = done.returncode == 0
    said = "" if ok else f"\n{done.stdout}"  # in one piece with the name: another may run at the same time
    say(f"  {'ok    ' if ok else 'FAILED'} {name} ({elapsed()}){said}")
    return one(ok)


def project_files() -> list[Path]:
    """Return the project's files relative to its root: what git tracks, or would if it were added."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return [Path(name) for name in sorted(set(listed.split("\0"))) if name and (ROOT / name).exists()]


def is_shell(path: Path) -> bool:
    """Return whether *path* (relative to the root) is a shell script."""
    if path.suffix in {".sh", ".bash"}:
        return True
    if path.suffix or not (ROOT / path).is_file():
        return False
    with (ROOT / path).open("rb") as file:
        return re.match(rb"#!.*[/ ](ba|da)?sh\b", file.readline(200)) is not None


def junit_tally(path: Path) -> Tally:
    """Count the test cases of a JUnit XML file."""
    tally = Tally()
    for case in ElementTree.parse(path).iter("testcase"):
        tally.failed += case.find("failure") is not None or case.find("error") is not None
        tally.skipped += case.find("skipped") is not None
        tally.passed += all(case.find(tag) is None for tag in ("failure", "error", "skipped"))
    return tally


def lint() -> Tally:
    """Run every static check, those that take longest first."""
    packages = IMPORT_PATH.relative_to(ROOT)
    python = [packages / name for name in TYPED if any((ROOT / name).rglob("*.py"))]
    # vermin takes bytes.decode(errors=…) for Python 2's str.decode(errors=…).
    host_python = [BIN / "vermin", "-q", f"--target={HOST_PYTHON}-", "--no-tips", "--violations"]
    host_python += ["--exclude", "str.decode(errors)", "plugins/modules", "plugins/module_utils"]
    tools: dict[str, Sequence[object]] = {
        "ansible-lint": [BIN / "ansible-lint", "--strict", "-q"],
        "mypy": [BIN / "mypy", *python, "tests/lab"],
        f"vermin for Python {HOST_PYTHON}": host_python,
        "yamllint": [BIN / "yamllint", "--strict", "."],
        "shellcheck": ["shellcheck", *filter(is_shell, project_files())],
        "ruff check": [BIN / "ruff", "check", "."],
        "ruff format": [BIN / "ruff", "format", "--check", "."],
    }
    tally = Tally()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for result in pool.map(check, tools, tools.values()):
            tally.add(result)
    return tally


def unit() -> Tally:
    """Run the unit tests."""
    report = JUNIT / "unit.xml"
    report.unlink(missing_ok=True)
    ok = run([BIN / "python", "-m", "pytest", "-q", "--numprocesses=logical", f"--junit-xml={report}"])
    tally = junit_tally(report) if report.exists() else Tally()
    if not ok and not tally.failed:
        tally.failed = 1  # pytest broke down before it could say which test
    return tally


def build_and_install(into: Path) -> Tally:
    """Build the collection and install the artifact as INSTALLED below *into*."""
    shutil.rmtree(into / INSTALLED.parts[0], ignore_errors=True)
    artifact = into / "collection.tar.gz"
    galaxy = [BIN / "ansible-galaxy", "collection"]
    tally = check("collection build", [*galaxy, "build", "--force", "--output-path", into])
    for built in into.glob("underlay-ipsec-*.tar.gz"):
        built.replace(artifact)
    # Where it looks for what is installed already, so that it finds nothing.
    search = {"ANSIBLE_COLLECTIONS_PATH": str(into)}
    tally.add(
        check("collection install", [*galaxy, "install", "--offline", "-p", into, artifact], env=search)
    )
    return tally


def sanity_home() -> Path:
    """Return a home directory in which ansible-test can make its environments offline.

    It bootstraps pip with a script that it downloads, unless it finds it in its cache.
    Ours does the same with the pip of .venv, so that nothing but the package index is needed.
    """
    home = CACHE / "sanity" / "home"
    script = home / f".ansible/test/cache/get_pip_{SANITY_PIP.replace('.', '_')}.py"
    script.parent.mkdir(parents=True, exist_ok=True)
    script.write_text(
        "import subprocess, sys\n"
        f"pip = [{str(BIN / 'python')!r}, '-m', 'pip', '--python', sys.executable]\n"
        "wanted = [word for word in sys.argv[1:] if word not in ('--no-setuptools', '--no-wheel')]\n"
        "sys.exit(subprocess.call([*pip, 'install', *wanted]))\n",
        encoding="utf-8",
    )
    quiet = home / ".pip" / "pip.conf"  # read in addition to .config/pip/pip.conf
    quiet.parent.mkdir(exist_ok=True)
    quiet.write_text("[global]\nquiet = 2\n", encoding="utf-8")
    own_settings = Path.home() / ".config" / "pip"
    link = home / ".config" / "pip"
    if own_settings.is_dir() and not link.exists():
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(own_settings)
    return home


def sanity() -> Tally:
    """Run ansible-test sanity on what a user installs: it wants a real directory of that name."""
    into = CACHE / "sanity"
    build_and_install(into)
    # Without a repository of its own it would find ours, in which the copy is ignored.
    subprocess.run(["git", "init", "--quiet"], cwd=into / INSTALLED, check=True)
    ok = run(
        [BIN / "ansible-test", "sanity", "--python", SANITY_PYTHON, "--junit"],
        cwd=into / INSTALLED,
        env={"HOME": str(sanity_home())},
    )
    tally = Tally()
    for report in sorted((into / INSTALLED / "tests/output/junit").glob("ansible-test-sanity-*.xml")):
        result = junit_tally(report)
        tally.add(Tally(failed=1) if result.failed else result)
        for skipped in ElementTree.parse(report).iter("skipped"):
            name = report.stem.removeprefix("ansible-test-sanity-")
            say(f"  skipped {name}: {skipped.get('message') or skipped.text}")
    if not ok and not tally.failed:
        tally.failed = 1  # ansible-test broke down before it could say which test
    return tally


def build() -> Tally:
    """Build the collection, install the artifact, and look at what a user gets."""
    into = CACHE / "build"
    tally = build_and_install(into)
    found = {path.name for path in (into / INSTALLED).iterdir()}
    extra = found - SHIPPED
    say(f"  FAILED the artifact also holds {', '.join(sorted(extra))}" if extra else "  ok     contents")
    tally.add(one(not extra))
    playbooks = sorted((into / INSTALLED).glob("playbooks/*.yml"))
    syntax = [BIN / "ansible-playbook", "--syntax-check", "-i", "localhost,", *playbooks]
    search = {"ANSIBLE_COLLECTIONS_PATH": str(into)}
    tally.add(check("syntax of the installed playbooks", syntax, env=search))
    return tally


def scenario(name: str) -> Tally:
    """Run a scenario from creation to destruction, and print what it said when it is over."""
    log = CACHE / "molecule" / f"{name}.log"
    log.parent.mkdir(exist_ok=True)
    log.unlink(missing_ok=True)
    say(f"  begins scenario {name}")
    with stopwatch() as elapsed:
        ok = run([BIN / "molecule", "test", "-s", name], limit=SCENARIO_SECONDS, log=log)
        if not ok:
            run([BIN / "molecule", "destroy", "-s", name], limit=SCENARIO_SECONDS, log=log)
    said = log.read_text(encoding="utf-8", errors="replace")
    say(f"{said}\n  {'ok    ' if ok else 'FAILED'} scenario {name} ({elapsed()})")
    return one(ok)


def molecule() -> Tally:
    """Run every scenario, several at once: most of a test is waiting for what must not happen."""
    for report in JUNIT.glob("*.xml"):
        if report.name != "unit.xml":
            report.unlink()
    found = {path.parent.name for path in ROOT.glob("molecule/*/molecule.yml")}
    names = [name for name in LONG_SCENARIOS if name in found] + sorted(found - set(LONG_SCENARIOS))
    # Before any clock runs: on a new machine it takes as long as a scenario.
    tally = check("kernel and images of the lab", [ROOT / "molecule" / "lab" / "lab", "build"])
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for result in pool.map(scenario, names):
            tally.add(result)
    for report in JUNIT.glob("*.xml"):
        if report.name != "unit.xml":
            tally.add(junit_tally(report))
    return tally


LAYERS: dict[str, Callable[[], Tally]] = {
    "lint": lint,
    "unit": unit,
    "sanity": sanity,
    "build": build,
    "molecule": molecule,
}


def main() -> int:
    """Run the layers named on the command line, or all of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "layers", nargs="*", metavar="LAYER", help=f"one of {', '.join(LAYERS)}; default: all"
    )
    chosen = parser.parse_args().layers or list(LAYERS)
    if unknown := set(chosen) - set(LAYERS):
        parser.error(f"unknown layer: {', '.join(sorted(unknown))}")
    JUNIT.mkdir(parents=True, exist_ok=True)
    total = Tally()
    summary = []
    for name in chosen:
        say(f"== {name}")
        with stopwatch() as elapsed:
            try:
                tally = LAYERS[name]()
            except (OSError, subprocess.SubprocessError, ElementTree.ParseError) as error:
                say(f"  FAILED the layer could not be run to its end: {error}")
                tally = one(False)
        summary.append(f"{name:<9} {elapsed():>9}  {tally}")
        say(f"== {summary[-1]}\n")
        total.add(tally)
    if len(summary) > 1:
        say("\n".join(summary))
    say(f"{total.passed} passed, {total.failed} failed")
    return 1 if total.failed else 0


if __name__ == "__main__":
    sys.exit(main())
