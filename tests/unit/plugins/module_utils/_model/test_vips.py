# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Virtual addresses: what is understood, what is refused, and what becomes of them in clusters."""

from __future__ import annotations

import ipaddress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.underlay.ipsec.plugins.module_utils._model.cluster import (
    ClearEntry,
    Host,
    HostFacts,
    Member,
    Network,
    Problems,
    Settings,
)
from ansible_collections.underlay.ipsec.plugins.module_utils._model.typed import typed
from ansible_collections.underlay.ipsec.plugins.module_utils._model.vips import (
    Vip,
    check_clusters,
    check_no_nat,
    names_held,
    read_vips,
    vip_addresses,
)

SPECS = Path(__file__).parents[5] / "roles/plan/meta/argument_specs.yml"
PSK = "correct horse battery staple, and so on"
NETWORKS = (
    Network(
        "data",
        ipaddress.ip_network("10.88.0.0/24"),
        (
            ClearEntry(ipaddress.ip_network("10.88.0.99/32")),
            ClearEntry(ipaddress.ip_network("10.88.0.98/32"), "tcp", 0, 22),
        ),
    ),
    Network("six", ipaddress.ip_network("fd88::/64")),
)
CERTIFICATES = Settings(
    group="ipsec",
    enforcement="private",
    topology="mesh",
    auth="certificate",
    mode="transport",
    ike="aes_gcm256-sha2_384-dh20",
    esp="aes_gcm256",
    key_type="ecdsa-p384",
    cert_validity_days=1825,
    cert_renew_before_days=183,
    exempt_controller=True,
)
KEYS = replace(CERTIFICATES, auth="psk")
MEMBERS = [
    Member(
        f"h{number}",
        f"h{number}.example",
        {
            "data": ipaddress.ip_address(f"10.88.0.{number}"),
            "six": ipaddress.ip_address(f"fd88::{number}"),
        },
    )
    for number in (1, 2, 3)
]
GROUPS = {"pacemaker": ["h2", "h1"], "databases": ["h3"]}
API = {"name": "internal_api", "address": "10.88.0.50"}
VIP = Vip("api", ipaddress.ip_address("10.88.0.50"), "data", ("h1", "h2"), "@underlay-vip-api")


def read(*items: dict[str, Any], settings: Settings | None = CERTIFICATES) -> tuple[list[Vip], list[str]]:
    """Return the virtual addresses, and the problems as text."""
    problems = Problems()
    spec = yaml.safe_load(SPECS.read_text())["argument_specs"]["main"]["options"]["ipsec_vips"]
    raw = typed(list(items), spec, variable="ipsec_vips", problems=problems)
    assert raw is not None
    found = read_vips(raw, settings, NETWORKS, MEMBERS, GROUPS, problems)
    return list(found), [str(problem) for problem in problems]


def one(settings: Settings = CERTIFICATES, **changes: Any) -> Vip:
    """Return the virtual address that has nothing wrong with it."""
    vips, problems = read({**API, **changes}, settings=settings)
    assert problems == []
    return vips[0]


def test_defaults() -> None:
    found = one()
    assert found == Vip(
        "internal_api",
        ipaddress.ip_address("10.88.0.50"),
        "data",
        ("h1", "h2"),
        "@underlay-vip-internal-api",
    )
    assert found.dns == "underlay-vip-internal-api"


@pytest.mark.parametrize(
    ("changes", "network"),
    [
        ({}, "data"),
        ({"network": "data"}, "data"),
        ({"address": "fd88::50"}, "six"),
        ({"address": "FD88:0::0050", "network": "six"}, "six"),
        # Only one port of it is in clear.
        ({"address": "10.88.0.98"}, "data"),
    ],
)
def test_network_of_the_address(changes: dict[str, Any], network: str) -> None:
    assert one(**changes).network == network


@pytest.mark.parametrize(
    ("holders", "expected"),
    [
        (["databases"], ("h3",)),
        (["pacemaker", "databases"], ("h1", "h2", "h3")),
        (["h3", "h1"], ("h1", "h3")),
        (["pacemaker", "h2"], ("h1", "h2")),
    ],
)
def test_holders_are_groups_and_members(holders: list[str], expected: tuple[str, ...]) -> None:
    assert one(holders=holders).holders == expected


