"""Guided output in bulk: every surface, every way to ask for it, whole and streamed, cut anywhere, at a temperature.

What is finished is valid, and what is cut is a beginning, by readers of other make than the compiler: `tests.prefixes`.
"""

import asyncio
import json
import random
import re
from collections.abc import Iterator
from typing import Any

import httpx2
import jsonschema_rs
import pytest
from tests.grammars import ARITHMETIC, GRAMMARS, JSON, PATTERNS, TWINS
from tests.guided_calls import PATHS, Case, Verdict, body_of, told
from tests.prefixes import begins, begins_json
from tests.schemas import BOUNDED
from tests.server_process import Server

pytest_plugins = ["tests.models_fixture", "tests.server_fixture"]
pytestmark = [pytest.mark.anyio, pytest.mark.soak, pytest.mark.timeout(3000)]

CHOICES: list[list[str]] = [
    ["yes", "no"],
    ["yes", "yes, of course", "no", "no, never"],
    ["été", "hiver", "e\u0301te"],
    ["a\nb", "c\td", "\r\n", "\u2028"],
    ['"quoted"', "{braces}", "[brackets]", "\\n"],
    ["😀", "😢", "👩‍👩‍👧", "🇩🇪"],
    [".*", "a|b", "(c)", "^$", "<|im_end|>"],
    [f"item {number}" for number in range(1000)],
    ["one"],
    ["日本語", "中文", "한국어", "العربية", "עברית"],
]
EXTRAS = ("guided", "structured_outputs")
AT_ONCE = 4
LIMIT = 48


def cases() -> Iterator[Case]:
    """20 regular expressions, 10 lists of choices, 14 grammars, 30 schemas."""
    for pattern, _, _ in PATTERNS.values():
        yield Case("regex", pattern, *_by(pattern))
    for options in CHOICES:
        yield Case("choice", options, options.__contains__, lambda text, of=tuple(options): any(
            option.startswith(text) for option in of
        ))  # fmt: skip
    for name, twin in TWINS.items():
        yield Case("grammar", GRAMMARS[name][0], *_by(twin))
    yield Case("grammar", ARITHMETIC, lambda text: _sum(text, whole=True), lambda text: _sum(text, whole=False))
    plain_numbers = JSON.replace("[0-9]+", '("0" | [1-9][0-9]{0,8})')
    yield Case("grammar", plain_numbers, *_json({"type": "object"}))
    for schema in BOUNDED.values():
        yield Case("json", schema, *_json(schema))


def _by(pattern: str) -> tuple[Verdict, Verdict]:
    return lambda text: re.fullmatch(pattern, text) is not None, lambda text: begins(pattern, text)


def _json(schema: Any) -> tuple[Verdict, Verdict]:
    validator = jsonschema_rs.Draft202012Validator(schema, validate_formats=True)
    return lambda text: validator.is_valid(json.loads(text)), lambda text: begins_json(schema, text)


def _sum(text: str, *, whole: bool) -> bool:
    """Whether a text is a sum in brackets of numbers of up to three digits, or begins as one."""
    depth, digits, before = 0, 0, "("
    for character in text:
        digits = digits + 1 if character.isdecimal() else 0
        fits = {"(": before in "(+", ")": before in "0)" and depth > 0, "+": before in "0)"}
        if not (fits.get(character.replace("-", "+")) or (digits and digits <= 3 and before in "(+0")):
            return False
        depth += {"(": 1, ")": -1}.get(character, 0)
        before = "0" if digits else character.replace("-", "+")
    return not whole or (depth == 0 and before in "0)")


def asked(path: str, case: Case) -> Iterator[str]:
    """The ways to ask for a constraint."""
    yield from EXTRAS
    if case.kind == "json" and "chat" in path:
        yield "response_format"


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("path", PATHS)
async def test_all_of_them(path: str, stream: bool, shallow_server: Server) -> None:
    draw = random.Random(f"{path} {stream}")
    todo = [(case, way) for case in cases() for way in asked(path, case)]
    assert len(todo) >= 140
    seen: dict[str | None, int] = {}
    faults: list[Any] = []

    async def one(case: Case, way: str, fields: dict[str, Any]) -> None:
        async with turns:
            answer = await told(client, path, body_of(path, case, way) | fields)
        seen[answer.finish] = seen.get(answer.finish, 0) + 1
        cut = answer.finish == "length" or (answer.finish == "stop" and "stop" in fields)
        held = answer.finish in ("stop", "length") and (case.begun if cut else case.whole)(answer.text)
        if answer.status != 200 or answer.error or not held or any(s in answer.text for s in fields.get("stop", ())):
            faults.append((case.kind, str(case.value)[:200], way, fields, answer))

    turns = asyncio.Semaphore(AT_ONCE)
    headers = {"authorization": f"Bearer {shallow_server.admin_key}"}
    async with httpx2.AsyncClient(base_url=shallow_server.url, headers=headers, timeout=300) as client:
        jobs = []
        for case, way in todo:
            how = {"stream": stream, "seed": draw.randrange(10**6), "temperature": draw.choice((0.0, 1.0, 1.0, 1.9))}
            jobs.append(one(case, way, how | {"max_tokens": LIMIT}))
            jobs.append(one(case, way, how | {"max_tokens": draw.randrange(1, 12), "temperature": 1}))
            stop = draw.choice(["a", "1", ", ", "e", "-", "\n", ".", "}"])
            jobs.append(one(case, way, how | {"max_tokens": LIMIT // 2, "stop": [stop]}))
        await asyncio.gather(*jobs)
    print(path, "streamed" if stream else "whole", seen)
    assert not faults, "\n".join(map(str, faults[:20]))
    assert seen["stop"] > len(todo)
    assert seen["length"] > len(todo) // 4
