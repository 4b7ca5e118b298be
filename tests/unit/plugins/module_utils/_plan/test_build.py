# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong with a cluster, one fault at a time, and what becomes of one that is right."""

from __future__ import annotations

import ipaddress
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.underlay.ipsec.plugins.module_utils._errors import Problem, ProblemsError
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan.render import SETUP
from ansible_collections.underlay.ipsec.plugins.module_utils._model.cluster import (
    DefaultRoute,
    Host,
    HostAddress,
    HostFacts,
    Unreadable,
)
from ansible_collections.underlay.ipsec.plugins.module_utils._plan.build import (
    Plan,
    as_json,
    make_plan,
    problem_text,
)

ROOT = Path(__file__).resolve().parents[5]
SPECS = yaml.safe_load((ROOT / "roles/plan/meta/argument_specs.yml").read_text())["argument_specs"]["main"][
    "options"
]

DATA = {"name": "data", "cidr": "10.88.0.0/24"}
STORAGE = {"name": "storage", "cidr": "10.89.0.0/24"}
V6 = {"name": "six", "cidr": "fd00:88::/64"}
GATEWAY = "10.88.0.254"
PASSPHRASE = "correct horse battery"
SECRET = "a master secret of 32 characters"
MESH_PSK = {"ipsec_topology": "mesh", "ipsec_auth": "psk", "ipsec_psk_secret": SECRET}


def seen(address: str, prefix: int, interface: str = "eth1", secondary: bool = False) -> HostAddress:
    return HostAddress(interface, ipaddress.ip_address(address), prefix, secondary)


def facts(number: int, **changes: Any) -> HostFacts:
    """Return what host_info says of host *number*, which is on data, storage and six."""
    default = HostFacts(
        addresses=(
            seen(f"10.77.0.{number}", 24, "eth0"),
            seen(f"10.88.0.{number}", 24),
            seen(f"10.89.0.{number}", 24, "eth2"),
            seen(f"fd00:88::{number}", 64),
        ),
        default_routes=(DefaultRoute(4, "eth1", ipaddress.ip_address(GATEWAY)),),
        controller_address=ipaddress.ip_address("10.77.0.254"),
        free_bytes={"/etc": 10**9, "/var": 10**9},
        libreswan_candidate="4.10-2",
        esp=True,
        esp6=True,
        firewalls_usable=("nftables", "iptables"),
    )
    return replace(default, **changes)


def host(number: int, variables: dict[str, Any] | None = None, **changes: Any) -> Host:
    values = {"ipsec_ca_passphrase": PASSPHRASE, "ipsec_networks": [DATA], **(variables or {})}
    default = Host(
        f"h{number}", {key: value for key, value in values.items() if value is not None}, facts(number)
    )
    return replace(default, **changes)


def cluster(variables: dict[str, Any] | None = None) -> list[Host]:
    """Return three hosts with the same *variables*, None taking one away."""
    return [host(number, variables) for number in (1, 2, 3)]


def plan(hosts: list[Host], **options: Any) -> Plan:
    return make_plan(hosts, "ipsec", SPECS, **options)


def faults(hosts: list[Host], **options: Any) -> list[Problem]:
    with pytest.raises(ProblemsError) as caught:
        plan(hosts, **options)
    return list(caught.value.problems)


def networks(*items: dict[str, Any]) -> dict[str, Any]:
    return {"ipsec_networks": list(items)}


