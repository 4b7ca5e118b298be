# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is decided about a member's certificate, on a database in memory."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from ansible_collections.underlay.ipsec.plugins.module_utils._errors import ProblemsError
from ansible_collections.underlay.ipsec.plugins.module_utils._nss import member
from ansible_collections.underlay.ipsec.plugins.module_utils._nss.database import (
    Content,
    Entry,
    MemoryDatabase,
)
from ansible_collections.underlay.ipsec.plugins.module_utils._nss.x509 import Certificate
from ansible_collections.underlay.ipsec.tests.unit.plugins import pki

CA = pki.as_host_sees(pki.authority())
OTHER_CA = pki.as_host_sees(pki.authority(1))
WANTED = member.Wanted.from_slice(pki.slice_certificate())
NICKNAME = WANTED.nickname
FITTING = pki.leaf()
NEXT = pki.leaf(subject=pki.name("h1", "gen2"), private_key=pki.key(1))
TWIN = pki.leaf(subject=pki.name("h1", "gen2"), private_key=pki.key(2))


def database(
    entries: dict[str, tuple[str, list[Certificate]]], without_key: list[Certificate] | None = None
) -> MemoryDatabase:
    """Return a database with the keys of all certificates but the CAs' and those named."""
    without = [CA, OTHER_CA, *(without_key or [])]
    return MemoryDatabase(
        [Entry(name, trust, tuple(certificates)) for name, (trust, certificates) in entries.items()],
        {c.public_key.key_id for _, listed in entries.values() for c in listed if c not in without},
    )


def summary(db: MemoryDatabase) -> dict[str, tuple[str, list[Certificate]]]:
    """Return what the database holds in the form that `database` takes."""
    return {entry.nickname: (entry.trust, list(entry.certificates)) for entry in db.content().entries}


@pytest.mark.parametrize(
    ("certificates", "reason"),
    [
        ([FITTING], None),
        ([NEXT], "subject changed"),
        ([], "missing"),
        ([FITTING, pki.leaf()], "several certificates with one nickname"),
        ([pki.leaf(issuer=pki.authority(1))], "issued by another CA"),
        ([pki.leaf(names=pki.alternative_names(["h1"], ["10.88.0.99"]))], "names changed"),
        ([pki.leaf(names=pki.alternative_names(["h1", "h2"], ["10.88.0.11"]))], "names changed"),
        ([pki.leaf(names=pki.alternative_names(["h1"], ["10.88.0.11"], ["urn:x"]))], "names changed"),
        ([pki.leaf(subject=pki.name("h2"))], "subject changed"),
        ([pki.leaf(subject=pki.name("h1", organization="other"))], "subject changed"),
        ([pki.leaf(private_key=pki.key(key_type="ecdsa-p256"))], "key type changed"),
        ([pki.leaf(starts=pki.NOW + pki.DAY)], "not yet valid"),
        ([pki.leaf(starts=pki.NOW - 9 * pki.DAY, ends=pki.NOW - pki.DAY)], "expired"),
        ([pki.leaf(ends=pki.NOW)], "expired"),
        ([pki.leaf(ends=pki.NOW + 182 * pki.DAY)], "expires"),
        ([pki.leaf(ends=pki.NOW + 184 * pki.DAY)], None),
    ],
)
def test_fault(certificates: list[Certificate], reason: str | None) -> None:
    db = database({NICKNAME: ("u,u,u", certificates)} if certificates else {})
    assert member.fault(db.content(), NICKNAME, WANTED, [CA], pki.NOW) == reason


def test_a_missing_key_is_a_fault() -> None:
    content = Content((Entry(NICKNAME, ",,", (FITTING,)),))
    assert member.fault(content, NICKNAME, WANTED, [CA], pki.NOW) == "private key missing"


