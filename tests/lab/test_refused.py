# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever is wrong with the input: one clear error, and nothing changed anywhere.

Each case is a real run of site.yml against a cluster that is up and encrypted.
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from kit import PASSPHRASE, Lab, Run, some

DATA = {"name": "data", "cidr": "10.88.0.0/24"}
MEMBERS = ("h1", "h2")
WRONG_PASSPHRASE = "open-sesame-of-another-cave"
SHORT_PASSPHRASE = "q7-xw!"
SECRET = "the secret of the pairs of this laboratory"
SHORT_SECRET = "zebra-of-ten-stripes"
PSK: dict[str, Any] = {"ipsec_topology": "mesh", "ipsec_auth": "psk", "ipsec_psk_secret": SECRET}
GATE: dict[str, Any] = {"name": "gate", "address": "10.88.0.50", "id": "gate.example"}

State = tuple[Any, ...]


@dataclass(frozen=True)
class Case:
    """A run that has to be refused, and what it has to say."""

    where: str
    """Host and variable, as the message begins."""
    what: str
    remedy: str
    variables: Mapping[str, Any] = field(default_factory=dict)
    hosts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Variables of single hosts."""
    members: Sequence[str] = MEMBERS
    arguments: Sequence[str] = ()


class Watch:
    """Sees whether anything changed on hosts and in the controller's folders."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self._known: dict[str, State] = {}

    @contextmanager
    def unchanged(
        self, hosts: Sequence[str], folders: Sequence[Path], *, afresh: bool = False
    ) -> Iterator[None]:
        """Claim that the block changes nothing; with *afresh*, what an earlier block left is not taken for granted."""
        if afresh:
            self._known.clear()
        before = {host: self._known.get(host) for host in hosts}
        before |= self._look([host for host, state in before.items() if state is None])
        files = [_files(folder) for folder in folders]
        yield
        self._known |= (after := self._look(hosts))
        assert after == before
        assert [_files(folder) for folder in folders] == files

    def _look(self, hosts: Sequence[str]) -> dict[str, State]:
        with ThreadPoolExecutor(4) as pool:
            files, spis = pool.map(self.lab.etc, hosts), pool.map(self.lab.spis, hosts)
            return dict(zip(hosts, zip(files, spis, strict=True), strict=True))


