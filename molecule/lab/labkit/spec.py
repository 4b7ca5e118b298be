"""What a lab consists of: parsed from JSON, checked completely before anything starts."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Any

from .errors import LabError

RELEASES = ("bookworm", "trixie")
MANAGEMENT = "mgmt"
DEFAULT_MANAGEMENT_IPV4 = "10.77.0.0/24"
DEFAULT_MEMORY = 384
MINIMUM_MEMORY = 192

# A network's name becomes a bridge's, `br-NAME`, and the kernel allows 15 characters.
_NETWORK_NAME = re.compile(r"[a-z][a-z0-9]{0,11}")
_HOST_NAME = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?")
_LAB_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")
_GROUP_NAME = re.compile(r"[a-z][a-z0-9_]*")
# Every host is in this inventory group, whatever its own groups are.
LAB_GROUP = "lab"
DEFAULT_GROUPS = ("ipsec",)
_RESERVED_HOSTS = ("all", "ungrouped", "localhost", LAB_GROUP, *DEFAULT_GROUPS)


@dataclass(frozen=True)
class Network:
    """A bridge in the lab's namespace; either family may be missing, not both."""

    name: str
    ipv4: str | None = None
    ipv6: str | None = None


@dataclass(frozen=True)
class Host:
    """One machine; `networks` are its data networks, mgmt comes by itself.

    `groups` are for the inventory; a host outside the cluster has none.
    """

    name: str
    release: str
    memory: int
    networks: tuple[str, ...]
    groups: tuple[str, ...] = DEFAULT_GROUPS


@dataclass(frozen=True)
class Spec:
    """A whole lab. The first network is always mgmt."""

    name: str
    networks: tuple[Network, ...]
    hosts: tuple[Host, ...]

    def host(self, name: str) -> Host:
        for host in self.hosts:
            if host.name == name:
                return host
        known = ", ".join(host.name for host in self.hosts)
        raise LabError(f"there is no host {name} in lab {self.name} (hosts: {known})")

    def network(self, name: str) -> Network:
        for network in self.networks:
            if network.name == name:
                return network
        known = ", ".join(network.name for network in self.networks)
        raise LabError(f"there is no network {name} in lab {self.name} (networks: {known})")

    def named(self, name: str) -> Spec:
        """The same lab under another name."""
        if not _LAB_NAME.fullmatch(name):
            raise LabError(f"lab name {name!r} must match {_LAB_NAME.pattern}")
        return replace(self, name=name)

    def to_data(self) -> dict[str, Any]:
        """Plain data that `parse` turns into the same spec again."""
        data: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return data


def load(path: Path) -> Spec:
    """Read and check a spec file."""
    try:
        data = json.loads(path.read_text())
    except OSError as error:
        raise LabError(f"cannot read the spec: {error}") from error
    except ValueError as error:
        raise LabError(f"{path} is not JSON: {error}") from error
    return parse(data, source=str(path))


def parse(data: object, source: str = "spec") -> Spec:
    """Check everything and report all errors at once."""
    parser = _Parser()
    spec = parser.spec(data)
    if parser.errors:
        raise LabError(f"{source} is wrong:\n" + "\n".join(f"  {line}" for line in parser.errors))
    return spec


