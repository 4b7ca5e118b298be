# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Virtual addresses that a pacemaker cluster of three moves, as two more hosts and the wire see them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any
from xml.etree import ElementTree

import pytest
from failover import Address
from kit import Lab, Run, eventually

NODES = ("c1", "c2", "c3")
HOSTS = (*NODES, "n1", "n2")
NETWORKS = {"internal": "10.88.0.250", "storage": "fd89::250"}
CONTROL_PLANE = "10.86.0.250"
RESOURCE = "ipsec-vip-internal"
AGENT = "/usr/lib/ocf/resource.d/underlay/ipsec-vip"
SUCCESS, ERROR, NOT_RUNNING = 0, 1, 7
# What ends the SAs of before looks every five seconds, and acts on what it has seen twice.
TIDY_SECONDS = 20
# And every fifteen seconds for addresses that left without a word.
FORGET_SECONDS = 45


@pytest.fixture(scope="module")
def vip(lab: Lab) -> Address:
    """Return the address on the network that most tests look at."""
    return Address(lab, NETWORKS["internal"], "internal", NODES)


@pytest.fixture
def same_pluto(lab: Lab) -> Iterator[None]:
    """Check that pluto neither restarted nor crashed on any host during the test."""
    before = on_all(lab.pluto)
    yield
    assert on_all(lab.pluto) == before


def on_all(ask: Callable[[str], Any]) -> dict[str, Any]:
    with ThreadPoolExecutor() as pool:
        return dict(zip(HOSTS, pool.map(ask, HOSTS), strict=True))


def sas(lab: Lab, host: str, address: str) -> set[tuple[str, str, str]]:
    """Return the SAs in the kernel of *host* that have *address* at one end."""
    return {sa for sa in lab.spis(host) if address in sa[:2]}


def check_sas(vip: Address) -> None:
    """Check that whoever has the address and all others have the same SAs, and no others."""

    def agree() -> bool:
        found = on_all(lambda host: sas(vip.lab, host, vip.address))
        (owner,) = vip.on()
        others = set().union(*(found[host] for host in HOSTS if host != owner))
        return found[owner] == others and len(others) >= 2 * (len(HOSTS) - 1)

    assert eventually(agree, TIDY_SECONDS), on_all(lambda host: sas(vip.lab, host, vip.address))


def check_reached(vip: Address) -> None:
    """Check that all hosts reach the address."""
    answers = on_all(lambda host: vip.lab.answers(host, vip.address, count=20, seconds=20))
    assert all(answers.values()), answers


def check_cluster(vip: Address) -> None:
    """Check that the cluster runs everything, and has nothing to complain of."""
    said = ElementTree.fromstring(vip.cluster("crm_mon --one-shot --output-as=xml"))
    assert said.find("failures") is None, ElementTree.tostring(said.find("failures") or said)
    assert all(resource.get("role") == "Started" for resource in said.iter("resource"))


def agent(vip: Address, node: str, action: str, **environment: str) -> int:
    """Run the resource agent by hand, as the cluster does, and return its exit code."""
    given = {
        "OCF_ROOT": "/usr/lib/ocf",
        "OCF_RESOURCE_INSTANCE": RESOURCE,
        "OCF_RESKEY_name": "internal",
        "OCF_RESKEY_vip": vip.address,
        **environment,
    }
    words = " ".join(f"{name}={value}" for name, value in given.items())
    return int(vip.lab.ssh(node, f"{words} {AGENT} {action} >/dev/null 2>&1; echo $?", timeout=60))


@contextmanager
def unmanaged(vip: Address) -> Iterator[None]:
    """Have the cluster keep its hands off while the block runs."""
    vip.cluster("crm_attribute --type crm_config --name maintenance-mode --update true")
    try:
        yield
    finally:
        vip.cluster("crm_attribute --type crm_config --name maintenance-mode --delete")
        vip.cluster("crm_resource --cleanup >/dev/null 2>&1", check=False)
        vip.settle()


def test_pairs_and_addresses_are_encrypted(lab: Lab) -> None:
    found = lab.matrix()
    assert set(found.values()) == {"encrypted"}
    expected = {(a, b, network) for network in NETWORKS for a in HOSTS for b in HOSTS if a != b}
    addresses = {key for key in found if key[1].endswith(".vip")}
    assert set(found) - addresses == expected
    # Whoever has an address does not reach it over the wire.
    assert len(addresses) == len(NETWORKS) * (len(HOSTS) - 1)


