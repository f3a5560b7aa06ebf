"""Reads a schema and writes it anew in the part of JSON Schema that every engine's grammar compiler holds exactly.

Source: JSON Schema 2020-12, core and validation. Unknown keywords and annotations have no effect, as it says.

Rule 1: what is written admits no value that the schema refuses. It may admit less: `docs/design/constrained-output.md`.
Rule 2: what can't be held is refused, at the keyword; nothing is dropped.
Rule 3: where two schemas meet in one value (`allOf`, a `$ref` with siblings), objects are written in the one form that
compilers intersect rightly, and what they don't is refused: pattern properties, more than one `multipleOf`.
"""

from collections.abc import Mapping
from typing import Any, Final

import jsonschema_rs

from narthex.sandbox.counts import MAX_COUNT, MAX_LENGTH, counts, property_counts
from narthex.sandbox.formats import BOUNDS, PATTERNS
from narthex.sandbox.patterns import PatternRefused, plain
from narthex.sandbox.schema_text import References, SchemaRefused, check_shape, join
from narthex.sandbox.schema_values import NUMERIC, check_name, fixed, is_container, numeric, others

MAX_DEPTH = 32
MAX_NODES = 2000
MAX_WRITTEN = 20_000
"""Schemas as written: one that is referred to is written once more."""

_REFUSED: Final = {
    "uniqueItems": "Unique items can't be held.",
    "not": "`not` can't be held.",
    "$dynamicRef": "Dynamic references can't be held.",
    "$recursiveRef": "Recursive references can't be held.",
    "additionalItems": "`additionalItems` is of older drafts: use `items` beside `prefixItems`.",
    "dependencies": "`dependencies` is of older drafts, and can't be held.",
} | {
    name: f"`{name}` can't be held."
    for name in (
        *("if", "then", "else", "dependentSchemas", "dependentRequired", "contains", "minContains", "maxContains"),
        *("propertyNames", "unevaluatedItems", "unevaluatedProperties"),
        *("contentEncoding", "contentMediaType", "contentSchema"),
    )
}
_STRINGS: Final = ("minLength", "maxLength", "pattern", "format")
_ARRAYS: Final = ("items", "prefixItems", "minItems", "maxItems")
_OBJECTS: Final = (
    *("properties", "patternProperties", "additionalProperties", "required", "minProperties", "maxProperties"),
)
_PLAIN: Final = frozenset((*NUMERIC, *_STRINGS, *_ARRAYS, *_OBJECTS))
_BRANCHES: Final = ("allOf", "anyOf", "oneOf")

Schema = dict[str, Any] | bool