def _files(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def watch(lab: Lab) -> Watch:
    return Watch(lab)


@pytest.fixture(scope="module")
def fresh(lab: Lab) -> tuple[str, str]:
    """Boot two hosts that know nothing of IPsec."""
    lab.add(c1="bookworm", c2="trixie")
    return "c1", "c2"


def refused(lab: Lab, case: Case, **more: Any) -> Run:
    """Run *case* and claim that it ends with its error, that there is no other, and that it tells no secret."""
    variables = {**case.variables, **more}
    run = lab.play("site", case.members, *case.arguments, host_variables=case.hosts, **variables)
    assert run.rc != 0, run.output
    assert len(re.findall(r"^fatal: ", run.output, re.MULTILINE)) == 1, run.output
    assert "Traceback" not in run.output
    assert "problems. Nothing" not in run.output, run.output
    said = f"{case.where}: {case.what}" if case.where else case.what
    assert [line for line in run.output.splitlines() if said in line and case.remedy in line], run.output
    for secret in (PASSPHRASE, WRONG_PASSPHRASE, SHORT_PASSPHRASE, SECRET, SHORT_SECRET):
        assert secret not in run.output
    return run


def networks(*items: Mapping[str, Any]) -> dict[str, Any]:
    return {"ipsec_networks": list(items)}


PLAN: dict[str, Case] = {
    "overlapping CIDRs": Case(
        "ipsec_networks[1].cidr",
        "10.88.0.0/25 overlaps 10.88.0.0/24 of ipsec_networks[0] (data)",
        "Make the networks disjoint",
        networks(DATA, {"name": "part", "cidr": "10.88.0.0/25"}),
    ),
    "malformed CIDR": Case(
        "ipsec_networks[0].cidr",
        "'10.88.0/24' is not an address or CIDR",
        "Write it like 10.88.0.0/24",
        networks({**DATA, "cidr": "10.88.0/24"}),
    ),
    "CIDR with host bits": Case(
        "ipsec_networks[0].cidr",
        "'10.88.0.1/24' is an address inside a network",
        "Write '10.88.0.0/24'",
        networks({**DATA, "cidr": "10.88.0.1/24"}),
    ),
    "network without a name": Case(
        "ipsec_networks[0]", "the key 'name' is missing", "Add", networks({"cidr": "10.88.0.0/24"})
    ),
    "bad network name": Case(
        "ipsec_networks[0].name",
        "'Data Net' cannot be part of a connection's name",
        "Use up to 20 lower-case letters",
        networks({**DATA, "name": "Data Net"}),
    ),
    "duplicate network name": Case(
        "ipsec_networks[1].name",
        "'data' is also the name of ipsec_networks[0]",
        "Give each network a name of its own",
        networks(DATA, {"name": "data", "cidr": "10.77.0.0/24"}),
    ),
    "network that no host is on": Case(
        "ipsec_networks[1].cidr",
        "no member has an address in 192.0.2.0/24",
        "Correct the network, or take it out",
        networks(DATA, {"name": "ghost", "cidr": "192.0.2.0/24"}),
    ),
    "hosts outside every network": Case(
        "ipsec_networks[0].cidr",
        "no member has an address in 192.0.2.0/24",
        "Correct the network, or take it out",
        networks({"name": "ghost", "cidr": "192.0.2.0/24"}),
    ),
    "one host outside every network": Case(
        "h2: ipsec_addresses.data",
        "10.77.0.12 is outside 10.88.0.0/24",
        "Set it to an address in 10.88.0.0/24",
        networks(DATA),
        {"h2": {"ipsec_addresses": {"data": "10.77.0.12"}}},
    ),
    "two hosts with one address": Case(
        "h2: ipsec_addresses.data",
        "10.88.0.11 is also the address of h1",
        "Correct ipsec_addresses, or the address of one of the two hosts",
        networks(DATA),
        {"h2": {"ipsec_addresses": {"data": "10.88.0.11"}}},
        arguments=("--limit", "h1"),
    ),
    "address that the host does not have": Case(
        "h2: ipsec_addresses.data",
        "the host does not have 10.88.0.99",
        "Configure the address on the host",
        networks(DATA),
        {"h2": {"ipsec_addresses": {"data": "10.88.0.99"}}},
    ),
    "IPv6 address on an IPv4 network": Case(
        "h2: ipsec_addresses.data",
        "fd88::12 is IPv6, the network data is IPv4",
        "Set it to an address in 10.88.0.0/24",
        networks(DATA),
        {"h2": {"ipsec_addresses": {"data": "fd88::12"}}},
    ),
    "IPv6 exception in an IPv4 network": Case(
        "ipsec_networks[0].clear[0]",
        "'fd88::1/128' is IPv6 in an IPv4 network",
        "Remove it",
        networks({**DATA, "clear": ["fd88::1"]}),
    ),
    "string instead of a list": Case(
        "ipsec_networks", "it is a string, not a list", "list", {"ipsec_networks": "10.88.0.0/24"}
    ),
    "unknown IKE algorithm": Case(
        "ipsec_ike",
        "'sha5' is not a pseudo-random function",
        "Correct the proposal, or leave the default",
        {"ipsec_ike": "aes_gcm256-sha5-dh20"},
    ),
    "unknown ESP algorithm": Case(
        "ipsec_esp", "'rot13' is not", "Correct the proposal, or leave the default", {"ipsec_esp": "rot13"}
    ),
    "weak algorithm": Case(
        "ipsec_esp", "'3des' is too weak to use", "Correct the proposal", {"ipsec_esp": "3des-sha2"}
    ),
    "missing passphrase": Case(
        "ipsec_ca_passphrase", "it is not set", "in a vault", {"ipsec_ca_passphrase": None}
    ),
    "short passphrase": Case(
        "ipsec_ca_passphrase",
        "it is shorter than 8 characters",
        "Set a long random one, in a vault",
        {"ipsec_ca_passphrase": SHORT_PASSPHRASE},
        arguments=("-vvv",),
    ),
    "misspelt variable": Case(
        "ipsec_netwoks",
        "there is no such variable, did you mean ipsec_networks",
        "Rename or remove it",
        {"ipsec_netwoks": [DATA]},
    ),
    "unknown enforcement": Case(
        "ipsec_enforcement",
        "'on' is not one of its values",
        "Set it to clear or private-or-clear or private",
        {"ipsec_enforcement": "on"},
    ),
    "unknown topology": Case(
        "ipsec_topology", "'star' is not one of its values", "opportunistic", {"ipsec_topology": "star"}
    ),
    "state of a later release": Case(
        "ipsec_state",
        "this release does not support 'absent' yet",
        "Set it to present",
        {"ipsec_state": "absent"},
    ),
    "unknown authentication": Case(
        "ipsec_auth", "'password' is not one of its values", "certificate", {"ipsec_auth": "password"}
    ),
    "pre-shared keys without pairs": Case(
        "ipsec_auth",
        "'psk' needs a key for each pair",
        "Set ipsec_topology to mesh, or ipsec_auth to certificate",
        {**PSK, "ipsec_topology": "opportunistic"},
    ),
    "missing secret": Case(
        "ipsec_psk_secret", "it is not set", "in a vault", {**PSK, "ipsec_psk_secret": None}
    ),
    "short secret": Case(
        "ipsec_psk_secret",
        "it is shorter than 32 characters",
        "Set a long random one, in a vault",
        {**PSK, "ipsec_psk_secret": SHORT_SECRET},
        arguments=("-vvv",),
    ),
    "endpoint that is a member": Case(
        "ipsec_endpoints[0].address",
        "10.88.0.12 is the address of the member h2",
        "",
        {"ipsec_endpoints": [{**GATE, "address": "10.88.0.12"}]},
    ),
    "endpoint with a short key": Case(
        "ipsec_endpoints[0].psk",
        "it is shorter than 32 characters",
        "Set a long random one, in a vault",
        {"ipsec_endpoints": [{**GATE, "auth": "psk", "psk": SHORT_SECRET}]},
        arguments=("-vvv",),
    ),
    "member behind NAT in an opportunistic group": Case(
        "h2: ipsec_nat_addresses",
        "opportunistic connections name no one",
        "",
        hosts={"h2": {"ipsec_nat_addresses": {"default": "10.88.0.50"}}},
    ),
    "unknown mode": Case(
        "ipsec_mode", "'beet' is not one of its values", "transport or tunnel", {"ipsec_mode": "beet"}
    ),
    "unknown encapsulation": Case(
        "ipsec_networks[0].encapsulation",
        "'udp' is not one of its values",
        "Set it to auto",
        networks({**DATA, "encapsulation": "udp"}),
    ),
    "unknown key type": Case(
        "ipsec_key_type",
        "'ed25519' is not one of its values",
        "Set it to ecdsa-p256 or ecdsa-p384",
        {"ipsec_key_type": "ed25519"},
    ),
    "exception with an unknown protocol": Case(
        "ipsec_clear[0]",
        "'tpc' in '10.88.0.250 tpc 0 22' is not a protocol",
        "Use tcp",
        {"ipsec_clear": ["10.88.0.250 tpc 0 22"]},
    ),
    "exception with a bad port": Case(
        "ipsec_clear[0]",
        "'65536' in '10.88.0.250 tcp 0 65536' is not a port",
        "Use a number from 0",
        {"ipsec_clear": ["10.88.0.250 tcp 0 65536"]},
    ),
    "exception for the whole network": Case(
        "ipsec_clear",
        "the exceptions for the network data cover all of 10.88.0.0/24",
        "Name smaller ranges",
        {**networks(DATA), "ipsec_clear": ["10.0.0.0/8"]},
    ),
    "validity of no days": Case(
        "ipsec_ca_validity_days",
        "0 days cannot be",
        "Set it to 1 to 36500 days",
        {"ipsec_ca_validity_days": 0},
    ),
    "renewal before issue": Case(
        "ipsec_cert_renew_before_days",
        "a certificate of 90 days would be renewed at once",
        "Set it to less than ipsec_cert_validity_days",
        {"ipsec_cert_validity_days": 90, "ipsec_cert_renew_before_days": 90},
    ),
    "two hosts with one name": Case(
        "h2: ipsec_fqdn",
        "'h1' is also the name of h1",
        "Set ipsec_fqdn of this host",
        hosts={"h2": {"ipsec_fqdn": "h1"}},
    ),
    "variable that cannot be read": Case(
        "ipsec_mode", "its value cannot be read: ", "template", {"ipsec_mode": "{{ nowhere }}"}
    ),
    "members that disagree": Case(
        "h2: ipsec_mode",
        "it differs between members: 'transport' on h1; 'tunnel' on h2",
        "Set it once for the whole group, in its group_vars",
        hosts={"h1": {"ipsec_mode": "transport"}, "h2": {"ipsec_mode": "tunnel"}},
    ),
    "peer that cannot be known": Case(
        "h2: ipsec_addresses",
        "the host was not reached in this run, and its address on data (10.88.0.0/24) is not known",
        "ipsec_addresses",
        networks(DATA),
        arguments=("--limit", "h1"),
    ),
    "report where nothing can be written": Case(
        "",
        "The plan cannot be written to",
        "Set ipsec_report_dir to a directory on the controller",
        {"ipsec_report_dir": "/dev/null/report"},
    ),
    "CA where nothing can be written": Case(
        "ipsec_ca_dir",
        "the CA's folder /dev/null/ca cannot be written",
        "Choose a directory that the user of ansible-playbook may write",
        {"ipsec_ca_dir": "/dev/null/ca"},
    ),
    "wrong passphrase": Case(
        "ipsec_ca_passphrase",
        "",
        "Give the passphrase that it was created with",
        {"ipsec_ca_passphrase": WRONG_PASSPHRASE},
        arguments=("-vvv",),
    ),
    "group that does not exist": Case(
        "ipsec_group",
        "the inventory has no hosts in the group 'nonesuch'",
        "Put the members into that group, or name their group in ipsec_group",
        {"ipsec_group": "nonesuch"},
    ),
    "group without hosts": Case(
        "ipsec_group",
        "the inventory has no hosts in the group 'ipsec'",
        "Put the members into that group, or name their group in ipsec_group",
        members=(),
    ),
}


@pytest.mark.parametrize("name", some(PLAN, 3))
def test_wrong_input(lab: Lab, watch: Watch, name: str) -> None:
    with watch.unchanged(MEMBERS, [lab.folder / "ca", lab.folder / "report"]):
        refused(lab, PLAN[name])


def test_five_faults_are_one_numbered_message(lab: Lab, watch: Watch) -> None:
    with watch.unchanged(MEMBERS, [lab.folder / "ca", lab.folder / "report"]):
        run = lab.play(
            "site",
            MEMBERS,
            "-vvv",
            host_variables={"h2": {"ipsec_addresses": {"data": "10.88.0.99"}, "ipsec_fqdn": "h1"}},
            ipsec_networks=[DATA],
            ipsec_ca_passphrase=SHORT_PASSPHRASE,
            ipsec_esp="3des-sha2",
            ipsec_netwoks=[],
        )
    assert run.rc != 0
    assert "There are 5 problems. Nothing has been changed on any host." in run.output
    assert re.findall(r"^(\d)\. ", run.output, re.MULTILINE) == list("12345")
    for variable in (
        "ipsec_addresses.data",
        "ipsec_fqdn",
        "ipsec_ca_passphrase",
        "ipsec_esp",
        "ipsec_netwoks",
    ):
        assert re.search(rf"^\d\. .*\b{variable}: ", run.output, re.MULTILINE)
    assert SHORT_PASSPHRASE not in run.output


def expire(folder: Path) -> None:
    """Issue the CA's certificate anew, valid until yesterday."""
    key = serialization.load_pem_private_key((folder / "ca.key").read_bytes(), PASSPHRASE.encode())
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    old = x509.load_pem_x509_certificate((folder / "ca.crt").read_bytes())
    now = datetime.now(UTC)
    new = (
        x509.CertificateBuilder()
        .subject_name(old.subject)
        .issuer_name(old.issuer)
        .public_key(key.public_key())
        .serial_number(old.serial_number)
        .not_valid_before(now - timedelta(days=20))
        .not_valid_after(now - timedelta(days=1))
    )
    for extension in old.extensions:
        new = new.add_extension(extension.value, extension.critical)
    (folder / "ca.crt").write_bytes(new.sign(key, hashes.SHA384()).public_bytes(serialization.Encoding.PEM))


def exchange_key(folder: Path) -> None:
    pem = ec.generate_private_key(ec.SECP384R1()).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(PASSPHRASE.encode()),
    )
    (folder / "ca.key").write_bytes(pem)


