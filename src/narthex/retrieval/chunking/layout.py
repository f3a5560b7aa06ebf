"""What is known of a text before it is cut."""

from typing import Literal

import msgspec

Kind = Literal["text", "markdown", "rst", "python", "code", "records", "table"]
"""What a text is, for the one who cuts it. `records`: a line is a thing of its own; `table`: the same, and the first
record names the columns.
"""


class Heading(msgspec.Struct, frozen=True, kw_only=True):
    """A heading, or what a definition is called: it holds from `start` to the next of its `level` (1 is the highest)
    or higher.
    """

    start: int
    level: int
    title: str


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """Where a page begins in the text. Pages count from 1."""

    start: int
    number: int
