"""A schema as it comes: its size, its shape by the metaschema, and where the places are that it refers to."""

import re
from typing import Any, Final, NamedTuple
from urllib.parse import unquote

import jsonschema_rs
import msgspec

from narthex.core.constrained import MAX_SCHEMA_BYTES

MAX_JSON_DEPTH = 128
"""Of the JSON text as a whole; schemas within schemas are limited more tightly."""

_SHAPE: Final = jsonschema_rs.Draft202012Validator(
    {"$ref": "https://json-schema.org/draft/2020-12/schema"}, offline=True
)
"""The metaschema, which the library brings along. Its own check of shapes goes by a schema's `$schema`, and would fetch
whatever that names."""
_INDEX: Final = re.compile(r"0|[1-9][0-9]{0,8}")


class SchemaRefused(Exception):
    """The schema can't be held. `at`: the place in it, e.g. `properties.a.pattern`; empty for the whole."""

    def __init__(self, message: str, at: str) -> None:
        super().__init__(message)
        self.message = message
        self.at = at


def join(path: str, *steps: str | int) -> str:
    """A place further in: names after a dot, positions in brackets."""
    for step in steps:
        if isinstance(step, int):
            path += f"[{step}]"
        else:
            path += f".{step}" if path else step
    return path


class Place(NamedTuple):
    """A schema and where it stands."""

    schema: Any
    path: str

    def into(self, *steps: str | int) -> "Place":
        """A schema inside it."""
        inner = self.schema
        for step in steps:
            inner = inner[step]
        return Place(inner, join(self.path, *steps))

    def each(self, key: str) -> "list[Place]":
        """The schemas in a list of it; none if it is not there."""
        return [self.into(key, position) for position in range(len(self.schema.get(key, ())))]


def decode(schema: bytes) -> Any:
    """The value of a schema's text, without `$schema`: every schema is read as draft 2020-12.

    Raises:
        SchemaRefused: too large, too deep, no JSON, or no schema by the metaschema.
    """
    if len(schema) > MAX_SCHEMA_BYTES:
        raise SchemaRefused(f"The schema is larger than {MAX_SCHEMA_BYTES // 1024} KiB.", "")
    try:
        root = msgspec.json.decode(schema)
    except (msgspec.MsgspecError, RecursionError, UnicodeError):
        raise SchemaRefused("The schema is not valid JSON.", "") from None
    if _depth(root) > MAX_JSON_DEPTH:
        raise SchemaRefused(f"The schema is nested more than {MAX_JSON_DEPTH} levels deep.", "")
    if isinstance(root, dict):
        root.pop("$schema", None)
    check_shape(root, "")
    return root


def check_shape(schema: Any, path: str) -> None:
    """Check one schema, which stands at `path`, against the metaschema.

    Raises:
        SchemaRefused: at the first place that is malformed.
    """
    error = next(_SHAPE.iter_errors(schema), None)
    if error is not None:
        raise SchemaRefused(_brief(error.message), join(path, *error.instance_path))


def _brief(message: str) -> str:
    return message if len(message) <= 200 else f"{message[:197]}..."


def _depth(value: Any) -> int:
    deepest, level = 0, [value]
    while level:
        deepest += 1
        level = [
            inner
            for outer in level
            if isinstance(outer, (dict, list))
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
    return deepest


class References:
    """Finds what a schema's `$ref`s name. Only places in the same document: nothing is fetched."""

    def __init__(self, root: Any) -> None:
        self._root = root
        self._anchors: dict[str, Place] = {}
        self._resources = 0
        self._scan(root)

    def resolve(self, reference: str, path: str) -> Place:
        """The schema that is named.

        Raises:
            SchemaRefused: at `path`, where the reference stands.
        """
        if not reference.startswith("#"):
            raise SchemaRefused("Only references within the schema (`#…`) can be held.", path)
        if self._resources:
            raise SchemaRefused("References can't be held beside a subschema with an `$id` of its own.", path)
        found = self._at(unquote(reference[1:]))
        if found is None or not isinstance(found.schema, (dict, bool)):
            raise SchemaRefused(f"There is no schema at '{reference[:200]}'.", path)
        return found

    def _at(self, fragment: str) -> Place | None:
        if fragment and not fragment.startswith("/"):
            return self._anchors.get(fragment)
        value, path = self._root, ""
        for step in fragment.split("/")[1:]:
            name = step.replace("~1", "/").replace("~0", "~")
            if isinstance(value, dict) and name in value:
                value, path = value[name], join(path, name)
            elif isinstance(value, list) and _INDEX.fullmatch(name) and int(name) < len(value):
                value, path = value[int(name)], join(path, int(name))
            else:
                return None
        return Place(value, path)

    def _scan(self, root: Any) -> None:
        found: list[tuple[Any, str]] = [(root, "")]
        for value, path in found:  # grows as it goes
            if isinstance(value, list):
                found += [(inner, join(path, position)) for position, inner in enumerate(value)]
            elif isinstance(value, dict):
                if isinstance(value.get("$anchor"), str):
                    self._anchors.setdefault(value["$anchor"], Place(value, path))
                self._resources += bool(path) and isinstance(value.get("$id"), str)
                found += [(inner, join(path, name)) for name, inner in value.items()]