def truncate_certificate(folder: Path) -> None:
    (folder / "ca.crt").write_text((folder / "ca.crt").read_text()[:200])


def truncate_key(folder: Path) -> None:
    (folder / "ca.key").write_text((folder / "ca.key").read_text()[:200])


def lose_key(folder: Path) -> None:
    (folder / "ca.key").unlink()


@pytest.mark.parametrize(
    ("spoil", "what", "remedy"),
    [
        (expire, "expired on", "change to a new CA: playbooks/rotate.yml with ipsec_rotate_ca=true"),
        (exchange_key, "does not belong to the key beside it", "Put the matching pair into the folder"),
        (truncate_certificate, "is not a certificate in PEM", "Restore it from a backup"),
        (truncate_key, "is not a whole PEM file", "Restore it from a backup"),
        (lose_key, "has ca.crt but no ca.key", "Restore ca.key from a backup"),
    ],
)
def test_spoilt_ca(
    lab: Lab, watch: Watch, tmp_path: Path, spoil: Callable[[Path], None], what: str, remedy: str
) -> None:
    folder = tmp_path / "ca"
    shutil.copytree(lab.folder / "ca", folder)
    spoil(folder)
    with watch.unchanged(MEMBERS, [folder, lab.folder / "ca", lab.folder / "report"]):
        run = refused(lab, Case("", what, remedy, arguments=("-vvv",)), ipsec_ca_dir=str(folder))
    assert f"ipsec_ca_dir: {folder}" in run.output


