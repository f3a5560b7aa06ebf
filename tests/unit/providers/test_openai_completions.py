"""Completions as servers of OpenAI's format take and answer them."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from narthex.core.completions import CompletionRequest
from narthex.core.embeddings import EmbeddingsRequest
from narthex.core.errors import NarthexError, UpstreamProtocolError, UpstreamRateLimited, UpstreamUnavailable
from narthex.core.fold import Fold, FoldedChoice, folded
from narthex.core.stream import Event, Frame, OrderCheck, TokenLogprob, UsageReported
from narthex.dialects.legacy_logprobs import LegacyLogprobs
from narthex.dialects.openai_completions import CompletionsDialect
from narthex.providers.openai_completions import CompletionsDecoder, OpenAICompletions
from narthex.providers.openai_rows import Row, native
from narthex.wire.sse import encode

CORPUS = Path(__file__).parents[2] / "corpus" / "openai_completions"
CASES = sorted(CORPUS.glob("*.sse"))
CHOICES = {"prompts_and_choices": 4}


def completion(**fields: Any) -> CompletionRequest:
    body = json.dumps({"model": "m", "prompt": "Once"} | fields).encode()
    request = CompletionsDialect().decode(body, profile="openai", strict=True).request
    assert isinstance(request, CompletionRequest)
    return request


def built(codec: OpenAICompletions | None = None, **fields: Any) -> dict[str, Any]:
    body: dict[str, Any] = json.loads((codec or OpenAICompletions()).build(completion(**fields), model="theirs"))
    return body


def events(frames: list[Frame]) -> list[Event]:
    return [event for frame in frames for event in frame.events]


def frames(case: Path, *pieces: bytes) -> list[Frame]:
    decoder = CompletionsDecoder(choices=CHOICES.get(case.stem, 1))
    return [*(frame for piece in pieces for frame in decoder.feed(piece)), *decoder.end()]


def plain(found: list[Event]) -> list[Any]:
    """As the corpus writes them."""
    return [
        [type(event).__name__, {name: value for name, value in _json(event).items() if value is not None}]
        for event in found
    ]


def _json(event: Event) -> dict[str, Any]:
    return msgspec.json.decode(msgspec.json.encode(event), type=dict[str, Any])


def chunk(*choices: dict[str, Any], **fields: Any) -> bytes:
    return encode(json.dumps({"choices": choices} | fields).encode())


STOP = chunk({"index": 0, "text": "", "finish_reason": "stop"})


def decoded(*chunks: bytes, choices: int = 1) -> list[Frame]:
    decoder = CompletionsDecoder(choices=choices)
    return [*(frame for each in chunks for frame in decoder.feed(each)), *decoder.end()]


# --- requests --------------------------------------------------------------------------------------------------------


def test_the_caller_s_own_fields_as_a_stream_with_usage_and_a_limit() -> None:
    assert built(prompt=["a", "b"], n=2, echo=True, logprobs=3, seed=7, stream=True) == {
        "model": "theirs", "prompt": ["a", "b"], "n": 2, "echo": True, "logprobs": 3, "seed": 7, "max_tokens": 16,
        "stream": True, "stream_options": {"include_usage": True},
    }  # fmt: skip
    assert built(max_tokens=0)["max_tokens"] == 0


def test_no_prompt_is_the_beginning_of_a_text() -> None:
    assert built(prompt=None)["prompt"] == "<|endoftext|>"


def test_the_best_of_several_is_chosen_here() -> None:
    body = built(best_of=3, n=2)
    assert (body["n"], body["logprobs"]) == (3, 0)
    assert "best_of" not in body
    assert built(best_of=3, logprobs=2)["logprobs"] == 2
    assert "n" not in built(OpenAICompletions(Row(honoured=native("model", "prompt"))), best_of=1)


def test_is_asked_for_nothing_else() -> None:
    with pytest.raises(NarthexError):
        OpenAICompletions().build(EmbeddingsRequest(model="m", fields={}, sent={}), model="m")


# --- answers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_the_corpus_whole_bytewise_and_cut_everywhere(case: Path) -> None:
    stream = case.read_bytes()
    whole = events(frames(case, stream))
    assert plain(whole) == json.loads(case.with_suffix(".events.json").read_text())
    order = OrderCheck()
    order.feed(whole)
    order.end()
    assert events(frames(case, *(stream[i : i + 1] for i in range(len(stream))))) == whole
    for cut in range(len(stream)):
        assert events(frames(case, stream[:cut], stream[cut:])) == whole


def test_every_prompt_and_choice_has_to_finish() -> None:
    decoder = OpenAICompletions().decoder(completion(prompt=["a", "b"], n=2))
    for _ in decoder.feed(b"".join(chunk({"index": at, "text": "x", "finish_reason": "stop"}) for at in range(3))):
        pass
    with pytest.raises(UpstreamProtocolError):
        list(decoder.end())


@pytest.mark.parametrize(
    "data",
    [
        encode(b"{"),
        encode(b"\xff"),
        chunk({"index": 1, "text": "x"}),
        chunk({"index": -1, "text": "x"}),
        chunk({"index": 0, "text": "x", "finish_reason": "error"}),
        chunk({"index": 0, "text": "x", "logprobs": {"tokens": ["a"], "token_logprobs": []}}),
        chunk({"index": 0, "text": "x", "logprobs": {"tokens": ["a"], "token_logprobs": [-1], "top_logprobs": []}})
        + chunk({"index": 0, "text": "x", "logprobs": {"tokens": [], "token_logprobs": [], "top_logprobs": [{}]}}),
    ],
)
def test_what_can_t_be_read_is_an_error(data: bytes) -> None:
    with pytest.raises(UpstreamProtocolError):
        decoded(data)


@pytest.mark.parametrize(
    ("error", "kind"),
    [({"message": "x", "code": 429}, UpstreamRateLimited), ({"message": "x"}, UpstreamUnavailable)],
)
def test_an_error_in_the_stream_comes_after_what_was_before_it(error: Any, kind: type[Exception]) -> None:
    decoder = CompletionsDecoder(choices=1)
    found = decoder.feed(chunk({"index": 0, "text": "a"}) + chunk(error=error))
    assert len(next(found).events) == 2
    with pytest.raises(kind):
        next(found)


def test_what_comes_after_the_end_is_nothing() -> None:
    late = chunk({"index": 0, "text": "late"})
    whole = decoded(STOP, late, chunk(usage=None), encode(b"[DONE]") + late)
    assert "".join(folded(whole).choices[0].text) == ""


def test_logprobs_survive_the_way_through() -> None:
    told = {
        "tokens": ["bytes:\\xf0\\x9f", "bytes:\\x98\\x80", "bytes:no", "bytes:\\x😀"],
        "token_logprobs": [None, -0.5, -1.0, -2.0],
        "top_logprobs": [None, {"bytes:\\x98\\x80": -0.5, "a": -0.25}, {"bytes:no": -1.0}, {"bytes:\\x😀": -2.0}],
        "text_offset": [0, 0, 1, 9],
    }
    text = "😀bytes:nobytes:\\x😀"
    frame = decoded(chunk({"index": 0, "text": text, "logprobs": told, "finish_reason": "stop"}))
    entries = folded(frame).choices[0].logprobs
    assert entries is not None
    assert "".join(folded(frame).choices[0].text) == text
    assert b"".join(entry.data for entry in entries).decode() == text
    assert LegacyLogprobs().object(entries) == told | {
        "top_logprobs": [None, {"a": -0.25, "bytes:\\x98\\x80": -0.5}, {"bytes:no": -1.0}, {"bytes:\\x😀": -2.0}]
    }


# --- the best of several ---------------------------------------------------------------------------------------------


def candidate(index: int, text: str, *logprobs: float | None) -> bytes:
    tokens = {"tokens": [text] * len(logprobs), "token_logprobs": logprobs}
    return chunk({"index": index, "text": text * len(logprobs), "logprobs": tokens, "finish_reason": "stop"})


def chosen(*chunks: bytes, **fields: Any) -> Fold:
    decoder = OpenAICompletions().decoder(completion(**fields))
    held = [frame for each in chunks for frame in decoder.feed(each)]
    assert [frame.events for frame in held] == [()] * len(held)  # something comes, nothing is decided
    return folded([*held, *decoder.end()])


def text(choice: FoldedChoice) -> str:
    return "".join(choice.text)


def test_the_likeliest_are_passed_on_in_their_order() -> None:
    candidates = (
        candidate(0, "a", -3.0),
        candidate(1, "b", -1.0, -1.0),
        candidate(2, "c", -2.0),
        candidate(3, "d"),
        candidate(4, "e", -9.0),
        candidate(5, "f", -8.0),
    )
    fields = {"prompt": ["x", "y"], "best_of": 3, "n": 2}
    fold = chosen(*candidates, chunk(usage={"prompt_tokens": 2, "completion_tokens": 7}), **fields)
    assert [(choice.index, text(choice)) for choice in fold.choices] == [(0, "bb"), (1, "c"), (2, "f"), (3, "e")]
    assert fold.usage is not None
    assert fold.usage.completion_tokens == 7
    assert fold.choices[0].logprobs is None
    told = chosen(*candidates[:3], best_of=3, logprobs=1)
    assert told.choices[0].logprobs == [TokenLogprob(token="b", logprob=-1.0, bytes_=b"b")] * 2
    assert told.usage is None


@pytest.mark.parametrize("prompt", ["aa", [7, 8]])
def test_an_echoed_prompt_is_not_ranked_by(prompt: Any) -> None:
    likely_end = candidate(0, "a", None, -9.0, -1.0)
    unlikely_end = candidate(1, "a", None, -9.0, -2.0, -2.0, -2.0)
    fold = chosen(unlikely_end, likely_end, prompt=prompt, best_of=2, echo=True)
    assert [text(choice) for choice in fold.choices] == ["aaa"]
    assert (
        len(chosen(candidate(0, "a", None), candidate(1, "a", None), prompt=prompt, best_of=2, echo=True).choices) == 1
    )


def test_the_usage_comes_last() -> None:
    frame = decoded(STOP, chunk(usage={"prompt_tokens": 3, "completion_tokens": 2}))[-1]
    assert isinstance(frame.events[0], UsageReported)
    assert frame.usage is not None
