"""Reads a schema and writes it anew in the part of JSON Schema that every engine's grammar compiler holds exactly.

Source: JSON Schema 2020-12, core and validation. Unknown keywords and annotations have no effect, as it says.

Rule 1: what is written admits no value that the schema refuses. It may admit less: `docs/design/constrained-output.md`.
Rule 2: what can't be held is refused, at the keyword; nothing is dropped.
Rule 3: where schemas meet in one value (`allOf`, a `$ref` with siblings, `anyOf` beside `properties`), their objects
and arrays are written as one; compilers only intersect types, numbers and strings.
"""

from collections.abc import Sequence
from typing import Any, Final

from narthex.sandbox import containers, leaves
from narthex.sandbox.containers import Schema
from narthex.sandbox.leaves import LARGEST
from narthex.sandbox.schema_text import Place, References, SchemaRefused, check_shape, join

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
_TOUCHY: Final = frozenset((*containers.OBJECTS, *containers.ARRAYS, *leaves.NUMBERS))
"""What is not left to compilers to intersect."""
_PLAIN: Final = frozenset(("type", *leaves.KEYWORDS, *_TOUCHY))


class _Met:
    """The schemas that meet in one value, taken apart."""

    def __init__(self) -> None:
        self.never = False
        self.plain: list[Place] = []
        self.values: list[dict[str, Any]] = []
        self.branches: list[tuple[str, list[Place]]] = []
        self.references: list[tuple[str, Place]] = []
        """Where each stands, and its target."""
        self.origins: dict[str, str] = {}
        """Where each keyword stands."""

    def without(self, branch: tuple[str, list[Place]]) -> "_Met":
        copy = _Met()
        copy.never, copy.plain, copy.values = self.never, [*self.plain], [*self.values]
        copy.branches = [other for other in self.branches if other is not branch]
        copy.references, copy.origins = [*self.references], {**self.origins}
        return copy

    @property
    def only_reference(self) -> bool:
        return len(self.references) == 1 and not (self.never or self.plain or self.values or self.branches)