@contextmanager
def wrong_clock(lab: Lab) -> Iterator[None]:
    lab.ssh("h2", f"date -s @{time.time() + 365 * 86400:.0f}")
    try:
        yield
    finally:
        lab.ssh("h2", f"date -s @{time.time():.0f}")


@contextmanager
def full_disk(lab: Lab) -> Iterator[None]:
    try:
        lab.ssh("h2", "fallocate -l $(($(df -B1 --output=avail /var | tail -n 1) - 16777216)) /var/full")
        yield
    finally:
        lab.ssh("h2", "rm -f /var/full")


@contextmanager
def no_package(lab: Lab) -> Iterator[None]:
    lab.ssh("c1", "mv /srv/packages /srv/away && rm -rf /var/lib/apt/lists/*")
    try:
        yield
    finally:
        lab.ssh("c1", "mv /srv/away /srv/packages")


@contextmanager
def own_setup(lab: Lab) -> Iterator[None]:
    lab.ssh("c1", r"printf 'config setup\n\tplutodebug=none\n' >/etc/ipsec.conf")
    try:
        yield
    finally:
        lab.ssh("c1", "rm /etc/ipsec.conf")


@contextmanager
def stranger(lab: Lab) -> Iterator[None]:
    lab.ssh("c1", "ip address replace 192.0.2.1/24 dev eth1 && ip address del 10.88.0.13/24 dev eth1")
    try:
        yield
    finally:
        lab.ssh("c1", "ip address replace 10.88.0.13/24 dev eth1 && ip address del 192.0.2.1/24 dev eth1")


