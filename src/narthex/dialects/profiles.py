"""Profiles: what a key's owner is used to, where that is narrower than `/v1`.

Source: contract sections 2, 5, 6, 8.2 and 11. A profile only ever refuses more, or fills in a default; what it does not
mention is as everywhere on `/v1`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from narthex.core.errors import UnknownParameter
from narthex.core.ports import Surface
from narthex.dialects.fields import BOOLEAN, JSON, STRING, Field, array, choice, either, integer, number, record

IMAGE_SIBLINGS = frozenset(("negative_prompt", "steps", "sampler", "seed"))
"""Fields of `/v1/images/generations` that two profiles do not have (contract sections 6 and 11)."""

VOICES = ("alloy", "ash", "ballad", "coral", "echo", "sage", "shimmer", "verse")


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One profile on one surface.

    `only`: the fields that it has, None for all; `refused`: those it does not have; `narrower`: checks of JSON values,
    after the usual ones; `defaults`: parsed values for fields that are not set, when none of `unless` is.
    """

    only: frozenset[str] | None = None
    refused: frozenset[str] = frozenset()
    narrower: Mapping[str, Field] = {}
    defaults: Mapping[str, Any] = {}
    unless: frozenset[str] = frozenset()


# --- checks of values that have passed the usual ones: only what is narrower is looked at --------------------------


def _of_type(*kinds: str) -> Field:
    """An object whose `type` is one of a few."""
    kind = choice(*kinds)
    return Field(lambda value, path: kind.parse(value["type"], f"{path}.type"), {})


_FUNCTIONS = array(_of_type("function"))
"""Tools, or calls of them."""


def _messages(
    *, parts: tuple[str, ...] = ("text", "image_url", "input_audio", "refusal", "file"), newer: bool = True
) -> Field:
    """Messages of the roles that there were before `developer`, with a few kinds of parts, and calls of functions only.

    `newer`: members of parts that came with later versions, or from elsewhere, are taken as well.
    """
    role = choice("system", "user", "assistant", "tool", "function")
    kind = choice(*parts)

    def part(value: Any, path: str) -> None:
        kind.parse(value["type"], f"{path}.type")
        if not newer:
            _without(value, ("prompt_cache_breakpoint",), path)
            _without(value.get("image_url") or {}, ("media_type",), f"{path}.image_url")

    def parse(value: Any, path: str) -> None:
        for index, message in enumerate(value):
            place = f"{path}[{index}]"
            role.parse(message["role"], f"{place}.role")
            content = message.get("content")
            if isinstance(content, dict):
                part(content, f"{place}.content")
            elif isinstance(content, list):
                for number, each in enumerate(content):
                    part(each, f"{place}.content[{number}]")
            _FUNCTIONS.parse(message.get("tool_calls") or [], f"{place}.tool_calls")

    return Field(parse, {})


def _plain_tools(value: Any, path: str) -> None:
    """Function tools without what other services have them say."""
    _FUNCTIONS.parse(value, path)
    for index, tool in enumerate(value):
        _without(tool, ("cache_control",), f"{path}[{index}]")


def _without(value: Mapping[str, Any], names: Sequence[str], path: str) -> None:
    """Null counts as absent.

    Raises:
        UnknownParameter: it has one of these members.
    """
    for name in names:
        if value.get(name) is not None:
            raise UnknownParameter(f"Unknown parameter: '{path}.{name}'.", param=f"{path}.{name}")


def _tool_choice(*words: str) -> Field:
    return either((str, choice(*words)), (dict, _of_type("function")), expected="a word or an object")


_TOP_P = number(0, 1)
_STOP_LIST = array(STRING)

# --- the table -----------------------------------------------------------------------------------------------------

_THYRIS_CHAT = Row(
    only=frozenset(
        (
            "messages", "model", "store", "metadata", "frequency_penalty", "presence_penalty", "logit_bias", "logprobs",
            "top_logprobs", "max_tokens", "max_completion_tokens", "n", "modalities", "prediction", "audio",
            "response_format", "seed", "service_tier", "stop", "stream", "stream_options", "temperature", "top_p",
            "tools", "tool_choice", "parallel_tool_calls", "user", "function_call", "functions",
        )
    ),
    narrower={
        "messages": _messages(parts=("text", "image_url", "input_audio", "refusal"), newer=False),
        "top_p": _TOP_P,
        "tools": Field(_plain_tools, {}),
        "tool_choice": _tool_choice("none", "auto", "required"),
        "service_tier": choice("auto", "default"),
        "stream_options": record({"include_usage": BOOLEAN}),
        "audio": record({"voice": choice(*VOICES), "format": choice("wav", "mp3", "flac", "opus", "pcm16")}),
    },
)  # fmt: skip
_OXY_CHAT = Row(
    refused=frozenset(
        (
            "stream_options", "max_completion_tokens", "parallel_tool_calls", "service_tier", "store", "metadata",
            "modalities", "audio", "prediction",
        )
    ),
    narrower={
        "messages": _messages(),
        "n": integer(None, 2),
        "top_logprobs": integer(None, 5),
        "top_p": _TOP_P,
        "tools": _FUNCTIONS,
        "tool_choice": _tool_choice("none", "auto"),
        "response_format": _of_type("text", "json_object"),
    },
)  # fmt: skip
_IONOS_CHAT = Row(
    narrower={"stop": _STOP_LIST},
    defaults={"max_tokens": 16},
    unless=frozenset(("max_tokens", "max_completion_tokens")),
)

_IMAGES = Row(refused=IMAGE_SIBLINGS)
_IONOS_SIZES = ("1024*1024", "1792*1024", "1024*1792")
_IONOS_IMAGES = Row(
    refused=IMAGE_SIBLINGS,
    narrower={"size": choice(*_IONOS_SIZES, *(size.replace("*", "x") for size in _IONOS_SIZES))},
    defaults={"size": "1024x1024", "response_format": "b64_json"},
)

PROFILES: Mapping[str, Mapping[Surface, Row]] = {
    "openai": {},
    "thyris": {"chat": _THYRIS_CHAT, "images": _IMAGES},
    "ionos": {
        "chat": _IONOS_CHAT,
        "completions": Row(narrower={"prompt": STRING, "stop": _STOP_LIST}),
        "embeddings": Row(
            narrower={
                "input": either((str, JSON), (list, array(STRING)), expected="a string or an array of strings"),
            }
        ),
        "images": _IONOS_IMAGES,
    },
    "oxy": {
        "chat": _OXY_CHAT,
        "completions": Row(narrower={"n": integer(None, 2)}),
        "images": Row(narrower={"n": integer(None, 4)}),
    },
}


def row(profile: str, surface: Surface) -> Row | None:
    """What a profile says of a surface; None where it is as everywhere."""
    return PROFILES[profile].get(surface)


def tighten(row: Row, fields: Mapping[str, Any], sent: Mapping[str, Any], *, profile: str) -> dict[str, Any]:
    """Refuse what the profile doesn't know; returns its defaults for fields that the caller has not set.

    `fields` are parsed; `sent` holds the JSON values.

    Raises:
        UnknownParameter: the profile has no such field.
        InvalidRequest: it has, but not with this value.
    """
    for name, value in sent.items():
        if value is None:
            continue
        if name in row.refused or (row.only is not None and name not in row.only):
            raise UnknownParameter(f"Unknown parameter: '{name}'. This key's profile '{profile}' has none.", param=name)
        if (check := row.narrower.get(name)) is not None:
            check.parse(value, name)
    if row.unless & fields.keys():
        return {}
    return {name: value for name, value in row.defaults.items() if name not in fields}