@pytest.mark.parametrize("network", NETWORKS)
def test_wire(lab: Lab, network: str) -> None:
    address = Address(lab, NETWORKS[network], network, NODES)
    with lab.capture(network) as wire:
        check_reached(address)
    assert not address.clear(wire)
    for host in HOSTS:
        if host != address.owner:
            assert wire.esp(lab.address(host, 6 if ":" in address.address else 4, network), address.address)


def test_control_plane_is_in_clear(lab: Lab) -> None:
    address = Address(lab, CONTROL_PLANE, "ctlplane", NODES)
    with lab.capture("ctlplane") as wire:
        check_reached(address)
    assert address.clear(wire)
    assert not [packet for packet in wire.packets if packet.protocol == 50]


# -- the agent


def test_agent_is_what_pacemaker_expects(vip: Address) -> None:
    with unmanaged(vip):
        owner = vip.owner
        vip.lab.ssh(owner, "apt-get install -y -q libxml2-utils >/dev/null 2>&1")
        said = vip.lab.ssh(
            owner, f"ocf-tester -n {RESOURCE} -o name=internal -o vip={vip.address} {AGENT} 2>&1; true"
        )
        assert "passed all tests" in said
        # It ends with the resource stopped.
        assert agent(vip, owner, "start") == SUCCESS
    check_reached(vip)


def test_monitor_tells_running_stopped_and_failed_apart(vip: Address) -> None:
    owner = vip.owner
    other = next(node for node in NODES if node != owner)
    probe = {"OCF_RESKEY_CRM_meta_interval": "0", "__OCF_ACTION": "monitor"}
    assert agent(vip, owner, "monitor") == SUCCESS
    before = sas(vip.lab, other, vip.address)
    assert agent(vip, other, "monitor", **probe) == NOT_RUNNING
    assert sas(vip.lab, other, vip.address) == before
    with unmanaged(vip):
        vip.lab.ssh(owner, "ipsec whack --name underlay-vip+internal+holder --delete")
        assert agent(vip, owner, "monitor") == ERROR
        assert agent(vip, owner, "start") == SUCCESS
        assert agent(vip, owner, "monitor") == SUCCESS
        vip.lab.ssh(owner, "systemctl stop ipsec")
        assert agent(vip, owner, "monitor") == ERROR
        vip.lab.ssh(owner, "systemctl start ipsec")
        assert eventually(lambda: agent(vip, owner, "monitor") == SUCCESS)
        vip.lab.ssh(
            other, "ipsec addconn --config /etc/ipsec.d/underlay-vip/internal.holder.conf --autoall; true"
        )
        assert agent(vip, other, "monitor") == ERROR
        assert agent(vip, other, "stop") == SUCCESS
        assert agent(vip, other, "monitor") == NOT_RUNNING
    check_reached(vip)


def test_stop_does_not_hang_and_leaves_nothing(vip: Address) -> None:
    owner = vip.owner
    with unmanaged(vip):
        pid = vip.lab.ssh(owner, "systemctl show -P MainPID ipsec").strip()
        vip.lab.ssh(owner, f"kill -STOP {pid}")
        try:
            assert agent(vip, owner, "stop") == SUCCESS
            assert not sas(vip.lab, owner, vip.address)
            policies = vip.lab.ssh(owner, f"ip xfrm policy list src {vip.address}")
            assert not policies.strip()
        finally:
            vip.lab.ssh(owner, f"kill -CONT {pid}")
        # Pluto wakes up with connections whose SAs the kernel has no more.
        assert agent(vip, owner, "start") == SUCCESS
        assert agent(vip, owner, "monitor") == SUCCESS
    check_reached(vip)
    check_sas(vip)


def test_an_address_that_left_without_a_word_is_forgotten(vip: Address) -> None:
    owner = vip.owner
    with unmanaged(vip):
        link = vip.lab.ssh(owner, f"ip -o address show to {vip.address}").split()[1]
        vip.lab.ssh(owner, f"ip address del {vip.address}/32 dev {link}")

        def forgotten() -> bool:
            status = vip.lab.ssh(owner, "ipsec whack --status")
            return "+internal+holder" not in status and '"underlay-vip+internal+node"' in status

        assert eventually(forgotten, FORGET_SECONDS)
        assert agent(vip, owner, "monitor") == NOT_RUNNING
        vip.lab.ssh(owner, f"ip address add {vip.address}/32 dev {link}")
        assert agent(vip, owner, "start") == SUCCESS
    check_reached(vip)
    check_sas(vip)