def test_a_certificate_that_ends_with_its_ca_is_not_due_for_ever() -> None:
    ca = pki.authority(2, validity_days=90)
    last = pki.leaf(issuer=ca, ends=ca.certificate.not_valid_after_utc)
    content = database({NICKNAME: ("u,u,u", [last])}).content()
    assert member.fault(content, NICKNAME, WANTED, [pki.as_host_sees(ca)], pki.NOW) is None


READY = {"underlay-ca": ("CT,,", [CA]), NICKNAME: ("u,u,u", [FITTING])}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(READY, READY, id="nothing to do"),
        pytest.param({**READY, NICKNAME: ("Pu,u,u", [FITTING])}, READY, id="trusted as such"),
        pytest.param(
            {"underlay-ca": ("CT,,", [CA]), f"{NICKNAME}-new": ("u,u,u", [FITTING])},
            READY,
            id="swap interrupted before it began",
        ),
        pytest.param(
            {
                **READY,
                NICKNAME: ("u,u,u", [pki.leaf(ends=pki.NOW)]),
                f"{NICKNAME}-new": ("u,u,u", [NEXT]),
            },
            {**READY, NICKNAME: ("u,u,u", [NEXT])},
            id="swap not begun",
        ),
        pytest.param(
            {
                "underlay-ca": ("CT,,", [CA]),
                f"{NICKNAME}-old": ("u,u,u", [FITTING]),
                f"{NICKNAME}-new": ("u,u,u", [NEXT]),
            },
            {**READY, NICKNAME: ("u,u,u", [NEXT])},
            id="swap interrupted between its halves",
        ),
        pytest.param(
            {**READY, NICKNAME: ("u,u,u", [NEXT]), f"{NICKNAME}-old": ("u,u,u", [FITTING])},
            {**READY, NICKNAME: ("u,u,u", [NEXT])},
            id="swap interrupted before the end",
        ),
        pytest.param(
            {"underlay-ca": ("CT,,", [CA]), f"{NICKNAME}-old": ("u,u,u", [FITTING])},
            READY,
            id="the new one is gone",
        ),
        pytest.param({**READY, "mine": ("u,u,u", [NEXT])}, None, id="somebody else's certificate"),
    ],
)
def test_repair(before: dict[str, Any], after: dict[str, Any] | None) -> None:
    db = database(before)
    # Of what is signed elsewhere, any subject will do.
    wanted = replace(WANTED, source="external")
    member.repair(db, wanted, [CA], pki.NOW)
    assert summary(db) == (before if after is None else after)
    in_use = {c.public_key.key_id for _, listed in summary(db).values() for c in listed if c != CA}
    assert db.keys == in_use
    member.repair(db, wanted, [CA], pki.NOW)
    assert summary(db) == (before if after is None else after)


@pytest.mark.parametrize(
    ("before", "replaces"),
    [
        pytest.param({}, False, id="first"),
        pytest.param({NICKNAME: ("u,u,u", [NEXT])}, False, id="there already"),
        pytest.param({NICKNAME: ("u,u,u", [FITTING])}, True, id="replaces"),
        pytest.param({NICKNAME: ("u,u,u", [FITTING, pki.leaf()])}, True, id="replaces several"),
        pytest.param({NICKNAME: ("u,u,u", [TWIN, NEXT])}, True, id="NSS filed it beside its twin"),
        pytest.param({f"{NICKNAME}-new": ("u,u,u", [NEXT])}, False, id="was being added"),
        pytest.param({"mine": ("u,u,u", [NEXT])}, False, id="is there under another nickname"),
        pytest.param(
            {NICKNAME: ("u,u,u", [FITTING]), f"{NICKNAME}-new": ("u,u,u", [pki.leaf()])},
            True,
            id="another was being added",
        ),
        pytest.param(
            {NICKNAME: ("u,u,u", [pki.leaf(subject=pki.name("h1", "gen2"))])}, True, id="same subject"
        ),
    ],
)
def test_install(before: dict[str, Any], replaces: bool) -> None:
    db = database(before)
    db.keys.add(NEXT.public_key.key_id)
    assert member.install(db, NICKNAME, NEXT, [CA], pki.NOW) is replaces
    assert summary(db) == {NICKNAME: ("u,u,u", [NEXT])}
    assert db.keys == {NEXT.public_key.key_id}
    assert member.install(db, NICKNAME, NEXT, [CA], pki.NOW) is False


