# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Giving an MTU and taking it back: what is refused, in which order, and what is left if it fails."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.underlay.ipsec.plugins.module_utils._errors import (
    CommandError,
    IpsecError,
    ProblemsError,
)
from ansible_collections.underlay.ipsec.plugins.module_utils._mtu import apply, managers, routes
from ansible_collections.underlay.ipsec.plugins.module_utils._mtu.apply import Link, Network, Overlay
from ansible_collections.underlay.ipsec.plugins.module_utils._run import Completed

DATA = Network("data", "eth1", "10.88.0.0/24", "10.88.0.11", 4, 1400)
DATA6 = Network("data6", "eth1", "fd88::/64", "fd88::11", 6, 1400)
LINKS = {
    "eth0": Link(1500, addresses=("10.77.0.11",)),
    "eth1": Link(1500, addresses=("10.88.0.11", "fd88::11", "fe80::1")),
    "vx5": Link(1450, "vxlan", lower="eth1"),
    "vx6": Link(1450, "vxlan", local="10.77.0.11"),
    "gen7": Link(1450, "geneve", remote="10.88.0.12"),
}
ROUTES = {
    "4": "10.88.0.0/24 dev eth1 proto kernel scope link src 10.88.0.11",
    "6": "fd88::/64 dev eth1 proto kernel metric 256 pref medium",
}


def uuid(name: str) -> str:
    """Return the UUID of the profile of an interface."""
    return f"11111111-2222-3333-4444-{name.encode().hex():>012}"


class Machine:
    """Plays a host: links and routes with an MTU, files below a folder, units.

    Command number *fails*, counted from 1 and only of those that change something, does nothing and fails;
    number *dies* ends the run as if the power had gone.
    """

    def __init__(self, root: Path, owner: str = "ifupdown", *, fails: int = 0, dies: int = 0) -> None:
        self.root, self.owner, self.fails, self.dies = root, owner, fails, dies
        self.routes = dict(ROUTES)
        self.profiles = dict.fromkeys(LINKS, "auto")
        self.units: set[str] = set()
        self.changes: list[str] = []
        for name, link in LINKS.items():
            folder = root / "sys/class/net" / name
            folder.mkdir(parents=True)
            (folder / "mtu").write_text(f"{link.mtu}\n", encoding="utf-8")

    def __call__(
        self, argv: Sequence[str], *, stdin: str | None = None, check: bool = True, timeout: float = 1.0
    ) -> Completed:
        rc, out = self.answer(list(argv))
        if rc and check:
            raise CommandError(argv, rc, "", "refused")
        return Completed(tuple(argv), rc, out, "")

    def answer(self, argv: list[str]) -> tuple[int, str]:
        """Return exit status and output of a command."""
        line = " ".join(argv)
        if line.startswith(("ip -4 route show", "ip -6 route show")):
            lines = self.routes[argv[1][1]].splitlines()
            return 0, "".join(f"{line}\n" for line in lines if argv[6] != "root" or "default" not in line)
        if "is-enabled" in argv or "is-active" in argv:
            return int(argv[-1] not in self.units), ""
        if argv[0] == "ifquery":
            return int(self.owner != "ifupdown"), ""
        if argv[0] in ("nmcli", "busctl") and "modify" not in argv:
            said = {
                "GENERAL.STATE,GENERAL.CON-UUID": f"100 (connected)\n{uuid(argv[-1])}\n",
                "connection.type": "802-3-ethernet\n",
                "802-3-ethernet.mtu": "".join(
                    f"{m}\n" for n, m in self.profiles.items() if uuid(n) == argv[-1]
                ),
            }.get(argv[2], "")
            return int(self.owner != "nm" or argv[0] == "busctl"), said
        self.changes.append(line)
        if len(self.changes) == self.dies:
            raise KeyboardInterrupt
        if len(self.changes) == self.fails:
            return 1, ""
        if argv[:3] == ["ip", "link", "set"]:
            (self.root / "sys/class/net" / argv[4] / "mtu").write_text(f"{argv[6]}\n", encoding="utf-8")
        elif "change" in argv:
            self.routes[argv[1][1]] = " ".join(argv[4:])
        elif "modify" in argv:
            self.profiles.update((name, argv[-1]) for name in LINKS if uuid(name) == argv[3])
        elif argv[1] in ("enable", "disable"):
            (self.units.add if argv[1] == "enable" else self.units.discard)(argv[-1])
        return 0, ""

    @property
    def everything(self) -> dict[str, Any]:
        """All that there is to change."""
        files = {str(p): p.read_text(encoding="utf-8") for p in self.root.rglob("*") if p.is_file()}
        profiles = {name: "auto" if mtu == "0" else mtu for name, mtu in self.profiles.items()}
        return {**files, **self.routes, "profiles": profiles, "units": set(self.units)}

    def links(self) -> dict[str, Link]:
        """Return the links with the MTUs that they have now."""
        return {
            name: replace(
                link, mtu=int((self.root / "sys/class/net" / name / "mtu").read_text(encoding="utf-8"))
            )
            for name, link in LINKS.items()
        }


