"""The samplers on a problem whose answer is known: images that are normal noise of a known spread."""

from typing import Any

import numpy as np
import pytest

from narthex.dialects import openai_images
from narthex.engine.images.layout import Training
from narthex.engine.images.samplers import DEFAULT, SAMPLERS
from narthex.engine.images.schedule import Latents, Schedule

SPREAD = 0.5
STEPS = 40


def denoise(x: Latents, sigma: float) -> Latents:
    """The best guess that there is: both the image and its noise are normal."""
    return (x * SPREAD**2 / (SPREAD**2 + sigma**2)).astype(np.float32)


def walked(name: str, steps: int = STEPS, seed: int = 3) -> tuple[Latents, list[Latents]]:
    """What it began with, and what the sampler gave after each step."""
    random = np.random.default_rng(seed)

    def noise() -> Latents:
        return random.standard_normal((1, 4, 32, 32), np.float32)

    sampler = SAMPLERS[name]
    sigmas = Schedule(Training()).sigmas(steps, sampler.spacing)
    x = noise() * np.float32(np.sqrt(SPREAD**2 + sigmas[0] ** 2))
    return x, list(sampler.walk(denoise, x, sigmas, noise))


def test_the_names_are_those_of_the_request() -> None:
    assert tuple(SAMPLERS) == openai_images.SAMPLERS
    assert DEFAULT in SAMPLERS


@pytest.mark.parametrize("name", SAMPLERS)
def test_an_image_of_the_right_spread_comes_out(name: str) -> None:
    _, given = walked(name)
    assert len(given) == STEPS
    assert given[-1].dtype == np.float32
    assert given[-1].shape == (1, 4, 32, 32)
    assert np.std(given[-1]) == pytest.approx(SPREAD, rel=0.12)
    assert abs(np.mean(given[-1])) < 0.05


@pytest.mark.parametrize(("name", "error"), [("Euler", 0.1), ("Heun", 0.02), ("DPM++ 2M Karras", 0.02), ("DDIM", 0.15)])
def test_those_without_new_noise_follow_the_flow(name: str, error: float) -> None:
    """Each point is only scaled on its way: from the spread of all noise to that of the images."""
    x, given = walked(name)
    high = Schedule(Training()).sigmas(STEPS, SAMPLERS[name].spacing)[0]
    wanted = x * SPREAD / np.sqrt(SPREAD**2 + high**2)
    assert np.abs(given[-1] - wanted).max() < error * np.abs(wanted).max()


@pytest.mark.parametrize("name", ["Euler a", "DPM++ SDE Karras"])
def test_those_with_new_noise_go_other_ways(name: str) -> None:
    x, given = walked(name)
    shape: Any = np.corrcoef(x.ravel(), given[-1].ravel())[0, 1]
    assert abs(shape) < 0.5
    assert not np.array_equal(walked(name, seed=4)[1][-1], given[-1])


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("steps", [1, 2])
def test_few_steps_give_as_many_images(name: str, steps: int) -> None:
    _, given = walked(name, steps)
    assert len(given) == steps
    assert np.isfinite(given[-1]).all()
