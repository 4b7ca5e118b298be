# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What host_info reads; the samples are what hosts printed, without the keys that nobody looks at."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.underlay.ipsec.plugins.module_utils import _host
from ansible_collections.underlay.ipsec.plugins.module_utils._errors import CommandError, IpsecError
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan import render
from ansible_collections.underlay.ipsec.plugins.module_utils._run import Completed

ADDRESSES = """
[{"ifindex":1,"ifname":"lo","flags":["LOOPBACK","UP","LOWER_UP"],"mtu":65536,"addr_info":[
 {"family":"inet","local":"127.0.0.1","prefixlen":8,"scope":"host","label":"lo"},
 {"family":"inet","local":"192.0.2.1","prefixlen":32,"scope":"global","label":"lo"},
 {"family":"inet6","local":"::1","prefixlen":128,"scope":"host"}]},
 {},
 {"ifindex":2,"link":"eth1","ifname":"p","flags":["BROADCAST","MULTICAST"],"addr_info":[]},
 {"ifindex":3,"ifname":"eth1","flags":["BROADCAST","MULTICAST","UP","LOWER_UP"],"mtu":1500,"addr_info":[
 {"family":"inet","local":"10.88.0.11","prefixlen":24,"broadcast":"10.88.0.255","scope":"global","label":"eth1"},
 {"family":"inet","local":"10.88.0.101","prefixlen":32,"scope":"global","label":"eth1"},
 {"family":"inet","local":"10.88.0.100","prefixlen":24,"scope":"global","secondary":true,"label":"eth1"},
 {"family":"inet6","local":"fd88::100","prefixlen":64,"scope":"global","deprecated":true,"tentative":true},
 {"family":"inet6","local":"fd88::200","prefixlen":64,"scope":"global","tentative":true,"dadfailed":true},
 {"family":"inet6","local":"fd88::dead","prefixlen":64,"scope":"global","temporary":true,"dynamic":true},
 {"family":"inet6","local":"fd88::11","prefixlen":64,"scope":"global","nodad":true},
 {"family":"inet6","local":"fe80::4c:1ff:fe00:1","prefixlen":64,"scope":"link","protocol":"kernel_ll"}]}]
"""


def test_addresses() -> None:
    assert _host.parse_addresses(ADDRESSES) == [
        {
            "interface": "eth1",
            "address": address,
            "prefix": prefix,
            "family": family,
            "scope": "global",
            "secondary": secondary,
        }
        for address, prefix, family, secondary in (
            ("10.88.0.11", 24, 4, False),
            ("10.88.0.101", 32, 4, False),
            ("10.88.0.100", 24, 4, True),
            ("fd88::11", 64, 6, False),
        )
    ]
    assert _host.parse_addresses("") == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("[]", []),
        ('[{"dst":"default","gateway":"10.88.0.1","dev":"eth1","flags":[]}]', [("eth1", "10.88.0.1")]),
        (
            '[{"dst":"default","gateway":"10.0.0.1","dev":"eth0","metric":600,"flags":[]},'
            '{"dst":"default","gateway":"10.88.0.1","dev":"eth1","metric":100,"flags":[]}]',
            [("eth1", "10.88.0.1"), ("eth0", "10.0.0.1")],
        ),
        (
            '[{"dst":"default","metric":50,"flags":[],"nexthops":[{"gateway":"10.88.0.1","dev":"eth1","weight":1,"flags":[]},'
            '{"gateway":"10.88.0.2","dev":"eth1","weight":1,"flags":[]}]}]',
            [("eth1", "10.88.0.1"), ("eth1", "10.88.0.2")],
        ),
        (
            '[{"dst":"default","gateway":"fd88::1","dev":"eth1","metric":10,"flags":["linkdown"],"pref":"medium"},'
            '{"type":"unreachable","dst":"default","dev":"lo","metric":1024,"flags":[],"pref":"medium"}]',
            [("eth1", "fd88::1")],
        ),
        (
            '[{"dst":"default","via":{"family":"inet6","host":"fe80::1"},"dev":"eth1","flags":[]}]',
            [("eth1", "fe80::1")],
        ),
        ('[{"dst":"default","dev":"wwan0","scope":"link","flags":[]}]', [("wwan0", None)]),
    ],
)
def test_default_routes(text: str, expected: list[tuple[str, str | None]]) -> None:
    assert _host.parse_default_routes(text, 4) == [
        {"family": 4, "interface": interface, "gateway": gateway} for interface, gateway in expected
    ]


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        ({"SSH_CONNECTION": "10.77.0.1 51234 10.77.0.11 22"}, "10.77.0.1"),
        ({"SSH_CLIENT": "10.77.0.1 51234 22"}, "10.77.0.1"),
        ({"SSH_CONNECTION": "fd88::1 51234 fd88::11 22"}, "fd88::1"),
        ({"SSH_CONNECTION": "::ffff:10.77.0.1 51234 ::ffff:10.77.0.11 22"}, "10.77.0.1"),
        ({"SSH_CONNECTION": "fe80::1%eth0 51234 fe80::2%eth0 22"}, "fe80::1"),
        ({"SSH_CONNECTION": "UNKNOWN 65535 UNKNOWN 65535"}, None),
    ],
)
def test_ssh_client(environment: dict[str, str], expected: str | None) -> None:
    assert _host.parse_ssh_client(environment) == expected


