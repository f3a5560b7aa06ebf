"""How much noise an image still holds at each step, and what the network's guess says of it.

Source: Karras et al. 2022 ("Elucidating the Design Space of Diffusion-Based Generative Models") for the ramp of rho 7
and for the scaling of networks that were trained with discrete steps.

Rule: noise is counted as sigma, in units of the image's own spread, as all our samplers do. `x` is the image in latent
space with noise of that sigma added: float32[1, channels, height, width].
"""

from collections.abc import Callable
from typing import Literal

import numpy as np
import numpy.typing as npt

from narthex.engine.images.layout import Training

Latents = npt.NDArray[np.float32]
Sigmas = npt.NDArray[np.float64]
"""Falling, the last one 0."""
Network = Callable[[Latents, float], Latents]
"""The network's guess for scaled latents at a time step of its training."""
Spacing = Literal["even", "karras", "leading"]

_RHO = 7.0


class Schedule:
    """The noise of each training step, and ways to walk down it."""

    def __init__(self, training: Training) -> None:
        self._training = training
        steps = training.num_train_timesteps
        if training.beta_schedule == "linear":
            betas = np.linspace(training.beta_start, training.beta_end, steps)
        else:
            betas = np.linspace(training.beta_start**0.5, training.beta_end**0.5, steps) ** 2
        kept = np.cumprod(1 - betas)
        self._sigmas = np.sqrt((1 - kept) / kept)
        self._logs = np.log(self._sigmas)

    def sigmas(self, steps: int, spacing: Spacing) -> Sigmas:
        """`steps` + 1 values. `even` in training steps from the last to the first; `leading` as DDIM counts them."""
        last = len(self._sigmas) - 1
        if spacing == "karras":
            high, low = self._sigmas[-1] ** (1 / _RHO), self._sigmas[0] ** (1 / _RHO)
            found = np.linspace(high, low, steps) ** _RHO
        elif spacing == "leading":
            times = np.arange(steps)[::-1] * ((last + 1) // steps) + self._training.steps_offset
            found = self._sigmas[np.minimum(times, last)]
        else:
            found = np.exp(np.interp(np.linspace(last, 0, steps), np.arange(last + 1), self._logs))
        return np.append(found, 0.0)

    def time(self, sigma: float) -> float:
        """The training step, possibly between two, whose noise this is."""
        return float(np.interp(np.log(sigma), self._logs, np.arange(len(self._logs))))

    def denoised(self, network: Network, x: Latents, sigma: float) -> Latents:
        """What the network takes the image to be, without its noise."""
        scale = (sigma**2 + 1) ** 0.5
        guess = network((x / scale).astype(np.float32), self.time(sigma))
        if self._training.prediction_type == "epsilon":
            found = x - sigma * guess
        else:
            found = x / scale**2 - sigma / scale * guess
        return found.astype(np.float32)
