"""Which request fields a deployment honours, and how: nothing that a caller sets is dropped in silence.

Source: contract sections 8.2 and 11.
"""

import enum
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from narthex.core.errors import UnsupportedParameter
from narthex.core.extras import HEADERS, PARAMS

Endpoint = str
"""`chat`, `completions`, `embeddings`, …: the surface that a field belongs to."""

TIMEOUT = "inference_timeout"
"""The field by which a request sets its own clock, in seconds; kept by the router, whoever answers."""


class State(enum.StrEnum):
    """What becomes of a field."""

    NATIVE = "native"
    EMULATED = "emulated"
    NO_EFFECT = "no effect"
    REFUSED = "refused"


class Verdict(Exception):
    """Raised by a value rule: this value (not the whole field) is refused. `param` and `why` say which and why."""

    def __init__(self, param: str, why: str, *, code: str = "unsupported_value") -> None:
        self.param = param
        self.why = why
        self.code = code
        super().__init__(why)


class Limited(msgspec.Struct, frozen=True, kw_only=True):
    """A rule for the values of a field.

    `state`: what becomes of the field, the values that are refused apart; `REFUSED` where hardly anything passes.
    `limits`: for callers, which values are honoured, e.g. `text only`; of a refused field `except` and the one value
    that passes, as JSON: `except "none"`.
    `check` raises `Verdict` for a parsed value that is refused.
    """

    state: State = State.NATIVE
    limits: str
    check: Callable[[Any], None]


Rule = State | Limited
"""What becomes of the whole field, or of some of its values."""

Capabilities = Mapping[str, Rule]
"""Field name to rule. A field that is not listed is refused."""

NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "logprobs": (False,),  # and not 0, which asks for the chosen tokens on /v1/completions
    "store": (False,),
    "best_of": (1,),
    "echo": (False,),
    "return_token_log_probs": (False,),
    "logit_bias": ({},),
    "modalities": (("text",),),
    "tool_choice": ("none",),
    "function_call": ("none",),
    "suffix": ("",),
    "response_format": ({"type": "text"},),
    "top_k": (0, -1),
    "min_p": (0.0,),
    "repetition_penalty": (1.0,),
    "stop_token_ids": ((),),
    "include_stop_str_in_output": (False,),
    "ignore_eos": (False,),
    "min_tokens": (0,),
    "length_penalty": (1.0,),
    "instructions": ("",),
    "use_beam_search": (False,),
    "early_stopping": (False,),
    "add_generation_prompt": (True,),
    "continue_final_message": (False,),
    "chat_template_kwargs": ({},),
    PARAMS: ({},),
    HEADERS: ({},),
}
"""Parsed values that ask for nothing: they pass wherever the field itself can't be honoured."""

EMBEDDINGS: Capabilities = dict.fromkeys(("model", "input", "encoding_format", "dimensions"), State.NATIVE) | {
    "user": State.NO_EFFECT
}
"""What every embedding model of ours honours; the request has no further fields."""


def state_of(name: str, capabilities: Capabilities) -> State:
    """What becomes of a field, values that a rule refuses apart."""
    rule = capabilities.get(name, State.REFUSED)
    return rule.state if isinstance(rule, Limited) else rule


def refusal(fields: Mapping[str, Any], capabilities: Capabilities, *, model: str) -> UnsupportedParameter | None:
    """The first field that can't be honoured, as the error to answer with; None when all can be.

    Its code is `unsupported_parameter` for a whole field and `unsupported_value` for a value (contract 1.9).
    """
    if are_honoured(fields, capabilities):
        return None
    for name, value in fields.items():
        rule = capabilities.get(name, State.REFUSED)
        if isinstance(rule, Limited):
            try:
                rule.check(value)
            except Verdict as verdict:
                message = f"{verdict.why} (model '{model}')"
                return UnsupportedParameter(message, param=verdict.param, code=verdict.code)
        elif rule is State.REFUSED and not _asks_for_nothing(name, value):
            return UnsupportedParameter(f"'{name}' is not supported with the model '{model}'.", param=name)
    return None


def are_honoured(fields: Mapping[str, Any], capabilities: Capabilities) -> bool:
    """Whether whole fields are, so that there is nothing to look at: as with nearly all requests."""
    rules = list(map(capabilities.get, fields))
    return rules.count(State.NATIVE) + rules.count(State.EMULATED) == len(rules)


def _asks_for_nothing(name: str, value: Any) -> bool:
    return any(type(value) is type(neutral) and value == neutral for neutral in NEUTRAL.get(name, ()))


def without_effect(fields: Mapping[str, Any], capabilities: Capabilities) -> tuple[str, ...]:
    """The fields that are accepted but change nothing; they are named in `x-narthex-ignored`."""
    if are_honoured(fields, capabilities):
        return ()
    found = []
    for name in fields:
        rule = capabilities.get(name)
        if rule is State.NO_EFFECT or (isinstance(rule, Limited) and rule.state is State.NO_EFFECT):
            found.append(name)
    return tuple(found)