def processes(root: Path) -> None:
    """Write down a session of ssh, in which sudo runs a program."""
    for pid, parent, name, environment in (
        (40, 30, "python3", ""),
        (30, 20, "sudo (x) y", "PATH=/bin\0"),
        (20, 10, "sh", "HOME=/home/me\0SSH_CONNECTION=10.77.0.1 51234 10.77.0.11 22\0"),
    ):
        process = root / "proc" / str(pid)
        process.mkdir(parents=True)
        (process / "environ").write_text(environment)
        (process / "stat").write_text(f"{pid} ({name}) S {parent} {pid} 0\n")


def test_ssh_client_behind_sudo(tmp_path: Path) -> None:
    processes(tmp_path)
    assert _host.ssh_client({}, tmp_path, 40) == "10.77.0.1"
    assert _host.ssh_client({"SSH_CLIENT": "10.77.0.2 1 22"}, tmp_path, 40) == "10.77.0.2"
    assert _host.ssh_client({}, tmp_path, 10) is None
    assert _host.ssh_client({}, tmp_path, 1) is None


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, []),
        ({"SSH_CONNECTION": "10.77.0.1 51234 10.77.0.11 22"}, ["10.77.0.1", "51234", "10.77.0.11", "22"]),
        ({"SSH_CONNECTION": "fd88::1 51234 fd88::11 22"}, ["fd88::1", "51234", "fd88::11", "22"]),
        (
            {"SSH_CONNECTION": "::ffff:10.77.0.1 51234 ::ffff:10.77.0.11 22"},
            ["10.77.0.1", "51234", "10.77.0.11", "22"],
        ),
        (
            {"SSH_CONNECTION": "fe80::1%eth0 51234 fe80::2%eth0 22"},
            ["fe80::1", "51234", "fe80::2", "22"],
        ),
        ({"SSH_CLIENT": "10.77.0.1 51234 22"}, []),
        ({"SSH_CONNECTION": "10.77.0.1 51234 22"}, []),
        ({"SSH_CONNECTION": "UNKNOWN 65535 UNKNOWN 65535"}, []),
    ],
)
def test_ssh_connection(environment: dict[str, str], expected: list[str], tmp_path: Path) -> None:
    assert _host.ssh_connection(environment, tmp_path, 1) == expected


