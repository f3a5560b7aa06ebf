"""Where a server in between changes what it passes on: by chain, the test, the field and what becomes of it.

Each of these tests must fail; one that passes is an error, so that this list gets shorter when others mend their ways.
A test is named by its end: `file.py::test`, with `[parameters]` where only they are meant.
"""

from collections.abc import Mapping

import msgspec


class Known(msgspec.Struct, frozen=True):
    """One difference."""

    test: str
    field: str
    reason: str

    def is_of(self, node: str) -> bool:
        """Whether a test, by its node id, is meant."""
        return node.endswith(self.test) or node.partition("[")[0].endswith(self.test)


KNOWN: Mapping[str, tuple[Known, ...]] = {}
