"""`/v1/chat/completions`: reading requests. Source: contract sections 1.2 and 11. The answers are in
`openai_chat_answer`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from narthex.core.chat import ChatRequest, StreamOptions
from narthex.core.ports import Call, Decoded, Surface
from narthex.core.stream import Frame
from narthex.core.tools import CACHED
from narthex.dialects import profiles
from narthex.dialects.alike import Usual
from narthex.dialects.body import Body, Form
from narthex.dialects.fields import (
    BOOLEAN,
    STRING,
    Field,
    array,
    choice,
    either,
    integer,
    invalid,
    missing,
    record,
    string,
)
from narthex.dialects.guided import constraint_of
from narthex.dialects.inference import INFERENCE, MEMORY
from narthex.dialects.messages import MESSAGES, unanswered_tool_result
from narthex.dialects.openai_chat_answer import ChatStream, encode_answer
from narthex.dialects.openai_chat_passed import is_passed_on, passed_on
from narthex.dialects.profiles import VOICES
from narthex.dialects.sampling import METADATA, NOT_BUILT, OF_VLLM, SHARED, check_shared, sampling_of
from narthex.dialects.tools import (
    FUNCTION_CHOICE,
    FUNCTIONS,
    RESPONSE_FORMAT,
    TOOL_CHOICE,
    TOOLS,
    check_tools,
    format_of,
    tools_of,
)

_TEXT_PARTS = array(record({"type": choice("text"), "text": STRING}, required=("type", "text")), 1)
_LOCATION = record({"country": STRING, "region": STRING, "city": STRING, "timezone": STRING})
_SCORING = record({"mode": choice("score", "block")})

FIELDS: dict[str, Field] = SHARED | {
    "messages": MESSAGES,
    "store": BOOLEAN,
    "metadata": METADATA,
    "logprobs": BOOLEAN,
    "top_logprobs": integer(0, 20),
    "max_tokens": integer(1),
    "max_completion_tokens": integer(1),
    "modalities": array(choice("text", "audio"), 1),
    "prediction": record(
        {
            "type": choice("content"),
            "content": either((str, STRING), (list, _TEXT_PARTS), expected="a string or an array of text parts"),
        },
        required=("type", "content"),
    ),
    "audio": record(
        {
            "voice": either(
                (str, choice(*VOICES)),
                (dict, record({"id": STRING}, required=("id",))),
                expected="a voice's name or an object with its id",
            ),
            "format": choice("wav", "aac", "mp3", "flac", "opus", "pcm16"),
        },
        required=("voice", "format"),
    ),
    "response_format": RESPONSE_FORMAT,
    "service_tier": choice("auto", "default", "flex", "scale", "priority", "fast"),
    "tools": TOOLS,
    "tool_choice": TOOL_CHOICE,
    "parallel_tool_calls": BOOLEAN,
    "functions": FUNCTIONS,
    "function_call": FUNCTION_CHOICE,
    "reasoning_effort": choice("none", "minimal", "low", "medium", "high", "xhigh", "max"),
    "verbosity": choice("low", "medium", "high"),
    "web_search_options": record(
        {
            "user_location": record(
                {"type": choice("approximate"), "approximate": _LOCATION}, required=("type", "approximate")
            ),
            "search_context_size": choice("low", "medium", "high"),
        }
    ),
    "safety_identifier": string(longest=64),
    "prompt_cache_key": STRING,
    "prompt_cache_retention": choice("in_memory", "in-memory", "24h"),
    "prompt_cache_options": record({"ttl": choice("30m"), "mode": choice("implicit", "explicit")}),
    "moderation": record(
        {"model": STRING, "policy": record({"input": _SCORING, "output": _SCORING})}, required=("model",)
    ),
}
REQUIRED = ("model", "messages")
STREAMED_AUDIO = "pcm16"
_NO_OPTIONS = StreamOptions()
_ALONE = frozenset(
    (
        "model", "messages", "temperature", "top_p", "max_tokens", "max_completion_tokens", "seed", "stop", "user", "n",
        "frequency_penalty", "presence_penalty", "stream",
    )
)  # fmt: skip
"""Fields that go together with any others."""
_ABOUT_MESSAGES = frozenset(("metadata", "store", "functions", "function_call", "modalities", "audio", "prediction"))
"""Fields of requests that are all read anew: what they ask for has to do with the messages, or with being kept."""
_CALLS = (("tools", "tool_choice"), ("functions", "function_call"))
EXTENSIONS: dict[str, Field] = OF_VLLM | MEMORY | INFERENCE | {"best_of": integer(1, 128), "echo": BOOLEAN}
FORM = Form("chat", FIELDS, REQUIRED, extensions=EXTENSIONS | NOT_BUILT)


def _check(fields: dict[str, Any]) -> None:
    """Refuse combinations that mean nothing."""
    if not fields.keys() <= _ALONE:
        _check_together(fields)
    if (error := unanswered_tool_result(fields["messages"])) is not None:
        raise error


def _may_call(fields: Mapping[str, Any], owner: str, choice: str) -> bool:
    return owner in fields and fields.get(choice) != "none"


def _check_together(fields: dict[str, Any]) -> None:
    check_shared(fields, limit=_limit(fields))
    check_tools(fields)
    if fields.get("best_of", 1) > 1 and any(_may_call(fields, owner, choice) for owner, choice in _CALLS):
        raise invalid("best_of", "it can't be used with tools that may be called.")
    if fields.get("top_logprobs") is not None and not fields.get("logprobs"):
        raise invalid("top_logprobs", "it is only allowed when 'logprobs' is true.")
    if "audio" in fields.get("modalities", ()):
        _check_audio(fields)


def _check_audio(fields: Mapping[str, Any]) -> None:
    if "audio" not in fields:
        raise missing("audio")
    if fields.get("stream") and fields["audio"]["format"] != STREAMED_AUDIO:
        message = f"with 'stream' only '{STREAMED_AUDIO}' is supported."
        raise invalid("audio.format", message, code="unsupported_value")


def _limit(fields: Mapping[str, Any]) -> int | None:
    """How long the answer may be, in tokens."""
    limit: int | None = fields.get("max_completion_tokens", fields.get("max_tokens"))
    return limit


def _is_idle(fields: dict[str, Any]) -> bool:
    """Whether there are metadata, but nothing that is to be stored with them (contract 11)."""
    return "metadata" in fields and not fields.get("store")


class ChatDialect:
    """The OpenAI-compatible chat surface."""

    surface: Surface = "chat"

    def __init__(self) -> None:
        self._usual = Usual(FIELDS.keys() - _ABOUT_MESSAGES)

    def decode(self, body: bytes, *, profile: str, strict: bool) -> Decoded:
        """Read and check a request; see `Dialect.decode`."""
        usual = profiles.row(profile, self.surface) is None
        if usual and (request := self._usual.read(body)) is not None:
            return Decoded(request)
        read = FORM.read(body, profile=profile, strict=strict)
        request = request_of(read)
        if usual and not read.ignored:
            self._usual.note(body, request)
        return Decoded(request, (*read.ignored, "metadata") if _is_idle(read.fields) else read.ignored)

    def encoder(self, call: Call, *, created: int) -> ChatStream:
        """Write the answer as chunks."""
        return ChatStream(call, created=created)

    def encode_answer(self, call: Call, frames: Sequence[Frame], *, created: int) -> bytes:
        """Write the answer whole."""
        if is_passed_on(call, frames):
            return passed_on(call, frames[0], created=created)
        return encode_answer(call, frames, created=created)


def request_of(read: Body) -> ChatRequest:
    """The request of fields that were checked each for itself.

    Raises:
        InvalidRequest: they mean nothing together.
    """
    fields = read.fields
    _check(fields)
    if "tools" in fields and any("cache_control" in tool for tool in fields["tools"]):
        fields[CACHED] = True
    limit = _limit(fields)
    return ChatRequest(
        model=fields["model"],
        messages=fields["messages"],
        sampling=sampling_of(
            fields, max_tokens=limit, logprobs=fields.get("top_logprobs", 0) if fields.get("logprobs") else None
        ),
        stream=fields.get("stream", False),
        stream_options=fields.get("stream_options", _NO_OPTIONS),
        service_tier=fields.get("service_tier"),
        tools=tools_of(fields),
        response_format=format_of(fields),
        guided=constraint_of(fields),
        best_of=max(fields.get("best_of", 1), fields.get("n", 1)),
        fields=fields,
        sent=read.sent,
    )
