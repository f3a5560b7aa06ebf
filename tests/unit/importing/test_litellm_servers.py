"""Which server a LiteLLM model name means."""

import pytest

from narthex.importing.litellm_servers import FOREIGN, SERVERS, Meant, meant
from narthex.providers.presets import PRESETS

HOUSE = "https://models.example/v1"


@pytest.mark.parametrize(
    ("model", "base", "type_", "named"),
    [
        ("openai/gpt-4o", None, "openai", "gpt-4o"),
        ("openai/gpt-4o", "https://api.openai.com/v1", "openai", "gpt-4o"),
        ("openai/org/model", HOUSE, "openai-compatible", "org/model"),
        ("openai/x", "${BASE}", "openai-compatible", "x"),
        ("gpt-4o", None, "openai", "gpt-4o"),
        ("o3-mini", None, "openai", "o3-mini"),
        ("text-embedding-3-small", None, "openai", "text-embedding-3-small"),
        ("dall-e-3", None, "openai", "dall-e-3"),
        ("gpt-4o", HOUSE, "openai-compatible", "gpt-4o"),
        ("text-completion-openai/gpt-3.5-turbo-instruct", None, "openai", "gpt-3.5-turbo-instruct"),
        ("claude-opus-4-1", None, "anthropic", "claude-opus-4-1"),
        ("anthropic/claude-opus-4-1", None, "anthropic", "claude-opus-4-1"),
        ("azure/our-deployment", None, "azure", "our-deployment"),
        ("azure_ai/phi-4", "https://x.services.ai.azure.com", "azure", "phi-4"),
        ("ollama/llama3.2:3b", None, "ollama", "llama3.2:3b"),
        ("ollama_chat/llama3.2", None, "ollama", "llama3.2"),
        ("hosted_vllm/org/model", HOUSE, "vllm", "org/model"),
        ("vllm/org/model", HOUSE, "vllm", "org/model"),
        ("groq/x", None, "groq", "x"),
        ("mistral/x", None, "mistral", "x"),
        ("together_ai/org/x", None, "together", "org/x"),
        ("openrouter/org/x", None, "openrouter", "org/x"),
        ("deepseek/x", None, "deepseek", "x"),
        ("gemini/x", None, "gemini", "x"),
        ("lm_studio/x", None, "lm-studio", "x"),
        ("llamafile/x", None, "llama.cpp", "x"),
        ("xai/grok-4", None, "openai-compatible", "grok-4"),
        ("org/model", HOUSE, "openai-compatible", "org/model"),
        ("model", HOUSE, "openai-compatible", "model"),
    ],
)
def test_what_is_meant(model: str, base: str | None, type_: str, named: str) -> None:
    found = meant(model, kind=None, base=base)
    assert isinstance(found, Meant)
    assert (found.server.type, found.model) == (type_, named)


@pytest.mark.parametrize(
    ("model", "kind", "type_", "named"),
    [
        ("org/model", "groq", "groq", "org/model"),
        ("groq/model", "groq", "groq", "model"),
        ("model", "openai", "openai", "model"),
    ],
)
def test_the_kind_may_be_given(model: str, kind: str, type_: str, named: str) -> None:
    found = meant(model, kind=kind, base=None)
    assert isinstance(found, Meant)
    assert (found.server.type, found.model) == (type_, named)


@pytest.mark.parametrize(
    ("model", "kind", "why"),
    [
        ("bedrock/x", None, "there is no provider type for `bedrock`"),
        ("x", "sagemaker", "there is no provider type for `sagemaker`"),
        ("x", None, "nothing tells which server has 'x'"),
        ("Some thing/x", None, "nothing tells which server that is"),
        ("azure/", None, "it names no model of that server"),
        ("hosted_vllm/x", None, "servers of `hosted_vllm` need an `api_base`"),
        ("openai_like/x", None, "servers of `openai_like` need an `api_base`"),
    ],
)
def test_what_is_not_here(model: str, kind: str | None, why: str) -> None:
    assert meant(model, kind=kind, base=None) == why


@pytest.mark.parametrize(
    ("prefix", "theirs", "ours"),
    [
        ("azure", "https://x.openai.azure.com", "https://x.openai.azure.com/openai/v1"),
        ("azure", "https://x.openai.azure.com/openai/v1", "https://x.openai.azure.com/openai/v1"),
        ("azure", "https://x.openai.azure.com/openai/deployments/y", "https://x.openai.azure.com/openai/v1"),
        ("azure_ai", "https://x.services.ai.azure.com/models", "https://x.services.ai.azure.com/openai/v1"),
        ("anthropic", "https://api.anthropic.com", "https://api.anthropic.com/v1"),
        ("anthropic", "https://proxy.example/v1/messages", "https://proxy.example/v1"),
        ("ollama", "http://gpu:11434", "http://gpu:11434/v1"),
        ("ollama", "http://gpu:11434/v1", "http://gpu:11434/v1"),
        ("hosted_vllm", "http://gpu:8000", "http://gpu:8000/v1"),
        ("hosted_vllm", "http://gpu:8000/team/v1", "http://gpu:8000/team/v1"),
        ("openai", "https://models.example/openai", "https://models.example/openai"),
    ],
)
def test_addresses(prefix: str, theirs: str, ours: str) -> None:
    assert SERVERS[prefix].address(theirs) == ours


@pytest.mark.parametrize("prefix", sorted(FOREIGN))
def test_an_address_makes_no_other_format_of_a_server(prefix: str) -> None:
    assert meant(f"{prefix}/x", kind=None, base=HOUSE) == f"there is no provider type for `{prefix}`"


def test_the_table() -> None:
    assert FOREIGN.isdisjoint(SERVERS)
    assert list(SERVERS) == sorted(SERVERS)
    for prefix, server in SERVERS.items():
        assert server.type in PRESETS, prefix