def go(
    machine: Machine,
    method: str,
    networks: Sequence[Network] = (DATA,),
    overlays: Sequence[Overlay] = (),
    *,
    check: bool = False,
) -> list[str]:
    """Run what the module runs; return what changed."""
    host = apply.Host(machine, machine.root)
    todo = apply.plan(host, method, networks, overlays, machine.links)
    if not check:
        apply.carry_out(host, todo)
    return [str(change) for change in todo.changes]


def mtu(machine: Machine, name: str = "eth1") -> int:
    """Return the MTU of a link."""
    return machine.links()[name].mtu


WAYS = [
    ("ifupdown", "interface", (DATA, DATA6), ()),
    ("nm", "interface", (DATA,), ()),
    ("nm", "interface", (DATA,), (Overlay("vx5", 1300), Overlay("gen7", 1300))),
    ("none", "route", (DATA, DATA6), ()),
]


@pytest.mark.parametrize(("owner", "method", "networks", "overlays"), WAYS)
def test_there_and_back(tmp_path: Path, owner: str, method: str, networks: Any, overlays: Any) -> None:
    machine = Machine(tmp_path, owner)
    before = machine.everything
    foretold = go(machine, method, networks, overlays, check=True)
    assert machine.everything == before
    assert machine.changes == []
    assert go(machine, method, networks, overlays) == foretold != []
    after = machine.everything
    assert after != before
    assert go(machine, method, networks, overlays) == []
    assert machine.everything == after
    assert go(machine, "advise") != []
    assert machine.everything == before
    assert go(machine, "advise") == []
    assert not (tmp_path / "etc/underlay-ipsec").exists()


@pytest.mark.parametrize(("owner", "method", "networks", "overlays"), WAYS)
def test_undone_wherever_it_fails(
    tmp_path: Path, owner: str, method: str, networks: Any, overlays: Any
) -> None:
    complete = Machine(tmp_path / "complete", owner)
    go(complete, method, networks, overlays)
    assert complete.changes
    for at in range(1, len(complete.changes) + 1):
        machine = Machine(tmp_path / str(at), owner, fails=at)
        before = machine.everything
        with pytest.raises(IpsecError, match="Everything is as it was before this run"):
            go(machine, method, networks, overlays)
        assert machine.everything == before


@pytest.mark.parametrize("onwards", [True, False])
@pytest.mark.parametrize(("owner", "method", "networks", "overlays"), WAYS)
def test_taken_up_wherever_it_was_cut_off(
    tmp_path: Path, owner: str, method: str, networks: Any, overlays: Any, onwards: bool
) -> None:
    complete = Machine(tmp_path / "complete", owner)
    go(complete, method, networks, overlays)
    for at in range(1, len(complete.changes) + 1):
        machine = Machine(tmp_path / f"{onwards}{at}", owner, dies=at)
        before = machine.everything
        with pytest.raises(KeyboardInterrupt):
            go(machine, method, networks, overlays)
        if onwards:
            go(machine, method, networks, overlays)
            assert [*machine.routes.values()] == [*complete.routes.values()]
            assert (machine.links(), machine.profiles, machine.units) == (
                complete.links(),
                complete.profiles,
                complete.units,
            )
        go(machine, "advise")
        assert machine.everything == before


