"""The fields of a request as the caller's own bytes, and which requests differ in nothing but their messages."""

from typing import Any

import msgspec


class Alike:
    """What requests have in common that are the same but for their messages. `made`: what was made of it, under keys of
    whoever made it, which tell all that it depends on besides.
    """

    __slots__ = ("made",)

    def __init__(self) -> None:
        self.made: dict[Any, Any] = {}


class Sent(dict[str, msgspec.Raw]):
    """Fields of a request that is `alike` others. Its messages are nothing but texts, also those members of them that
    another of the same name follows. A copy of it, as whoever changes something has to make, is not.
    """

    __slots__ = ("alike",)

    alike: Alike
    """Set by whoever makes it: a constructor of its own would cost as much as all the rest."""
