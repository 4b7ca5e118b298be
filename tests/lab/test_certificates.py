# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Certificates for the life of a cluster: three opportunistic members of two releases, under traffic.

The tests share the cluster and go on from what the one before left. What the members have is looked
at from outside: on the bridge, in the kernels, in NSS and in pluto's journals.
"""

from __future__ import annotations

import base64
import itertools
import json
import os
import re
import shlex
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509.oid import NameOID
from kit import PASSPHRASE, Lab, Run, Stage, Stream, banner, cut_off, interrupt, kill, short_lived

MEMBERS = ("h1", "h2", "h3")
PAIRS = list(itertools.permutations(MEMBERS, 2))
NSS = "sql:/var/lib/ipsec/nss"
BUNDLE_PASSWORD = "the password of the lab's bundles"
SAMPLES = "/run/underlay-test-samples"
# Each process is looked at once, twice a second: hosts have one slow CPU.
SAMPLER = f"""cat >{SAMPLES}.py <<'END'
import glob, time
seen = set()
with open("{SAMPLES}", "a") as file:
    while True:
        new = set(glob.glob("/proc/[0-9]*")) - seen
        seen |= new
        for process in new:
            for part in ("cmdline", "environ"):
                try:
                    with open(process + "/" + part, errors="replace") as found:
                        file.write(found.read().replace("\\0", "\\n") + "\\n")
                except OSError:
                    pass
        file.flush()
        time.sleep(0.5)
