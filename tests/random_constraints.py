"""Random regular expressions, grammars and schemas, sound ones and broken ones, from few pieces that mean something."""

import json
import random
from typing import Any

from tests.random_schemas import Schemas

_EXPRESSION = (
    *"abz019 -_.,:;'\"<>&~#@!=%/éß😀ぁ\n\t\0\u2028\ufeff", *"()[]{}|*+?^$.\\", "(?:", "(?P<n>", "(?=",
    "(?i)", "|", ")*", ")+", "){2,4}", "){0,}", "{,3}", "{1000}", "{1,99999}", "[a-z]", "[^a-z]", "[^]",
    "[]", "[a&&b]", "[[:alpha:]]", "[^\\w\\s]", "[\\s\\S]", "[\\d-]", ".*", ".+?", "\\d", "\\D", "\\w",
    "\\W", "\\s", "\\S", "\\b", "\\1", "\\<", "\\>", "\\x41", "\\u0042", "\\u{1F600}", "\\ud83d\\ude00",
    "\\ud800", "\\p{L}", "\\0", "\\cA", "\\/",
)  # fmt: skip
_EBNF = (
    "root ::= ", "\nroot ::= ", "\na ::= ", "\nb ::= ", "a", "b", "root", '"x"', '"\\n"', "'y'", '"é😀"',
    "[a-z]", "[^\\n]", "[0-9]+", "(", ")", "|", "*", "+", "?", "{2,3}", "{,4}", "{1000}", "{99999}", " ",
    "\n", ".", "# c\n", '"', "[", "::=", "\\", "\0", "é", "_",
)  # fmt: skip
_LARK = (
    "start: ", "\nstart: ", "\na: ", "\n?b: ", "\nC: ", "a", "b", "C", "start", '"x"', '"y"i', "/[a-z]+/",
    "/a|b/", "/./", '"a".."z"', "~2", "~1..3", "(", ")", "[", "]", "|", "*", "+", "?", " -> c", "\n",
    "// c\n", "%import common.INT\n", "@x", "<|im_end|>", "/", '"',
)  # fmt: skip


class Constraints:
    """Draws one after the other: the name of a kind, and a value."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._schemas = Schemas(seed)

    def drawn(self) -> tuple[str, Any]:
        """Half of them by pieces, half as parts of something that is sound."""
        kind = self._random.choice(("regex", "regex", "grammar", "grammar", "json", "choice"))
        if kind == "regex":
            return kind, self._row(_EXPRESSION, 12) or "a"
        if kind == "grammar":
            return kind, self._grammar()
        if kind == "choice":
            return kind, [self._row(_EXPRESSION, 4) or "x" for _ in range(self._random.randrange(1, 9))]
        return kind, self._schema()

    def _row(self, pieces: tuple[str, ...], most: int) -> str:
        return "".join(self._random.choices(pieces, k=self._random.randrange(1, most)))

    def _grammar(self) -> str:
        lark = self._random.random() < 0.5
        pieces, begin = (_LARK, "start: ") if lark else (_EBNF, "root ::= ")
        names = ("\na: ", "\nb: ", "\nC: ") if lark else ("\na ::= ", "\nb ::= ")
        if self._random.random() < 0.3:
            return begin + self._row(pieces, 20)
        return begin + " ".join([self._body(lark, 2), *(name + self._body(lark, 2) for name in names)])

    def _body(self, lark: bool, depth: int) -> str:
        """Of a rule, and mostly sound."""
        atoms = ['"x"', '"yz"', "a", "b", "/[a-c]/" if lark else "[a-c]", '"("', '","', '"é"']
        parts = []
        for _ in range(self._random.randrange(1, 4)):
            grouped = depth and self._random.random() < 0.3
            part = f"({self._body(lark, depth - 1)})" if grouped else self._random.choice(atoms)
            parts.append(part + self._random.choice(("", "", "", "?", "*", "+", "{1,3}")))
        return " ".join(parts) + (f" | {self._body(lark, depth - 1)}" if depth and self._random.random() < 0.5 else "")

    def _schema(self) -> Any:
        schema = self._schemas.root()
        chance = self._random.random()
        if chance < 0.2:
            return {"type": "string", "pattern": self._row(_EXPRESSION, 10)}
        if chance < 0.4:
            text = json.dumps(schema)
            at = self._random.randrange(len(text))
            return (
                text[:at]
                + self._random.choice(('"', "{", "}", ",", "null", "1e999", "\\ud800", "[", ""))
                + text[at + 1 :]
            )
        return schema
