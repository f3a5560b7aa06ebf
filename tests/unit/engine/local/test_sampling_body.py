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


def test_what_leaves_tokens_out_is_told_in_its_order() -> None:
    assert body()["samplers"] == ["penalties", "temperature", "top_p"]
    told = body(min_p=0.1, top_k=5)
    assert told["samplers"] == ["penalties", "temperature", "min_p", "top_k", "top_p"]
    assert (told["min_p"], told["top_k"]) == (0.1, 5)
    assert body(top_k=1)["samplers"] == ["penalties", "top_k"]


def test_a_repetition_counts_in_the_whole_text() -> None:
    assert (body()["repeat_penalty"], body()["repeat_last_n"]) == (1, 0)
    told = body(repetition_penalty=1.2)
    assert (told["repeat_penalty"], told["repeat_last_n"]) == (1.2, 7)


def test_the_end_may_be_ignored() -> None:
    assert "ignore_eos" not in body()
    assert body(ignore_eos=True)["ignore_eos"] is True
