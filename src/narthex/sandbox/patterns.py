r"""Regular expressions as JSON Schema writes them (ECMA-262), written anew so that every engine reads them alike.

What comes out is anchored at both ends and holds no shorthand: `\d`, `\s`, `.` and the like stand as plain sets, all
else as characters or code points. Lookaround, back references, word boundaries and inline flags can't be held.

Rule 1: what comes out matches no text that the pattern does not match, whoever reads it: where readers differ (whether
`é` is a word's character, say), a shorthand is what all of them take for it, and `\W` what none takes for `\w`.
Rule 2: repeats are counted before they are built.
"""

import re
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from narthex.core.constrained import MAX_PATTERN_BYTES

MAX_REPEAT = 1000
MAX_STATES = 10_000
"""What nested repeats may multiply to."""
MAX_NESTING = 50

_SPACE = r"\t\n\v\f\r\u0020\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
_ANY = r"[\u0000-\U0010ffff]"
_DOT = r"[^\n\r\u2028\u2029]"
_CONTROLS: Final = {"t": "\t", "n": "\n", "v": "\v", "f": "\f", "r": "\r"}
_REPEAT = re.compile(r"\{([0-9]+)(?:(,)([0-9]*))?\}|\{(,)([0-9]+)\}")
_HEX = re.compile(r"x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|u\{([0-9a-fA-F]{1,6})\}|U([0-9a-fA-F]{8})")
_GROUP_NAME = re.compile(r"\?P?<[A-Za-z_$][\w$]*>")


class PatternRefused(Exception):
    """The pattern is not valid, or can't be held."""


class Sets(NamedTuple):
    """What the shorthands of characters stand for, by their letter, as it stands in brackets."""

    are: dict[str, str]
    are_not: dict[str, str]
    """What the capital letter leaves out."""


_ECMA: Final = {"d": "0-9", "w": "A-Za-z0-9_", "s": rf"{_SPACE}\ufeff"}
AS_WRITTEN: Final = Sets(_ECMA, _ECMA)
"""For checks: nobody else's answer is to be refused for how we would read it."""
BY_ALL: Final = Sets(
    _ECMA | {"s": _SPACE},
    {
        "d": r"\p{Nd}",
        "w": r"\p{Alphabetic}\p{L}\p{M}\p{N}\p{Pc}\u200c\u200d",
        "s": rf"{_SPACE}\u001c-\u001f\u0085\u180e\ufeff",
    },
)
"""For what is to be generated: rule 1."""


def plain(pattern: str, *, sets: Sets = BY_ALL) -> str:
    """The same language in plain syntax, as a regular expression for the whole text.

    Raises:
        PatternRefused: with the reason.
    """
    reader = _Reader(pattern, sets)
    alternatives = reader.whole()
    if reader.open_repeat:
        raise PatternRefused("a repeat without its lower bound is read in two ways: write {0,…}")
    return "^(?:" + "|".join(_whole(alternatives)) + ")$"


def matched_whole(pattern: str, *, sets: Sets = BY_ALL) -> str:
    """A pattern that a text has to match from its beginning to its end, in plain syntax and without anchors.

    Raises:
        PatternRefused: with the reason.
    """
    return "(?:" + "|".join(_bare(_Reader(pattern, sets).whole())) + ")"


def readable(pattern: str) -> str:
    """A pattern in plain syntax for whoever checks by it; as it came where it can't be read here."""
    try:
        return plain(pattern, sets=AS_WRITTEN)
    except PatternRefused:
        return pattern


def terms_of(pattern: str) -> "list[list[Term]]":
    """The alternatives of a pattern.

    Raises:
        PatternRefused: with the reason.
    """
    return _Reader(pattern, BY_ALL).whole()


def set_of(characters: str) -> str:
    """A set as it stands in brackets, `[a-z]`, in plain syntax.

    Raises:
        PatternRefused: with the reason.
    """
    (terms,) = terms_of(characters)
    return terms[0].text


def other_than(names: Iterable[str]) -> str:
    """A regular expression for every text that is none of some names."""
    tree: dict[str, Any] = {}
    for name in names:
        node = tree
        for character in name:
            node = node.setdefault(character, {})
        node[""] = {}
    return f"^(?:{_differing(tree)})$"


def _differing(node: dict[str, Any]) -> str:
    """What may follow: nothing, where no name ends; a character with which none goes on; or what differs later."""
    next_ones = sorted(character for character in node if character)
    members = "".join(literal(character) for character in next_ones)
    options = [f"[^{members}]{_ANY}*" if members else f"{_ANY}{_ANY}*"]
    options += [f"{literal(character)}(?:{_differing(node[character])})" for character in next_ones]
    if "" not in node:
        options.append("")
    return "|".join(options)


