# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The CA over time: created or adopted, trusted beside its successor, and retired.

A change of CA (a rollover) has three steps, each in one move of the folder's
files: ``prepare`` puts the next CA beside the one that signs, ``switch`` lets it
sign, ``finish`` retires the old one. A step that was taken already is no error,
so that an interrupted rollover begins again with ``prepare``.
"""

from __future__ import annotations

import os
from collections.abc import Container, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

with suppress(ImportError):  # always there with ansible-core, but not where its sanity tests import this
    from cryptography import x509

from ansible_collections.underlay.ipsec.plugins.module_utils._errors import Problem, ProblemsError
from ansible_collections.underlay.ipsec.plugins.module_utils._pki import (
    authority,
    chain,
    keys,
    revocation,
    serials,
)
from ansible_collections.underlay.ipsec.plugins.module_utils._pki.folder import (
    SLOTS,
    Folder,
    Slot,
    slot_files,
)
from ansible_collections.underlay.ipsec.plugins.module_utils._pki.ledger import History

SOURCES = ("ca", "pkcs12", "external")
ROLLOVERS = ("none", "prepare", "switch", "finish")
_CERTIFICATE = "ipsec_ca_certificate"
_ROTATE = "run playbooks/rotate.yml with ipsec_rotate_ca=true"


@dataclass(frozen=True)
class Wanted:
    """What a run wants of the folder."""

    passphrase: str | None
    """Of the keys in the folder."""
    key_type: str = "ecdsa-p384"
    validity_days: int = 3650
    source: str = "ca"
    """One of `SOURCES`. Only with ``ca`` the folder has keys."""
    certificate: str | None = None
    """Path of the CA to adopt or to trust, and its issuers, in PEM."""
    key: str | None = None
    """Path of its key."""
    key_passphrase: str | None = None
    """Of that file, if it is encrypted."""
    serial_file: str | None = None
    """Path of the file with the last serial number that the adopted CA gave."""
    rollover: str = "none"
    """One of `ROLLOVERS`."""
    crl_validity: timedelta = timedelta(days=90)
    crl: bool = False
    """Whether there has to be a CRL even if nothing is revoked."""


@dataclass(frozen=True)
class Served:
    """What is in the folder after a run, or is foretold in check mode."""

    changes: tuple[str, ...]
    """What was done, in words."""
    phase: str
    """``steady``, ``prepared`` or ``switched``."""
    current: Slot | None
    """The CA whose certificates are wanted; None only in check mode, if there is none yet."""
    authorities: tuple[x509.Certificate, ...]
    """The others to trust."""
    crls: tuple[revocation.Crl, ...]
    revoked: tuple[str, ...]
    """Members whose last certificate is revoked."""
    warnings: tuple[str, ...]


def serve(folder: Folder, wanted: Wanted, now: datetime, *, check: bool = False) -> Served:
    """Have the CA as *wanted*; with *check* nothing is written. Raises `ProblemsError` and OSError."""
    given = _given(wanted, now)
    folder.enter(check=check)
    run = _Run(folder, wanted, given, now, check)
    with nullcontext() if check else folder.locked():
        return run.serve()


@dataclass(frozen=True)
class _Step:
    """A move in the folder."""

    files: dict[str, str | None]
    said: str = ""
    """What it does, in words; empty for nothing."""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Run:
    """One call of `serve`, by who holds the lock."""

    folder: Folder
    wanted: Wanted
    given: Sequence[x509.Certificate]
    now: datetime
    check: bool

    @property
    def slots(self) -> dict[str, Slot]:
        found = [self.folder.slot(name) for name in SLOTS]
        return {slot.name: slot for slot in found if slot is not None}

    @property
    def own(self) -> bool:
        """Whether the folder has the keys."""
        return self.wanted.source == "ca"

    def serve(self) -> Served:
        folder, wanted = self.folder, self.wanted
        history = folder.ledger.history()  # nothing is changed beside a damaged one
        warnings = folder.secure_keys(check=self.check)
        done = []
        step = _Step({})
        if self.own and not self.given and wanted.rollover == "none":
            if self._create(check=self.check):
                done.append("a CA was created")
        else:
            step = self._step()
            warnings += step.warnings
            if step.said:
                done.append(step.said)
            elif self.own and wanted.rollover != "prepare":
                self._create(check=True)  # it has to be able to sign
        if step.files and not self.check:
            folder.commit(step.files)
        with folder.foretelling(step.files if self.check else {}):
            return self._served(history, done, warnings)

    def _served(self, history: History, done: list[str], warnings: list[str]) -> Served:
        """Return what is there after all that was *done*, with up-to-date revocation lists."""
        folder, wanted = self.folder, self.wanted
        renewed, crls = revocation.renew(
            folder,
            wanted.passphrase,
            history,
            wanted.crl_validity,
            self.now,
            always=wanted.crl,
            check=self.check,
        )
        if renewed:
            done.append("a revocation list was issued")
        slots = self.slots
        return Served(
            changes=tuple(done),
            phase=_phase(slots),
            current=slots.get("ca"),
            authorities=_others(slots),
            crls=crls,
            revoked=tuple(sorted(history.excluded())),
            warnings=tuple(warnings),
        )

    def _create(self, *, check: bool) -> bool:
        wanted = self.wanted
        return self.folder.create(
            wanted.passphrase or "", wanted.key_type, wanted.validity_days, self.now, check=check
        )

    def _step(self) -> _Step:
        """Return the move to make. Raises `ProblemsError` if it cannot be made."""
        slots, rollover = self.slots, self.wanted.rollover
        phase = _phase(slots)
        same = next(
            (slot for slot in slots.values() if self.given and slot.certificate == self.given[0]), None
        )
        if "ca" not in slots:
            return self._first()
        if rollover == "switch" and phase == "prepared":
            if slots["next"].has_key:
                self.folder.load("next", self.wanted.passphrase or "", self.now)
            files = {**self.folder.moved("ca", "old"), **self.folder.moved("next", "ca")}
            return _Step(files, "the next CA signs from now on")
        if rollover == "finish" and phase == "switched":
            return _Step(self.folder.moved("old", "retired"), "the old CA was retired")
        # In check mode the step before was not taken either.
        if (rollover, phase) in (("switch", "steady"), ("finish", "prepared")) and not self.check:
            raise _problem(
                f"{self.folder.path} is not ready for this step: "
                + ("there is no next CA" if rollover == "switch" else "the next CA does not sign yet"),
                f"Begin again, it takes up where it was: {_ROTATE}",
                "ipsec_ca_dir",
            )
        if rollover == "prepare" and phase == "steady" and (same is None or same.name == "ca"):
            return self._prepare(same)
        if self.given and same is None:
            return self._another(slots, phase)
        return self._refreshed(same) if same else _Step({})

    def _first(self) -> _Step:
        """Return how the first CA comes in."""
        if self.wanted.rollover in ("switch", "finish") and not self.check:
            raise _problem(f"there is no CA in {self.folder.path}", "Run site.yml first", "ipsec_ca_dir")
        if not self.given:
            return _Step({}, "a CA was created" if self._create(check=self.check) else "")
        files = self._placed("ca")
        lone = self.folder.read("ca.key")
        if lone is not None:  # its certificate is lost, or was never made
            files["retired/without-certificate.key"] = lone
        return _Step(files, "a CA was adopted" if self.own else "a CA is trusted")

    def _prepare(self, same: Slot | None) -> _Step:
        """Return how the next CA comes in."""
        wanted, present = self.wanted, self.folder.slot("ca")
        if self.own and present and present.has_key:
            self.folder.load_key("ca", wanted.passphrase or "")  # all keys have one passphrase
        if self.given and same is None:
            if self.folder.is_retired(self.given[0]):
                raise _problem(
                    f"the CA in {wanted.certificate} was retired before",
                    "Set it to another one, or leave it out for a new CA",
                    _CERTIFICATE,
                )
            self._check_subjects()
            return _Step(self._placed("next"), "the next CA was adopted")
        if not self.own:
            raise _problem(
                f"the CA in {wanted.certificate} is in use already",
                "Set it to the certificate of the CA to change to",
                _CERTIFICATE,
            )
        if self.check:
            return _Step({}, "the next CA was created")
        made = authority.certify(keys.generate(wanted.key_type), wanted.validity_days, self.now)
        key = authority.encrypt(made.key, wanted.passphrase or "")
        return _Step(self.folder.placed("next", [made.certificate], key, None), "the next CA was created")

    def _check_subjects(self) -> None:
        """Raise `ProblemsError` if hosts cannot trust the given CA beside those that are there."""
        there = {
            each.subject: each for slot in self.slots.values() for each in (slot.certificate, *slot.chain)
        }
        for each in self.given:
            if there.get(each.subject, each) != each:
                raise _problem(
                    f"{each.subject.rfc4514_string()} in {self.wanted.certificate} has the name of a CA that is "
                    "trusted already and is another one",
                    "Use a CA with a name of its own: NSS files certificates by their subject",
                    _CERTIFICATE,
                )

    def _another(self, slots: dict[str, Slot], phase: str) -> _Step:
        """Say what to do about a CA that is not in the folder."""
        path, name = self.wanted.certificate, self.given[0].subject.rfc4514_string()
        if phase != "steady":
            known = " and ".join(slot.certificate.subject.rfc4514_string() for slot in slots.values())
            raise _problem(
                f"{name} in {path} is a third CA while another change is under way, with {known}",
                f"Set it to one of these, or leave it out, until that is finished: {_ROTATE}",
                _CERTIFICATE,
            )
        if self.own and self.folder.is_retired(self.given[0]):
            return _Step({}, warnings=(f"{_CERTIFICATE}: {name} in {path} was retired. Leave it out.",))
        raise _problem(
            f"{self.folder.path} has another CA, {slots['ca'].certificate.subject.rfc4514_string()}, than {path}",
            f"To change to {name}, {_ROTATE}; if not, leave it out",
            _CERTIFICATE,
        )

    def _refreshed(self, same: Slot) -> _Step:
        """Return what of a CA that is there has changed in the user's files."""
        files: dict[str, str | None] = {}
        names = slot_files(same.name)
        if tuple(self.given[1:]) != same.chain:
            files[names["chain"]] = "".join(map(chain.pem, self.given[1:])) or None
        if self.own and not same.has_key and self.wanted.key:  # until now others signed with it
            files[names["key"]] = self._key()
        serial_file = self._serial_file()
        if serial_file and serial_file != same.serial_file:
            files[names["serial"]] = f"{serial_file}\n"
        return _Step(files, "what goes with the CA was taken over" if files else "")

    def _placed(self, slot: str) -> dict[str, str | None]:
        return self.folder.placed(slot, self.given, self._key(), self._serial_file())

    def _serial_file(self) -> str | None:
        if not self.own or not self.wanted.serial_file:
            return None
        path = os.path.abspath(os.path.expanduser(self.wanted.serial_file))
        serials.read_last(path)
        return path

    def _key(self) -> str | None:
        """Return the key of the given CA, encrypted as all are here."""
        wanted = self.wanted
        if not self.own:
            return None
        if not wanted.key:
            raise _problem(
                f"it is not set, and the CA in {wanted.certificate} is new here",
                "Set it to the path of that CA's key",
                "ipsec_ca_key",
            )
        pem = _content(wanted.key, "ipsec_ca_key")
        key = authority.load_given_key(pem, wanted.key_passphrase, wanted.key)
        if key.public_key() != self.given[0].public_key():
            raise _problem(
                f"{wanted.key} does not belong to the first certificate in {wanted.certificate}, "
                f"{self.given[0].subject.rfc4514_string()}",
                "Give a matching pair, with the certificate of the CA that signs before those of its issuers",
                "ipsec_ca_key",
            )
        return authority.encrypt(key, wanted.passphrase or "")