# variables of all hosts → the beginning of the only problem
WRONG_FOR_ALL: list[tuple[dict[str, Any], str]] = [
    ({"ipsec_group": 5}, "ipsec_group: it is a number, not a string"),
    ({"ipsec_networks": "10.88.0.0/24"}, "ipsec_networks: it is a string, not a list"),
    (networks({"name": "data"}), "ipsec_networks[0]: the key 'cidr' is missing"),
    (
        networks({**DATA, "cidr": "10.88.0/24"}),
        "ipsec_networks[0].cidr: '10.88.0/24' is not an address or CIDR",
    ),
    (
        networks({**DATA, "cidr": "10.88.0.0/33"}),
        "ipsec_networks[0].cidr: '10.88.0.0/33' is not an address or CIDR",
    ),
    (
        networks({**DATA, "cidr": "10.88.0.1/24"}),
        "ipsec_networks[0].cidr: '10.88.0.1/24' is an address inside a network, not the network. Write '10.88.0.0/24'",
    ),
    (networks({**DATA, "cidr": "10.88.0.1"}), "ipsec_networks[0].cidr: 10.88.0.1/32 is a single address"),
    (networks({**DATA, "cidr": "0.0.0.0/0"}), "ipsec_networks[0].cidr: 0.0.0.0/0 is every address there is"),
    (
        networks({**DATA, "cidr": "fe80::/64"}),
        "ipsec_networks[0].cidr: fe80::/64 is not a network of hosts' own addresses",
    ),
    (
        networks({**DATA, "cidr": "224.0.0.0/8"}),
        "ipsec_networks[0].cidr: 224.0.0.0/8 is not a network of hosts' own",
    ),
    (
        networks(DATA, {"name": "sub", "cidr": "10.88.0.0/25"}),
        "ipsec_networks[1].cidr: 10.88.0.0/25 overlaps 10.88.0.0/24 of ipsec_networks[0] (data). Make the networks disjoint",
    ),
    (
        networks(DATA, {"name": "ghost", "cidr": "192.0.2.0/24"}),
        "ipsec_networks[1].cidr: no member has an address in 192.0.2.0/24. Correct the network",
    ),
    (
        networks({"name": "ghost", "cidr": "192.0.2.0/24"}),
        "ipsec_networks[0].cidr: no member has an address in",
    ),
    (networks(DATA, {**DATA, "name": "same"}), "ipsec_networks[1].cidr: 10.88.0.0/24 overlaps 10.88.0.0/24"),
    (
        networks(DATA, {**STORAGE, "name": "data"}),
        "ipsec_networks[1].name: 'data' is also the name of ipsec_networks[0]",
    ),
    (
        networks({**DATA, "name": "Data Net"}),
        "ipsec_networks[0].name: 'Data Net' cannot be part of a connection's name",
    ),
    (networks({**DATA, "name": "a" * 21}), f"ipsec_networks[0].name: '{'a' * 21}' cannot be part"),
    (
        networks({**DATA, "encapsulation": "udp"}),
        "ipsec_networks[0].encapsulation: 'udp' is not one of its values. Set it to auto",
    ),
    (networks({**DATA, "mtu": 500}), "ipsec_networks[0].mtu: 500 is not an MTU of IPv4. Use 576 to 65535"),
    (networks({**V6, "mtu": 1000}), "ipsec_networks[0].mtu: 1000 is not an MTU of IPv6. Use 1280 to 65535"),
    (networks({**DATA, "clear": "10.88.0.1"}), "ipsec_networks[0].clear: it is a string, not a list"),
    (
        networks({**DATA, "clear": ["fd00:88::1"]}),
        "ipsec_networks[0].clear[0]: 'fd00:88::1/128' is IPv6 in an IPv4 network",
    ),
    (
        {"ipsec_enforcement": "on"},
        "ipsec_enforcement: 'on' is not one of its values. Set it to clear or private-or-clear or private",
    ),
    ({"ipsec_topology": "star"}, "ipsec_topology: 'star' is not one of its values"),
    ({"ipsec_topology": "mesh "}, "ipsec_topology: 'mesh ' is not one of its values"),
    (
        {"ipsec_auth": "psk", "ipsec_psk_secret": SECRET},
        "ipsec_auth: 'psk' needs a key for each pair, and opportunistic connections do not know their peers",
    ),
    (
        MESH_PSK | {"ipsec_psk_secret": None},
        "ipsec_psk_secret: it is not set, and the keys of all pairs are derived",
    ),
    (MESH_PSK | {"ipsec_psk_secret": ""}, "ipsec_psk_secret: it is empty"),
    (MESH_PSK | {"ipsec_psk_secret": SECRET[:31]}, "ipsec_psk_secret: it is shorter than 32 characters"),
    (MESH_PSK | {"ipsec_psk_secret": 10**32}, "ipsec_psk_secret: it is a number, not a string"),
    ({"ipsec_psk_secret": "short"}, "ipsec_psk_secret: it is shorter than 32 characters"),
    ({"ipsec_state": "absent"}, "ipsec_state: this release does not support 'absent' yet"),
    ({"ipsec_mode": "beet"}, "ipsec_mode: 'beet' is not one of its values. Set it to transport or tunnel"),
    ({"ipsec_encapsulation": "udp"}, "ipsec_encapsulation: 'udp' is not one of its values"),
    (
        {"ipsec_key_type": "ed25519"},
        "ipsec_key_type: 'ed25519' is not one of its values. Set it to ecdsa-p256 or ecdsa-p384",
    ),
    ({"ipsec_ike": "aes_gcm256-sha5-dh20"}, "ipsec_ike: 'sha5' is not a pseudo-random function"),
    ({"ipsec_esp": "3des-sha2"}, "ipsec_esp: '3des' is too weak to use"),
    ({"ipsec_clear": "10.88.0.1"}, "ipsec_clear: it is a string, not a list"),
    (
        {"ipsec_clear": ["10.88.0.1 tcp 22"]},
        "ipsec_clear[0]: '10.88.0.1 tcp 22' has 3 fields. Write 'CIDR' or 'CIDR protocol",
    ),
    ({"ipsec_clear": ["gateway"]}, "ipsec_clear[0]: 'gateway' is not an address or CIDR"),
    ({"ipsec_clear": ["10.88.0.5/28"]}, "ipsec_clear[0]: '10.88.0.5/28' is an address inside a network"),
    (
        {"ipsec_clear": ["10.88.0.250 tpc 0 22"]},
        "ipsec_clear[0]: 'tpc' in '10.88.0.250 tpc 0 22' is not a protocol",
    ),
    (
        {"ipsec_clear": ["10.88.0.250 0 0 22"]},
        "ipsec_clear[0]: '0' in '10.88.0.250 0 0 22' is not a protocol",
    ),
    (
        {"ipsec_clear": ["10.88.0.250 tcp 0 65536"]},
        "ipsec_clear[0]: '65536' in '10.88.0.250 tcp 0 65536' is not a port",
    ),
    (
        {"ipsec_clear": ["10.88.0.0/24"]},
        "ipsec_clear: the exceptions for the network data cover all of 10.88.0.0/24",
    ),
    (
        {"ipsec_clear": ["10.0.0.0/8"]},
        "ipsec_clear: the exceptions for the network data cover all of 10.88.0.0/24",
    ),
    (
        {"ipsec_clear": ["10.88.0.0/25", "10.88.0.128/25"]},
        "ipsec_clear: the exceptions for the network data cover all",
    ),
    (
        {"ipsec_ca_passphrase": None},
        "ipsec_ca_passphrase: it is not set, and the CA's key is encrypted with it",
    ),
    ({"ipsec_ca_passphrase": ""}, "ipsec_ca_passphrase: it is empty"),
    ({"ipsec_ca_passphrase": "short"}, "ipsec_ca_passphrase: it is shorter than 8 characters"),
    ({"ipsec_ca_passphrase": 12345678}, "ipsec_ca_passphrase: it is a number, not a string"),
    (
        {"ipsec_ca_passphrase": Unreadable("'vault' is undefined")},
        "ipsec_ca_passphrase: its value cannot be read: 'vault'",
    ),
    ({"ipsec_ca_dir": " "}, "ipsec_ca_dir: it is empty"),
    ({"ipsec_report_dir": ""}, "ipsec_report_dir: it is empty"),
    ({"ipsec_ca_validity_days": 0}, "ipsec_ca_validity_days: 0 days cannot be"),
    (
        {"ipsec_cert_validity_days": "-5"},
        "ipsec_cert_validity_days: -5 days cannot be. Set it to 1 to 36500 days",
    ),
    (
        {"ipsec_cert_validity_days": 4000},
        "ipsec_cert_validity_days: a certificate of 4000 days would outlive its CA of 3650",
    ),
    (
        {"ipsec_cert_renew_before_days": 1825},
        "ipsec_cert_renew_before_days: a certificate of 1825 days would be renewed at once",
    ),
    ({"ipsec_verify_timeout": 0}, "ipsec_verify_timeout: 0 seconds cannot be"),
    ({"ipsec_exempt_controller": "perhaps"}, "ipsec_exempt_controller: it is a string, not true or false"),
]


