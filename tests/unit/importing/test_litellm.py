"""LiteLLM's configuration, turned into ours: what is carried over, and that the rest is told."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from narthex.core.errors import ConfigError
from narthex.importing.checking import check
from narthex.importing.litellm import convert
from narthex.importing.rendering import Imported

CORPUS = sorted((Path(__file__).parents[2] / "corpus" / "litellm").glob("*.yaml"))


@pytest.fixture(params=CORPUS, ids=lambda file: file.stem)
def theirs(request: pytest.FixtureRequest) -> str:
    file: Path = request.param
    return file.read_text()


def imported(name: str) -> Imported:
    [file] = [file for file in CORPUS if file.stem == name]
    return convert(file.read_text())


def models(made: Imported) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in made.settings["models"]}


def one(**params: Any) -> Imported:
    """Of a file with one model."""
    rows = [{"model_name": "m", "litellm_params": {"model": "openai/gpt-4o"} | params}]
    return convert(yaml.safe_dump({"model_list": rows}))


def of(*rows: dict[str, Any], **sections: Any) -> Imported:
    entries = [{"model_name": row.pop("name", "m"), "litellm_params": row} for row in rows]
    return convert(yaml.safe_dump({"model_list": entries, **sections}))


# --- every file ------------------------------------------------------------------------------------------------------


def leaves(value: Any, path: str = "") -> Iterator[str]:
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from leaves(item, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list) and value:
        for place, item in enumerate(value):
            yield from leaves(item, f"{path}.{place}")
    else:
        yield path


def test_every_key_is_carried_over_or_told(theirs: str) -> None:
    made = convert(theirs)
    accounted = made.carried | {one.path for one in made.told}
    for leaf in leaves(yaml.safe_load(theirs)):
        parts = leaf.split(".")
        assert any(".".join(parts[:end]) in accounted for end in range(1, len(parts) + 1)), leaf


def test_every_told_key_stands_in_its_line(theirs: str) -> None:
    lines = theirs.splitlines()
    for one in convert(theirs).told:
        keys = [part for part in one.path.split(".") if not part.isdigit()]
        assert any(key in lines[one.line - 1] for key in keys) or one.path.startswith("model_list")


def test_no_secret_is_copied_or_told(theirs: str) -> None:
    made = convert(theirs)
    assert "canary" not in made.text()
    assert "canary" not in "".join([*made.notes, *made.left_out()])


def test_the_result_is_a_configuration_of_ours(theirs: str) -> None:
    made = convert(theirs)
    check(made.text())
    assert yaml.safe_load(made.text()) == made.settings


def test_it_is_the_same_each_time(theirs: str) -> None:
    assert convert(theirs).text() == convert(theirs).text()


# --- models and their servers ----------------------------------------------------------------------------------------


def test_deployments_of_one_name_are_drawn_by_their_weights() -> None:
    made = of({"model": "azure/a", "api_base": "https://x", "weight": 3}, {"model": "groq/b", "weight": 1})
    assert models(made)["m"]["deployments"] == [{"to": "azure/a", "weight": 3}, {"to": "groq/b", "weight": 1}]
    assert made.told == ()


def test_without_weights_they_are_drawn_alike() -> None:
    made = of({"model": "gpt-4o"}, {"model": "groq/b"})
    assert [each["weight"] for each in models(made)["m"]["deployments"]] == [1, 1]


def test_limits_are_shares_as_with_litellm() -> None:
    made = imported("balanced")
    assert [each["weight"] for each in models(made)["by-limits"]["deployments"]] == [900, 100, 0]


def test_the_same_deployment_twice_is_one_with_both_weights() -> None:
    made = of({"model": "groq/a", "weight": 2}, {"model": "groq/b"}, {"model": "groq/a", "weight": 0.5})
    assert models(made)["m"]["deployments"] == [{"to": "groq/a", "weight": 2.5}, {"to": "groq/b", "weight": 0}]


def test_an_order_is_kept() -> None:
    made = of({"model": "groq/a", "order": 2}, {"model": "groq/last"}, {"model": "groq/b", "order": 1})
    assert models(made)["m"]["deployments"] == ["groq/b", "groq/a", "groq/last"]


def test_servers_with_keys_of_their_own_are_providers_of_their_own() -> None:
    rows = [{"name": key, "model": "groq/a", "api_key": f"os.environ/{key}"} for key in ("ONE", "TWO", "ONE")]
    made = of(*rows)
    assert made.settings["providers"] == {
        "groq": {"type": "groq", "api_key": "${ONE}"},
        "groq-2": {"type": "groq", "api_key": "${TWO}"},
    }
    assert models(made)["TWO"]["deployments"] == ["groq-2/a"]


def test_the_variable_that_litellm_reads_by_itself_is_named() -> None:
    made = one()
    assert made.settings["providers"]["openai"]["api_key"] == "${OPENAI_API_KEY}"
    assert "Set these environment variables: OPENAI_API_KEY." in made.notes


def test_a_literal_secret_becomes_a_variable_that_is_not_taken() -> None:
    made = of(
        {"name": "a", "model": "gpt-4o", "api_key": "sk-canary"},
        {"name": "b", "model": "gpt-4o", "api_key": "os.environ/OPENAI_API_KEY"},
        {"name": "c", "model": "gpt-4o", "api_key": "sk-canary"},
    )
    keys = [row["api_key"] for row in made.settings["providers"].values()]
    assert keys == ["${OPENAI_2_API_KEY}", "${OPENAI_API_KEY}"]
    assert models(made)["c"]["deployments"] == models(made)["a"]["deployments"]
    assert any("OPENAI_2_API_KEY" in note and "line 3" in note for note in made.notes)


def test_a_literal_secret_is_not_taken_for_the_one_that_litellm_reads_by_itself() -> None:
    made = of({"name": "a", "model": "gpt-4o", "api_key": "sk-canary"}, {"name": "b", "model": "gpt-4o"})
    assert models(made)["a"]["deployments"] != models(made)["b"]["deployments"]
    keys = [row["api_key"] for row in made.settings["providers"].values()]
    assert keys == ["${OPENAI_2_API_KEY}", "${OPENAI_API_KEY}"]


def test_a_variable_of_what_was_left_out_is_not_asked_for() -> None:
    made = one(model="bedrock/x", api_base="os.environ/BEDROCK")
    assert not any("BEDROCK" in note for note in made.notes)


def test_nobodys_key_is_sent_to_another_server() -> None:
    made = one(api_base="https://models.example/v1/")
    assert made.settings["providers"] == {
        "server": {"type": "openai-compatible", "base_url": "https://models.example/v1"}
    }
    [told] = made.told
    assert "no key is sent" in told.why


def test_a_prefix_that_nobody_knows_belongs_to_the_name() -> None:
    made = of({"model": "house/model", "api_base": "https://models.example/v1", "api_key": "os.environ/KEY"})
    assert models(made)["m"]["deployments"] == ["server/house/model"]
    assert [one.path for one in made.told] == ["model_list.0.litellm_params.model.(prefix)"]


def test_what_an_address_hides_is_left_out() -> None:
    made = one(api_base="https://name:canary@models.example/v1?key=canary", api_key="os.environ/KEY")
    assert made.settings["providers"]["server"]["base_url"] == "https://models.example/v1"
    assert [one.path for one in made.told] == ["model_list.0.litellm_params.api_base.(parts)"]


@pytest.mark.parametrize("base", ["http://[::1", "models.example", "ftp://models.example", 7, "${BASE}", "http://a b"])
def test_without_a_good_address_nobody_is_asked(base: Any) -> None:
    made = one(api_base=base, api_key="sk-canary")
    assert "providers" not in made.settings
    assert "api_base" in made.told[-1].path + made.told[-1].why


def test_an_address_of_the_environment() -> None:
    made = of({"model": "ollama/x", "api_base": "os.environ/OLLAMA"}, {"model": "azure/x"})
    providers = made.settings["providers"]
    assert providers["ollama"]["base_url"] == "${OLLAMA}/v1"
    assert providers["azure"]["base_url"] == "${AZURE_API_BASE}/openai/v1"
    assert sum("comes out right" in note for note in made.notes) == 2


@pytest.mark.parametrize("mode", ["rerank", "audio_speech", "batch"])
def test_a_model_for_what_is_not_served_is_left_out(mode: str) -> None:
    rows = [{"model_name": "m", "litellm_params": {"model": "openai/x"}, "model_info": {"mode": mode}}]
    made = convert(yaml.safe_dump({"model_list": rows}))
    assert "models" not in made.settings
    assert [one.path for one in made.told] == ["model_list.0"]


def test_names_for_many_are_told_and_serve_the_names_that_are_spoken_of() -> None:
    made = imported("wildcards")
    rows = models(made)
    assert "*" not in rows
    assert rows["named"]["deployments"] == ["openai/gpt-4o", "anthropic/claude-sonnet-4-5", "vllm/team-blue"]
    assert rows["gpt-5-mini"]["fallbacks"] == {"context_window": ["openai/gpt-5.5"]}
    assert rows["old"]["deployments"] == ["openai/gpt-4.1", "openai/o4-mini"]
    assert sum("no name stands for many" in one.why for one in made.told) == 3


def test_a_star_for_one_model_is_ours_too() -> None:
    assert models(of({"name": "*", "model": "gpt-4o"}))["*"]["deployments"] == ["openai/gpt-4o"]


# --- how they are tried ----------------------------------------------------------------------------------------------


def test_the_routers_settings() -> None:
    made = imported("balanced")
    row = models(made)["chat"]
    assert row["strategy"] == "least_busy"
    assert row["timeouts"] == {"first_token": 15, "attempt": 45}
    assert row["retry"] == {"attempts": 6, "backoff": 1, "cooldown": 45}
    assert row["fallbacks"] == {
        "context_window": ["gemini/gemini-2.5-pro"],
        "content_filter": ["ollama/llama3.2"],
    }
    assert models(made)["default"] == row | {"name": "default"}


def test_fallbacks_are_asked_when_all_others_failed() -> None:
    made = of({"model": "groq/a"}, {"name": "b", "model": "groq/b"}, router_settings={"fallbacks": [{"m": ["b", "m"]}]})
    assert models(made)["m"]["deployments"] == ["groq/a", "groq/b"]


def test_default_fallbacks_are_for_names_that_have_none() -> None:
    rows = [{"name": name, "model": f"groq/{name}"} for name in "abc"]
    settings = {"fallbacks": [{"a": ["b"]}], "default_fallbacks": ["c"]}
    made = of(*rows, litellm_settings=settings)
    found = {name: row["deployments"] for name, row in models(made).items()}
    assert found == {"a": ["groq/a", "groq/b"], "b": ["groq/b", "groq/c"], "c": ["groq/c"]}


@pytest.mark.parametrize(("fallbacks", "strategy"), [([], "fastest"), ([{"m": ["spare"]}], None)])
def test_the_fastest_first_unless_there_are_fallbacks(fallbacks: list[Any], strategy: str | None) -> None:
    rows = [{"model": "groq/a"}, {"model": "groq/b"}, {"name": "spare", "model": "groq/c"}]
    made = of(*rows, router_settings={"routing_strategy": "latency-based-routing", "fallbacks": fallbacks})
    assert models(made)["m"].get("strategy") == strategy
    assert bool(made.told) is (strategy is None)


def test_a_longer_attempt_than_our_requests_have_gets_its_time() -> None:
    assert models(one(timeout=1200))["m"]["timeouts"] == {"attempt": 1200, "total": 1200}


def test_what_stands_in_both_sections_is_the_routers() -> None:
    made = of({"model": "groq/a"}, router_settings={"num_retries": 1}, litellm_settings={"num_retries": 9})
    assert models(made)["m"]["retry"] == {"attempts": 2}
    assert [one.path for one in made.told] == ["litellm_settings.num_retries"]


def test_settings_of_the_server() -> None:
    made = imported("everything")
    assert made.settings["http"] == {"lenient": True, "body_limit_bytes": 32 * 1024 * 1024}
    assert made.settings["log"] == {"format": "json"}


# --- what can't be read ----------------------------------------------------------------------------------------------


def test_odd_things_stop_nothing() -> None:
    made = imported("odd")
    assert set(models(made)) == {"fine", "twice", "elsewhere"}
    assert models(made)["fine"] == {"name": "fine", "deployments": ["openai/gpt-4o"]}


@pytest.mark.parametrize("text", ["providers: {}", "[]", "model_list: [", "just text"])
def test_another_file_is_none_of_litellms(text: str) -> None:
    with pytest.raises(ConfigError):
        convert(text)


def test_a_file_without_models_is_one() -> None:
    made = convert("general_settings: {master_key: sk-canary}")
    assert set(made.settings) == {"engine", "embedder"}
    assert [one.path for one in made.told] == ["general_settings.master_key"]


def test_a_key_with_a_line_break_stays_in_its_comment() -> None:
    made = convert('model_list: []\n"x\\n  evil: true": 1\n')
    assert set(yaml.safe_load(made.text())) == {"engine", "embedder"}
