"""What one model on a provider's server can do, where models of one server differ."""

from typing import Literal

import msgspec

from narthex.core.models import ModelKind

MaxTokensField = Literal["max_tokens", "max_completion_tokens"]


class ModelTraits(msgspec.Struct, frozen=True, kw_only=True):
    """The row of one model; a preset brings the defaults, the configuration may say otherwise.

    `max_tokens_field`: the only name by which it takes the limit of its answer; None: both, as the caller wrote it.
    `refused`: request fields that it can't honour, whatever its server can.
    `developer`: it knows the role `developer`; without, such messages are sent as `system`.
    `functions`: it knows the older `functions`; without, they are sent as tools.
    `prefill`: a trailing assistant message is to be continued, and not answered.
    `reasoning`: True: it thinks before it answers, and takes no sampling fields; False: it takes no `reasoning_effort`;
    None: not known, the server is asked.
    `answer_tokens`: the limit of an answer whose caller set none, where the format has to tell one.
    `kind`: it is asked on this kind's surfaces only; None: on all that its server has.
    `json_schema`: its answers can be held to a schema; `adaptive`: it thinks as much as an effort asks for. Both matter
    only where a format has other ways for those that can't.
    `may_not_think`: it can be told not to think; `may_have_to_call`: it can be made to call a tool.
    `extra_params`, `extra_headers`: what callers may add to requests for it by names of their own; None: as for all
    models of its provider. Headers in lower case.
    """

    max_tokens_field: MaxTokensField | None = None
    refused: frozenset[str] = frozenset()
    developer: bool = False
    functions: bool = False
    prefill: bool = False
    reasoning: bool | None = None
    answer_tokens: int = 4096
    kind: ModelKind | None = None
    json_schema: bool = False
    adaptive: bool = False
    may_not_think: bool = True
    may_have_to_call: bool = True
    extra_params: frozenset[str] | None = None
    extra_headers: frozenset[str] | None = None