@pytest.mark.parametrize(("variables", "said"), WRONG_FOR_ALL)
def test_wrong_for_all(variables: dict[str, Any], said: str) -> None:
    found = faults(cluster(variables))
    assert [str(problem)[: len(said)] for problem in found] == [said]
    assert found[0].remedy


# variables and facts of h2 → the beginning of the only problem
WRONG_FOR_ONE: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    (
        {"ipsec_netwoks": []},
        {},
        "h2: ipsec_netwoks: there is no such variable, did you mean ipsec_networks. Rename",
    ),
    ({"ipsec_frobnicate": 1}, {}, "h2: ipsec_frobnicate: there is no such variable. Rename or remove it"),
    (
        {"ipsec_enforcement": "clear"},
        {},
        "h2: ipsec_enforcement: it differs between members: 'private' on h1, h3; 'clear' on h2",
    ),
    (
        {"ipsec_ca_passphrase": "another one"},
        {},
        "h2: ipsec_ca_passphrase: it differs between members: a value on h1, h3; a value",
    ),
    ({"ipsec_addresses": ["10.88.0.2"]}, {}, "h2: ipsec_addresses: it is a list, not a dictionary"),
    (
        {"ipsec_addresses": {"data": "10.88.0.2/24"}},
        {},
        "h2: ipsec_addresses.data: '10.88.0.2/24' is not an address",
    ),
    (
        {"ipsec_addresses": {"dta": "10.88.0.2"}},
        {},
        "h2: ipsec_addresses.dta: there is no network 'dta' in ipsec_networks. Did you",
    ),
    (
        {"ipsec_addresses": {"data": "10.77.0.2"}},
        {},
        "h2: ipsec_addresses.data: 10.77.0.2 is outside 10.88.0.0/24",
    ),
    (
        {"ipsec_addresses": {"data": "fd00:88::2"}},
        {},
        "h2: ipsec_addresses.data: fd00:88::2 is IPv6, the network data is IPv4",
    ),
    (
        {"ipsec_addresses": {"data": "10.88.0.0"}},
        {},
        "h2: ipsec_addresses.data: 10.88.0.0 is the network or broadcast address",
    ),
    (
        {"ipsec_addresses": {"data": "10.88.0.255"}},
        {},
        "h2: ipsec_addresses.data: 10.88.0.255 is the network or broadcast",
    ),
    (
        {"ipsec_addresses": {"data": "10.88.0.9"}},
        {},
        "h2: ipsec_addresses.data: the host does not have 10.88.0.9",
    ),
    ({"ipsec_fqdn": "h1"}, {}, "h2: ipsec_fqdn: 'h1' is also the name of h1"),
    (
        {"ipsec_fqdn": "web_2.example"},
        {},
        "h2: ipsec_fqdn: 'web_2.example' is not a host name. Set ipsec_fqdn of this host",
    ),
    ({"ipsec_fqdn": "10.88.0.2"}, {}, "h2: ipsec_fqdn: '10.88.0.2' is not a host name"),
    (
        {"ipsec_fqdn": f"{'a' * 63}.example"},
        {},
        f"h2: ipsec_fqdn: '{'a' * 63}.example' has more than the 64 characters",
    ),
    ({"ipsec_fqdn": 2}, {}, "h2: ipsec_fqdn: it is a number, not a string"),
    (
        {"ipsec_fqdn": Unreadable("'x' is undefined")},
        {},
        "h2: ipsec_fqdn: its value cannot be read: 'x' is undefined",
    ),
    (
        {},
        {"addresses": (seen("10.77.0.2", 24, "eth0"),)},
        "h2: none of its addresses (10.77.0.2) lies in a network of ipsec_networks (data 10.88.0.0/24). Give it",
    ),
    ({}, {"addresses": ()}, "h2: none of its addresses (it has none) lies in a network of ipsec_networks"),
    (
        {},
        {"addresses": (seen("10.88.0.2", 24), seen("10.88.0.7", 24, "eth3"))},
        "h2: ipsec_addresses.data: the host has several addresses in 10.88.0.0/24: 10.88.0.2, 10.88.0.7. Set ipsec_addresses",
    ),
    (
        {},
        {"addresses": (seen("10.88.0.1", 24),)},
        "h2: ipsec_addresses.data: 10.88.0.1 is also the address of h1",
    ),
    ({}, {"clock_skew": 31_536_000.0}, "h2: its clock is 31536000 s ahead of the controller's"),
    (
        {},
        {"clock_skew": -400.0},
        "h2: its clock is 400 s behind the controller's, certificates would not be valid there. Set the",
    ),
    (
        {},
        {"free_bytes": {"/etc": 10**6, "/var": 10**9}},
        "h2: the file system of /etc has only 0 MiB free. Make room for 64 MiB",
    ),
    (
        {},
        {"free_bytes": {"/etc": 10**7, "/var": 10**7}},
        "h2: the file system of /etc and /var has only 9 MiB free. Make room",
    ),
    (
        {},
        {"libreswan_candidate": None},
        "h2: libreswan is not installed, and no package source offers libreswan. Add a package source",
    ),
    (
        {},
        {"libreswan_candidate": "1:3.32-1"},
        "h2: its libreswan 1:3.32-1 is older than 4.0. Update libreswan",
    ),
    (
        {},
        {"libreswan_installed": "4.10", "setup": {"plutodebug": "none"}},
        "h2: /etc/ipsec.conf sets options of its own in 'config setup', and libreswan 4 then ignores ours. Add uniqueids=no",
    ),
    ({}, {"libreswan_installed": "3.27"}, "h2: its libreswan 3.27 is older than 4.0"),
    ({}, {"esp": False}, "h2: its kernel has no ESP (module esp4). Boot a kernel that has it"),
]