def test_ssh_connection_behind_sudo(tmp_path: Path) -> None:
    processes(tmp_path)
    outside = ["10.77.0.1", "51234", "10.77.0.11", "22"]
    assert _host.ssh_connection({}, tmp_path, 40) == outside
    assert _host.ssh_connection({"SSH_CLIENT": "10.77.0.2 1 22"}, tmp_path, 40) == outside
    inner = {"SSH_CONNECTION": "10.77.0.2 1 10.77.0.11 22"}
    assert _host.ssh_connection(inner, tmp_path, 40) == ["10.77.0.2", "1", "10.77.0.11", "22"]
    assert _host.ssh_connection({}, tmp_path, 10) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Linux Libreswan 4.10 (XFRM) on 6.1.0-18-amd64\n", "4.10"),
        ("Libreswan 5.2\n", "5.2"),
        ("Linux Libreswan U4.3/K5.10.0 on 5.10.0\n", "4.3"),
        ("Linux strongSwan U5.9.8/K6.1.0-18-amd64\n", None),
        ("", None),
    ],
)
def test_libreswan_version(text: str, expected: str | None) -> None:
    assert _host.parse_libreswan_version(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "libreswan:\n  Installed: (none)\n  Candidate: 4.10-2+deb12u1\n  Version table:\n",
            "4.10-2+deb12u1",
        ),
        ("libreswan:\n  Installed: (none)\n  Candidate: (none)\n  Version table:\n", None),
        ("", None),
    ],
)
def test_apt_candidate(text: str, expected: str | None) -> None:
    assert _host.parse_apt_candidate(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"), [("4.15-3.el9\n\n", "4.15-3.el9"), ("", None), ("Error: no repos\n", None)]
)
def test_dnf_candidate(text: str, expected: str | None) -> None:
    assert _host.parse_dnf_candidate(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-03-01T12:00:00", 0.0),
        ("2026-03-01T12:00:00.300000", -0.3),
        ("2026-03-01T14:00:00+02:00", 0.0),
        ("2025-03-01T12:00:00", 31536000.0),
    ],
)
def test_clock_skew(text: str, expected: float) -> None:
    assert _host.clock_skew(datetime(2026, 3, 1, 12, tzinfo=UTC), text) == expected


def test_clock_skew_of_nonsense() -> None:
    with pytest.raises(IpsecError, match="controller_time is 'noon', which is not an ISO 8601 time"):
        _host.clock_skew(datetime.now(UTC), "noon")


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"sys/module/esp4/refcnt": "1"}, True),
        ({"lib/modules/6.1/modules.dep": "kernel/net/ipv4/esp4.ko: kernel/net/xfrm/xfrm_algo.ko\n"}, True),
        ({"lib/modules/6.1/modules.dep": "kernel/net/ipv4/esp4.ko.xz:\n"}, True),
        ({"lib/modules/6.1/modules.builtin": "kernel/net/ipv4/esp4.ko\n"}, True),
        ({"lib/modules/6.1/modules.dep": "kernel/net/ipv4/esp4_offload.ko:\n", "proc/kallsyms": ""}, False),
        ({"proc/kallsyms": "0000000000000000 t esp4_rcv_cb\n"}, True),
        ({"proc/kallsyms": "0000000000000000 t tcp_v4_rcv\n"}, None),
        ({}, None),
    ],
)
def test_kernel_has(files: dict[str, str], expected: bool | None, tmp_path: Path) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert _host.kernel_has("esp4", "esp4_rcv_cb", "6.1", tmp_path) is expected


class FakeHost:
    """Answers commands from a table; an answer that is a list is used up, one item a call."""

    def __init__(self, answers: dict[str, Any]) -> None:
        self.answers = answers
        self.asked: list[str] = []

    def __call__(
        self, argv: Sequence[str], *, stdin: str | None = None, check: bool = True, timeout: float = 0
    ) -> Completed:
        command = " ".join(argv)
        self.asked.append(command)
        known = [answer for start, answer in self.answers.items() if command.startswith(start)]
        answer = known[0].pop(0) if known and isinstance(known[0], list) else (known or [None])[0]
        completed = Completed(tuple(argv), 127 if answer is None else 0, answer or "", "")
        if check and completed.rc:
            raise CommandError(completed.argv, completed.rc, "", "")
        return completed


NOTHING = "libreswan:\n  Candidate: (none)\n"
FOUND = "libreswan:\n  Candidate: 4.10-2\n"


