#!/usr/bin/python
# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: probe
short_description: Find out on the wire whether traffic with each peer is encrypted
description:
  - Sends echo requests (ICMP, ICMPv6) with a secret mark from this host's own addresses to each peer, and watches every
    network interface for the mark. A probe that leaves in clear text is seen, whatever libreswan says; an encrypted one
    leaves as ESP and is counted by the kernel's SA for exactly this pair of addresses.
  - Calls a pair encrypted only if no probe left in clear text, the SA to the peer counted every probe, all of them were
    answered, and the SA from the peer counted every answer.
  - Proves first that it can see clear text, with a probe on the loopback interface.
  - Waits for SAs that are still being negotiated. Of two hosts without an SA, the one with the lower address begins and
    the other one waits a few seconds, because libreswan can go wrong if both begin at once.
  - Libreswan's journal and its account of itself are read to explain a result, never to find it.
  - Needs root. Needs nothing but Python and C(ip) on the host.
author:
  - underlay.ipsec contributors (@underlay-ipsec)
extends_documentation_fragment:
  - underlay.ipsec.attributes
attributes:
  check_mode:
    support: full
    details: It changes nothing, so it probes in check mode too; it is skipped on a host without libreswan.
  diff_mode:
    support: none
  idempotent:
    support: full
options:
  member:
    description: The name of this host among the members.
    type: str
    required: true
  networks:
    description: The networks that this host is on.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the network.
        type: str
        required: true
      address:
        description: This host's address on the network.
        type: str
        required: true
      peers:
        description: Address of each member on the network, by the member's name. This host's own entry is left out.
        type: dict
        required: true
      clear:
        description: Names of members with which no SA is expected, so that there is none to wait for.
        type: list
        elements: str
        default: []
      nat:
        description: Where to find members behind NAT, by name. Their SAs are between that address and this host's.
        type: dict
        default: {}
  endpoints:
    description:
      - The C(endpoints) in the part C(libreswan) of the member's slice. Nothing is sent to them; their security associations are
        looked at.
    type: list
    elements: dict
    default: []
  certificate:
    description:
      - Nickname in NSS of the certificate by which this host authenticates. Needed for RV(certificate), RV(authorities), RV(crls)
        and RV(authenticated).
    type: str
  nss_dir:
    description:
      - Directory of the NSS database.
      - C(/var/lib/ipsec/nss) by default, or C(/etc/ipsec.d) where the database is there.
    type: path
  timeout:
    description: How long to wait for SAs and answers before measuring, in seconds.
    type: float
    default: 30
  count:
    description: How many probes to measure with, for each peer.
    type: int
    default: 3
  stage:
    description: Returned as it is, so that a report can tell this run's results from earlier ones.
    type: str
    default: verify
seealso:
  - module: underlay.ipsec.report
  - module: underlay.ipsec.libreswan_info
"""

EXAMPLES = r"""
- name: Look at the wire
  underlay.ipsec.probe:
    member: h1
    networks:
      - name: data
        address: 10.88.0.11
        peers:
          h2: 10.88.0.12
          h3: 10.88.0.13
    certificate: underlay-h1
  register: probe
"""

RETURN = r"""
links:
  description: This host's interfaces, as RV(underlay.ipsec.host_info#module:links) has them.
  returned: success
  type: list
  elements: dict
ways:
  description: How this host sends to each network on which it has a peer, by the network's name.
  returned: success
  type: dict
  contains:
    interface:
      description: The interface that it sends by.
      type: str
    mtu:
      description: The MTU of the route; null if the route has none of its own.
      type: int
stage:
  description: The option O(stage).
  returned: success
  type: str
pairs:
  description: What is true about the traffic to each peer.
  returned: success
  type: list
  elements: dict
  contains:
    peer:
      description: Name of the peer.
      type: str
    network:
      description: Name of the network.
      type: str
    address:
      description: The peer's address.
      type: str
    status:
      description:
        - C(encrypted) as defined above.
        - C(clear) if a probe left in clear text, answered or not, or if the peer answered and encryption is not proven.
        - C(blocked) if nothing left this host, because of a policy or a firewall.
        - C(unreachable) if probes left encrypted and answers are missing, or if nobody has the address.
      type: str
    cause:
      description: A word for the kind of finding; empty if encrypted.
      type: str
    reason:
      description: The evidence, and what libreswan says about it; empty if encrypted.
      type: str
    sent:
      description: Probes that were measured.
      type: int
    replies:
      description: Probes that were answered.
      type: int
    sent_clear:
      description: Probes seen leaving this host in clear text.
      type: int
    out:
      description: The kernel's SAs to the peer; null if there is none.
      type: dict
      contains:
        spi:
          description: The SA that counted most.
          type: str
        spis:
          description: All of them; there can be several for a while.
          type: list
          elements: str
        cipher:
          description: In libreswan's notation.
          type: str
          sample: aes_gcm256
        encap:
          description: C(udp) or C(tcp) if ESP is wrapped in it, else null.
          type: str
        mode:
          description: C(transport) or C(tunnel).
          type: str
        packets_before:
          description: Packets counted before the measurement.
          type: int
        packets_after:
          description: Packets counted after the measurement.
          type: int
    in:
      description: The kernel's SAs from the peer, with the keys of RV(pairs[].out); null if there is none.
      type: dict
    claimed:
      description: Whether libreswan says that a Child SA with the peer is established.
      type: bool
    exceptions:
      description: What the kernel lets through in clear text beside that, as entries of libreswan's policy files.
      type: list
      elements: str
      sample: ["10.88.0.0/24 tcp 0 22"]
