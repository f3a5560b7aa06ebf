"""Servers of models that we know by name: where they are, how they take their key, and what they honour. No I/O.

Sources: the vendors' own documentation of what they take in OpenAI's format, November 2026. Fields that a vendor
ignores in silence are not listed as honoured; what it drops of little weight is `NO_EFFECT`, and named in the answer's
header.

To add a server that speaks a format we know is one row here.
"""

from collections.abc import Callable, Mapping
from functools import partial

import msgspec

from narthex.core.capabilities import Capabilities, State
from narthex.core.models import ModelKind
from narthex.core.ports import Surface
from narthex.core.tools import CACHED
from narthex.providers import (
    anthropic,
    anthropic_models,
    openai_codec,
    openai_completions,
    openai_embeddings,
    openai_images,
    sglang,
    vllm,
)
from narthex.providers.anthropic import AnthropicChat
from narthex.providers.codec import AnyCodec
from narthex.providers.extras import Extended
from narthex.providers.gemini import GeminiChat
from narthex.providers.openai_codec import OpenAIChat
from narthex.providers.openai_completions import OpenAICompletions
from narthex.providers.openai_embeddings import OpenAIEmbeddings
from narthex.providers.openai_images import OpenAIImages
from narthex.providers.openai_rows import (
    Row,
    format_without,
    native,
    never_required,
    one_text,
    only_words,
    unnamed,
    up_to,
    without,
    without_choice,
)
from narthex.providers.openai_speech import OpenAISpeech
from narthex.providers.preset_rows import CORE, DIFFUSION, ENCODED, LIMIT_IS_OLDER, NO_PENALTIES, NUMBERS, TEXTS
from narthex.providers.refusing import Refusing
from narthex.providers.traits import ModelTraits

Make = Callable[[ModelTraits], AnyCodec]

BEARER = "authorization"
"""The header of a key that is sent as `Bearer <key>`; in others it stands alone."""