@pytest.mark.parametrize(("variables", "changes", "said"), WRONG_FOR_ONE)
def test_wrong_for_one(variables: dict[str, Any], changes: dict[str, Any], said: str) -> None:
    hosts = [host(1), host(2, variables, facts=facts(2, **changes)), host(3)]
    found = faults(hosts)
    assert [str(problem)[: len(said)] for problem in found] == [said]
    assert found[0].remedy


@pytest.mark.parametrize("name", ["h 2", "h/2", "fd00::2", "-h2", "../h2"])
def test_member_names_that_cannot_be_file_names(name: str) -> None:
    found = faults([host(1), replace(host(2, {"ipsec_fqdn": "two"}), name=name)])
    assert [problem.host for problem in found] == [name]


def test_no_members() -> None:
    assert str(faults([])[0]).startswith(
        "ipsec_group: the inventory has no hosts in the group 'ipsec'. Put the members into"
    )


def test_play_on_hosts_that_are_no_members() -> None:
    found = faults(cluster(), play_hosts=["h1", "web1"])
    assert [problem.variable for problem in found] == ["ipsec_group"]
    assert "web1" in found[0].message


def test_play_host_without_facts() -> None:
    hosts = [host(1), host(2, {"ipsec_addresses": {"data": "10.88.0.2"}}, facts=None)]
    found = faults(hosts, play_hosts=["h1", "h2"])
    assert [str(problem) for problem in found] == [
        "h2: underlay.ipsec.host_info has not run on it in this play. Use the role underlay.ipsec.plan, which runs it first"
    ]