Spoil = Callable[[Lab], AbstractContextManager[None]]


@pytest.mark.parametrize(
    ("spoil", "case"),
    [
        (wrong_clock, Case("h2", "its clock is 31536", "Set the clock, for example with chrony")),
        (full_disk, Case("h2", "the file system of /etc and /var has only", "Make room for 64 MiB")),
    ],
)
def test_member_in_trouble(lab: Lab, watch: Watch, spoil: Spoil, case: Case) -> None:
    with spoil(lab), watch.unchanged(MEMBERS, [lab.folder / "ca", lab.folder / "report"]):
        refused(lab, case)


@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize(
    ("spoil", "case"),
    [
        (no_package, Case("c1", "libreswan is not installed, and no package source offers", "Add a package")),
        (own_setup, Case("c1", "/etc/ipsec.conf sets options of its own in 'config setup'", "Add uniqueids")),
        (stranger, Case("c1", "none of its addresses", "Give it an address there", networks(DATA))),
    ],
)
def test_newcomer_in_trouble(lab: Lab, watch: Watch, spoil: Spoil, case: Case) -> None:
    with (
        spoil(lab),
        watch.unchanged((*MEMBERS, "c1"), [lab.folder / "ca", lab.folder / "report"], afresh=True),
    ):
        refused(lab, replace(case, members=(*MEMBERS, "c1")))


