# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The NSS database that libreswan keeps its keys and certificates in.

`CertutilDatabase` is the real one. `MemoryDatabase` behaves like it in memory:
check mode changes that one instead, and so foretells what would become of the real one.
"""

from __future__ import annotations

import fcntl
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, Protocol

from ansible_collections.underlay.ipsec.plugins.module_utils._errors import (
    CommandError,
    IpsecError,
    Problem,
    ProblemsError,
)
from ansible_collections.underlay.ipsec.plugins.module_utils._nss.x509 import (
    Certificate,
    Names,
    Request,
    RevocationList,
    certificates_from_pem,
    request_from_pem,
)
from ansible_collections.underlay.ipsec.plugins.module_utils._run import Completed, Runner

DEFAULT_DIRECTORY = "/var/lib/ipsec/nss"
_OLD_DIRECTORY = "/etc/ipsec.d"
_FILES = ("cert9.db", "key4.db", "pkcs11.txt")

_SPACE_BYTES = 256 * 1024  # what SQLite may need beside the database while it writes

_KEY_LINE = re.compile(r"^<\s*\d+>\s+\w+\s+(?P<id>[0-9a-f]+)\s")
_TRUST_LINE = re.compile(r"^(?P<nickname>\S.*?)\s+(?P<trust>[pPcCTuwgG]*,[pPcCTuwgG]*,[pPcCTuwgG]*)\s*$")
_CRL_LINE = re.compile(r"^(?P<issuer>\S.*?)\s+CRL\s*$")
_CRL_TIME = re.compile(r"^ *(?P<which>This|Next) Update: (?P<time>.*\S)", re.MULTILINE)
_CRL_ENTRY = re.compile(r"^ *Entry \d+ ", re.MULTILINE)

_KEY_OPTIONS = {
    "ecdsa-p256": ("-k", "ec", "-q", "nistp256", "-Z", "SHA256"),
    "ecdsa-p384": ("-k", "ec", "-q", "nistp384", "-Z", "SHA384"),
    "rsa-3072": ("-k", "rsa", "-g", "3072", "-Z", "SHA256"),
    "rsa-4096": ("-k", "rsa", "-g", "4096", "-Z", "SHA256"),
}


@dataclass(frozen=True)
class Entry:
    """What NSS keeps under one nickname.

    More than one certificate means that they have the same subject: NSS files
    certificates by subject, whatever nickname they were added with.
    """

    nickname: str
    trust: str
    certificates: tuple[Certificate, ...]

    @property
    def flags(self) -> frozenset[str]:
        """The trust flags that libreswan goes by: those for TLS, the first of the three kinds."""
        return frozenset(self.trust.partition(",")[0])


@dataclass(frozen=True)
class Content:
    """All that an NSS database holds: entries by nickname, and the ids of private keys."""

    entries: tuple[Entry, ...] = ()
    keys: frozenset[str] = frozenset()

    def entry(self, nickname: str) -> Entry | None:
        """Return what is filed under *nickname*."""
        return next((entry for entry in self.entries if entry.nickname == nickname), None)

    def nickname_of(self, certificate: Certificate) -> str | None:
        """Return the nickname that *certificate* is filed under."""
        return next((entry.nickname for entry in self.entries if certificate in entry.certificates), None)

    def orphans(self) -> frozenset[str]:
        """Return the ids of private keys that no certificate belongs to."""
        return self.keys - {c.public_key.key_id for entry in self.entries for c in entry.certificates}


@dataclass(frozen=True)
class ListedCrl:
    """What NSS tells of a revocation list, enough to tell two of one CA apart. Times are in UTC."""

    this_update: datetime
    next_update: datetime | None
    revoked: int
    """How many certificates it revokes."""

    @classmethod
    def of(cls, crl: RevocationList) -> ListedCrl:
        """Return what NSS will tell of *crl*."""
        return cls(crl.this_update, crl.next_update, len(crl.revoked))


@dataclass(frozen=True)
class Bundle:
    """A certificate and its private key on their way into a database."""

    certificate: Certificate
    contents: bytes = field(repr=False)
    """PKCS #12 with these two and nothing else."""
    password: str = field(repr=False)