def test_no_esp_over_ipv6_matters_on_an_ipv6_network() -> None:
    hosts = [host(number, networks(V6), facts=facts(number, esp6=False)) for number in (1, 2)]
    assert [problem.host for problem in faults(hosts)] == ["h1", "h2"]
    assert plan([host(1, facts=facts(1, esp6=False))]).slices


@pytest.mark.parametrize(
    ("version", "setup"), [("5.2", {"plutodebug": "none"}), ("4.10", {"plutodebug": "none", **SETUP})]
)
def test_options_in_ipsec_conf_that_do_no_harm(version: str, setup: dict[str, str]) -> None:
    assert plan([host(1, facts=facts(1, libreswan_installed=version, setup=setup))]).slices


def test_no_package_in_check_mode_is_a_warning() -> None:
    document = plan([host(1, facts=facts(1, libreswan_candidate=None))], check_mode=True).document
    assert "libreswan is not installed" in document["warnings"][0]


def test_controller_that_the_host_cannot_name() -> None:
    lost = host(1, facts=facts(1, controller_address=None), ansible_host="10.88.0.1")
    assert [problem.variable for problem in faults([lost])] == ["ipsec_exempt_controller"]
    beside = replace(lost, ansible_host="10.77.0.1")
    assert plan([beside]).slices
    told = replace(
        lost, variables={**lost.variables, "ipsec_exempt_controller": False, "ipsec_clear": ["10.88.0.250"]}
    )
    assert plan([told]).slices


def test_all_problems_at_once() -> None:
    hosts = [
        host(1, {"ipsec_mode": "x", "ipsec_clear": ["y"], "ipsec_netwoks": 1}),
        host(
            2,
            {"ipsec_mode": "x", "ipsec_clear": ["y"], "ipsec_addresses": {"data": 1}},
            facts=facts(2, clock_skew=999.0),
        ),
    ]
    assert sorted(str(problem).partition(". ")[0] for problem in faults(hosts)) == [
        "h1: ipsec_netwoks: there is no such variable, did you mean ipsec_networks",
        "h2: ipsec_addresses.data: 1 is not an address",
        "h2: its clock is 999 s ahead of the controller's, certificates would not be valid there",
        "ipsec_clear[0]: 'y' is not an address or CIDR",
        "ipsec_mode: 'x' is not one of its values",
    ]


def test_problem_text_numbers_and_joins() -> None:
    problems = [Problem("clock", "set it", host=f"h{number}") for number in range(1, 9)] + [
        Problem("bad", "fix it", "ipsec_mode")
    ]
    assert problem_text(problems).splitlines() == [
        "There are 2 problems. Nothing has been changed on any host.",
        "1. h1, h2, h3, h4, h5 and 3 more: clock. set it",
        "2. ipsec_mode: bad. fix it",
    ]


def test_passphrase_is_nowhere() -> None:
    made = plan(cluster())
    assert PASSPHRASE not in as_json(made.document) + as_json(made.slices)
    hosts = [host(1), host(2, {"ipsec_ca_passphrase": "open sesame 2"})]
    assert not any(secret in problem_text(faults(hosts)) for secret in (PASSPHRASE, "sesame"))


PSK_VARIABLES = {**MESH_PSK, "ipsec_ca_passphrase": None}


