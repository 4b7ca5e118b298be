# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The timer that renews certificates, on a host that stands for the control node.

There is no Ansible on it: what the timer runs is a script that says how it was called.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from kit import Lab, Run, eventually

HOST = "h1"
UNIT = "underlay-ipsec-rotate"
FOLDER = "/srv/100% of $HOME"
CALLED = "/tmp/called"
SCRIPT = rf"""#!/bin/sh
printf '%s\n' "$(id -un)" "$(pwd)" "$SAID" "$@" >{CALLED}
test ! -e /tmp/fail
"""
VARIABLES: dict[str, Any] = {
    "ipsec_timer_host": HOST,
    "ipsec_timer_user": "carol",
    "ipsec_timer_inventory": f"{FOLDER}/hosts.yml",
    "ipsec_timer_vault_password_file": f"{FOLDER}/password",
    "ipsec_timer_extra_vars_files": [f"{FOLDER}/vault.yml"],
    "ipsec_timer_environment": {"SAID": 'a "word" with 5 % and a $'},
    "ipsec_timer_schedule": "Sun *-*-* 03:00",
}
ARGUMENTS = [
    f"--inventory={FOLDER}/hosts.yml",
    f"--vault-password-file={FOLDER}/password",
    f"--extra-vars=@{FOLDER}/vault.yml",
    "underlay.ipsec.rotate",
]


@pytest.fixture(scope="module", autouse=True)
def _control_node(lab: Lab) -> Iterator[None]:
    files = " ".join(f"'{FOLDER}/{name}'" for name in ("hosts.yml", "password", "vault.yml"))
    lab.ssh(
        HOST,
        "id carol >/dev/null 2>&1 || useradd carol\n"
        f"mkdir -p '{FOLDER}'\ntouch {files}\nchown -R carol '{FOLDER}'\nchmod 600 {files}\n"
        f"cat >/usr/local/bin/ansible-playbook <<'END'\n{SCRIPT}END\n"
        "chmod 755 /usr/local/bin/ansible-playbook",
    )
    yield
    lab.ssh(HOST, f"rm -rf '{FOLDER}' {CALLED} /tmp/fail /usr/local/bin/ansible-playbook; userdel carol")


def play(lab: Lab, *arguments: str, **changed: Any) -> Run:
    """Run the playbook."""
    return lab.play("timer", [HOST], *arguments, **{**VARIABLES, **changed})


def called(lab: Lab) -> list[str]:
    """Return how the script was called last: user, working directory, environment, arguments."""
    return lab.ssh(HOST, f"cat {CALLED}; rm {CALLED}").splitlines()


def units(lab: Lab) -> str:
    """Return all that there is of the timer on the host."""
    return lab.ssh(
        HOST,
        f"find /etc/systemd /var/lib/systemd/timers -name '*{UNIT}*'; systemctl list-units '{UNIT}*' --all -q",
    ).strip()


def test_refuses_files_all_at_once(lab: Lab) -> None:
    wrong = {
        "ipsec_timer_inventory": (f"{FOLDER}/no.yml", "a file or directory that carol can read"),
        "ipsec_timer_command": (f"{FOLDER}/hosts.yml", "a program that carol can run"),
        "ipsec_timer_directory": ("srv", "a directory that carol can reach"),
        "ipsec_timer_vault_password_file": ("/etc/shadow", "a file that carol can read"),
        "ipsec_timer_extra_vars_files": ("vault.yml", "a file that carol can read"),
    }
    values = {name: [path] if name.endswith("files") else path for name, (path, _what) in wrong.items()}
    run = play(lab, **values)
    assert run.rc == 2, run.output
    assert run.output.count("[ERROR]") == len(wrong), run.output
    for name, (path, what) in wrong.items():
        assert f"{name}: '{path}' is not the absolute path of {what}. Give one on this host" in run.output
    assert units(lab) == ""


@pytest.mark.parametrize(
    ("variable", "value", "reason"),
    [
        ("ipsec_timer_user", "mallory", "there is no user 'mallory' on this host"),
        ("ipsec_timer_schedule", "now and then", "systemd cannot read 'now and then'"),
        ("ipsec_timer_timeout", 0, "is no number of seconds above 0"),
        ("ipsec_timer_environment", {"SAID": "two\nlines"}, "values of one line"),
        ("ipsec_timer_host", "h9", "there is no host 'h9' in the inventory"),
    ],
)
def test_refuses(lab: Lab, variable: str, value: object, reason: str) -> None:
    run = play(lab, **{variable: value})
    assert run.rc == 2, run.output
    assert run.output.count("[ERROR]") == 1, run.output
    assert f"{variable}: " in run.output
    assert reason in run.output
    assert units(lab) == ""


