# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts outside the inventory: one with strongSwan, one with libreswan, configured here by hand.

Members enforce, so whatever is not an endpoint's gets nothing. What goes to an endpoint is
looked for on the wire.
"""

from __future__ import annotations

import base64
import uuid
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import pkcs12
from kit import PASSPHRASE, Capture, Lab, eventually

MEMBERS = ("h1", "h2")
BEHIND_MEMBER = {"h1": "10.201.0.1", "h2": "10.202.0.1"}
BEHIND_SWAN = ("192.0.2.1", "192.0.2.129")
BEHIND_LIBRE = "198.51.100.1"
SUBNETS = ("192.0.2.0/25", "192.0.2.128/25")
SWAN_KEY = "swan " + "0123456789abcdef" * 2
LIBRE_KEY = "libre" + "0123456789abcdef" * 2
SUITES = "proposals = aes256gcm16-prfsha384-ecp384"
NSS = "sql:/var/lib/ipsec/nss"

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@dataclass(frozen=True)
class Signer:
    """A certification authority."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def pem(self) -> str:
        """Its certificate."""
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode()

    def issue(self, common_name: str, key: Key) -> x509.Certificate:
        """Return a certificate for *common_name*, which is its DNS name too."""
        return (
            _builder(_name(common_name), self.certificate.subject, key)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(common_name)]), critical=False)
            .sign(self.key, hashes.SHA384())
        )


def _name(common_name: str) -> x509.Name:
    oid = x509.NameOID
    pairs = (
        (oid.COUNTRY_NAME, "DE"),
        (oid.ORGANIZATION_NAME, "Partner, Inc."),
        (oid.COMMON_NAME, common_name),
    )
    return x509.Name([x509.NameAttribute(kind, value) for kind, value in pairs])


def _builder(subject: x509.Name, issuer: x509.Name, key: Key) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=30))
    )


def partner() -> Signer:
    """Return the CA of somebody else, with what a name may hold."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _name("Partner/Root")
    certificate = (
        _builder(subject, subject, key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    return Signer(certificate, key)


def own(lab: Lab) -> Signer:
    """Return the cluster's CA."""
    key = serialization.load_pem_private_key((lab.folder / "ca/ca.key").read_bytes(), PASSPHRASE.encode())
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return Signer(x509.load_pem_x509_certificate((lab.folder / "ca/ca.crt").read_bytes()), key)


def put(lab: Lab, host: str, path: str, content: str | bytes) -> None:
    """Write a file that nobody else can read."""
    raw = content.encode() if isinstance(content, str) else content
    lab.ssh(host, f"umask 077; echo {base64.b64encode(raw).decode()} | base64 -d >{path}")


def private(key: Key) -> bytes:
    """Return *key* in PEM."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


@pytest.fixture(scope="module")
def authority() -> Signer:
    """Return the partner's CA."""
    return partner()