def test_from_one_method_to_the_other(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    before = machine.everything
    go(machine, "interface")
    assert go(machine, "route", [replace(DATA, mtu=1420)])[:2] == [
        "interface eth1: mtu 1400 -> 1500",
        "route 10.88.0.0/24 dev eth1: mtu none -> 1420",
    ]
    assert go(machine, "interface", [replace(DATA, mtu=1450)])[0] == "unit underlay-ipsec-mtu.timer removed"
    assert (mtu(machine), machine.routes) == (1450, ROUTES)
    go(machine, "advise")
    assert machine.everything == before


def test_an_mtu_of_the_operators_comes_back(tmp_path: Path) -> None:
    machine = Machine(tmp_path, "nm")
    machine.profiles["eth1"] = "1480"
    machine.routes["4"] += " mtu lock 1450"
    before = machine.everything
    for method in ("interface", "route"):
        go(machine, method)
        assert machine.everything != before
    go(machine, "advise")
    assert machine.everything == before


def test_narrow_above_before_below_and_wide_below_before_above(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    go(machine, "interface", [DATA], [Overlay("vx5", 1300)])
    assert [line.split()[4] for line in machine.changes if " link " in line] == ["vx5", "eth1"]
    machine.changes.clear()
    go(machine, "advise")
    assert [line.split()[4] for line in machine.changes if " link " in line] == ["eth1", "vx5"]


def test_networkd_gets_a_drop_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    owner = managers.Owner(managers.NETWORKD, network_file="/run/systemd/network/10-data.network")
    monkeypatch.setattr(managers, "find_owner", lambda run, interface: owner)
    machine = Machine(tmp_path)
    go(machine, "interface")
    folder = tmp_path / "etc/systemd/network/10-data.network.d"
    drop_in = folder / "99-underlay-ipsec.conf"
    assert "MTUBytes=1400\n" in drop_in.read_text(encoding="utf-8")
    # What somebody else has put there in the meantime keeps the folder.
    (folder / "own.conf").touch()
    go(machine, "advise")
    assert [path.name for path in folder.iterdir()] == ["own.conf"]


@pytest.mark.parametrize(
    ("method", "networks", "overlays", "reasons"),
    [
        ("interface", [replace(DATA, interface="eth7")], [], ["there is no interface eth7"]),
        ("interface", [replace(DATA, interface="eth0")], [], ["eth0 does not have the address 10.88.0.11"]),
        ("interface", [replace(DATA, mtu=None)], [], ["nobody knows the network's MTU"]),
        ("interface", [replace(DATA, mtu=500)], [], ["too small for IPv4", "lose its IPv6 addresses"]),
        ("interface", [replace(DATA, mtu=1279)], [], ["eth1 would lose its IPv6 addresses"]),
        ("route", [replace(DATA6, mtu=1279)], [], ["too small for IPv6"]),
        ("route", [replace(DATA, mtu=1501)], [], ["a route cannot raise it"]),
        ("interface", [DATA], [Overlay("vx9", 1300)], ["there is no interface vx9"]),
        ("interface", [DATA], [Overlay("vx6", 1300)], ["vx6 does not travel over a member network"]),
        ("interface", [DATA], [Overlay("vx5", 500)], ["too small for vx5"]),
        (
            "interface",
            [replace(DATA, interface="eth7"), replace(DATA6, mtu=1000)],
            [],
            ["there is no interface eth7", "too small for IPv6"],
        ),
    ],
)
def test_refused(
    tmp_path: Path,
    method: str,
    networks: Sequence[Network],
    overlays: Sequence[Overlay],
    reasons: Sequence[str],
) -> None:
    machine = Machine(tmp_path)
    with pytest.raises(ProblemsError) as caught:
        go(machine, method, networks, overlays)
    for reason in reasons:
        assert reason in str(caught.value)
    assert machine.changes == []


@pytest.mark.parametrize(
    ("owner", "overlays", "reason"),
    [
        ("none", [], "ipsec_mtu: neither NetworkManager nor systemd-networkd nor ifupdown configures eth1"),
        ("none", [Overlay("vx5", 1300)], "ipsec_mtu_overlays: neither"),
    ],
)
def test_refused_if_nobody_configures_it(
    tmp_path: Path, owner: str, overlays: Sequence[Overlay], reason: str
) -> None:
    machine = Machine(tmp_path, owner)
    with pytest.raises(ProblemsError, match=reason):
        go(machine, "interface", [DATA], overlays)
    assert machine.changes == []


def test_refused_if_the_kernel_would_narrow_another_interface(tmp_path: Path) -> None:
    links = {**LINKS, "eth1.7": Link(1500, "vlan", lower="eth1", addresses=("10.99.0.1",))}
    with pytest.raises(ProblemsError, match=r"the kernel would narrow eth1\.7 as well"):
        apply.check("interface", [DATA], [], links)
    beside = Network("other", "eth1.7", "10.99.0.0/24", "10.99.0.1", 4, 1400)
    apply.check("interface", [DATA, beside], [], links)
    apply.check("route", [DATA], [], links)


@pytest.mark.parametrize(
    ("shown", "reason"),
    [
        ("default via 10.88.0.1 dev eth1", "no route but the default one leads to 10.88.0.0/24 over eth1"),
        (
            "10.88.0.0/24 dev eth0 scope link\n10.88.0.0/24 dev eth1 scope link",
            "2 routes to 10.88.0.0/24 that differ only in the interface",
        ),
    ],
)
def test_routes_refused(tmp_path: Path, shown: str, reason: str) -> None:
    machine = Machine(tmp_path)
    machine.routes["4"] = shown
    with pytest.raises(ProblemsError, match=reason):
        go(machine, "route")
    assert machine.changes == []


def test_a_route_of_networkmanager_beside_ours(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    go(machine, "route")
    machine.routes["4"] += "\n" + ROUTES["4"]
    assert go(machine, "route") == []
    told = []

    def run(argv: Sequence[str], **_rest: Any) -> Completed:
        if "change" in argv:
            raise CommandError(argv, 2, "", "RTNETLINK answers: File exists")
        if "delete" in argv:
            told.append(" ".join(argv))
            machine.routes["4"] = ROUTES["4"]
            return Completed(tuple(argv), 0, "", "")
        return machine(argv)

    host = apply.Host(run, tmp_path)
    apply.carry_out(host, apply.plan(host, "advise", [], [], machine.links))
    assert told == [f"ip -4 route delete {ROUTES['4']}"]


def test_part_of_a_network_is_told(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.routes["4"] = "10.88.0.0/25 dev eth1 scope link"
    todo = apply.plan(apply.Host(machine, tmp_path), "route", [DATA], [], machine.links)
    assert "what takes the default route is not given an MTU" in todo.warnings[0]


@pytest.mark.parametrize("text", ["", "{", '{"version": 2, "before": []}', '{"version": 1}'])
def test_a_damaged_memory_is_told(tmp_path: Path, text: str) -> None:
    machine = Machine(tmp_path)
    (tmp_path / "etc/underlay-ipsec").mkdir(parents=True)
    (tmp_path / "etc/underlay-ipsec/mtu.json").write_text(text, encoding="utf-8")
    with pytest.raises(ProblemsError, match="cannot be read, so what was before is not known"):
        go(machine, "advise")


def test_what_is_gone_needs_nothing_back(tmp_path: Path) -> None:
    machine = Machine(tmp_path, "nm")
    go(machine, "interface")
    (tmp_path / "sys/class/net/eth1/mtu").unlink()
    machine.owner = "none"
    host = apply.Host(machine, tmp_path)
    todo = apply.plan(host, "advise", [], [], dict)
    assert todo.changes == []
    apply.carry_out(host, todo)
    assert not (tmp_path / "etc/underlay-ipsec").exists()


def test_diff_has_the_files_apart(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    todo = apply.plan(apply.Host(machine, tmp_path), "interface", [DATA], [], machine.links)
    live, hook = apply.diff(todo)
    assert live["before"] == "interface eth1: mtu 1500\n"
    assert live["after"] == "interface eth1: mtu 1400\n"
    assert hook["after_header"] == managers.IFUPDOWN_HOOK
    assert apply.given(todo) == {"eth1": 1400}


def test_the_host_is_read() -> None:
    addresses = [{"ifname": "eth1", "addr_info": [{"local": "10.88.0.11"}, {"family": "inet"}]}]

    def run(
        argv: Sequence[str], *, stdin: str | None = None, check: bool = True, timeout: float = 1.0
    ) -> Completed:
        return Completed(tuple(argv), 0, json.dumps(addresses), "")

    link = {"name": "eth1", "mtu": 1500, "kind": None, "lower": None, "local": None, "remote": None}
    assert apply.read_host(run, lambda _run: [link]) == {"eth1": Link(1500, addresses=("10.88.0.11",))}


def test_the_script_is_below_the_folder_that_is_removed_last() -> None:
    assert Path(routes.SCRIPT_FILE).parent == Path(apply.STATE_FILE).parent
