# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The two modules together, on a real NSS database, with real signatures.

In the order: missing input, check mode, create, idempotent, update, absent.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.underlay.ipsec.plugins.action import nss_pkcs12 as nss_pkcs12_action
from ansible_collections.underlay.ipsec.plugins.module_utils._errors import CommandError, ProblemsError
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan import renewed
from ansible_collections.underlay.ipsec.plugins.module_utils._nss.database import CertutilDatabase, Content
from ansible_collections.underlay.ipsec.plugins.module_utils._nss.x509 import (
    Certificate,
    Names,
    certificate_from_pem,
)
from ansible_collections.underlay.ipsec.plugins.module_utils._pki.authority import Authority
from ansible_collections.underlay.ipsec.plugins.module_utils._pki.folder import Folder
from ansible_collections.underlay.ipsec.plugins.module_utils._pki.keys import generate
from ansible_collections.underlay.ipsec.plugins.module_utils._pki.lifecycle import Wanted, serve
from ansible_collections.underlay.ipsec.plugins.module_utils._pki.signing import (
    Entitlement,
    check_request,
    issue,
    sign,
)
from ansible_collections.underlay.ipsec.plugins.module_utils._run import Completed, host_runner
from ansible_collections.underlay.ipsec.plugins.modules import nss_certificate, nss_pkcs12, nss_request
from ansible_collections.underlay.ipsec.tests.unit.plugins import pki
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.serialization import pkcs12

pytestmark = pytest.mark.skipif(shutil.which("certutil") is None, reason="certutil is not installed")


class Host:
    """A host with libreswan's NSS directory, and the control node with its CA."""

    def __init__(self, root: Path) -> None:
        self.nss_dir = root / "nss"
        self.is_given = True
        self.metrics_dir = root / "metrics"
        self.folder = Folder(str(root / "ca"))
        serve(self.folder, Wanted(pki.PASSPHRASE), pki.NOW)
        self.ca_certificate: str | None = self.folder.open(pki.PASSPHRASE, pki.NOW).pem

    def by_default(self, monkeypatch: pytest.MonkeyPatch) -> Path:
        """Have the modules find the database by themselves; return the path of the note for libreswan."""
        self.is_given = False
        for module in (nss_request, nss_certificate, nss_pkcs12):
            monkeypatch.setattr(module, "default_directory", lambda: str(self.nss_dir))
        path = self.nss_dir.parent / "ipsec.d" / "underlay-renewed"
        path.parent.mkdir()
        monkeypatch.setattr(renewed, "PATH", str(path))
        return path

    def request(
        self,
        *,
        check: bool = False,
        force: bool = False,
        authorities: Sequence[str] = (),
        crls: Sequence[str] = (),
        **changes: Any,
    ) -> dict[str, Any]:
        """Run nss_request; *changes* are to the slice."""
        params = {
            "certificate": pki.slice_certificate(**changes),
            "ca_certificate": self.ca_certificate,
            "ca_nickname": "underlay-ca",
            "authorities": list(authorities),
            "crls": list(crls),
            "nss_dir": str(self.nss_dir) if self.is_given else None,
            "metrics_dir": str(self.metrics_dir),
            "force": force,
        }
        return nss_request._run(params, check=check)

    def sign(self, request: dict[str, Any], **changes: Any) -> str:
        """Sign a request and return the certificate."""
        entitlement = Entitlement.from_slice("h1", pki.slice_certificate(**changes))
        sign(self.folder, pki.PASSPHRASE, {"h1": request["csr"]}, {"h1": entitlement}, pki.NOW)
        return Path(self.folder.issued("h1")).read_text()

    def certificate(self, certificate: str | None, *, check: bool = False, **changes: Any) -> dict[str, Any]:
        """Run nss_certificate."""
        params = {
            "state": "present",
            "nickname": "underlay-h1",
            "certificate": certificate,
            "ca_certificate": self.ca_certificate,
            "ca_nickname": "underlay-ca",
            "authorities": [],
            "remove_ca": False,
            "nss_dir": str(self.nss_dir) if self.is_given else None,
            "metrics_dir": str(self.metrics_dir),
            **changes,
        }
        return nss_certificate._run(params, check=check)

    def enrol(self, *, force: bool = False, **changes: Any) -> dict[str, Any]:
        """Do all three steps."""
        return self.certificate(self.sign(self.request(force=force, **changes), **changes))

    def bundle(
        self, path: Path, password: str = pki.PASSPHRASE, *, check: bool = False, **changes: Any
    ) -> dict[str, Any]:
        """Do what the action nss_pkcs12 does, and run the module."""
        options = {
            "ca_certificate": self.ca_certificate,
            "authorities": [],
            "nickname": "underlay-h1",
            **changes,
        }
        made = nss_pkcs12_action.travelling(
            {"bundle": str(path), "password": password, **options}, "h1", pki.NOW
        )
        params = {
            "ca_nickname": "underlay-ca",
            "nss_dir": str(self.nss_dir) if self.is_given else None,
            "metrics_dir": str(self.metrics_dir),
            **options,
            **made,
        }
        return nss_pkcs12._run(params, check=check)

    def authority(self) -> Authority:
        """Return the CA with its key."""
        return self.folder.open(pki.PASSPHRASE, pki.NOW)

    def content(self) -> Content:
        """Return what the database holds."""
        return CertutilDatabase(host_runner(), str(self.nss_dir)).content()

    def files(self) -> set[str]:
        """Return the names of the files in the NSS directory."""
        return {path.name for path in self.nss_dir.iterdir()}

    def certutil(self, *arguments: str, text: str = "") -> None:
        """Do what an administrator might."""
        subprocess.run(
            ["certutil", *arguments, "-d", f"sql:{self.nss_dir}"],
            input=text.encode(),
            check=True,
            capture_output=True,
        )

    def assert_tidy(self, *more_files: str) -> None:
        """There is the CA, one certificate with its key, and nothing else."""
        content = self.content()
        assert {entry.nickname: entry.trust for entry in content.entries} == {
            "underlay-ca": "CT,,",
            "underlay-h1": "u,u,u",
        }
        assert [len(entry.certificates) for entry in content.entries] == [1, 1]
        assert len(content.keys) == 1
        assert not content.orphans()
        assert self.files() == {"cert9.db", "key4.db", "pkcs11.txt", *more_files}


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """Return a host that has nothing yet."""
    return Host(tmp_path)