@pytest.fixture(scope="module", autouse=True)
def outside(lab: Lab, authority: Signer) -> None:
    """Install what the outside hosts need, and give them certificates."""
    packages = {
        "swan": "charon-systemd strongswan-swanctl libstrongswan-standard-plugins",
        "libre": "libreswan libnss3-tools",
    }
    install = "apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq"
    with ThreadPoolExecutor() as pool:
        list(
            pool.map(lambda item: lab.ssh(item[0], f"{install} {item[1]} >/dev/null 2>&1"), packages.items())
        )
    for member, address in BEHIND_MEMBER.items():
        lab.ssh(member, f"ip address replace {address}/32 dev lo")
    lab.ssh("swan", "".join(f"ip address replace {address}/32 dev lo;" for address in BEHIND_SWAN))
    lab.ssh("libre", f"ip address replace {BEHIND_LIBRE}/32 dev lo")

    folder = "/etc/swanctl"
    put(lab, "swan", f"{folder}/x509ca/cluster.pem", own(lab).pem)
    put(lab, "swan", f"{folder}/x509ca/partner.pem", authority.pem)
    for name, key in (
        ("swan", ec.generate_private_key(ec.SECP256R1())),
        ("swan-rsa", rsa.generate_private_key(65537, 3072)),
    ):
        issued = authority.issue(f"{name}.partner.example", key)
        put(lab, "swan", f"{folder}/x509/{name}.pem", issued.public_bytes(serialization.Encoding.PEM))
        put(lab, "swan", f"{folder}/private/{name}.pem", private(key))

    key = ec.generate_private_key(ec.SECP384R1())
    issued = own(lab).issue("libre.partner.example", key)
    encryption = serialization.BestAvailableEncryption(b"x")
    packed = pkcs12.serialize_key_and_certificates(b"libre", key, issued, None, encryption)
    put(lab, "libre", "/root/it.p12", packed)
    put(lab, "libre", "/root/ca.pem", own(lab).pem)
    lab.ssh(
        "libre",
        f"systemctl start ipsec; pk12util -i /root/it.p12 -W x -d {NSS};"
        f"certutil -A -d {NSS} -n ca -t CT,, -a -i /root/ca.pem",
    )


@pytest.fixture
def marker() -> str:
    """Return what no packet of anybody else holds."""
    return uuid.uuid4().hex[:16]


@pytest.fixture
def bystanders(lab: Lab) -> Iterator[None]:
    """Check that the SAs between members and the runs of pluto stay the very same during the test."""
    before = member_sas(lab), [lab.pluto(member) for member in MEMBERS]
    yield
    assert (member_sas(lab), [lab.pluto(member) for member in MEMBERS]) == before


@pytest.fixture
def same_plutos(lab: Lab) -> Iterator[None]:
    """Check that no pluto is another one after the test. With a CA of somebody else, members make their SAs anew."""
    before = [lab.pluto(member) for member in MEMBERS]
    yield
    assert [lab.pluto(member) for member in MEMBERS] == before


def member_sas(lab: Lab) -> set[tuple[str, str, str]]:
    """Return the SAs between members."""
    addresses = {lab.address(member) for member in MEMBERS}
    return {sa for sa in lab.spis("h1") if {sa[0], sa[1]} <= addresses}


def swan_connection(lab: Lab, member: str, local: str, remote: str, children: Mapping[str, str]) -> str:
    """Return a connection of strongSwan with *member*; *children* is name → what is in it."""
    inside = "".join(
        f"{name} {{\n esp_proposals = aes256gcm16-ecp384\n start_action = trap\n {text}\n }}\n"
        for name, text in children.items()
    )
    return f"""{member} {{
 version = 2
 local_addrs = {lab.address("swan")}
 remote_addrs = {lab.address(member)}
 {SUITES}
 dpd_delay = 5s
 local {{
 {local}
 }}
 remote {{
 {remote}
 id = {member}
 }}
 children {{
 {inside} }}
}}
"""


def configure_swan(lab: Lab, connections: Sequence[str], key: str = SWAN_KEY) -> None:
    """Load *connections* into strongSwan, and nothing else."""
    secrets = "".join(
        f'ike-{member} {{\n id-1 = swan.partner.example\n id-2 = {member}\n secret = "{key}"\n}}\n'
        for member in MEMBERS
    )
    text = f"connections {{\n{''.join(connections)}}}\nsecrets {{\n{secrets}}}\n"
    put(lab, "swan", "/etc/swanctl/conf.d/lab.conf", text)
    lab.ssh("swan", "systemctl restart strongswan")


