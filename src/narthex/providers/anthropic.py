"""The row of Anthropic's Messages API: what it honours, and how to speak to it. No I/O.

Source: contract sections 1.2, 8.2 and 11; ARCHITECTURE D3.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from typing_extensions import override

from narthex.core import stored
from narthex.core.capabilities import Capabilities, Limited, Rule, State, Verdict
from narthex.core.chat import ChatRequest
from narthex.core.constrained import ANY_OBJECT
from narthex.core.errors import UpstreamError
from narthex.core.ports import Request
from narthex.core.templates import CONTINUE
from narthex.core.tools import CACHED
from narthex.providers.anthropic_errors import parse_error
from narthex.providers.anthropic_messages import conversation
from narthex.providers.anthropic_request import TIERS, Options, answer_is_call, build
from narthex.providers.anthropic_stream import MessagesDecoder
from narthex.providers.beginning import after_beginning, beginning_of, has_words, with_beginning
from narthex.providers.codec import AnswerDecoder, UsualCodec, of_kind

PATH = "/messages"
KEY_HEADER = "x-api-key"
HEADERS: Mapping[str, str] = {"anthropic-version": "2023-06-01"}
"""What every request carries besides the key."""

_NATIVE = (
    "model", "max_tokens", "max_completion_tokens", "stream", "stream_options", "user", "safety_identifier",
    "tool_choice", "parallel_tool_calls", "function_call",
)  # fmt: skip
_HINTS = ("prompt_cache_key", "prompt_cache_retention", "prompt_cache_options")
_ANY = msgspec.json.decode(ANY_OBJECT)
_COMBINED = frozenset(("anyOf", "oneOf", "allOf", "$ref"))
"""Schemas that the API does not take where a tool's input begins."""


class AnthropicChat(UsualCodec):
    """See `Codec`. The arguments tell what the models can do; see `Options`."""

    path = PATH

    def __init__(
        self,
        *,
        max_tokens: int = 4096,
        prefill: bool = True,
        thinking: bool = True,
        adaptive: bool = False,
        schema: bool = False,
        sampling: bool = True,
        may_not_think: bool = True,
        may_have_to_call: bool = True,
    ) -> None:
        self._options = Options(
            max_tokens=max_tokens,
            prefill=prefill,
            thinking=thinking,
            adaptive=adaptive,
            schema=schema,
            sampling=sampling,
            may_not_think=may_not_think,
            may_have_to_call=may_have_to_call,
        )
        self._capabilities = _honoured(self._options)

    def build(self, request: Request, *, model: str) -> bytes:
        """See `Codec.build`.

        Raises:
            UnsupportedParameter: fields that the API does not take together.
        """
        asked = with_beginning(of_kind(request, ChatRequest))
        return build(asked, model=model, options=self._options)

    def decoder(self, request: Request) -> AnswerDecoder:
        """See `Codec.decoder`."""
        chat = of_kind(request, ChatRequest)
        decoder = MessagesDecoder(answer_is_call=answer_is_call(chat, self._options), older="functions" in chat.fields)
        return after_beginning(decoder, beginning_of(chat))

    def parse_error(self, status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes) -> UpstreamError:
        """See `Codec.parse_error`."""
        return parse_error(status, list(headers), body)

    @override
    def continues(self, request: Request) -> bool:
        """See `Codec.continues`. A model that is to think takes no beginning."""
        asked = of_kind(request, ChatRequest)
        thinks = self._options.thinking and asked.fields.get("reasoning_effort", "none") != "none"
        return self._options.prefill and not thinks and has_words(asked)

    def capabilities(self) -> Capabilities:
        """See `Codec.capabilities`."""
        return self._capabilities


# --- what is honoured ----------------------------------------------------------------------------------------------


def _honoured(options: Options) -> Capabilities:
    return (
        dict[str, Rule](dict.fromkeys(_NATIVE, State.NATIVE))
        | dict.fromkeys(_HINTS, State.NO_EFFECT)
        | stored.FIELDS
        | {
            "messages": Limited(
                limits="text, images and PDF files" + ("" if options.prefill else ", the last not the assistant's"),
                check=lambda value: _messages(value, options),
            ),
            "stop": Limited(limits="not white space alone", check=_stop),
            "tools": Limited(
                limits="functions only" + ("" if options.schema else ", not strict"),
                check=lambda value: _tools(value, options),
            ),
            CACHED: State.NATIVE,
            "functions": Limited(limits="parameters that are objects", check=_functions),
            "response_format": _response_format(options),
            "reasoning_effort": _reasoning_effort(options),
            "service_tier": Limited(limits="auto and default", check=_tier),
            "n": _only(1, "n"),
            "frequency_penalty": _only(0, "frequency_penalty"),
            "presence_penalty": _only(0, "presence_penalty"),
        }
        | ({CONTINUE: State.EMULATED} if options.prefill else {})
        | (_SAMPLING if options.sampling else _NO_SAMPLING)
        | ({} if options.may_have_to_call else _NO_FORCED_CALLS)
    )