endpoints:
  description: What libreswan and the kernel say about each of O(endpoints).
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Name of the endpoint.
      type: str
    network:
      description: The network that this host's end is on.
      type: str
    address:
      description: The endpoint's address.
      type: str
    established:
      description: Whether all its connections have a security association, which the kernel has too.
      type: bool
    waiting:
      description: Names of its connections that have none.
      type: list
      elements: str
    cipher:
      description: In libreswan's notation; null without a security association.
      type: str
    encap:
      description: C(udp) or C(tcp) if ESP is wrapped in it, else null.
      type: str
    reason:
      description: Why there is none; empty if established.
      type: str
certificate:
  description: This host's certificate; null if it is not there.
  returned: success
  type: dict
  contains:
    nickname:
      description: Its name in NSS.
      type: str
    subject:
      description: As libreswan writes it.
      type: str
      sample: O=underlay.ipsec, CN=h1
    issuer:
      description: The subject of the CA that issued it.
      type: str
    serial:
      description: Hexadecimal.
      type: str
    not_after:
      description: When it expires (UTC).
      type: str
      sample: "2031-01-31T12:00:00Z"
    key_type:
      description: Type of its key.
      type: str
      sample: ecdsa-p384
    fingerprint:
      description: SHA-256, hexadecimal.
      type: str
authorities:
  description:
    - The CAs in NSS, with the keys of RV(certificate). The one whose certificates members are to have is C(underlay-ca), the others
      of the collection have that and a plus sign in their nicknames, and those that somebody else filed and trusts have any nickname.
  returned: success
  type: list
  elements: dict
crls:
  description: Their lists of revoked certificates.
  returned: success
  type: list
  elements: dict
  contains:
    issuer:
      description: The subject of the CA that issued it.
      type: str
    this_update:
      description: When it was issued (UTC).
      type: str
    next_update:
      description: Until when it is valid (UTC); null if it does not say.
      type: str
    revoked:
      description: How many certificates it revokes.
      type: int
authenticated:
  description: Each established IKE SA with one of the peers.
  returned: success
  type: list
  elements: dict
  contains:
    peer:
      description: Name of the peer.
      type: str
    network:
      description: Name of the network.
      type: str
    serial:
      description: The number of the IKE SA in libreswan. That of a newer one is higher.
      type: int
    certificate:
      description: Subject of the certificate that the peer showed, from libreswan's journal; null if the journal does not have it any more.
      type: str
      sample: O=underlay.ipsec, CN=h2
libreswan:
  description: Version of libreswan; null if it is not installed.
  returned: success
  type: str
  sample: "4.10"
service:
  description: Whether the service is C(active) and C(enabled).
  returned: success
  type: dict
holds:
  description: The virtual addresses that this host has.
  returned: success
  type: list
  elements: str
  sample: [internal_api.vip]
fail_closed:
  description: Whether the firewall has the rules that drop clear text, as they were loaded; null if none were.
  returned: success
  type: bool
