"""What the embedded engine honours today; the rest is refused by name."""

from typing import Any

from narthex.core import stored
from narthex.core.capabilities import TIMEOUT, Capabilities, Limited, Rule, State, Verdict
from narthex.core.chat import AudioPart, FilePart, ImagePart
from narthex.core.completions import OTHER_NAMES
from narthex.core.ports import Surface
from narthex.core.tools import CACHED

_HINTS: dict[str, Rule] = dict.fromkeys(
    (
        "user", "safety_identifier", "prompt_cache_key", "prompt_cache_retention", "prompt_cache_options", "audio",
    ),
    State.NO_EFFECT,
)  # fmt: skip


def _messages(value: Any) -> None:
    """Text of any role; what a text model can't read is refused where it stands."""
    kinds: dict[type, str] = {ImagePart: "images", AudioPart: "audio", FilePart: "files"}
    for index, message in enumerate(value):
        if message.audio_id is not None:
            raise Verdict(f"messages[{index}].audio", "Audio of earlier turns is not supported.")
        for place, part in enumerate(message.content if isinstance(message.content, tuple) else ()):
            if (kind := kinds.get(type(part))) is not None:
                raise Verdict(f"messages[{index}].content[{place}]", f"This model can't read {kind}.")


def _text_only(value: Any) -> None:
    if "audio" in value:
        raise Verdict("modalities", "This model can't speak.")


def _functions_only(value: Any) -> None:
    for index, tool in enumerate(value):
        if tool["type"] != "function":
            raise Verdict(f"tools[{index}].type", "Only tools of type 'function' are supported.")


def _moderate(value: Any) -> None:
    if not _LEAST_PENALTY <= value <= _MOST_PENALTY:
        message = f"'repetition_penalty' can be {_LEAST_PENALTY} to {_MOST_PENALTY} here."
        raise Verdict("repetition_penalty", message)


def _known_to_the_template(_: Any) -> None:
    """Only the model's own template can tell, when it is asked."""


def _as_written(value: Any) -> None:
    if value.get("disable_additional_properties"):
        name = "structured_outputs.disable_additional_properties"
        raise Verdict(name, "Schemas are held as they are written: say 'additionalProperties' there.")


_LEAST_PENALTY, _MOST_PENALTY = 0.01, 100
"""Beyond these the engine's arithmetic has no end of either side."""

_SHARED: dict[str, Rule] = dict.fromkeys(
    (
        "model", "frequency_penalty", "presence_penalty", "n", "seed", "stop", "stream", "stream_options",
        "temperature", "top_p", "max_tokens", "logprobs", "logit_bias", "top_k", "min_p", "ignore_eos", "min_tokens",
        "include_stop_str_in_output", "add_special_tokens", "guided_json", "guided_regex", "guided_choice",
        "guided_grammar", "guided_whitespace_pattern",
    ),
    State.NATIVE,
)  # fmt: skip
_SHARED |= {
    "repetition_penalty": Limited(limits=f"{_LEAST_PENALTY} to {_MOST_PENALTY}", check=_moderate),
    "stop_token_ids": State.EMULATED,
    "best_of": State.EMULATED,
    "echo": State.EMULATED,
    "guided_decoding_backend": State.NO_EFFECT,
    TIMEOUT: State.EMULATED,
    "structured_outputs": Limited(limits="not disable_additional_properties", check=_as_written),
}

CHAT: Capabilities = (
    _SHARED
    | _HINTS
    | stored.FIELDS
    | {
        "messages": Limited(limits="text only", check=_messages),
        "memory_strategy": State.EMULATED,
        "token_budget": State.NATIVE,
        "max_completion_tokens": State.NATIVE,
        "top_logprobs": State.NATIVE,
        "modalities": Limited(limits="text only", check=_text_only),
        "response_format": State.NATIVE,
        "service_tier": State.NATIVE,
        "prediction": State.NATIVE,
        "tools": Limited(limits="functions only", check=_functions_only),
        "tool_choice": State.NATIVE,
        "parallel_tool_calls": State.NATIVE,
        "functions": State.NATIVE,
        "function_call": State.NATIVE,
        "add_generation_prompt": State.NATIVE,
        "continue_final_message": State.EMULATED,
        "chat_template_kwargs": Limited(limits="variables that the chat template knows", check=_known_to_the_template),
        CACHED: State.NO_EFFECT,
    }
)
COMPLETIONS: Capabilities = (
    _SHARED
    | dict.fromkeys(OTHER_NAMES, State.NATIVE)
    | {
        "prompt": State.NATIVE,
        "user": State.NO_EFFECT,
    }
)

BY_SURFACE: dict[Surface, Capabilities] = {"chat": CHAT, "completions": COMPLETIONS}

_STEERED = "models whose chat template knows it"
OF_THE_MODEL: dict[Surface, dict[str, str]] = {
    "chat": {
        "reasoning_effort": _STEERED,
        "verbosity": _STEERED,
        "chat_template": "models that are trusted with it, from keys that may send it",
    },
    "completions": {"suffix": "models that can fill in"},
}
"""Fields that only some models honour, and which ones do."""
_OF_ANY_MODEL = frozenset(("chat_template",))
"""Of these, what the engine honours for all: others say who may send it."""


def honoured(*, heeds: frozenset[str] | None, predictions: bool) -> dict[Surface, Capabilities]:
    """What one model honours on each surface, by what it `heeds`; with None every field is tried.

    `predictions`: whether somebody checks them; else they have no effect (contract Q27).
    """
    heeded = None if heeds is None else heeds | _OF_ANY_MODEL
    idle: dict[str, Rule] = {} if predictions else {"prediction": State.NO_EFFECT}
    return {
        surface: {
            **rows,
            **(idle if surface == "chat" else {}),
            **{name: State.NATIVE for name in OF_THE_MODEL[surface] if heeded is None or name in heeded},
        }
        for surface, rows in BY_SURFACE.items()
    }