def _only(neutral: Any, name: str) -> Rule:
    """The one value of a refused field that asks for nothing."""

    def check(value: Any) -> None:
        if value != neutral:
            raise Verdict(name, f"'{name}' is not supported.")

    return Limited(state=State.REFUSED, limits=f"except {msgspec.json.encode(neutral).decode()}", check=check)


def _messages(value: Any, options: Options) -> None:
    conversation(value, prefill=options.prefill)


def _up_to_one(value: Any) -> None:
    if value > 1:
        raise Verdict("temperature", "This model takes a temperature from 0 to 1.")


def _stop(value: Any) -> None:
    if any(not text.strip() for text in value):
        raise Verdict("stop", "This model can't stop at white space alone.")


def _tier(value: Any) -> None:
    if value not in TIERS:
        raise Verdict("service_tier", "This model's server knows the tiers 'auto' and 'default' only.")


def _anything(_: Any) -> None:
    """No value is refused."""


def _reasoning_effort(options: Options) -> Rule:
    if not options.thinking:
        return _only("none", "reasoning_effort")
    if not options.may_not_think:
        return Limited(limits="not none", check=_some_effort)
    if options.adaptive:
        return State.NATIVE
    return Limited(limits="any, heeded when a user is answered and not between calls", check=_anything)


def _some_effort(value: Any) -> None:
    if value == "none":
        raise Verdict("reasoning_effort", "This model always thinks.")


def _free(name: str) -> Rule:
    """A rule for `tool_choice`, or its older form, that refuses what makes the model call."""

    def check(value: Any) -> None:
        allowed = value.get("allowed_tools", {}) if isinstance(value, dict) else {"mode": value}
        if allowed.get("mode") not in {"auto", "none"}:
            raise Verdict(name, "This model can't be made to call a tool.")

    return Limited(limits="never required", check=check)


_NO_FORCED_CALLS: dict[str, Rule] = {name: _free(name) for name in ("tool_choice", "function_call")}
_SAMPLING: dict[str, Rule] = {
    "temperature": Limited(limits="up to 1", check=_up_to_one),
    "top_p": State.NATIVE,
    "top_k": State.NATIVE,
}
_NO_SAMPLING: dict[str, Rule] = {"temperature": _only(1, "temperature"), "top_p": _only(1, "top_p")}


# --- schemas -------------------------------------------------------------------------------------------------------


def _tools(value: Any, options: Options) -> None:
    for index, tool in enumerate(value):
        if tool["type"] != "function":
            raise Verdict(f"tools[{index}].type", "Only tools of type 'function' are supported.")
        if tool["function"].get("strict") and not options.schema:
            raise Verdict(f"tools[{index}].function.strict", "This model can't be held to a tool's schema.")
        _check_object(tool["function"].get("parameters", {}), f"tools[{index}].function.parameters")


def _functions(value: Any) -> None:
    for index, function in enumerate(value):
        _check_object(function.get("parameters", {}), f"functions[{index}].parameters")


def _response_format(options: Options) -> Rule:
    if options.schema:
        # A schema of any object is none for the API: such answers are had by a call.
        free = Limited(limits="schemas that tell more than an object", check=_told_schema)
        return State.NATIVE if options.may_have_to_call else free
    if not options.may_have_to_call:
        return _only({"type": "text"}, "response_format")
    return Limited(state=State.EMULATED, limits="schemas of objects", check=_object_format)


def _told_schema(value: Any) -> None:
    if value["type"] != "text" and value.get("json_schema", {}).get("schema", _ANY) == _ANY:
        raise Verdict("response_format", "This model's answers can be held to a schema that tells more than an object.")


def _object_format(value: Any) -> None:
    _check_object(value.get("json_schema", {}).get("schema", {}), "response_format.json_schema.schema")


def _check_object(schema: Any, path: str) -> None:
    """Refuse what the API does not take as a tool's input."""
    if schema.get("type", "object") != "object" or _COMBINED & schema.keys():
        listed = ", ".join(sorted(_COMBINED))
        raise Verdict(path, f"This model takes schemas of type 'object' only, without {listed} at the top.")
