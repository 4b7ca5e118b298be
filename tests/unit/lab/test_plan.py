"""Names, numbers and addresses."""

from __future__ import annotations

import pytest
from ansible_collections.underlay.ipsec.molecule.lab.labkit import plan, spec
from ansible_collections.underlay.ipsec.molecule.lab.labkit.errors import LabError


def lab(*names: str, ipv4: str | None = "10.88.0.0/24", ipv6: str | None = "fd88::/64") -> spec.Spec:
    networks = [
        {"name": "data", "ipv4": ipv4, "ipv6": ipv6},
        {"name": "storage", "ipv4": "10.99.0.0/24"},
    ]
    return spec.parse({"networks": networks, "hosts": [{"name": name} for name in names]})


def machine(number: int = 1, **ranges: str | None) -> plan.Machine:
    return plan.machines(lab("h1", **ranges), {"h1": number})["h1"]


def test_addresses() -> None:
    mgmt, data, storage = machine().interfaces
    assert (mgmt.guest_name, mgmt.ipv4, mgmt.ipv6) == ("eth0", "10.77.0.11/24", None)
    assert (data.guest_name, data.ipv4, data.ipv6) == ("eth1", "10.88.0.11/24", "fd88::11/64")
    assert (storage.guest_name, storage.ipv4, storage.ipv6) == ("eth2", "10.99.0.11/24", None)


def test_both_families_show_the_same_digits() -> None:
    data = machine(number=95).interface("data")
    assert (data.address(4), data.address(6)) == ("10.88.0.105", "fd88::105")


def test_only_the_first_data_network_leads_out() -> None:
    gateways = [(i.network, i.gateway4, i.gateway6) for i in machine().interfaces]
    assert gateways == [("mgmt", None, None), ("data", "10.88.0.1", "fd88::1"), ("storage", None, None)]


def test_a_network_may_lack_a_family() -> None:
    data = machine(ipv4=None).interface("data")
    assert (data.ipv4, data.gateway4, data.address(4)) == (None, None, None)
    assert data.boot_word() == "lab.net=02:4c:01:00:00:01,eth1,,fd88::11/64,,fd88::1"


def test_no_room() -> None:
    with pytest.raises(LabError, match=r"network data: 10.88.0.0/28 has no room for address 15"):
        machine(number=5, ipv4="10.88.0.0/28")


def test_macs_and_machine_ids_are_unique() -> None:
    names = [f"h{number}" for number in range(1, 201)]
    found = plan.machines(lab(*names), {name: number for number, name in enumerate(names, 1)}).values()
    macs = [interface.mac for each in found for interface in each.interfaces]
    assert len(set(macs)) == len(macs)
    assert len({each.machine_id for each in found}) == len(names)


def test_numbers_follow_the_spec() -> None:
    assert plan.assign_numbers(lab("h1", "h2"), {}) == {"h1": 1, "h2": 2}


def test_numbers_stay_when_hosts_come_and_go() -> None:
    assert plan.assign_numbers(lab("h0", "h2", "h3"), {"h1": 1, "h2": 2, "h3": 3}) == {
        "h0": 1,
        "h2": 2,
        "h3": 3,
    }


def test_boot_words_carry_the_identity() -> None:
    words = machine().boot_words("KEY")
    assert {"systemd.hostname=h1", "lab.key=KEY", "net.ifnames=0"} <= set(words)
    assert not any(" " in word for word in words)


def test_unknown_network() -> None:
    with pytest.raises(LabError, match="host h1 is not on network x"):
        machine().interface("x")


@pytest.mark.parametrize(
    ("name", "expected"),
    [("h1-data", "h1-data"), ("exactly15chars-", "exactly15chars-"), ("controller-0-data", None)],
)
def test_short_names(name: str, expected: str | None) -> None:
    short = plan.shorten(name)
    assert len(short) <= plan.INTERFACE_NAME_MAX
    assert short == expected or (expected is None and short.startswith("controlle-"))


def test_shortened_names_stay_apart() -> None:
    assert plan.shorten("controller-0-data") != plan.shorten("controller-1-data")


def test_controller_addresses() -> None:
    addresses = [plan.controller_addresses(network) for network in lab("h1").networks]
    assert addresses == [["10.77.0.1/24"], ["10.88.0.1/24", "fd88::1/64"], ["10.99.0.1/24"]]