def test_an_address_leaves_a_host_without_libreswan(vip: Address) -> None:
    owner = vip.owner
    vip.lab.ssh(owner, "systemctl stop ipsec")
    try:
        assert vip.came(90, not_on=owner)
        others = [host for host in HOSTS if host != owner]
        assert eventually(lambda: all(vip.lab.answers(host, vip.address) for host in others), 30)
    finally:
        vip.lab.ssh(owner, "systemctl start ipsec")
        vip.cluster("crm_resource --cleanup >/dev/null 2>&1", check=False)
    vip.rest()
    check_cluster(vip)
    check_reached(vip)
    check_sas(vip)


# -- failovers


@pytest.mark.parametrize(
    "event", ["resource move", "node standby", "pluto killed", "host killed", "network cut"]
)
def test_it_moves(vip: Address, event: str) -> None:
    with vip.lab.capture(vip.network) as wire, vip.traffic(HOSTS) as traffic:
        undo = vip.events[event]()
        assert eventually(lambda: all(vip.lab.answers(host, vip.address) for host in ("n1", "n2")), 60)
    undo()
    vip.rest()
    print(event, traffic.outages)
    assert not vip.clear(wire)
    check_reached(vip)
    check_sas(vip)


@pytest.mark.usefixtures("same_pluto")
def test_thirty_failovers_leave_nothing(vip: Address) -> None:
    vip.cluster("crm_resource --cleanup >/dev/null 2>&1", check=False)
    with vip.lab.capture(vip.network) as wire, vip.traffic(HOSTS) as traffic:
        for _ in range(30):
            vip.move()()
    print(traffic.lost)
    vip.rest()
    assert not vip.clear(wire)
    check_cluster(vip)
    check_reached(vip)
    check_sas(vip)
    journals = on_all(lambda host: vip.lab.ssh(host, "journalctl --no-pager -u ipsec"))
    assert not [
        host for host, said in journals.items() if "ASSERTION FAILED" in said or "status=6/ABRT" in said
    ]


# -- the cluster's configuration


def foreign(vip: Address) -> str:
    """Return the configuration of the cluster without what is ours."""
    cib = ElementTree.fromstring(vip.cluster("cibadmin --query"))
    configuration = cib.find("configuration")
    assert configuration is not None
    for section in ("resources", "constraints"):
        parent = configuration.find(section)
        assert parent is not None
        for element in list(parent):
            if element.get("id", "").startswith("ipsec-vip-"):
                parent.remove(element)
    for element in configuration.iter():
        element.text = element.tail = None
    return ElementTree.tostring(configuration, encoding="unicode")


def test_what_somebody_changed_is_put_right(vip: Address) -> None:
    others = foreign(vip)
    made = vip.cluster("cibadmin --query --scope constraints")
    vip.cluster(f"cibadmin --delete --xml-text '<rsc_colocation id=\"{RESOURCE}-with-address\"/>'")
    operation = f'<op id="{RESOURCE}-monitor" interval="33s"/>'
    vip.cluster(f"cibadmin --modify --scope resources --allow-create --xml-text '{operation}'", check=False)
    changed = vip.cluster("cibadmin --query --scope constraints")
    dry = vip.lab.play("site", HOSTS, "--check", "--diff")
    assert dry.rc == 0, dry.output
    assert f"rsc_colocation id='{RESOURCE}-with-address'" in dry.output
    assert vip.cluster("cibadmin --query --scope constraints") == changed
    vip.lab.converge(HOSTS)
    assert sorted(vip.cluster("cibadmin --query --scope constraints").split()) == sorted(made.split())
    assert vip.lab.converge(HOSTS).changed == 0
    assert foreign(vip) == others


def refused(vip: Address, *said: str, **variables: Any) -> Run:
    """Check that a run ends with an error that says so, and changes neither a host nor the cluster."""
    hosts, cluster = on_all(vip.lab.etc), vip.cluster("cibadmin --query --scope configuration")
    run = vip.lab.play("site", HOSTS, **variables)
    assert run.rc != 0
    assert run.changed == 0
    for text in said:
        assert text in run.output, run.output
    assert on_all(vip.lab.etc) == hosts
    assert vip.cluster("cibadmin --query --scope configuration") == cluster
    return run


def item(**changes: Any) -> list[dict[str, Any]]:
    return [{"name": "internal", "address": "10.88.0.250", **changes}]


