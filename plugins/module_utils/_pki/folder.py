# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The CA's folder on the control node: what is where, and creating it safely."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime

from ansible_collections.underlay.ipsec.plugins.module_utils._errors import Problem, ProblemsError
from ansible_collections.underlay.ipsec.plugins.module_utils._files import write_atomically
from ansible_collections.underlay.ipsec.plugins.module_utils._pki import authority, keys
from ansible_collections.underlay.ipsec.plugins.module_utils._pki.authority import Authority
from ansible_collections.underlay.ipsec.plugins.module_utils._pki.ledger import Ledger

_LOCK_TIMEOUT_SECONDS = 60.0
_LOCK_POLL_SECONDS = 0.05


@dataclass(frozen=True)
class Opened:
    """What came of opening the folder."""

    authority: Authority | None
    """None only when it would have been created, in check mode."""
    created: bool
    warnings: tuple[str, ...]


class Folder:
    """A CA's folder, of mode 0700.

    ``ca.crt``, ``ca.key`` (encrypted), ``ledger.jsonl``, ``issued/<member>.pem`` and ``lock``.
    """

    def __init__(self, path: str) -> None:
        self.path = os.path.abspath(os.path.expanduser(path))
        self.certificate_path = os.path.join(self.path, "ca.crt")
        self.key_path = os.path.join(self.path, "ca.key")
        self.issued_path = os.path.join(self.path, "issued")
        self.ledger = Ledger(os.path.join(self.path, "ledger.jsonl"))

    def issued(self, member: str) -> str:
        """Return the path of a member's certificate."""
        return os.path.join(self.issued_path, f"{member}.pem")

    @contextmanager
    def locked(self, timeout: float = _LOCK_TIMEOUT_SECONDS) -> Iterator[None]:
        """Keep every other run out of the folder; wait *timeout* seconds for one that is in it."""
        handle = os.open(os.path.join(self.path, "lock"), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            until = time.monotonic() + timeout
            while True:
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > until:
                        raise ProblemsError(
                            [
                                Problem(
                                    f"another run has been using the CA in {self.path} for {timeout:g} s",
                                    "Wait until it ends, and run again",
                                )
                            ]
                        ) from None
                    time.sleep(_LOCK_POLL_SECONDS)
            yield
        finally:
            os.close(handle)

    def ensure(
        self,
        passphrase: str | None,
        key_type: str,
        validity_days: int,
        now: datetime,
        *,
        check: bool = False,
    ) -> Opened:
        """Return the CA, creating it if the folder has none. Raises `ProblemsError` and OSError.

        With *check* nothing is written.
        """
        authority.check_passphrase(passphrase)
        if not check:
            self._make()
        elif not os.path.isdir(self.path):
            self._check_creatable()
            return Opened(None, True, ())
        if check:
            return self._ensure(passphrase or "", key_type, validity_days, now, check=True)
        with self.locked():
            return self._ensure(passphrase or "", key_type, validity_days, now, check=False)

    def open(self, passphrase: str | None, now: datetime) -> Authority:
        """Return the CA, which must exist. Raises `ProblemsError` and OSError."""
        authority.check_passphrase(passphrase)
        if not os.path.exists(self.certificate_path) or not os.path.exists(self.key_path):
            raise ProblemsError(
                [
                    Problem(
                        f"there is no CA in {self.path}",
                        "Run the role underlay.ipsec.ca first",
                        "ipsec_ca_dir",
                    )
                ]
            )
        return self._load(passphrase or "", now)

    def _ensure(
        self, passphrase: str, key_type: str, validity_days: int, now: datetime, *, check: bool
    ) -> Opened:
        has_certificate = os.path.exists(self.certificate_path)
        has_key = os.path.exists(self.key_path)
        if has_certificate and has_key:
            warnings = self._secure_key(check=check)
            found = self._load(passphrase, now)
            return Opened(found, False, tuple(warnings))
        if has_certificate:
            raise ProblemsError(
                [
                    Problem(
                        f"{self.path} has ca.crt but no ca.key",
                        "Restore ca.key from a backup; without it, move the folder away for a new CA",
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
        key = self._read_key(passphrase) if has_key else None
        if check:
            return Opened(None, True, ())
        if key is None:
            key = keys.generate(key_type)
            write_atomically(self.key_path, authority.encrypt(key, passphrase))
        made = authority.certify(key, validity_days, now)
        write_atomically(self.certificate_path, made.pem, mode=0o644)
        return Opened(made, True, ())

    def _load(self, passphrase: str, now: datetime) -> Authority:
        with open(self.certificate_path, "rb") as file:
            certificate = authority.load_certificate(file.read(), self.certificate_path)
        found = Authority(certificate, self._read_key(passphrase))
        authority.check(found, self.certificate_path, now)
        return found

    def _read_key(self, passphrase: str) -> keys.PrivateKey:
        with open(self.key_path, "rb") as file:
            return authority.load_key(file.read(), passphrase, self.key_path)

    def _secure_key(self, *, check: bool) -> list[str]:
        mode = os.stat(self.key_path).st_mode & 0o777
        if not mode & 0o077:
            return []
        if not check:
            os.chmod(self.key_path, 0o600)
        return [
            f"{self.key_path} had mode {mode:04o} and is 0600 now. Others could copy it; "
            "the passphrase is all that protects such a copy."
        ]

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
