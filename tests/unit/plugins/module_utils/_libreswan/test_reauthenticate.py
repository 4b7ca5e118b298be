# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A new certificate is used with every peer, and nothing ends before it has to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from ansible_collections.underlay.ipsec.plugins.module_utils._errors import IpsecError, ProblemsError
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan import reauthenticate as core
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan.dialect import Dialect
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan.loaded import (
    IkeSa,
    Loaded,
    ending,
    parse,
)
from ansible_collections.underlay.ipsec.plugins.module_utils._probe.xfrm import State
from ansible_collections.underlay.ipsec.plugins.module_utils._run import Completed

V4, V5 = Dialect(4, 10), Dialect(5, 2)
NETWORKS = {"10.88.0.0/24": "10.88.0.11"}
ENTRY = "underlay-data-private#10.88.0.0/24"
PAIR = "underlay-data+h1+h2"
TEMPLATE = f'000 "{ENTRY}": 10.88.0.11[CN=h1]...%opportunistic[%fromcert]===10.88.0.0/24; prospective erouted; eroute owner: #0\n'
UNIT = "RestartPreventExitStatus=12\n"


def sa(ike: int, child: int, name: str, peer: str, *, newest: bool = True, spi: str = "0a") -> str:
    """Return what ``--showstates`` of 4.x prints for an IKE SA and its Child SA."""
    instance = "[1]" if "#" in name else ""
    mark = " newest;" if newest else ""
    return (
        f'000 #{ike}: "{name}"{instance} ...{peer}:500 STATE_V2_ESTABLISHED_IKE_SA (established IKE SA); REKEY in 9s;{mark} idle;\n'
        f'000 #{child}: "{name}"{instance} ...{peer}:500 STATE_V2_ESTABLISHED_CHILD_SA (established Child SA); REKEY in 9s;{mark}'
        f" IKE SA #{ike}; idle;\n"
        f'000 #{child}: "{name}"{instance} ...{peer} esp.{spi}@{peer} esp.{spi}1@10.88.0.11 Traffic: ESPin=0B\n'
    )


class Host:
    """A host whose pluto knows *states* before, and *later* once it is told to begin."""

    def __init__(
        self,
        states: str,
        later: str,
        *,
        unit: str = UNIT,
        stops: bool = True,
        start_rc: int = 0,
        status: str = "",
    ) -> None:
        self.states, self.later, self.unit, self.stops, self.start_rc = states, later, unit, stops, start_rc
        self.status = status
        self.seen: list[str] = []
        self.time = 0.0

    def __call__(
        self, argv: Sequence[str], *, stdin: str | None = None, check: bool = True, timeout: float = 120.0
    ) -> Completed:
        text = " ".join(argv)
        self.seen.append(text)
        answers = {
            "ipsec whack --showstates": self.states,
            "ipsec whack --status": self.status,
            "systemctl cat ipsec": self.unit,
            "systemctl is-active ipsec": "failed" if self.stops else "active",
        }
        if "--oppohere" in text or "--initiate" in text:
            self.states = self.later
        rc = self.start_rc if text == "systemctl start ipsec" else 0
        return Completed(tuple(argv), rc, answers.get(text, ""), "no")

    def wait(self, seconds: float) -> None:
        self.time += seconds

    def now(self) -> float:
        return self.time

    @property
    def changes(self) -> list[str]:
        """What was told to pluto and the kernel."""
        return [
            text
            for text in self.seen
            if "show" not in text and "status" not in text and "ip " not in text[:3]
        ]


def done(host: Host, dialect: Dialect, root: Path) -> core.Outcome:
    return core.reauthenticate(NETWORKS, dialect, host, 10, root=root, wait=host.wait, now=host.now)


def test_opportunistic_4_hands_over_and_begins_beside_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    host = Host(sa(1, 2, ENTRY, "10.88.0.12"), sa(3, 4, ENTRY, "10.88.0.12"), status=TEMPLATE)
    # The new pluto begins to count again; what it has was made by it, whatever its number.
    exchanged = host.__call__

    def run(argv: Sequence[str], **rest: object) -> Completed:
        if list(argv) == ["systemctl", "start", "ipsec"]:
            host.states = ""
        return exchanged(argv, **rest)  # type: ignore[arg-type]

    answer = core.reauthenticate(NETWORKS, V4, run, 10, root=tmp_path, wait=host.wait, now=host.now)
    assert answer == core.Outcome({"10.88.0.12"}, set(), set())
    assert host.changes == [
        "systemctl cat ipsec",
        "systemctl daemon-reload",
        "ipsec whack --shutdown --leave-state",
        "systemctl is-active ipsec",
        "systemctl reset-failed ipsec",
        "systemctl start ipsec",
        "systemctl daemon-reload",
        "ipsec whack --asynchronous --oppohere 10.88.0.11 --oppothere 10.88.0.12",
    ]
    assert not (tmp_path / core.DROP_IN.lstrip("/")).exists()
    assert not (tmp_path / core.MEMORY.lstrip("/")).exists()


