# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the plan needs to know of a host: the pure helpers of the module host_info.

Each ``parse_*`` function turns the output of one command into data; `inspect_host`
runs the commands and reads the files.
"""

from __future__ import annotations

import ipaddress
import json
import os
import platform
import re
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ansible_collections.underlay.ipsec.plugins.module_utils._errors import CommandError, IpsecError
from ansible_collections.underlay.ipsec.plugins.module_utils._firewall.detect import firewalls
from ansible_collections.underlay.ipsec.plugins.module_utils._mtu.links import read_links
from ansible_collections.underlay.ipsec.plugins.module_utils._pacemaker.live import facts
from ansible_collections.underlay.ipsec.plugins.module_utils._run import Runner

PACKAGE = "libreswan"

_UNUSABLE_FLAGS = ("deprecated", "tentative", "dadfailed", "temporary")
_FAMILIES = {"inet": 4, "inet6": 6}
_PACKAGE_INDEX_TIMEOUT = 300.0
# What OpenShift 4's network operator writes on the nodes of a cluster with IPsec.
_OPENSHIFT_FILES = ("etc/ipsec.d/openshift.conf", "etc/ipsec.d/cno.conf")


def parse_addresses(text: str) -> list[dict[str, Any]]:
    """Return the addresses in the output of ``ip -j address`` that a peer could use.

    Loopback and link-local addresses are left out, and those that the kernel does
    not use as a source by itself: deprecated, tentative, failed and temporary ones.
    """
    found = []
    for link in json.loads(text or "[]"):
        if "LOOPBACK" in link.get("flags", ()):
            continue
        for info in link.get("addr_info", ()):
            family = _FAMILIES.get(info.get("family"))
            if (
                family is None
                or info.get("scope") in ("link", "host")
                or any(info.get(flag) for flag in _UNUSABLE_FLAGS)
            ):
                continue
            found.append(
                {
                    "interface": link["ifname"],
                    "address": info["local"],
                    "prefix": info["prefixlen"],
                    "family": family,
                    "scope": info["scope"],
                    "secondary": bool(info.get("secondary", False)),
                }
            )
    return found


def parse_default_routes(text: str, family: int) -> list[dict[str, Any]]:
    """Return the default routes in the output of ``ip -j route show default``, the preferred one first."""
    found = []
    for route in sorted(json.loads(text or "[]"), key=lambda route: route.get("metric", 0)):
        if route.get("dst") != "default" or route.get("type", "unicast") != "unicast":
            continue
        for hop in route.get("nexthops", [route]):
            if hop.get("dev", "lo") != "lo":
                gateway = hop.get("gateway") or hop.get("via", {}).get("host")
                found.append({"family": family, "interface": hop["dev"], "gateway": gateway})
    return found


def parse_ssh_client(environment: Mapping[str, str]) -> str | None:
    """Return the address that an ssh session with this *environment* comes from, or None."""
    fields = (environment.get("SSH_CONNECTION") or environment.get("SSH_CLIENT") or "").split()
    if not fields:
        return None
    try:
        address = ipaddress.ip_address(fields[0].partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)


def parse_libreswan_version(text: str) -> str | None:
    """Return the release in the output of ``ipsec --version``, for example ``4.10``; None if it is not libreswan's."""
    match = re.search(r"\bLibreswan [Uv]?(\d[\w.]*)", text)
    return match.group(1) if match else None


def parse_apt_candidate(text: str) -> str | None:
    """Return the candidate in the output of ``apt-cache policy PACKAGE``, or None."""
    match = re.search(r"^\s*Candidate:\s*(\S+)", text, re.MULTILINE)
    return match.group(1) if match and match.group(1) != "(none)" else None


def parse_dnf_candidate(text: str) -> str | None:
    """Return the newest version in the output of ``dnf repoquery --qf '%{version}-%{release}'``, or None."""
    lines = [line.strip() for line in text.splitlines() if re.match(r"\s*\d", line)]
    return lines[-1] if lines else None


def parse_setup(text: str) -> dict[str, str]:
    """Return the options in ``config setup`` of an ipsec.conf, by name, without what it includes."""
    found: dict[str, str] = {}
    inside = False
    for line in (line.partition("#")[0].rstrip() for line in text.splitlines()):
        if not line[:1].isspace() and line:
            inside = line.split() == ["config", "setup"]
        elif inside and "=" in line:
            key, _equals, value = line.partition("=")
            found[key.strip()] = value.strip().strip("\"'")
    return found


def clock_skew(host: datetime, controller_time: str) -> float:
    """Return how many seconds *host* is ahead of *controller_time* (ISO 8601, in UTC if it names no zone).

    Raises IpsecError if *controller_time* is not a time.
    """
    try:
        controller = datetime.fromisoformat(controller_time)
    except ValueError:
        raise IpsecError(f"controller_time is {controller_time!r}, which is not an ISO 8601 time") from None
    if controller.tzinfo is None:
        controller = controller.replace(tzinfo=timezone.utc)
    return round((host - controller).total_seconds(), 1)


def ssh_client(environment: Mapping[str, str], root: Path, pid: int) -> str | None:
    """Return the address that Ansible connects from, or None if it does not come over ssh.

    sudo drops the variables of the ssh session, so that the parents of process *pid* are asked too.
    """
    return next(filter(None, map(parse_ssh_client, _environments(environment, root, pid))), None)


