"""`/v1/completions`, the older endpoint. Source: contract sections 1.6 and 11."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

from narthex.core.chat import StreamOptions
from narthex.core.completions import DEFAULT_PROMPT, CompletionRequest
from narthex.core.errors import NarthexError
from narthex.core.fold import folded
from narthex.core.ports import Call, Decoded, Surface
from narthex.core.stream import (
    ChoiceFinished,
    Event,
    Frame,
    OrderCheck,
    TextDelta,
    Usage,
)
from narthex.dialects.body import Body, Form
from narthex.dialects.fields import (
    BOOLEAN,
    STRING,
    Field,
    array,
    integer,
    invalid,
    nullable,
    wrong_type,
)
from narthex.dialects.guided import constraint_of
from narthex.dialects.inference import INFERENCE, MEMORY
from narthex.dialects.legacy_logprobs import ChoiceLogprobs, LegacyLogprobs
from narthex.dialects.openai_chat_answer import DONE, usage_object
from narthex.dialects.openai_errors import error_body
from narthex.dialects.sampling import NOT_BUILT, OF_VLLM, SHARED, check_shared, sampling_of
from narthex.wire import sse
from narthex.wire.json import encode

MAX_CHOICES = 2048
DEFAULT_LIMIT = 16
"""Of an answer whose caller set none, in tokens."""
_TOKEN = integer(0, 2**31 - 1)
_TOKENS = array(_TOKEN, 1)


def _prompts(value: Any, path: str) -> tuple[str | tuple[int, ...], ...]:
    """All four forms as a tuple of prompts."""
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, list):
        raise wrong_type(path, expected="a string or an array", value=value)
    if not value:
        raise invalid(path, "empty array. Expected at least one prompt.", code="empty_array")
    if isinstance(value[0], str | list):
        prompts: tuple[str | tuple[int, ...], ...] = array(STRING if isinstance(value[0], str) else _TOKENS).parse(
            value, path
        )
        return prompts
    return (_TOKENS.parse(value, path),)


PROMPT = nullable(
    Field(
        _prompts,
        {
            "anyOf": [
                STRING.schema,
                array(STRING, 1).schema,
                _TOKENS.schema,
                array(_TOKENS, 1).schema,
            ]
        },
    )
)

FIELDS: dict[str, Field] = SHARED | {
    "prompt": PROMPT,
    "best_of": integer(0, 128),
    "echo": BOOLEAN,
    "logprobs": integer(0, 5),
    "max_tokens": integer(0),
    "suffix": STRING,
}
REQUIRED = ("model", "prompt")
EXTENSIONS: dict[str, Field] = OF_VLLM | MEMORY | INFERENCE
FORM = Form("completions", FIELDS, REQUIRED, extensions=EXTENSIONS | NOT_BUILT)


def _check(fields: dict[str, Any], prompts: Sequence[Any]) -> None:
    check_shared(fields, limit=fields.get("max_tokens", DEFAULT_LIMIT))
    choices = len(prompts) * max(fields.get("n", 1), fields.get("best_of") or 1)
    if choices > MAX_CHOICES:
        message = f"too many choices. Expected at most {MAX_CHOICES} over all prompts, but got {choices}."
        raise invalid("prompt", message, code="array_above_max_length")


class CompletionsDialect:
    """The OpenAI-compatible text completions surface."""

    surface: Surface = "completions"
    logprobs: Callable[[], ChoiceLogprobs] = LegacyLogprobs

    def decode(self, body: bytes, *, profile: str, strict: bool) -> Decoded:
        """Read and check a request; see `Dialect.decode`."""
        read = FORM.read(body, profile=profile, strict=strict)
        return Decoded(request_of(read, logprobs=read.fields.get("logprobs")), read.ignored)

    def encoder(self, call: Call, *, created: int) -> "CompletionsStream":
        """Write the answer as a stream."""
        return CompletionsStream(call, created=created)

    def encode_answer(self, call: Call, frames: Sequence[Frame], *, created: int) -> bytes:
        """Write the answer whole."""
        fold = folded(frames)
        asked = call.request.sampling.logprobs is not None  # type: ignore[union-attr]
        choices = [
            {
                "text": "".join(choice.text),
                "index": choice.index,
                "logprobs": self.logprobs().object(choice.logprobs or ()) if asked else None,
                "finish_reason": choice.finish_reason,
            }
            for choice in fold.choices
        ]
        usage = usage_object(fold.usage or Usage(prompt_tokens=0))
        return encode(_head(call, created) | {"choices": choices, "usage": usage})


def request_of(read: Body, *, logprobs: int | None) -> CompletionRequest:
    """The request of fields that were checked each for itself. `logprobs`: as in `Sampling`.

    Raises:
        InvalidRequest: they mean nothing together.
    """
    fields = read.fields
    prompts = fields["prompt"] if fields["prompt"] is not None else (DEFAULT_PROMPT,)
    _check(fields, prompts)
    return CompletionRequest(
        model=fields["model"],
        prompts=prompts,
        sampling=sampling_of(fields, max_tokens=fields.get("max_tokens", DEFAULT_LIMIT), logprobs=logprobs),
        stream=fields.get("stream", False),
        stream_options=fields.get("stream_options", StreamOptions()),
        echo=fields.get("echo", False),
        best_of=max(fields.get("best_of", 1), fields.get("n", 1)),
        suffix=fields.get("suffix", ""),
        guided=constraint_of(fields),
        fields=fields,
        sent=read.sent,
    )


def _head(call: Call, created: int) -> dict[str, Any]:
    return {
        "id": f"cmpl-{call.id}",
        "object": "text_completion",
        "created": created,
        "model": call.request.model,
        "system_fingerprint": call.fingerprint,
    }


class CompletionsStream:
    """Writes the stream of one completions call."""

    mark = DONE
    """What it ends with."""
    logprobs: Callable[[], ChoiceLogprobs] = LegacyLogprobs

    def __init__(self, call: Call, *, created: int) -> None:
        request = call.request
        assert isinstance(request, CompletionRequest)  # noqa: S101 - the surface decides the type
        self._with_usage = request.stream_options.include_usage
        self._head = b"data: " + encode(_head(call, created))[:-1] + b',"choices":['
        self._tail = b'],"usage":null}\n\n' if self._with_usage else b"]}\n\n"
        self._order = OrderCheck()
        self._usage: Usage | None = None
        self._logprobs: defaultdict[int, ChoiceLogprobs] = defaultdict(self.logprobs)

    def encode(self, frame: Frame) -> bytes:
        """The events of a frame that carry text or an end."""
        self._order.feed(frame.events)
        self._usage = frame.usage or self._usage
        return b"".join(map(self._event, frame.events))

    def alike(self, frame: Frame) -> None:
        """See `StreamEncoder`: nothing is written as it came."""

    def end(self) -> bytes:
        """The usage, if it was asked for, and the end mark."""
        self._order.end()
        if not self._with_usage:
            return self.mark
        usage = encode(usage_object(self._usage or Usage(prompt_tokens=0)))
        return self._head + b'],"usage":' + usage + b"}\n\n" + self.mark

    def error(self, error: NarthexError) -> bytes:
        """The error as an event; nothing follows it."""
        return sse.encode(error_body(error))

    def _event(self, event: Event) -> bytes:
        match event:
            case TextDelta(choice, text, None):  # nearly all of them
                return self._written(choice, encode(text))
            case TextDelta(choice, text, tuple(logprobs)):
                return self._written(choice, encode(text), logprobs=encode(self._logprobs[choice].object(logprobs)))
            case ChoiceFinished(choice, reason):
                return self._written(choice, b'""', finish=encode(reason))
            case _:
                return b""

    def _written(self, choice: int, text: bytes, *, logprobs: bytes = b"null", finish: bytes = b"null") -> bytes:
        return b'%b{"text":%b,"index":%d,"logprobs":%b,"finish_reason":%b}%b' % (
            self._head, text, choice, logprobs, finish, self._tail,
        )  # fmt: skip
