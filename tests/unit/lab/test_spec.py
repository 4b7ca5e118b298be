"""The spec: what is asked for, and how wrong input is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.underlay.ipsec.molecule.lab.labkit import spec
from ansible_collections.underlay.ipsec.molecule.lab.labkit.errors import LabError
from ansible_collections.underlay.ipsec.molecule.lab.labkit.paths import LAB_DIR

DATA = {"name": "data", "ipv4": "10.88.0.0/24", "ipv6": "fd88::/64"}


def lab(**changes: Any) -> dict[str, Any]:
    return {"name": "t", "networks": [DATA], "hosts": [{"name": "h1"}]} | changes


def host(**changes: Any) -> dict[str, Any]:
    return lab(hosts=[{"name": "h1"} | changes])


def test_defaults() -> None:
    parsed = spec.parse(lab())
    assert parsed.hosts == (spec.Host("h1", "bookworm", spec.DEFAULT_MEMORY, ("data",), ("ipsec",)),)
    assert [network.name for network in parsed.networks] == ["mgmt", "data"]


def test_mgmt_is_first_and_its_range_can_be_chosen() -> None:
    parsed = spec.parse(lab(networks=[DATA, {"name": "mgmt", "ipv4": "10.1.0.0/24"}]))
    assert [(network.name, network.ipv4) for network in parsed.networks] == [
        ("mgmt", "10.1.0.0/24"),
        ("data", "10.88.0.0/24"),
    ]


def test_networks_may_be_written_as_molecule_wants_them() -> None:
    assert spec.parse(host(networks=[{"name": "mgmt"}, {"name": "data"}])).hosts[0].networks == ("data",)


def test_plain_data_makes_the_same_spec_again() -> None:
    parsed = spec.parse(lab(hosts=[{"name": "h1"}, {"name": "h2", "release": "trixie", "groups": []}]))
    assert spec.parse(json.loads(json.dumps(parsed.to_data()))) == parsed


def test_the_default_spec_is_right() -> None:
    releases = [host.release for host in spec.load(LAB_DIR / "default.json").hosts]
    assert releases == ["bookworm", "bookworm", "trixie", "trixie"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        pytest.param([], "the spec: an object is needed, not list", id="not-an-object"),
        pytest.param(lab(hosts=[]), "at least one host", id="no-hosts"),
        pytest.param(lab(hosts="h1"), "hosts: a list is needed, not str", id="hosts-not-a-list"),
        pytest.param(lab(host=[]), "unknown key 'host'", id="unknown-key"),
        pytest.param(lab(name="a b"), "name: 'a b' must match", id="lab-name"),
        pytest.param(lab(hosts=[{}]), "hosts[0]: name is missing", id="host-without-name"),
        pytest.param(lab(hosts=[{"name": "a"}] * 2), "'a' is there more than once", id="same-name"),
        pytest.param(host(name="H_1"), "hosts[0].name: 'H_1' must match", id="host-name"),
        pytest.param(host(name="all"), "'all' is reserved", id="reserved-name"),
        pytest.param(host(release="sid"), "'sid' must be one of bookworm, trixie", id="release"),
        pytest.param(host(memory="512M"), "'512M' is not a number of MiB", id="memory-text"),
        pytest.param(host(memory=True), "True is not a number of MiB", id="memory-bool"),
        pytest.param(host(memory=8), "8 is not a number of MiB", id="memory-too-small"),
        pytest.param(host(networks=["x"]), "'x' is not a data network of this lab (data)", id="network"),
        pytest.param(host(groups=["a-b"]), "hosts[0].groups: 'a-b' must match", id="group"),
        pytest.param(lab(networks=[{"name": "data"}]), "ipv4 or ipv6 is needed", id="no-range"),
        pytest.param(lab(networks=[DATA | {"ipv4": "10.88.0.1/24"}]), "has host bits set", id="cidr"),
        pytest.param(
            lab(networks=[{"name": "mgmt", "ipv6": "fd77::/64"}]), "mgmt needs ipv4", id="mgmt-ipv6-only"
        ),
        pytest.param(
            lab(networks=[DATA, {"name": "b", "ipv4": "10.88.0.128/25"}]),
            "data and b overlap in ipv4",
            id="overlap",
        ),
        pytest.param(
            lab(networks=[DATA | {"ipv4": "10.77.0.0/16"}]), "mgmt and data overlap", id="overlap-mgmt"
        ),
        pytest.param(
            lab(networks=[DATA | {"name": "averylongname"}], hosts=[{"name": "h1", "networks": []}]),
            "'averylongname' must match",
            id="network-name",
        ),
    ],
)
def test_wrong_input(data: object, message: str) -> None:
    with pytest.raises(LabError) as error:
        spec.parse(data)
    assert message in str(error.value)


def test_all_errors_at_once() -> None:
    with pytest.raises(LabError) as error:
        spec.parse(lab(hosts=[{"name": "h1", "release": "sid"}, {"name": "h2", "memory": 8}]))
    assert len(str(error.value).splitlines()) == 3


def test_file_that_is_not_json(tmp_path: Path) -> None:
    path = tmp_path / "lab.json"
    path.write_text("name: dev")
    with pytest.raises(LabError, match="is not JSON"):
        spec.load(path)


def test_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="cannot read the spec"):
        spec.load(tmp_path / "none.json")


def test_unknown_names() -> None:
    parsed = spec.parse(lab())
    with pytest.raises(LabError, match=r"no host h9 in lab t \(hosts: h1\)"):
        parsed.host("h9")
    with pytest.raises(LabError, match=r"no network x in lab t \(networks: mgmt, data\)"):
        parsed.network("x")
    with pytest.raises(LabError, match="must match"):
        parsed.named("../etc")