@pytest.mark.parametrize(
    ("settings", "text", "expected"),
    [
        (CERTIFICATES, "api.example", "@api.example"),
        (KEYS, "api.example", "@api.example"),
        (KEYS, "@API_1", "@API_1"),
    ],
)
def test_ids(settings: Settings, text: str, expected: str) -> None:
    found = one(settings, id=text)
    assert (found.id, found.dns) == (expected, expected.removeprefix("@"))


def test_they_are_sorted_by_name() -> None:
    vips, _problems = read({**API, "name": "b"}, {**API, "name": "a", "address": "10.88.0.51"})
    assert [vip.name for vip in vips] == ["a", "b"]


def test_no_two_share_anything() -> None:
    _vips, problems = read({**API, "id": "x.example"}, {**API, "id": "x.example"})
    assert problems == [
        "ipsec_vips[1].name: internal_api is also the name of ipsec_vips[0]. Give each virtual address a name of its own",
        "ipsec_vips[1].address: 10.88.0.50 is also the address of ipsec_vips[0]. Give each virtual address an address of"
        " its own",
        "ipsec_vips[1].id: @x.example is also the id of ipsec_vips[0]. Give each virtual address an id of its own",
    ]


def test_one_address_written_in_two_ways_is_one_address() -> None:
    _vips, problems = read(
        {**API, "address": "fd88::50"}, {**API, "name": "other", "address": "fd88:0:0::0050"}
    )
    assert [problem.split(": ")[0] for problem in problems] == ["ipsec_vips[1].address"]


def test_names_that_make_the_same_id() -> None:
    _vips, problems = read({**API, "name": "a_b"}, {**API, "name": "a-b", "address": "10.88.0.51"})
    assert [problem.split(": ")[0] for problem in problems] == ["ipsec_vips[1].id"]


def test_all_problems_at_once_even_without_settings() -> None:
    _vips, problems = read(
        {**API, "address": "api"},
        {**API, "holders": ["nobody"], "psk": PSK[:31], "id": "not an id"},
        settings=None,
    )
    assert [problem.split(": ")[0] for problem in problems] == [
        f"ipsec_vips{place}" for place in ("[0].address", "[1].holders", "[1].id", "[1].psk")
    ]
    assert PSK[:20] not in "".join(problems)


def test_what_is_wrong_is_left_out() -> None:
    vips, problems = read(API, {**API, "name": "wrong", "address": "192.0.2.1"})
    assert ([vip.name for vip in vips], len(problems)) == (["internal_api"], 1)


def test_key_needs_no_certificate() -> None:
    assert one(KEYS, psk=PSK).name == "internal_api"


def test_addresses_as_far_as_they_are_any() -> None:
    raw = [{"address": "10.88.0.50"}, {"address": "10.88.0.0/24"}, {"address": "FD88::50"}]
    assert vip_addresses(raw) == {ipaddress.ip_address("10.88.0.50"), ipaddress.ip_address("fd88::50")}


def test_names_of_a_holder() -> None:
    other = replace(VIP, name="b", holders=("h2", "h3"), id="@b.example")
    assert names_held([VIP, other], "h2") == ["b.example", "underlay-vip-api"]
    assert names_held([VIP, other], "h1") == ["underlay-vip-api"]
    assert names_held([VIP], "h3") == []


@pytest.mark.parametrize(
    ("nat", "hosts"),
    [
        ({}, []),
        ({"h2": {"data": "192.0.2.2"}}, ["h2"]),
        ({"h2": {"six": "192.0.2.2"}}, []),
        ({"h3": {"data": "192.0.2.3"}}, []),
    ],
)
def test_nat_only_matters_for_holders_on_the_network(
    nat: dict[str, dict[str, object]], hosts: list[str]
) -> None:
    problems = Problems()
    check_no_nat([VIP], nat, problems)
    assert [problem.host for problem in problems] == hosts


# Clusters.