class Preset(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of server. `base_url` None: it has to be given. `key_header`: where it wants its key.

    `headers`: sent with every request. `traits`: of its models, unless their names (`by_name`) or the configuration
    say otherwise. `fetches_images`: it may be given addresses of images, if it is not on a private network.
    """

    base_url: str | None = None
    key_header: str = BEARER
    headers: Mapping[str, str] = {}
    traits: ModelTraits = ModelTraits()
    by_name: Callable[[str, ModelTraits], ModelTraits] | None = None
    fetches_images: bool = True
    surfaces: Mapping[Surface, Make]

    def traits_of(self, model: str) -> ModelTraits:
        """The traits of one model, as far as they are known without the configuration."""
        return self.traits if self.by_name is None else self.by_name(model, self.traits)


# --- codecs of one model --------------------------------------------------------------------------------------------

_SURFACES: Mapping[ModelKind, tuple[Surface, ...]] = {
    "chat": ("chat", "completions"),
    "embedding": ("embeddings",),
    "image": ("images",),
    "speech": ("speech",),
}


def _images(traits: ModelTraits, honoured: Capabilities = openai_images.HONOURED) -> AnyCodec:
    return Refusing(OpenAIImages(honoured=honoured), refused=traits.refused)


def _speech(traits: ModelTraits) -> AnyCodec:
    return Refusing(OpenAISpeech(), refused=traits.refused)


def _anthropic(traits: ModelTraits) -> AnyCodec:
    codec = AnthropicChat(
        max_tokens=traits.answer_tokens,
        prefill=traits.prefill,
        thinking=traits.reasoning is not False,
        adaptive=traits.adaptive,
        schema=traits.json_schema,
        sampling=traits.reasoning is not True,
        may_not_think=traits.may_not_think,
        may_have_to_call=traits.may_have_to_call,
    )
    return Refusing(codec, refused=traits.refused)


# --- the table -------------------------------------------------------------------------------------------------------

_OPENAI: Mapping[Surface, Make] = {
    "chat": partial(OpenAIChat, Row(honoured=openai_codec.HONOURED)),
    "completions": partial(OpenAICompletions, Row(honoured=openai_completions.HONOURED)),
    "embeddings": partial(OpenAIEmbeddings, Row(honoured=openai_embeddings.HONOURED)),
    "images": _images,
    "speech": _speech,
}

PRESETS: Mapping[str, Preset] = {
    "anthropic": Preset(
        base_url="https://api.anthropic.com/v1",
        key_header=anthropic.KEY_HEADER,
        headers=anthropic.HEADERS,
        traits=ModelTraits(prefill=True),
        by_name=anthropic_models.traits_of,
        surfaces={"chat": _anthropic},
    ),
    "azure": Preset(  # its v1 API: https://<resource>.openai.azure.com/openai/v1
        key_header="api-key",
        traits=ModelTraits(max_tokens_field="max_completion_tokens", developer=True, functions=True),
        surfaces={
            **_OPENAI,
            "chat": partial(
                OpenAIChat,
                Row(
                    honoured=without(
                        openai_codec.HONOURED, ("web_search_options", "moderation", "prompt_cache_options")
                    )
                ),
            ),
        },
    ),
    "deepseek": Preset(
        base_url="https://api.deepseek.com/v1",
        traits=LIMIT_IS_OLDER,
        surfaces={
            "chat": partial(
                OpenAIChat,
                Row(
                    honoured=without(CORE, ("seed",))
                    | native("logprobs", "top_logprobs", "reasoning_effort")
                    | {"response_format": format_without("json_schema")},
                    continues="prefix",
                ),
            ),
        },
    ),
    "gemini": Preset(
        base_url="https://generativelanguage.googleapis.com/v1beta/openai",
        fetches_images=False,
        traits=LIMIT_IS_OLDER,
        surfaces={
            "chat": partial(
                GeminiChat,
                Row(
                    honoured=without(CORE, ("seed", "frequency_penalty", "presence_penalty"))
                    | native("n", "reasoning_effort"),
                    relays=False,
                    own_members=False,
                ),
            ),
            "embeddings": partial(OpenAIEmbeddings, Row(honoured=NUMBERS | native("dimensions"))),
        },
    ),
    "groq": Preset(
        base_url="https://api.groq.com/openai/v1",
        traits=ModelTraits(max_tokens_field="max_completion_tokens"),
        surfaces={
            "chat": partial(
                OpenAIChat,
                Row(
                    honoured=CORE
                    | native("max_completion_tokens", "parallel_tool_calls", "reasoning_effort", "user")
                    | {"messages": unnamed(), **NO_PENALTIES},
                    own_members=False,
                ),
            ),
        },
    ),
    "llama.cpp": Preset(
        fetches_images=False,
        traits=ModelTraits(max_tokens_field="max_tokens", prefill=True),
        surfaces={
            "chat": partial(
                OpenAIChat,
                Row(
                    whole=False,
                    honoured=CORE
                    | native(
                        "logit_bias", "logprobs", "top_logprobs", "parallel_tool_calls", "top_k", "min_p",
                        "chat_template_kwargs",
                    ),
                ),
            ),
            "completions": partial(
                OpenAICompletions, Row(whole=False, honoured=TEXTS | native("logit_bias", "top_k", "min_p"))
            ),
            "embeddings": partial(OpenAIEmbeddings, Row(honoured=ENCODED)),
        },
    ),
    "lm-studio": Preset(
        base_url="http://127.0.0.1:1234/v1",
        fetches_images=False,
        traits=LIMIT_IS_OLDER,
        surfaces={
            "chat": partial(
                OpenAIChat,
                Row(
                    whole=False,
                    honoured=CORE
                    | native("logit_bias", "top_k")
                    | {"response_format": format_without("json_object"), "tool_choice": only_words()},
                ),
            ),
            "completions": partial(
                OpenAICompletions, Row(whole=False, honoured=TEXTS | native("logit_bias", "top_k"))
            ),
            "embeddings": partial(OpenAIEmbeddings, Row(honoured=NUMBERS)),
        },
    ),
    "mistral": Preset(
        base_url="https://api.mistral.ai/v1",
        traits=LIMIT_IS_OLDER,
        surfaces={
            "chat": partial(
                OpenAIChat,
                Row(
                    honoured=CORE
                    | native("n", "parallel_tool_calls", "prediction")
                    | {"stream_options": State.EMULATED},
                    renamed={"seed": "random_seed"},
                    asks_usage=False,
                    continues="prefix",
                    repeats=True,
                    relays=False,
                    own_members=False,
                ),
            ),
            "embeddings": partial(
                OpenAIEmbeddings,
                Row(honoured=NUMBERS | native("dimensions"), renamed={"dimensions": "output_dimension"}),
            ),
        },
    ),
    "narthex": Preset(  # it refuses what its own models don't honour, so all that it knows may be sent
        traits=openai_codec.AS_SENT,
        surfaces={
            **_OPENAI,
            "chat": partial(OpenAIChat, Row(honoured=native(*vllm.CHAT, CACHED) | openai_codec.HONOURED)),
            "completions": partial(
                OpenAICompletions, Row(honoured=native(*vllm.COMPLETIONS) | openai_completions.HONOURED)
            ),
            "images": partial(_images, honoured={**DIFFUSION, **openai_images.HONOURED}),
        },
    ),
    "ollama": Preset(
        base_url="http://127.0.0.1:11434/v1",
        fetches_images=False,
        traits=LIMIT_IS_OLDER,
        surfaces={
            "chat": partial(
                OpenAIChat,
                Row(
                    honoured=CORE
                    | native("logprobs", "top_logprobs", "reasoning_effort")
                    | {"tool_choice": without_choice("tool_choice")}
                ),
            ),
            "completions": partial(
                OpenAICompletions, Row(honoured=TEXTS | native("suffix") | {"prompt": one_text()})
            ),
            "embeddings": partial(OpenAIEmbeddings, Row(honoured=ENCODED | native("dimensions"))),
        },
    ),
    "openai": Preset(
        base_url="https://api.openai.com/v1",
        traits=ModelTraits(max_tokens_field="max_completion_tokens", developer=True, functions=True),
        surfaces=_OPENAI,
    ),
    "openai-compatible": Preset(traits=openai_codec.AS_SENT, surfaces=_OPENAI),
    "openrouter": Preset(
        base_url="https://openrouter.ai/api/v1",
        traits=LIMIT_IS_OLDER,
        surfaces={
            "chat": partial(
                OpenAIChat,
                Row(
                    honoured=CORE
                    | native(
                        "logit_bias", "logprobs", "top_logprobs", "parallel_tool_calls", "reasoning_effort",
                        "verbosity", "user", "top_k", "min_p", "repetition_penalty",
                    ),
                    # Else it sends a request to whoever is cheapest, and what that one doesn't know is dropped.
                    constant={"provider": {"require_parameters": True}},
                ),
            ),
            "embeddings": partial(OpenAIEmbeddings, Row(honoured=ENCODED | native("dimensions", "user"))),
        },
    ),
    "oxyapi": Preset(
        base_url="https://app.oxyapi.uk/v1",
        traits=ModelTraits(max_tokens_field="max_tokens", functions=True),
        surfaces={
            "chat": partial(
                OpenAIChat,
                Row(
                    honoured=CORE
                    | native("logit_bias", "logprobs", "user", "functions", "function_call")
                    | {
                        "stream_options": State.EMULATED,
                        "top_logprobs": up_to("top_logprobs", 5),
                        "response_format": format_without("json_schema"),
                        "tool_choice": never_required(),
                    },
                    asks_usage=False,
                ),
            ),
            "embeddings": partial(OpenAIEmbeddings, Row(honoured=openai_embeddings.HONOURED)),
            "images": partial(_images, honoured=DIFFUSION),
        },
    ),
    "sglang": Preset(
        fetches_images=False,
        surfaces={
            "chat": sglang.SglangChat,
            "completions": sglang.SglangCompletions,
            "embeddings": partial(OpenAIEmbeddings, Row(honoured=NUMBERS)),
        },
    ),
    "together": Preset(
        base_url="https://api.together.xyz/v1",
        traits=LIMIT_IS_OLDER,
        surfaces={
            "chat": partial(
                OpenAIChat,
                Row(
                    honoured=CORE
                    | native("n", "logit_bias", "reasoning_effort", "top_k", "min_p", "repetition_penalty")
                ),
            ),
            "completions": partial(
                OpenAICompletions,
                Row(
                    honoured=TEXTS
                    | native("n", "logit_bias", "top_k", "min_p", "repetition_penalty")
                    | {"prompt": one_text()}
                ),
            ),
            "embeddings": partial(OpenAIEmbeddings, Row(honoured=NUMBERS)),
        },
    ),
    "vllm": Preset(
        fetches_images=False,
        surfaces={
            "chat": vllm.VllmChat,
            "completions": vllm.VllmCompletions,
            "embeddings": partial(OpenAIEmbeddings, Row(honoured=vllm.EMBEDDINGS)),
        },
    ),
}  # fmt: skip
"""By the name that stands in the configuration as a provider's `type`."""


def codecs(preset: Preset, traits: ModelTraits) -> dict[Surface, AnyCodec]:
    """The codecs of one model, by surface."""
    taken = preset.surfaces if traits.kind is None else _SURFACES[traits.kind]
    return {surface: _made(make, surface, traits) for surface, make in preset.surfaces.items() if surface in taken}


def _made(make: Make, surface: Surface, traits: ModelTraits) -> AnyCodec:
    params, headers = traits.extra_params, traits.extra_headers
    if not (params or headers) or surface not in _SURFACES["chat"]:
        return make(traits)
    return Extended(make(traits), params=params or (), headers=headers or ())


def request_headers(preset: Preset, key: str | None) -> dict[str, str]:
    """What is sent with every request. Secret."""
    if key is None:
        return dict(preset.headers)
    return {**preset.headers, preset.key_header: f"Bearer {key}" if preset.key_header == BEARER else key}