class Reader:
    """One schema, from its text's value to what is written.

    `paths` and `origins` tell where each written schema stood, and each keyword in it, by `id`. `targets` tells of each
    name in `$defs` where its first `$ref` stands.
    """

    def __init__(self, root: Any) -> None:
        self._root = root
        self._references = References(root)
        self._seen: set[str] = set()
        self._written = 0
        self._waiting: list[tuple[str, Place]] = []
        self._shaped: set[int] = set()
        self._names: dict[int, str] = {}
        self._touchy: dict[int, tuple[Any, bool]] = {}
        """By `id`, which only means something while the schema is kept."""
        self.paths: dict[int, str] = {}
        self.origins: dict[int, dict[str, str]] = {}
        self.targets: dict[str, str] = {}

    def read(self) -> dict[str, Any]:
        """The schema anew, with what it refers to under `$defs`.

        Raises:
            SchemaRefused: it can't be held.
        """
        written = self._all([Place(self._root, "")], 0)
        if isinstance(written, bool):
            if not written:
                raise SchemaRefused("No value is valid by this schema.", "")
            written = {}
        definitions: dict[str, Schema] = {}
        while self._waiting:
            name, target = self._waiting.pop()
            definitions[name] = self._all([target], 0)
        if definitions:
            written["$defs"] = definitions
        return written

    def _all(self, places: Sequence[Place], depth: int) -> Schema:
        """What a value is that all of these schemas hold for."""
        met = _Met()
        for place in places:
            self._take(place, met, depth=depth + 1)
        path = places[0].path
        written = self._write(met, path, depth + 1)
        if isinstance(written, dict):
            self.paths[id(written)], self.origins[id(written)] = path, met.origins
        return written

    # --- taking apart ------------------------------------------------------------------------------------------------

    def _take(self, place: Place, met: _Met, *, depth: int) -> None:
        schema, path = place
        if isinstance(schema, bool):
            met.never = met.never or not schema
            return
        self._count(path, depth)
        _check_keywords(place, met.origins)
        if not _PLAIN.isdisjoint(schema):
            met.plain.append(place)
        if "const" in schema:
            self._fixed(schema["const"], join(path, "const"), met, depth=depth)
        if "enum" in schema:
            self._enumerated(place.into("enum"), met)
        for inner in place.each("allOf"):
            self._take(inner, met, depth=depth + 1)
        met.branches += [(key, place.each(key)) for key in ("anyOf", "oneOf") if key in schema]
        if "$ref" in schema:
            met.references.append((join(path, "$ref"), self._resolved(place)))

    def _count(self, path: str, depth: int) -> None:
        self._seen.add(path)
        self._written += 1
        if depth > MAX_DEPTH:
            message = (
                f"Schemas are nested more than {MAX_DEPTH} levels deep, or refer to themselves beside other keywords."
            )
            raise SchemaRefused(message, path)
        if len(self._seen) > MAX_NODES:
            raise SchemaRefused(f"It holds more than {MAX_NODES} schemas.", path)
        if self._written > MAX_WRITTEN:
            raise SchemaRefused("Its references multiply to too many schemas.", path)

    def _resolved(self, place: Place) -> Place:
        target = self._references.resolve(place.schema["$ref"], join(place.path, "$ref"))
        if id(target.schema) not in self._shaped:
            self._shaped.add(id(target.schema))
            check_shape(target.schema, target.path)
        return target

    def _fixed(self, value: Any, path: str, met: _Met, *, depth: int) -> None:
        """Values with parts become schemas."""
        _check_value(value, path)
        if isinstance(value, (dict, list)):
            self._take(Place(_schema_of(value), path), met, depth=depth)
        else:
            met.values.append({"const": value})

    def _enumerated(self, place: Place, met: _Met) -> None:
        if not place.schema:
            raise SchemaRefused("`enum` names no value.", place.path)
        _check_value(place.schema, place.path)
        if any(isinstance(value, (dict, list)) for value in place.schema):
            branches = [Place({"const": value}, join(place.path, at)) for at, value in enumerate(place.schema)]
            met.branches.append(("anyOf", branches))
        else:
            met.values.append({"enum": place.schema})

    # --- writing -----------------------------------------------------------------------------------------------------

    def _write(self, met: _Met, path: str, depth: int) -> Schema:
        if met.only_reference:
            return {"$ref": f"#/$defs/{self._name(*met.references[0])}"}
        self._inline(met, depth)
        if met.never:
            return False
        parted = self._parted(met)
        if parted is not None:
            return {parted[0]: [self._branch(met.without(parted), branch, depth) for branch in parted[1]]}
        for values in met.values or [{}]:
            leaves.check_whole(met.plain, values, met.origins)
        out, more = self._plain(met.plain, depth)
        more += met.values
        written = [{key: [self._all([branch], depth) for branch in branches]} for key, branches in met.branches]
        for part in (*more, *written):
            if out.keys().isdisjoint(part):
                out |= part
            else:
                out["allOf"] = [*out.get("allOf", ()), part]
        return out or True

    def _name(self, path: str, target: Place) -> str:
        name = self._names.get(id(target.schema))
        if name is None:
            name = self._names[id(target.schema)] = f"r{len(self._names)}"
            self.targets[name] = path
            self._waiting.append((name, target))
        return name

    def _inline(self, met: _Met, depth: int) -> None:
        """References that meet other schemas are put in their place."""
        followed: set[int] = set()
        while met.references:
            path, target = met.references.pop()
            if id(target.schema) in followed:
                continue
            followed.add(id(target.schema))
            if len(followed) > MAX_DEPTH:
                raise SchemaRefused("Too many references meet in one value.", path)
            self._take(target, met, depth=depth)

    def _parted(self, met: _Met) -> tuple[str, list[Place]] | None:
        """Branches that have to be written with all else in each, because objects or arrays would meet."""
        touchy = [branch for branch in met.branches if any(map(self._is_touchy, branch[1]))]
        others = any(
            not _TOUCHY.isdisjoint(place.schema) or "integer" in str(place.schema.get("type")) for place in met.plain
        )
        return touchy[0] if touchy and len(touchy) + others > 1 else None

    def _branch(self, met: _Met, branch: Place, depth: int) -> Schema:
        self._take(branch, met, depth=depth + 1)
        written = self._write(met, branch.path, depth + 1)
        if isinstance(written, dict):
            self.paths[id(written)], self.origins[id(written)] = branch.path, met.origins
        return written

    def _is_touchy(self, place: Place) -> bool:
        schema = place.schema
        if not isinstance(schema, dict):
            return False
        if id(schema) not in self._touchy:
            self._touchy[id(schema)] = schema, False  # for those that refer back here
            self._touchy[id(schema)] = schema, self._find_touchy(place)
        return self._touchy[id(schema)][1]

    def _find_touchy(self, place: Place) -> bool:
        schema = place.schema
        fixed = [schema["const"]] if "const" in schema else schema.get("enum", [])
        if not _TOUCHY.isdisjoint(schema) or any(isinstance(value, (dict, list, float)) for value in fixed):
            return True
        inner = [*place.each("allOf"), *place.each("anyOf"), *place.each("oneOf")]
        if "$ref" in schema:
            inner.append(self._resolved(place))
        return any(map(self._is_touchy, inner))

    def _plain(self, places: Sequence[Place], depth: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """The plain keywords of schemas that meet: what is written as one, and what is left to be intersected."""
        multiples = {place.schema["multipleOf"]: place for place in places if "multipleOf" in place.schema}
        if len(multiples) > 1:
            path = join(list(multiples.values())[-1].path, "multipleOf")
            raise SchemaRefused("Several `multipleOf` can't be held where they meet in one value.", path)
        out, *more = [leaves.leaf(place) for place in places] or [{}]
        objects = [place for place in places if not place.schema.keys().isdisjoint(containers.OBJECTS)]
        arrays = [place for place in places if not place.schema.keys().isdisjoint(containers.ARRAYS)]
        if objects:
            out |= containers.obj(objects, lambda inner: self._all(inner, depth))
        if arrays:
            out |= containers.array(arrays, lambda inner: self._all(inner, depth))
        return out, [part for part in more if part]


def _check_keywords(place: Place, origins: dict[str, str]) -> None:
    for key, value in place.schema.items():
        path = join(place.path, key)
        origins.setdefault(key, path)
        if key in _REFUSED and not (key == "uniqueItems" and value is False):
            raise SchemaRefused(_REFUSED[key], path)


def _check_value(value: Any, path: str) -> None:
    """Whether a fixed value can be held exactly."""
    if isinstance(value, dict):
        for name, inner in value.items():
            containers.check_name(name, path)
            _check_value(inner, join(path, name))
    elif isinstance(value, list):
        for position, inner in enumerate(value):
            _check_value(inner, join(path, position))
    elif isinstance(value, int) and abs(value) > LARGEST:
        raise SchemaRefused("A whole number beyond 2^53 can't be held exactly.", path)


def _schema_of(value: Any) -> dict[str, Any]:
    """A schema for exactly one value with parts."""
    if isinstance(value, dict):
        properties = {name: {"const": inner} for name, inner in value.items()}
        return {"type": "object", "properties": properties, "required": list(value), "additionalProperties": False}
    size = len(value)
    first = {"prefixItems": [{"const": inner} for inner in value]} if value else {}
    return {"type": "array", **first, "items": False, "minItems": size, "maxItems": size}
