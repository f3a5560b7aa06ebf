"""What became of each attempt to answer a call."""

import msgspec

RUNNING, ANSWERED, FILTERED, LEFT = "running", "answered", "filtered", "left"
"""Outcomes that are no error: under way, answered in full, refused by a content filter, nobody waits any more."""


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One deployment that was asked. `outcome`: one of the words above, or the name of an error's class."""

    deployment: str
    outcome: str = RUNNING
    seconds: float = 0.0
