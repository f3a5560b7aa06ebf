"""The compiler as a process: schemas as callers bring them, and schemas that mean harm."""

import asyncio
import contextlib
import json
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.hostile_schemas import ACCEPTED, REFUSED
from tests.sandbox_processes import Sandboxes

from narthex.core.constrained import ANY_OBJECT, INVALID_SCHEMA
from narthex.core.errors import EngineUnavailable, InvalidRequest, NarthexError
from narthex.ipc.client import Client
from narthex.sandbox import client as client_module
from narthex.sandbox.client import SandboxGrammars

pytestmark = [pytest.mark.anyio, pytest.mark.patient]

PATH = "response_format.json_schema.schema"
UNENDING, _ = REFUSED["patterns that meet"]


def text(schema: Any) -> bytes:
    return json.dumps(schema).encode()


@pytest.fixture
async def sandboxes(tmp_path: Path) -> AsyncIterator[Sandboxes]:
    made = Sandboxes(tmp_path, child="compiler", module="narthex.sandbox.compiler")
    yield made
    made.aclose()


@pytest.fixture
async def grammars(sandboxes: Sandboxes) -> AsyncIterator[SandboxGrammars]:
    client = SandboxGrammars(sandboxes.socket, ensure=sandboxes.ensure)
    yield client
    await client.aclose()


async def refusal(grammars: SandboxGrammars, schema: Any, *, path: str = PATH) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        await grammars.rule(text(schema), path=path)
    assert caught.value.status == 400
    assert caught.value.code == INVALID_SCHEMA
    return caught.value


async def test_it_is_started_with_the_first_schema_and_compiles(
    sandboxes: Sandboxes, grammars: SandboxGrammars
) -> None:
    assert sandboxes.processes == []
    assert (await grammars.rule(ANY_OBJECT, path=PATH)).startswith('%json {"x-guidance":')
    assert len(sandboxes.processes) == 1


async def test_a_refusal_names_its_place_in_the_request(grammars: SandboxGrammars) -> None:
    schema = {"properties": {"a": {"uniqueItems": True}}}
    assert (await refusal(grammars, schema)).param == f"{PATH}.properties.a.uniqueItems"
    again = await refusal(grammars, schema, path="tools[2].function.parameters")  # the same schema, kept
    assert again.param == "tools[2].function.parameters.properties.a.uniqueItems"
    assert (await refusal(grammars, False)).param == PATH


async def test_finished_texts_are_checked(grammars: SandboxGrammars) -> None:
    schema = text(
        {"type": "object", "properties": {"a": {"type": "array", "uniqueItems": True, "items": {"format": "date"}}}}
    )
    assert await grammars.fault(schema, '{"a": ["2024-02-29"]}') is None
    assert await grammars.fault(schema, '{"a": ["2023-02-29"]}') == 'a[0]: "2023-02-29" is not a "date"'
    assert "non-unique" in str(await grammars.fault(schema, '{"a": [1, 1]}'))
    assert str(await grammars.fault(schema, "[]")).startswith("[] is not of type")
    assert str(await grammars.fault(schema, '{"a": ')).startswith("not valid JSON")
    assert str(await grammars.fault(schema, "[" * 100_000)).startswith("not valid JSON")
    with pytest.raises(InvalidRequest) as caught:
        await grammars.fault(text({"type": "x"}), "{}")
    assert caught.value.param == "type"


async def test_the_same_schema_is_compiled_once(sandboxes: Sandboxes, grammars: SandboxGrammars) -> None:
    await grammars.rule(ANY_OBJECT, path=PATH)
    schema = text(REALISTIC)
    assert 50_000 < len(schema) < 64 * 1024
    rules = await asyncio.gather(*(grammars.rule(schema, path=PATH) for _ in range(20)))
    assert len(set(rules)) == 1
    process = sandboxes.running
    assert process is not None
    process.send_signal(signal.SIGKILL)
    sandboxes.ended()
    took = []
    for _ in range(20):
        began = time.monotonic()
        assert await grammars.rule(schema, path=PATH) == rules[0]
        took.append(time.monotonic() - began)
    assert min(took) < 0.001
    assert len(sandboxes.processes) == 1


