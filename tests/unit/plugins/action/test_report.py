# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The action as a playbook runs it, on hosts that exist in the inventory only."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.underlay.ipsec.tests.unit.plugins.module_utils._report.plans import (
    PORTS,
    clear,
    plan,
    results,
)

COLLECTIONS = Path(__file__).resolve().parents[4] / ".cache" / "collections"

PLAY: list[dict[str, Any]] = [
    {
        "hosts": "all",
        "gather_facts": False,
        "tasks": [
            {
                "name": "Compare",
                "underlay.ipsec.report": {
                    "plan_dir": "{{ root }}/plan",
                    "report_dir": "{{ root }}/report",
                    "observed": "answer",
                    "stage": "enforce",
                },
                "run_once": True,
            },
            {"name": "Go on", "ansible.builtin.meta": "noop"},
        ],
    }
]


class Controller:
    """A control node with a plan for h1 to h3, where each host has answered the probe."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.answers: dict[str, Any] = results()
        (root / "plan" / "hosts").mkdir(parents=True)
        (root / "plan" / "plan.json").write_text(json.dumps(plan()))
        for member in self.answers:
            content = {"libreswan": {"networks": [{"name": "data", "clear": [PORTS]}]}}
            (root / "plan" / "hosts" / f"{member}.json").write_text(json.dumps(content))

    def run(self, *arguments: str) -> tuple[dict[str, Any], int, str]:
        """Run the play; return the task's result, the exit status, and what was printed."""
        hosts = {host: {"answer": answer} if answer else {} for host, answer in self.answers.items()}
        (self.root / "inventory.json").write_text(json.dumps({"all": {"hosts": hosts}}))
        (self.root / "play.json").write_text(json.dumps(PLAY))
        env = {
            **os.environ,
            "ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS),
            "ANSIBLE_HOME": str(self.root / "home"),
            "ANSIBLE_CALLBACK_RESULT_FORMAT": "json",
        }

        done = subprocess.run(
            [
                str(Path(sys.executable).with_name("ansible-playbook")),
                *("-i", str(self.root / "inventory.json"), "-e", f"root={self.root}"),
                *(str(self.root / "play.json"), *arguments),
            ],
            capture_output=True,
            text=True,
            env=env,
            check=False,
        )
        shown = done.stdout
        results_of = [line for line in shown.splitlines() if "=> {" in line]
        result = json.loads(results_of[0].partition("=> ")[2]) if results_of else {}
        return result, done.returncode, shown

    @property
    def report(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((self.root / "report" / "report.json").read_text())
        return content


@pytest.fixture
def controller(tmp_path: Path) -> Controller:
    return Controller(tmp_path)


def test_as_planned(controller: Controller) -> None:
    _result, status, shown = controller.run()
    assert status == 0
    assert "h1         -          encrypted  encrypted" in shown
    assert f"Report: {controller.root}/report/report.html" in shown
    assert "changed=0" in shown
    assert controller.report["ok"]
    assert controller.report["stage"] == "enforce"
    assert (controller.root / "report" / "report.html").stat().st_mode & 0o777 == 0o644


def test_not_as_planned(controller: Controller) -> None:
    controller.answers = results(h1_h2=clear("h1", "h2"))
    result, status, shown = controller.run()
    assert status != 0
    assert "Reality is not as planned: 1 problem." in result["msg"]
    assert "h1 → h2 (data): clear instead of encrypted" in result["msg"]
    assert result["ok"] is False
    assert "failed=1" in shown
    assert not controller.report["ok"]


def test_a_member_without_an_answer(controller: Controller) -> None:
    controller.answers["h3"] = None
    result, status, _shown = controller.run()
    assert status != 0
    assert "h3: not observed: h3 did not get as far as the probe" in result["msg"]


def test_limit(controller: Controller) -> None:
    _result, status, shown = controller.run("--limit", "h1,h2")
    assert status == 0
    assert "Not part of this run, and not observed: h3" in shown
    assert controller.report["not_in_this_run"] == ["h3"]


def test_each_batch_of_a_play_with_serial_is_compared_by_itself(
    controller: Controller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PLAY[0], "serial", 2)
    controller.answers = results(h3_h1=clear("h3", "h1"))
    _result, status, shown = controller.run()
    assert status != 0
    assert "Not part of this run, and not observed: h3" in shown
    assert "h3 → h1 (data): clear instead of encrypted" in shown
    assert controller.report["not_in_this_run"] == ["h1", "h2"]


def test_check_mode_writes_nothing_and_does_not_fail(controller: Controller) -> None:
    controller.answers = results(h1_h2=clear("h1", "h2"))
    _result, status, shown = controller.run("--check")
    assert status == 0
    assert "clear instead of encrypted" in shown
    assert not (controller.root / "report").exists()


def test_check_mode_before_anything_is_installed(controller: Controller) -> None:
    controller.answers = {key: {"skipped": True, "msg": "not installed"} for key in controller.answers}
    _result, status, shown = controller.run("--check")
    assert status == 0
    assert "skipping: [h1]" in shown


def test_without_a_plan(controller: Controller) -> None:
    (controller.root / "plan" / "plan.json").unlink()
    result, status, _shown = controller.run()
    assert status != 0
    assert "plan.json: No such file or directory" in result["msg"]
