"""Thirty schemas whose every instance is of bounded length, and of the kinds that people use."""

from typing import Any

Schema = dict[str, Any]


def obj(required: bool = True, **properties: Any) -> Schema:
    """An object with just these properties."""
    schema = {"type": "object", "properties": properties, "additionalProperties": False}
    return schema | ({"required": list(properties)} if required else {})


def arr(items: Any, least: int, most: int) -> Schema:
    """An array of bounded length."""
    return {"type": "array", "items": items, "minItems": least, "maxItems": most}


WORD = {"type": "string", "pattern": "^[A-Za-z ]{1,20}$"}
SMALL = {"type": "integer", "minimum": 0, "maximum": 99}
COLOUR = {"enum": ["red", "green", "blue"]}

_LEAF = obj(value=SMALL)
_TREE: Schema = _LEAF
for _ in range(3):  # a recursion with its bound written out
    _TREE = obj(value=SMALL, children=arr(_TREE, 0, 2))

BOUNDED: dict[str, Schema] = {
    "flat object": obj(name=WORD, age=SMALL),
    "boolean": obj(ok={"type": "boolean"}),
    "null or word": obj(nickname={"anyOf": [WORD, {"type": "null"}]}),
    "list of types": obj(x={"type": ["boolean", "null"]}),
    "enum of strings": obj(colour=COLOUR),
    "enum of mixed values": obj(x={"enum": [1, "one", None, True, [1, 2], {"a": 1}]}),
    "const": obj(kind={"const": "cat"}, name=WORD),
    "pattern of a date": obj(day={"type": "string", "pattern": "^20[0-9]{2}-(0[1-9]|1[0-2])-[0-3][0-9]$"}),
    "pattern of a plate": obj(plate={"type": "string", "pattern": "^[A-Z]{1,3}-[A-Z]{1,2} [1-9][0-9]{0,3}$"}),
    "pattern in Unicode": obj(word={"type": "string", "pattern": "^[äöüß]{2,4}$"}),
    "format date": obj(day={"type": "string", "format": "date"}),
    "format date-time": obj(at={"type": "string", "format": "date-time", "maxLength": 20}),
    "format uuid": obj(id={"type": "string", "format": "uuid"}),
    "format ipv4": obj(ip={"type": "string", "format": "ipv4"}),
    "length bounds": obj(code={"type": "string", "minLength": 3, "maxLength": 6}),
    "integer bounds": obj(year={"type": "integer", "minimum": 1900, "maximum": 2100}),
    "exclusive bounds": obj(x={"type": "integer", "exclusiveMinimum": 10, "exclusiveMaximum": 20}),
    "multiple": obj(x={"type": "integer", "multipleOf": 5, "minimum": 0, "maximum": 100}),
    "array bounds": obj(tags=arr(WORD, 2, 4)),
    "array of objects": obj(people=arr(obj(name=WORD, age=SMALL), 1, 3)),
    "matrix": obj(rows=arr(arr(SMALL, 2, 2), 2, 2)),
    "prefix items": obj(pair={"type": "array", "prefixItems": [WORD, SMALL], "items": False, "minItems": 2}),
    "array at the top": arr(obj(x=SMALL, y=SMALL), 1, 3),
    "nested refs": {
        "$defs": {
            "point": obj(x=SMALL, y=SMALL),
            "line": obj(start={"$ref": "#/$defs/point"}, end={"$ref": "#/$defs/point"}),
        },
        **obj(lines=arr({"$ref": "#/$defs/line"}, 1, 2)),
    },
    "recursion with a bound": _TREE,
    "recursion by ref in bounded arrays": {
        "$defs": {
            "leaf": obj(name=WORD),
            "branch": obj(name=WORD, leaves=arr({"$ref": "#/$defs/leaf"}, 0, 2)),
        },
        **obj(root={"$ref": "#/$defs/branch"}),
    },
    "any of": obj(shape={"anyOf": [obj(kind={"const": "circle"}, r=SMALL), obj(kind={"const": "square"}, side=SMALL)]}),
    "disjoint one of": obj(
        pet={"oneOf": [obj(kind={"const": "cat"}, lives=SMALL), obj(kind={"const": "dog"}, tricks=arr(WORD, 0, 2))]}
    ),
    "all of": {"allOf": [obj(a=SMALL) | {"additionalProperties": True}, {"properties": {"a": {"maximum": 9}}}]}
    | obj(a=SMALL),
    "optional properties": obj(False, first=WORD, second=SMALL, third={"type": "boolean"}),
}
