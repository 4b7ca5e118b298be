# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files that certificates come from: whether they can be read, and whether each host's bundle serves it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path

from ansible_collections.underlay.ipsec.plugins.module_utils._errors import ProblemsError
from ansible_collections.underlay.ipsec.plugins.module_utils._model.certificates import (
    CA_FILES,
    BundleFiles,
    read_bundle_files,
)
from ansible_collections.underlay.ipsec.plugins.module_utils._model.cluster import Host, Problems
from ansible_collections.underlay.ipsec.plugins.module_utils._model.typed import Spec
from ansible_collections.underlay.ipsec.plugins.module_utils._model.variables import some
from ansible_collections.underlay.ipsec.plugins.module_utils._nss.x509 import certificate_from_pem
from ansible_collections.underlay.ipsec.plugins.module_utils._pki.bundle import (
    Bundle,
    check_bundle,
    read_bundle,
)
from ansible_collections.underlay.ipsec.plugins.module_utils._pki.chain import read_authorities

Read = Callable[[str], bytes]
"""Returns what a file on the controller holds; raises OSError."""

_RESERVED_PREFIX = "ovs_"


def read_file(path: str) -> bytes:
    """Return the content of *path*, in which ``~`` and environment variables are replaced; raise OSError."""
    return Path(os.path.expandvars(os.path.expanduser(path))).read_bytes()


def read_files(values: Mapping[str, str], read: Read, problems: Problems) -> dict[str, bytes]:
    """Return the content of the files that *values* (variable → path) name, by variable; without unreadable ones."""
    found = {name: _read(values[name], read, name, None, problems) for name in CA_FILES if values.get(name)}
    return {name: data for name, data in found.items() if data is not None}


def check_authorities(
    contents: Mapping[str, bytes], path: str, now: datetime, problems: Problems
) -> bytes | None:
    """Return the CA's certificate and those of its issuers in PEM; None, and problems, if they do not serve.

    *contents* is what `read_files` returned, *path* the value of ``ipsec_ca_certificate``.
    """
    data = contents.get("ipsec_ca_certificate")
    if data is None:
        return None
    try:
        read_authorities(data, path, now)
    except ProblemsError as error:
        problems += error.problems
        return None
    return data


def read_bundles(
    hosts: Sequence[Host],
    names: Mapping[str, frozenset[str]],
    specs: Mapping[str, Spec],
    authorities: bytes | None,
    read: Read,
    now: datetime,
    problems: Problems,
) -> dict[str, Bundle]:
    """Return the bundle of each of *hosts*, by name; without those that are wrong.

    *names* is host → the names that its certificate must have, *authorities* the CA's certificate and those
    of its issuers in PEM. Without one of them, in which something else is wrong then, a bundle is only opened.
    """
    bundles = {}
    for host in hosts:
        files = read_bundle_files(host, specs, problems)
        if files is None:
            continue
        data = _read(files.path, read, "ipsec_pkcs12", host.name, problems)
        password = _password(files, host.name, read, problems)
        if data is None or password is None:
            continue
        needed = names.get(host.name)
        where = {"path": files.path, "host": host.name}
        try:
            if authorities is None or needed is None:
                read_bundle(data, password, **where)
            else:
                bundles[host.name] = check_bundle(data, password, authorities, needed, now, **where)
        except ProblemsError as error:
            problems += error.problems
    _check_kinds(bundles, problems)
    _check_shared(bundles, problems)
    _check_reserved(hosts, bundles, problems)
    return bundles


def _password(files: BundleFiles, host: str, read: Read, problems: Problems) -> str | None:
    """Return the password of a bundle, which may be empty; None, and a problem, if it cannot be read."""
    if files.password_file is None:
        return files.password or ""
    variable = "ipsec_pkcs12_password_file"
    data = _read(files.password_file, read, variable, host, problems)
    if data is None:
        return None
    try:
        return first_line(data)
    except UnicodeDecodeError:
        problems.add(
            f"{files.password_file} is not text", "Write the password into it", variable=variable, host=host
        )
        return None


def first_line(data: bytes) -> str:
    """Return the password in a file; raise UnicodeDecodeError if it is not text."""
    return (data.decode("utf-8").splitlines() or [""])[0]


def _read(path: str, read: Read, variable: str, host: str | None, problems: Problems) -> bytes | None:
    try:
        return read(path)
    except FileNotFoundError:
        message = f"there is no file {path} on the controller"
    except OSError as error:
        message = f"{path} on the controller cannot be read: {error.strerror}"
    remedy = "Correct the path, or put the file there"
    if variable == "ipsec_ca_key":
        remedy += "; if the CA has been adopted, remove the variable and ipsec_ca_certificate"
    problems.add(message, remedy, variable=variable, host=host)
    return None


def kind_of(key_type: str) -> str:
    """Return ``ecdsa`` or ``rsa`` for ``ecdsa-p384``, ``rsa-3072`` and so on."""
    return key_type.split("-", maxsplit=1)[0]


def _check_kinds(bundles: Mapping[str, Bundle], problems: Problems) -> None:
    """Find bundles that are not of one kind: members authenticate each other in one way."""
    hosts: dict[str, list[str]] = {}
    for host, bundle in bundles.items():
        hosts.setdefault(kind_of(bundle.key_type), []).append(host)
    if len(hosts) > 1:
        shown = "; ".join(f"{kind} on {some(names)}" for kind, names in sorted(hosts.items()))
        problems.add(
            f"the bundles' keys are of different kinds: {shown}",
            "Give all members keys of one kind",
            variable="ipsec_pkcs12",
        )


def _check_shared(bundles: Mapping[str, Bundle], problems: Problems) -> None:
    owners: dict[str, str] = {}
    for host, bundle in bundles.items():
        owner = owners.setdefault(bundle.fingerprint, host)
        if owner != host:
            problems.add(
                f"its certificate is also that of {owner}",
                "Give each member a certificate and a key of its own",
                variable="ipsec_pkcs12",
                host=host,
            )


def _check_reserved(hosts: Sequence[Host], bundles: Mapping[str, Bundle], problems: Problems) -> None:
    """Find names that OpenShift takes for its own: it cleans up in the NSS database by them."""
    for host in hosts:
        bundle = bundles.get(host.name)
        if bundle is None or host.facts is None or not host.facts.openshift_ipsec:
            continue
        for name in filter(_is_reserved, bundle.common_names):
            problems.add(
                f"the certificate's common name {name!r} begins with {_RESERVED_PREFIX!r}, which OpenShift's "
                "own certificates on this host do",
                "Give it a certificate with another name",
                variable="ipsec_pkcs12",
                host=host.name,
            )


def _is_reserved(name: str) -> bool:
    return name.startswith(_RESERVED_PREFIX)


def subject_of(bundle: Bundle) -> dict[str, str]:
    """Return the certificate's subject by attribute, as hosts read it."""
    return certificate_from_pem(bundle.leaf_pem).subject
