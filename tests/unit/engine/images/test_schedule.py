"""Noise by training step. The figures are those of every Stable Diffusion 1 and 2."""

from typing import Any

import numpy as np
import pytest

from narthex.engine.images.layout import Training
from narthex.engine.images.schedule import Latents, Schedule, Spacing


def test_the_noise_of_stable_diffusion() -> None:
    schedule = Schedule(Training())
    even = schedule.sigmas(1000, "even")
    assert even[0] == pytest.approx(14.6146, abs=1e-3)
    assert even[-2] == pytest.approx(0.0292, abs=1e-4)
    assert schedule.time(float(even[250])) == pytest.approx(749)


@pytest.mark.parametrize("spacing", ["even", "karras", "leading"])
def test_noise_falls_to_none(spacing: Spacing) -> None:
    for steps in (1, 7, 50):
        sigmas = Schedule(Training()).sigmas(steps, spacing)
        assert len(sigmas) == steps + 1
        assert (np.diff(sigmas) < 0).all()
        assert sigmas[-1] == 0


def test_karras_begins_and_ends_where_training_did() -> None:
    sigmas = Schedule(Training()).sigmas(25, "karras")
    assert (sigmas[0], sigmas[-2]) == (pytest.approx(14.6146, abs=1e-3), pytest.approx(0.0292, abs=1e-4))


def test_leading_steps_are_those_of_ddim() -> None:
    schedule = Schedule(Training())
    assert [round(schedule.time(float(sigma))) for sigma in schedule.sigmas(4, "leading")[:-1]] == [751, 501, 251, 1]
    last = Schedule(Training(num_train_timesteps=10)).sigmas(10, "leading")
    assert last[0] == last[1]  # the offset leads beyond the last step, which then stands for it


def test_linear_betas() -> None:
    training = Training(beta_schedule="linear", beta_start=0.0001, beta_end=0.02)
    kept = np.cumprod(1 - np.linspace(0.0001, 0.02, 1000))
    assert Schedule(training).sigmas(1, "even")[0] == pytest.approx(np.sqrt((1 - kept[-1]) / kept[-1]))


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_a_perfect_guess_is_read_as_the_image(kind: Any) -> None:
    random = np.random.default_rng(1)
    image, noise = random.standard_normal((2, 1, 4, 8, 8), np.float32)
    schedule = Schedule(Training(prediction_type=kind))
    sigma = 2.5
    kept = 1 / np.sqrt(sigma**2 + 1)  # of the image, in the scaled latents that the network sees
    seen: list[Latents] = []

    def network(x: Latents, time: float) -> Latents:
        seen.append(x)
        assert 0 < time < 999
        guess = noise if kind == "epsilon" else kept * noise - kept * sigma * image
        return np.asarray(guess, np.float32)

    found = schedule.denoised(network, image + np.float32(sigma) * noise, sigma)
    assert np.abs(found - image).max() < 1e-4
    assert np.abs(seen[0] - kept * (image + sigma * noise)).max() < 1e-5