def test_psk_needs_no_passphrase_and_no_certificate() -> None:
    made = plan(cluster(PSK_VARIABLES))
    assert (made.document["topology"], made.document["auth"]) == ("mesh", "psk")
    part = made.slices["h1"]
    assert part["certificate"] is None
    assert {key: part["libreswan"][key] for key in ("topology", "certificate", "authby", "fqdn")} == {
        "topology": "mesh",
        "certificate": None,
        "authby": "secret",
        "fqdn": "h1",
    }


def test_mesh_with_certificates() -> None:
    part = plan(cluster({"ipsec_topology": "mesh"})).slices["h1"]["libreswan"]
    assert (part["topology"], part["authby"], part["certificate"]) == ("mesh", "ecdsa", "underlay-h1")


def test_psk_secret_is_nowhere() -> None:
    made = plan(cluster(PSK_VARIABLES))
    assert SECRET not in as_json(made.document) + as_json(made.slices)
    other = plan(cluster({**PSK_VARIABLES, "ipsec_psk_secret": SECRET[::-1]}))
    assert (other.document, other.slices) == (made.document, made.slices)


@pytest.mark.parametrize(
    "other",
    ["another secret that is long enough", "sesame", "", 5318008, ["sesame"], {"sesame": "sesame"}, None],
)
def test_psk_secret_is_in_no_problem(other: Any) -> None:
    found = faults([host(1, PSK_VARIABLES), host(2, {**PSK_VARIABLES, "ipsec_psk_secret": other})])
    assert any(
        problem.variable == "ipsec_psk_secret" and problem.message.startswith("it differs between members")
        for problem in found
    )
    text = problem_text(found)
    assert not any(secret in text for secret in (SECRET, "sesame", "5318008", "another secret"))


@pytest.mark.parametrize("value", ["sesame", 5318008, ["sesame"], {"sesame": "sesame"}, True])
def test_psk_secret_that_is_wrong_is_not_shown(value: Any) -> None:
    found = faults(cluster({**PSK_VARIABLES, "ipsec_psk_secret": value}))
    assert [problem.variable for problem in found] == ["ipsec_psk_secret"]
    assert not any(secret in problem_text(found) for secret in ("sesame", "5318008"))


def test_slice_of_a_mesh_does_not_grow_with_the_cluster() -> None:
    def size(count: int) -> int:
        hosts = [host(number, PSK_VARIABLES) for number in range(1, count + 1)]
        return len(json.dumps(plan(hosts).slices["h1"]))

    assert size(2) == size(200)


def test_document() -> None:
    document = plan(cluster(networks({**DATA, "clear": ["10.88.0.254"]}, STORAGE))).document
    assert document == {
        "version": 1,
        "digest": document["digest"],
        "group": "ipsec",
        "enforcement": "private",
        "fail_closed": True,
        "topology": "opportunistic",
        "auth": "certificate",
        "networks": [
            {
                "name": "data",
                "cidr": "10.88.0.0/24",
                "family": 4,
                "clear": ["10.88.0.254/32"],
                "clear_members": [],
                "mode": "transport",
                "ike": "aes_gcm256-sha2_384-dh20",
                "esp": "aes_gcm256",
                "encapsulation": "auto",
                "mtu": None,
            },
            {
                "name": "storage",
                "cidr": "10.89.0.0/24",
                "family": 4,
                "clear": [],
                "clear_members": [],
                "mode": "transport",
                "ike": "aes_gcm256-sha2_384-dh20",
                "esp": "aes_gcm256",
                "encapsulation": "auto",
                "mtu": None,
            },
        ],
        "members": {
            f"h{number}": {
                "fqdn": f"h{number}",
                "addresses": {"data": f"10.88.0.{number}", "storage": f"10.89.0.{number}"},
                "nat_addresses": {},
            }
            for number in (1, 2, 3)
        },
        "endpoints": [],
        "vips": [],
        "certificates": {"source": "ca", "renew_before_days": 183, "crl_strict": False},
        "warnings": [],
    }
    assert len(document["digest"]) == 64


