# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A CA is created, adopted and followed by another one, wherever a run is interrupted."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.underlay.ipsec.plugins.module_utils._errors import ProblemsError
from ansible_collections.underlay.ipsec.plugins.module_utils._pki import lifecycle
from ansible_collections.underlay.ipsec.plugins.module_utils._pki.authority import Authority, encrypt
from ansible_collections.underlay.ipsec.plugins.module_utils._pki.folder import Folder
from ansible_collections.underlay.ipsec.plugins.module_utils._pki.lifecycle import Served, Wanted
from ansible_collections.underlay.ipsec.tests.unit.plugins import pki
from ansible_collections.underlay.ipsec.tests.unit.plugins.module_utils._pki import cas
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

ROOT = cas.ca("root")
SUB = cas.ca("sub", ROOT)
OTHER = cas.ca("other")


class Controller:
    """A control node: a folder for a CA, and files of the user."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folder = Folder(str(root / "ca"))
        self.wanted = Wanted(pki.PASSPHRASE)
        self.now = pki.NOW

    def run(self, *, check: bool = False, **changes: Any) -> Served:
        """Serve what is wanted, with *changes*."""
        return lifecycle.serve(self.folder, replace(self.wanted, **changes), self.now, check=check)

    def file(self, name: str, content: bytes) -> str:
        """Write a file of the user; return its path."""
        path = self.root / name
        path.write_bytes(content)
        return str(path)

    def give(self, ca: cas.Ca, file_passphrase: str | None = None, **changes: Any) -> None:
        """Set the variables so that *ca* is to be adopted."""
        self.wanted = replace(
            self.wanted,
            certificate=self.file("given.crt", ca.bundle),
            key=self.file("given.key", private(ca.authority, file_passphrase)),
            **changes,
        )

    def take_away(self) -> None:
        """Unset the variables."""
        self.wanted = replace(self.wanted, certificate=None, key=None, serial_file=None)

    def files(self) -> dict[str, bytes]:
        """Return what is in the folder, but for the lock."""
        root = Path(self.folder.path)
        found = {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}
        return {name: content for name, content in found.items() if name != "lock"}


def private(
    authority: Authority,
    passphrase: str | None = None,
    form: serialization.PrivateFormat = serialization.PrivateFormat.PKCS8,
) -> bytes:
    """Return a CA's key in PEM."""
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if passphrase:
        encryption = serialization.BestAvailableEncryption(passphrase.encode())
    return authority.key.private_bytes(serialization.Encoding.PEM, form, encryption)


def current(served: Served) -> x509.Certificate:
    """Return the CA whose certificates are wanted."""
    assert served.current is not None
    return served.current.certificate


@pytest.fixture
def controller(tmp_path: Path) -> Controller:
    """Return a control node without a CA."""
    return Controller(tmp_path)


def test_create(controller: Controller) -> None:
    assert controller.run(check=True).changes
    assert not Path(controller.folder.path).exists()
    served = controller.run()
    assert served.changes == ("a CA was created",)
    assert (served.phase, served.authorities, served.crls) == ("steady", (), ())
    before = controller.files()
    assert controller.run() == replace(served, changes=())
    assert controller.files() == before


@pytest.mark.parametrize("passphrase", [None, "of the file"])
@pytest.mark.parametrize(
    "form", [serialization.PrivateFormat.PKCS8, serialization.PrivateFormat.TraditionalOpenSSL]
)
def test_adopt(controller: Controller, passphrase: str | None, form: serialization.PrivateFormat) -> None:
    controller.give(SUB, key_passphrase=passphrase)
    Path(controller.wanted.key or "").write_bytes(private(SUB.authority, passphrase, form))
    foretold = controller.run(check=True)
    assert not Path(controller.folder.path).exists()
    served = controller.run()
    assert foretold == served
    assert served.changes == ("a CA was adopted",)
    assert current(served) == SUB.certificate
    assert served.authorities == (ROOT.certificate,)
    assert controller.folder.open(pki.PASSPHRASE, pki.NOW).key.public_key() == SUB.certificate.public_key()
    key = Path(controller.folder.key_path)
    assert b"ENCRYPTED" in key.read_bytes()
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    before = controller.files()
    assert controller.run().changes == ()
    controller.take_away()
    assert controller.run().changes == ()
    assert controller.files() == before


def test_adopt_where_a_creation_was_interrupted(controller: Controller) -> None:
    controller.folder.enter(check=False)
    lone = encrypt(OTHER.authority.key, pki.PASSPHRASE)
    Path(controller.folder.key_path).write_text(lone)
    controller.give(ROOT)
    controller.run()
    assert controller.files()["retired/without-certificate.key"].decode() == lone


