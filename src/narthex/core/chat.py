"""The canonical chat request: OpenAI's, and named extensions. Unset is not null is not default.

Source: contract sections 1.2 and 1.2.1. Fields hold `UNSET` when the caller did not send them (or sent null, which the
contract calls the same); `sent` keeps the caller's own bytes of every field for upstreams of the same format.
"""

import re
from collections.abc import Mapping
from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from narthex.core.constrained import Constraint, JsonFormat
from narthex.core.grounding import Wanted
from narthex.core.tools import Tools

Role = Literal["system", "developer", "user", "assistant", "tool", "function"]


class TextPart(msgspec.Struct, frozen=True):
    """Text in a message."""

    text: str


_is_base64 = re.compile(r"[A-Za-z0-9+/]+={0,2}").fullmatch


def address_of(url: str, media_type: str | None) -> str:
    """Where an image is; of bare data whose type is told apart, as some clients send it, a data URL."""
    return f"data:{media_type};base64,{url}" if media_type is not None and _is_base64(url) else url


class ImagePart(msgspec.Struct, frozen=True):
    """An image by address or as a data URL."""

    url: str
    detail: str = "auto"
    media_type: str | None = None


class AudioPart(msgspec.Struct, frozen=True):
    """Sound, as base64 text."""

    data: str
    format: str


class FilePart(msgspec.Struct, frozen=True):
    """A file, by id or as base64 text."""

    filename: str | None = None
    file_data: str | None = None
    file_id: str | None = None


Part = TextPart | ImagePart | AudioPart | FilePart


class ToolCall(msgspec.Struct, frozen=True, kw_only=True):
    """A call that the model made in an earlier turn. `arguments` is JSON text; of a custom tool it is the input."""

    id: str
    name: str
    arguments: str
    custom: bool = False


class FunctionCall(msgspec.Struct, frozen=True, kw_only=True):
    """The deprecated form of a single tool call."""

    name: str
    arguments: str


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """One message of the conversation. `content` is None where the contract allows it."""

    role: Role
    content: str | tuple[Part, ...] | None = None
    name: str | None = None
    refusal: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    function_call: FunctionCall | None = None
    audio_id: str | None = None

    @property
    def text(self) -> str:
        """The text of all its parts; "" where there is none."""
        if isinstance(self.content, tuple):
            return "".join(part.text for part in self.content if isinstance(part, TextPart))
        return self.content or ""


class StreamOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What a streamed answer is to carry besides its text."""

    include_usage: bool = False
    include_obfuscation: bool = True


class Sampling(msgspec.Struct, frozen=True, kw_only=True):
    """What chat and completions share: how to choose tokens, how many, and when to stop."""

    temperature: float | UnsetType = UNSET
    top_p: float | UnsetType = UNSET
    frequency_penalty: float | UnsetType = UNSET
    presence_penalty: float | UnsetType = UNSET
    seed: int | UnsetType = UNSET
    stop: tuple[str, ...] = ()
    n: int = 1
    max_tokens: int | None = None  # None: up to the context window
    at_most: int | None = None
    """Where an embedded model that finds no end is stopped if `max_tokens` is not set; less if less fits."""
    logit_bias: Mapping[int, float] = {}
    """Token id to what is added to its logit: -100 bans it, 100 forces it."""
    logprobs: int | None = None
    """How many rivals of each chosen token to tell; None: no log probabilities at all."""
    top_k: int = 0
    """Only so many of the likeliest tokens can be chosen; 0: any."""
    min_p: float = 0.0
    """Only tokens that are at least so likely, as a share of the likeliest one, can be chosen."""
    repetition_penalty: float = 1.0
    ignore_eos: bool = False
    min_tokens: int = 0
    """The text can't end before so many tokens."""
    stop_token_ids: tuple[int, ...] = ()
    include_stop: bool = False
    """The stop string that ended an answer is told as its end."""


class ChatRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One chat call as the core knows it."""

    model: str
    messages: tuple[Message, ...]
    sampling: Sampling
    stream: bool = False
    stream_options: StreamOptions = StreamOptions()
    service_tier: str | None = None
    tools: Tools | None = None
    """None: the model is to know of no tool."""
    response_format: JsonFormat | None = None
    """None: any text."""
    guided: Constraint | None = None
    """What else the text is constrained by; never beside `response_format`."""
    best_of: int = 1
    """How many choices to make; the best `sampling.n` of them are the answer."""
    fields: Mapping[str, Any]
    """Every field that the caller set (null counts as unset), parsed; `capabilities` decides by these names."""
    sent: Mapping[str, msgspec.Raw]
    """The same fields as the caller's own bytes."""
    documents: Wanted | None = None
    """What is to be looked up in documents before it is answered."""
    forgotten: int = 0
    """How many messages were left out of it already, as it asked for; see `core.memory`."""
    begun: str = ""
    """What there is of the answer already, from an attempt that broke off: this one has to go on right there."""

    @property
    def constraint(self) -> Constraint | None:
        """What the answer's text has to be, by whichever field; None: any text."""
        return self.response_format or self.guided
