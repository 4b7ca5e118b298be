# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests go out, and only the right certificates come in."""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from ansible_collections.underlay.ipsec.plugins.module_utils._errors import ProblemsError
from ansible_collections.underlay.ipsec.plugins.module_utils._pki import exchange as core
from ansible_collections.underlay.ipsec.plugins.module_utils._pki.exchange import Directory, Exchanged
from ansible_collections.underlay.ipsec.plugins.module_utils._pki.signing import Entitlement
from ansible_collections.underlay.ipsec.tests.unit.plugins import pki
from ansible_collections.underlay.ipsec.tests.unit.plugins.module_utils._pki import cas
from cryptography import x509

ROOT = cas.ca("root")
SUB = cas.ca("sub", ROOT)
OTHER = cas.ca("other")


def request(member: str, number: int | None = None) -> str:
    """Return the request that *member* is entitled to; with another key for another number."""
    index = int(member.removeprefix("h"))
    names = pki.alternative_names([member], [f"10.88.0.{10 + index}"])
    return pki.request(pki.name(member), names, pki.key(index if number is None else number))


class Exchange:
    """A directory with the requests of h1 and h2."""

    def __init__(self, path: Path) -> None:
        self.directory = Directory(str(path / "signing"))
        self.requests = {member: request(member) for member in ("h1", "h2")}
        self.authorities = SUB.bundle

    def run(self) -> Exchanged:
        """Exchange what there is."""
        entitled = {m: Entitlement.from_slice(m, pki.slice_certificate(m)) for m in self.requests}
        return core.exchange(self.directory, self.requests, entitled, self.authorities, pki.NOW)

    def put(self, member: str, *certificates: x509.Certificate | bytes) -> None:
        """Put what came back for *member*."""
        data = [each if isinstance(each, bytes) else cas.pem(each) for each in certificates]
        Path(self.directory.certificate(member)).write_bytes(b"".join(data))

    def taken(self) -> set[str]:
        """Return whose certificate was taken over."""
        return {path.stem for path in Path(self.directory.issued_path).iterdir()}


@pytest.fixture
def exchange(tmp_path: Path) -> Exchange:
    """Return an exchange in which nothing has happened yet."""
    return Exchange(tmp_path)


def test_out_and_in(exchange: Exchange) -> None:
    first = exchange.run()
    assert first == Exchanged(("h1", "h2"), ("h1", "h2"), (), ())
    path = Path(exchange.directory.request("h1"))
    assert path.read_text() == exchange.requests["h1"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    said = core.to_sign(exchange.directory, first.waiting)
    assert "2 certificates are not there yet" in said.message
    assert str(path) in said.remedy
    assert exchange.run() == Exchanged((), ("h1", "h2"), (), ())
    exchange.put("h1", cas.member(SUB))
    assert exchange.run() == Exchanged((), ("h2",), (), ())
    assert exchange.taken() == set()
    leaf = cas.member(SUB, "h2")
    exchange.put("h2", b"some text\n", leaf, SUB.bundle)
    assert exchange.run() == Exchanged((), (), ("h1", "h2"), ())
    assert Path(exchange.directory.issued("h2")).read_bytes() == cas.pem(leaf)
    assert exchange.run() == Exchanged((), (), (), ())


def test_the_certificate_need_not_be_the_first(exchange: Exchange) -> None:
    exchange.run()
    exchange.put("h1", SUB.bundle, cas.member(SUB))
    exchange.put("h2", cas.member(SUB, "h2"))
    assert exchange.run().issued == ("h1", "h2")


def test_renewal(exchange: Exchange) -> None:
    exchange.run()
    exchange.put("h1", cas.member(SUB))
    exchange.put("h2", cas.member(SUB, "h2"))
    exchange.run()
    exchange.requests = {"h1": request("h1", number=7)}
    assert exchange.run() == Exchanged(("h1",), ("h1",), (), ())
    exchange.put("h1", cas.member(SUB, private_key=pki.key(7)))
    assert exchange.run() == Exchanged((), (), ("h1",), ())


def test_names_may_be_more(exchange: Exchange) -> None:
    exchange.run()
    exchange.put("h1", cas.member(SUB, dns=("H1", "other.example.org")))
    exchange.put("h2", cas.member(SUB, "h2"))
    assert exchange.run().issued == ("h1", "h2")


@pytest.mark.parametrize(
    ("make", "said"),
    [
        pytest.param(lambda: b"", "has no certificate in PEM", id="empty"),
        pytest.param(lambda: b"\x30\x82\x01\x00", "has no certificate in PEM", id="DER"),
        pytest.param(lambda: cas.pem(cas.member(SUB))[:-30], "is truncated", id="truncated"),
        pytest.param(
            lambda: cas.member(SUB, "h2"),
            "h1.crt is the certificate for the request of h2, and came back for h1",
            id="for another host",
        ),
        pytest.param(
            lambda: cas.member(SUB, private_key=pki.key(9)),
            "does not belong to the key of the request",
            id="another key",
        ),
        pytest.param(lambda: cas.member(SUB, ends=pki.NOW), "expired on", id="expired"),
        pytest.param(
            lambda: cas.member(SUB, starts=pki.NOW + pki.DAY), "is not valid before", id="not yet valid"
        ),
        pytest.param(
            lambda: cas.member(SUB, dns=("h3",)),
            "is for h3, 10.88.0.11 (subject alternative names), and not for h1",
            id="wrong name",
        ),
        pytest.param(
            lambda: cas.member(OTHER),
            "the certificate of the issuer CN=other,O=Example is missing",
            id="wrong CA",
        ),
        pytest.param(
            lambda: cas.pem(cas.member(cas.ca("third", ROOT)), cas.ca("third", ROOT).certificate),
            "its chain is incomplete: the certificate of the issuer CN=third,O=Example is missing",
            id="an intermediate that hosts do not know",
        ),
    ],
)
def test_what_is_not_taken(
    exchange: Exchange, make: Callable[[], x509.Certificate | bytes], said: str
) -> None:
    exchange.run()
    exchange.put("h1", make())
    exchange.put("h2", cas.member(SUB, "h2"))
    done = exchange.run()
    (problem,) = done.problems
    assert said in problem.message
    assert problem.host == "h1"
    assert (done.issued, done.waiting) == ((), ())
    assert exchange.taken() == set()


def test_an_incomplete_bundle(exchange: Exchange) -> None:
    exchange.authorities = cas.pem(SUB.certificate)
    exchange.run()
    exchange.put("h1", cas.member(SUB))
    exchange.requests.pop("h2")
    (problem,) = exchange.run().problems
    assert "CN=root,O=Example is missing" in problem.message


def test_all_at_once(exchange: Exchange) -> None:
    exchange.requests["h3"] = request("h3")
    exchange.run()
    exchange.put("h1", cas.member(SUB, "h2"))
    exchange.put("h2", cas.member(SUB, "h1"))
    done = exchange.run()
    assert [problem.host for problem in done.problems] == ["h1", "h2"]
    assert done.waiting == ("h3",)


def test_a_request_that_is_not_allowed_does_not_go_out(exchange: Exchange) -> None:
    exchange.requests["h1"] = request("h2", number=1)
    with pytest.raises(ProblemsError, match="has the subject"):
        exchange.run()
    assert not Path(exchange.directory.path).exists()
