"""`/v4/beta/chat/completions`: the fields of `/v1`, as far as this API has them. Source: contract sections 4 and 11."""

from typing import Any

from msgspec import UNSET
from typing_extensions import override

from narthex.core.ports import Call, Decoded
from narthex.dialects import openai_chat
from narthex.dialects.body import Form
from narthex.dialects.fields import Field, choice, record
from narthex.dialects.openai_chat import ChatDialect
from narthex.dialects.profiles import VOICES
from narthex.dialects.sampling import NOT_BUILT, SHARED
from narthex.dialects.scale_answers import ScaleChatStream
from narthex.dialects.scale_messages import MESSAGES, as_common

NOT_HERE = frozenset(
    (
        "store", "metadata", "service_tier", "functions", "function_call", "reasoning_effort", "verbosity",
        "web_search_options", "safety_identifier", "prompt_cache_key", "prompt_cache_retention", "prompt_cache_options",
        "moderation",
    )
)  # fmt: skip
"""Fields of `/v1` that this API does not know."""

_NO_SEED = -1
_SEED = SHARED["seed"]


def _seed(value: Any, path: str) -> Any:
    seed = _SEED.parse(value, path)
    return UNSET if seed == _NO_SEED else seed


SEED = Field(_seed, _SEED.schema)
"""As on `/v1`, but for the value that means none (contract 7.1)."""
FIELDS: dict[str, Field] = {name: field for name, field in openai_chat.FIELDS.items() if name not in NOT_HERE} | {
    "messages": MESSAGES,
    "seed": SEED,
    "audio": record(
        {"voice": choice(*VOICES), "format": choice("wav", "mp3", "flac", "opus", "pcm16")},
        required=("voice", "format"),
    ),
}
EXTENSIONS = openai_chat.EXTENSIONS
REQUIRED = openai_chat.REQUIRED
FORM = Form("chat", FIELDS, REQUIRED, extensions=EXTENSIONS | NOT_BUILT)


class ScaleChatDialect(ChatDialect):
    """Chats as Scale's clients know them."""

    @override
    def decode(self, body: bytes, *, profile: str, strict: bool) -> Decoded:
        """Read and check a request; see `Dialect.decode`. Profiles narrow `/v1` only."""
        read = FORM.read(body, profile="openai", strict=strict)
        read.sent["messages"] = as_common(read.sent["messages"])
        return Decoded(openai_chat.request_of(read), read.ignored)

    @override
    def encoder(self, call: Call, *, created: int) -> ScaleChatStream:
        """Write the answer as chunks."""
        return ScaleChatStream(call, created=created)