def test_is_for_the_machine_that_runs_the_playbook(lab: Lab) -> None:
    variables: dict[str, Any] = {
        "ipsec_timer_inventory": "/no.yml",
        "ipsec_timer_command": "/bin/sh",
        "ipsec_timer_user": "root",
    }
    run = lab.play("timer", [HOST], **variables)
    assert run.rc == 2, run.output
    assert "failed: [localhost]" in run.output
    assert "ipsec_timer_inventory: '/no.yml' is not the absolute path of a file" in run.output


def test_refuses_what_does_not_run(lab: Lab) -> None:
    lab.ssh(HOST, "touch /tmp/fail")
    run = play(lab)
    lab.ssh(HOST, "rm /tmp/fail")
    assert run.rc == 2, run.output
    assert "Try what the timer will run" in run.output
    assert units(lab) == ""


def test_check_mode_installs_nothing(lab: Lab) -> None:
    run = play(lab, "--check", "--diff")
    assert run.rc == 0, run.output
    assert run.changed
    assert units(lab) == ""


def test_is_installed_and_stays(lab: Lab) -> None:
    run = play(lab)
    assert run.rc == 0, run.output
    assert run.changed
    assert called(lab) == [
        "carol",
        FOLDER,
        VARIABLES["ipsec_timer_environment"]["SAID"],
        *ARGUMENTS,
        "--list-hosts",
    ]
    lab.ssh(HOST, f"systemd-analyze verify {UNIT}.service {UNIT}.timer")
    assert f"{UNIT}.service" in lab.ssh(HOST, "systemctl list-timers")
    assert lab.ssh(HOST, f"systemctl is-enabled {UNIT}.timer").strip() == "enabled"
    again = play(lab)
    assert (again.rc, again.changed) == (0, 0), again.output


def test_runs_the_playbook_as_it_was_told(lab: Lab) -> None:
    lab.ssh(HOST, f"systemctl start {UNIT}.service")
    assert called(lab) == ["carol", FOLDER, VARIABLES["ipsec_timer_environment"]["SAID"], *ARGUMENTS]


def test_a_run_that_fails_is_seen(lab: Lab) -> None:
    lab.ssh(HOST, f"touch /tmp/fail; systemctl start {UNIT}.service", check=False)
    assert UNIT in lab.ssh(HOST, "systemctl --failed --plain --no-legend")
    lab.ssh(HOST, f"rm /tmp/fail; systemctl start {UNIT}.service; rm {CALLED}")
    assert UNIT not in lab.ssh(HOST, "systemctl --failed --plain --no-legend")


def test_another_schedule_is_in_force_at_once(lab: Lab) -> None:
    run = play(lab, ipsec_timer_schedule="2099-01-01 03:00", ipsec_timer_environment={})
    assert run.rc == 0, run.output
    assert run.changed
    # Half past: up to an hour is added at random.
    assert "2099-01-01 0" in lab.ssh(HOST, f"systemctl list-timers {UNIT}.timer")
    assert "SAID" not in lab.ssh(HOST, f"systemctl cat {UNIT}.service")


def test_the_timer_starts_the_service(lab: Lab) -> None:
    lab.ssh(HOST, f"mkdir -p /run/systemd/system/{UNIT}.timer.d; rm -f {CALLED}")
    lab.ssh(
        HOST,
        f"printf '[Timer]\\nOnCalendar=\\nOnCalendar=*:*:*\\nRandomizedDelaySec=0\\nAccuracySec=1s\\n'"
        f" >/run/systemd/system/{UNIT}.timer.d/soon.conf; systemctl daemon-reload",
    )
    ran = eventually(lambda: "yes" in lab.ssh(HOST, f"test -e {CALLED} && echo yes; true"))
    lab.ssh(HOST, f"rm -r /run/systemd/system/{UNIT}.timer.d; systemctl daemon-reload")
    assert ran


def test_is_removed(lab: Lab) -> None:
    foretold = play(lab, "--check", ipsec_timer_state="absent")
    assert foretold.rc == 0, foretold.output
    assert foretold.changed
    run = play(lab, ipsec_timer_state="absent")
    assert run.rc == 0, run.output
    assert run.changed
    assert units(lab) == ""
    again = play(lab, ipsec_timer_state="absent")
    assert (again.rc, again.changed) == (0, 0), again.output