def test_the_key_is_not_needed_again(controller: Controller) -> None:
    controller.give(ROOT)
    controller.run()
    Path(controller.wanted.key or "").unlink()
    assert controller.run().changes == ()


def test_the_chain_may_change(controller: Controller) -> None:
    controller.give(SUB)
    controller.run()
    again = cas.ca("root", ends=pki.NOW + 20 * pki.DAY)  # the same key and name
    controller.file("given.crt", cas.pem(SUB.certificate, again.certificate))
    assert controller.run().authorities == (again.certificate,)
    assert controller.run().changes == ()


@pytest.mark.parametrize("text", ["0F", "0F\n"])
def test_serial_file_is_remembered(controller: Controller, text: str) -> None:
    serial = controller.file("ca.serial.txt", text.encode())
    controller.give(ROOT)
    assert controller.run().current.serial_file is None  # type: ignore[union-attr]
    served = controller.run(serial_file=serial)
    assert served.changes == ("what goes with the CA was taken over",)
    controller.take_away()
    assert controller.run().current.serial_file == serial  # type: ignore[union-attr]


ED25519 = ed25519.Ed25519PrivateKey.generate().private_bytes(
    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
)
KEY = private(SUB.authority)
LOCKED = private(SUB.authority, "of the file")
EXPIRED = cas.ca("expired", ends=pki.NOW)


@pytest.mark.parametrize(
    ("certificate", "key", "said", "variable"),
    [
        pytest.param(SUB.bundle, None, "it is not set", "ipsec_ca_key", id="no key"),
        pytest.param(
            None, KEY, "it is not set, and ipsec_ca_key is", "ipsec_ca_certificate", id="only a key"
        ),
        pytest.param(b"", KEY, "has no certificate in PEM", "ipsec_ca_certificate", id="empty"),
        pytest.param(
            SUB.bundle[:-40],
            KEY,
            "given.crt is truncated",
            "ipsec_ca_certificate",
            id="certificate truncated",
        ),
        pytest.param(KEY, KEY, "has no certificate in PEM", "ipsec_ca_certificate", id="key for certificate"),
        pytest.param(
            cas.pem(SUB.certificate),
            KEY,
            "the chain in {} is incomplete: the certificate of CN=root,O=Example is missing",
            "ipsec_ca_certificate",
            id="chain incomplete",
        ),
        pytest.param(
            SUB.bundle + OTHER.bundle,
            KEY,
            "no issuer of the first: CN=other,O=Example",
            "ipsec_ca_certificate",
            id="a stranger in the chain",
        ),
        pytest.param(
            cas.pem(ROOT.certificate, SUB.certificate),
            private(ROOT.authority),
            "no issuer of the first: CN=sub,O=Example",
            "ipsec_ca_certificate",
            id="chain upside down",
        ),
        pytest.param(
            cas.ca("leaf", ROOT, is_ca=False).bundle,
            private(cas.ca("leaf", ROOT, is_ca=False).authority),
            "CN=leaf,O=Example is not the certificate of a CA",
            "ipsec_ca_certificate",
            id="no CA",
        ),
        pytest.param(
            cas.ca("below", cas.ca("short", length=0)).bundle,
            private(cas.ca("below", cas.ca("short", length=0)).authority),
            "CN=short,O=Example allows 0 CAs below it",
            "ipsec_ca_certificate",
            id="pathlen",
        ),
        pytest.param(
            EXPIRED.bundle, private(EXPIRED.authority), "expired on", "ipsec_ca_certificate", id="expired"
        ),
        pytest.param(
            cas.ca("under expired", EXPIRED).bundle,
            private(cas.ca("under expired", EXPIRED).authority),
            "the certificate of CN=expired,O=Example expired on",
            "ipsec_ca_certificate",
            id="root expired",
        ),
        pytest.param(
            cas.ca("early", starts=pki.NOW + pki.DAY).bundle,
            private(cas.ca("early", starts=pki.NOW + pki.DAY).authority),
            "is not valid before",
            "ipsec_ca_certificate",
            id="not yet valid",
        ),
        pytest.param(
            SUB.bundle,
            private(OTHER.authority),
            "does not belong to the first certificate",
            "ipsec_ca_key",
            id="key does not match",
        ),
        pytest.param(SUB.bundle, KEY[:100], "is not a whole key in PEM", "ipsec_ca_key", id="key truncated"),
        pytest.param(SUB.bundle, b"", "is not a whole key in PEM", "ipsec_ca_key", id="key empty"),
        pytest.param(SUB.bundle, SUB.bundle, "cannot be read", "ipsec_ca_key", id="certificate for key"),
        pytest.param(SUB.bundle, ED25519, "neither an ECDSA nor an RSA key", "ipsec_ca_key", id="Ed25519"),
        pytest.param(
            SUB.bundle,
            LOCKED,
            "is encrypted, and its passphrase is not set",
            "ipsec_ca_key_passphrase",
            id="passphrase missing",
        ),
    ],
)
def test_what_cannot_be_adopted(
    controller: Controller, certificate: bytes | None, key: bytes | None, said: str, variable: str
) -> None:
    paths = {
        "certificate": None if certificate is None else controller.file("given.crt", certificate),
        "key": None if key is None else controller.file("given.key", key),
    }
    refused(controller, said.format(paths["certificate"]), variable, **paths)
    assert controller.files() == {}
    # A CA that is there stays as it is.
    controller.run()
    refused(controller, said.format(paths["certificate"]), variable, rollover="prepare", **paths)


