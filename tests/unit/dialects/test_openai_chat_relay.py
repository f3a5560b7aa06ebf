"""Chunks that are passed on quickly say what they say when they are passed on member by member."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from typing_extensions import override

from narthex.core.ports import Call
from narthex.core.stream import Frame
from narthex.dialects.openai_chat_answer import FORMAT, ChatStream
from narthex.dialects.openai_chat_relay import ChunkRelay, said_of_all
from narthex.wire.sse import SseDecoder

MakeCall = Callable[..., Call]

ASKED: list[dict[str, Any]] = [
    {"stream": True},
    {"stream": True, "stream_options": {"include_usage": True}},
    {"stream": True, "service_tier": "auto"},
    {"stream": True, "n": 2},
]
USUAL = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "y"}
SAID = {"index": 0, "delta": {"content": "Hi"}, "finish_reason": None}


def read(data: bytes) -> list[Any]:
    assert data == b"" or data.endswith(b"\n\n")
    return [json.loads(event.data) for event in SseDecoder().feed(data)]


class Counting(ChunkRelay):
    """Counts what it reads."""

    read = 0

    @override
    def _read(self, data: bytes) -> bytes:
        self.read += 1
        return super()._read(data)


def compare(call: Call, chunks: list[bytes]) -> int:
    """Relay the chunks both ways; returns how many were passed on quickly."""
    slow, quick = (ChatStream(call, created=7)._relay for _ in range(2))
    counted = Counting(quick._edits_after, choices=quick._choices, with_usage=quick._with_usage)
    for chunk in chunks:
        assert read(counted.passed_on(chunk)) == read(slow._read(chunk)), chunk
    return len(chunks) - counted.read


def written(before: Any, choices: Any, after: Any, *, spaced: bool = False) -> bytes:
    separators = (", ", ": ") if spaced else (",", ":")
    return json.dumps({**before, "choices": choices, **after}, separators=separators, ensure_ascii=False).encode()


# --- any chunks ------------------------------------------------------------------------------------------------------

_TEXTS = st.sampled_from(
    ["Hi", "", "role", "usage", "choices", '"usage"', '"choices":', '{"choices":[{"index":0}]}', ',"usage":null}', "\n",
     "\\", '\\"', "äöü", "😀", "\u2028", "}", '"}]}', '],"usage":null}'],
) | st.text(max_size=4)  # fmt: skip
_ANY: st.SearchStrategy[Any] = (
    st.none() | st.booleans() | st.integers(-9, 9) | _TEXTS | st.just([]) | st.just({"choices": [{"a": 1}]})
)


def _some(**values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=values)


_CALLS = st.lists(_some(index=st.integers(0, 1), id=_TEXTS, function=_some(name=_TEXTS, arguments=_TEXTS)), max_size=2)
_DELTA = st.just({"content": "Hi"}) | _some(
    role=st.just("assistant"), content=st.none() | _TEXTS, reasoning=_TEXTS, reasoning_content=_TEXTS,
    tool_calls=_CALLS, x=_ANY,
)  # fmt: skip
_CHOICE = st.just(SAID) | st.fixed_dictionaries(
    {"index": st.integers(0, 1), "delta": _DELTA},
    optional={"finish_reason": st.sampled_from([None, "stop"]), "logprobs": st.none(), "usage": _ANY, "x": _ANY},
)
_CHOICES = st.just([SAID]) | st.lists(_CHOICE, max_size=2)
_AROUND = st.sampled_from([{}, USUAL, {"usage": None}, USUAL | {"usage": None}]) | _some(
    id=st.just("x"), object=st.just("y"), created=st.just(1), model=st.just("z"), usage=_ANY, service_tier=_ANY,
    system_fingerprint=st.sampled_from(["fp", None]), obfuscation=_TEXTS, x_groq=_ANY, provider=_ANY,
)  # fmt: skip


@st.composite
def _streams(draw: st.DrawFn) -> list[bytes]:
    """Chunks of a server: what stands around the choices comes from a few forms, so that it comes again."""
    forms = draw(st.lists(st.tuples(_AROUND, _AROUND, st.booleans()), min_size=1, max_size=2))
    chunks = []
    for _ in range(draw(st.integers(1, 8))):
        before, after, spaced = draw(st.sampled_from(forms))
        chunks.append(written(before, draw(_CHOICES), after, spaced=spaced))
    return chunks


def _pretty(chunk: bytes) -> bytes:
    return json.dumps(json.loads(chunk), indent=1).encode()


@given(_streams(), st.sampled_from(ASKED), st.booleans())
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@example([written({"x": {"choices": [SAID]}}, [SAID], {}), written({"x": {"choices": [SAID] * 2}}, [SAID], {})] * 2,
         ASKED[0], False)  # fmt: skip
@example([written({}, [SAID], USUAL), written({}, [], USUAL)] * 2, ASKED[0], False)
@example([written(USUAL, [SAID], {}), written(USUAL, [SAID], {"x_groq": {"usage": 1}})] * 2, ASKED[0], False)
@example([written(USUAL, [SAID], {"usage": None}), written(USUAL, [], {"usage": {"prompt_tokens": 1}})] * 2,
         ASKED[1], False)  # fmt: skip
@example([b'{"x":[1,\n2],"choices":[{"index":0,"delta":{"content":"Hi"}}]}'] * 4, ASKED[0], False)
def test_either_way_says_the_same(
    make_call: MakeCall, chunks: list[bytes], asked: dict[str, Any], pretty: bool
) -> None:
    if pretty:
        chunks = [_pretty(chunk) if at % 2 else chunk for at, chunk in enumerate(chunks)]
    compare(make_call("chat", asked), chunks)


def _saying(text: str, **more: Any) -> bytes:
    return written(USUAL, [SAID | {"delta": {"content": text, **more}}], {})


@given(st.lists(_TEXTS, min_size=1, max_size=8), st.booleans())
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@example(["a", '","x":"', "a\\", '\\"', '"},"finish_reason":null}]}', "b"], False)
@example(["", "a", ""], True)
@example(["a\\", "b"], False)
def test_any_text_is_told_as_it_was(make_call: MakeCall, texts: list[str], others: bool) -> None:
    chunks = []
    for text in texts:
        chunks.append(_saying(text))
        if others:
            chunks += [_saying(text, x=text), written(USUAL, [SAID, SAID | {"index": 1}], {}), _saying("")]
    compare(make_call("chat", ASKED[0]), [_saying("Hi"), _saying("Hi"), *chunks])


def test_a_chunk_that_is_shorter_than_what_stands_around_texts_is_looked_at(make_call: MakeCall) -> None:
    """Its beginning and its end are what they were, but they share bytes."""
    around = written({}, [{"delta": {"content": "TEXT"}}], {"a": {"content": '"}}]', "b": [{"c": {"d": 1}}]}})
    start, end = around.split(b"TEXT")
    shared = next(size for size in range(len(end), 0, -1) if start.endswith(end[:size]))
    short = start + end[shared:]
    stream = ChatStream(make_call("chat", ASKED[0]), created=7)
    for _ in range(3):
        stream.encode(Frame(FORMAT, around))
    assert stream.alike(Frame(FORMAT, around)) is not None
    assert stream.alike(Frame(FORMAT, short)) is None


# --- the usual ones --------------------------------------------------------------------------------------------------

_ROLE = {"index": 0, "delta": {"role": "assistant", "content": ""}, "logprobs": None, "finish_reason": None}
STYLES: dict[str, tuple[dict[str, Any], dict[str, Any], bool]] = {
    "openai": (USUAL | {"service_tier": "default", "system_fingerprint": "fp"}, {"usage": None}, False),
    "vllm": (USUAL, {}, False),
    "spaced": (USUAL, {"system_fingerprint": None}, True),
    "llama.cpp": ({}, {"created": 1, "id": "x", "model": "y", "system_fingerprint": "b1", "object": "z"}, False),
}


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("asked", ASKED[:3], ids=json.dumps)
def test_nearly_all_chunks_are_passed_on_quickly(style: str, asked: dict[str, Any], make_call: MakeCall) -> None:
    before, after, spaced = STYLES[style]
    texts = [*"Hello", '"usage":', '"choices":[', "äöü😀", "\n"]
    chunks = [written(before, [_ROLE], after, spaced=spaced)]
    chunks += [written(before, [SAID | {"delta": {"content": text}}], after, spaced=spaced) for text in texts]
    assert compare(make_call("chat", asked), chunks) == len(texts)


def test_what_changes_around_the_choices_is_looked_at_each_time(make_call: MakeCall) -> None:
    chunks = [written(USUAL, [SAID], {"obfuscation": "x" * at}) for at in range(5)]
    assert compare(make_call("chat"), chunks) == 0


# --- what is said of the whole answer ---------------------------------------------------------------------------------


def test_what_chunks_say_of_the_whole_answer_is_told_apart() -> None:
    chunk = written({**USUAL, "system_fingerprint": "f", "service_tier": "default"}, [SAID], {"usage": None})
    assert said_of_all(chunk) == {"system_fingerprint": "f", "service_tier": "default"}
    assert said_of_all(written(USUAL, [SAID], {})) == {}
