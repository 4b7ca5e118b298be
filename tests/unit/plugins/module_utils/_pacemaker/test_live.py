# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When a cluster may be changed, and what one that does not run has kept."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

import pytest
from ansible_collections.underlay.ipsec.plugins.module_utils._errors import ProblemsError
from ansible_collections.underlay.ipsec.plugins.module_utils._pacemaker import cib, live
from ansible_collections.underlay.ipsec.plugins.module_utils._run import Completed
from ansible_collections.underlay.ipsec.tests.unit.plugins.module_utils._pacemaker.test_cib import (
    CIB,
    INTERNAL,
)


def keep(root: Path, text: str) -> Path:
    """Put *text* where a node below *root* keeps its CIB."""
    path = root / live.STORED.lstrip("/")
    path.parent.mkdir(parents=True)
    path.write_text(text)
    return root


def test_a_cluster_is_ready() -> None:
    live.check_ready(cib.parse(CIB.format(quorum=1)))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (CIB.format(quorum=0), "has no quorum. Bring its nodes back"),
        (
            CIB.format(quorum=1).replace(
                '"stonith-enabled" value="false"', '"maintenance-mode" value="true"'
            ),
            "is in maintenance mode, in which .* End it",
        ),
    ],
)
def test_a_cluster_is_not_ready(text: str, said: str) -> None:
    with pytest.raises(ProblemsError, match=said):
        live.check_ready(cib.parse(text))


@pytest.mark.parametrize(
    ("answers", "waited", "quorum"), [("1", 0, True), ("001", 2, True), ("0000", 3, False)]
)
def test_quorum_may_come_back(answers: str, waited: int, quorum: bool) -> None:
    left, pauses = list(answers), list[float]()

    def run(argv: Sequence[str], **_options: object) -> Completed:
        return Completed(tuple(argv), 0, CIB.format(quorum=left.pop(0)), "")

    found = live.read_with_quorum(run, 3, pauses.append)
    assert found is not None
    assert (len(pauses), cib.cluster(found).quorum) == (waited, quorum)


@pytest.mark.parametrize("text", [None, "", CIB.format(quorum=1)])
def test_a_cluster_that_does_not_run_has_nothing_of_ours(tmp_path: Path, text: str | None) -> None:
    root = tmp_path if text is None else keep(tmp_path, text)
    live.check_none_stored(root, tripleo=True)


def test_a_cluster_that_does_not_run_will_start_what_has_to_go(tmp_path: Path) -> None:
    with_ours = cib.with_vips(cib.parse(CIB.format(quorum=1)), [INTERNAL])
    root = keep(tmp_path, ElementTree.tostring(with_ours, encoding="unicode"))
    with pytest.raises(ProblemsError, match="will start with the resources that have to go"):
        live.check_none_stored(root, tripleo=False)