def _given(wanted: Wanted, now: datetime) -> list[x509.Certificate]:
    """Return the CA that the user gives, and its issuers. Raises `ProblemsError` with all that is wrong."""
    problems: list[Problem] = []
    found: list[x509.Certificate] = []
    if wanted.source == "ca":
        try:
            authority.check_passphrase(wanted.passphrase)
        except ProblemsError as error:
            problems += error.problems
    elif wanted.crl:
        problems.append(
            Problem(
                f"it needs a revocation list, and with ipsec_certificate_source={wanted.source} there is none",
                "Set it to false",
                "ipsec_crl_strict",
            )
        )
    if wanted.certificate:
        try:
            data = _content(wanted.certificate, _CERTIFICATE)
            found = chain.read_authorities(data, wanted.certificate, now)
        except ProblemsError as error:
            problems += error.problems
    elif wanted.source != "ca" or wanted.key:
        reason = f"ipsec_certificate_source is {wanted.source}" if not wanted.key else "ipsec_ca_key is"
        problems.append(
            Problem(
                f"it is not set, and {reason}",
                "Set it to the path of the CA's certificate in PEM, followed by those of its issuers",
                _CERTIFICATE,
            )
        )
    if found and wanted.source == "ca" and wanted.crl and not revocation.may_sign_lists(found[0]):
        problems.append(revocation.no_lists(found[0]))
    if problems:
        raise ProblemsError(problems)
    return found


def _content(path: str, variable: str) -> bytes:
    try:
        with open(os.path.expanduser(path), "rb") as file:
            return file.read()
    except OSError as error:
        raise _problem(
            f"{path} cannot be read: {error.strerror}",
            "Give the path of a file on the control node that the user of ansible-playbook may read",
            variable,
        ) from None


def _problem(message: str, remedy: str, variable: str) -> ProblemsError:
    return ProblemsError([Problem(message, remedy, variable)])


def _phase(slots: Container[str]) -> str:
    return "prepared" if "next" in slots else "switched" if "old" in slots else "steady"


def _others(slots: dict[str, Slot]) -> tuple[x509.Certificate, ...]:
    """Return what is to be trusted besides the CA that signs, each once."""
    every = dict.fromkeys(each for slot in slots.values() for each in (slot.certificate, *slot.chain))
    return tuple(each for each in every if each != slots["ca"].certificate) if "ca" in slots else ()
