# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Virtual addresses in the report: who has them, and who is to reach them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.underlay.ipsec.plugins.module_utils._libreswan.pairs import vip_member
from ansible_collections.underlay.ipsec.plugins.module_utils._report.remedy import remedy

Data = Mapping[str, Any]


def vips_for(plan: Data, results: Mapping[str, Data], network: str, member: str) -> list[str]:
    """Return the virtual addresses on *network* that *member* reaches over it: not those that it has itself."""
    own = results.get(member, {}).get("holds", ())
    names = (vip_member(vip["name"]) for vip in plan["vips"] if vip["network"] == network)
    return [name for name in names if name not in own]


def vips(plan: Data, results: Mapping[str, Data]) -> list[dict[str, Any]]:
    """Return each virtual address with the members that have it; None if not all that may have it were observed."""
    found = []
    for vip in plan["vips"]:
        holds = [
            name
            for name in vip["holders"]
            if vip_member(vip["name"]) in results.get(name, {}).get("holds", ())
        ]
        known = bool(holds) or all("holds" in results.get(name, {}) for name in vip["holders"])
        found.append(
            {**{key: vip[key] for key in ("name", "network", "address")}, "on": holds if known else None}
        )
    return found


def where(vip: Data) -> str:
    """Return who has one of `vips`, in words."""
    if vip["on"] is None:
        return "not observed"
    return ", ".join(vip["on"]) or "nobody"


def vip_lines(report: Data) -> list[str]:
    """Return a line that says who has which address; nothing without any."""
    shown = (f"{vip['name']} ({vip['address']}) on {where(vip)}" for vip in report["vips"])
    return [f"virtual addresses: {', '.join(shown)}"] if report["vips"] else []


def vip_problems(found: Sequence[Data]) -> list[dict[str, Any]]:
    """Return a problem for each address of *found* that nobody has, or several."""
    return [
        {
            "cause": "vip",
            "from": vip["name"],
            "to": None,
            "network": vip["network"],
            "message": f"{vip['address']} is on "
            + (f"{' and '.join(vip['on'])} at the same time" if vip["on"] else "none of its holders"),
            "remedy": remedy("vip"),
        }
        for vip in found
        if vip["on"] is not None and len(vip["on"]) != 1
    ]