def configure_libre(lab: Lab, keywords: Mapping[str, str]) -> None:
    """Load a connection with each member into the libreswan outside."""
    common = {
        "ikev2": "insist",
        "ike": "aes_gcm256-sha2_384-dh20",
        "esp": "aes_gcm256",
        "left": lab.address("libre"),
        "leftupdown": "%disabled",
        "dpddelay": "5",
        "retransmit-timeout": "5s",
        "auto": "ondemand",
        **keywords,
    }
    connections = ({**common, "right": lab.address(member), "rightid": f"@{member}"} for member in MEMBERS)
    sections = [
        f"conn c{number}\n" + "".join(f"\t{key}={value}\n" for key, value in connection.items())
        for number, connection in enumerate(connections)
    ]
    put(lab, "libre", "/etc/ipsec.d/lab.conf", "config setup\n\tuniqueids=no\n\n" + "\n".join(sections))
    keys = "".join(f'{lab.address("libre")} @{member} : PSK "{LIBRE_KEY}"\n' for member in MEMBERS)
    put(lab, "libre", "/etc/ipsec.d/lab.secrets", keys)
    lab.ssh("libre", "systemctl restart ipsec")


def endpoint(lab: Lab, host: str, **changes: Any) -> dict[str, Any]:
    """Return an item of ipsec_endpoints."""
    return {
        "name": host,
        "address": lab.address(host),
        "id": f"{host}.partner.example",
        **changes,
    }


def shared_keys(lab: Lab, swan_key: str = SWAN_KEY) -> list[dict[str, Any]]:
    """Return both outside hosts as endpoints with pre-shared keys."""
    return [
        endpoint(lab, "swan", auth="psk", psk=swan_key),
        endpoint(lab, "libre", auth="psk", psk=LIBRE_KEY, id=lab.address("libre")),
    ]


Way = tuple[str, str, str, str]
"""Host, its source address, and the host and address that it talks to."""


def talk(lab: Lab, ways: Sequence[Way], marker: str) -> tuple[Capture, list[bool]]:
    """Let the two ends of each way send *marker* to each other; return what was on the wire, and what was answered."""
    both = [
        way for host, source, peer, target in ways for way in ((host, source, target), (peer, target, source))
    ]
    with lab.capture() as capture, ThreadPoolExecutor() as pool:
        answered = list(pool.map(lambda way: ping(lab, way[0], way[1], way[2], marker), both))
    return capture, answered


def ping(lab: Lab, host: str, source: str, target: str, marker: str) -> bool:
    """Send *marker* by ping and UDP; return whether a ping was answered."""
    pattern = marker.encode().hex()
    out = lab.ssh(
        host,
        f"echo {marker} | timeout 1 nc -u -w 1 -s {source} {target} 7778;"
        f"ping -I {source} -c 6 -i 0.4 -w 4 -p {pattern} {target}; true",
    )
    return " 0 received" not in out


def check_encrypted(lab: Lab, ways: Sequence[Way], marker: str) -> None:
    """Let all ways talk, and find nothing but ESP of it on the wire."""
    capture, answered = talk(lab, ways, marker)
    assert answered == [True] * 2 * len(ways)
    assert not capture.holding(marker.encode())
    for host, _source, peer, _target in ways:
        outer = lab.address(host), lab.address(peer)
        assert capture.esp(*outer)
        assert not capture.clear(*outer)
    assert not capture.clear_from([*BEHIND_MEMBER.values(), *BEHIND_SWAN, BEHIND_LIBRE])


def up(lab: Lab, member: str) -> set[str]:
    """Return the endpoints' connections of *member* that have a Child SA."""
    words = lab.ssh(member, "ipsec whack --trafficstatus").split('"')[1::2]
    return {
        name.removeprefix("underlay-endpoint+") for name in words if name.startswith("underlay-endpoint+")
    }


