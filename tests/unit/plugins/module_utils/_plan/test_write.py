# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
from pathlib import Path

import pytest
from ansible_collections.underlay.ipsec.plugins.module_utils._errors import IpsecError
from ansible_collections.underlay.ipsec.plugins.module_utils._plan.build import Plan
from ansible_collections.underlay.ipsec.plugins.module_utils._plan.write import write_plan

PLAN = Plan({"version": 1}, {"h1": {"member": "h1"}, "h2": {"member": "h2"}})


def test_writes_for_the_owner_only(tmp_path: Path) -> None:
    directory = tmp_path / "report" / "plan"
    write_plan(PLAN, directory)
    assert json.loads((directory / "plan.json").read_text()) == {"version": 1}
    assert json.loads((directory / "hosts" / "h1.json").read_text()) == {"member": "h1"}
    modes = {
        path.relative_to(directory).as_posix(): path.stat().st_mode & 0o777 for path in directory.rglob("*")
    }
    assert modes == {"plan.json": 0o600, "hosts": 0o700, "hosts/h1.json": 0o600, "hosts/h2.json": 0o600}
    assert directory.stat().st_mode & 0o777 == 0o700


def test_removes_what_is_not_of_this_plan(tmp_path: Path) -> None:
    write_plan(PLAN, tmp_path)
    (tmp_path / "hosts" / ".h9.json.abc").write_text("left by an interrupted run")
    write_plan(Plan({"version": 1}, {"h2": {"member": "h2"}}), tmp_path)
    assert [path.name for path in (tmp_path / "hosts").iterdir()] == ["h2.json"]


def test_directory_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(
        IpsecError, match=r"The plan cannot be written to .*/file/plan.* Set ipsec_report_dir"
    ):
        write_plan(PLAN, tmp_path / "file" / "plan")