@pytest.mark.parametrize(
    ("certificate", "with_key", "said"),
    [
        (pki.leaf(issuer=pki.authority(1)), True, "was not issued by the given CA"),
        (FITTING, False, "the private key of the certificate"),
        (pki.leaf(starts=pki.NOW + 365 * pki.DAY), True, "this host's clock says"),
        (pki.leaf(ends=pki.NOW - timedelta(seconds=1)), True, "this host's clock says"),
        (pki.leaf(subject=pki.name("foreign"), private_key=pki.key(1)), True, "as mine"),
    ],
)
def test_install_refuses(certificate: Certificate, with_key: bool, said: str) -> None:
    foreign = pki.leaf(subject=pki.name("foreign"), private_key=pki.key(2))
    before = {NICKNAME: ("u,u,u", [NEXT]), "mine": ("u,u,u", [foreign])}
    db = database(before)
    if with_key:
        db.keys.add(certificate.public_key.key_id)
    with pytest.raises(ProblemsError, match=said):
        member.install(db, NICKNAME, certificate, [CA], pki.NOW)
    assert summary(db) == before


@pytest.mark.parametrize("with_ca", [True, False])
def test_uninstall(with_ca: bool) -> None:
    foreign = pki.leaf(subject=pki.name("foreign"), private_key=pki.key(2))
    db = database({**READY, f"{NICKNAME}-old": ("u,u,u", [NEXT]), "mine": ("u,u,u", [foreign])})
    member.uninstall(db, NICKNAME, "underlay-ca" if with_ca else None)
    rest = {} if with_ca else {"underlay-ca": ("CT,,", [CA])}
    assert summary(db) == {**rest, "mine": ("u,u,u", [foreign])}
    assert db.keys == {foreign.public_key.key_id}


PKCS12 = {"source": "pkcs12", "fingerprint": FITTING.fingerprint}
MORE = pki.leaf(subject=pki.name("x"), names=pki.alternative_names(["h1", "h1.x"], ["10.88.0.11"], ["urn:x"]))


@pytest.mark.parametrize(
    ("changes", "certificate", "reason"),
    [
        (PKCS12, FITTING, None),
        (PKCS12, NEXT, "another certificate than in the bundle"),
        ({**PKCS12, "ip": ["10.88.0.99"], "subject": {"CN": "x"}, "key_type": "rsa-2048"}, FITTING, None),
        ({"source": "external"}, MORE, None),
        ({"source": "external"}, pki.leaf(issuer=pki.authority(1)), None),
        ({"source": "external"}, pki.leaf(issuer=pki.authority(2)), "issued by another CA"),
        ({"source": "external", "dns": ["h2"]}, MORE, "names changed"),
        ({"source": "external", "ip": ["10.88.0.11", "10.88.0.12"]}, MORE, "names changed"),
        ({"source": "external", "key_type": "ecdsa-p256"}, MORE, "key type changed"),
        ({"source": "external"}, pki.leaf(ends=pki.NOW + 182 * pki.DAY), "expires"),
    ],
)
def test_fault_of_what_was_made_elsewhere(
    changes: dict[str, Any], certificate: Certificate, reason: str | None
) -> None:
    wanted = member.Wanted.from_slice(pki.slice_certificate(**changes))
    content = database({NICKNAME: ("u,u,u", [certificate])}).content()
    assert member.fault(content, NICKNAME, wanted, [CA, OTHER_CA], pki.NOW) == reason