END
setsid python3 {SAMPLES}.py >/dev/null 2>&1 </dev/null & echo $! >{SAMPLES}.pid"""
LOSS_SECONDS = 1.0
# All at once under other subjects: if a peer happens to look for signs of life while a new pluto takes over, it waits
# for the run to have it forget the subject of before. See the limits in docs/certificates.md.
OTHER_SUBJECTS_SECONDS = 30.0
SHORT_SECONDS = 45

Key = ec.EllipticCurvePrivateKey
T = TypeVar("T")


def on_all(ask: Callable[[str], T], members: Sequence[str] = MEMBERS) -> dict[str, T]:
    """Return member → what *ask* says of it."""
    with ThreadPoolExecutor() as pool:
        return dict(zip(members, pool.map(ask, members), strict=True))


def spis_among(lab: Lab, members: Sequence[str]) -> dict[str, set[tuple[str, str, str]]]:
    """Return member → its SAs with other *members*."""
    addresses = {lab.address(member) for member in members}
    found = on_all(lab.spis, members)
    return {member: {sa for sa in sas if {sa[0], sa[1]} <= addresses} for member, sas in found.items()}


def check_encrypted(lab: Lab, members: Sequence[str] = MEMBERS) -> None:
    """Check that the last report has every ordered pair of *members*, and all of them encrypted."""
    found = {pair[:2]: status for pair, status in lab.matrix().items()}
    assert found == dict.fromkeys(itertools.permutations(members, 2), "encrypted")


def check_streams(
    streams: Sequence[Stream], members: Sequence[str] = MEMBERS, seconds: float = LOSS_SECONDS
) -> None:
    """Check that every stream went on, but for *seconds* at most."""
    assert len(streams) == len(members) * (len(members) - 1)
    lost = {(stream.source, stream.destination): stream.seconds for stream in streams if stream.lost}
    print(f"sent {sum(s.sent for s in streams)}, lost {sum(len(s.lost) for s in streams)}: {lost}")
    assert not {pair: silent for pair, silent in lost.items() if silent > seconds}


def certificates_of(lab: Lab, host: str, nickname: str) -> list[x509.Certificate]:
    """Return all certificates that NSS has under a nickname."""
    listed = lab.ssh(host, f"certutil -L -d {NSS} -n {nickname} -a")
    return x509.load_pem_x509_certificates(listed.encode())


def ledger(lab: Lab) -> list[dict[str, Any]]:
    """Return the ledger's entries."""
    lines = (lab.folder / "ca/ledger.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def check_nss(lab: Lab, members: Sequence[str] = MEMBERS, *, own_ca: bool = True) -> None:
    """Check that each member has one CA, one certificate with one key, and nothing besides.

    With a CA of our own, the last certificate that the ledger has for it is the one.
    """
    issued = (
        {entry["member"]: entry for entry in ledger(lab) if entry["event"] != "revoked"} if own_ca else {}
    )

    def check(host: str) -> x509.Certificate:
        listed = lab.ssh(host, f"certutil -L -d {NSS}")
        entries = dict(
            re.findall(r"^(underlay\S*|\S.*?\S)\s+([a-zA-Z]*,[a-zA-Z]*,[a-zA-Z]*)\s*$", listed, re.MULTILINE)
        )
        assert entries == {"underlay-ca": "CT,,", f"underlay-{host}": "u,u,u"}, listed
        said = lab.ssh(host, f"certutil -K -d {NSS}")
        keys = re.findall(r"^< *\d+>.*$", said, re.MULTILINE)
        assert len(keys) == 1, said
        # A key that came in a bundle goes on with the nickname that it was imported under.
        assert re.search(rf"[: ]underlay-{host}{'' if own_ca else '(-new)?'}$", keys[0]), said
        assert len(certificates_of(lab, host, "underlay-ca")) == 1
        [leaf] = certificates_of(lab, host, f"underlay-{host}")
        if own_ca:
            assert issued[host]["serial"] == f"{leaf.serial_number:x}"
            assert issued[host]["fingerprint"] == leaf.fingerprint(hashes.SHA256()).hex()
        left = "/etc/ipsec.d/underlay-renewed /run/systemd/system/ipsec.service.d/*"
        left = lab.ssh(host, f"ls -d {left} /var/lib/ipsec/nss/underlay* 2>/dev/null; true").strip()
        assert not left
        return leaf

    leaves = on_all(check, members)
    assert len({leaf.issuer for leaf in leaves.values()}) == 1


def now_on(lab: Lab) -> str:
    """Return the time for `authenticated`. Hosts have the controller's clock."""
    assert lab
    return f"@{time.time():.0f}"


def authenticated(lab: Lab, host: str, since: str) -> list[tuple[str, str, str]]:
    """Return (address of the peer, subject, issuer) of those whom pluto of *host* has authenticated *since*."""
    said = lab.ssh(host, f"journalctl -u ipsec --no-pager -o cat --since={since}")
    return re.findall(
        r"\.\.\.([0-9.]+)\S* #\d+: \S+ established IKE SA; authenticated .*?certificate '([^']+)'.*issued by (?:CA )?'([^']+)'",
        said,
    )


def check_issuer(lab: Lab, since: str, name: str) -> None:
    """Check that everybody has authenticated everybody by a certificate of the CA with *name*."""
    for host, peers in on_all(lambda host: authenticated(lab, host, since)).items():
        last = {peer: issuer for peer, _subject, issuer in peers}
        assert len(last) == len(MEMBERS) - 1, host
        assert all(name in issuer for issuer in last.values()), (host, last)


def shown(lab: Lab) -> dict[tuple[str, str], str]:
    """Return (observer, peer) → the subject of the certificate that the peer showed, by the last report."""
    return {(pair["from"], pair["to"]): pair["certificate"] for pair in lab.report["pairs"]}


class Secrets:
    """What nobody may find, and where it was looked for while runs were on."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.texts = [PASSPHRASE, BUNDLE_PASSWORD]
        self.keys: list[Key] = []
        self.seen: set[str] = set()
        """Command lines on the control node."""
        self.runs: list[str] = []
        """What playbooks printed."""

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Look at the processes' command lines meanwhile, on the control node and the hosts."""
        over = threading.Event()
        thread = threading.Thread(target=self._sample, args=(over,))
        thread.start()
        on_all(lambda host: self.lab.ssh(host, SAMPLER))
        try:
            yield
        finally:
            over.set()
            thread.join()
            on_all(lambda host: self.lab.ssh(host, f"kill $(cat {SAMPLES}.pid)"))

    def _sample(self, over: threading.Event) -> None:
        while not over.wait(0.1):
            for process in os.listdir("/proc"):
                with suppress(OSError):
                    line = Path("/proc", process, "cmdline").read_bytes()
                    self.seen.add(line.replace(b"\0", b" ").decode(errors="replace"))

    @property
    def patterns(self) -> list[str]:
        """Texts, none of which may be anywhere: passwords, and keys in hexadecimal and in Base64."""
        found = list(self.texts)
        for key in self.keys:
            found.append(f"{key.private_numbers().private_value:096x}")
            found += itertools.chain.from_iterable(_base64_lines(key))
        return found

    @property
    def raw(self) -> list[bytes]:
        """The keys themselves, as they are in DER: of each, what has no end of line in it, for grep goes by lines."""
        whole = (key.private_numbers().private_value.to_bytes(48, "big") for key in self.keys)
        return [max(key.split(b"\n"), key=len) for key in whole]

    def on_host(self, host: str) -> set[str]:
        """Return where any of it is on *host*: files, the journal, processes that were looked at."""
        places = "/boot /dev/shm /etc /home /mnt /opt /root /run /srv /tmp /usr/local /var"
        words = " ".join("-e " + shlex.quote(text) for text in self.patterns)
        keys = "|".join("".join(f"\\x{byte:02x}" for byte in raw) for raw in self.raw) or "(?!)"
        search = "LC_ALL=C grep -rlsa --exclude-dir=nss --devices=skip"
        said = self.lab.ssh(
            host,
            f"{search} -iF {words} {places}; {search} -P '{keys}' {places};"
            f"{search} -e 'BEGIN.*PRIVATE KEY' {places};"
            f"journalctl --no-pager -o cat | grep -qiF {words} && echo journal;"
            "find /var/lib/ipsec/nss -type f ! -name cert9.db ! -name key4.db ! -name pkcs11.txt",
            timeout=300,
        )
        own = ("/etc/ssh/", "/etc/ssl/private/", "/var/log/journal/", "/run/log/journal/")
        return {line for line in said.splitlines() if line and not line.startswith(own)}

    def on_controller(self) -> set[str]:
        """Return where any of it is on the control node, besides what the user put there."""
        found = set()
        needles = [*(text.lower().encode() for text in self.patterns), b"private key-----"]
        for path in sorted(self.lab.folder.rglob("*")):
            if not path.is_file() or self._is_the_users(path):
                continue
            data = path.read_bytes()
            if any(needle in data.lower() for needle in needles) or any(raw in data for raw in self.raw):
                found.add(str(path))
        lowered = [text.lower() for text in self.patterns]
        found |= {"processes" for seen in self.seen if any(text in seen.lower() for text in lowered)}
        found |= {"output" for output in self.runs if any(text in output.lower() for text in lowered)}
        return found

    def _is_the_users(self, path: Path) -> bool:
        given = path.relative_to(self.lab.folder).parts
        # The CA's keys are encrypted, and are where they belong.
        if given[0] == "ca":
            return b"BEGIN ENCRYPTED PRIVATE KEY" in path.read_bytes()
        return given[0] in (
            "tests-vars.json",
            "tests-inventory.yml",
            "inventory",
            "molecule.yml",
            "elsewhere",
        )


def _base64_lines(key: Key) -> Iterator[list[str]]:
    for form in (serialization.PrivateFormat.PKCS8, serialization.PrivateFormat.TraditionalOpenSSL):
        pem = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()
        # The first line holds next to nothing of the key but its kind.
        yield pem.splitlines()[2:-2]


@pytest.fixture(scope="module")
def secrets(lab: Lab) -> Secrets:
    """Return what is looked for in the end."""
    return Secrets(lab)


@pytest.fixture(autouse=True)
def outputs(lab: Lab, secrets: Secrets, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep what playbooks print."""
    play = lab.play

    def kept(*arguments: Any, **rest: Any) -> Run:
        begun = time.monotonic()
        run = play(*arguments, **rest)
        print(f"{arguments[0]}: {time.monotonic() - begun:.0f} s")
        secrets.runs.append(run.output)
        return run

    monkeypatch.setattr(lab, "play", kept)


@contextmanager
def untouched(lab: Lab, *folders: str) -> Iterator[None]:
    """Claim that the block changes nothing on hosts, and no SA."""

    def look() -> dict[str, Any]:
        return on_all(lambda host: (lab.etc(host), lab.spis(host), lab.pluto(host)))

    def files() -> dict[str, bytes]:
        return {str(p): p.read_bytes() for f in folders for p in (lab.folder / f).rglob("*") if p.is_file()}

    before = look(), files()
    yield
    assert (look(), files()) == before


CUTS = (
    (Stage("nss : Ask for a certificate where one is due"), interrupt, 1.0),
    (Stage("nss : Import the certificate", occurrence=2), kill, 0.3),
    (Stage("libreswan : Configure libreswan, private or clear", occurrence=4), kill, 0.2),
)


def test_rollover_of_the_ca_is_resumed(lab: Lab) -> None:
    """Cut off while the next CA is made known, between two certificates, and when the old one goes."""
    before = certificates_of(lab, "h1", "underlay-ca")
    since = now_on(lab)
    how = {"ipsec_rotate_ca": True, "ipsec_rotate_serial": 2}
    with lab.traffic(MEMBERS) as streams:
        for stage, cut, delay in CUTS:
            run = cut_off(lab, MEMBERS, stage, cut, delay, playbook="rotate", **how)
            assert banner(stage, run.output), run.output
            assert run.rc != 0, run.output
        assert (run := lab.play("rotate", MEMBERS, **how)).rc == 0, run.output
    check_encrypted(lab)
    check_streams(streams)
    check_nss(lab)
    authorities = on_all(lambda host: certificates_of(lab, host, "underlay-ca"))
    assert all(found == authorities["h1"] != before for found in authorities.values())
    [new] = authorities["h1"]
    name = new.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
    check_issuer(lab, since, str(name))
    left = {path.name for path in (lab.folder / "ca").iterdir()}
    assert not {"old.crt", "old.key", "next.crt", "next.key"} & left
    assert lab.converge(MEMBERS).changed == 0


@pytest.mark.parametrize("host", ["h1", "h2"], ids=["4.x", "5.x"])
def test_renewal_of_one_host(lab: Lab, host: str) -> None:
    """4.x lets a new pluto take over, 5.x ends and begins: nobody else notices anything."""
    others = [member for member in MEMBERS if member != host]
    spis, since = spis_among(lab, others), now_on(lab)
    plutos = on_all(lab.pluto, others)
    [old] = certificates_of(lab, host, f"underlay-{host}")
    with lab.capture() as capture, lab.traffic(MEMBERS) as streams:
        run = lab.play("rotate", MEMBERS, ipsec_rotate=host, ipsec_rotate_serial=4)
    assert run.rc == 0, run.output
    check_encrypted(lab)
    for one, other in itertools.combinations(MEMBERS, 2):
        ends = lab.address(one), lab.address(other)
        assert capture.esp(*ends)
        assert not capture.clear(*ends)
    assert spis_among(lab, others) == spis
    assert on_all(lab.pluto, others) == plutos
    check_nss(lab)
    [new] = certificates_of(lab, host, f"underlay-{host}")
    assert new.public_key() != old.public_key()
    assert new.subject == old.subject, "pluto 5.2 accepts no other from an address while it has an SA with it"
    for other in others:
        seen = [
            subject for peer, subject, _ca in authenticated(lab, other, since) if peer == lab.address(host)
        ]
        assert seen, other
        assert f"CN={host}" in seen[-1]
        assert f"CN={host}" in shown(lab)[(other, host)]
    check_streams(streams)


def test_another_kind_of_key_is_a_renewal(lab: Lab, secrets: Secrets) -> None:
    with secrets.watch():
        lab.converge(MEMBERS, ipsec_key_type="rsa-3072")
    check_encrypted(lab)
    check_nss(lab)
    for host in MEMBERS:
        [leaf] = certificates_of(lab, host, f"underlay-{host}")
        key = leaf.public_key()
        assert isinstance(key, rsa.RSAPublicKey)
        assert key.key_size == 3072
    lab.converge(MEMBERS)
    check_encrypted(lab)
    check_nss(lab)


def test_a_revoked_host_is_out(lab: Lab) -> None:
    rest = MEMBERS[:2]
    with lab.traffic(rest) as streams:
        run = lab.play("revoke", MEMBERS, ipsec_revoke="h3")
    assert run.rc == 0, run.output
    check_encrypted(lab, rest)
    out = lab.address("h3")

    def with_it(host: str) -> list[tuple[str, str, str]]:
        return [sa for sa in lab.spis(host) if out in sa[:2]]

    assert not any(on_all(with_it, rest).values())
    # From its own side, afresh: it is still enforced there, with all that it had.
    lab.ssh("h3", "systemctl restart ipsec")
    with lab.capture() as capture:
        for host in rest:
            assert not lab.answers("h3", lab.address(host))
            assert not lab.answers(host, out)
    assert not any(on_all(with_it, rest).values())
    for host in rest:
        assert not capture.clear(out, lab.address(host))
        assert not capture.esp(out, lab.address(host))
    check_streams(streams, rest)

    run = lab.play("site", MEMBERS)
    assert run.rc != 0
    assert re.search(r"h3: ipsec_reinstate: its certificate was revoked at 20\S+ \(unspecified\)", run.output)
    check_encrypted(lab, rest)
    [old] = certificates_of(lab, "h3", "underlay-h3")
    lab.converge(MEMBERS, ipsec_reinstate=["h3"])
    check_encrypted(lab)
    check_nss(lab)
    [new] = certificates_of(lab, "h3", "underlay-h3")
    assert new.serial_number != old.serial_number
    # It need not be said for ever.
    assert lab.converge(MEMBERS).changed == 0


def test_a_lost_ledger_is_written_again(lab: Lab) -> None:
    def current() -> dict[str, tuple[str, str]]:
        return {
            entry["member"]: (entry["serial"], entry["fingerprint"])
            for entry in ledger(lab)
            if entry["event"] != "revoked"
        }

    before, spis = current(), spis_among(lab, MEMBERS)
    (lab.folder / "ca/ledger.jsonl").unlink()
    lab.converge(MEMBERS)
    assert current() == before
    assert spis_among(lab, MEMBERS) == spis
    check_nss(lab)


def test_an_expired_cluster_is_repaired_by_one_run(lab: Lab) -> None:
    """Certificates that last less than a minute, signed by what signs the others."""
    short_lived(lab, MEMBERS, SHORT_SECONDS)
    ends = max(certificates_of(lab, host, f"underlay-{host}")[0].not_valid_after_utc for host in MEMBERS)
    time.sleep(max(0, (ends - datetime.now(UTC)).total_seconds()) + 1)

    since = now_on(lab)
    lab.ssh("h2", "systemctl restart ipsec")
    targets = [lab.address(host) for host in MEMBERS if host != "h2"]
    assert not any(lab.answers("h2", target) for target in targets)
    assert not lab.spis("h2")
    said = lab.ssh("h2", f"journalctl -u ipsec --no-pager -o cat --since={since}")
    assert re.search("expired|AUTHENTICATION_FAILED", said), said
    lab.converge(MEMBERS)
    check_encrypted(lab)
    check_nss(lab)


def test_a_certificate_that_a_peer_does_not_trust_is_seen(lab: Lab) -> None:
    """Traffic goes on, by the SA that there is."""
    lab.ssh("h2", f"certutil -D -d {NSS} -n underlay-ca")
    run = lab.play("verify", MEMBERS)
    assert run.rc != 0
    assert re.search(r"its certificate is of O=underlay\.ipsec, CN=\S.*, which h2 does not trust", run.output)
    lab.converge(MEMBERS)
    check_encrypted(lab)
    check_nss(lab)


class Elsewhere:
    """Somebody who has a CA, and nothing to do with this collection."""

    def __init__(self, folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        self.folder = folder
        self.key = ec.generate_private_key(ec.SECP384R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "the CA of somebody else")])
        self.authority = (
            self._certificate(self.name, self.key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(self.key, hashes.SHA384())
        )
        self.path = folder / "ca.pem"
        self.path.write_bytes(self.authority.public_bytes(serialization.Encoding.PEM))

    def _certificate(self, subject: x509.Name, key: Any) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return x509.CertificateBuilder(
            self.name,
            subject,
            key,
            x509.random_serial_number(),
            now - timedelta(minutes=1),
            now + timedelta(days=365),
        )

    def issue(self, subject: x509.Name, key: Any, names: x509.SubjectAlternativeName) -> x509.Certificate:
        """Sign a certificate."""
        made = self._certificate(subject, key).add_extension(names, critical=False)
        return made.sign(self.key, hashes.SHA384())

    def answer(self, request: Path) -> bytes:
        """Return the certificate (PEM) for the request in a file."""
        csr = x509.load_pem_x509_csr(request.read_bytes())
        names = csr.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        issued = self.issue(csr.subject, csr.public_key(), names)
        return issued.public_bytes(serialization.Encoding.PEM)

    @property
    def signing(self) -> Path:
        """Where requests come and certificates go."""
        return self.folder / "signing"

    @property
    def external(self) -> dict[str, Any]:
        """Variables with which it signs the certificates of a cluster."""
        return {
            "ipsec_certificate_source": "external",
            "ipsec_signing_dir": str(self.signing),
            "ipsec_ca_certificate": str(self.path),
        }

    def answer_all(self) -> None:
        """Sign whatever there is."""
        for request in self.signing.glob("*.csr"):
            request.with_suffix(".crt").write_bytes(self.answer(request))

    def bundle(self, host: str) -> tuple[Path, Key]:
        """Write a bundle for *host*; return its path and its key."""
        key = ec.generate_private_key(ec.SECP384R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{host} of somebody else")])
        leaf = self.issue(name, key.public_key(), x509.SubjectAlternativeName([x509.DNSName(host)]))
        protection = serialization.BestAvailableEncryption(BUNDLE_PASSWORD.encode())
        path = self.folder / f"{host}.p12"
        path.write_bytes(pkcs12.serialize_key_and_certificates(host.encode(), key, leaf, None, protection))
        return path, key


@pytest.fixture(scope="module")
def elsewhere(lab: Lab) -> Elsewhere:
    """Return the CA of somebody else."""
    return Elsewhere(lab.folder / "elsewhere")


def test_certificates_signed_elsewhere(lab: Lab, elsewhere: Elsewhere, secrets: Secrets) -> None:
    """In a folder of its own: in one that has a CA, site.yml does not change to another."""
    signing, how = elsewhere.signing, {**elsewhere.external, "ipsec_ca_dir": str(elsewhere.folder / "ca")}
    with secrets.watch(), lab.traffic(MEMBERS) as streams:
        run = lab.play("site", MEMBERS, **how)
    assert run.rc != 0
    assert "3 certificates are not there yet" in run.output
    for host in MEMBERS:
        assert f"{signing}/{host}.csr -> {signing}/{host}.crt" in run.output
    check_streams(streams)

    elsewhere.answer_all()
    shutil.copy(signing / "h1.crt", signing / "h2.crt")
    with untouched(lab, "elsewhere", "ca"), lab.traffic(MEMBERS) as streams:
        run = lab.play("site", MEMBERS, **how)
    assert run.rc != 0
    assert len(re.findall(r"^fatal: ", run.output, re.MULTILINE)) == 1, run.output
    said = f"h2: {signing}/h2.crt is the certificate for the request of h1, and came back for h2"
    assert said in run.output, run.output
    check_streams(streams)
    # Nobody depends on what is in NSS beside it: the certificates are those of before, and so is their CA.
    lab.ssh("h2", "systemctl restart ipsec")
    lab.converge(MEMBERS)
    check_encrypted(lab)


def test_a_ca_elsewhere_takes_over(lab: Lab, elsewhere: Elsewhere) -> None:
    """Nobody parts with the CA of before while there is no certificate of the next one."""
    how = {**elsewhere.external, "ipsec_rotate_ca": True, "ipsec_rotate_serial": 4}
    shutil.rmtree(elsewhere.signing, ignore_errors=True)  # certificates for requests that were given up
    with lab.traffic(MEMBERS) as streams:
        run = lab.play("rotate", MEMBERS, **how)
        assert run.rc != 0
        assert "3 certificates are not there yet" in run.output, run.output
        check_encrypted(lab)
        elsewhere.answer_all()
        since = now_on(lab)
        run = lab.play("rotate", MEMBERS, **how)
    assert run.rc == 0, run.output
    check_encrypted(lab)
    check_nss(lab, own_ca=False)
    check_issuer(lab, since, "somebody else")
    assert lab.converge(MEMBERS, **elsewhere.external).changed == 0
    check_streams(streams)


def test_bundles(lab: Lab, elsewhere: Elsewhere, secrets: Secrets) -> None:
    """A bundle for each host, of which nothing stays on the host but what is in NSS.

    The subjects are others than before, and hosts are known by them.
    """
    password_file = elsewhere.folder / "password"
    password_file.write_text(f"{BUNDLE_PASSWORD}\n", encoding="utf-8")
    variables: dict[str, dict[str, str]] = {}
    for host in MEMBERS:
        path, key = elsewhere.bundle(host)
        secrets.keys.append(key)
        password = (
            {"ipsec_pkcs12_password": BUNDLE_PASSWORD}
            if host in ("h1", "h2")
            else {"ipsec_pkcs12_password_file": str(password_file)}
        )
        variables[host] = {"ipsec_pkcs12": str(path), **password}
    how = {**elsewhere.external, "ipsec_certificate_source": "pkcs12"}
    since = now_on(lab)
    with secrets.watch(), lab.capture() as wire, lab.traffic(MEMBERS) as streams:
        lab.converge(MEMBERS, "-vvv", host_variables=variables, **how)
    for one, other in itertools.combinations(MEMBERS, 2):
        assert not wire.clear(lab.address(one), lab.address(other))
    check_encrypted(lab)
    check_nss(lab, own_ca=False)
    check_issuer(lab, since, "somebody else")
    for host in MEMBERS:
        [leaf] = certificates_of(lab, host, f"underlay-{host}")
        assert leaf.subject.rfc4514_string() == f"CN={host} of somebody else"
    assert lab.converge(MEMBERS, host_variables=variables, **how).changed == 0
    check_streams(streams, seconds=OTHER_SUBJECTS_SECONDS)


def test_nothing_secret_is_anywhere(lab: Lab, elsewhere: Elsewhere, secrets: Secrets) -> None:
    """The last test: what any of the runs may have left. First, it has to find what is planted."""
    if not secrets.keys:
        secrets.keys.append(elsewhere.bundle("h1")[1])
    planted = "a password that somebody planted"
    secrets.texts.append(planted)
    forms = (serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    pem, der = (
        secrets.keys[0].private_bytes(e, *forms)
        for e in (serialization.Encoding.PEM, serialization.Encoding.DER)
    )
    body = "".join(f"{line}\n" for line in pem.decode().splitlines()[1:-1])
    # What is planted comes with a command, which is to be found as well, and then forgotten.
    seen = set(secrets.seen)
    lab.ssh("h1", f"touch {SAMPLES}; cp {SAMPLES} {SAMPLES}.before")
    with secrets.watch():
        lab.ssh(
            "h1",
            f"echo {base64.b64encode(der).decode()} | base64 -d >/var/tmp/planted-der;"
            f"printf '{body}' >/root/planted-body; echo '-----BEGIN EC PRIVATE KEY-----' >/etc/planted-marker;"
            f"touch /var/lib/ipsec/nss/planted; logger '{planted}'; sh -c 'sleep 2' '{planted}'",
        )
    leak = lab.folder / "report/planted"
    leak.write_text(planted, encoding="utf-8")
    files = {
        "/var/tmp/planted-der",
        "/root/planted-body",
        "/etc/planted-marker",
        "/var/lib/ipsec/nss/planted",
    }
    try:
        found = secrets.on_host("h1")
        assert found == {*files, SAMPLES, "journal"}
        assert secrets.on_controller() >= {str(leak)}
    finally:
        lab.ssh("h1", f"rm -f {' '.join(files)}; mv {SAMPLES}.before {SAMPLES}")
        leak.unlink()
    secrets.texts.remove(planted)
    secrets.seen = seen
    assert not {host: found for host, found in on_all(secrets.on_host).items() if found}
    assert not secrets.on_controller()
