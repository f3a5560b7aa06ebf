"""Finds references by which every value would be endless, such as a list that must hold itself."""

from collections.abc import Mapping
from typing import Any


def endless_reference(written: Mapping[str, Any]) -> str | None:
    """The name of a definition under `$defs` that has no finite value; None if all have.

    Grows the set of those that have one until nothing changes.
    """
    definitions: Mapping[str, Any] = written.get("$defs", {})
    finite: set[str] = set()
    grown = True
    while grown:
        found = {name for name, schema in definitions.items() if name not in finite and _finite(schema, finite)}
        finite |= found
        grown = bool(found)
    return next((name for name in definitions if name not in finite), None)


def _finite(schema: Any, known: set[str]) -> bool:
    if isinstance(schema, bool):
        return True  # `false` is no value at all, which the compiler finds by itself
    if "$ref" in schema and schema["$ref"].rpartition("/")[2] not in known:
        return False
    if not all(_finite(branch, known) for branch in schema.get("allOf", ())):
        return False
    if not all(any(_finite(b, known) for b in schema[key]) for key in ("anyOf", "oneOf") if key in schema):
        return False
    types = schema.get("type", "null")
    named = {types} if isinstance(types, str) else set(types)
    if named - {"object", "array"}:
        return True
    return ("object" in named and _finite_object(schema, known)) or ("array" in named and _finite_array(schema, known))


def _finite_object(schema: Mapping[str, Any], known: set[str]) -> bool:
    properties = schema.get("properties", {})
    return all(_finite(properties.get(name, True), known) for name in schema.get("required", ()))


def _finite_array(schema: Mapping[str, Any], known: set[str]) -> bool:
    least = schema.get("minItems", 0)
    first = schema.get("prefixItems", [])
    rest = [schema.get("items", True)] if least > len(first) else []
    return all(_finite(item, known) for item in (*first[:least], *rest))