def test_slice() -> None:
    variables = {"ipsec_fqdn": "H1.Example.", "ipsec_key_type": "rsa-3072", "ipsec_encapsulation": "always"}
    made = plan([host(1, {**variables, **networks({**DATA, "mtu": 9000})})]).slices["h1"]
    assert made == {
        "version": 1,
        "member": "h1",
        "fqdn": "h1.example",
        "enforcement": "private",
        "state": "present",
        "certificate": {
            "nickname": "underlay-h1",
            "source": "ca",
            "subject": {"CN": "h1.example", "O": "underlay.ipsec"},
            "dns": ["h1.example"],
            "ip": ["10.88.0.1"],
            "fingerprint": None,
            "key_type": "rsa-3072",
            "validity_days": 1825,
            "renew_before_days": 183,
        },
        "authorities": [],
        "libreswan": {
            "topology": "opportunistic",
            "member": "h1",
            "fqdn": "h1.example",
            "certificate": "underlay-h1",
            "authby": "rsa-sha2",
            "ike": "aes_gcm256-sha2_384-dh20",
            "esp": "aes_gcm256",
            "networks": [
                {
                    "name": "data",
                    "family": 4,
                    "cidr": "10.88.0.0/24",
                    "address": "10.88.0.1",
                    "mode": "transport",
                    "ike": "aes_gcm256-sha2_384-dh20",
                    "esp": "aes_gcm256",
                    "encapsulation": "always",
                    "mtu": 9000,
                    "private": ["10.88.0.0/24"],
                    "clear": [],
                }
            ],
            "endpoints": [],
            "vips": [],
        },
        "vips": False,
        "pacemaker": {"holder": False, "leader": False, "vips": []},
        "firewall": {
            "backend": "nftables",
            "chain": "INPUT",
            "fail_closed": True,
            "open": ["10.88.0.0/24"],
            "closed": [
                {"network": "data", "local": ["10.88.0.1"], "remote": ["10.88.0.0/24"], "clear": []},
            ],
            "interfaces": ["eth1"],
            "clamp": [],
        },
        "mtu": {
            "method": "advise",
            "networks": [
                {
                    "name": "data",
                    "interface": "eth1",
                    "cidr": "10.88.0.0/24",
                    "address": "10.88.0.1",
                    "family": 4,
                    "mtu": 9000,
                }
            ],
            "overlays": [],
        },
    }


def test_a_network_may_differ_from_the_cluster() -> None:
    own = {
        "mode": "tunnel",
        "ike": "aes_gcm256-sha2_512-dh21",
        "esp": "aes_gcm128",
        "encapsulation": "always",
    }
    made = plan([host(1, networks({**DATA, **own}, STORAGE))])
    for found in (made.document["networks"], made.slices["h1"]["libreswan"]["networks"]):
        data, storage = ({key: network[key] for key in own} for network in found)
        assert data == own
        assert storage == {
            "mode": "transport",
            "ike": "aes_gcm256-sha2_384-dh20",
            "esp": "aes_gcm256",
            "encapsulation": "auto",
        }


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"mode": "beet"}, "ipsec_networks[0].mode: 'beet' is not one of its values"),
        ({"ike": "3des-sha1-modp1024"}, "ipsec_networks[0].ike: "),
        ({"esp": "null-sha1"}, "ipsec_networks[0].esp: "),
    ],
)
def test_what_a_network_says_is_held_to_the_same_rules(change: dict[str, str], said: str) -> None:
    assert all(str(problem).startswith(said) for problem in faults(cluster(networks({**DATA, **change}))))


def clear_of(made: Plan, name: str, network: int = 0) -> list[str]:
    clear: list[str] = made.slices[name]["libreswan"]["networks"][network]["clear"]
    return clear


def test_exceptions_go_to_the_networks_that_they_lie_in() -> None:
    exceptions = [
        "10.88.0.254",
        "10.89.0.254",
        "fd00:88::fe",
        "10.0.0.0/8 tcp 22 0",
        "10.0.0.0/8 tcp 0 22",
        "192.0.2.1",
    ]
    made = plan([host(1, {"ipsec_clear": exceptions, **networks(DATA, STORAGE, V6)})])
    assert clear_of(made, "h1", 0) == ["10.88.0.0/24 tcp 0 22", "10.88.0.0/24 tcp 22 0", "10.88.0.254/32"]
    assert clear_of(made, "h1", 1) == ["10.89.0.0/24 tcp 0 22", "10.89.0.0/24 tcp 22 0", "10.89.0.254/32"]
    assert clear_of(made, "h1", 2) == ["fd00:88::fe/128"]
    assert made.document["warnings"] == [
        "ipsec_clear[5]: '192.0.2.1/32' lies in no network of ipsec_networks and has no effect"
    ]


def test_exception_outside_its_network_is_a_warning() -> None:
    made = plan([host(1, networks({**DATA, "clear": ["10.99.0.1", GATEWAY]}))])
    assert made.document["warnings"] == [
        "ipsec_networks (data): '10.99.0.1/32' lies outside 10.88.0.0/24 and has no effect"
    ]
    assert clear_of(made, "h1") == ["10.88.0.254/32"]


