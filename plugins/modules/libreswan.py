#!/usr/bin/python
# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: libreswan
short_description: Bring libreswan to the state that the plan wants, live
description:
  - Writes the connections and policy files of a member's slice of the plan and applies only the difference to the
    running daemon. Security associations with peers that the difference does not concern stay as they are.
  - Owns C(/etc/ipsec.d/underlay.conf) and what starts with C(underlay-) in C(/etc/ipsec.d) and C(/etc/ipsec.d/policies),
    as whole files. Touches no other file and no other connection.
  - The service is started if it does not run, and never restarted unless an option of C(config setup) changed.
  - An interrupted run leaves a journal behind; the next run takes up what was not done.
author:
  - underlay.ipsec contributors (@underlay-ipsec)
extends_documentation_fragment:
  - underlay.ipsec.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  state:
    description:
      - V(present) configures and starts libreswan.
      - V(absent) unloads the collection's connections and removes its files. The service keeps running if it runs.
    type: str
    choices: [present, absent]
    default: present
  settings:
    description: The part C(libreswan) of the member's slice, as M(underlay.ipsec.plan) writes it. Required with O(state=present).
    type: dict
    suboptions:
      topology:
        description: Whether each network has opportunistic groups, or a connection for each of O(peers).
        type: str
        choices: [opportunistic, mesh]
        default: opportunistic
      member:
        description: This host's inventory name. Required with O(settings.topology=mesh).
        type: str
        default: ""
      fqdn:
        description: By what name O(peers) know this host. Required with O(settings.topology=mesh).
        type: str
        default: ""
      certificate:
        description: Nickname in NSS of the certificate by which this host authenticates. Left out with pre-shared keys.
        type: str
      authby:
        description: How certificates sign, in libreswan's notation.
        type: str
        required: true
      ike:
        description: Proposals for the IKE SA, in libreswan's notation.
        type: str
        required: true
      esp:
        description: Proposals for the Child SA, in libreswan's notation.
        type: str
        required: true
      networks:
        description: The networks that this host is on.
        type: list
        elements: dict
        required: true
        suboptions:
          name:
            description: Name of the network; part of the connections' names.
            type: str
            required: true
          family:
            description: Address family.
            type: int
            choices: [4, 6]
            required: true
          address:
            description: This host's address on the network.
            type: str
            required: true
          mode:
            description: IPsec mode.
            type: str
            choices: [transport, tunnel]
            default: transport
          encapsulation:
            description: Whether ESP travels in UDP.
            type: str
            choices: [auto, always, never]
            default: auto
          private:
            description: CIDRs whose hosts have to authenticate.
            type: list
            elements: str
            default: []
          clear:
            description: Exceptions, as C(CIDR) or C(CIDR proto sport dport).
            type: list
            elements: str
            default: []
          cidr:
            description: The network itself.
            type: str
            required: true
          mtu:
            description: The network's MTU. Not used by this module.
            type: int
          ike:
            description: Proposals for the IKE SA on this network, if not those of O(settings.ike).
            type: str
          esp:
            description: Proposals for the Child SA on this network, if not those of O(settings.esp).
            type: str
      vips:
        description: Virtual addresses. Not used by this module, but by M(underlay.ipsec.vip).
        type: list
        elements: dict
        default: []
      endpoints:
        description: Hosts that are not members, with which this host has a connection.
        type: list
        elements: dict
        default: []
        suboptions:
          name:
            description: Name of the endpoint; part of the connections' names.
            type: str
            required: true
          network:
            description: The network whose address is this host's end.
            type: str
            required: true
          address:
            description: The endpoint's address.
            type: str
            required: true
          id:
            description: What it authenticates as, in libreswan's notation.
            type: str
            required: true
          auth:
            description: How it authenticates. The keys are in O(keys).
            type: str
            choices: [certificate, psk]
            default: certificate
          key_type:
            description: The kind of key in its certificate.
            type: str
            choices: [ecdsa, rsa]
            default: ecdsa
          ca:
            description: The subject of the CA of its certificate, if that is not this host's own CA.
            type: str
          mode:
            description: IPsec mode.
            type: str
            choices: [transport, tunnel]
            default: transport
          local_subnets:
            description: What is behind this host.
            type: list
            elements: str
            default: []
          remote_subnets:
            description: What is behind the endpoint.
            type: list
            elements: str
            default: []
          ike:
            description: Proposals for the IKE SA, in libreswan's notation.
            type: str
            required: true
          esp:
            description: Proposals for the Child SA, in libreswan's notation.
            type: str
            required: true
          pfs:
            description: Whether a key exchange goes with each renewal of the Child SA.
            type: bool
            default: true
          ike_lifetime:
            description: After how many seconds the IKE SA is renewed.
            type: int
          sa_lifetime:
            description: After how many seconds the Child SA is renewed.
            type: int
          dpd_delay:
            description: After how many seconds of silence the endpoint is asked whether it lives.
            type: int
            default: 5
          encapsulation:
            description: Whether ESP travels in UDP.
            type: str
            choices: [auto, always, never]
            default: auto
          initiate:
            description: Whether this host brings the connection up by itself.
            type: bool
            default: true
  peers:
    description: The other ends in a mesh, as P(underlay.ipsec.mesh_peers#filter) returns them.
    type: list
    elements: dict
    default: []
    suboptions:
      network:
        description: Name of the network.
        type: str
        required: true
      member:
        description: The peer's inventory name; with this host's own one, part of the connection's name.
        type: str
        required: true
      fqdn:
        description: The name that the peer authenticates as.
        type: str
        required: true
      address:
        description: The peer's address on the network.
        type: str
        required: true
      nat_address:
        description:
          - Where to find the peer if it is behind NAT. O(peers[].address) is then the address that it has itself, and that
            the connection is for, in tunnel mode. With O(enforcement=private), other traffic with the NAT address is dropped.
        type: str
  keys:
    description:
      - Pre-shared keys, as P(underlay.ipsec.pair_keys#filter) and P(underlay.ipsec.endpoint_keys#filter) return them.
      - They are in no output and in no diff.
    type: list
    elements: dict
    default: []
    suboptions:
      ids:
        description: The ids of the two ends, in libreswan's notation.
        type: list
        elements: str
        required: true
      psk:
        description: The key, as text without quotes.
        type: str
        required: true
  enforcement:
    description: What becomes of traffic with a host that does not authenticate.
    type: str
    choices: [clear, private-or-clear, private]
    default: private
  stage:
    description:
      - V(keys) gives a running libreswan O(keys), and changes nothing else. Run it on all hosts before V(prepare) where they
        have certificates and no keys yet. Until 5.1, libreswan crashes if it reads keys while it signs.
      - V(prepare) configures everything, but a network (in a mesh, a pair) that does not enforce yet is left at
        V(private-or-clear), so that a host which cannot authenticate can still be reached. A network on which the
        other topology enforces is left as it is.
      - V(hold) changes nothing that lasts; for O(hold_seconds), this host starts no negotiation, and drops what would
        need one. Run it on all hosts before V(enforce), whose change ends security associations. Libreswan 4.x can end
        up unable to send to a peer if both start at once.
      - V(enforce) puts O(enforcement) in force.
      - V(release) ends V(hold). For five more seconds only the end with the lower address starts.
    type: str
    choices: [keys, prepare, hold, enforce, release]
    default: prepare
  hold_seconds:
    description: How long V(stage=hold) lasts at most, in seconds. The kernel ends it by itself.
    type: int
    default: 60
  watch:
    description:
      - The text of a shell script that a service runs beside pluto, where libreswan 4.x needs it. It mends
        security associations that pluto leaves one-way or stuck.
    type: str
  crl_strict:
    description:
      - Whether nobody can authenticate unless the CA's revocation list is there and valid. A change restarts the service.
    type: bool
    default: false
  one_ca:
    description:
      - Whether peers need a certificate of the CA that issued this host's own. Otherwise one of any CA that NSS trusts
        will do, so set it where NSS trusts others than the members' CA.
      - While one CA takes over from another, members have certificates of both.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Encrypt whatever can be encrypted
  underlay.ipsec.libreswan:
    settings: "{{ __ipsec_slice.libreswan }}"
    stage: prepare

- name: Drop what is not encrypted
  underlay.ipsec.libreswan:
    settings: "{{ __ipsec_slice.libreswan }}"
    stage: enforce
"""

RETURN = r"""
version:
  description: Version of libreswan on the host; null if it is not installed.
  returned: unless O(stage) is V(keys), V(hold) or V(release)
  type: str
  sample: "4.10"
enforced:
  description: Networks (in a mesh, connections) that V(private) is in force for after the run.
  returned: with O(stage=prepare) and O(stage=enforce)
  type: list
  elements: str
  sample: [data]
hold:
  description:
    - Whether V(stage=hold) and V(stage=release) have to go round V(stage=enforce). That is not so if all that
      it does is to add policies to pairs that have an SA.
  returned: with O(stage=prepare) and O(stage=enforce)
  type: bool
unestablished:
  description:
    - How many pairs of the mesh, and connections with endpoints that this host brings up, had no security association
      before this run, or lost it by this run.
  returned: with O(stage=prepare) and O(stage=enforce)
  type: int
renewed:
  description:
    - Whether certificates, CAs or CRLs in NSS changed and security associations are older than that. If so, run
      M(underlay.ipsec.reauthenticate).
  returned: with O(stage=prepare) and O(stage=enforce)
  type: bool
renamed:
  description:
    - The addresses of this host → the subject of its certificate, if it had another one before and that is what an opportunistic group
      knows it by. Its peers have to forget the former one, see the option O(underlay.ipsec.reauthenticate#module:forget).
  returned: with O(stage=prepare) and O(stage=enforce)
  type: dict
hands_over:
  description: Whether a new pluto has to take over for that, because the running one would crash.
  returned: with O(stage=prepare) and O(stage=enforce)
  type: bool
pending:
  description: Whether O(enforcement) still waits for O(stage=enforce).
  returned: with O(stage=prepare) and O(stage=enforce)
  type: bool
connections:
  description: Names of the connections that were loaded or replaced (C(added)) and unloaded (C(removed)).
  returned: unless O(stage) is V(keys), V(hold) or V(release)
  type: dict
  sample: {"added": ["underlay-data-private"], "removed": []}
healed:
  description: Peers to negotiate with again, because the security association with them carried nothing in two looks.
  returned: unless O(stage) is V(keys), V(hold) or V(release)
  type: list
  elements: str
  sample: ["10.88.0.12"]
service:
  description: What was done to the service, one of C(none), C(started), C(restarted), C(enabled).
  returned: unless O(stage) is V(keys), V(hold) or V(release)
  type: str
  sample: started
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.underlay.ipsec.plugins.module_utils._errors import IpsecError
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan import apply as live
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan import (
    difference,
    pause,
    render,
    renewed,
)
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan.dialect import Dialect, detect
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan.stage import desired
from ansible_collections.underlay.ipsec.plugins.module_utils._nss.database import (
    CertutilDatabase,
    default_directory,
)
from ansible_collections.underlay.ipsec.plugins.module_utils._nss.names import distinguished_name
from ansible_collections.underlay.ipsec.plugins.module_utils._run import Runner, host_runner

# Only to predict in check mode what a host without libreswan would get.
_LIKELY = Dialect(4, 10)

STAGES = ("keys", "prepare", "hold", "enforce", "release")
# How long only one end of a pair may start: enough for a negotiation with retransmissions.
_ORDER_SECONDS = 5


def argument_spec() -> dict[str, Any]:
    """Return the module's arguments; they mirror the slice."""
    network = {
        "name": {"type": "str", "required": True},
        "family": {"type": "int", "choices": [4, 6], "required": True},
        "address": {"type": "str", "required": True},
        "mode": {"type": "str", "choices": ["transport", "tunnel"], "default": "transport"},
        "encapsulation": {"type": "str", "choices": ["auto", "always", "never"], "default": "auto"},
        "private": {"type": "list", "elements": "str", "default": []},
        "clear": {"type": "list", "elements": "str", "default": []},
        "cidr": {"type": "str", "required": True},
        "mtu": {"type": "int"},
        "ike": {"type": "str"},
        "esp": {"type": "str"},
    }
    endpoint = {
        **{name: {"type": "str", "required": True} for name in ("name", "network", "address", "id")},
        "auth": {"type": "str", "choices": ["certificate", "psk"], "default": "certificate"},
        "key_type": {"type": "str", "choices": ["ecdsa", "rsa"], "default": "ecdsa", "no_log": False},
        "ca": {"type": "str"},
        "mode": {"type": "str", "choices": ["transport", "tunnel"], "default": "transport"},
        "local_subnets": {"type": "list", "elements": "str", "default": []},
        "remote_subnets": {"type": "list", "elements": "str", "default": []},
        "ike": {"type": "str", "required": True},
        "esp": {"type": "str", "required": True},
        "pfs": {"type": "bool", "default": True},
        "ike_lifetime": {"type": "int"},
        "sa_lifetime": {"type": "int"},
        "dpd_delay": {"type": "int", "default": 5},
        "encapsulation": {"type": "str", "choices": ["auto", "always", "never"], "default": "auto"},
        "initiate": {"type": "bool", "default": True},
    }
    settings = {
        "topology": {"type": "str", "choices": ["opportunistic", "mesh"], "default": "opportunistic"},
        "member": {"type": "str", "default": ""},
        "fqdn": {"type": "str", "default": ""},
        "certificate": {"type": "str"},
        "authby": {"type": "str", "required": True},
        "ike": {"type": "str", "required": True},
        "esp": {"type": "str", "required": True},
        "networks": {"type": "list", "elements": "dict", "required": True, "options": network},
        "endpoints": {"type": "list", "elements": "dict", "default": [], "options": endpoint},
        "vips": {"type": "list", "elements": "dict", "default": []},
    }
    peer = {
        **{name: {"type": "str", "required": True} for name in ("network", "member", "fqdn", "address")},
        "nat_address": {"type": "str"},
    }
    key = {
        "ids": {"type": "list", "elements": "str", "required": True},
        "psk": {"type": "str", "required": True, "no_log": True},
    }
    return {
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        "settings": {"type": "dict", "options": settings},
        "peers": {"type": "list", "elements": "dict", "default": [], "options": peer},
        # Not no_log as a whole: the ids are in all that libreswan says, and would be blotted out there.
        "keys": {"type": "list", "elements": "dict", "default": [], "options": key, "no_log": False},
        "enforcement": {
            "type": "str",
            "choices": ["clear", "private-or-clear", "private"],
            "default": "private",
        },
        "stage": {"type": "str", "choices": list(STAGES), "default": "prepare"},
        "hold_seconds": {"type": "int", "default": 60},
        "watch": {"type": "str"},
        "one_ca": {"type": "bool", "default": False},
        "crl_strict": {"type": "bool", "default": False},
    }


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec(), supports_check_mode=True, required_if=[("state", "present", ["settings"])]
    )
    try:
        module.exit_json(**_run(module.params, check=module.check_mode))
    except IpsecError as error:
        module.fail_json(msg=str(error))


def _run(params: dict[str, Any], *, check: bool) -> dict[str, Any]:
    run = host_runner()
    dialect = detect(run)
    if params["state"] == "absent":
        if not check:
            renewed.forget()
        return _change(run, dialect, live.observe(run), {}, check=check, serve=False)
    if dialect is None and not check:
        raise IpsecError(
            "libreswan is not installed: run the role underlay.ipsec.libreswan, which installs it"
        )
    stage = params["stage"]
    if stage == "keys":
        return _keys(run, params["keys"], check=check)
    settings = replace(
        render.settings_from(params["settings"], params["peers"]),
        one_ca=params["one_ca"],
        crl_strict=params["crl_strict"],
    )
    if params["enforcement"] == "clear":
        settings = replace(settings, endpoints=())
    if stage in ("hold", "release"):
        return _pause(run, settings, stage, params["hold_seconds"], check=check)
    observed = live.observe(run)
    wanted = desired(
        settings,
        observed,
        dialect or _LIKELY,
        params["enforcement"],
        stage,
        watch=params["watch"] or "",
        keys=params["keys"],
    )
    crashes = observed.loaded is not None and observed.loaded.crashes_on_reread(dialect or _LIKELY)
    result = _change(run, dialect, observed, wanted.files, check=check, reread=not crashes)
    # 5.x sees within half a minute what else is revoked; a pair of a mesh goes with the member.
    lasting = {renewed.CERTIFICATE, *([renewed.REVOCATION] if crashes else [])}
    stale = bool(lasting & observed.renewed)
    if observed.renewed and not stale and not check:
        renewed.forget()
    started = result["service"] in ("started", "restarted")
    if result["changed"] and not check and not settings.mesh:
        if stage == "enforce":
            pause.drop_shunts(settings.networks, run)
        elif started:
            pause.hold(settings.networks, run, _ORDER_SECONDS, lower_only=True, action="allow")
    awaited = {name for endpoint in settings.endpoints if endpoint.initiate for name in endpoint.connections}
    awaited = (awaited | wanted.enforcement.keys()) & set(wanted.connections)
    ended = awaited if started else set(result["connections"]["added"])
    established = (observed.loaded.established if observed.loaded else frozenset()) - ended
    return {
        **result,
        "enforced": sorted(name for name, state in wanted.enforcement.items() if state == "private"),
        "pending": wanted.pending,
        "hold": wanted.switching or not settings.mesh,
        "unestablished": len(awaited - established),
        "renewed": observed.loaded is not None and not started and stale,
        "hands_over": crashes,
        "renamed": _renamed(settings, run) if renewed.IDENTITY in observed.renewed else {},
    }


def _renamed(settings: render.Settings, run: Runner) -> dict[str, str]:
    """Return own address → subject, as far as hosts know each other by that."""
    entry = CertutilDatabase(run, default_directory()).content().entry(settings.certificate or "")
    if settings.mesh or not entry:
        return {}
    subject = distinguished_name(entry.certificates[0].subject_name)
    return {network.address: subject for network in settings.networks}


def _keys(run: Runner, keys: list[dict[str, Any]], *, check: bool) -> dict[str, Any]:
    observed = live.observe(run)
    change = difference.first_keys(observed, render.secrets_file(keys))
    if change and not check:
        live.apply(change, run)
    return {"changed": bool(change), "diff": difference.file_diff(observed.files, change)}


def _change(
    run: Runner,
    dialect: Dialect | None,
    observed: difference.Observed,
    files: Mapping[str, str],
    *,
    check: bool,
    serve: bool = True,
    reread: bool = False,
) -> dict[str, Any]:
    change = difference.delta(observed, files, serve=serve, reread=reread)
    if change and not check:
        if change.write:
            live.validate(run, files)
        live.apply(change, run, Path("/"))
    return {
        "changed": bool(change),
        "diff": difference.file_diff(observed.files, change),
        "version": f"{dialect.major}.{dialect.minor}" if dialect else None,
        "connections": {"added": list(change.add), "removed": list(change.delete)},
        "healed": sorted({sa.peer for sa in change.heal}),
        "service": change.service,
    }


def _pause(
    run: Runner, settings: render.Settings, stage: str, seconds: int, *, check: bool
) -> dict[str, Any]:
    if not check:
        if stage == "hold":
            pause.hold(settings.networks, run, seconds, lower_only=False, action="block")
        else:
            pause.release(settings.networks, run, _ORDER_SECONDS, ordered=not settings.mesh)
    return {"changed": False}


if __name__ == "__main__":
    main()