def test_pre_shared_keys(lab: Lab, marker: str, bystanders: None) -> None:
    psk = "auth = psk"
    swan = [
        swan_connection(lab, member, f"{psk}\n id = swan.partner.example", psk, {"host": "mode = transport"})
        for member in MEMBERS
    ]
    configure_swan(lab, swan)
    configure_libre(lab, {"type": "transport", "authby": "secret", "leftid": lab.address("libre")})
    # Until then they are strangers, with whom members try in vain to negotiate, and go on trying.
    for member in MEMBERS:
        for host in ("swan", "libre"):
            lab.ssh(member, f"setsid ping -i 0.3 -w 90 {lab.address(host)} >/dev/null 2>&1 </dev/null &")
            assert not lab.answers(member, lab.address(host))
    run = lab.converge(MEMBERS, "--diff", "-vvv", ipsec_endpoints=shared_keys(lab))
    assert {member: up(lab, member) for member in MEMBERS} == {key: {"swan", "libre"} for key in MEMBERS}
    ways = [
        (member, lab.address(member), host, lab.address(host))
        for member in MEMBERS
        for host in ("swan", "libre")
    ]
    check_encrypted(lab, ways, marker)

    # The inventory in the output is the test's own: what matters is what runs print and leave.
    for key in (SWAN_KEY, LIBRE_KEY):
        assert key not in run.output
        for path in (lab.folder / "report").rglob("*"):
            assert not path.is_file() or key not in path.read_text(errors="replace")
        for member in MEMBERS:
            found = lab.ssh(member, f"grep -rlsF '{key}' /etc /root /tmp /var/log || true").split()
            assert found == ["/etc/ipsec.d/underlay.secrets"]
            assert lab.ssh(member, f"stat -c %a {found[0]}").strip() == "600"
            assert key not in lab.ssh(member, "journalctl --no-pager | grep -F 0123456789abcdef || true")


def test_second_run_changes_nothing(lab: Lab, bystanders: None) -> None:
    before = {member: lab.spis(member) for member in MEMBERS}
    assert lab.converge(MEMBERS, ipsec_endpoints=shared_keys(lab)).changed == 0
    assert {member: lab.spis(member) for member in MEMBERS} == before


def test_another_key_is_reported_and_nothing_leaks(lab: Lab, marker: str, bystanders: None) -> None:
    endpoints = shared_keys(lab, swan_key=SWAN_KEY.upper())
    # A key is used when an SA is made from nothing: those that are there stay.
    lab.converge(MEMBERS, ipsec_endpoints=endpoints)
    for member in MEMBERS:
        lab.ssh(member, "ipsec whack --name underlay-endpoint+swan --terminate")
    run = lab.converge(MEMBERS, ipsec_endpoints=endpoints)
    waited = run.output.partition("Wait for the security associations")[2].partition("TASK")[0]
    assert "swan" in waited
    assert "changed: " not in waited
    said = " ".join(run.output.split())
    for member in MEMBERS:
        assert f"{member}: the endpoint swan has no security association: the peer" in said
    assert "AUTHENTICATION_FAILED" in said
    assert "endpoints: 2 of 4 encrypted" in said
    ways = [(member, lab.address(member), "swan", lab.address("swan")) for member in MEMBERS]
    capture, answered = talk(lab, ways, marker)
    assert answered == [False] * 4
    assert not capture.holding(marker.encode())
    for member in MEMBERS:
        assert not capture.clear(lab.address(member), lab.address("swan"))
    assert {member: up(lab, member) for member in MEMBERS} == {key: {"libre"} for key in MEMBERS}


