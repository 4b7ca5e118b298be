# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What to do about each kind of finding."""

from __future__ import annotations

_REMEDIES = {
    "service": "Start libreswan on {source}: `systemctl start ipsec`, then `journalctl -u ipsec`; run site.yml again",
    "no_sa": "Run site.yml for both {source} and {destination}; if it stays, `journalctl -u ipsec` on both says why",
    "bypassed": "On {source}, find the policy that lets it through with `ip xfrm policy`; run site.yml to have"
    " the plan's policies again",
    "clear_unanswered": "{source} sends clear text that {destination} drops or never gets: run site.yml for {source};"
    " check that {destination} is up",
    "null_cipher": "Set ipsec_esp to a suite that encrypts, and run site.yml",
    "unproven": "Look at `ip -s xfrm state` on {source} and {destination}; check that the address of {destination}"
    " is not also one of {source}, and run site.yml for both",
    "unplanned_sa": "The plan says clear text, yet an SA exists: run site.yml for {source} and {destination}",
    "loss": "The path between {source} and {destination} loses packets: check the network, then verify again",
    "no_answer": "ESP leaves {source} and nothing comes back: allow ESP (IP protocol 50), or UDP 4500 with"
    " ipsec_encapsulation=always, between the hosts; check that {destination} is up",
    "shunt": "libreswan on {source} gave up on {destination} for now: run site.yml for {destination}, then verify again",
    "no_response": "Check that {destination} is up, that its ipsec service runs, and that UDP 500 and 4500 pass"
    " between the hosts",
    "authentication": "Run site.yml for {source} and {destination}, so that both have a certificate from this"
    " cluster's CA under the right names",
    "certificate": "Run site.yml for {source} and {destination}: one end does not accept the other's certificate",
    "proposal": "{source} and {destination} have different ipsec_ike or ipsec_esp: run site.yml for both",
    "selectors": "{source} and {destination} disagree about what is private: run site.yml for both",
    "firewall": "The firewall of {source} refuses to send to {destination}: allow ESP and UDP 500 and 4500 there",
    "no_route": "Check that {destination} is up and that {source} has a route to its address",
    "unobserved": "Make {source} reachable for Ansible, and verify again",
    "exception": "Run site.yml for {source}; if it stays, another tool made it: look at `ip xfrm policy`",
}


def remedy(cause: str, *, source: str, destination: str) -> str:
    """Return the instruction for *cause* (one of `causes()`) between two members."""
    return _REMEDIES[cause].format(source=source, destination=destination)


def causes() -> frozenset[str]:
    """Return every cause that has a remedy."""
    return frozenset(_REMEDIES)
