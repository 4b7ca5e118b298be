#!/usr/bin/python
# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: reauthenticate
short_description: Authenticate anew with every peer, under traffic
description:
  - Makes new security associations in the place of all that there are, with the certificates, CAs and CRLs that are in NSS
    now. Libreswan itself goes on with what it has read before, and with security associations that were made with it.
  - The security associations end and begin again, one peer after the other. The kernel keeps the packets in between; a
    packet that is on the wire at that moment can be lost.
  - Libreswan 4.x with opportunistic connections would crash if it read certificates again. So a new pluto takes over from
    the running one. The kernel's security associations and policies stay and carry the traffic until there are new ones.
  - Run it on one host after the other (C(throttle=1)), because two ends of a pair that begin at once can end up one-way.
author:
  - underlay.ipsec contributors (@underlay-ipsec)
extends_documentation_fragment:
  - underlay.ipsec.attributes
attributes:
  check_mode:
    support: none
    details: Skips the task.
  diff_mode:
    support: none
  idempotent:
    support: none
options:
  networks:
    description: The networks of this host, as in the part C(libreswan) of the member's slice.
    type: list
    elements: dict
    required: true
  timeout:
    description: How long to wait for the peers, in seconds.
    type: float
    default: 60
  without:
    description: The addresses of peers to leave out, because their certificates are revoked.
    type: list
    elements: str
    default: []
  prepare:
    description:
      - Only have the new pluto take over, where that is how it is done. The next call makes the security associations. Run this on
        all hosts at once where their old certificates serve no more, because a host that still uses one is no peer for a new one.
    type: bool
    default: false
  banish:
    description:
      - The addresses of hosts whose certificates are revoked. Only the security associations with them are ended, as often as
        they make others, until libreswan knows the revocation list in NSS.
      - Fails for those that still authenticate after O(timeout).
    type: list
    elements: str
  forget:
    description:
      - Hosts whose certificates have other subjects than before, address → subject. All that there is with whoever had another one
        there is ended, for an opportunistic group accepts no other while there is anything. See
        RV(underlay.ipsec.libreswan#module:renamed).
    type: dict
  retire:
    description:
      - What other hosts returned as RV(left). Only the security associations on this host are ended that belong to it, and
        that newer ones have replaced.
    type: list
    elements: str
seealso:
  - module: underlay.ipsec.nss_certificate
"""

EXAMPLES = r"""
- name: Use the new certificate
  underlay.ipsec.reauthenticate:
    networks:
      - cidr: 10.88.0.0/24
        address: 10.88.0.11
  throttle: 1
"""

RETURN = r"""
reauthenticated:
  description: The addresses of the peers with which this host has authenticated anew.
  returned: success
  type: list
  elements: str
missing:
  description: The addresses of the peers with which it could not.
  returned: success
  type: list
  elements: str
left:
  description: The SPIs of what this host has left behind at its peers, because a new pluto took over. See O(retire).
  returned: success
  type: list
  elements: str
retired:
  description: The addresses of the peers whose left security associations were ended.
  returned: success
  type: list
  elements: str
"""

from collections.abc import Iterable
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.underlay.ipsec.plugins.module_utils._errors import IpsecError
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan import renewed
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan.dialect import detect
from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan.reauthenticate import (
    banish,
    forget,
    hand_over,
    reauthenticate,
    retire,
)
from ansible_collections.underlay.ipsec.plugins.module_utils._run import Runner, host_runner


def argument_spec() -> dict[str, Any]:
    """Return what the module takes."""
    return {
        "networks": {"type": "list", "elements": "dict", "required": True},
        "timeout": {"type": "float", "default": 60},
        "without": {"type": "list", "elements": "str", "default": []},
        "prepare": {"type": "bool", "default": False},
        "banish": {"type": "list", "elements": "str"},
        "forget": {"type": "dict"},
        "retire": {"type": "list", "elements": "str"},
    }


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec(), mutually_exclusive=[("banish", "forget", "retire")])
    try:
        module.exit_json(**_run(module.params))
    except IpsecError as error:
        module.fail_json(msg=str(error))


def _run(params: dict[str, Any]) -> dict[str, Any]:
    run = host_runner()
    dialect = detect(run)
    if dialect is None:
        raise IpsecError("libreswan is not installed")
    networks = {network["cidr"]: network["address"] for network in params["networks"]}
    if params["retire"] is not None:
        # What pluto would end by itself a few hours later is no change.
        return _result(retired=retire(params["retire"], dialect, run))
    if params["banish"] is not None:
        return _banish(params, networks, run)
    if params["forget"] is not None:
        return {**_result(), "changed": bool(forget(params["forget"], run))}
    if params["prepare"]:
        hand_over(networks, run)
        return {**_result(), "changed": True}
    outcome = reauthenticate(networks, dialect, run, params["timeout"], without=params["without"])
    renewed.forget()
    result = _result(
        reauthenticated=outcome.reauthenticated,
        missing=outcome.missing,
        left=outcome.left,
    )
    if outcome.missing:
        # Whether that is a failure is for the role to say.
        result["msg"] = (
            f"no new security association with {', '.join(result['missing'])} within {params['timeout']:g} s: "
            "journalctl -u ipsec says why, here and there"
        )
    return {**result, "changed": True}


def _banish(params: dict[str, Any], networks: dict[str, str], run: Runner) -> dict[str, Any]:
    ended, there = banish(params["banish"], networks, run, params["timeout"])
    if there:
        raise IpsecError(
            f"{', '.join(sorted(there))} can still authenticate here, {params['timeout']:g} s after its certificate was revoked: "
            "see that the revocation list is in NSS (crlutil -L -d sql:/var/lib/ipsec/nss), and restart ipsec on this host"
        )
    return {**_result(), "changed": bool(ended)}


def _result(**peers: Iterable[str]) -> dict[str, Any]:
    names = ("reauthenticated", "missing", "left", "retired")
    return {"changed": False, **{name: sorted(peers.get(name, ())) for name in names}}


if __name__ == "__main__":
    main()
