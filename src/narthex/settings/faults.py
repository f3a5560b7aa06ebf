"""What is wrong with the settings: each fault with its place and its setting, and never with a value."""

import difflib
from collections.abc import Iterable
from typing import Any, get_args, get_origin

import msgspec
import pydantic
from pydantic import BaseModel
from typing_extensions import override

from narthex.core.errors import ConfigError

Path = tuple[str | int, ...]
"""A setting's place in the tree: names of settings, keys of maps and indexes of lists."""


class Fault(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that is wrong. `line` and `column` count from 1; 0, and no `file`: it does not stand in the file."""

    path: str
    message: str
    file: str = ""
    line: int = 0
    column: int = 0

    @override
    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        return ": ".join(filter(None, (place, self.path, self.message)))


class Invalid(ConfigError):
    """The configuration is invalid."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        """`faults`: all of them."""
        self.faults = tuple(sorted(faults, key=lambda fault: (fault.line, fault.column)))
        super().__init__("\n  ".join(["The configuration is invalid:", *map(str, self.faults)]))


def told(error: pydantic.ValidationError, tree: type[BaseModel]) -> list[tuple[Path, str]]:
    """Every fault of a validation: the setting's place and what is wrong with it."""
    found = error.errors(include_url=False, include_context=False)
    placed = [(_place(one, tree)[0], one) for one in found]
    return [
        (place, message)
        for place, one in placed
        if not (one["type"] == "too_short" and any(_within(other, place) for other, _ in placed))
        and (message := _message(one, tree))
    ]


def _within(place: Path, outer: Path) -> bool:
    """A list without its faulty elements may be too short, which says nothing."""
    return len(place) > len(outer) and place[: len(outer)] == outer


def _message(error: Any, tree: type[BaseModel]) -> str:
    """What is wrong, in words; "" for what another fault of the same value says better."""
    if error["loc"][-1] == "str" and isinstance(error["input"], dict):
        return ""  # a map where a text or a map may stand: the map's own faults are told
    if error["type"] in {"model_type", "dict_type"} and error["loc"][-1] == _place(error, tree)[1].__name__:
        return ""  # a text or the like: that it is no text is told
    if error["type"] == "extra_forbidden":
        known = _place(error, tree)[1].model_fields
        return f"there is no such setting{closest(str(error['loc'][-1]), known)}"
    if error["type"] == "missing":
        return "is required"
    message: str = error["msg"]
    return message.removeprefix("Value error, ")


def _place(error: Any, tree: type[BaseModel]) -> tuple[Path, type[BaseModel]]:
    """The place without the marks of alternatives, and the branch in which it lies."""
    branch, keyed = tree, False
    path: list[str | int] = []
    for at, part in enumerate(error["loc"]):
        last = at == len(error["loc"]) - 1
        if keyed or isinstance(part, int):
            path.append(part)
            keyed = False
        elif part in branch.model_fields:
            path.append(part)
            inner, keyed = _branch(branch.model_fields[part].annotation)
            branch = branch if inner is None or (last and not keyed) else inner
        elif last and error["type"] == "extra_forbidden":
            path.append(part)
    return tuple(path), branch


def _branch(annotation: Any) -> tuple[type[BaseModel] | None, bool]:
    """The branch that an annotation holds, and whether a key or an index leads to it."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation, False
    keyed = get_origin(annotation) in {dict, tuple}
    for part in get_args(annotation):
        inner, inner_keyed = _branch(part)
        if inner is not None or inner_keyed:
            return inner, keyed or inner_keyed
    return None, keyed


def closest(name: str, known: Iterable[str]) -> str:
    """`; did you mean '…'?` where something of a similar name is known, else nothing."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean '{close[0]}'?" if close else ""
