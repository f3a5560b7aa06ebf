"""Whatever stands in a file: each key is carried over or told, no secret is copied, and what comes out is valid."""

from collections.abc import Iterator
from typing import Any

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from narthex.importing.checking import check
from narthex.importing.litellm import convert

MODELS = (
    "openai/gpt-4o",
    "gpt-4o",
    "azure/x",
    "hosted_vllm/a/b",
    "ollama/x",
    "bedrock/x",
    "org/x",
    "openai/*",
    "*",
    "/",
    "",
)
NAMES = ("a", "b", "*", "a/*", "-*-", "ä", "none")
BASES = (
    "http://h:1",
    "https://u:canary@h/v1?k=canary",
    "os.environ/BASE",
    "",
    "h",
    "https://h/openai/x",
    "http://[::1",
)
ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["", "x", "${X}", "os.environ/X", "5"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=3),
    max_leaves=6,
)


def some(always: dict[str, Any] | None = None, /, **fields: Any) -> st.SearchStrategy[dict[str, Any]]:
    """A map with `always`, and some of the other keys, each with its own kind of value or, now and then, any other."""
    mostly = {name: st.one_of(known, known, known, known, ODD) for name, known in fields.items()}
    return st.fixed_dictionaries(always or {}, optional=mostly)


name = st.sampled_from(NAMES)
number = st.sampled_from([0, 1, 2.5, "3", 700])
tables = st.lists(st.dictionaries(name, st.lists(name, max_size=3), max_size=2), max_size=2)
params = some(
    {"model": st.sampled_from(MODELS)},
    api_base=st.sampled_from(BASES),
    api_key=st.sampled_from(["sk-canary", "os.environ/KEY"]),
    custom_llm_provider=st.sampled_from(["openai", "azure", "nobody"]),
    weight=number, rpm=number, order=number, timeout=number, stream_timeout=number, max_retries=number, other=ODD,
)  # fmt: skip
entry = some(
    {"model_name": name, "litellm_params": params},
    model_info=some(mode=st.sampled_from(["chat", "embedding", "rerank"]), id=name),
    tpm=number,
)
odd_entry = some(model_name=name, litellm_params=ODD, model_info=ODD)
rules = some(
    routing_strategy=st.sampled_from(["simple-shuffle", "least-busy", "latency-based-routing", "cost-based-routing"]),
    num_retries=number, cooldown_time=number, retry_after=number, timeout=number, request_timeout=number,
    fallbacks=tables, context_window_fallbacks=tables, content_policy_fallbacks=tables,
    default_fallbacks=st.lists(name, max_size=2), model_group_alias=st.dictionaries(name, name, max_size=3),
    drop_params=st.booleans(), json_logs=st.booleans(), other=ODD,
)  # fmt: skip
files = st.fixed_dictionaries(
    {"model_list": st.lists(entry | entry | odd_entry, min_size=1, max_size=6)},
    optional={
        "router_settings": rules | ODD,
        "litellm_settings": rules | ODD,
        "general_settings": some(master_key=st.just("sk-canary"), max_request_size_mb=number) | ODD,
        "environment_variables": some(SECRET=st.just("canary")),
        "guardrails": ODD,
    },
)


def leaves(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from leaves(item, (*path, key))
    elif isinstance(value, list) and value:
        for place, item in enumerate(value):
            yield from leaves(item, (*path, str(place)))
    elif value not in (None, "", [], {}):
        yield path


@settings(max_examples=100, deadline=None)
@given(files)
def test_whatever_stands_there(file: dict[str, Any]) -> None:
    made = convert(yaml.safe_dump(file, allow_unicode=True))
    check(made.text())
    assert yaml.safe_load(made.text()) == made.settings
    assert "canary" not in made.text() + "".join(made.left_out())
    accounted = made.carried | {one.path for one in made.told}
    for leaf in leaves(file):
        assert any(".".join(leaf[:end]) in accounted for end in range(1, len(leaf) + 1)), leaf