@pytest.mark.parametrize("ca", [True, False])
def test_check_mode_on_a_host_with_nothing(host: Host, ca: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing_installed(argv: Sequence[str], **_options: Any) -> Completed:
        return Completed(tuple(argv), 127, "", "")

    monkeypatch.setattr(nss_request, "host_runner", lambda: nothing_installed)
    host.ca_certificate = host.ca_certificate if ca else None
    answer = host.request(check=True)
    assert (answer["changed"], answer["state"], answer["csr"]) == (True, "requested", None)
    assert answer["reason"] == ("missing" if ca else "there is no CA yet")
    assert answer["diff"]["before"] == {}
    assert answer["diff"]["after"]["request"]["names"] == ["dns:h1", "ip:10.88.0.11"]
    assert not host.nss_dir.exists()


def test_check_mode_of_the_import_on_a_host_with_nothing(host: Host) -> None:
    answer = host.certificate(pki.leaf().pem, check=True, ca_certificate=pki.authority().pem)
    assert answer["changed"]
    assert [*answer["diff"]["after"]] == ["underlay-h1", "underlay-ca"]
    assert not host.nss_dir.exists()


def test_create(host: Host) -> None:
    request = host.request()
    assert (request["changed"], request["state"], request["reason"]) == (True, "requested", "missing")
    assert "PRIVATE KEY" not in str(request)
    certificate = host.sign(request)
    foretold = host.certificate(certificate, check=True)
    done = host.certificate(certificate)
    assert (done["changed"], done["rotated"]) == (True, False)
    assert foretold == done
    host.assert_tidy()


def test_idempotent(host: Host) -> None:
    done = host.enrol()
    before = {path.name: path.read_bytes() for path in host.nss_dir.iterdir()}
    for check in (True, False):
        request = host.request(check=check)
        assert (request["changed"], request["state"], request["csr"]) == (False, "valid", None)
        assert request["diff"]["before"] == request["diff"]["after"]
        assert {key: request[key] for key in ("fingerprint", "serial", "not_after")} == {
            key: done[key] for key in ("fingerprint", "serial", "not_after")
        }
        certificate = Path(host.folder.issued("h1")).read_text()
        assert host.certificate(certificate, check=check)["changed"] is False
    assert {path.name: path.read_bytes() for path in host.nss_dir.iterdir()} == before
    assert len(host.folder.ledger.read()) == 1


@pytest.mark.parametrize(
    ("changes", "force", "reason"),
    [
        ({"ip": ["10.88.0.99", "fd00::1"]}, False, "names changed"),
        ({"dns": ["h1", "h1.example.org"]}, False, "names changed"),
        ({"key_type": "ecdsa-p256"}, False, "key type changed"),
        ({"key_type": "rsa-3072"}, False, "key type changed"),
        ({"subject": {"CN": "new", "O": "underlay.ipsec"}}, False, "subject changed"),
        ({"renew_before_days": 1825}, False, "expires"),
        ({}, True, "forced"),
    ],
)
def test_update(host: Host, changes: dict[str, Any], force: bool, reason: str) -> None:
    first = host.enrol()
    foretold = host.request(check=True, force=force, **changes)
    request = host.request(force=force, **changes)
    assert (request["changed"], request["reason"]) == (True, reason)
    assert {**foretold, "csr": request["csr"]} == request
    done = host.certificate(host.sign(request, **changes))
    assert (done["changed"], done["rotated"]) == (True, True)
    assert done["fingerprint"] != first["fingerprint"]
    host.assert_tidy()
    if reason != "expires":
        assert host.request(**changes)["changed"] is False


def test_many_updates_leave_nothing_behind(host: Host) -> None:
    for number in range(3):
        host.enrol(force=number > 0)
    host.assert_tidy()
    entry = host.content().entry("underlay-h1")
    assert entry is not None
    assert entry.certificates[0].subject == {"CN": "h1", "O": "underlay.ipsec"}


def test_a_request_is_taken_up_again(host: Host) -> None:
    first = host.request()
    again = host.request()
    assert again["csr"] == first["csr"]
    certificate = host.sign(first)
    assert host.sign(again) == certificate
    assert len(host.folder.ledger.read()) == 1
    host.certificate(certificate)
    host.assert_tidy()


def test_a_request_that_no_longer_fits_is_replaced_with_its_key(host: Host) -> None:
    first = host.request()
    second = host.request(ip=["10.88.0.99"])
    assert second["csr"] != first["csr"]
    assert len(host.content().keys) == 1


def test_a_request_that_is_no_longer_needed_is_forgotten_with_its_key(host: Host) -> None:
    host.enrol()
    host.request(force=True)
    assert len(host.content().keys) == 2
    for check in (True, False):
        answer = host.request(check=check)
        assert (answer["changed"], answer["state"]) == (True, "valid")
    host.assert_tidy()
    assert host.request()["changed"] is False


def test_a_request_whose_key_is_gone_is_replaced(host: Host) -> None:
    first = host.request()
    (key_id,) = host.content().keys
    host.certutil("-F", "-k", key_id)
    assert host.request()["csr"] != first["csr"]
    assert len(host.content().keys) == 1


def test_killed_while_the_key_is_generated(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    create = CertutilDatabase.create_request

    def killed(self: CertutilDatabase, *arguments: Any) -> Any:
        create(self, *arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(CertutilDatabase, "create_request", killed)
    with pytest.raises(KeyboardInterrupt):
        host.request()
    monkeypatch.undo()
    assert len(host.content().keys) == 1
    host.enrol()
    host.assert_tidy()


STEPS = ("add", "rename", "delete_key", "delete_certificate")


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("nth", [1, 2])
def test_killed_in_the_middle_of_a_replacement(
    host: Host, monkeypatch: pytest.MonkeyPatch, step: str, nth: int
) -> None:
    host.enrol()
    request = host.request(force=True)
    certificate = host.sign(request)
    real = getattr(CertutilDatabase, step)
    calls = []

    def killed(self: CertutilDatabase, *arguments: str) -> None:
        calls.append(arguments)
        if len(calls) == nth:
            raise KeyboardInterrupt
        real(self, *arguments)

    monkeypatch.setattr(CertutilDatabase, step, killed)
    try:
        host.certificate(certificate)
    except KeyboardInterrupt:
        pass
    else:
        assert len(calls) < nth
    monkeypatch.undo()
    answer = host.request()
    if answer["state"] == "requested":
        host.certificate(host.sign(answer))
    host.assert_tidy()
    assert host.request()["changed"] is False


def test_trust_is_put_right_without_a_new_certificate(host: Host) -> None:
    host.enrol()
    host.certutil("-M", "-n", "underlay-ca", "-t", ",,")
    host.certutil("-M", "-n", "underlay-h1", "-t", "P,,")
    for check in (True, False):
        answer = host.request(check=check)
        assert (answer["changed"], answer["state"]) == (True, "valid")
        assert answer["diff"]["before"]["underlay-ca"]["trust"] == ",,"
        assert answer["diff"]["after"]["underlay-ca"]["trust"] == "CT,,"
    host.assert_tidy()
    assert host.request()["changed"] is False


def test_another_ca(host: Host, tmp_path: Path) -> None:
    host.enrol()
    other = Host(tmp_path / "other")
    other.nss_dir = host.nss_dir
    answer = other.request()
    assert answer["reason"] == "issued by another CA"
    done = other.certificate(other.sign(answer))
    assert done["rotated"]
    other.assert_tidy()
    assert other.request()["changed"] is False


def test_foreign_entries_stay(host: Host) -> None:
    host.request()
    mine = pki.leaf(subject=pki.name("mine"), issuer=pki.authority(5))
    host.certutil("-A", "-a", "-n", "mine", "-t", "CT,C,C", text=mine.pem)
    foreign = CertutilDatabase(host_runner(), str(host.nss_dir)).create_request(
        "ecdsa-p256", "CN=raw", Names.of(["raw"], [])
    )
    host.enrol()
    host.enrol(force=True)
    host.certificate(None, state="absent", remove_ca=True)
    content = host.content()
    assert [(entry.nickname, entry.trust) for entry in content.entries] == [("mine", "CT,C,C")]
    assert content.keys == {foreign.public_key.key_id}


def test_somebody_put_two_certificates_under_the_nickname(host: Host) -> None:
    request = host.request()
    host.certificate(host.sign(request))
    subject = x509.load_pem_x509_csr(request["csr"].encode()).subject
    twin = pki.leaf(subject=subject, issuer=pki.authority(5))
    host.certutil("-A", "-a", "-n", "underlay-h1", "-t", ",,", text=twin.pem)
    answer = host.request()
    assert answer["reason"] == "several certificates with one nickname"
    host.certificate(host.sign(answer))
    host.assert_tidy()


def test_a_forged_certificate_is_refused_and_the_old_one_stays(host: Host) -> None:
    host.enrol()
    request = host.request(force=True)
    genuine = host.folder.open(pki.PASSPHRASE, pki.NOW)
    forger = Authority(genuine.certificate, pki.key(7))
    names = Entitlement.from_slice("h1", pki.slice_certificate())
    forged = issue(forger, check_request(request["csr"], names), 1, pki.NOW)
    text = forged.public_bytes(serialization.Encoding.PEM).decode()
    with pytest.raises(ProblemsError, match="NSS does not accept the certificate"):
        host.certificate(text)
    host.certificate(host.sign(request))
    host.assert_tidy()


def test_the_private_key_is_elsewhere(host: Host, tmp_path: Path) -> None:
    host.request()
    other = Host(tmp_path / "other")
    host.ca_certificate = other.ca_certificate
    with pytest.raises(ProblemsError, match="private key of the certificate"):
        host.certificate(other.sign(other.request()))


@pytest.mark.parametrize("remove_ca", [True, False])
def test_absent(host: Host, remove_ca: bool) -> None:
    host.enrol()
    host.request(force=True)
    foretold = host.certificate(None, state="absent", remove_ca=remove_ca, check=True)
    done = host.certificate(None, state="absent", remove_ca=remove_ca)
    assert foretold == done
    assert done["changed"]
    assert [entry.nickname for entry in host.content().entries] == ([] if remove_ca else ["underlay-ca"])
    assert not host.content().keys
    assert host.files() == {"cert9.db", "key4.db", "pkcs11.txt"}
    assert host.certificate(None, state="absent", remove_ca=remove_ca)["changed"] is False


def test_absent_on_a_host_with_nothing(host: Host) -> None:
    assert host.certificate(None, state="absent", remove_ca=True)["changed"] is False
    assert not host.nss_dir.exists()


def test_a_damaged_database(host: Host) -> None:
    host.enrol()
    (host.nss_dir / "cert9.db").write_bytes(b"not a database")
    with pytest.raises(CommandError, match="certutil"):
        host.request()


def p12(
    path: Path,
    issuer: Authority,
    subject: x509.Name | None = None,
    chain: Sequence[x509.Certificate] = (),
    friendly_name: str = "whatever it is",
    **changes: Any,
) -> Path:
    """Write a bundle for h1 and return its path."""
    private_key = changes.pop("private_key", None) or generate(changes.pop("key_type", "ecdsa-p384"))
    leaf = pki.leaf(subject or pki.name("h1", "bundle"), private_key=private_key, issuer=issuer, **changes)
    path.write_bytes(
        pkcs12.serialize_key_and_certificates(
            friendly_name.encode(),
            private_key,
            x509.load_pem_x509_certificate(leaf.pem.encode()),
            chain,
            serialization.BestAvailableEncryption(pki.PASSPHRASE.encode()),
        )
    )
    return path


@pytest.mark.parametrize("key_type", ["ecdsa-p384", "rsa-3072"])
def test_bundle(host: Host, tmp_path: Path, key_type: str) -> None:
    path = p12(tmp_path / "h1.p12", host.authority(), key_type=key_type, chain=[host.authority().certificate])
    foretold = host.bundle(path, check=True)
    assert not host.nss_dir.exists()
    done = host.bundle(path)
    assert (done["changed"], done["rotated"]) == (True, False)
    assert foretold == done
    host.assert_tidy()
    wanted: dict[str, Any] = {
        "source": "pkcs12",
        "fingerprint": done["fingerprint"],
        "key_type": key_type,
    }
    for check in (True, False):
        assert host.bundle(path, check=check)["changed"] is False
        answer = host.request(check=check, **wanted)
        assert (answer["changed"], answer["state"], answer["csr"]) == (False, "valid", None)
        assert answer["fingerprint"] == done["fingerprint"]


@pytest.mark.parametrize("subject", [pki.name("h1"), pki.name("h1", "bundle"), pki.name("other")])
@pytest.mark.parametrize("first", ["ca", "pkcs12"])
def test_a_bundle_replaces(host: Host, tmp_path: Path, first: str, subject: x509.Name) -> None:
    if first == "ca":
        old = host.enrol()
    else:
        old = host.bundle(p12(tmp_path / "old.p12", host.authority(), pki.name("h1")))
    path = p12(tmp_path / "new.p12", host.authority(), subject)
    wanted: dict[str, Any] = {"source": "pkcs12", "fingerprint": "0" * 64}
    answer = host.request(**wanted)
    assert (answer["state"], answer["csr"]) == ("requested", None)
    assert answer["reason"] == "another certificate than in the bundle"
    host.assert_tidy()
    foretold = host.bundle(path, check=True)
    done = host.bundle(path)
    assert (done["changed"], done["rotated"]) == (True, True)
    assert foretold == done
    assert done["fingerprint"] != old["fingerprint"]
    host.assert_tidy()
    assert host.bundle(path)["changed"] is False


@pytest.mark.parametrize("subject", [pki.name("h1", "bundle"), pki.name("other")])
def test_a_bundle_with_the_key_of_the_one_before(host: Host, tmp_path: Path, subject: x509.Name) -> None:
    host.bundle(p12(tmp_path / "old.p12", host.authority(), private_key=pki.key(3)))
    done = host.bundle(p12(tmp_path / "new.p12", host.authority(), subject, private_key=pki.key(3)))
    host.assert_tidy()
    (certificate,) = member_of(host.content())
    assert certificate.fingerprint == done["fingerprint"]


def test_a_bundle_makes_a_request_needless(host: Host, tmp_path: Path) -> None:
    host.request()
    host.bundle(p12(tmp_path / "h1.p12", host.authority()))
    host.assert_tidy()


@pytest.mark.parametrize("same_subject", [True, False])
@pytest.mark.parametrize("commands", range(8))
def test_killed_in_the_middle_of_an_import(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, commands: int, same_subject: bool
) -> None:
    host.bundle(p12(tmp_path / "old.p12", host.authority(), pki.name("h1")))
    path = p12(tmp_path / "new.p12", host.authority(), pki.name("h1" if same_subject else "other"))
    fingerprint = host.bundle(path, check=True)["fingerprint"]
    done = kill_after(monkeypatch, host, commands, lambda: host.bundle(path))
    if commands == 0:
        assert done == 0
    host.request(source="pkcs12", fingerprint=fingerprint)
    host.bundle(path)
    host.assert_tidy()
    entry = host.content().entry("underlay-h1")
    assert entry is not None
    assert entry.certificates[0].fingerprint == fingerprint
    assert host.bundle(path)["changed"] is False


def kill_after(monkeypatch: pytest.MonkeyPatch, host: Host, commands: int, run: Callable[[], object]) -> int:
    """Let *run* change the host's database *commands* times, and no more; return how often it did."""
    done = 0
    real = CertutilDatabase._change

    def change(self: CertutilDatabase, *arguments: str, **options: Any) -> str:
        nonlocal done
        if self.directory == str(host.nss_dir):
            if done == commands:
                raise KeyboardInterrupt
            done += 1
        return real(self, *arguments, **options)

    monkeypatch.setattr(CertutilDatabase, "_change", change)
    with suppress(KeyboardInterrupt):
        run()
    monkeypatch.undo()
    return done


def test_a_bundle_of_an_intermediate(host: Host, tmp_path: Path) -> None:
    root, middle = pki.root(), pki.intermediate()
    path = p12(tmp_path / "h1.p12", middle, chain=[middle.certificate, root.certificate])
    host.ca_certificate = middle.pem
    done = host.bundle(path, authorities=[root.pem])
    content = host.content()
    beside = f"underlay-ca+{root.fingerprint[:16]}"
    assert {entry.nickname: entry.trust for entry in content.entries} == {
        "underlay-ca": ",,",
        beside: "CT,,",
        "underlay-h1": "u,u,u",
    }
    answer = host.request(authorities=[root.pem], source="pkcs12", fingerprint=done["fingerprint"])
    assert answer["changed"] is False


def test_an_intermediate_that_only_the_bundle_has_is_refused(host: Host, tmp_path: Path) -> None:
    root, middle = pki.root(), pki.intermediate()
    host.ca_certificate = root.pem
    path = p12(tmp_path / "h1.p12", middle, chain=[middle.certificate])
    with pytest.raises(
        ProblemsError, match=r"its issuer .*CN=intermediate.* is in the bundle only\. .*ipsec_ca_certificate"
    ):
        host.bundle(path)
    assert not host.nss_dir.exists()


@pytest.mark.parametrize(
    ("changes", "password", "said"),
    [
        ({}, "wrong", "password"),
        ({"starts": pki.NOW + pki.DAY}, pki.PASSPHRASE, "not valid"),
        ({"starts": pki.NOW - 2 * pki.DAY, "ends": pki.NOW - pki.DAY}, pki.PASSPHRASE, "expired"),
        ({"issuer": pki.authority(5)}, pki.PASSPHRASE, "issuer|CA"),
    ],
)
def test_a_bundle_that_cannot_serve_changes_nothing(
    host: Host, tmp_path: Path, changes: dict[str, Any], password: str, said: str
) -> None:
    host.bundle(p12(tmp_path / "old.p12", host.authority()))
    before = host.content()
    path = p12(tmp_path / "new.p12", **{"issuer": host.authority(), **changes})
    with pytest.raises(ProblemsError, match=said):
        host.bundle(path, password)
    assert host.content() == before
    host.assert_tidy()


def two_cas(tmp_path: Path) -> tuple[Host, Host]:
    """Return one host as it is seen with an old CA and with a new one."""
    old, new = Host(tmp_path / "old"), Host(tmp_path / "new")
    new.nss_dir = old.nss_dir
    return old, new


def assert_rolling(host: Host, first: str, other: str, owner: str) -> None:
    """Both CAs are trusted, *first* with the nickname, and there is one certificate, issued by *owner*."""
    content = host.content()
    cas = {pem: certificate_from_pem(pem) for pem in (first, other)}
    beside = f"underlay-ca+{cas[other].fingerprint[:16]}"
    assert {entry.nickname: (entry.trust, *entry.certificates) for entry in content.entries} == {
        "underlay-ca": ("CT,,", cas[first]),
        beside: ("CT,,", cas[other]),
        "underlay-h1": ("u,u,u", *member_of(content)),
    }
    (certificate,) = member_of(content)
    assert certificate.names_as_issuer(cas[owner])
    assert len(content.keys) == 1
    assert not content.orphans()


def member_of(content: Content) -> tuple[Certificate, ...]:
    """Return what is filed as the member's."""
    entry = content.entry("underlay-h1")
    return entry.certificates if entry else ()


def test_rollover(tmp_path: Path) -> None:
    old, new = two_cas(tmp_path)
    first, second = old.authority().pem, new.authority().pem
    old.enrol()
    for check in (True, False):
        answer = old.request(check=check, authorities=[second])
        assert (answer["changed"], answer["state"], answer["trust_changed"]) == (True, "valid", True)
    assert_rolling(old, first, second, first)
    assert old.request(authorities=[second])["changed"] is False

    foretold = new.request(check=True, authorities=[first])
    answer = new.request(authorities=[first])
    assert {**foretold, "csr": answer["csr"]} == answer
    assert (answer["reason"], answer["trust_changed"]) == ("issued by another CA", False)
    done = new.certificate(new.sign(answer), authorities=[first])
    assert done["rotated"]
    assert_rolling(new, second, first, second)
    assert new.request(authorities=[first])["changed"] is False

    answer = new.request()
    assert (answer["changed"], answer["state"], answer["trust_changed"]) == (True, "valid", True)
    new.assert_tidy()


@pytest.mark.parametrize("commands", range(8))
def test_killed_in_the_middle_of_a_rollover(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, commands: int
) -> None:
    old, new = two_cas(tmp_path)
    first, second = old.authority().pem, new.authority().pem
    old.enrol()
    old.request(authorities=[second])

    def switch() -> None:
        answer = new.request(authorities=[first])
        if answer["state"] == "requested":
            new.certificate(new.sign(answer), authorities=[first])

    kill_after(monkeypatch, old, commands, switch)
    switch()
    assert_rolling(new, second, first, second)
    assert new.request(authorities=[first])["changed"] is False


def crl_of(host: Host, revoked: Sequence[int] = (), days_ago: int = 1) -> str:
    """Return a revocation list of the host's CA."""
    return pki.revocation_list(host.authority(), revoked, pki.NOW - days_ago * pki.DAY).pem


def test_revocation_lists(host: Host) -> None:
    host.enrol()
    first, second = crl_of(host, days_ago=2), crl_of(host, [7])
    for crls in ([first], [second], [first], []):
        for check in (True, False):
            answer = host.request(check=check, crls=crls)
            assert (answer["changed"], answer["state"], answer["trust_changed"]) == (True, "valid", True)
        assert ("crl" in answer["diff"]["after"]["underlay-ca"]) is bool(crls)
        for check in (True, False):
            answer = host.request(check=check, crls=crls)
            assert (answer["changed"], answer["trust_changed"]) == (False, False)
        host.assert_tidy()


def test_a_revoked_certificate_is_replaced(host: Host) -> None:
    done = host.enrol()
    crl = crl_of(host, [int(done["serial"], 16)])
    answer = host.request(crls=[crl])
    assert answer["reason"] == "NSS does not accept it: Peer's Certificate has been revoked."
    host.certificate(host.sign(answer))
    host.assert_tidy()
    assert host.request(crls=[crl])["changed"] is False


def test_a_revocation_list_goes_with_the_ca(host: Host) -> None:
    host.enrol()
    host.request(crls=[crl_of(host)])
    host.certificate(None, state="absent", remove_ca=True)
    host.certutil("-A", "-a", "-n", "mine", "-t", "CT,,", text=host.authority().pem)
    assert not CertutilDatabase(host_runner(), str(host.nss_dir)).crls()


def signed_elsewhere(host: Host, csr: str, subject: x509.Name) -> str:
    """Return a certificate with more names than asked for and a subject of the signer's choice."""
    request = x509.load_pem_x509_csr(csr.encode())
    names = pki.alternative_names(["h1", "h1.example.org"], ["10.88.0.11"], ["urn:x"])
    builder = (
        x509.CertificateBuilder().subject_name(subject).issuer_name(host.authority().certificate.subject)
    )
    builder = builder.public_key(request.public_key()).serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(pki.NOW - pki.DAY).not_valid_after(pki.NOW + 900 * pki.DAY)
    builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    certificate = builder.sign(host.authority().key, hashes.SHA384())
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def test_signed_elsewhere(host: Host) -> None:
    for number in range(3):
        answer = host.request(source="external", force=number > 0)
        again = host.request(source="external", force=number > 0)
        assert again["csr"] == answer["csr"]
        # The signer gives all of them the same subject.
        done = host.certificate(signed_elsewhere(host, answer["csr"], pki.name("corporate")))
        assert done["rotated"] is (number > 0)
        host.assert_tidy()
        assert host.request(source="external")["changed"] is False
    assert host.request()["reason"] == "names changed"


def test_a_request_that_waits_for_a_signature_elsewhere_survives_other_runs(host: Host) -> None:
    first = host.request(source="external")["csr"]
    host.certificate(signed_elsewhere(host, first, pki.name("corporate")))
    forced = host.request(source="external", force=True)["csr"]
    for check in (True, False):
        answer = host.request(source="external", check=check)
        assert (answer["changed"], answer["state"]) == (False, "valid")
    assert host.request(source="external", force=True)["csr"] == forced
    # It is for names that are not wanted any more.
    answer = host.request(source="external", dns=["h1.example.org"])
    assert (answer["changed"], answer["state"]) == (True, "valid")
    host.assert_tidy()


@pytest.mark.parametrize("rollover", [True, False])
def test_another_ca_signs_elsewhere(host: Host, rollover: bool) -> None:
    """A certificate of the former CA serves no more, and is trusted until there is one of the present CA."""
    former = host.authority()
    host.certificate(signed_elsewhere(host, host.request(source="external")["csr"], pki.name("corporate")))
    host.folder = Folder(f"{host.folder.path}-2")
    serve(host.folder, Wanted(pki.PASSPHRASE), pki.NOW)
    host.ca_certificate = host.authority().pem
    both = [former.pem] if rollover else []
    answer = host.request(source="external", authorities=both)
    assert answer["reason"] == "issued by another CA"
    assert host.content().nickname_of(pki.as_host_sees(former))
    done = host.certificate(signed_elsewhere(host, answer["csr"], pki.name("corporate")), authorities=both)
    assert done["rotated"]
    if rollover:
        assert host.content().nickname_of(pki.as_host_sees(former))
        host.request(source="external")
    host.assert_tidy()
    assert host.request(source="external")["changed"] is False


@pytest.mark.parametrize("commands", range(6))
def test_killed_while_one_with_the_same_subject_is_installed(
    host: Host, monkeypatch: pytest.MonkeyPatch, commands: int
) -> None:
    host.certificate(signed_elsewhere(host, host.request(source="external")["csr"], pki.name("corporate")))
    answer = host.request(source="external", force=True)
    certificate = signed_elsewhere(host, answer["csr"], pki.name("corporate"))
    kill_after(monkeypatch, host, commands, lambda: host.certificate(certificate))
    again = host.request(source="external")
    assert again["csr"] in (None, answer["csr"])
    if again["certificate"] != certificate:
        host.certificate(certificate)
    host.assert_tidy()
    assert host.request(source="external")["changed"] is False


def test_metrics(host: Host) -> None:
    host.metrics_dir.mkdir()
    path = host.metrics_dir / "underlay_ipsec.prom"
    done = host.enrol()
    assert (
        f'nickname="underlay-h1",subject="O=underlay.ipsec,CN=h1",serial="{done["serial"]}"'
        in path.read_text()
    )
    assert host.request()["changed"] is False
    path.unlink()
    assert host.request(check=True)["changed"] is True
    assert not path.exists()
    assert host.request(crls=[crl_of(host)])["changed"] is True
    assert "underlay_ipsec_crl_next_update_seconds{issuer=" in path.read_text()
    assert host.certificate(None, state="absent")["changed"] is True
    assert not path.exists()
    assert host.certificate(None, state="absent")["changed"] is False


def test_several_certificates_of_one_foreign_subject(host: Host, tmp_path: Path) -> None:
    host.request()
    for _number in range(3):
        twin = pki.leaf(subject=pki.name("mine"), issuer=pki.authority(5))
        host.certutil("-A", "-a", "-n", "mine", "-t", ",,", text=twin.pem)
    host.enrol()
    host.bundle(p12(tmp_path / "h1.p12", host.authority()))
    content = host.content()
    mine = content.entry("mine")
    assert mine is not None
    assert len(mine.certificates) == 3
    assert len(content.keys) == 1
    with pytest.raises(ProblemsError, match="same subject, as mine"):
        host.bundle(p12(tmp_path / "clash.p12", host.authority(), pki.name("mine")))
    assert host.content() == content


def test_a_database_with_a_password(host: Host, tmp_path: Path) -> None:
    host.nss_dir.mkdir()
    password = host.nss_dir / "nsspassword"
    password.write_text("NSS Certificate DB:secret\n")
    host.certutil("-N", "-f", str(password))
    host.enrol()
    assert host.request(crls=[crl_of(host)])["trust_changed"]
    done = host.bundle(p12(tmp_path / "h1.p12", host.authority()))
    answer = host.request(source="pkcs12", fingerprint=done["fingerprint"])
    assert answer["state"] == "valid"
    host.assert_tidy("nsspassword")


def test_libreswan_gets_a_note_of_what_it_may_hold_in_memory(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    note = host.by_default(monkeypatch)
    other, crl = pki.authority(8).pem, crl_of(host, [7])
    host.enrol()
    renewed.forget()
    host.request()
    host.request(check=True, authorities=[other], crls=[crl])
    assert not note.exists()
    host.request(authorities=[other])
    assert renewed.noted() == {renewed.AUTHORITY}
    host.request(authorities=[other], crls=[crl])
    assert renewed.noted() == {renewed.AUTHORITY, renewed.REVOCATION}
    renewed.forget()
    certificate = host.sign(host.request(force=True, authorities=[other], crls=[crl]))
    host.certificate(certificate, check=True, authorities=[other])
    assert not note.exists()
    host.certificate(certificate, authorities=[other])
    assert renewed.noted() == {renewed.CERTIFICATE}
    host.certificate(certificate)
    assert renewed.noted() == {renewed.CERTIFICATE, renewed.AUTHORITY}
    renewed.forget()
    host.bundle(p12(tmp_path / "h1.p12", host.authority()))
    assert renewed.noted() == {renewed.CERTIFICATE, renewed.IDENTITY}


def test_no_note_of_a_database_that_is_not_libreswans(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    note = host.by_default(monkeypatch)
    host.is_given = True
    host.enrol()
    host.request(authorities=[pki.authority(8).pem], crls=[crl_of(host, [7])])
    host.enrol(force=True)
    host.bundle(p12(tmp_path / "h1.p12", host.authority()))
    assert not note.exists()