@pytest.mark.parametrize(
    ("vips", "said"),
    [
        (item(address="10.90.0.250"), "ipsec_vips[0].address: 10.90.0.250 lies in no network"),
        (item(address="10.90.0.250", network="storage"), "lies outside of its network storage"),
        (item(address="10.88.0.12"), "10.88.0.12 is the own address of the member c2"),
        (item(holders=["n1"]), "n1: ipsec_vips: no pacemaker cluster runs on it"),
        (item(address="10.88.0.251"), "no resource of the pacemaker cluster brings up 10.88.0.251"),
    ],
)
def test_wrong_address(vip: Address, vips: list[dict[str, Any]], said: str) -> None:
    refused(vip, said, ipsec_vips=vips)


def test_maintenance(vip: Address) -> None:
    with unmanaged(vip):
        refused(vip, "its pacemaker cluster is in maintenance mode", ipsec_vips=item())


def test_two_clusters(vip: Address) -> None:
    alone = (
        "apt-get install -y -q --no-install-recommends corosync pacemaker pacemaker-cli-utils >/dev/null 2>&1;"
        "systemctl stop pacemaker corosync;"
        "printf 'totem {\\n version: 2\\n cluster_name: another\\n transport: knet\\n crypto_cipher: none\\n crypto_hash: none\\n}\\n"
        "quorum {\\n provider: corosync_votequorum\\n}\\nnodelist {\\n node {\\n nodeid: 1\\n name: n1\\n ring0_addr: 10.86.0.14\\n }\\n}\\n'"
        " >/etc/corosync/corosync.conf; systemctl start corosync pacemaker"
    )
    vip.lab.ssh("n1", alone, timeout=180)
    try:
        assert eventually(lambda: 'have-quorum="1"' in vip.lab.ssh("n1", "cibadmin --query; true"), 60)
        refused(vip, "its holders are in 2 clusters", ipsec_vips=item(holders=["pacemaker", "n1"]))
    finally:
        vip.lab.ssh("n1", "systemctl disable --now pacemaker corosync")


def test_no_quorum(vip: Address) -> None:
    """The last one: the addresses are gone while it lasts."""
    for node in NODES[1:]:
        vip.lab.ssh(node, "systemctl stop pacemaker corosync")
    try:
        assert eventually(lambda: 'have-quorum="0"' in vip.lab.ssh("c1", "cibadmin --query"), 60)
        refused(vip, "c1: ipsec_vips: its pacemaker cluster has no quorum")
    finally:
        for node in NODES[1:]:
            vip.lab.ssh(node, "systemctl start corosync pacemaker")
    vip.rest()
    check_reached(vip)


# -- who may reach it


def test_who_is_not_in_the_inventory_gets_in_with_a_certificate(vip: Address) -> None:
    lab = vip.lab
    lab.converge([host for host in HOSTS if host != "n2"])
    lab.ssh("n2", "ipsec whack --name underlay-vip+internal+node --terminate; true")
    with lab.capture(vip.network) as wire:
        assert lab.answers("n2", vip.address, count=20, seconds=20)
    assert not vip.clear(wire)
    assert '"underlay-vip+internal+holder"[' in lab.ssh(vip.owner, "ipsec whack --status")
    # Whom it has let in as anybody until now joins again.
    lab.converge(HOSTS)


# -- the other topology, and the end


def test_group(vip: Address) -> None:
    vip.lab.converge(HOSTS, ipsec_topology="opportunistic")
    before = on_all(vip.lab.pluto)
    with vip.lab.capture(vip.network) as wire, vip.traffic(HOSTS) as traffic:
        for _ in range(3):
            vip.move()()
            time.sleep(3)
    print(traffic.lost)
    vip.rest()
    assert not vip.clear(wire)
    check_reached(vip)
    check_sas(vip)
    check_cluster(vip)
    assert on_all(vip.lab.pluto) == before


def test_nobody_leaves_with_an_address(vip: Address) -> None:
    owner = vip.owner
    hosts = on_all(vip.lab.etc)
    run = vip.lab.play("remove", HOSTS, "--limit", owner)
    assert run.rc != 0
    assert f"{owner}: it has the virtual address internal" in run.output
    assert on_all(vip.lab.etc) == hosts


def test_removal(vip: Address) -> None:
    others = foreign(vip)
    run = vip.lab.play("remove", HOSTS)
    assert run.rc == 0, run.output
    assert "ipsec-vip" not in vip.cluster("cibadmin --query --scope configuration")
    assert foreign(vip) == others
    left = "ls -d /etc/ipsec.d/underlay-vip* /run/underlay-ipsec-vip /usr/lib/ocf/resource.d/underlay /etc/systemd/system/*underlay*vip* 2>/dev/null; true"
    assert not "".join(on_all(lambda host: vip.lab.ssh(host, left)).values())
    check_reached(vip)
