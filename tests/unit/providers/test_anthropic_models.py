"""Names of models, and what they tell."""

import msgspec
import pytest

from narthex.providers.anthropic_models import traits_of
from narthex.providers.traits import ModelTraits

BASE = ModelTraits(prefill=True, answer_tokens=5)
SCHEMAS = ModelTraits(prefill=True, answer_tokens=5, json_schema=True)
ADAPTIVE = ModelTraits(answer_tokens=5, json_schema=True, adaptive=True)
NEWEST = ModelTraits(answer_tokens=5, json_schema=True, adaptive=True, reasoning=True)


@pytest.mark.parametrize(
    ("model", "traits"),
    [
        ("claude-3-5-sonnet-20241022", BASE),
        ("claude-3-7-sonnet-latest", BASE),
        ("claude-3-opus-20240229", BASE),
        ("claude-sonnet-4-20250514", BASE),
        ("claude-opus-4-1-20250805", BASE),
        ("claude-opus-4@20250514", BASE),
        ("claude-sonnet-4-5-20250929", SCHEMAS),
        ("claude-opus-4-5", SCHEMAS),
        ("claude-haiku-4-5-20251001", SCHEMAS),
        ("Claude-Haiku-4-5", SCHEMAS),
        ("claude-haiku-4-5@20251001", SCHEMAS),
        ("us.anthropic.claude-haiku-4-5-20251001-v1:0", SCHEMAS),
        ("claude-opus-4-6", ADAPTIVE),
        ("anthropic/claude-sonnet-4-6", ADAPTIVE),
        ("us.anthropic.claude-opus-4-6-v1", ADAPTIVE),
        ("claude-opus-4-7", NEWEST),
        ("claude-sonnet-5", NEWEST),
        ("claude-opus-5-5", NEWEST),
        ("claude-fable-5", msgspec.structs.replace(NEWEST, may_not_think=False)),
        ("claude-fable-5-1", msgspec.structs.replace(NEWEST, may_not_think=False, may_have_to_call=False)),
        ("claude-mythos-5-1", msgspec.structs.replace(NEWEST, may_not_think=False, may_have_to_call=False)),
        ("claude-mythos-preview", BASE),
        ("claude", BASE),
        ("assistant", BASE),
        ("claude-opus-4-5-mine-and-yours", BASE),
        ("my-claude-opus-4-6", BASE),
    ],
)
def test_versions(model: str, traits: ModelTraits) -> None:
    assert traits_of(model, BASE) == traits
