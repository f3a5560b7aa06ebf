"""The fields that chat and completions share. Source: contract sections 1.2, 1.6, 9 and 11."""

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from msgspec import UNSET

from narthex.core.chat import Sampling, StreamOptions
from narthex.dialects.fields import (
    BOOLEAN,
    JSON,
    STRING,
    Field,
    Quick,
    array,
    either,
    integer,
    invalid,
    mapping,
    number,
    record,
    string,
)
from narthex.dialects.guided import GUIDED
from narthex.dialects.templates import OF_TEMPLATES, check_continued

SEED_RANGE = 9_223_372_036_854_776_000
"""The documented range of `seed`: the specification's rounding of 64 bits, both ways."""

_STOP_TEXT = string(shortest=1)
_STOP_TEXTS = array(_STOP_TEXT, 0, 4)
STOP = either(
    (str, Field(lambda value, path: (_STOP_TEXT.parse(value, path),), _STOP_TEXT.schema)),
    (list, Field(lambda value, path: _STOP_TEXTS.parse(value, path) or UNSET, _STOP_TEXTS.schema)),
    expected="a string or an array of strings",
)
_SOUND_STOP = Annotated[str, msgspec.Meta(min_length=1)]
STOP = msgspec.structs.replace(
    STOP,
    quick=Quick(
        _SOUND_STOP | Annotated[list[_SOUND_STOP], msgspec.Meta(min_length=1, max_length=4)],
        lambda value: (value,) if isinstance(value, str) else tuple(value),
    ),
)


def _token_id(name: str, path: str) -> None:
    if not (name.isascii() and name.isdigit() and len(name) <= 10):
        raise invalid(path, f"the key '{name[:100]}' is not a token id.")


LOGIT_BIAS = mapping(integer(-100, 100), key=_token_id)
METADATA = mapping(string(longest=512), most=16, longest_key=64)
_TOP_P = number(0, 1)
_NOT_USED = -1
"""How one documented API writes that `top_p` is not used (contract 5.2)."""

SHARED: dict[str, Field] = {
    "model": string(shortest=1),
    "frequency_penalty": number(-2, 2),
    "presence_penalty": number(-2, 2),
    "logit_bias": LOGIT_BIAS,
    "n": integer(1, 128),
    "seed": integer(-SEED_RANGE, SEED_RANGE),
    "stop": STOP,
    "stream": BOOLEAN,
    "stream_options": record(
        {"include_usage": BOOLEAN, "include_obfuscation": BOOLEAN}, build=lambda values, _: StreamOptions(**values)
    ),
    "temperature": number(0, 2),
    "top_p": Field(
        lambda value, path: UNSET if value == _NOT_USED else _TOP_P.parse(value, path),
        {"anyOf": [_TOP_P.schema, {"const": _NOT_USED}]},
    ),
    "user": STRING,
}

MOST_STOP_TOKENS = 128


def _penalty(value: Any, path: str) -> float:
    penalty: float = number().parse(value, path)
    if penalty <= 0:
        message = f"decimal below minimum value. Expected a value > 0, but got {value} instead."
        raise invalid(path, message, code="decimal_below_min_value")
    return penalty


OF_VLLM: dict[str, Field] = {
    "top_k": integer(-1),
    "min_p": number(0, 1),
    "repetition_penalty": Field(_penalty, {"type": "number", "exclusiveMinimum": 0}),
    "stop_token_ids": array(integer(0, 2**31 - 1), 0, MOST_STOP_TOKENS),
    "include_stop_str_in_output": BOOLEAN,
    "ignore_eos": BOOLEAN,
    "min_tokens": integer(0),
    "length_penalty": number(),
    "use_beam_search": BOOLEAN,
    "early_stopping": BOOLEAN,
    "add_special_tokens": BOOLEAN,
    **GUIDED,
    **OF_TEMPLATES,
}
"""vLLM's further fields, as extensions of both surfaces. Source: contract sections 7.1 to 7.3."""
_SAMPLED = frozenset(
    ("top_k", "min_p", "repetition_penalty", "stop_token_ids", "include_stop_str_in_output", "ignore_eos", "min_tokens")
)

NOT_BUILT: dict[str, Field] = {"suffix": JSON}
"""Extensions whose names are known: refused by name where a deployment doesn't honour them."""


def sampling_of(fields: dict[str, Any], *, max_tokens: int | None, logprobs: int | None) -> Sampling:
    """The sampling part of a request, from its parsed fields; what the surfaces write differently is given."""
    return Sampling(
        temperature=fields.get("temperature", UNSET),
        top_p=fields.get("top_p", UNSET),
        frequency_penalty=fields.get("frequency_penalty", UNSET),
        presence_penalty=fields.get("presence_penalty", UNSET),
        seed=fields.get("seed", UNSET),
        stop=fields.get("stop", ()),
        n=fields.get("n", 1),
        max_tokens=max_tokens,
        logit_bias={int(token): bias for token, bias in fields["logit_bias"].items()} if "logit_bias" in fields else {},
        logprobs=logprobs,
        **({} if _SAMPLED.isdisjoint(fields) else _sampled(fields)),
    )


def _sampled(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The further fields of a request by the core's names."""
    found = {name: fields[name] for name in _SAMPLED if name in fields}
    if "top_k" in found:
        found["top_k"] = max(0, found["top_k"])
    if "include_stop_str_in_output" in found:
        found["include_stop"] = found.pop("include_stop_str_in_output")
    return found


def check_shared(fields: Mapping[str, Any], *, limit: int | None) -> None:
    """Refuse combinations that mean nothing on either surface. `limit`: of the answer, in tokens (contract 7.1, 11)."""
    if "stream_options" in fields and not fields.get("stream", False):
        raise invalid("stream_options", "it is only allowed when 'stream' is true.")
    if limit is not None and fields.get("min_tokens", 0) > limit:
        raise invalid("min_tokens", f"it must not be more than the limit of the answer ({limit}).")
    n, best_of = fields.get("n", 1), fields.get("best_of")
    if best_of is not None and best_of < n and not (best_of == 0 and n == 1):
        raise invalid("best_of", f"it must not be less than 'n' ({n}).")
    if best_of is not None and best_of > 1 and fields.get("stream"):
        raise invalid("best_of", "it can't be used with 'stream'.")
    check_continued(fields)
