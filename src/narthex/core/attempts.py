"""What became of each attempt to answer a call."""

import msgspec

from narthex.core.stream import Usage

RUNNING, ANSWERED, FILTERED, LEFT = "running", "answered", "filtered", "left"
"""Outcomes that are no error: under way, answered in full, refused by a content filter, nobody waits any more."""


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One deployment that was asked. `outcome`: one of the words above, or the name of an error's class.

    `usage`: as it is billed, so with an answer's beginning that it went on with in its prompt, and with the prompt of
    every request where several were made for several choices; None: it told none. `pieces`: how many pieces of output
    it sent, each of a token or a few: what is known where it told no usage. Price attempts by these, and not by the
    `usage` of the answer, in which the prompt counts once.
    """

    deployment: str
    outcome: str = RUNNING
    seconds: float = 0.0
    usage: Usage | None = None
    pieces: int = 0