class Database(Protocol):
    """What the collection does to an NSS database. Failures are `CommandError`."""

    def content(self) -> Content:
        """Return what the database holds now."""

    def add(self, nickname: str, certificate: Certificate, trust: str) -> None:
        """Add *certificate* under *nickname*, which must be free."""

    def set_trust(self, nickname: str, trust: str) -> None:
        """Set the trust flags of a nickname, for example ``CT,,``."""

    def rename(self, nickname: str, new: str) -> None:
        """Give an entry another nickname, which must be free."""

    def delete_certificate(self, nickname: str) -> None:
        """Delete one certificate of *nickname*; its private key stays."""

    def delete_key(self, key_id: str) -> None:
        """Delete a private key; its certificate stays."""

    def crls(self) -> Mapping[str, ListedCrl]:
        """Return the revocation lists by the nickname of the CA that issued them."""

    def add_crl(self, crl: RevocationList) -> None:
        """Add a revocation list in the place of an older one; its CA must be there."""

    def delete_crl(self, nickname: str) -> None:
        """Delete the revocation list of the CA with *nickname*."""

    def add_bundle(self, bundle: Bundle) -> None:
        """Add a certificate with its key, under the nickname in the bundle, or where its subject is already."""

    def refusal(self, nickname: str) -> str | None:
        """Return why NSS would not accept the certificate for IPsec; None if it would."""

    def refusal_of(self, certificate: Certificate, authorities: Iterable[Certificate]) -> str | None:
        """Return why NSS would not accept a certificate that is not in the database, with these CAs."""


@dataclass
class MemoryDatabase:
    """An NSS database that exists in memory only."""

    entries: list[Entry] = field(default_factory=list)
    keys: set[str] = field(default_factory=set)
    lists: dict[bytes, ListedCrl] = field(default_factory=dict)
    """The revocation lists, as NSS has them: by the name of the issuer."""

    @classmethod
    def of(cls, db: Database) -> MemoryDatabase:
        """Return a database that starts with what *db* holds."""
        content, crls = db.content(), db.crls()
        lists = {
            entry.certificates[0].subject_name: crls[entry.nickname]
            for entry in content.entries
            if entry.nickname in crls
        }
        return cls(list(content.entries), set(content.keys), lists)

    def content(self) -> Content:
        """See `Database`."""
        return Content(
            tuple(Entry(e.nickname, self._with_key(e), e.certificates) for e in self.entries),
            frozenset(self.keys),
        )

    def add(self, nickname: str, certificate: Certificate, trust: str) -> None:
        """See `Database`."""
        self.entries.append(Entry(nickname, trust, (certificate,)))

    def set_trust(self, nickname: str, trust: str) -> None:
        """See `Database`."""
        self._replace(nickname, lambda entry: Entry(nickname, trust, entry.certificates))

    def rename(self, nickname: str, new: str) -> None:
        """See `Database`."""
        self._replace(nickname, lambda entry: Entry(new, entry.trust, entry.certificates))

    def delete_certificate(self, nickname: str) -> None:
        """See `Database`."""
        self._replace(nickname, lambda entry: Entry(nickname, entry.trust, entry.certificates[1:]))
        self.entries = [entry for entry in self.entries if entry.certificates]

    def delete_key(self, key_id: str) -> None:
        """See `Database`."""
        self.keys.discard(key_id)

    def crls(self) -> Mapping[str, ListedCrl]:
        """See `Database`."""
        return {
            entry.nickname: self.lists[entry.certificates[0].subject_name]
            for entry in self.entries
            if entry.certificates[0].subject_name in self.lists
        }

    def add_crl(self, crl: RevocationList) -> None:
        """See `Database`."""
        self.lists[crl.issuer_name] = ListedCrl.of(crl)

    def delete_crl(self, nickname: str) -> None:
        """See `Database`."""
        for entry in self.entries:
            if entry.nickname == nickname:
                self.lists.pop(entry.certificates[0].subject_name, None)

    def add_bundle(self, bundle: Bundle) -> None:
        """See `Database`. What is only imagined needs no nickname from the bundle."""
        self.keys.add(bundle.certificate.public_key.key_id)
        for number, entry in enumerate(self.entries):
            if entry.certificates[0].subject_name == bundle.certificate.subject_name:
                together = (bundle.certificate, *entry.certificates)
                self.entries[number] = Entry(entry.nickname, entry.trust, together)
                return
        self.add("underlay-bundle", bundle.certificate, ",,")

    def refusal(self, nickname: str) -> str | None:
        """See `Database`: what does not exist is refused by nobody."""
        return None

    def refusal_of(self, certificate: Certificate, authorities: Iterable[Certificate]) -> str | None:
        """See `Database`: what does not exist is refused by nobody."""
        return None

    def _replace(self, nickname: str, change: Callable[[Entry], Entry]) -> None:
        self.entries = [change(entry) if entry.nickname == nickname else entry for entry in self.entries]

    def _with_key(self, entry: Entry) -> str:
        if entry.trust == ",," and all(c.public_key.key_id in self.keys for c in entry.certificates):
            return "u,u,u"
        return entry.trust


