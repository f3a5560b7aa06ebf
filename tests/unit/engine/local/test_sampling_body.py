"""How sampling is told to the engine."""

from typing import Any

import pytest

from narthex.core.chat import Sampling
from narthex.engine.local.llama import sampling_body


def body(**fields: Any) -> dict[str, Any]:
    return sampling_body(Sampling(**fields), seed=1, prompt_tokens=3, max_new=4)


@pytest.mark.parametrize(
    ("bias", "told"), [(-100, False), (-99, -99), (-0.5, -0.5), (0, 0), (99, 99), (100, 30_000)]
)  # fmt: skip
def test_the_ends_of_the_scale_ban_and_force(bias: float, told: float | bool) -> None:
    (pair,) = body(logit_bias={7: bias})["logit_bias"]
    assert (pair[0], pair[1], type(pair[1]) is bool) == (7, told, told is False)


def test_no_bias_is_not_told() -> None:
    assert "logit_bias" not in body()


@pytest.mark.parametrize(("logprobs", "told"), [(None, None), (0, 1), (1, 1), (20, 20)])
def test_probabilities_are_asked_for_one_at_least(logprobs: int | None, told: int | None) -> None:
    assert body(logprobs=logprobs).get("n_probs") == told