"""

import time
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.underlay.ipsec.plugins.module_utils._errors import IpsecError
from ansible_collections.underlay.ipsec.plugins.module_utils._firewall.manage import in_force
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan.dialect import detect
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan.endpoints import endpoint_from
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan.pairs import pair_name
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan.status import read_traffic
from ansible_collections.underlay.ipsec.plugins.module_utils._mtu.links import read_links, read_ways
from ansible_collections.underlay.ipsec.plugins.module_utils._probe.account import read_accounts
from ansible_collections.underlay.ipsec.plugins.module_utils._probe.authenticated import read_authenticated
from ansible_collections.underlay.ipsec.plugins.module_utils._probe.certificates import read_certificates
from ansible_collections.underlay.ipsec.plugins.module_utils._probe.endpoints import describe_endpoints
from ansible_collections.underlay.ipsec.plugins.module_utils._probe.host import (
    describe,
    own_addresses,
    read_service,
    targets,
)
from ansible_collections.underlay.ipsec.plugins.module_utils._probe.observe import Kernel, observe
from ansible_collections.underlay.ipsec.plugins.module_utils._probe.wire import Wire
from ansible_collections.underlay.ipsec.plugins.module_utils._probe.xfrm import (
    Policies,
    behind,
    read_policies,
    read_states,
)
from ansible_collections.underlay.ipsec.plugins.module_utils._run import host_runner


def argument_spec() -> dict[str, Any]:
    """Return what the module takes."""
    return {
        "member": {"type": "str", "required": True},
        "networks": {
            "type": "list",
            "elements": "dict",
            "required": True,
            "options": {
                "name": {"type": "str", "required": True},
                "address": {"type": "str", "required": True},
                "peers": {"type": "dict", "required": True},
                "clear": {"type": "list", "elements": "str", "default": []},
                "nat": {"type": "dict", "default": {}},
            },
        },
        "endpoints": {"type": "list", "elements": "dict", "default": []},
        "certificate": {"type": "str"},
        "nss_dir": {"type": "path"},
        "timeout": {"type": "float", "default": 30},
        "count": {"type": "int", "default": 3},
        "stage": {"type": "str", "default": "verify"},
    }


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec(), supports_check_mode=True)
    if module.params["count"] < 1:
        module.fail_json(msg=f"count is {module.params['count']}; at least one probe is needed")
    try:
        if module.check_mode and detect(host_runner()) is None:
            module.exit_json(skipped=True, msg="libreswan is not installed yet")
        module.exit_json(changed=False, stage=module.params["stage"], **_run(module.params))
    except IpsecError as error:
        module.fail_json(msg=str(error))
    except PermissionError as error:
        module.fail_json(msg=f"root is needed to look at the wire (become: true): {error.strerror}")


def _run(params: dict[str, Any]) -> dict[str, Any]:
    run = host_runner()
    known = targets(params["networks"], params["member"])
    # What the host has itself, it does not reach over the wire.
    here = own_addresses(run)
    peers = tuple(target for target in known if target.route.destination not in here)
    unprotected = {(network["name"], peer) for network in params["networks"] for peer in network["clear"]}
    routes = [target.route for target in peers]
    clear = {target.route for target in peers if (target.network, target.peer) in unprotected}
    behind_nat = {target.reached_at: target.route.destination for target in peers}
    kernel = Kernel(lambda: list(behind(read_states(run), behind_nat)), lambda: Policies(read_policies(run)))
    with Wire(route.source for route in routes) as wire:
        wire.check_tap(route.family for route in routes)
        evidence = observe(
            wire, kernel, routes, clear=clear, timeout=params["timeout"], count=params["count"]
        )
    dialect = detect(run)
    service = read_service(run)
    endpoints = list(map(endpoint_from, params["endpoints"]))
    # Of a pair in a mesh, pluto says the name and not always the address.
    named = {pair_name(target.network, params["member"], target.peer): target.reached_at for target in peers}
    named |= {name: endpoint.address for endpoint in endpoints for name in endpoint.connections}
    traffic = read_traffic(run)
    claimed = {entry["peer"] or named.get(entry["name"]) for entry in traffic}
    addresses = {*named.values(), *(target.reached_at for target in peers)}
    accounts = read_accounts(run, time.time(), addresses, named)
    policies = kernel.policies()
    nickname = params["certificate"]
    return {
        "pairs": [
            describe(
                target,
                evidence[target.route],
                account=accounts.get(target.reached_at),
                claimed=target.reached_at in claimed,
                active=service["active"],
                exceptions=policies.exceptions(target.route.source, target.route.destination),
            )
            for target in peers
        ],
        "endpoints": describe_endpoints(
            endpoints, {entry["name"] for entry in traffic}, read_states(run) if endpoints else (), accounts
        ),
        **read_certificates(run, nickname, params["nss_dir"]),
        "authenticated": read_authenticated(run, peers, named) if nickname else [],
        "libreswan": f"{dialect.major}.{dialect.minor}" if dialect else None,
        "service": service,
        "links": read_links(run),
        "ways": read_ways(run, {t.network: (t.route.source, t.route.destination) for t in peers}),
        "holds": sorted(target.peer for target in known if target not in peers),
        "fail_closed": in_force(run, Path("/")),
    }


if __name__ == "__main__":
    main()
