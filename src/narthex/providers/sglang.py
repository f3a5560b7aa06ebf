"""SGLang: OpenAI's format with further sampling fields, and constraints under names of its own. No I/O.

Source: SGLang's own protocol and its page on sampling parameters, 2026. It ignores fields that it doesn't know, so only
what it does know is sent. It has no template of a request's, and heeds a seed only where it was started for that.

Rule: beside a constraint it drops in silence what tools ask for, so the two together are refused here.
"""

import re
from typing import Any

import msgspec
from typing_extensions import override

from narthex.core import stored
from narthex.core.capabilities import Limited, State, Verdict
from narthex.core.chat import ChatRequest
from narthex.core.completions import CompletionRequest
from narthex.core.constrained import ChoiceFormat, GrammarFormat, JsonFormat, RegexFormat
from narthex.core.errors import UnsupportedParameter
from narthex.core.ports import Request
from narthex.core.templates import CONTINUE
from narthex.providers.beginning import has_words
from narthex.providers.codec import of_kind
from narthex.providers.openai_codec import OpenAIChat
from narthex.providers.openai_completions import OpenAICompletions
from narthex.providers.openai_rows import Row, Rules, functions_only, native, one_function, only, up_to
from narthex.providers.traits import ModelTraits
from narthex.providers.vllm_constraints import CONSTRAINED

_FORMS = frozenset(("json", "regex", "choice", "grammar", "json_object"))
_SPECIAL = re.compile(r"([\\.+*?()|\[\]{}^$])")
_RENAMED = {"include_stop_str_in_output": "no_stop_trim"}


def _grammar(name: str, text: Any) -> None:
    if "::=" not in text:
        raise Verdict(name, "The model's server reads grammars in EBNF, with a rule 'root'.")


def _structured(value: Any) -> None:
    for name, each in value.items():
        if name not in _FORMS and each not in {False, None}:
            raise Verdict(f"structured_outputs.{name}", f"'{name}' is not supported by the model's server.")
    if "grammar" in value:
        _grammar("structured_outputs.grammar", value["grammar"])
    within = CONSTRAINED["structured_outputs"]
    assert isinstance(within, Limited)  # noqa: S101 - the row of schemas' limits
    within.check(value)


def _some_tokens(value: Any) -> None:
    if value == 0:
        raise Verdict("max_tokens", "The model's server makes at least one token.")


_SHARED: Rules = {
    **native(
        "model", "frequency_penalty", "presence_penalty", "logit_bias", "logprobs", "max_tokens", "n", "stop", "stream",
        "stream_options", "temperature", "top_p", "top_k", "min_p", "stop_token_ids", "include_stop_str_in_output",
        "ignore_eos", "min_tokens",
    ),
    "repetition_penalty": up_to("repetition_penalty", 2),
    "user": State.NO_EFFECT,
    "guided_json": CONSTRAINED["guided_json"],
    "guided_regex": State.EMULATED,
    "guided_choice": State.EMULATED,
    "guided_grammar": Limited(
        state=State.EMULATED, limits="EBNF only", check=lambda value: _grammar("guided_grammar", value)
    ),
    "structured_outputs": Limited(state=State.EMULATED, limits="forms without options", check=_structured),
    "guided_decoding_backend": State.NO_EFFECT,
}  # fmt: skip
CHAT: Rules = {
    **_SHARED,
    **stored.FIELDS,
    **native(
        "messages", "top_logprobs", "max_completion_tokens", "response_format", "parallel_tool_calls",
        "continue_final_message", "chat_template_kwargs",
    ),
    **dict.fromkeys(
        (
            "prediction", "audio", "safety_identifier", "prompt_cache_key", "prompt_cache_retention",
            "prompt_cache_options",
        ),
        State.NO_EFFECT,
    ),
    "reasoning_effort": only("reasoning_effort", "none", "low", "medium", "high"),
    "tools": functions_only(),
    "tool_choice": one_function(),
    "service_tier": State.EMULATED,
}  # fmt: skip
COMPLETIONS: Rules = {
    **_SHARED,
    **native("prompt", "echo"),
    "max_tokens": Limited(limits="at least 1", check=_some_tokens),
    "best_of": State.EMULATED,
}


class SglangChat(OpenAIChat):
    """Chats with one model on SGLang. See `Codec`."""

    def __init__(self, traits: ModelTraits) -> None:
        super().__init__(Row(honoured=CHAT, renamed=_RENAMED), traits)

    @override
    def members(self, request: ChatRequest) -> dict[str, Any]:
        """See `OpenAIChat.members`.

        Raises:
            UnsupportedParameter: tools beside a constraint.
        """
        constraint = request.constraint
        if constraint is not None and request.tools is not None:
            name = constraint.path.partition(".")[0]
            message = f"'{name}' can't be used with tools: the model's server would drop what one of them asks for."
            raise UnsupportedParameter(message, param=name, code="unsupported_value")
        members = _sampled(super().members(request), request)
        if request.begun:
            members[CONTINUE] = True
        guided = request.guided
        if isinstance(guided, JsonFormat):
            form = {"name": "answer", "schema": msgspec.Raw(guided.schema)}
            members["response_format"] = {"type": "json_schema", "json_schema": form}
        elif guided is not None:
            members |= _pattern(guided)
        return members

    @override
    def continues(self, request: Request) -> bool:
        """See `Codec.continues`."""
        return not self._traits.reasoning and has_words(of_kind(request, ChatRequest))


class SglangCompletions(OpenAICompletions):
    """Completions by one model on SGLang. See `Codec`."""

    def __init__(self, traits: ModelTraits) -> None:
        super().__init__(Row(honoured=COMPLETIONS, renamed=_RENAMED), traits)

    @override
    def members(self, request: CompletionRequest) -> dict[str, Any]:
        """See `OpenAICompletions.members`."""
        members = _sampled(super().members(request), request)
        guided = request.guided
        if isinstance(guided, JsonFormat):
            members["json_schema"] = guided.schema.decode()
        elif guided is not None:
            members |= _pattern(guided)
        return members


def _pattern(constraint: RegexFormat | ChoiceFormat | GrammarFormat) -> dict[str, str]:
    if isinstance(constraint, GrammarFormat):
        return {"ebnf": constraint.grammar}
    if isinstance(constraint, RegexFormat):
        return {"regex": constraint.pattern}
    return {"regex": f"({'|'.join(map(_literal, constraint.options))})"}


def _literal(text: str) -> str:
    return _SPECIAL.sub(r"\\\1", text)


def _sampled(members: dict[str, Any], request: ChatRequest | CompletionRequest) -> dict[str, Any]:
    """The same for a server that takes neither a `top_p` nor a `top_k` of 0."""
    if request.sampling.top_p == 0:
        del members["top_p"]
        members["temperature"] = 0
    if request.fields.get("top_k") == 0:
        members["top_k"] = -1
    return members