def test_certificates_and_subnets(lab: Lab, authority: Signer, marker: str, same_plutos: None) -> None:
    """Our end changes at once from a key to a certificate, from hosts to subnets, and to a CA that pluto has never seen.

    One member knows strongSwan by its certificate's subject and the other one by a name, and
    its certificates have keys of another kind than the members' own.
    """
    theirs = "auth = pubkey\n cacerts = cluster.pem"
    local = {
        "h1": "auth = pubkey\n certs = swan.pem",
        "h2": "auth = pubkey\n certs = swan-rsa.pem\n id = swan-rsa.partner.example",
    }
    children = {
        member: {
            f"{member}-{number}": f"mode = tunnel\n local_ts = {subnet}\n remote_ts = {address}/32"
            for number, subnet in enumerate(SUBNETS)
        }
        for member, address in BEHIND_MEMBER.items()
    }
    configure_swan(lab, [swan_connection(lab, m, local[m], theirs, children[m]) for m in MEMBERS])
    configure_libre(
        lab,
        {
            "type": "tunnel",
            "authby": "ecdsa",
            "leftid": "@libre.partner.example",
            "leftcert": "libre",
            "rightca": "%same",
            "leftsubnet": f"{BEHIND_LIBRE}/32",
            "encapsulation": "yes",
            "pfs": "no",
        },
    )
    by_swan = {"ca": authority.pem, "remote_subnets": list(SUBNETS), "address": lab.address("swan")}
    endpoints = [
        {
            **by_swan,
            "name": "swan-h1",
            "members": ["h1"],
            "id": "C=DE, O=Partner\\, Inc., CN=swan.partner.example",
            "local_subnets": [f"{BEHIND_MEMBER['h1']}/32"],
        },
        {
            **by_swan,
            "name": "swan-h2",
            "members": ["h2"],
            "id": "swan-rsa.partner.example",
            "key_type": "rsa",
            "local_subnets": [f"{BEHIND_MEMBER['h2']}/32"],
            "ike_lifetime": 14400,
            "sa_lifetime": 3600,
            "dpd_delay": 10,
        },
        endpoint(lab, "libre", remote_subnets=[f"{BEHIND_LIBRE}/32"], encapsulation="always", pfs=False),
    ]
    run = lab.converge(MEMBERS, ipsec_endpoints=endpoints)
    assert "endpoints: 4 of 4 encrypted" in run.output
    assert "has no security association" not in run.output
    for member, address in BEHIND_MEMBER.items():
        subnets = {f"swan-{member}+{address}-32+{subnet.replace('/', '-')}" for subnet in SUBNETS}
        assert up(lab, member) == subnets | {f"libre+host+{BEHIND_LIBRE}-32"}
    ways = [(m, BEHIND_MEMBER[m], "swan", behind) for m in MEMBERS for behind in BEHIND_SWAN]
    ways += [(m, lab.address(m), "libre", BEHIND_LIBRE) for m in MEMBERS]
    check_encrypted(lab, ways, marker)
    again = lab.converge(MEMBERS, "--diff", ipsec_endpoints=endpoints)
    assert again.changed == 0, again.output


def test_endpoint_that_is_gone_leaves_nothing(lab: Lab, marker: str, same_plutos: None) -> None:
    lab.converge(MEMBERS)
    for member in MEMBERS:
        # But for opportunistic instances: libre has a certificate of the cluster's CA and may try as a member at any time.
        status = """ipsec whack --status | grep -v '^[0-9 ]*"[^"]*#[^"]*"\\[[0-9]'"""
        left = lab.ssh(member, f"cat /etc/ipsec.d/underlay*; {status}; certutil -L -d {NSS}")
        assert "endpoint" not in left
        assert "Partner" not in left
        assert "underlay-ca+" not in left
        assert "secrets" not in lab.ssh(member, "ls /etc/ipsec.d")
        assert eventually(lambda member=member: forgotten(lab, member), 40)  # type: ignore[misc]
    ways = [(member, lab.address(member), "swan", lab.address("swan")) for member in MEMBERS]
    capture, answered = talk(lab, ways, marker)
    assert answered == [False] * 4
    assert not [p for p in capture.holding(marker.encode()) if p.source != lab.address("swan")]


def forgotten(lab: Lab, member: str) -> bool:
    """Return whether the kernel of *member* has no SA with the outside hosts any more."""
    hosts = {lab.address(host) for host in ("swan", "libre")}
    return not [sa for sa in lab.spis(member) if hosts & set(sa)]
