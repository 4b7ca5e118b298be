# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which firewall a host has."""

from __future__ import annotations

from ansible_collections.underlay.ipsec.plugins.module_utils._errors import IpsecError
from ansible_collections.underlay.ipsec.plugins.module_utils._firewall import firewalld, iptables, nft
from ansible_collections.underlay.ipsec.plugins.module_utils._run import Runner

FIREWALLD, NFTABLES, IPTABLES = "firewalld", "nftables", "iptables"
# With line ends, without which older releases do not take it.
_PROBE = """\
table inet underlay_ipsec_probe {
\tchain probe {
\t\ttype filter hook postrouting priority 0;
\t}
}
"""
_SERVICES = {
    "nftables": NFTABLES,
    # Debian's, and that of EL.
    "netfilter-persistent": IPTABLES,
    "iptables": IPTABLES,
}


def firewalls(run: Runner) -> dict[str, list[str]]:
    """Return which firewalls are in use (``active``), and which would work on this kernel (``usable``).

    In use is firewalld if it runs; of the others, those whose service is active and, if there is no such
    service, those that have rules for what comes in. Rules of our own do not count.
    """
    usable = []
    # A kernel without the family inet lists its tables all the same.
    if run(["nft", "-c", "-f", "-"], stdin=_PROBE, check=False).rc == 0:
        usable.append(NFTABLES)
    saved = [run([f"{tool}-save"], check=False) for tool in ("iptables", "ip6tables")]
    if all(said.rc == 0 for said in saved):
        usable.append(IPTABLES)
    active = []
    if firewalld.running(run):
        active.append(FIREWALLD)
    active += [name for name in _active_services(run) if name not in active]
    if not active:
        active = [name for name in usable if _filters(name, run, [said.stdout for said in saved])]
    return {"active": active, "usable": usable}


def _active_services(run: Runner) -> list[str]:
    said = run(["systemctl", "is-active", *_SERVICES], check=False).stdout.split()
    states = dict(zip(_SERVICES, said))
    found = [backend for service, backend in _SERVICES.items() if states.get(service) == "active"]
    return list(dict.fromkeys(found))


def _filters(name: str, run: Runner, saved: list[str]) -> bool:
    if name == IPTABLES:
        return any(iptables.chains_of(text, "filter").get("INPUT") for text in saved)
    try:
        chains = nft.foreign_chains(nft.list_ruleset(run), iptables=over_nftables(run))
    except IpsecError:
        return False
    return any(chain.filters for chain in chains if chain.hook == "input")


def over_nftables(run: Runner) -> bool:
    """Return whether this host's iptables puts its rules into nf_tables, where ``nft`` sees them."""
    return "nf_tables" in run(["iptables", "-V"], check=False).stdout
