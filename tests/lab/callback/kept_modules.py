# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keep the archives that Ansible packs of modules from one run to the next.

Each run of ansible-playbook parses all that each of its modules imports, to find what to send. That is nearly half of what a run costs the control
node, and the tests make some hundred of them. What is sent stays the same.
"""

from __future__ import annotations

import os
from pathlib import Path

from ansible import constants
from ansible.plugins.callback import CallbackBase


class CallbackModule(CallbackBase):
    """Have Ansible look for them in the folder LAB_MODULES, instead of one that goes with the run."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "kept_modules"

    def v2_playbook_on_start(self, playbook: object) -> None:
        """Put a link where Ansible is about to make its own folder."""
        link = Path(constants.DEFAULT_LOCAL_TMP) / "ansiballz_cache"
        link.symlink_to(os.environ["LAB_MODULES"])
