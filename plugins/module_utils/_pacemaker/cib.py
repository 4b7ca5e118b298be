# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pacemaker's configuration, the CIB: what it says about addresses, and the same with our resources. Pure.

For each virtual address there is one resource of ours, which runs where the address is. It starts
after the address and stops after it: what it stops is no use without the address, and while the
address is there, a host that is about to lose it goes on serving. The second order is optional, so
that the resource can be restarted while the address stays.

Whatever is not ours is passed through as it is, but for the resources of tripleo-ipsec, if ours are to replace them. Ours are the resources with the agent
``ocf:underlay:ipsec-vip`` and the constraints whose ids begin with the id of one.
"""

from __future__ import annotations

import copy
import ipaddress
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from ansible_collections.underlay.ipsec.plugins.module_utils._errors import Problem, ProblemsError

PREFIX = "ipsec-vip-"
"""What the ids of our resources begin with."""
PROVIDER, AGENT = "underlay", "ipsec-vip"
OPERATIONS = (
    ("start", "0s", "40s"),
    ("stop", "0s", "40s"),
    ("monitor", "10s", "20s"),
)
"""Name, interval and timeout of each operation."""

TRIPLEO_PREFIX = "tripleo-ipsec-"
"""What the ids of the resources begin with that tripleo-ipsec has made."""
TRIPLEO_PROVIDER, TRIPLEO_AGENT = "heartbeat", "ipsec"

_HARD = frozenset({"5", "6"})
"""What our agent says where it lacks something. The cluster runs the resource there no more until it is told to look again."""
_TRUE = frozenset({"true", "on", "yes", "y", "1"})
_ADDRESS_AGENTS = frozenset({"IPaddr", "IPaddr2"})
_REFERENCES = ("rsc", "with-rsc", "first", "then")


@dataclass(frozen=True)
class Vip:
    """A virtual address whose tunnels follow it."""

    name: str
    address: str

    @property
    def resource(self) -> str:
        """The id of its resource."""
        return f"{PREFIX}{self.name}"


@dataclass(frozen=True)
class Cluster:
    """What tells one cluster from another, and whether it may be changed."""

    name: str | None
    nodes: tuple[str, ...]
    """Names of the nodes, sorted; without remote and guest nodes."""
    quorum: bool
    maintenance: bool
    """Whether nothing in it is started or stopped."""


def parse(text: str) -> Element:
    """Return the CIB in the output of ``cibadmin --query``. Raises ValueError if it is none."""
    try:
        cib = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise ValueError(f"not a CIB: {error}") from error
    if cib.tag != "cib" or cib.find("configuration") is None:
        raise ValueError(f"not a CIB: <{cib.tag}>")
    return cib


def cluster(cib: Element) -> Cluster:
    """Return which cluster *cib* is of."""
    properties = {
        pair.get("name"): pair.get("value")
        for pair in cib.iterfind("configuration/crm_config/cluster_property_set/nvpair")
    }
    nodes = (node.get("uname", "") for node in cib.iterfind("configuration/nodes/node"))
    members = (node for node in nodes if node)
    return Cluster(
        properties.get("cluster-name"),
        tuple(sorted(members)),
        quorum=cib.get("have-quorum") == "1",
        maintenance=str(properties.get("maintenance-mode")).lower() in _TRUE,
    )


def addresses(cib: Element) -> dict[str, tuple[str, ...]]:
    """Return address → ids of the resources that bring it up."""
    found: dict[str, list[str]] = {}
    for primitive in cib.iterfind("configuration/resources//primitive"):
        base = _template(cib, primitive)
        agent = primitive.get("type") or (base.get("type") if base is not None else None)
        if agent not in _ADDRESS_AGENTS:
            continue
        value = _option(primitive, "ip") or (_option(base, "ip") if base is not None else None)
        try:
            address = str(ipaddress.ip_address((value or "").partition("/")[0]))
        except ValueError:
            continue
        found.setdefault(address, []).append(primitive.get("id", ""))
    return {address: tuple(ids) for address, ids in found.items()}


def _template(cib: Element, primitive: Element) -> Element | None:
    name = primitive.get("template")
    for template in cib.iterfind("configuration/resources/template"):
        if template.get("id") == name:
            return template
    return None


def _option(resource: Element, name: str) -> str | None:
    pairs = resource.iterfind("instance_attributes/nvpair")
    return next((pair.get("value") for pair in pairs if pair.get("name") == name), None)


def with_vips(cib: Element, vips: Sequence[Vip], *, replaces_tripleo: bool = False) -> Element:
    """Return a copy of *cib* that has a resource and its constraints for each of *vips*, and no other of ours.

    With *replaces_tripleo*, those of tripleo-ipsec go, too. Raises `ProblemsError` if an address has no
    resource, or more than one, or if a resource that has to go is inside of another.
    """
    former = _of_tripleo(cib) if replaces_tripleo else []
    problems = _problems(cib, vips, former)
    if problems:
        raise ProblemsError(problems)
    changed = copy.deepcopy(cib)
    resources, constraints = _section(changed, "resources"), _section(changed, "constraints")
    own = {vip.resource for vip in vips}
    for primitive in (*_ours(changed), *(_of_tripleo(changed) if replaces_tripleo else ())):
        if primitive.get("id") not in own:
            _remove(resources, constraints, primitive)
    found = addresses(cib)
    for vip in vips:
        _put_resource(resources, vip)
        _put_constraints(constraints, vip, found[str(ipaddress.ip_address(vip.address))][0])
    return changed


def vip_resources(cib: Element) -> dict[str, str | None]:
    """Return id → address of the resources of *cib* that are ours."""
    return {primitive.get("id", ""): _option(primitive, "vip") for primitive in _ours(cib)}


def given_up(cib: Element, resources: Iterable[str], nodes: Iterable[str]) -> list[tuple[str, str]]:
    """Return which of *resources* cannot run on which of *nodes* because they once lacked something there.

    A node that joins a cluster is asked about all resources, and may have the agent only later.
    """
    wanted, among = set(resources), set(nodes)
    return sorted(
        {
            (resource.get("id", ""), state.get("uname", ""))
            for state in cib.iterfind("status/node_state")
            for resource in state.iterfind("lrm/lrm_resources/lrm_resource")
            for operation in resource.iterfind("lrm_rsc_op")
            if state.get("uname") in among
            and resource.get("id") in wanted
            and operation.get("rc-code") in _HARD
        }
    )


def ours(cib: Element, *, tripleo: bool = False) -> list[str]:
    """Return the elements of *cib* that are ours as lines of text, for a diff: the rest may hold secrets of others.

    With *tripleo*, those of tripleo-ipsec come after them.
    """
    primitives = [*_ours(cib), *(_of_tripleo(cib) if tripleo else ())]
    ids = tuple(primitive.get("id", "") for primitive in primitives)
    constraints = [
        element
        for element in cib.iterfind("configuration/constraints/*")
        if any(element.get(key) in ids for key in _REFERENCES)
    ]
    return [line for element in (*primitives, *constraints) for line in _lines(element)]


def in_maintenance(host: str | None = None) -> Problem:
    """Return what is wrong where something is to be started or stopped, and the cluster does neither."""
    return Problem(
        "its pacemaker cluster is in maintenance mode, in which it neither starts nor stops the tunnels of virtual addresses",
        "End it (pcs property set maintenance-mode=false), then run this again",
        variable="ipsec_vips",
        host=host,
    )


def _ours(cib: Element) -> list[Element]:
    return [
        primitive
        for primitive in cib.iterfind("configuration/resources//primitive")
        if (primitive.get("provider"), primitive.get("type")) == (PROVIDER, AGENT)
    ]


def _of_tripleo(cib: Element) -> list[Element]:
    return [
        primitive
        for primitive in cib.iterfind("configuration/resources//primitive")
        if (primitive.get("provider"), primitive.get("type")) == (TRIPLEO_PROVIDER, TRIPLEO_AGENT)
        and primitive.get("id", "").startswith(TRIPLEO_PREFIX)
    ]


def _problems(cib: Element, vips: Iterable[Vip], former: Iterable[Element] = ()) -> list[Problem]:
    found = addresses(cib)
    problems = []
    wanted = set()
    for vip in vips:
        wanted.add(vip.resource)
        ids = found.get(str(ipaddress.ip_address(vip.address)), ())
        if not ids:
            problems.append(
                Problem(
                    f"no resource of the cluster brings up {vip.address}, the address of {vip.name!r}",
                    "Create the address first (ocf:heartbeat:IPaddr2), or correct or remove the item",
                    variable="ipsec_vips",
                )
            )
        elif len(ids) > 1:
            problems.append(
                Problem(
                    f"{' and '.join(ids)} both bring up {vip.address}, the address of {vip.name!r}",
                    "Remove one of them from the cluster",
                    variable="ipsec_vips",
                )
            )
    inner = {primitive.get("id") for primitive in cib.iterfind("configuration/resources/primitive")}
    for primitive in (*_ours(cib), *former):
        name = primitive.get("id")
        if name not in wanted and name not in inner:
            problems.append(
                Problem(
                    f"the resource {name} has to go, and somebody has put it into a group or clone",
                    f"Take it out of there: pcs resource ungroup, or pcs resource delete {name}",
                )
            )
    return problems


def _section(cib: Element, name: str) -> Element:
    configuration = next(cib.iter("configuration"))  # parse() has looked
    section = configuration.find(name)
    return SubElement(configuration, name) if section is None else section


def _remove(resources: Element, constraints: Element, primitive: Element) -> None:
    """Remove one of our resources, and whatever refers to it, for the cluster takes no reference to nothing."""
    name = primitive.get("id")
    resources.remove(primitive)
    for element in list(constraints):
        if any(element.get(key) == name for key in _REFERENCES):
            constraints.remove(element)
        elif any(reference.get("id") == name for reference in element.iter("resource_ref")):
            for resource_set in element.findall("resource_set"):
                for reference in resource_set.findall("resource_ref"):
                    if reference.get("id") == name:
                        resource_set.remove(reference)
                if len(resource_set) == 0:
                    element.remove(resource_set)
            if len(element) == 0:
                constraints.remove(element)


def _put_resource(resources: Element, vip: Vip) -> None:
    own = next((e for e in resources.iter("primitive") if e.get("id") == vip.resource), None)
    if own is None:
        own = SubElement(resources, "primitive", id=vip.resource)
    own.attrib.update({"class": "ocf", "provider": PROVIDER, "type": AGENT})
    options = own.find("instance_attributes")
    if options is None:
        options = Element("instance_attributes", id=f"{vip.resource}-options")
        own.insert(0, options)
    _put_options(options, {"name": vip.name, "vip": vip.address})
    operations = own.find("operations")
    if operations is None:
        # The schema wants them before what somebody may have added.
        operations = Element("operations")
        own.insert(list(own).index(options) + 1, operations)
    for name, interval, timeout in OPERATIONS:
        operation = next((op for op in operations if op.get("name") == name), None)
        if operation is None:
            operation = SubElement(
                operations, "op", id=f"{vip.resource}-{name}", name=name, interval=interval
            )
        operation.attrib.update(interval=interval, timeout=timeout)


def _put_options(options: Element, wanted: dict[str, str]) -> None:
    for pair in list(options):
        if pair.get("name") not in wanted:
            options.remove(pair)
    for name, value in wanted.items():
        present = [pair for pair in options if pair.get("name") == name]
        for pair in present:
            pair.set("value", value)
        if not present:
            SubElement(options, "nvpair", id=f"{options.get('id')}-{name}", name=name, value=value)


def _put_constraints(constraints: Element, vip: Vip, address: str) -> None:
    wanted = [
        Element(
            "rsc_colocation",
            {
                "id": f"{vip.resource}-with-address",
                "rsc": vip.resource,
                "with-rsc": address,
                "score": "INFINITY",
            },
        ),
        _order(vip, address, "start", "Mandatory"),
        _order(vip, address, "stop", "Optional"),
    ]
    for element in wanted:
        present = next((e for e in constraints if e.get("id") == element.get("id")), None)
        if present is None:
            constraints.append(element)
        elif present.attrib != element.attrib or present.tag != element.tag:
            constraints[list(constraints).index(present)] = element


def _order(vip: Vip, address: str, action: str, kind: str) -> Element:
    return Element(
        "rsc_order",
        {
            "id": f"{vip.resource}-{action}-after-address",
            "first": address,
            "first-action": action,
            "then": vip.resource,
            "then-action": action,
            "kind": kind,
            "symmetrical": "false",
        },
    )


def _lines(element: Element, depth: int = 0) -> Iterator[str]:
    attributes = "".join(f" {key}={value!r}" for key, value in element.attrib.items())
    yield f"{'  ' * depth}{element.tag}{attributes}"
    for child in element:
        yield from _lines(child, depth + 1)