def refused(controller: Controller, said: str, variable: str, **changes: Any) -> None:
    """Expect one clear problem, and nothing changed."""
    before = controller.files()
    for check in (True, False):
        with pytest.raises(ProblemsError) as caught:
            controller.run(check=check, **changes)
        (problem,) = caught.value.problems
        assert said in problem.message
        assert problem.variable == variable
        assert controller.files() == before


def test_passphrases(controller: Controller) -> None:
    controller.give(SUB, "of the file")
    refused(
        controller,
        "cannot be decrypted with this passphrase",
        "ipsec_ca_key_passphrase",
        key_passphrase="wrong",
    )
    refused(controller, "is missing", "ipsec_ca_passphrase", passphrase=None)
    controller.run(key_passphrase="of the file")
    refused(controller, "cannot be decrypted", "ipsec_ca_passphrase", passphrase="wrong")
    controller.take_away()
    refused(controller, "cannot be decrypted", "ipsec_ca_passphrase", passphrase="wrong", rollover="prepare")


@pytest.mark.parametrize("text", ["", "xyz", "1 2", "-1", "F" * 17])
def test_bad_serial_files(controller: Controller, text: str) -> None:
    controller.give(ROOT)
    said = "does not hold one hexadecimal number"
    refused(controller, said, "ipsec_ca_serial", serial_file=controller.file("serial", text.encode()))


@pytest.mark.parametrize(
    ("name", "variable"),
    [
        ("certificate", "ipsec_ca_certificate"),
        ("key", "ipsec_ca_key"),
        ("serial_file", "ipsec_ca_serial"),
    ],
)
def test_files_that_are_not_there(controller: Controller, name: str, variable: str) -> None:
    controller.give(ROOT)
    refused(controller, "cannot be read: No such file", variable, **{name: str(controller.root / "none")})


def test_a_damaged_ledger(controller: Controller) -> None:
    controller.run()
    Path(controller.folder.ledger.path).write_text("damage\n")
    controller.give(OTHER)
    for rollover in ("none", "prepare"):
        before = controller.files()
        with pytest.raises(ProblemsError, match=r"line 1 of .* is damaged"):
            controller.run(rollover=rollover)
        assert controller.files() == before


def test_damaged_changes(controller: Controller) -> None:
    controller.run()
    Path(controller.folder.path, "changes.json").write_text("{")
    refused(controller, "changes.json is damaged", "ipsec_ca_dir")


def test_another_ca_is_not_adopted_by_the_way(controller: Controller) -> None:
    controller.run()
    controller.give(OTHER)
    refused(controller, "has another CA, CN=underlay.ipsec CA", "ipsec_ca_certificate")


def test_a_ca_that_may_not_sign_lists(controller: Controller) -> None:
    controller.give(cas.ca("no lists", usage=True))
    refused(controller, "may not sign revocation lists", "ipsec_ca_certificate", crl=True)
    assert controller.run().crls == ()