def diffs(run: Run) -> set[str]:
    """Return the files on hosts that a run with --diff shows a change of."""
    return set(re.findall(r"^\+\+\+ after: (/etc/\S+)", run.output, re.MULTILINE))


def test_check_mode_foretells_a_first_run(lab: Lab, watch: Watch, fresh: tuple[str, str]) -> None:
    own = {f"ipsec_{what}_dir": str(lab.folder / "fresh" / what) for what in ("ca", "report")}
    with watch.unchanged(fresh, [], afresh=True):
        foretold = lab.converge(fresh, "--check", "--diff", **own)
    assert all(foretold.recap[host]["changed"] for host in fresh)
    assert not (lab.folder / "fresh/ca").exists()
    done = lab.converge(fresh, "--diff", **own)
    assert diffs(foretold) == diffs(done)
    assert "/etc/ipsec.d/underlay-default.conf" in diffs(done)
    again = lab.converge(fresh, "--check", "--diff", **own)
    assert again.changed == 0, again.output


def test_check_mode_foretells_nothing_on_converged_hosts(lab: Lab, watch: Watch) -> None:
    with watch.unchanged(MEMBERS, [lab.folder / "ca"]):
        run = lab.converge(MEMBERS, "--check", "--diff")
    assert run.changed == 0, run.output


def test_member_without_power(lab: Lab, watch: Watch, fresh: tuple[str, str]) -> None:
    lab.cli("kill", fresh[1])
    try:
        with watch.unchanged(MEMBERS, [lab.folder / "ca", lab.folder / "report"]):
            case = Case("", "Task failed: ", "ssh", members=(*MEMBERS, fresh[1]))
            run = refused(lab, case)
        assert f"fatal: [{fresh[1]}]: UNREACHABLE!" in run.output
    finally:
        lab.cli("start", fresh[1])
