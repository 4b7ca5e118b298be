"""Every name, number and address that follows from a spec. Pure: no host is touched."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from ipaddress import IPv4Interface, IPv4Network, IPv6Interface, IPv6Network

from .errors import LabError
from .spec import Host, Network, Spec

INTERFACE_NAME_MAX = 15
# Host number 1 gets .11: room below for the controller and for floating addresses.
_FIRST_OFFSET = 10


@dataclass(frozen=True)
class Interface:
    """One network port of a host, seen from both sides."""

    network: str
    guest_name: str
    tap: str
    mac: str
    ipv4: str | None
    ipv6: str | None
    gateway4: str | None
    gateway6: str | None

    def boot_word(self) -> str:
        """The kernel command line's `lab.net=` for the image's lab-identity."""
        fields = (
            self.mac, self.guest_name, self.ipv4, self.ipv6, self.gateway4, self.gateway6
        )  # fmt: skip
        return "lab.net=" + ",".join(field or "" for field in fields)

    def address(self, family: int) -> str | None:
        """The bare address, without its prefix length."""
        value = self.ipv4 if family == 4 else self.ipv6
        return value.partition("/")[0] if value else None


@dataclass(frozen=True)
class Machine:
    """A host with everything filled in."""

    host: Host
    number: int
    interfaces: tuple[Interface, ...]
    machine_id: str

    @property
    def name(self) -> str:
        return self.host.name

    def interface(self, network: str) -> Interface:
        for interface in self.interfaces:
            if interface.network == network:
                return interface
        raise LabError(f"host {self.name} is not on network {network}")

    def boot_words(self, public_key: str) -> list[str]:
        """What the image reads from the kernel command line."""
        return [
            "net.ifnames=0",
            f"systemd.hostname={self.name}",
            f"systemd.machine_id={self.machine_id}",
            f"lab.key={public_key}",
            *(interface.boot_word() for interface in self.interfaces),
        ]


def bridge(network: str) -> str:
    return f"br-{network}"


def shorten(name: str, limit: int = INTERFACE_NAME_MAX) -> str:
    """A name that fits into an interface's, still readable and still unique."""
    if len(name) <= limit:
        return name
    digest = sha256(name.encode()).hexdigest()[:5]
    return f"{name[: limit - 6]}-{digest}"


def controller_addresses(network: Network) -> list[str]:
    """The controller is the first address of every network."""
    return [address for address in (_ipv4(network, 1), _ipv6(network, 1)) if address]


def assign_numbers(spec: Spec, taken: Mapping[str, int]) -> dict[str, int]:
    """A host keeps its number, and so its addresses, for as long as the lab is up."""
    numbers = {host.name: taken[host.name] for host in spec.hosts if host.name in taken}
    free = (number for number in range(1, 2**16) if number not in set(numbers.values()))
    for host in spec.hosts:
        if host.name not in numbers:
            numbers[host.name] = next(free)
    return numbers


def machines(spec: Spec, numbers: Mapping[str, int]) -> dict[str, Machine]:
    return {host.name: _machine(spec, host, numbers[host.name]) for host in spec.hosts}


def _machine(spec: Spec, host: Host, number: int) -> Machine:
    names = [spec.networks[0].name, *host.networks]
    interfaces = []
    for index, name in enumerate(names):
        network = spec.network(name)
        offset = _FIRST_OFFSET + number
        # The first data network leads out, like on a real host; mgmt never does.
        gateway = index == 1
        interfaces.append(
            Interface(
                network=name,
                guest_name=f"eth{index}",
                tap=shorten(f"{host.name}-{name}"),
                mac=f"02:4c:{index:02x}:00:{number >> 8:02x}:{number & 255:02x}",
                ipv4=_ipv4(network, offset),
                ipv6=_ipv6(network, offset),
                gateway4=_bare(_ipv4(network, 1)) if gateway else None,
                gateway6=_bare(_ipv6(network, 1)) if gateway else None,
            )
        )
    machine_id = sha256(f"{spec.name}/{host.name}".encode()).hexdigest()[:32]
    return Machine(host, number, tuple(interfaces), machine_id)


def _bare(address: str | None) -> str | None:
    return address.partition("/")[0] if address else None


def _ipv4(network: Network, offset: int) -> str | None:
    if network.ipv4 is None:
        return None
    cidr = IPv4Network(network.ipv4)
    if offset >= cidr.num_addresses - 1:
        raise LabError(f"network {network.name}: {cidr} has no room for address {offset}")
    return str(IPv4Interface((cidr[offset], cidr.prefixlen)))


def _ipv6(network: Network, offset: int) -> str | None:
    if network.ipv6 is None:
        return None
    cidr = IPv6Network(network.ipv6)
    # The digits of the offset, read as hexadecimal: 10.88.0.11 goes with fd88::11.
    value = int(str(offset), 16)
    if value >= cidr.num_addresses:
        raise LabError(f"network {network.name}: {cidr} has no room for address {offset}")
    return str(IPv6Interface((cidr[value], cidr.prefixlen)))