class Reader:
    """One schema, from its text's value to what is written.

    `paths` and `sources` tell where each written schema stood and what it was, by `id`. `targets` tells of each name in
    `$defs` where its first `$ref` stands.
    """

    def __init__(self, root: Any) -> None:
        self._root = root
        self._references = References(root)
        self._seen: set[str] = set()
        self._written = 0
        self._waiting: list[tuple[str, Schema, str, bool]] = []
        self._names: dict[tuple[str, bool], str] = {}
        self._multiples: set[float] = set()
        self.paths: dict[int, str] = {}
        self.sources: dict[int, Mapping[str, Any]] = {}
        self.targets: dict[str, str] = {}

    def read(self) -> dict[str, Any]:
        """The schema anew, with what it refers to under `$defs`.

        Raises:
            SchemaRefused: it can't be held.
        """
        written = self._schema(self._root, "", depth=1, merged=False)
        if isinstance(written, bool):
            if not written:
                raise SchemaRefused("No value is valid by this schema.", "")
            written = {}
        definitions: dict[str, Schema] = {}
        while self._waiting:
            name, target, path, merged = self._waiting.pop()
            check_shape(target, path)
            definitions[name] = self._schema(target, path, depth=1, merged=merged)
        if definitions:
            written["$defs"] = definitions
        return written

    def _schema(self, schema: Any, path: str, *, depth: int, merged: bool) -> Schema:
        if isinstance(schema, bool):
            return schema
        self._count(path, depth)
        for key, value in schema.items():
            if key in _REFUSED and not (key == "uniqueItems" and value is False):
                raise SchemaRefused(_REFUSED[key], join(path, key))
        merged = merged or _parts(schema) > 1
        out: dict[str, Any] = {"type": schema["type"]} if "type" in schema else {}
        self._numbers(out, schema, path, merged=merged)
        self._strings(out, schema, path)
        self._arrays(out, schema, path, depth=depth, merged=merged)
        if any(key in schema for key in _OBJECTS) or (merged and out.get("type") == "object"):
            self._object(out, schema, path, depth=depth, merged=merged)
        self._values(out, schema, path)
        for key in _BRANCHES:
            if key in schema:
                branches = [
                    self._schema(branch, join(path, key, position), depth=depth + 1, merged=merged)
                    for position, branch in enumerate(schema[key])
                ]
                out[key] = [*out.get(key, ()), *branches]
        if "$ref" in schema:
            out["$ref"] = self._reference(schema["$ref"], join(path, "$ref"), merged=merged)
        self.paths[id(out)], self.sources[id(out)] = path, schema
        return out

    def _count(self, path: str, depth: int) -> None:
        self._seen.add(path)
        self._written += 1
        if depth > MAX_DEPTH:
            raise SchemaRefused(f"Schemas are nested more than {MAX_DEPTH} levels deep.", path)
        if len(self._seen) > MAX_NODES:
            raise SchemaRefused(f"It holds more than {MAX_NODES} schemas.", path)
        if self._written > MAX_WRITTEN:
            raise SchemaRefused("Its references multiply to too many schemas.", path)

    # --- one kind of value each --------------------------------------------------------------------------------------

    def _numbers(self, out: dict[str, Any], schema: Mapping[str, Any], path: str, *, merged: bool) -> None:
        named = schema.get("format")
        span = BOUNDS.get(named) if isinstance(named, str) and "integer" in _types(schema) else None
        found = numeric(schema, path, span=span)
        if "multipleOf" in found and merged:
            self._multiples.add(found["multipleOf"])
            if len(self._multiples) > 1:
                raise SchemaRefused("Several `multipleOf` that may meet can't be held.", join(path, "multipleOf"))
        out.update(found)

    def _strings(self, out: dict[str, Any], schema: Mapping[str, Any], path: str) -> None:
        out |= counts(schema, path, least="minLength", most="maxLength", limit=MAX_LENGTH)
        if "pattern" in schema:
            out["pattern"] = _plain(schema["pattern"], join(path, "pattern"))
        named = schema.get("format")
        if named is None or (named in BOUNDS and "string" not in _types(schema)):
            return
        if named not in PATTERNS:
            raise SchemaRefused(f"The format '{str(named)[:100]}' can't be held.", join(path, "format"))
        pattern = plain(PATTERNS[named])
        if "pattern" in out:
            out["allOf"] = [{"pattern": pattern}]
        else:
            out["pattern"] = pattern

    def _arrays(self, out: dict[str, Any], schema: Mapping[str, Any], path: str, *, depth: int, merged: bool) -> None:
        out |= counts(schema, path, least="minItems", most="maxItems", limit=MAX_COUNT)
        if "prefixItems" in schema:
            out["prefixItems"] = [
                self._schema(item, join(path, "prefixItems", position), depth=depth + 1, merged=merged)
                for position, item in enumerate(schema["prefixItems"])
            ]
        if "items" in schema:
            out["items"] = self._schema(schema["items"], join(path, "items"), depth=depth + 1, merged=merged)

    def _object(self, out: dict[str, Any], schema: Mapping[str, Any], path: str, *, depth: int, merged: bool) -> None:
        required = schema.get("required", [])
        out |= property_counts(schema, path, merged=merged)
        for position, name in enumerate(required):
            check_name(name, join(path, "required", position))
        if required:
            out["required"] = required
        properties = self._members("properties", schema, path, depth=depth, merged=merged)
        for name in properties:
            check_name(name, join(path, "properties", name))
        patterns = self._patterns(properties, schema, path, depth=depth, merged=merged)
        if properties:
            out["properties"] = properties
        rest = schema.get("additionalProperties", True)
        rest = self._schema(rest, join(path, "additionalProperties"), depth=depth + 1, merged=merged)
        if patterns:
            out |= {"patternProperties": patterns, "additionalProperties": False}
        elif merged or (rest is not False and (properties or required)):
            out |= others(rest)
        elif "additionalProperties" in schema:
            out["additionalProperties"] = rest

    def _members(
        self, key: str, schema: Mapping[str, Any], path: str, *, depth: int, merged: bool
    ) -> dict[str, Schema]:
        return {
            name: self._schema(inner, join(path, key, name), depth=depth + 1, merged=merged)
            for name, inner in schema.get(key, {}).items()
        }

    def _patterns(
        self, properties: dict[str, Schema], schema: Mapping[str, Any], path: str, *, depth: int, merged: bool
    ) -> dict[str, Schema]:
        """The pattern properties; a property whose name matches gets the pattern's schema as well."""
        if not schema.get("patternProperties"):
            return {}
        place = join(path, "patternProperties")
        if merged:
            raise SchemaRefused("Pattern properties can't be held where schemas meet in one value.", place)
        if schema.get("additionalProperties") is not False:
            raise SchemaRefused("Pattern properties can only be held beside `additionalProperties: false`.", place)
        written = {pattern: _plain(pattern, join(place, pattern)) for pattern in schema["patternProperties"]}
        matched = {
            name for name in properties for pattern in written if jsonschema_rs.is_valid({"pattern": pattern}, name)
        }
        if matched:
            name = min(matched)
            raise SchemaRefused("A property that a pattern matches too can't be held.", join(path, "properties", name))
        members = self._members("patternProperties", schema, path, depth=depth, merged=merged)
        return {written[pattern]: inner for pattern, inner in members.items()}

    def _values(self, out: dict[str, Any], schema: Mapping[str, Any], path: str) -> None:
        """`const` and `enum`. Values with parts become schemas of their own."""
        if "const" in schema:
            written = fixed(schema["const"], join(path, "const"))
            if is_container(schema["const"]):
                out["allOf"] = [*out.get("allOf", ()), written]
            else:
                out |= written
        if "enum" in schema:
            if not schema["enum"]:
                raise SchemaRefused("`enum` names no value.", join(path, "enum"))
            values = [fixed(value, join(path, "enum", position)) for position, value in enumerate(schema["enum"])]
            if any(is_container(value) for value in schema["enum"]):
                out["allOf"] = [*out.get("allOf", ()), {"anyOf": values}]
            else:
                out["enum"] = [value["const"] for value in values]

    def _reference(self, reference: str, path: str, *, merged: bool) -> str:
        target, place = self._references.resolve(reference, path)
        name = self._names.get((place, merged))
        if name is None:
            name = self._names[place, merged] = f"r{len(self._names)}"
            self.targets[name] = path
            self._waiting.append((name, target, place, merged))
        return f"#/$defs/{name}"


def _parts(schema: Mapping[str, Any]) -> int:
    """How many schemas meet in a value here. A bare `type` doesn't count: it meets everything rightly."""
    plain_part = any(key in _PLAIN for key in schema)
    return (
        plain_part
        + len(schema.get("allOf", ()))
        + sum(key in schema for key in ("const", "enum", "anyOf", "oneOf", "$ref"))
    )


def _types(schema: Mapping[str, Any]) -> tuple[str, ...]:
    named = schema.get("type", ("string", "integer"))
    return (named,) if isinstance(named, str) else tuple(named)


def _plain(pattern: str, path: str) -> str:
    try:
        return plain(pattern)
    except PatternRefused as refused:
        raise SchemaRefused(f"This pattern can't be held: {refused}.", path) from None