class Term:
    """One piece of an alternative: a set or character, an anchor, or a group with its alternatives."""

    def __init__(self, text: str = "", *, group: "list[list[Term]] | None" = None, anchor: str = "") -> None:
        self.text = text
        self.group = group
        self.anchor = anchor
        self.repeat = ""
        self.most = 1

    @property
    def weight(self) -> int:
        """About how many states it has."""
        inner = 1 if self.group is None else sum(_weight(terms) for terms in self.group)
        return max(inner, 1) * max(self.most, 1)

    @property
    def bounds(self) -> tuple[int, int | None]:
        """How often it is repeated."""
        known = {"": (1, 1), "*": (0, None), "+": (1, None), "?": (0, 1)}.get(self.repeat)
        if known is not None:
            return known
        least, _, most = self.repeat[1:-1].partition(",")
        return int(least), int(most) if most else None

    def render(self) -> str:
        """In plain syntax. Raises `PatternRefused`."""
        if self.anchor:
            raise PatternRefused(f"'{self.anchor}' can only be held at the ends of an alternative")
        if self.group is None:
            return self.text + self.repeat
        return "(?:" + "|".join("".join(term.render() for term in terms) for terms in self.group) + ")" + self.repeat


def _weight(terms: list[Term]) -> int:
    return 1 + sum(term.weight for term in terms)


def _whole(alternatives: list[list[Term]]) -> list[str]:
    """Alternatives of a search, as alternatives for the whole text."""
    found: list[str] = []
    for terms in alternatives:
        if len(terms) == 1 and terms[0].group is not None and not terms[0].repeat:
            found += _whole(terms[0].group)
            continue
        first = bool(terms) and terms[0].anchor == "^"
        rest = terms[1:] if first else terms
        last = bool(rest) and rest[-1].anchor == "$"
        rest = rest[:-1] if last else rest
        body = "".join(term.render() for term in rest)
        found.append(("" if first else _ANY + "*") + body + ("" if last else _ANY + "*"))
    return found


def _bare(alternatives: list[list[Term]]) -> list[str]:
    """Alternatives for the whole text, whose own anchors say nothing new."""
    found: list[str] = []
    for terms in alternatives:
        if len(terms) == 1 and terms[0].group is not None and not terms[0].repeat:
            found += _bare(terms[0].group)
            continue
        first = 1 if terms and terms[0].anchor == "^" else 0
        last = len(terms) - 1 if len(terms) > first and terms[-1].anchor == "$" else len(terms)
        found.append("".join(term.render() for term in terms[first:last]))
    return found


