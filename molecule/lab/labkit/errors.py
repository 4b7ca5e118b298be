"""The one error that a user is meant to see."""

from __future__ import annotations


class LabError(Exception):
    """Something the user can act on; its text is the whole message."""