class CertutilDatabase:
    """The real database in *directory*, through certutil and crlutil."""

    def __init__(self, run: Runner, directory: str) -> None:
        self._run = run
        self.directory = directory
        self._content: Content | None = None
        self._crls: dict[str, ListedCrl] | None = None

    def exists(self) -> bool:
        """Return whether there is a database in the directory; one half made does not count."""
        paths = (os.path.join(self.directory, name) for name in ("cert9.db", "key4.db"))
        return all(os.path.exists(path) and os.path.getsize(path) > 0 for path in paths)

    @contextmanager
    def opened(self, *, create: bool) -> Iterator[bool]:
        """Keep other runs away from the database; give whether there is one (with *create*, always)."""
        if create and not self.exists():
            self._create()
        if not self.exists():
            yield False
            return
        handle = os.open(self.directory, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield True
        finally:
            os.close(handle)

    def secure(self, *, dry: bool = False) -> list[str]:
        """Take the database's files from other users' reach; return the names of those that were not."""
        loose = []
        for name in _FILES:
            path = os.path.join(self.directory, name)
            if os.path.exists(path) and os.stat(path).st_mode & 0o077:
                loose.append(name)
                if not dry:
                    os.chmod(path, 0o600)
        return loose

    def content(self) -> Content:
        """See `Database`; read again only after a change."""
        if self._content is None:
            trust: dict[str, str] = {}
            for line in self._output("-L").splitlines():
                match = _TRUST_LINE.match(line)
                if match:
                    trust[match["nickname"]] = match["trust"]
            self._content = Content(
                tuple(
                    Entry(nickname, flags, certificates_from_pem(self._output("-L", "-a", "-n", nickname)))
                    for nickname, flags in trust.items()
                ),
                self._keys(),
            )
        return self._content

    def add(self, nickname: str, certificate: Certificate, trust: str) -> None:
        """See `Database`."""
        self._change("-A", "-a", "-n", nickname, "-t", trust, stdin=certificate.pem)

    def set_trust(self, nickname: str, trust: str) -> None:
        """See `Database`."""
        self._change("-M", "-n", nickname, "-t", trust)

    def rename(self, nickname: str, new: str) -> None:
        """See `Database`."""
        self._change("--rename", "-n", nickname, "--new-n", new)

    def delete_certificate(self, nickname: str) -> None:
        """See `Database`."""
        self._change("-D", "-n", nickname)

    def delete_key(self, key_id: str) -> None:
        """See `Database`."""
        self._change("-F", "-k", key_id)

    def crls(self) -> Mapping[str, ListedCrl]:
        """See `Database`; read again only after a change."""
        if self._crls is None:
            listing = self._output("-L", program="crlutil").splitlines()
            # One whose CA is gone has the CA's name instead, and cannot be asked for.
            nicknames = {match["issuer"] for match in map(_CRL_LINE.match, listing) if match}
            self._crls = {
                entry.nickname: _listed_crl(self._output("-L", "-n", entry.nickname, program="crlutil"))
                for entry in self.content().entries
                if entry.nickname in nicknames
            }
        return self._crls

    def add_crl(self, crl: RevocationList) -> None:
        """See `Database`."""
        with tempfile.NamedTemporaryFile(prefix="underlay-crl-") as file:
            file.write(crl.encoded)
            file.flush()
            self._change("-I", "-i", file.name, program="crlutil")

    def delete_crl(self, nickname: str) -> None:
        """See `Database`."""
        self._change("-D", "-n", nickname, program="crlutil")

    def refusal(self, nickname: str) -> str | None:
        """See `Database`."""
        done = self._attempt("-V", "-e", "-u", "I", "-n", nickname)
        said = (done.stdout + done.stderr).strip().splitlines()
        if done.rc == 0:
            return None
        return said[-1].rpartition("invalid: ")[2] if said else "certutil gives no reason"

    def refusal_of(self, certificate: Certificate, authorities: Iterable[Certificate]) -> str | None:
        """See `Database`: asks NSS with a database of its own, in which there is no key."""
        with tempfile.TemporaryDirectory(prefix="underlay-nss-") as directory:
            other = CertutilDatabase(self._run, directory)
            with other.opened(create=True):
                for number, authority in enumerate(authorities):
                    other.add(f"ca-{number}", authority, "CT,," if authority.is_root else ",,")
                other.add("certificate", certificate, ",,")
                return other.refusal("certificate")

    def add_bundle(self, bundle: Bundle) -> None:
        """See `Database`."""
        # Files in memory, which are gone with this process, however it ends.
        with _in_memory(bundle.contents) as contents, _in_memory(bundle.password.encode()) as password:
            self._change("-i", contents, "-w", password, program="pk12util")

    def create_request(self, key_type: str, subject: str, names: Names) -> Request:
        """Generate a key in the database and return a request for it.

        *subject* is in the notation of RFC 1485.
        """
        with self._noise() as noise:
            text = self._change(
                *("-R", "-a", "-s", subject, "--extSAN", ",".join(names.as_list()), "-z", noise),
                *_KEY_OPTIONS[key_type],
            )
        return request_from_pem(text)

    def _create(self) -> None:
        """Create the database as libreswan does."""
        self._present(self._run(["certutil", "--version"], check=False))
        if self.directory == DEFAULT_DIRECTORY and os.path.isdir(self.directory):
            # Knows about SELinux labels and about databases in the old place.
            self._run(["ipsec", "checknss"], check=False)
        if not self.exists():
            os.makedirs(self.directory, mode=0o700, exist_ok=True)
            self._output("-N", "--empty-password")

    def _keys(self) -> frozenset[str]:
        done = self._attempt("-K")
        if done.rc != 0 and "no keys found" not in done.stdout + done.stderr:
            raise CommandError(done.argv, done.rc, done.stdout, done.stderr)
        return frozenset(match["id"] for match in map(_KEY_LINE.match, done.stdout.splitlines()) if match)

    @contextmanager
    def _noise(self) -> Iterator[str]:
        # Without a file certutil asks for key strokes. NSS has its own entropy besides.
        with tempfile.NamedTemporaryFile(prefix="underlay-noise-") as file:
            file.write(os.urandom(64))
            file.flush()
            yield file.name

    def _change(self, *arguments: str, stdin: str | None = None, program: str = "certutil") -> str:
        self._content = None
        self._crls = None
        return self._output(*arguments, stdin=stdin, program=program)

    def _output(self, *arguments: str, stdin: str | None = None, program: str = "certutil") -> str:
        done = self._attempt(*arguments, stdin=stdin, program=program)
        if done.rc == 0:
            return done.stdout
        problem = self._explain(done)
        if problem is not None:
            raise ProblemsError([problem])
        raise CommandError(done.argv, done.rc, done.stdout, done.stderr)

    def _explain(self, done: Completed) -> Problem | None:
        """Return the cause of a failure where certutil does not say it, or not in words that help."""
        if "SEC_ERROR_BAD_PASSWORD" in done.stderr:
            return Problem(
                f"the NSS database in {self.directory} has a password that is not known",
                f"Write it to {self.directory}/nsspassword (mode 0600), as libreswan needs it too",
            )
        if os.path.isdir(self.directory):
            disk = os.statvfs(self.directory)
            if disk.f_bavail * disk.f_frsize < _SPACE_BYTES:
                return Problem(
                    f"the disk of {self.directory} is full, and the NSS database cannot be changed",
                    "Make room, and run again",
                )
        return None

    def _attempt(self, *arguments: str, stdin: str | None = None, program: str = "certutil") -> Completed:
        option = "-k" if program == "pk12util" else "-f"
        argv = [program, *arguments, "-d", f"sql:{self.directory}", option, self._password_file()]
        return self._present(self._run(argv, stdin=stdin, check=False))

    @staticmethod
    def _present(done: Completed) -> Completed:
        if done.rc == 127:
            raise ProblemsError(
                [
                    Problem(
                        f"{done.argv[0]} is not installed",
                        "Install libnss3-tools (Debian) or nss-tools (EL); libreswan's package brings it",
                    )
                ]
            )
        return done

    def _password_file(self) -> str:
        """Return the file that libreswan itself reads the password from.

        An empty file when there is none: with it, certutil never asks a terminal.
        """
        for directory in (self.directory, _OLD_DIRECTORY):
            path = os.path.join(directory, "nsspassword")
            if os.path.exists(path):
                return path
        return os.devnull


@contextmanager
def _in_memory(data: bytes) -> Iterator[str]:
    """Give the path of a file with *data* that is on no file system, for commands of this user's."""
    with os.fdopen(os.memfd_create("underlay"), "wb") as file:
        file.write(data)
        file.flush()
        yield f"/proc/{os.getpid()}/fd/{file.fileno()}"


def _listed_crl(text: str) -> ListedCrl:
    """Return what crlutil prints about a revocation list. It prints times in UTC."""
    try:
        times = {
            match["which"]: datetime.strptime(match["time"], "%a %b %d %H:%M:%S %Y").replace(
                tzinfo=timezone.utc
            )
            for match in _CRL_TIME.finditer(text)
        }
        return ListedCrl(times["This"], times.get("Next"), len(_CRL_ENTRY.findall(text)))
    except (KeyError, ValueError) as error:
        raise IpsecError(f"what crlutil says of a revocation list cannot be read: {error}") from error


def default_directory() -> str:
    """Return where this host's libreswan keeps its database (before 4.0: /etc/ipsec.d)."""
    if not os.path.isdir(DEFAULT_DIRECTORY) and os.path.exists(os.path.join(_OLD_DIRECTORY, "cert9.db")):
        return _OLD_DIRECTORY
    return DEFAULT_DIRECTORY


def describe(
    content: Content, nicknames: Sequence[str], crls: Mapping[str, ListedCrl] | None = None
) -> dict[str, object]:
    """Return what a diff shows of *nicknames*: no key, no certificate, only what tells them apart."""
    shown: dict[str, object] = {}
    for nickname in nicknames:
        entry = content.entry(nickname)
        if entry:
            shown[nickname] = {
                "trust": entry.trust,
                "certificates": [
                    {
                        "fingerprint": certificate.fingerprint,
                        "subject": certificate.subject,
                        "names": certificate.names.as_list(),
                        "not_after": iso(certificate.not_after),
                        "private_key": certificate.public_key.key_id in content.keys,
                    }
                    for certificate in entry.certificates
                ],
                **({"crl": _described(crls[nickname])} if crls and nickname in crls else {}),
            }
    return shown


def difference(before: MemoryDatabase, after: MemoryDatabase, nicknames: Sequence[str]) -> dict[str, Any]:
    """Return the result's ``diff``, see `describe`."""
    return {
        "before": describe(before.content(), nicknames, before.crls()),
        "after": describe(after.content(), nicknames, after.crls()),
    }


def facts(certificate: Certificate | None) -> dict[str, str | None]:
    """Return what a result says of the host's certificate; None of each if there is none."""
    return {
        "fingerprint": certificate.fingerprint if certificate else None,
        "serial": f"{certificate.serial:x}" if certificate else None,
        "not_after": iso(certificate.not_after) if certificate else None,
    }


def _described(crl: ListedCrl) -> dict[str, object]:
    return {
        "this_update": iso(crl.this_update),
        "next_update": iso(crl.next_update) if crl.next_update else None,
        "revoked": crl.revoked,
    }


def iso(time: datetime) -> str:
    """Return *time* (UTC) in ISO 8601, for example ``2026-01-31T12:00:00Z``."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")