class _Reader:
    """Reads a pattern from left to right."""

    def __init__(self, pattern: str, sets: Sets) -> None:
        if len(pattern.encode(errors="surrogatepass")) > MAX_PATTERN_BYTES:
            raise PatternRefused(f"the pattern is longer than {MAX_PATTERN_BYTES} bytes")
        self._pattern = pattern
        self._sets = sets
        self._at = 0
        self.open_repeat = False
        """Whether there is one such as `{,3}`: none at all by ECMA-262."""

    def whole(self) -> list[list[Term]]:
        """All alternatives."""
        alternatives = self.alternatives(0)
        if not self.ended:
            raise PatternRefused("unmatched ')'")
        if sum(_weight(terms) for terms in alternatives) > MAX_STATES:
            raise PatternRefused("its repeats multiply to too many states")
        return alternatives

    @property
    def ended(self) -> bool:
        return self._at >= len(self._pattern)

    def alternatives(self, depth: int) -> list[list[Term]]:
        if depth > MAX_NESTING:
            raise PatternRefused("its groups are nested too deeply")
        found: list[list[Term]] = [[]]
        while not self.ended and self._peek() != ")":
            if self._take("|"):
                found.append([])
            else:
                found[-1].append(self._repeated(self._term(depth)))
        return found

    def _peek(self) -> str:
        return self._pattern[self._at : self._at + 1]

    def _take(self, text: str) -> bool:
        if self._pattern.startswith(text, self._at):
            self._at += len(text)
            return True
        return False

    def _next(self) -> str:
        if self.ended:
            raise PatternRefused("it ends too early")
        self._at += 1
        return self._pattern[self._at - 1]

    def _term(self, depth: int) -> Term:
        character = self._next()
        if character in "^$":
            return Term(anchor=character)
        if character == ".":
            return Term(_DOT)
        if character == "(":
            return self._group(depth)
        if character == "[":
            return Term(self._class())
        if character == "\\":
            return self._escape()
        if character in "*+?" or (character == "{" and _REPEAT.match(self._pattern, self._at - 1)):
            raise PatternRefused("nothing to repeat")
        return Term(literal(character))

    def _group(self, depth: int) -> Term:
        if self._peek() == "?" and not self._take("?:"):
            if not (name := _GROUP_NAME.match(self._pattern, self._at)):
                raise PatternRefused("lookaround and flags can't be held")
            self._at = name.end()
        group = self.alternatives(depth + 1)
        if not self._take(")"):
            raise PatternRefused("unclosed group")
        return Term(group=group)

    def _repeated(self, term: Term) -> Term:
        counted = _REPEAT.match(self._pattern, self._at)
        if counted:
            self._at = counted.end()
            self.open_repeat = self.open_repeat or bool(counted[4])
            least = int(counted[1] or 0)
            last = counted[3] or counted[5] if counted[2] or counted[4] else counted[1]
            most = int(last) if last else None
            if most is not None and most < least:
                raise PatternRefused("a repeat whose bounds are out of order")
            if max(least, most or 0) > MAX_REPEAT:
                raise PatternRefused(f"a repeat of more than {MAX_REPEAT}")
            term.repeat = f"{{{least},{'' if most is None else most}}}"
            term.most = max(least, most or 0)
        elif self._peek() in ("*", "+", "?") and not self.ended:
            term.repeat = self._next()
        else:
            return term
        self._take("?")  # lazy or not: the language is the same
        if term.anchor:
            raise PatternRefused("an anchor that is repeated")
        if self._peek() in ("*", "+", "?") and not self.ended:
            raise PatternRefused("nothing to repeat")
        return term

    def _escape(self) -> Term:
        character = self._next()
        if character in self._sets.are:
            return Term(f"[{self._sets.are[character]}]")
        if character.lower() in self._sets.are_not:
            return Term(f"[^{self._sets.are_not[character.lower()]}]")
        if character in "bB":
            raise PatternRefused("word boundaries can't be held")
        if character in "123456789k":
            raise PatternRefused("back references can't be held")
        return Term(literal(self._escaped(character)))

    def _escaped(self, character: str) -> str:
        """The one character that an escape stands for; its first character has been read."""
        if character in _CONTROLS:
            return _CONTROLS[character]
        if character == "0" and not self._peek().isdigit():
            return "\0"
        if character == "c" and re.match("[A-Za-z]", self._peek()):
            return chr(ord(self._next()) % 32)
        if coded := _HEX.match(self._pattern, self._at - 1):
            self._at = coded.end()
            return self._code_point(int(coded[coded.lastindex or 0], 16))
        if character.isascii() and not character.isalnum() and character != "_":
            return character
        raise PatternRefused(f"the escape '\\{character}' can't be held")

    def _code_point(self, code: int) -> str:
        if 0xD800 <= code < 0xDC00 and (
            low := re.compile(r"\\u([dD][c-fC-F][0-9a-fA-F]{2})").match(self._pattern, self._at)
        ):
            self._at = low.end()
            return chr(0x10000 + ((code - 0xD800) << 10) + int(low[1], 16) - 0xDC00)
        if code > 0x10FFFF or 0xD800 <= code < 0xE000:
            raise PatternRefused("an escape that is no character")
        return chr(code)

    def _class(self) -> str:
        negated = self._take("^")
        members: list[str] = []
        shorthands: list[str] = []
        while not self._take("]"):
            first = self._member()
            if len(first) == 2:
                shorthands.append(first[1])
                if self._peek() == "-" and self._pattern[self._at + 1 : self._at + 2] != "]":
                    raise PatternRefused("a range that begins with a set")
                continue
            members.append(self._range(first))
        return self._other_than(members, shorthands) if negated else self._any_of(members, shorthands)

    def _any_of(self, members: list[str], shorthands: list[str]) -> str:
        if any(letter.swapcase() in shorthands for letter in shorthands):  # such as [\s\S]
            return _ANY
        members = members + [self._sets.are[letter] for letter in shorthands if letter.islower()]
        sets = [f"[{''.join(members)}]"] if members else []
        sets += [f"[^{self._sets.are_not[letter.lower()]}]" for letter in shorthands if letter.isupper()]
        if not sets:
            raise PatternRefused("an empty set matches nothing")
        return sets[0] if len(sets) == 1 else f"(?:{'|'.join(sets)})"

    def _other_than(self, members: list[str], shorthands: list[str]) -> str:
        if shorthands and not members and len(shorthands) == 1 and shorthands[0].isupper():
            return f"[{self._sets.are[shorthands[0].lower()]}]"
        if any(letter.isupper() for letter in shorthands):
            raise PatternRefused("a negated set with a negated shorthand and something else in it")
        members = members + [self._sets.are_not[letter] for letter in shorthands]
        return f"[^{''.join(members)}]" if members else _ANY

    def _range(self, first: str) -> str:
        if self._peek() != "-" or self._pattern[self._at + 1 : self._at + 2] in ("]", ""):
            return literal(first)
        self._next()
        last = self._member()
        if len(last) == 2:
            raise PatternRefused("a range that ends with a set")
        if last < first:
            raise PatternRefused("a range out of order")
        return f"{literal(first)}-{literal(last)}"

    def _member(self) -> str:
        """A character of a class; or a shorthand, with its backslash."""
        character = self._next()
        if character != "\\":
            return character
        character = self._next()
        if character.lower() in _ECMA:
            return f"\\{character}"
        return "\b" if character == "b" else self._escaped(character)


def literal(character: str) -> str:
    """One character as it stands for itself.

    Raises:
        PatternRefused: it is none.
    """
    if character.isascii() and character.isalnum():
        return character
    code = ord(character)
    if 0xD800 <= code < 0xE000:
        raise PatternRefused("a lone surrogate")
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
