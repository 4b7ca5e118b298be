# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the members' certificates come from: which variables go together, every problem at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.underlay.ipsec.plugins.module_utils._model.cluster import Host, Problems
from ansible_collections.underlay.ipsec.plugins.module_utils._model.typed import Spec, did_you_mean, typed

CA_FILES = ("ipsec_ca_certificate", "ipsec_ca_key", "ipsec_ca_serial")
"""The variables that name files on the controller; ``ipsec_pkcs12`` and its password's are a host's own."""
_KEY_VARIABLES = ("ipsec_ca_key", "ipsec_ca_key_passphrase", "ipsec_ca_serial")
_IN_PEM = "Set it to a file on the controller with the CA's certificate and those of its issuers, in PEM"


@dataclass(frozen=True)
class BundleFiles:
    """What the variables of one host say about its bundle."""

    path: str
    password: str | None = field(repr=False)
    """None if it is in a file."""
    password_file: str | None = None


def check_source(values: Mapping[str, Any], hosts: Sequence[Host], problems: Problems) -> None:
    """Find what is missing for the source of certificates, and what does not go with it.

    *values* are the typed cluster-wide variables, None for those that are wrong or not set.
    """
    source = values["ipsec_certificate_source"]
    if source == "ca":
        _check_adoption(values, hosts, problems)
    elif source is not None:
        if not values["ipsec_ca_certificate"] and not _tried("ipsec_ca_certificate", hosts):
            problems.add(
                "it is not set, and the members' certificates are checked against it",
                _IN_PEM,
                variable="ipsec_ca_certificate",
            )
        for name in _KEY_VARIABLES:
            if values[name]:
                problems.add(
                    f"a CA's key is not used with ipsec_certificate_source {source}",
                    "Remove it, or set ipsec_certificate_source to ca",
                    variable=name,
                )
        if values["ipsec_crl_strict"]:
            problems.add(
                f"with ipsec_certificate_source {source} there is no list of revoked certificates, "
                "and members would refuse each other",
                "Set it to false",
                variable="ipsec_crl_strict",
            )
    _check_reinstated(values["ipsec_reinstate"] or (), hosts, problems)
    directory = values["ipsec_metrics_dir"]
    if directory is not None and not directory.startswith("/"):
        problems.add(
            f"{directory!r} is not an absolute path",
            "Set it to a directory on the hosts; nothing is written where it does not exist",
            variable="ipsec_metrics_dir",
        )


def _check_adoption(values: Mapping[str, Any], hosts: Sequence[Host], problems: Problems) -> None:
    certificate, key = values["ipsec_ca_certificate"], values["ipsec_ca_key"]
    if key and not certificate and not _tried("ipsec_ca_certificate", hosts):
        problems.add("it is not set, and ipsec_ca_key is", _IN_PEM, variable="ipsec_ca_certificate")
    if certificate and not key and not _tried("ipsec_ca_key", hosts):
        problems.add(
            "it is not set, and ipsec_ca_certificate is",
            "Set it to the file with that CA's key; remove ipsec_ca_certificate if the CA has been adopted; "
            "or set ipsec_certificate_source to pkcs12 or external",
            variable="ipsec_ca_key",
        )


def _tried(name: str, hosts: Sequence[Host]) -> bool:
    """Return whether any host has a value, which has its own problem if it is wrong."""
    return any(host.variables.get(name) for host in hosts)


def _check_reinstated(names: Sequence[str], hosts: Sequence[Host], problems: Problems) -> None:
    members = {host.name for host in hosts}
    for index, name in enumerate(names):
        if name not in members:
            meant = did_you_mean(name, members)
            problems.add(
                f"{name!r} is not a member",
                f"Did you mean {meant!r}" if meant else "Remove it, or put the host into the group first",
                variable=f"ipsec_reinstate[{index}]",
            )


def read_bundle_files(host: Host, specs: Mapping[str, Spec], problems: Problems) -> BundleFiles | None:
    """Return what *host* says about its bundle; None, and problems, if that is wrong or incomplete."""
    before = len(problems)
    values = {
        name: typed(raw, specs[name], variable=name, problems=problems, host=host.name)
        for name in ("ipsec_pkcs12", "ipsec_pkcs12_password", "ipsec_pkcs12_password_file")
        if (raw := host.variables.get(name)) is not None
    }
    if len(problems) > before:
        return None
    path: str | None = values.get("ipsec_pkcs12") or None
    password: str | None = values.get("ipsec_pkcs12_password")
    password_file: str | None = values.get("ipsec_pkcs12_password_file") or None
    if path is None:
        problems.add(
            "it is not set, and ipsec_certificate_source is pkcs12",
            "Set it to the host's bundle, a file on the controller",
            variable="ipsec_pkcs12",
            host=host.name,
        )
    if password is None and password_file is None:
        problems.add(
            "neither it nor ipsec_pkcs12_password_file is set",
            "Set one of them; a bundle without a password has the password ''",
            variable="ipsec_pkcs12_password",
            host=host.name,
        )
    if password is not None and password_file is not None:
        problems.add(
            "it is set, and ipsec_pkcs12_password_file is too",
            "Remove one of them",
            variable="ipsec_pkcs12_password",
            host=host.name,
        )
    if path is None or len(problems) > before:
        return None
    return BundleFiles(path, password, password_file)