def ssh_connection(environment: Mapping[str, str], root: Path, pid: int) -> list[str]:
    """Return the remote address and port and the local ones of the ssh session; nothing if it is none."""
    for variables in _environments(environment, root, pid):
        fields = variables.get("SSH_CONNECTION", "").split()
        if len(fields) == 4 and parse_ssh_client(variables):
            plain = (field.partition("%")[0].removeprefix("::ffff:") for field in fields)
            return list(plain)
    return []


def _environments(environment: Mapping[str, str], root: Path, pid: int) -> Iterator[Mapping[str, str]]:
    """Yield *environment*, and those of the process *pid* and its parents."""
    yield environment
    while pid > 1:
        try:
            block = (root / "proc" / str(pid) / "environ").read_bytes().decode(errors="replace")
            stat = (root / "proc" / str(pid) / "stat").read_text(errors="replace")
        except OSError:
            return
        yield dict(item.partition("=")[::2] for item in block.split("\0"))
        pid = int(stat.rpartition(")")[2].split()[1])


def kernel_has(module: str, symbol: str, release: str, root: Path) -> bool | None:
    """Return whether the running kernel has or can load *module*; None if the host does not show it.

    *symbol* is a function of the module by which it is found in a kernel that
    has it built in and comes without a list of what is built in.
    """
    if (root / "sys/module" / module).exists():
        return True
    modules = root / "lib/modules" / release
    listed = False
    for name in ("modules.builtin", "modules.dep"):
        try:
            text = (modules / name).read_text(errors="replace")
        except OSError:
            continue
        listed = True
        if re.search(rf"/{module}\.ko", text):
            return True
    try:
        with (root / "proc/kallsyms").open(errors="replace") as symbols:
            if any(line.split()[2:3] == [symbol] for line in symbols):
                return True
    except OSError:
        return None
    return False if listed else None


def _apt_candidate(run: Runner) -> str | None:
    return parse_apt_candidate(run(["apt-cache", "policy", PACKAGE], check=False).stdout)


def _dnf_candidate(run: Runner) -> str | None:
    command = ["dnf", "-q", "repoquery", "--latest-limit=1", "--qf", "%{version}-%{release}\n", PACKAGE]
    return parse_dnf_candidate(run(command, check=False, timeout=_PACKAGE_INDEX_TIMEOUT).stdout)


def libreswan_package(run: Runner, refresh: bool) -> dict[str, str | None]:
    """Return which libreswan is installed, else which one could be.

    With *refresh*, a package index that offers none is fetched anew, once.
    """
    said = run(["ipsec", "--version"], check=False)
    installed = parse_libreswan_version(said.stdout + said.stderr) if said.rc == 0 else None
    candidate = None
    if installed is None:
        if run(["apt-cache", "--version"], check=False).rc == 0:
            candidate = _apt_candidate(run)
            if candidate is None and refresh:
                run(["apt-get", "-q", "update"], check=False, timeout=_PACKAGE_INDEX_TIMEOUT)
                candidate = _apt_candidate(run)
        else:
            # dnf fetches an index that is missing or old by itself.
            candidate = _dnf_candidate(run)
    return {"installed": installed, "candidate": candidate, "package": PACKAGE}


def _setup(path: Path) -> dict[str, str]:
    try:
        return parse_setup(path.read_text(errors="replace"))
    except FileNotFoundError:
        return {}


def _free_bytes(path: Path) -> int:
    stat = os.statvfs(path)
    return stat.f_bavail * stat.f_frsize


def inspect_host(
    run: Runner,
    *,
    environment: Mapping[str, str],
    controller_time: str,
    refresh: bool,
    root: Path = Path("/"),
) -> dict[str, Any]:
    """Return what the plan needs to know of this host; the module host_info documents the keys.

    Raises IpsecError if ``ip`` does not work or *controller_time* is not a time.
    """
    now = datetime.now(timezone.utc)
    release = os.uname().release
    try:
        addresses = parse_addresses(run(["ip", "-j", "address"]).stdout)
        routes = [
            route
            for family in (4, 6)
            # A kernel without IPv6 refuses the question, which means no route.
            for route in parse_default_routes(
                run(["ip", f"-{family}", "-j", "route", "show", "default"], check=False).stdout, family
            )
        ]
    except CommandError as error:
        raise IpsecError(f"The host's addresses cannot be read: {error}. Install iproute2 on it") from error
    except ValueError as error:
        raise IpsecError(
            f"The output of ip -j is not JSON: {error}. Install iproute2 4.16 or newer"
        ) from error
    return {
        "addresses": addresses,
        "default_routes": routes,
        "controller_address": ssh_client(environment, root, os.getppid()),
        "clock_skew": clock_skew(now, controller_time),
        "free_bytes": {path: _free_bytes(root / path.lstrip("/")) for path in ("/etc", "/var")},
        "libreswan": libreswan_package(run, refresh),
        "setup": _setup(root / "etc/ipsec.conf"),
        "openshift_ipsec": any((root / name).exists() for name in _OPENSHIFT_FILES),
        "esp": kernel_has("esp4", "esp4_rcv_cb", release, root),
        "esp6": kernel_has("esp6", "esp6_rcv_cb", release, root),
        "python": platform.python_version(),
        "hostname": os.uname().nodename,
        "firewall": firewalls(run),
        "links": read_links(run),
        "pacemaker": facts(run),
        "mtu_applied": (root / "etc/underlay-ipsec/mtu.json").exists(),
        "keys_applied": (root / "etc/ipsec.d/underlay.secrets").exists(),
        "vips_applied": (root / "etc/ipsec.d/underlay-vip").exists(),
        "boot_id": (root / "proc/sys/kernel/random/boot_id").read_text().strip(),
    }
