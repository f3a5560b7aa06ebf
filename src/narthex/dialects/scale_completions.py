"""`/v4/beta/completions`: `/v1/completions` by the names of Scale's API. Source: contract sections 4.9 and 11.

The log probabilities are asked for and told as those of chats. Fields that mean nothing without messages are known here
and honoured by nobody.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec
from msgspec import UNSET
from typing_extensions import override

from narthex.core.completions import OTHER_NAMES
from narthex.core.ports import Call, Decoded
from narthex.dialects import openai_completions, scale_chat
from narthex.dialects.body import Body, Form
from narthex.dialects.fields import BOOLEAN, STRING, Field, array, integer, invalid, string
from narthex.dialects.legacy_logprobs import ChoiceLogprobs
from narthex.dialects.openai_completions import CompletionsDialect
from narthex.dialects.sampling import NOT_BUILT
from narthex.dialects.scale_answers import ScaleCompletionsStream, ScaleLogprobs
from narthex.wire.json import encode

_OF_CHATS = frozenset(
    (
        "chat_template", "chat_template_kwargs", "guided_decoding_backend", "guided_whitespace_pattern",
        "memory_strategy",
    )
)  # fmt: skip
"""Extensions that this API has for chats alone."""
_TEXTS = array(string(shortest=1), 0, 4)

FIELDS: dict[str, Field] = openai_completions.FIELDS | {
    "prompt": Field(lambda value, path: (STRING.parse(value, path),), STRING.schema),
    "seed": scale_chat.SEED,
    "logprobs": BOOLEAN,
    "top_logprobs": integer(0, 20),
    "return_token_log_probs": BOOLEAN,
    "max_completion_tokens": integer(0),
    "max_new_tokens": integer(0),
    "stop_sequences": Field(lambda value, path: _TEXTS.parse(value, path) or UNSET, _TEXTS.schema),
}
EXTENSIONS: dict[str, Field] = {
    name: field for name, field in openai_completions.EXTENSIONS.items() if name not in _OF_CHATS
}
REFUSED: dict[str, Field] = {name: field for name, field in NOT_BUILT.items() if name not in _OF_CHATS} | {
    name: scale_chat.FIELDS[name]
    for name in (
        "audio", "modalities", "parallel_tool_calls", "prediction", "response_format", "tools", "tool_choice",
    )
}  # fmt: skip
"""What is known, and honoured by nobody."""
REQUIRED = openai_completions.REQUIRED
FORM = Form("completions", FIELDS, REQUIRED, extensions=EXTENSIONS | REFUSED)


class ScaleCompletionsDialect(CompletionsDialect):
    """Text completions as Scale's clients know them."""

    logprobs: Callable[[], ChoiceLogprobs] = ScaleLogprobs

    @override
    def decode(self, body: bytes, *, profile: str, strict: bool) -> Decoded:
        """Read and check a request; see `Dialect.decode`. Profiles narrow `/v1` only."""
        read = FORM.read(body, profile="openai", strict=strict)
        logprobs = _logprobs(read.fields)
        return Decoded(openai_completions.request_of(_as_common(read, logprobs), logprobs=logprobs), read.ignored)

    @override
    def encoder(self, call: Call, *, created: int) -> ScaleCompletionsStream:
        """Write the answer as chunks."""
        return ScaleCompletionsStream(call, created=created)


def _logprobs(fields: Mapping[str, Any]) -> int | None:
    """How many rivals of each token are to be told; None: no log probabilities."""
    asked = fields.get("logprobs") or fields.get("return_token_log_probs")
    if "top_logprobs" in fields and not asked:
        raise invalid("top_logprobs", "it is only allowed when 'logprobs' is true.")
    return fields.get("top_logprobs", 0) if asked else None


def _as_common(read: Body, logprobs: int | None) -> Body:
    """The same by the names of `/v1`, the caller's own first, so that a refusal tells these."""
    fields, sent = dict(read.fields), dict(read.sent)
    for other, name in _renamed(fields):
        if name in fields:
            raise invalid(other, f"it can't be used with '{name}', or another name of that.")
        fields[name], sent[name] = fields[other], sent.pop(other)
    for name in ("top_logprobs", "return_token_log_probs", "logprobs"):
        sent.pop(name, None)
    if logprobs is not None:
        fields["logprobs"], sent["logprobs"] = True, msgspec.Raw(encode(logprobs))
    return Body(fields=fields, sent=sent, ignored=read.ignored)


def _renamed(fields: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    return ((other, name) for other, name in OTHER_NAMES.items() if other in fields and name != "logprobs")