@pytest.mark.parametrize(
    ("answers", "refresh", "installed", "candidate", "refreshed"),
    [
        ({"ipsec --version": "Libreswan 5.2"}, True, "5.2", None, False),
        ({"apt-cache --version": "apt 2.6.1", "apt-cache policy": FOUND}, True, None, "4.10-2", False),
        (
            {"apt-cache --version": "apt 2.6.1", "apt-cache policy": [NOTHING, FOUND], "apt-get": ""},
            True,
            None,
            "4.10-2",
            True,
        ),
        ({"apt-cache --version": "apt 2.6.1", "apt-cache policy": NOTHING}, False, None, None, False),
        ({"dnf -q repoquery": "4.15-3.el9\n"}, True, None, "4.15-3.el9", False),
        ({}, True, None, None, False),
    ],
)
def test_libreswan_package(
    answers: dict[str, Any], refresh: bool, installed: str | None, candidate: str | None, refreshed: bool
) -> None:
    run = FakeHost(answers)
    assert _host.libreswan_package(run, refresh) == {
        "installed": installed,
        "candidate": candidate,
        "package": "libreswan",
    }
    assert ("apt-get -q update" in run.asked) == refreshed


def fake_root(path: Path) -> Path:
    for directory in ("etc", "var", "proc/sys/kernel/random", "sys/module/esp4"):
        (path / directory).mkdir(parents=True)
    (path / "proc/sys/kernel/random/boot_id").write_text("5f2b8a4c\n")
    return path


def test_setup_options() -> None:
    text = """\
# comment
config setup
\t# logfile=/x

    uniqueids = "no"   # ours
\tprotostack=xfrm
conn %default
    ikev2=insist
include /etc/ipsec.d/*.conf
"""
    assert _host.parse_setup(text) == {"uniqueids": "no", "protostack": "xfrm"}
    assert _host.parse_setup("") == {}


def inspect(root: Path, answers: dict[str, Any]) -> dict[str, Any]:
    later = datetime.now(UTC) + timedelta(hours=1)
    return _host.inspect_host(
        FakeHost(answers),
        environment={"SSH_CONNECTION": "10.77.0.1 1 10.77.0.11 22"},
        controller_time=later.isoformat(),
        refresh=False,
        root=root,
    )


def test_inspect(tmp_path: Path) -> None:
    answers = {
        "ip -j address": ADDRESSES,
        "ip -4 -j route": '[{"dst":"default","gateway":"10.88.0.1","dev":"eth1"}]',
        "ipsec --version": "Libreswan 5.2",
    }
    info = inspect(fake_root(tmp_path), answers)
    assert len(info["addresses"]) == 4
    assert info["default_routes"] == [{"family": 4, "interface": "eth1", "gateway": "10.88.0.1"}]
    assert info["controller_address"] == "10.77.0.1"
    assert -3601 < info["clock_skew"] < -3599
    assert all(free > 0 for free in info["free_bytes"].values())
    assert info["libreswan"]["installed"] == "5.2"
    assert info["esp"] is True
    assert info["openshift_ipsec"] is False
    assert info["boot_id"] == "5f2b8a4c"
    assert json.loads(json.dumps(info)) == info


@pytest.mark.parametrize(
    ("name", "expected"), [("openshift.conf", True), ("cno.conf", True), ("openshift-cluster.conf", False)]
)
def test_openshift_with_ipsec_of_its_own(name: str, expected: bool, tmp_path: Path) -> None:
    root = fake_root(tmp_path)
    (root / "etc/ipsec.d").mkdir()
    (root / "etc/ipsec.d" / name).touch()
    assert inspect(root, {"ip -j address": "[]"})["openshift_ipsec"] is expected


def test_pre_shared_keys_that_are_there(tmp_path: Path) -> None:
    root = fake_root(tmp_path)
    assert inspect(root, {"ip -j address": "[]"})["keys_applied"] is False
    (root / "etc/ipsec.d").mkdir()
    (root / render.SECRETS_FILE.lstrip("/")).touch()
    assert inspect(root, {"ip -j address": "[]"})["keys_applied"] is True


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ({}, "The host's addresses cannot be read"),
        ({"ip -j address": "Option -j is unknown"}, "The output of ip -j is not JSON"),
    ],
)
def test_inspect_without_a_usable_ip(answers: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(IpsecError, match=said):
        inspect(fake_root(tmp_path), answers)