REALISTIC = {
    "type": "object",
    "properties": {
        f"section_{section}": {
            "type": "object",
            "description": "One part of the report, with all that belongs to it.",
            "properties": {
                f"field_{field}": {
                    "type": "string",
                    "description": "What was found here, in a sentence or two.",
                    "maxLength": 200,
                }
                if field % 3
                else {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 100}, "maxItems": 8}
                for field in range(8)
            },
            "required": [f"field_{field}" for field in range(8)],
            "additionalProperties": False,
        }
        for section in range(47)
    },
    "required": [f"section_{section}" for section in range(47)],
    "additionalProperties": False,
}


async def test_what_is_kept_is_bounded(grammars: SandboxGrammars, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "CACHED_RULES", 2)
    for number in (1, 2, 1, 3):
        await grammars.rule(text({"const": number}), path=PATH)
    assert len(grammars._kept) == 2
    await grammars.aclose()
    grammars._ensure = never  # type: ignore[assignment]
    await grammars.rule(text({"const": 1}), path=PATH)
    await grammars.rule(text({"const": 3}), path=PATH)
    grammars._client = Client(Path("/nonexistent"), name="compiler")
    with pytest.raises(AssertionError, match="asked"):
        await grammars.rule(text({"const": 2}), path=PATH)


async def never(_child: str) -> None:
    raise AssertionError("asked")


@pytest.mark.parametrize("name", REFUSED)
async def test_hostile_schemas_are_refused_soon(name: str, sandboxes: Sandboxes, grammars: SandboxGrammars) -> None:
    await grammars.rule(ANY_OBJECT, path=PATH)
    took: list[float] = []
    while not took or (took[-1] >= 3 and len(took) < 5):  # whoever works beside us may hold one up
        began = time.monotonic()
        error = await refusal(grammars, REFUSED[name][0])
        took.append(time.monotonic() - began)
    assert took[-1] < 3, took
    assert (error.param or "").startswith(PATH)
    assert (await grammars.rule(text({"const": name}), path=PATH)).startswith("%json ")


async def test_hostile_schemas_do_not_pile_up(sandboxes: Sandboxes, grammars: SandboxGrammars) -> None:
    for schema in ACCEPTED.values():
        await grammars.rule(text(schema), path=PATH)
    assert len(sandboxes.processes) == 1


async def test_a_schema_that_has_no_end_costs_nobody_else_anything(
    sandboxes: Sandboxes, grammars: SandboxGrammars
) -> None:
    other = SandboxGrammars(sandboxes.socket, ensure=sandboxes.ensure)  # of another worker
    await grammars.rule(ANY_OBJECT, path=PATH)
    hostile = asyncio.ensure_future(refusal(grammars, UNENDING))
    innocent = [
        *(grammars.rule(text({"const": number}), path=PATH) for number in range(3)),
        *(other.rule(text({"const": number}), path=PATH) for number in range(3)),
    ]
    assert all(rule.startswith("%json ") for rule in await asyncio.gather(*innocent))
    assert (await hostile).message == "The schema took longer than 1 s."
    began = time.monotonic()
    await refusal(grammars, UNENDING)  # it is known now
    assert time.monotonic() - began < 0.5
    assert len(sandboxes.processes) == 1
    await other.aclose()


async def test_owners_take_turns(grammars: SandboxGrammars) -> None:
    """Whoever sends many that take long holds up another by few of them."""
    await grammars.rule(ANY_OBJECT, path=PATH)
    done: list[str] = []

    async def ask(owner: str, schema: dict[str, Any]) -> None:
        with contextlib.suppress(InvalidRequest):
            await grammars.of("anybody").of(owner).rule(text(schema), path=PATH)
        done.append(owner)

    many = (ask("villain", {"const": number, "not": {}}) for number in range(9))
    await asyncio.gather(*many, ask("other", {"const": "mine"}))
    assert done.index("other") <= 2
    assert await grammars.of("other").fault(text({"const": 1}), "1") is None


async def test_a_schema_is_not_to_blame_for_time_that_it_did_not_get(
    sandboxes: Sandboxes, grammars: SandboxGrammars
) -> None:
    """A machine that is too busy must not refuse it, and for as long as that is kept."""
    await grammars.rule(ANY_OBJECT, path=PATH)
    asking = asyncio.ensure_future(grammars.rule(text(REALISTIC), path=PATH))
    os.kill(await forked(sandboxes), signal.SIGALRM)  # as the clock does
    assert (await asking).startswith("%json ")


async def forked(sandboxes: Sandboxes) -> int:
    """The process of a job that is being done."""
    compiler = sandboxes.processes[-1].pid
    children = Path(f"/proc/{compiler}/task/{compiler}/children")
    while not (found := children.read_text().split()):
        await asyncio.sleep(0)
    return int(found[0])