class TestOtherSources:
    """The CA of certificates that come from elsewhere: its key is not here."""

    @pytest.fixture(params=["pkcs12", "external"])
    def trusting(self, controller: Controller, request: pytest.FixtureRequest) -> Controller:
        path = controller.file("given.crt", SUB.bundle)
        controller.wanted = Wanted(None, source=request.param, certificate=path)
        return controller

    def test_trust(self, trusting: Controller) -> None:
        served = trusting.run()
        assert served.changes == ("a CA is trusted",)
        assert (current(served), served.authorities) == (SUB.certificate, (ROOT.certificate,))
        assert trusting.run().changes == ()
        assert not any(name.endswith(".key") for name in trusting.files())

    def test_what_is_refused(self, trusting: Controller) -> None:
        refused(trusting, "it is not set", "ipsec_ca_certificate", certificate=None)
        refused(trusting, "it needs a revocation list", "ipsec_crl_strict", crl=True)
        trusting.run()
        refused(trusting, "is in use already", "ipsec_ca_certificate", rollover="prepare")
        trusting.file("given.crt", OTHER.bundle)
        refused(trusting, "has another CA", "ipsec_ca_certificate")

    def test_rollover(self, trusting: Controller) -> None:
        trusting.run()
        trusting.file("given.crt", OTHER.bundle)
        assert trusting.run(rollover="prepare").authorities == (ROOT.certificate, OTHER.certificate)
        assert trusting.run().changes == ()
        assert current(trusting.run(rollover="switch")) == OTHER.certificate
        assert trusting.run(rollover="finish").authorities == ()
        assert trusting.run().changes == ()

    def test_the_key_comes_later(self, trusting: Controller) -> None:
        trusting.run()
        trusting.give(SUB, source="ca", passphrase=pki.PASSPHRASE)
        assert trusting.run().changes == ("what goes with the CA was taken over",)
        assert trusting.folder.open(pki.PASSPHRASE, pki.NOW).certificate == SUB.certificate
        assert trusting.run().changes == ()

    def test_from_an_own_ca_and_back(self, trusting: Controller) -> None:
        own = Wanted(pki.PASSPHRASE)
        theirs, trusting.wanted = trusting.wanted, own
        first = current(trusting.run())
        trusting.wanted = theirs
        refused(trusting, "has another CA", "ipsec_ca_certificate")
        for rollover in ("prepare", "switch", "finish"):
            trusting.run(rollover=rollover)
        assert current(trusting.run()) == SUB.certificate
        trusting.wanted = own
        refused(trusting, "has ca.crt but no ca.key", "ipsec_ca_dir")
        for rollover in ("prepare", "switch", "finish"):
            trusting.run(rollover=rollover)
        assert current(trusting.run()) not in (first, SUB.certificate)


