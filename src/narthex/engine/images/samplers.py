"""The samplers: how an image is brought from noise to none, step by step.

Source: Karras et al. 2022 (Euler, Heun), Song et al. 2020 (DDIM, which in these units is Euler's step), Lu et al. 2022
(DPM-Solver++ 2M and SDE) as k-diffusion carries them out.

Each is a generator that gives, after every step, what the image will be by what is known so far, and at last the image.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping

import msgspec
import numpy as np

from narthex.engine.images.schedule import Latents, Sigmas, Spacing

Denoise = Callable[[Latents, float], Latents]
Noise = Callable[[], Latents]
"""Normal noise of spread 1, new with every call."""
Walk = Callable[[Denoise, Latents, Sigmas, Noise], Iterator[Latents]]


class Sampler(msgspec.Struct, frozen=True, kw_only=True):
    """One row."""

    walk: Walk
    spacing: Spacing = "even"


def _euler(denoise: Denoise, x: Latents, sigmas: Sigmas, _noise: Noise) -> Iterator[Latents]:
    for sigma, after in itertools.pairwise(sigmas):
        clean = denoise(x, sigma)
        x = _toward(x, clean, sigma=sigma, after=after)
        yield clean if after else x


def _euler_ancestral(denoise: Denoise, x: Latents, sigmas: Sigmas, noise: Noise) -> Iterator[Latents]:
    for sigma, after in itertools.pairwise(sigmas):
        clean = denoise(x, sigma)
        down, up = _ancestral(sigma, after)
        x = _toward(x, clean, sigma=sigma, after=down)
        if after:
            x = _single(x + noise() * up)
        yield clean if after else x


def _heun(denoise: Denoise, x: Latents, sigmas: Sigmas, _noise: Noise) -> Iterator[Latents]:
    for sigma, after in itertools.pairwise(sigmas):
        clean = denoise(x, sigma)
        ahead = _toward(x, clean, sigma=sigma, after=after)
        if after:
            slope = (x - clean) / sigma
            slope_ahead = (ahead - denoise(ahead, after)) / after
            ahead = _single(x + (slope + slope_ahead) / 2 * (after - sigma))
        x = ahead
        yield clean if after else x


def _dpmpp_2m(denoise: Denoise, x: Latents, sigmas: Sigmas, _noise: Noise) -> Iterator[Latents]:
    before: Latents | None = None
    width_before = 0.0
    for sigma, after in itertools.pairwise(sigmas):
        clean = denoise(x, sigma)
        if not after:
            yield clean
            return
        width = float(np.log(sigma / after))
        target = clean
        if before is not None:
            ratio = width_before / width
            target = (1 + 1 / (2 * ratio)) * clean - 1 / (2 * ratio) * before
        x = _single(after / sigma * x - np.expm1(-width) * target)
        before, width_before = clean, width
        yield clean


def _dpmpp_sde(denoise: Denoise, x: Latents, sigmas: Sigmas, noise: Noise) -> Iterator[Latents]:
    for sigma, after in itertools.pairwise(sigmas):
        clean = denoise(x, sigma)
        if not after:
            yield clean
            return
        middle = float(np.sqrt(sigma * after))
        down, up = _ancestral(sigma, middle)
        first = noise()
        halfway = _single(down / sigma * x + (1 - down / sigma) * clean + first * up)
        clean = denoise(halfway, middle)
        down, up = _ancestral(sigma, after)
        # Both steps walk along one path of noise, so the longer one's begins with the shorter one's.
        whole = (np.sqrt(sigma - middle) * first + np.sqrt(middle - after) * noise()) / np.sqrt(sigma - after)
        x = _single(down / sigma * x + (1 - down / sigma) * clean + whole * up)
        yield clean


def _toward(x: Latents, clean: Latents, *, sigma: float, after: float) -> Latents:
    return _single(clean + after / sigma * (x - clean))


def _ancestral(sigma: float, after: float) -> tuple[float, float]:
    """How far to go down, and how much new noise to add, so that `after` is what there is then."""
    up = min(after, float(np.sqrt(after**2 * (sigma**2 - after**2) / sigma**2)))
    return float(np.sqrt(after**2 - up**2)), up


def _single(x: object) -> Latents:
    return np.asarray(x, np.float32)


SAMPLERS: Mapping[str, Sampler] = {
    "Euler": Sampler(walk=_euler),
    "Euler a": Sampler(walk=_euler_ancestral),
    "Heun": Sampler(walk=_heun),
    "DPM++ 2M Karras": Sampler(walk=_dpmpp_2m, spacing="karras"),
    "DPM++ SDE Karras": Sampler(walk=_dpmpp_sde, spacing="karras"),
    "DDIM": Sampler(walk=_euler, spacing="leading"),
}
"""By the name that a request gives."""
DEFAULT = "DPM++ 2M Karras"
