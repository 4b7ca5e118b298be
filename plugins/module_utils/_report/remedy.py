# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What to do about each kind of finding."""

from __future__ import annotations

_REMEDIES = {
    "service": "Start libreswan on the sender (`systemctl start ipsec`; `journalctl -u ipsec` says why it stopped),"
    " and run site.yml",
    "no_sa": "Run site.yml for both ends; if it stays, `journalctl -u ipsec` on both says why",
    "clear_unanswered": "The sender sends clear text that the receiver drops or never gets: run site.yml for the"
    " sender, and check that the receiver is up",
    "bypassed": "Find the policy that lets it through with `ip xfrm policy` on the sender; if it is gone, `systemctl"
    " restart ipsec` there puts it back",
    "null_cipher": "Set ipsec_esp to a suite that encrypts, and run site.yml",
    "unproven": "Compare `ip -s xfrm state` on both ends, check that no address is used twice, and run site.yml"
    " for both",
    "unplanned_sa": "The plan says clear text, yet there is an SA: run site.yml for both ends",
    "loss": "The network between the two loses packets: check it, then verify again",
    "no_answer": "ESP leaves the sender and nothing comes back: let ESP (IP protocol 50) through between the hosts, or"
    " set ipsec_encapsulation to always and let UDP 4500 through; check that the receiver is up",
    "shunt": "Run site.yml for the receiver, wait a minute and verify again: libreswan on the sender has given up on it"
    " for the time being",
    "no_response": "Check that the receiver is up, that its ipsec service runs, and that UDP 500 and 4500 pass between"
    " the hosts",
    "authentication": "Run site.yml for both ends, so that each has a certificate from this cluster's CA",
    "certificate": "Run site.yml for both ends, so that each has a valid certificate from this cluster's CA",
    "certificate_missing": "Run site.yml for the member",
    "certificate_expired": "Run site.yml for the member, which renews it; if certificates come in bundles"
    " (ipsec_pkcs12), give it a new one first",
    "certificate_untrusted": "Run site.yml for all members, which gives each a certificate of the present CA",
    "certificate_former": "Run rotate.yml again; if it stays, with the receiver in ipsec_rotate",
    "proposal": "The ends have different ipsec_ike or ipsec_esp: run site.yml for both",
    "selectors": "The ends disagree about what is private: run site.yml for both",
    "crossed": "Verify again in a minute: libreswan sorts it out by itself",
    "firewall": "If `ip xfrm policy` on the sender has nothing for the receiver, `systemctl restart ipsec` there puts it back,"
    " and its firewall drops clear text until then (ipsec_fail_closed); else allow it in that firewall",
    "vip": "See `pcs status` on one of its holders",
    "fail_open": "Run site.yml for the member; `ipsec_fail_closed: false` if that is not wanted",
    "no_route": "Check that the receiver is up and that the sender has a route to its address",
    "unobserved": "Make the member reachable for Ansible, with root's rights, and verify again",
    "exception": "Run site.yml for the member; if it stays, another program made it: see `ip xfrm policy`",
}


def remedy(cause: str) -> str:
    """Return the instruction for *cause*, one of `causes()`."""
    return _REMEDIES[cause]


def causes() -> frozenset[str]:
    """Return every cause that has a remedy."""
    return frozenset(_REMEDIES)