async def test_what_else_ends_the_compiler_is_nobodys_fault(sandboxes: Sandboxes, grammars: SandboxGrammars) -> None:
    """Also where a job's process has only just been forked, and has all that the compiler had."""
    await grammars.rule(ANY_OBJECT, path=PATH)
    asking = asyncio.ensure_future(grammars.rule(text(REALISTIC), path=PATH))
    job = await forked(sandboxes)
    os.kill(job, signal.SIGSTOP)
    sandboxes.processes[-1].send_signal(signal.SIGKILL)
    await asyncio.sleep(0.02)
    os.kill(job, signal.SIGCONT)
    assert (await asking).startswith("%json ")
    assert len(sandboxes.processes) == 2


async def test_nobody_waits_for_the_place_that_another_has_in_its_own_line(grammars: SandboxGrammars) -> None:
    """Also whoever wants the very schema that stands at the end of another's many; it is compiled once all the same."""
    await grammars.rule(text({"const": 1}), path=PATH)
    done: list[str] = []

    async def ask(owner: str, schema: dict[str, Any]) -> str:
        try:
            return await grammars.of(owner).rule(text(schema), path=PATH)
        except InvalidRequest:
            return ""
        finally:
            done.append(owner)

    many = (ask("villain", {"const": number, "not": {}}) for number in range(9))
    *_, theirs, ours = await asyncio.gather(*many, ask("villain", {"const": "same"}), ask("other", {"const": "same"}))
    assert done.index("other") <= 2
    assert theirs == ours != ""


async def test_too_little_memory_is_the_schemas_fault(tmp_path: Path) -> None:
    sandboxes = Sandboxes(
        tmp_path, child="compiler", module="narthex.sandbox.compiler", memory_limit_bytes=160 * 1024 * 1024
    )
    grammars = SandboxGrammars(sandboxes.socket, ensure=sandboxes.ensure)
    try:
        error = await refusal(grammars, UNENDING)
        assert any(why in error.message for why in ("too much memory", "too complex", "took longer")), error.message
        assert (await grammars.rule(text({"const": 1}), path=PATH)).startswith("%json ")
    finally:
        await grammars.aclose()
        sandboxes.aclose()


async def test_a_caller_who_leaves_does_not_take_the_others_along(grammars: SandboxGrammars) -> None:
    await grammars.rule(ANY_OBJECT, path=PATH)
    schema = text(REALISTIC)
    callers = [asyncio.ensure_future(grammars.rule(schema, path=PATH)) for _ in range(3)]
    await asyncio.sleep(0)
    callers[0].cancel()
    rules = await asyncio.gather(*callers, return_exceptions=True)
    assert isinstance(rules[0], asyncio.CancelledError)
    assert isinstance(rules[1], str)
    assert rules[1] == rules[2]


async def test_a_killed_compiler_is_started_again(sandboxes: Sandboxes, grammars: SandboxGrammars) -> None:
    await grammars.rule(ANY_OBJECT, path=PATH)
    sandboxes.processes[-1].send_signal(signal.SIGKILL)
    sandboxes.ended()
    assert (await grammars.rule(text({"const": 1}), path=PATH)).startswith("%json ")
    assert len(sandboxes.processes) == 2


async def test_a_compiler_that_cannot_be_started(tmp_path: Path) -> None:
    async def fails(_child: str) -> None:
        raise EngineUnavailable("No.")

    grammars = SandboxGrammars(tmp_path / "none.sock", ensure=fails)
    answers = await asyncio.gather(*(grammars.rule(ANY_OBJECT, path=PATH) for _ in range(3)), return_exceptions=True)
    assert [type(answer) for answer in answers] == [EngineUnavailable] * 3
    await grammars.aclose()


async def test_nonsense_on_its_socket_does_it_no_harm(sandboxes: Sandboxes, grammars: SandboxGrammars) -> None:
    await grammars.rule(ANY_OBJECT, path=PATH)
    client = Client(sandboxes.socket, name="compiler")
    for operation, payload in (("compile", None), ("check", {"schema": 1}), ("other", {})):
        with pytest.raises(NarthexError):
            await client.call(operation, payload, dict)
    await client.aclose()
    assert (await grammars.rule(text({"const": 1}), path=PATH)).startswith("%json ")
    assert len(sandboxes.processes) == 1
