"""Random schemas over few names and numbers, so that their parts meet; and random texts that nearly fit them."""

import json
import random
from typing import Any

from tests.grammar_engines import EOS, Matcher

from narthex.sandbox.formats import PATTERNS

NAMES = ("a", "b", "ab", "é")
NUMBERS = (0, 1, -1, 2, 3, 5, 10, -7, 0.5, 1.5, -2.25, 100, 12, 99, 0.1, 7.0, 1e3, 123456, -0.5)
STRINGS = ("", "a", "b", "ab", "x1", "é\n", "0", "2023-02-29", "2024-02-29")
TEXTS = ("^a", "b$", "^[a-z]*$", "[0-9]", "^a|b$", "^(a|b)+$", "", "^.$", r"\w", "[^a]", r"^\s?x", r"^\D*$")
TYPES = ("object", "array", "string", "number", "integer", "null", "boolean", "object")
SPECIAL = frozenset(b'"}],:abx{[0123\\u06')


class Schemas:
    """Draws schemas, values and texts."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._targets: tuple[str, ...] = ()

    def root(self) -> dict[str, Any]:
        """A schema, half of the time with definitions that it and they refer to."""
        if self._random.random() < 0.5:
            self._targets = ("p", "q")
        drawn = self.schema(3)
        schema = drawn if isinstance(drawn, dict) else {}
        definitions = {name: self.schema(2) for name in self._targets}
        return schema | {"$defs": definitions} if definitions else schema

    def schema(self, depth: int) -> dict[str, Any] | bool:
        """A schema of some depth, its keywords in any order."""
        if self._may(0.05):
            return self._random.choice((True, True, False))
        found: dict[str, Any] = {}
        types = self._types()
        if types is not None:
            found["type"] = types if len(types) > 1 else types[0]
        kinds = types or ["object", "array", "string", "number"]
        for kind, draw in (("string", self._string), ("object", self._object), ("array", self._array)):
            if kind in kinds:
                found |= draw(depth)
        if "number" in kinds or "integer" in kinds:
            found |= self._number()
        found |= self._joined(depth)
        keys = list(found)
        self._random.shuffle(keys)
        return {key: found[key] for key in keys}

    def _may(self, chance: float) -> bool:
        return self._random.random() < chance

    def _types(self) -> list[str] | None:
        if self._may(0.1):
            return None
        if self._may(0.2):
            return self._random.choice((["string", "null"], ["integer", "object"], ["array", "string"]))
        return [self._random.choice(TYPES)]

    def _some(self, **chances: tuple[float, Any]) -> dict[str, Any]:
        return {key: draw() for key, (chance, draw) in chances.items() if self._may(chance)}

    def _string(self, _depth: int) -> dict[str, Any]:
        choice = self._random
        return self._some(
            minLength=(0.35, lambda: choice.randrange(4)),
            maxLength=(0.35, lambda: choice.randrange(1, 6)),
            pattern=(0.35, lambda: choice.choice(TEXTS)),
            format=(0.15, lambda: choice.choice(sorted(PATTERNS))),
        )

    def _number(self) -> dict[str, Any]:
        keys = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
        found = {key: self._random.choice(NUMBERS) for key in keys if self._may(0.3)}
        step = self._random.choice((1, 2, 3, 5, 0.5, 0.1, 0.25, 10, 7, 1.5, 0.01))
        return found | ({"multipleOf": step} if self._may(0.2) else {})

    def _array(self, depth: int) -> dict[str, Any]:
        choice = self._random
        if depth == 0:
            return {}
        return self._some(
            minItems=(0.35, lambda: choice.randrange(3)),
            maxItems=(0.35, lambda: choice.randrange(1, 4)),
            prefixItems=(0.3, lambda: [self.schema(depth - 1) for _ in range(choice.randrange(1, 3))]),
            items=(0.5, lambda: self.schema(depth - 1)),
        )

    def _object(self, depth: int) -> dict[str, Any]:
        choice = self._random
        if depth == 0:
            return {}
        found = self._some(
            properties=(0.7, lambda: {name: self.schema(depth - 1) for name in choice.sample(NAMES, 2)}),
            required=(0.4, lambda: choice.sample(NAMES, choice.randrange(1, 3))),
            additionalProperties=(0.4, lambda: choice.choice((False, False, self.schema(depth - 1)))),
            minProperties=(0.25, lambda: choice.randrange(3)),
            maxProperties=(0.2, lambda: choice.randrange(1, 4)),
        )
        if self._may(0.15):
            pattern = choice.choice(("^a", "b$", "^x", "^[^ab]+$"))
            found |= {"patternProperties": {pattern: self.schema(depth - 1)}, "additionalProperties": False}
        return found

    def _joined(self, depth: int) -> dict[str, Any]:
        choice = self._random
        found: dict[str, Any] = {}
        if depth:
            for key in ("allOf", "anyOf", "oneOf"):
                if self._may(0.15):
                    found[key] = [self.schema(depth - 1) for _ in range(choice.randrange(1, 3))]
        if self._may(0.1):
            found["enum"] = [self.value(1) for _ in range(choice.randrange(1, 4))]
        if self._may(0.07):
            found["const"] = self.value(1)
        if self._targets and self._may(0.2):
            found["$ref"] = "#/$defs/" + choice.choice(self._targets)
        return found

    def value(self, depth: int) -> Any:
        """A value of some depth."""
        choice = self._random
        kind = choice.randrange(8 if depth else 6)
        if kind == 6:
            return [self.value(depth - 1) for _ in range(choice.randrange(3))]
        if kind == 7:
            return {choice.choice(NAMES): self.value(depth - 1) for _ in range(choice.randrange(3))}
        return choice.choice(
            (None, True, False, choice.choice(NUMBERS), choice.choice(STRINGS), choice.choice(STRINGS))
        )

    def spelled(self, value: Any) -> bytes:
        """A value as a text."""
        return json.dumps(value, ensure_ascii=self._may(0.2)).encode()

    def text(self, matcher: Matcher) -> bytes | None:
        """A text from a grammar; None where it doesn't end soon."""
        text = bytearray()
        for _ in range(120):
            allowed = matcher.allowed()
            if not allowed or (EOS in allowed and (len(allowed) == 1 or self._may(0.4))):
                return bytes(text) if allowed else None
            tokens = [token for token in allowed if token < 128] or [token for token in allowed if token != EOS]
            liked = [token for token in tokens if token in SPECIAL]
            token = self._random.choice(liked if liked and self._may(0.8) else tokens)
            matcher.consume(token)
            text.append(token)
        return None

    def changed(self, text: bytes) -> bytes:
        """A text with another value, another name or another spelling somewhere."""
        choice = self._random
        value = json.loads(text)
        if isinstance(value, dict):
            names = choice.choices((*NAMES, *value), k=choice.randrange(1, 3))  # a name may come twice
            members = list(value.items()) + [(name, self.value(1)) for name in names]
            if self._may(0.3):
                members.pop(choice.randrange(len(members)))
            body = ", ".join(f"{self._name(name)}: {self.spelled(inner).decode()}" for name, inner in members)
            return f"{{{body}}}".encode()
        if isinstance(value, list):
            return self.spelled([*value, self.value(1)] if self._may(0.5) else value[1:])
        return self.spelled(self.value(1))

    def _name(self, name: str) -> str:
        return '"' + "".join(f"\\u{ord(c):04x}" if self._may(0.15) else c for c in json.dumps(name)[1:-1]) + '"'