def test_what_has_to_be_made_anew_outlasts_an_interruption(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    host = Host(sa(1, 2, ENTRY, "10.88.0.12"), sa(3, 4, ENTRY, "10.88.0.12"), status=TEMPLATE)
    core.hand_over(NETWORKS, host, root=tmp_path, wait=host.wait)
    host.states = ""
    core.hand_over(NETWORKS, host, root=tmp_path, wait=host.wait)
    assert done(host, V4, tmp_path).reauthenticated == {"10.88.0.12"}


@pytest.mark.parametrize(("dialect", "name"), [(V5, PAIR), (V5, ENTRY), (V4, PAIR)])
def test_others_read_the_certificate_and_take_one_peer_after_the_other(
    dialect: Dialect, name: str, tmp_path: Path
) -> None:
    host = Host(sa(1, 2, name, "10.88.0.12"), sa(3, 4, name, "10.88.0.12"))
    begin = "--oppohere 10.88.0.11 --oppothere 10.88.0.12" if name == ENTRY else f"--initiate --name {PAIR}"
    assert done(host, dialect, tmp_path) == core.Outcome({"10.88.0.12"}, set(), set())
    assert host.changes == [
        "ipsec whack --rereadcerts",
        "ipsec whack --asynchronous --deletestate 1",
        f"ipsec whack --asynchronous {begin}",
    ]


def test_networks_of_one_peer_end_and_begin_together(tmp_path: Path) -> None:
    other = PAIR.replace("data", "store")
    before = sa(1, 2, PAIR, "10.88.0.12") + sa(3, 4, other, "10.89.0.12")
    status = "".join(
        f'000 "{name}": 10.88.0.11[@h1]...{peer}[@h2]; erouted; eroute owner: #2\n'
        for name, peer in ((PAIR, "10.88.0.12"), (other, "10.89.0.12"))
    )
    host = Host(before, sa(5, 6, PAIR, "10.88.0.12") + sa(7, 8, other, "10.89.0.12"), status=status)
    done(host, V4, tmp_path)
    assert host.changes[1:] == [
        "ipsec whack --asynchronous --deleteid --name @h2",
        f"ipsec whack --asynchronous --initiate --name {PAIR}",
        f"ipsec whack --asynchronous --initiate --name {other}",
    ]


def test_an_opportunistic_sa_ends_and_begins_in_one_message(tmp_path: Path) -> None:
    instance = f'000 "{ENTRY}"[1]: 10.88.0.11[CN=h1]...10.88.0.12[CN=h2]; erouted; eroute owner: #2\n'
    host = Host(sa(1, 2, ENTRY, "10.88.0.12"), sa(3, 4, ENTRY, "10.88.0.12"), status=TEMPLATE + instance)
    done(host, V5, tmp_path)
    assert host.changes[1:] == [
        "ipsec whack --asynchronous --deleteid --name CN=h2 --oppohere 10.88.0.11 --oppothere 10.88.0.12"
    ]


def test_an_sa_of_before_is_not_taken_for_a_new_one(tmp_path: Path) -> None:
    host = Host(sa(1, 2, PAIR, "10.88.0.12"), sa(1, 2, PAIR, "10.88.0.12"))
    assert done(host, V5, tmp_path).missing == {"10.88.0.12"}
    begun = [text for text in host.seen if "--initiate" in text]
    assert len(begun) > 2, "it should try again while there is time"


def test_peers_that_do_not_answer_keep_nobody_else_waiting() -> None:
    peers = [f"10.88.0.{number}" for number in range(12, 22)]
    states = "".join(sa(2 * n + 1, 2 * n + 2, ENTRY, peer) for n, peer in enumerate(peers))
    host = Host(states, states)
    each = core.associations_of([{"name": ENTRY, "peer": p, "established": True} for p in peers], NETWORKS)
    missing = core.begin(each, host, core.Clock(len(peers) * 1.5, host.wait, host.now), 99)
    asked = [text.rpartition(" ")[2] for text in host.seen if "--oppohere" in text]
    assert missing == set(each)
    assert asked[: len(peers)] == peers


@pytest.mark.parametrize(
    ("host", "error", "said"),
    [
        (Host("", "", unit="ExecStart=x"), ProblemsError, "systemctl restart ipsec"),
        (Host("", "", stops=False), IpsecError, "did not leave"),
        (Host("", "", start_rc=1), IpsecError, "was restarted"),
    ],
    ids=["a unit that would clear the kernel", "the old one stays", "the new one does not come"],
)
def test_exchange_that_fails_says_so_and_leaves_no_drop_in(
    host: Host, error: type[Exception], said: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=said):
        core.exchange(host, tmp_path, host.wait)
    assert not (tmp_path / core.DROP_IN.lstrip("/")).exists()
    if error is ProblemsError:
        assert "ipsec whack --shutdown --leave-state" not in host.seen


def test_somebody_elses_sas_are_not_touched() -> None:
    child = [
        {"name": "office", "peer": "10.88.0.12", "established": True},
        {"name": ENTRY, "peer": "10.99.0.12", "established": True},
        {"name": ENTRY, "peer": "10.88.0.13", "established": False},
        {"name": ENTRY, "peer": "10.88.0.14", "established": True},
    ]
    assert [a.peer for a in core.associations_of(child, NETWORKS)] == ["10.88.0.14"]


def kernel(spi: str, peer: str) -> State:
    return State("10.88.0.11", peer, spi, 1, "transport", "aes_gcm256", None, 0, 0)


def test_only_what_the_old_pluto_left_goes_and_only_where_there_is_something_new() -> None:
    own = "10.88.0.11"
    before = [
        (own, "10.88.0.12", "0x0000000a"),
        (own, "10.88.0.12", "0x0000000b"),
        (own, "10.88.0.13", "0x0000000c"),
    ]
    assert core.left_over(before, ["0xa", None], ["10.88.0.12"]) == [before[1]]


_POLICY = "src 10.88.0.11/32 dst 10.88.0.13/32 \n\tdir out {}\n"
_TEMPLATE = "\ttmpl src 0.0.0.0 dst 0.0.0.0\n\t\tproto esp reqid {} mode transport\n"


@pytest.mark.parametrize(
    ("policy", "goes"),
    [
        pytest.param(_POLICY.format("action block priority 0") + _TEMPLATE.format(0), True, id="drops"),
        pytest.param(_POLICY.format("priority 2088959"), True, id="passes"),
        pytest.param(_POLICY.format("priority 2801856") + _TEMPLATE.format(16413), False, id="of an SA"),
        pytest.param("", False, id="none"),
    ],
)
def test_what_the_old_pluto_dropped_or_let_pass_ends(policy: str, goes: bool) -> None:
    """Nobody else knows of it: it would stay for ever."""
    seen = []

    def run(argv: Sequence[str], **_options: object) -> Completed:
        seen.append(argv[3])
        return Completed(tuple(argv), 0, policy, "")

    core.drop_shunt(["src", "10.88.0.11/32", "dst", "10.88.0.13/32", "dir", "out"], run)
    assert seen == (["get", "delete"] if goes else ["get"])


def test_only_what_was_left_behind_is_retired() -> None:
    states = (
        sa(1, 2, ENTRY, "10.88.0.12", newest=False, spi="a1")
        + sa(3, 4, ENTRY, "10.88.0.12", newest=False, spi="a2")
        + sa(5, 6, ENTRY, "10.88.0.12", spi="a3")
        + sa(7, 8, ENTRY, "10.88.0.13", spi="a4")
    )
    host = Host(states, states)
    assert core.retire(["0x000000a1", "0x000000a4"], V4, host) == {"10.88.0.12"}
    assert [text for text in host.seen if "impair" in text] == [
        "ipsec whack --asynchronous --impair event-v2-rekey:1"
    ]


def test_an_ike_sa_whose_child_sa_carries_the_traffic_is_needed() -> None:
    # 4.x after a reauthentication without a Child SA: the newest IKE SA has none.
    states = sa(1, 2, ENTRY, "10.88.0.12").replace("REKEY in 9s; newest; idle", "REKEY in 9s; idle", 1)
    states += f'000 #3: "{ENTRY}"[1] ...10.88.0.12:500 STATE_V2_ESTABLISHED_IKE_SA (established IKE SA); newest; idle;\n'
    assert not [sa for sa in parse("", states).ike_sas if sa.superseded]


def test_sas_of_a_peer_are_ended_by_number_once_an_ike_sa_was_renewed() -> None:
    renewed = parse("", sa(3, 2, ENTRY, "10.88.0.12") + sa(5, 6, ENTRY, "10.88.0.13")).ike_sas
    assert [(each.serial, each.rekeyed) for each in renewed] == [(3, True), (5, False)]
    first = IkeSa(3, ENTRY, "10.88.0.12", peer_id="CN=h2", rekeyed=True)
    other = IkeSa(5, ENTRY, "10.88.0.13", peer_id="CN=h3")
    unknown = IkeSa(7, ENTRY, "10.88.0.14", established=False)
    assert ending([first, other, other, unknown]) == (
        ("--deletestate", "3"),
        ("--deleteid", "--name", "CN=h3"),
        ("--deletestate", "7"),
    )


class Shunned(Host):
    """A host whose pluto has SAs with *peers*, and makes them again after each of the first *accepts* invitations."""

    def __init__(self, peers: Sequence[str], accepts: int) -> None:
        self.peers, self.accepts = peers, accepts
        self.serial = 0
        super().__init__("", "")
        self.states = self.made()

    def made(self) -> str:
        """Return SAs with new numbers, one with each peer."""
        self.serial += 2 * len(self.peers)
        return "".join(
            sa(self.serial + 2 * n, self.serial + 2 * n + 1, ENTRY, p) for n, p in enumerate(self.peers)
        )

    def __call__(
        self, argv: Sequence[str], *, stdin: str | None = None, check: bool = True, timeout: float = 120.0
    ) -> Completed:
        done = super().__call__(argv, stdin=stdin, check=check, timeout=timeout)
        if "--deletestate" in argv:
            self.states = ""
        elif "--oppohere" in argv:
            self.states = self.made() if self.accepts > 0 else ""
            self.accepts -= 1
        return done

    def told(self, word: str) -> list[str]:
        """Return the last word of each command that has *word* in it."""
        return [text.rpartition(" ")[2] for text in self.seen if word in text]


H4 = "10.88.0.14"


def banished(
    host: Host, monkeypatch: pytest.MonkeyPatch, *left: State, peers: Sequence[str] = (H4,)
) -> tuple[set[str], set[str]]:
    monkeypatch.setattr(core, "read_states", lambda _run: list(left))
    return core.banish(peers, NETWORKS, host, 30, wait=host.wait, now=host.now)


def test_all_there_is_with_who_had_another_name_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also what has not authenticated, because pluto takes it for the host of before as long as that lasts."""
    host = Host("", "")
    sas = (
        IkeSa(4, ENTRY, "10.88.0.12", peer_id="O=x, CN=h2"),
        IkeSa(5, ENTRY, "10.88.0.12", peer_id="O=x, CN=h2", established=False),
        IkeSa(6, ENTRY, "10.88.0.12", established=False),
        IkeSa(7, ENTRY, "10.88.0.12", peer_id="O=y, CN=h2"),
        IkeSa(8, ENTRY, "10.88.0.13", peer_id="O=x, CN=h3"),
    )
    monkeypatch.setattr(core, "look_loaded", lambda _run: Loaded(ike_sas=sas))
    assert core.forget({"10.88.0.12": "CN=h2,O=y", "10.88.0.14": "CN=h4,O=y"}, host) == {"10.88.0.12"}
    assert host.seen == ["ipsec whack --deleteid --name O=x, CN=h2"]


@pytest.mark.parametrize("accepts", [0, 1, 4])
def test_a_peer_that_is_shut_out_has_to_be_refused_twice(
    accepts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = Shunned([H4], accepts)
    assert banished(host, monkeypatch) == ({H4}, set())
    assert host.told("--deletestate") == [str(2 + 2 * n) for n in range(accepts + 1)]
    # The last two are those that were refused.
    assert host.told("--oppohere") == [H4] * (accepts + 2)
    assert host.states == ""


def test_a_peer_that_is_accepted_again_and_again_is_returned(monkeypatch: pytest.MonkeyPatch) -> None:
    host = Shunned([H4], 1000)
    assert banished(host, monkeypatch) == ({H4}, {H4})
    assert host.time >= 30
    assert host.states == "", "even so its last SA is ended"


def test_others_keep_their_sas_when_one_is_shut_out(monkeypatch: pytest.MonkeyPatch) -> None:
    states = sa(1, 2, ENTRY, "10.88.0.12")
    host = Host(states, states)
    assert banished(host, monkeypatch, kernel("0x0a", "10.88.0.12")) == (set(), set())
    assert not any("--delete" in text or text.startswith("ip ") for text in host.seen)


@pytest.mark.parametrize("outbound", [True, False])
def test_what_only_the_kernel_has_left_goes_too(outbound: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host("", "")
    left, other = kernel("0x0b", H4), kernel("0x0c", "10.88.0.12")
    if not outbound:
        left = replace(left, source=H4, destination="10.88.0.11")
    assert banished(host, monkeypatch, left, other) == ({H4}, set())
    ends = "src 10.88.0.11 dst 10.88.0.14" if outbound else "src 10.88.0.14 dst 10.88.0.11"
    assert [text for text in host.seen if text.startswith("ip ")] == [
        f"ip xfrm state delete {ends} proto esp spi 0x0b"
    ]