class TestRollover:
    """From one CA to the next."""

    @pytest.fixture(params=["created", "adopted"])
    def made(self, controller: Controller, request: pytest.FixtureRequest) -> Controller:
        if request.param == "adopted":
            controller.give(SUB)
        controller.run(crl=True)
        controller.take_away()
        return controller

    @pytest.mark.parametrize("adopt", [False, True])
    def test_steps(self, made: Controller, adopt: bool) -> None:
        first = made.run()
        if adopt:
            made.give(OTHER)
        before = made.files()
        assert made.run(check=True, rollover="prepare").changes
        assert made.files() == before

        prepared = made.run(rollover="prepare")
        assert (prepared.phase, current(prepared)) == ("prepared", current(first))
        following = prepared.authorities[-1]
        assert prepared.authorities == (*first.authorities, following)
        assert (following == OTHER.certificate) is adopt
        assert made.run(rollover="prepare").changes == ()
        made.take_away()
        assert made.run().phase == "prepared"
        refused_here = made.files()
        with pytest.raises(ProblemsError, match="the next CA does not sign yet"):
            made.run(rollover="finish")
        assert made.files() == refused_here
        foretold = made.run(check=True, rollover="switch")
        assert made.files() == refused_here

        switched = made.run(rollover="switch")
        assert foretold == switched
        assert (switched.phase, current(switched)) == ("switched", following)
        assert set(switched.authorities) == {current(first), *first.authorities}
        assert made.folder.open(pki.PASSPHRASE, pki.NOW).certificate == following
        for rollover in ("switch", "prepare", "none"):
            again = made.run(rollover=rollover)
            assert (again.changes, again.phase) == ((), "switched")

        foretold = made.run(check=True, rollover="finish")
        assert made.run().phase == "switched"
        finished = made.run(rollover="finish")
        assert foretold == finished
        assert (finished.phase, current(finished), finished.authorities) == ("steady", following, ())
        assert made.run(rollover="finish").changes == ()
        retired = f"retired/{current(first).fingerprint(hashes.SHA256()).hex()}"
        assert {name for name in made.files() if name.startswith(retired)} >= {
            f"{retired}.crt",
            f"{retired}.key",
        }
        assert not any(name.startswith(("next", "old")) for name in made.files())

    def test_switch_needs_prepare(self, made: Controller) -> None:
        with pytest.raises(ProblemsError, match="there is no next CA"):
            made.run(rollover="switch")
        assert made.run(check=True, rollover="switch").changes == ()

    def test_a_third_ca(self, made: Controller) -> None:
        made.run(rollover="prepare")
        made.give(OTHER)
        refused(made, "is a third CA", "ipsec_ca_certificate")
        made.take_away()
        made.run(rollover="switch")
        made.give(OTHER)
        for rollover in ("none", "prepare"):
            refused(made, "is a third CA", "ipsec_ca_certificate", rollover=rollover)

    def test_a_retired_ca_is_not_taken_back(self, controller: Controller) -> None:
        controller.give(ROOT)
        controller.run()
        for rollover in ("prepare", "switch", "finish"):
            controller.run(rollover=rollover)
        (warning,) = controller.run().warnings
        assert "was retired" in warning
        refused(controller, "was retired before", "ipsec_ca_certificate", rollover="prepare")

    def test_two_of_one_name(self, controller: Controller) -> None:
        controller.give(SUB)
        controller.run()
        controller.give(cas.ca("other", cas.ca("root", length=3)))
        refused(controller, "CN=root,O=Example in", "ipsec_ca_certificate", rollover="prepare")
        controller.give(cas.ca("below", ROOT))  # one root for both is no harm
        assert controller.run(rollover="prepare").authorities == (
            ROOT.certificate,
            cas.ca("below", ROOT).certificate,
        )

    def test_lists_of_both(self, made: Controller) -> None:
        assert [crl.slot for crl in made.run(crl=True).crls] == ["ca"]
        assert [crl.slot for crl in made.run(crl=True, rollover="prepare").crls] == ["ca", "next"]
        assert [crl.slot for crl in made.run(crl=True, rollover="switch").crls] == ["ca", "old"]
        assert [crl.slot for crl in made.run(crl=True, rollover="finish").crls] == ["ca"]

    def test_from_an_expired_ca(self, made: Controller) -> None:
        made.now += timedelta(days=3700)
        with pytest.raises(ProblemsError, match="change to a new CA"):
            made.run()
        for rollover in ("prepare", "switch", "finish"):
            made.run(rollover=rollover)
        assert current(made.run()).not_valid_after_utc > made.now

    @pytest.mark.parametrize("adopt", [False, True])
    @pytest.mark.parametrize("rollover", ["prepare", "switch", "finish"])
    def test_interrupted_anywhere(
        self, made: Controller, rollover: str, adopt: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for step in ("prepare", "switch", "finish"):
            if adopt and step == "prepare":
                made.give(OTHER)
            if step == rollover:
                self._interrupt(made, step, monkeypatch)
            made.run(rollover=step)
        before = current(made.run())
        assert made.run().phase == "steady"
        assert not adopt or before == OTHER.certificate
        files = made.files()
        assert "changes.json" not in files
        assert not any(name.startswith(("next", "old")) for name in files)
        keys = [name for name in files if name.endswith(".key") and name != "ca.key"]
        assert len(keys) == 1
        assert not any(name.startswith(".") for name in files)

    def _interrupt(self, made: Controller, rollover: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """Run one step again and again, each time killed one system call later."""
        for limit in range(100):
            assert limit < 99
            count = {"calls": 0}
            with monkeypatch.context() as patch:
                for name in ("replace", "unlink", "fsync"):
                    patch.setattr(os, name, killed_after(limit, count, getattr(os, name)))
                done = False
                with suppress(Killed):
                    made.run(rollover=rollover)
                    done = True
            if done:
                return
            # Between two runs with the rollover there may be others, and they go on working.
            for check in (True, False):
                served = made.run(check=check, certificate=None, key=None)
                assert served.current is not None


class Killed(BaseException):
    """What a test throws where a process would be killed."""


def killed_after(limit: int, count: dict[str, int], call: Callable[..., Any]) -> Callable[..., Any]:
    """Return *call* that raises instead, once *limit* calls were made."""

    def counted(*arguments: Any, **options: Any) -> Any:
        if count["calls"] >= limit:
            raise Killed
        count["calls"] += 1
        return call(*arguments, **options)

    return counted


def test_an_adoption_interrupted_anywhere(controller: Controller, monkeypatch: pytest.MonkeyPatch) -> None:
    controller.give(SUB)
    for limit in range(100):
        assert limit < 99
        with monkeypatch.context() as patch:
            count = {"calls": 0}
            for name in ("replace", "unlink", "fsync"):
                patch.setattr(os, name, killed_after(limit, count, getattr(os, name)))
            with suppress(Killed):
                controller.run()
                break
        # A half of it is seen by nobody.
        names = {name for name in controller.files() if not name.startswith(".")}
        assert "changes.json" in names or names in (set(), {"ca.crt", "ca.key", "chain.crt"})
    assert current(controller.run()) == SUB.certificate
    assert set(controller.files()) == {"ca.crt", "ca.key", "chain.crt"}