def test_exception_that_covers_a_member_puts_it_in_clear_with_everyone() -> None:
    made = plan(cluster({"ipsec_clear": ["10.88.0.2", GATEWAY]}))
    assert clear_of(made, "h1") == ["10.88.0.2/32", "10.88.0.254/32"]
    assert clear_of(made, "h2") == ["10.88.0.0/24"]
    assert made.slices["h2"]["libreswan"]["networks"][0]["private"] == []
    assert made.document["networks"][0]["clear_members"] == ["h2"]
    assert made.document["warnings"][0].startswith(
        "ipsec_clear: the exceptions for data cover the member(s) h2:"
    )


@pytest.mark.parametrize(
    ("entry", "warned"),
    [("10.88.0.0/24 tcp 0 22", True), ("10.88.0.128/25 tcp 0 22", False), ("10.88.0.0/24 icmp 0 0", False)],
)
def test_exception_for_one_direction_between_members_is_a_warning(entry: str, warned: bool) -> None:
    warnings = plan(cluster({"ipsec_clear": [entry, GATEWAY]})).document["warnings"]
    assert [
        text for text in warnings if "they drop its traffic unless '10.88.0.0/24 tcp 22 0'" in text
    ] == warnings[: int(warned)]


def test_controller_inside_a_network_is_exempt() -> None:
    hosts = [
        host(number, facts=facts(number, controller_address=ipaddress.ip_address("10.88.0.250")))
        for number in (1, 2)
    ]
    made = plan(hosts)
    assert clear_of(made, "h1") == ["10.88.0.250/32"]
    assert made.document["networks"][0]["clear"] == []
    unsafe = {"ipsec_exempt_controller": False}
    hosts = [replace(item, variables={**item.variables, **unsafe}) for item in hosts]
    with pytest.raises(
        ProblemsError, match=r"would drop the connection of Ansible, which comes from 10\.88\.0\.250"
    ):
        plan(hosts)
    unsafe["ipsec_fail_closed"] = False
    hosts = [replace(item, variables={**item.variables, **unsafe}) for item in hosts]
    assert clear_of(plan(hosts), "h1") == []


def test_controller_that_is_a_member_is_not_exempt() -> None:
    made = plan([host(1), host(2, facts=facts(2, controller_address=ipaddress.ip_address("10.88.0.1")))])
    assert clear_of(made, "h2") == []
    assert any("Ansible reaches h2 from the member h1" in warning for warning in made.document["warnings"])


@pytest.mark.parametrize(
    ("variables", "controller", "warned"),
    [
        ({}, "10.77.0.254", True),
        ({"ipsec_clear": [GATEWAY]}, "10.77.0.254", False),
        ({"ipsec_clear": [f"{GATEWAY} udp 0 53"]}, "10.77.0.254", True),
        ({}, GATEWAY, False),
        ({"ipsec_exempt_controller": False, "ipsec_fail_closed": False}, GATEWAY, True),
        ({"ipsec_enforcement": "private-or-clear"}, "10.77.0.254", False),
        ({"ipsec_topology": "mesh"}, "10.77.0.254", False),
        (networks(STORAGE), "10.77.0.254", False),
    ],
)
def test_gateway_inside_a_network_is_a_warning(
    variables: dict[str, Any], controller: str, warned: bool
) -> None:
    hosts = [host(1, variables, facts=facts(1, controller_address=ipaddress.ip_address(controller)))]
    assert (
        any("the default gateway 10.88.0.254 of h1" in text for text in plan(hosts).document["warnings"])
        == warned
    )


def test_same_input_same_bytes_in_any_order() -> None:
    hosts = cluster({"ipsec_clear": ["10.88.0.254", "10.88.0.253"]})
    turned = cluster({"ipsec_clear": ["10.88.0.253", "10.88.0.254"]})[::-1]
    assert as_json(plan(hosts).document) == as_json(plan(turned).document)
    assert as_json(plan(hosts).slices) == as_json(plan(turned).slices)


def test_limit_does_not_change_the_digest() -> None:
    outside = Host(
        "h3", {"ipsec_ca_passphrase": PASSPHRASE, "ipsec_networks": [DATA]}, cached=facts(3).addresses
    )
    limited = plan([*cluster()[:2], outside])
    assert limited.document["digest"] == plan(cluster()).document["digest"]
    assert sorted(limited.slices) == ["h1", "h2"]


def test_slice_does_not_grow_with_the_cluster() -> None:
    def size(count: int) -> int:
        return len(json.dumps(plan([host(number) for number in range(1, count + 1)]).slices["h1"]))

    assert size(1) == size(200)


def test_defaults_may_be_left_to_the_specification() -> None:
    assert plan([host(1, {"ipsec_networks": None})]).document["networks"][0]["name"] == "default"
