# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The CA's folder on the control node: what is where, and creating it safely."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from ansible_collections.underlay.ipsec.plugins.module_utils._errors import Problem, ProblemsError
from ansible_collections.underlay.ipsec.plugins.module_utils._files import write_atomically
from ansible_collections.underlay.ipsec.plugins.module_utils._pki import authority, chain, keys
from ansible_collections.underlay.ipsec.plugins.module_utils._pki.authority import Authority
from ansible_collections.underlay.ipsec.plugins.module_utils._pki.ledger import Ledger
from ansible_collections.underlay.ipsec.plugins.module_utils._pki.store import Store

if TYPE_CHECKING:
    from cryptography import x509

SLOTS = ("ca", "next", "old")
"""The CAs that hosts trust: the one that signs, the one that will, and the one that did."""


@dataclass(frozen=True)
class Slot:
    """A CA in the folder."""

    name: str
    """One of `SLOTS`."""
    certificate: x509.Certificate
    chain: tuple[x509.Certificate, ...]
    """Its issuers up to the root, unless it is one."""
    has_key: bool
    """False for a CA that others sign with."""
    serial_file: str | None
    """The file that numbers its certificates; None for random numbers."""


class Folder(Store):
    """A CA's folder, of mode 0700.

    ``ca.crt``, ``chain.crt`` (its issuers, if it is no root), ``ca.key`` (encrypted),
    ``crl.pem``, ``serial`` (the path of the file with the last serial number, if
    certificates are numbered), ``ledger.jsonl``, ``issued/<member>.pem`` and ``lock``.

    While one CA follows another there are two: beside that in ``ca.*`` either
    ``next.crt`` and so on, which is trusted and does not sign yet, or ``old.crt``,
    which is trusted and signs no more. In the end that is in ``retired``.
    """

    def __init__(self, path: str) -> None:
        super().__init__(os.path.abspath(os.path.expanduser(path)))
        self.certificate_path = os.path.join(self.path, "ca.crt")
        self.key_path = os.path.join(self.path, "ca.key")
        self.issued_path = os.path.join(self.path, "issued")
        self.ledger = Ledger(os.path.join(self.path, "ledger.jsonl"))

    def issued(self, member: str) -> str:
        """Return the path of a member's certificate."""
        return os.path.join(self.issued_path, f"{member}.pem")

    @property
    def exists(self) -> bool:
        """Whether there is such a directory."""
        return os.path.isdir(self.path)

    def slot(self, name: str) -> Slot | None:
        """Return the CA in a slot; None if there is none. Raises `ProblemsError` and OSError."""
        files = slot_files(name)
        text = self.read(files["certificate"])
        if text is None:
            return None
        path = os.path.join(self.path, files["chain"])
        above = self.read(files["chain"])
        serial = self.read(files["serial"])
        return Slot(
            name,
            authority.load_certificate(text.encode(), os.path.join(self.path, files["certificate"])),
            tuple(chain.read(above.encode(), path, "ipsec_ca_dir")) if above else (),
            self.read(files["key"]) is not None,
            serial.strip() if serial else None,
        )

    def load(self, name: str, passphrase: str, now: datetime) -> Authority:
        """Return the CA in a slot that has one, if it can sign. Raises `ProblemsError` and OSError."""
        files = slot_files(name)
        path = os.path.join(self.path, files["certificate"])
        certificate = authority.load_certificate((self.read(files["certificate"]) or "").encode(), path)
        found = Authority(certificate, self.load_key(name, passphrase))
        authority.check(found, path, now)
        return found

    def load_key(self, name: str, passphrase: str) -> keys.PrivateKey:
        """Return the key in a slot that has one. Raises `ProblemsError` and OSError."""
        file = slot_files(name)["key"]
        pem = self.read(file) or ""
        return authority.load_key(pem.encode(), passphrase, os.path.join(self.path, file))

    def placed(
        self,
        name: str,
        certificates: Sequence[x509.Certificate],
        key_pem: str | None,
        serial_file: str | None,
    ) -> dict[str, str | None]:
        """Return the changes that put a CA into a slot: *certificates* are it and its issuers."""
        files = slot_files(name)
        return {
            files["certificate"]: chain.pem(certificates[0]),
            files["chain"]: "".join(chain.pem(each) for each in certificates[1:]) or None,
            files["key"]: key_pem,
            files["serial"]: f"{serial_file}\n" if serial_file else None,
            files["crl"]: None,
        }

    def moved(self, name: str, to: str) -> dict[str, str | None]:
        """Return the changes that move a CA to another slot, or to ``retired``."""
        certificate = self.slot(name)
        if certificate is None:
            raise ValueError(f"there is no CA in {name}")
        target = retired_files(certificate.certificate) if to == "retired" else slot_files(to)
        changes: dict[str, str | None] = {}
        for kind, file in slot_files(name).items():
            changes[target[kind]] = self.read(file)
            changes[file] = None
        return changes

    def is_retired(self, certificate: x509.Certificate) -> bool:
        """Return whether a CA was followed by another one and is trusted no more."""
        return self.read(retired_files(certificate)["certificate"]) is not None

    def enter(self, *, check: bool) -> bool:
        """Have the folder; return False if it is not there yet, in check mode. Raises `ProblemsError`."""
        if not check:
            self._make()
        elif not self.exists:
            self._check_creatable()
            return False
        return True

    def open(self, passphrase: str | None, now: datetime) -> Authority:
        """Return the CA, which must exist. Raises `ProblemsError` and OSError."""
        authority.check_passphrase(passphrase)
        if self.read("ca.crt") is None or self.read("ca.key") is None:
            raise ProblemsError(
                [
                    Problem(
                        f"there is no CA in {self.path}",
                        "Run the role underlay.ipsec.ca first",
                        "ipsec_ca_dir",
                    )
                ]
            )
        return self.load("ca", passphrase or "", now)

    def create(
        self, passphrase: str, key_type: str, validity_days: int, now: datetime, *, check: bool
    ) -> bool:
        """Have a CA that can sign; return whether there was none.

        For who holds the lock; with *check* nothing is written. Raises `ProblemsError` and OSError.
        """
        has_certificate = self.read("ca.crt") is not None
        has_key = self.read("ca.key") is not None
        if has_certificate and has_key:
            self.load("ca", passphrase, now)
            return False
        if has_certificate:
            raise ProblemsError(
                [
                    Problem(
                        f"{self.path} has ca.crt but no ca.key",
                        "Restore ca.key from a backup; without it, change to a new CA: "
                        "playbooks/rotate.yml with ipsec_rotate_ca=true",
                        "ipsec_ca_dir",
                    )
                ]
            )
        if self.ledger.read():
            raise ProblemsError(
                [
                    Problem(
                        f"{self.path} has issued certificates but {'ca.crt is' if has_key else 'its CA is'} missing",
                        "Restore it from a backup (every member has ca.crt: certutil -L -a -n underlay-ca), "
                        "or move the folder away for a new CA",
                        "ipsec_ca_dir",
                    )
                ]
            )
        # The key goes first. Where a run ended between the two, the next one takes up
        # the key it finds, and a certificate without a key never exists.
        key = self.load_key("ca", passphrase) if has_key else None
        if check:
            return True
        if key is None:
            key = keys.generate(key_type)
            write_atomically(self.key_path, authority.encrypt(key, passphrase))
        made = authority.certify(key, validity_days, now)
        write_atomically(self.certificate_path, made.pem, mode=0o644)
        return True

    def secure_keys(self, *, check: bool) -> list[str]:
        """Take the keys from other users' sight; return a warning for each that was not."""
        warnings = []
        for name in SLOTS:
            path = os.path.join(self.path, slot_files(name)["key"])
            try:
                mode = os.stat(path).st_mode & 0o777
            except FileNotFoundError:
                continue
            if not mode & 0o077:
                continue
            if not check:
                os.chmod(path, 0o600)
            warnings.append(
                f"{path} had mode {mode:04o} and is 0600 now. Others could copy it; "
                "the passphrase is all that protects such a copy."
            )
        return warnings

    def _make(self) -> None:
        try:
            os.makedirs(self.path, mode=0o700, exist_ok=True)
            with suppress(PermissionError):  # a folder of another user, adopted as it is
                os.chmod(self.path, 0o700)
            os.makedirs(self.issued_path, mode=0o700, exist_ok=True)
        except OSError as error:
            raise ProblemsError([self._unwritable(error.strerror or str(error))]) from error
        if not os.access(self.path, os.W_OK | os.X_OK):
            raise ProblemsError([self._unwritable("Permission denied")])

    def _check_creatable(self) -> None:
        parent = os.path.dirname(self.path)
        while not os.path.lexists(parent):
            parent = os.path.dirname(parent)
        if not os.path.isdir(parent):
            raise ProblemsError([self._unwritable(f"{parent} is not a directory")])
        if not os.access(parent, os.W_OK | os.X_OK):
            raise ProblemsError([self._unwritable("Permission denied")])

    def _unwritable(self, why: str) -> Problem:
        return Problem(
            f"the CA's folder {self.path} cannot be written: {why}",
            "Choose a directory that the user of ansible-playbook may write",
            "ipsec_ca_dir",
        )


def slot_files(name: str) -> dict[str, str]:
    """Return the files of a slot by what they hold."""
    prefix = "" if name == "ca" else f"{name}-"
    return {
        "certificate": f"{name}.crt",
        "key": f"{name}.key",
        "chain": f"{prefix}chain.crt",
        "serial": f"{prefix}serial",
        "crl": f"{prefix}crl.pem",
    }


def retired_files(certificate: x509.Certificate) -> dict[str, str]:
    """Return the files of a CA that is trusted no more, by what they hold."""
    base = f"retired/{chain.fingerprint(certificate)}"
    return {
        "certificate": f"{base}.crt",
        "key": f"{base}.key",
        "chain": f"{base}-chain.crt",
        "serial": f"{base}-serial",
        "crl": f"{base}-crl.pem",
    }
