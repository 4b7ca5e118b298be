# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What firewalld lets in: rich rules in the zones of the members' interfaces, at once and permanently.

firewalld has no way to say "unless it was encrypted": what is dropped is in a table of nftables,
which survives that firewalld is reloaded and stopped.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from xml.etree import ElementTree

from ansible_collections.underlay.ipsec.plugins.module_utils._errors import IpsecError
from ansible_collections.underlay.ipsec.plugins.module_utils._files import write_atomically
from ansible_collections.underlay.ipsec.plugins.module_utils._firewall.rules import IKE_PORTS, Rules
from ansible_collections.underlay.ipsec.plugins.module_utils._model.cluster import Cidr
from ansible_collections.underlay.ipsec.plugins.module_utils._run import Runner

_ZONES = "etc/firewalld/zones"


def rich_rules(rules: Rules) -> list[str]:
    """Return the rich rules that let IKE and ESP in, as firewalld lists them."""
    matches = [f'port port="{port}" protocol="udp"' for port in IKE_PORTS] + ['protocol value="esp"']
    return [
        f'rule family="ipv{cidr.version}" source address="{cidr}" {match} accept'
        for cidr in rules.open
        for match in matches
    ]


def running(run: Runner) -> bool:
    """Return whether firewalld runs."""
    return run(["firewall-cmd", "--state"], check=False).rc == 0


class Zones:
    """firewalld's zones and their rich rules. Each is asked for once, because the answer takes a while.

    The methods raise IpsecError if firewalld does not answer or refuses.
    """

    def __init__(self, run: Runner) -> None:
        self._run = run
        self.offline = False
        """Whether firewalld does not run, so that there is nothing but what it has written."""
        self._active: tuple[dict[str, str], dict[Cidr, str]] | None = None
        self._default = ""
        self._rules: dict[tuple[str, bool], list[str]] = {}

    def of(self, interfaces: Sequence[str], rules: Rules) -> list[str]:
        """Return the zones that decide about IKE and ESP.

        Those are the interfaces' and, since they come first, those of sources that *rules* let in.
        """
        if self._active is None:
            self._active = active_zones(self._command("--get-active-zones"))
        by_interface, by_source = self._active
        found = {
            zone
            for source, zone in by_source.items()
            if any(source.version == cidr.version and source.overlaps(cidr) for cidr in rules.open)
        }
        if not by_interface.keys() >= set(interfaces):
            self._default = self._default or self._command("--get-default-zone").strip()
            found.add(self._default)
        return sorted(found.union(by_interface[name] for name in interfaces if name in by_interface))

    def rules(self, zone: str, *, permanent: bool) -> list[str]:
        """Return the rich rules of a zone."""
        key = zone, permanent
        if self.offline and not permanent:
            return []
        if key not in self._rules:
            self._rules[key] = self._in(zone, permanent, ["--list-rich-rules"]).splitlines()
        return list(self._rules[key])

    def change(self, zone: str, *, add: Sequence[str], remove: Sequence[str], permanent: bool) -> None:
        """Add rich rules to a zone and remove some."""
        present = self.rules(zone, permanent=permanent)
        for option, rules in (("--add-rich-rule", add), ("--remove-rich-rule", remove)):
            if rules:
                self._in(zone, permanent, [f"{option}={rule}" for rule in rules])
        self._rules[zone, permanent] = [rule for rule in [*present, *add] if rule not in remove]

    def _in(self, zone: str, permanent: bool, arguments: Sequence[str]) -> str:
        scope = ["--permanent"] if permanent and not self.offline else []
        return self._command(*scope, f"--zone={zone}", *arguments)

    def _command(self, *arguments: str) -> str:
        tool = "firewall-offline-cmd" if self.offline else "firewall-cmd"
        said = self._run([tool, *arguments], check=False)
        if said.rc:
            raise IpsecError(f"firewalld refused: {(said.stderr or said.stdout).strip()}")
        return said.stdout


def active_zones(text: str) -> tuple[dict[str, str], dict[Cidr, str]]:
    """Return interface → zone and source → zone, from the output of ``firewall-cmd --get-active-zones``.

    Sources that are no addresses (sets, hardware addresses) are left out.
    """
    by_interface: dict[str, str] = {}
    by_source: dict[Cidr, str] = {}
    zone = ""
    for line in text.splitlines():
        if line[:1].strip():
            zone = line.split()[0]  # newer releases add "(default)"
            continue
        key, _colon, names = line.strip().partition(":")
        if key == "interfaces":
            by_interface.update(dict.fromkeys(names.split(), zone))
        elif key == "sources":
            for name in names.split():
                with suppress(ValueError):
                    by_source[ipaddress.ip_network(name, strict=False)] = zone
    return by_interface, by_source


def zone_file(root: Path, zone: str) -> str | None:
    """Return the operator's file of a zone; None if the zone is as firewalld brings it."""
    try:
        return (root / _ZONES / f"{zone}.xml").read_text(encoding="utf-8")
    except FileNotFoundError:
        return None


def put_back(root: Path, zone: str, before: str | None) -> None:
    """Give a zone's file its former bytes, *before*, if what it says is what it said then.

    firewalld writes a file of its own for a zone that had none, and writes those of others in its own style.
    """
    path = root / _ZONES / f"{zone}.xml"
    now = zone_file(root, zone)
    shipped = root / "usr/lib/firewalld/zones" / f"{zone}.xml"
    said = before
    if said is None and shipped.exists():
        said = shipped.read_text(encoding="utf-8")
    if now is None or said is None or now == before or _meaning(now) != _meaning(said):
        return
    if before is None:
        path.unlink()
        path.with_suffix(".xml.old").unlink(missing_ok=True)
    else:
        write_atomically(str(path), before, mode=0o644)


def _meaning(text: str) -> list[str]:
    """Return what the file of a zone says, whatever its layout and the order of its rules."""
    zone = ElementTree.fromstring(text)
    attributes = [f"{key}={value}" for key, value in zone.attrib.items() if key != "version"]
    children = [ElementTree.canonicalize(ElementTree.tostring(child), strip_text=True) for child in zone]
    return sorted(attributes + children)
