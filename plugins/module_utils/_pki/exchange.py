# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Certificates that are signed elsewhere: requests go out, certificates come back."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

with suppress(ImportError):  # always there with ansible-core, but not where its sanity tests import this
    from cryptography import x509

from ansible_collections.underlay.ipsec.plugins.module_utils._errors import Problem, ProblemsError
from ansible_collections.underlay.ipsec.plugins.module_utils._files import write_atomically
from ansible_collections.underlay.ipsec.plugins.module_utils._pki import chain
from ansible_collections.underlay.ipsec.plugins.module_utils._pki.signing import (
    Entitlement,
    Request,
    accept,
    public_key,
)


@dataclass(frozen=True)
class Exchanged:
    """How far the exchange is."""

    exported: tuple[str, ...]
    """The members whose request was written now."""
    waiting: tuple[str, ...]
    """The members whose certificate is not there yet."""
    issued: tuple[str, ...]
    """The members whose certificate was taken over now. None are as long as others wait."""
    problems: tuple[Problem, ...]
    """What is wrong with the certificates that are there."""


class Directory:
    """``<member>.csr`` go out, ``<member>.crt`` come in, ``issued/<member>.pem`` have been checked."""

    def __init__(self, path: str) -> None:
        self.path = os.path.abspath(os.path.expanduser(path))
        self.issued_path = os.path.join(self.path, "issued")

    def request(self, member: str) -> str:
        """Return the path of a member's request."""
        return os.path.join(self.path, f"{member}.csr")

    def certificate(self, member: str) -> str:
        """Return the path of a member's certificate, as it comes back."""
        return os.path.join(self.path, f"{member}.crt")

    def issued(self, member: str) -> str:
        """Return the path of a member's certificate, as it was taken over."""
        return os.path.join(self.issued_path, f"{member}.pem")


def exchange(
    directory: Directory,
    requests: Mapping[str, str],
    entitlements: Mapping[str, Entitlement],
    authorities_pem: bytes,
    now: datetime,
) -> Exchanged:
    """Export the *requests* (PEM by member), and take over the certificates when all are there and right.

    Raises `ProblemsError` if a request asks for what its member is not entitled to;
    then nothing is written. Raises OSError.
    """
    accepted = {request.entitlement.member: request for request in accept(requests, entitlements, ())}
    authorities = chain.read(authorities_pem, "the file", "ipsec_ca_certificate")
    os.makedirs(directory.issued_path, exist_ok=True)
    exported = tuple(member for member, pem in requests.items() if _export(directory.request(member), pem))
    waiting = []
    problems: list[Problem] = []
    leaves = {}
    for member, request in accepted.items():
        path = directory.certificate(member)
        data = _content(path)
        if data is None:
            waiting.append(member)
            continue
        try:
            found = chain.read(data, path, None, member)
        except ProblemsError as error:
            problems += error.problems
            continue
        leaf = next((each for each in found if public_key(each) == request.public_key), found[0])
        if public_key(leaf) != request.public_key:
            if _was_issued(directory.issued(member), leaf):
                waiting.append(member)  # it is that of the request before
            else:
                problems.append(_stranger(directory, member, leaf, accepted))
            continue
        wanted = request.entitlement.dns | request.entitlement.ip
        # What else is in the file does not get to the hosts: they know the authorities.
        faults = chain.faults_of_member(leaf, (), authorities, wanted, now)
        problems += [Problem(f"{path}: {fault}", remedy, host=member) for fault, remedy in faults]
        leaves[member] = leaf
    issued: list[str] = []
    if not waiting and not problems:
        for member, leaf in leaves.items():
            if not _was_issued(directory.issued(member), leaf):
                write_atomically(directory.issued(member), chain.pem(leaf), mode=0o644)
                issued.append(member)
    return Exchanged(exported, tuple(sorted(waiting)), tuple(sorted(issued)), tuple(problems))


def to_sign(directory: Directory, members: Iterable[str]) -> Problem:
    """Return what to do while *members* have no certificate."""
    lines = [f"  {directory.request(member)} -> {directory.certificate(member)}" for member in members]
    return Problem(
        f"{len(lines)} {'certificate is' if len(lines) == 1 else 'certificates are'} not there yet",
        "Have these requests signed, put the certificates (PEM) beside them, and run again:\n"
        + "\n".join(lines),
        "ipsec_signing_dir",
    )


def _export(path: str, pem: str) -> bool:
    """Write a request, if that is news."""
    if _content(path) == pem.encode():
        return False
    write_atomically(path, pem, mode=0o644)
    return True


def _was_issued(path: str, leaf: x509.Certificate) -> bool:
    """Return whether the file at *path* is *leaf*."""
    return _content(path) == chain.pem(leaf).encode()


def _stranger(
    directory: Directory, member: str, leaf: x509.Certificate, accepted: Mapping[str, Request]
) -> Problem:
    """Return whose certificate came back for *member*."""
    path = directory.certificate(member)
    key = public_key(leaf)
    owner = next((other for other, request in accepted.items() if request.public_key == key), None)
    if owner:
        return Problem(
            f"{path} is the certificate for the request of {owner}, and came back for {member}",
            f"Move it to {directory.certificate(owner)}, and put the one for {directory.request(member)} here",
            host=member,
        )
    return Problem(
        f"{path} ({leaf.subject.rfc4514_string()}) does not belong to the key of the request",
        f"Have {directory.request(member)} signed, as it is now, and put that certificate here",
        host=member,
    )


def _content(path: str) -> bytes | None:
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return None