def pacemaker(node: str, **changes: Any) -> dict[str, Any]:
    return {
        "cluster": "c",
        "nodes": ["h1", "h2"],
        "node": node,
        "quorum": True,
        "addresses": {"10.88.0.50": ["ip-api"]},
        "maintenance": False,
        "tunnels": [],
        **changes,
    }


def clusters(
    first: dict[str, Any] | None, second: dict[str, Any] | None, vip: Vip = VIP
) -> tuple[list[str], list[str]]:
    """Return the problems with what h1 and h2 say of their clusters, as text, and the warnings."""
    problems, warnings = Problems(), list[str]()
    found = [
        Host(name, {}, HostFacts((), pacemaker=cluster)) for name, cluster in (("h1", first), ("h2", second))
    ]
    check_clusters([vip], found, problems, warnings)
    return [str(problem) for problem in problems], warnings


def test_a_cluster_of_holders() -> None:
    assert clusters(pacemaker("h1"), pacemaker("h2")) == ([], [])


def test_two_clusters_of_one_name_are_told_apart_by_their_nodes() -> None:
    problems, _warnings = clusters(pacemaker("h1", nodes=["h1"]), pacemaker("h2", nodes=["h2"]))
    assert len(problems) == 1
    assert problems[0].startswith("ipsec_vips (api): its holders are in 2 clusters: h1; h2. An address moves")


@pytest.mark.parametrize(
    ("ids", "said"),
    [
        ((), "no resource of the pacemaker cluster brings up 10.88.0.50. Create the address first"),
        (("ip-a", "ip-b"), "ip-a and ip-b both bring up 10.88.0.50. Remove one"),
    ],
)
def test_an_address_is_brought_up_by_one_resource(ids: tuple[str, ...], said: str) -> None:
    present = {"addresses": {"10.88.0.50": list(ids)} if ids else {}}
    problems, _warnings = clusters(pacemaker("h1", **present), pacemaker("h2", **present))
    assert len(problems) == 1
    assert problems[0].startswith(f"ipsec_vips (api): {said}")


def test_other_nodes_of_the_cluster_cannot_serve_it() -> None:
    nodes = {"nodes": ["h1", "h2", "n3"]}
    assert clusters(pacemaker("h1", **nodes), pacemaker("h2", **nodes)) == (
        [],
        ["ipsec_vips: n3 of the pacemaker cluster cannot serve api, not being among its holders"],
    )


def test_nodes_may_be_called_differently_than_in_the_inventory() -> None:
    nodes = {"nodes": ["a", "b"]}
    assert clusters(pacemaker("a", **nodes), pacemaker("b", **nodes)) == ([], [])


def test_a_holder_that_was_not_reached_may_be_one_of_the_other_nodes() -> None:
    problems, warnings = Problems(), list[str]()
    reached = Host("h1", {}, HostFacts((), pacemaker=pacemaker("h1")))
    check_clusters([VIP], [reached, Host("h2", {}, None)], problems, warnings)
    assert (problems, warnings) == ([], [])


def test_what_is_no_holder_needs_no_cluster() -> None:
    alone = pacemaker("h1", nodes=["h1"])
    assert clusters(alone, None, replace(VIP, holders=("h1",))) == ([], [])


def test_without_quorum_nothing_can_be_changed() -> None:
    problems, _warnings = clusters(pacemaker("h1", quorum=False), pacemaker("h2"))
    assert len(problems) == 1
    assert problems[0].startswith("h1: ipsec_vips: its pacemaker cluster has no quorum")


@pytest.mark.parametrize(
    ("tunnels", "hosts"),
    [
        (["ipsec-vip-api"], []),
        # One has to come, or to go.
        ([], ["h1", "h2"]),
        (["ipsec-vip-api", "ipsec-vip-old"], ["h1", "h2"]),
    ],
)
def test_in_maintenance_mode_a_cluster_stays_as_it_is(tunnels: list[str], hosts: list[str]) -> None:
    said = {"maintenance": True, "tunnels": tunnels}
    problems, _warnings = clusters(pacemaker("h1", **said), pacemaker("h2", **said))
    assert [problem.partition(":")[0] for problem in problems] == hosts
    assert all("ipsec_vips: its pacemaker cluster is in maintenance mode" in problem for problem in problems)