class _Parser:
    """Turns plain data into a Spec; collects errors instead of stopping at the first."""

    def __init__(self) -> None:
        self.errors: list[str] = []

    def spec(self, data: object) -> Spec:
        fields = self._fields(data, "the spec", required=("hosts",), optional=("name", "networks"))
        name = self._text(fields.get("name", "dev"), "name", _LAB_NAME)
        networks = self._networks(fields.get("networks", []))
        data_networks = tuple(n.name for n in networks if n.name != MANAGEMENT)
        hosts = tuple(
            self._host(entry, f"hosts[{index}]", data_networks)
            for index, entry in enumerate(self._list(fields.get("hosts", []), "hosts"))
        )
        if not hosts:
            self.errors.append("hosts: at least one host is needed")
        self._unique([host.name for host in hosts], "hosts")
        return Spec(name, networks, hosts)

    def _networks(self, data: object) -> tuple[Network, ...]:
        networks = [
            self._network(entry, f"networks[{index}]")
            for index, entry in enumerate(self._list(data, "networks"))
        ]
        self._unique([network.name for network in networks], "networks")
        management = next((n for n in networks if n.name == MANAGEMENT), None)
        if management is None:
            management = Network(MANAGEMENT, DEFAULT_MANAGEMENT_IPV4)
        elif management.ipv4 is None:
            self.errors.append(f"networks: {MANAGEMENT} needs ipv4, ssh goes over it")
        ordered = (management, *(n for n in networks if n.name != MANAGEMENT))
        self._disjoint(ordered)
        return ordered

    def _network(self, data: object, where: str) -> Network:
        fields = self._fields(data, where, required=("name",), optional=("ipv4", "ipv6"))
        name = self._text(fields.get("name", "unnamed"), f"{where}.name", _NETWORK_NAME)
        ipv4, ipv6 = fields.get("ipv4"), fields.get("ipv6")
        if ipv4 is None and ipv6 is None:
            self.errors.append(f"{where}: ipv4 or ipv6 is needed, a network such as 10.88.0.0/24")
        return Network(
            name,
            self._cidr(ipv4, f"{where}.ipv4", IPv4Network),
            self._cidr(ipv6, f"{where}.ipv6", IPv6Network),
        )

    def _host(self, data: object, where: str, data_networks: tuple[str, ...]) -> Host:
        fields = self._fields(
            data,
            where,
            required=("name",),
            optional=("release", "memory", "networks", "groups"),
        )
        name = self._text(fields.get("name", "unnamed"), f"{where}.name", _HOST_NAME)
        if name in _RESERVED_HOSTS:
            self.errors.append(f"{where}.name: {name!r} is reserved")
        release = self._choice(fields.get("release", RELEASES[0]), f"{where}.release", RELEASES)
        memory = fields.get("memory", DEFAULT_MEMORY)
        if not isinstance(memory, int) or isinstance(memory, bool) or memory < MINIMUM_MEMORY:
            self.errors.append(
                f"{where}.memory: {memory!r} is not a number of MiB, at least {MINIMUM_MEMORY}"
            )
            memory = MINIMUM_MEMORY
        wanted = self._list(fields.get("networks", list(data_networks)), f"{where}.networks")
        # Molecule's schema allows objects only in a platform's networks.
        names = [entry.get("name") if isinstance(entry, dict) else entry for entry in wanted]
        networks = tuple(str(name) for name in names if name != MANAGEMENT)
        self._unique(list(networks), f"{where}.networks")
        for network in networks:
            if network not in data_networks:
                known = ", ".join(data_networks) or "none"
                self.errors.append(
                    f"{where}.networks: {network!r} is not a data network of this lab ({known})"
                )
        groups = tuple(
            self._text(group, f"{where}.groups", _GROUP_NAME)
            for group in self._list(fields.get("groups", list(DEFAULT_GROUPS)), f"{where}.groups")
        )
        return Host(name, release, memory, networks, groups)

    def _fields(
        self, data: object, where: str, *, required: tuple[str, ...], optional: tuple[str, ...]
    ) -> Mapping[str, object]:
        if not isinstance(data, dict):
            self.errors.append(f"{where}: an object is needed, not {type(data).__name__}")
            return {}
        allowed = required + optional
        for key in data:
            if key not in allowed:
                self.errors.append(f"{where}: unknown key {key!r} (known: {', '.join(allowed)})")
        for key in required:
            if key not in data:
                self.errors.append(f"{where}: {key} is missing")
        return data

    def _list(self, data: object, where: str) -> list[object]:
        if isinstance(data, list):
            return data
        self.errors.append(f"{where}: a list is needed, not {type(data).__name__}")
        return []

    def _text(self, value: object, where: str, pattern: re.Pattern[str]) -> str:
        if isinstance(value, str) and pattern.fullmatch(value):
            return value
        self.errors.append(f"{where}: {value!r} must match {pattern.pattern}")
        return "invalid"

    def _choice(self, value: object, where: str, choices: tuple[str, ...]) -> str:
        if isinstance(value, str) and value in choices:
            return value
        self.errors.append(f"{where}: {value!r} must be one of {', '.join(choices)}")
        return choices[0]

    def _cidr(self, value: object, where: str, family: type[IPv4Network] | type[IPv6Network]) -> str | None:
        if value is None:
            return None
        try:
            return str(family(str(value)))
        except ValueError as error:
            self.errors.append(f"{where}: {error}")
            return None

    def _unique(self, names: list[str], where: str) -> None:
        for name in sorted({name for name in names if names.count(name) > 1}):
            if name != "invalid":
                self.errors.append(f"{where}: {name!r} is there more than once")

    def _disjoint(self, networks: tuple[Network, ...]) -> None:
        for index, first in enumerate(networks):
            for second in networks[index + 1 :]:
                four = first.ipv4 and second.ipv4
                if four and IPv4Network(first.ipv4).overlaps(IPv4Network(second.ipv4)):
                    self.errors.append(f"networks: {first.name} and {second.name} overlap in ipv4")
                six = first.ipv6 and second.ipv6
                if six and IPv6Network(first.ipv6).overlaps(IPv6Network(second.ipv6)):
                    self.errors.append(f"networks: {first.name} and {second.name} overlap in ipv6")
