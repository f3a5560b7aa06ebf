"""The parts of a program: where its classes, functions and the like begin, with what is written above them.

Python is parsed; of other languages a definition is known by its first line, and its level by its indentation.
"""

import ast
import re
import warnings
from collections.abc import Iterable, Iterator

from narthex.retrieval.chunking.layout import Heading
from narthex.retrieval.chunking.structure import Outline

MAX_PARSED_CHARS = 512 * 1024
"""What is longer has been made by a program; its tree would take some hundred times its size."""
_MAX_LEVEL = 6
_MAX_LEADING_LINES = 60
"""Of comments above a definition."""

_MODIFIERS = (
    r"(?:(?:export|default|declare|public|private|protected|internal|static|final|abstract|sealed|virtual|override|"
    r"async|const|unsafe|extern(?:[ \t]+\"[^\"\n]{0,20}\")?|pub(?:\([a-z: ]{1,30}\))?|open|data|inline|partial|local)"
    r"[ \t]++){0,6}+"
)
_WORDS = (
    r"(?:class|interface|struct|enum|trait|impl|union|fn|func|function|def|fun|module|namespace|package|object|record|"
    r"protocol|extension|type|macro_rules!|sub|procedure|defmodule|defp|defmacro)(?:<|[ \t]++[^\s:=])[^\n;]{0,120}+"
)
_TABLES = (
    r"(?i:create[ \t]++(?:or[ \t]++replace[ \t]++)?(?:table|view|function|procedure|index|trigger))\b[^\n]{1,120}+"
)
_NO_FUNCTION = r"(?!(?:if|for|while|switch|return|else|do|case|goto|typedef|using|import|assert|print|del|with)\b)"
_FUNCTION = r"(?<![ \t])" + _NO_FUNCTION + r"[A-Za-z_][\w \t*&:<>,~]{0,100}+\([^;\n]{0,300}+$"
"""As C writes it, at the margin."""
_DEFINITION = re.compile(rf"^(?P<indent>[ \t]*+)(?P<title>{_MODIFIERS}{_WORDS}|{_TABLES}|{_FUNCTION})", re.MULTILINE)
_LEADING = re.compile(r"[ \t]*(?:#|//|/\*|\*|--|@|;;|'''|\"\"\"|<!--|\[)")


def python(text: str) -> Outline:
    """The definitions of a Python program; of one that can't be parsed, as `code`."""
    if len(text) > MAX_PARSED_CHARS or "\0" in text:
        return code(text)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the text, which isn't ours
            tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return code(text)
    starts = _line_starts(text)
    return Outline(lined=True, headings=[_heading(text, starts, *found) for found in _definitions(tree.body, 1)])


def code(text: str) -> Outline:
    """The definitions of a program in any other language."""
    headings = []
    for match in _DEFINITION.finditer(text):
        level = min(1 + len(match["indent"].expandtabs(4)) // 2, _MAX_LEVEL)
        title = match["title"].strip().rstrip("{(,: \t")
        headings.append(Heading(start=_with_leading(text, match.start()), level=level, title=title))
    return Outline(lined=True, headings=_in_order(headings))


def _definitions(body: Iterable[ast.stmt], level: int) -> Iterator[tuple[int, int, str]]:
    for node in body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            word = "class" if isinstance(node, ast.ClassDef) else "def"
            yield first, level, f"{word} {node.name}"
            if level < _MAX_LEVEL:
                yield from _definitions(node.body, level + 1)
        elif isinstance(node, ast.If | ast.Try):
            yield from _definitions(node.body, level)


def _heading(text: str, starts: list[int], line: int, level: int, title: str) -> Heading:
    return Heading(start=_with_leading(text, starts[line - 1]), level=level, title=title)


def _line_starts(text: str) -> list[int]:
    """Where Python's own lines begin."""
    starts = [0]
    starts += [match.end() for match in re.finditer(r"\r\n|\n|\r", text)]
    return starts


def _with_leading(text: str, start: int) -> int:
    """From where the comments and marks directly above a line begin."""
    for _ in range(_MAX_LEADING_LINES):
        if start == 0:
            break
        above = text.rfind("\n", 0, start - 1) + 1
        if _LEADING.match(text, above, start) is None:
            break
        start = above
    return start


def _in_order(headings: list[Heading]) -> list[Heading]:
    """Without those that begin where the one before them does."""
    kept: list[Heading] = []
    for heading in headings:
        if not kept or heading.start > kept[-1].start:
            kept.append(heading)
    return kept
