"""Which server a LiteLLM model name means, and where it is.

Source: LiteLLM's pages on providers, November 2026: prefixes, default addresses, environment variables of keys.
"""

import re
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

import msgspec

COMPATIBLE = "openai-compatible"


def _as_given(address: str) -> str:
    return address


def _versioned(address: str) -> str:
    """LiteLLM takes the origin and adds the version itself."""
    bare = address.removesuffix("/messages").removesuffix("/api")
    return bare if bare.endswith("/v1") else f"{bare}/v1"


def _azure(address: str) -> str:
    """The resource's v1 API, whichever page of it was named."""
    bare = re.sub(r"/openai(/.*)?$|/models$", "", address)
    return f"{bare}/openai/v1"


def _rooted(address: str) -> str:
    """These have their API at `/v1` only; a bare origin lacks it."""
    return address if urlsplit(address).path not in {"", "/"} else f"{address}/v1"


class Server(msgspec.Struct, frozen=True, kw_only=True):
    """A kind of server. `type`: our preset. `key`, `base`: variables that LiteLLM reads where nothing is given.

    `base_url`: where it is, if the preset doesn't say. `address`: ours of theirs.
    """

    type: str = COMPATIBLE
    key: str | None = None
    base: str | None = None
    base_url: str | None = None
    address: Callable[[str], str] = _as_given
    own_address: bool = True


_OPENAI = Server(type="openai", key="OPENAI_API_KEY")
_AZURE = Server(type="azure", key="AZURE_API_KEY", base="AZURE_API_BASE", address=_azure)
_OLLAMA = Server(type="ollama", address=_versioned)
_VLLM = Server(type="vllm", address=_rooted)


def _at(base_url: str, key: str) -> Server:
    return Server(base_url=base_url, key=key)


SERVERS: Mapping[str, Server] = {
    "anthropic": Server(type="anthropic", key="ANTHROPIC_API_KEY", address=_versioned),
    "azure": _AZURE,
    "azure_ai": msgspec.structs.replace(_AZURE, key="AZURE_AI_API_KEY", base="AZURE_AI_API_BASE"),
    "azure_text": _AZURE,
    "cerebras": _at("https://api.cerebras.ai/v1", "CEREBRAS_API_KEY"),
    "custom_openai": Server(),
    "dashscope": _at("https://dashscope-intl.aliyuncs.com/compatible-mode/v1", "DASHSCOPE_API_KEY"),
    "deepinfra": _at("https://api.deepinfra.com/v1/openai", "DEEPINFRA_API_KEY"),
    "deepseek": Server(type="deepseek", key="DEEPSEEK_API_KEY"),
    "fireworks_ai": _at("https://api.fireworks.ai/inference/v1", "FIREWORKS_API_KEY"),
    "gemini": Server(type="gemini", key="GEMINI_API_KEY", own_address=False),
    "groq": Server(type="groq", key="GROQ_API_KEY"),
    "hosted_vllm": _VLLM,
    "litellm_proxy": Server(key="LITELLM_PROXY_API_KEY", base="LITELLM_PROXY_API_BASE"),
    "llamafile": Server(type="llama.cpp", base_url="http://127.0.0.1:8080/v1", address=_rooted),
    "lm_studio": Server(type="lm-studio", address=_rooted),
    "mistral": Server(type="mistral", key="MISTRAL_API_KEY"),
    "moonshot": _at("https://api.moonshot.ai/v1", "MOONSHOT_API_KEY"),
    "nvidia_nim": _at("https://integrate.api.nvidia.com/v1", "NVIDIA_NIM_API_KEY"),
    "ollama": _OLLAMA,
    "ollama_chat": _OLLAMA,
    "openai": _OPENAI,
    "openai_like": Server(),
    "openrouter": Server(type="openrouter", key="OPENROUTER_API_KEY"),
    "perplexity": _at("https://api.perplexity.ai", "PERPLEXITYAI_API_KEY"),
    "sambanova": _at("https://api.sambanova.ai/v1", "SAMBANOVA_API_KEY"),
    "text-completion-openai": _OPENAI,
    "together_ai": Server(type="together", key="TOGETHERAI_API_KEY"),
    "vllm": _VLLM,
    "xai": _at("https://api.x.ai/v1", "XAI_API_KEY"),
    "xinference": Server(address=_rooted),
}
"""By the prefix of a model's name, or `custom_llm_provider`."""

FOREIGN = frozenset(
    (
        "a2a", "ai21", "ai21_chat", "aleph_alpha", "assemblyai", "auto_router", "aws_polly", "baseten", "bedrock",
        "bedrock_converse", "chatgpt", "clarifai", "cloudflare", "cohere", "cohere_chat", "databricks", "deepgram",
        "elevenlabs", "gigachat", "github_copilot", "huggingface", "infinity", "jina_ai", "langgraph", "maritalk",
        "nlp_cloud", "oci", "oobabooga", "palm", "petals", "predibase", "replicate", "sagemaker", "sagemaker_chat",
        "snowflake", "triton", "vertex_ai", "vertex_ai_beta", "voyage", "watsonx", "watsonx_text",
    )
)  # fmt: skip
"""Prefixes of LiteLLM's for servers with formats of their own: an `api_base` makes nothing else of them."""

_OURS = re.compile(r"gpt-|chatgpt-|o\d|text-embedding-|text-davinci|davinci-|babbage-|dall-e-|ft:gpt|omni-")
_PREFIX = re.compile(r"[a-z0-9_-]+")


class Meant(msgspec.Struct, frozen=True, kw_only=True):
    """What a model's name says: the server's kind, what we call it, and what the model is called there."""

    server: Server
    name: str
    model: str


def meant(model: str, *, kind: str | None, base: str | None) -> Meant | str:
    """The server that `litellm_params` speak of; or why there is none here.

    `kind`: their `custom_llm_provider`; `base`: their `api_base`.
    """
    prefix, slash, rest = model.partition("/")
    if kind is not None:
        rest = rest if slash and prefix == kind else model
        prefix = kind
    elif not slash or prefix not in SERVERS:
        known = _by_its_name(model)
        if known is None and (base is None or prefix in FOREIGN):
            return _unknown(prefix if slash else None, model)
        prefix, rest = known or "custom_openai", model
    if prefix not in SERVERS:
        return _unknown(prefix, model)
    if not rest:
        return "it names no model of that server"
    return _located(prefix, rest, base)


def _located(prefix: str, model: str, base: str | None) -> Meant | str:
    server = SERVERS[prefix]
    if server is _OPENAI and base is not None and urlsplit(base).hostname != "api.openai.com":
        server = Server()
    name = server.type if server.type != COMPATIBLE else prefix
    if name in {"openai", "custom_openai", "openai_like", "text-completion-openai"} and server.type == COMPATIBLE:
        name = "server"
    if base is None and server.base is None and server.base_url is None and server.type in {COMPATIBLE, "vllm"}:
        return f"servers of `{prefix}` need an `api_base`"
    return Meant(server=server, name=re.sub(r"[^a-z0-9]+", "-", name), model=model)


def _by_its_name(model: str) -> str | None:
    if _OURS.match(model):
        return "openai"
    return "anthropic" if model.startswith("claude-") else None


def _unknown(prefix: str | None, model: str) -> str:
    if prefix is None:
        return f"nothing tells which server has '{model[:100]}'"
    if _PREFIX.fullmatch(prefix) is None:
        return "nothing tells which server that is"
    return f"there is no provider type for `{prefix}`"
