"""One image model in memory: a text and a seed to pixels.

The two guesses that guidance needs (with the prompt, and with the negative one) are made one after the other: side by
side they take twice the memory and, on a processor, as long.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from narthex.core.errors import InvalidRequest, ModelLoadFailed
from narthex.engine.images import layout
from narthex.engine.images.clip import Clip
from narthex.engine.images.samplers import SAMPLERS
from narthex.engine.images.schedule import Latents, Schedule

Pixels = npt.NDArray[np.uint8]
"""uint8[height, width, 3], red first."""

_UNREADABLE = (
    ort_errors.InvalidProtobuf,
    ort_errors.InvalidGraph,
    ort_errors.InvalidArgument,
    ort_errors.NoSuchFile,
    ort_errors.NotImplemented,
    ort_errors.RuntimeException,
    ort_errors.Fail,
)
_TYPES: dict[str, type[np.generic]] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
}
_INPUTS = {
    "text_encoder": ("input_ids",),
    "unet": ("sample", "timestep", "encoder_hidden_states"),
    "vae_decoder": ("latent_sample",),
}
_MIB = 1024 * 1024


class Picture(msgspec.Struct, frozen=True, kw_only=True):
    """One image to make. `guidance` 1: the negative prompt plays no part."""

    prompt: str
    negative: str
    width: int
    height: int
    steps: int
    sampler: str
    seed: int
    guidance: float
    partials: int = 0


class Stopped(Exception):
    """Whoever wanted the image has left."""


class Brake:
    """Stops the work for one caller, within a step, from any thread."""

    def __init__(self) -> None:
        self.options = onnxruntime.RunOptions()
        self.options.log_severity_level = 4  # being stopped is nothing to report
        self.pulled = False

    def pull(self) -> None:
        """Stop now."""
        self.pulled = True
        self.options.terminate = True

    def check(self) -> None:
        """Return if nobody has pulled it.

        Raises:
            Stopped: somebody has.
        """
        if self.pulled:
            raise Stopped


class Pipeline:
    """Draws one image at a time, with `threads` threads of its own (0: one for each core)."""

    def __init__(self, folder: Path, *, threads: int = 0, room_bytes: int = 0) -> None:
        """Load. Blocks. `room_bytes`: what work may take beside the weights; 0: no limit.

        Raises:
            ModelLoadFailed: a file is missing, damaged or of a kind that isn't served.
        """
        self.layout = layout.read(folder)
        self.clip = Clip(folder / "tokenizer", length=self.layout.tokens)
        self._schedule = Schedule(self.layout.training)
        self._room_bytes = room_bytes
        threads = threads or os.cpu_count() or 1
        self._text_encoder, self._unet, self._decoder = (
            _Part(self.layout, part, threads=threads) for part in layout.PARTS
        )
        self._pieces = None if self._unet.is_open("encoder_hidden_states", axis=1) else 1

    def sized(self, size: str) -> tuple[int, int]:
        """Width and height of `WxH`; of `auto` those that the model was trained with.

        Raises:
            InvalidRequest: the model can't make such images, or not with the memory that it may use.
        """
        known = self.layout
        width, height = (known.usual, known.usual) if size == "auto" else map(int, size.split("x"))
        if width % known.multiple or height % known.multiple:
            raise _wrong_size(f"both sides must be multiples of {known.multiple} with this model.")
        if max(width, height) > layout.LARGEST_SIDE:
            raise _wrong_size(f"no side may be longer than {layout.LARGEST_SIDE} pixels.")
        needed = known.work_bytes(width, height)
        if self._room_bytes and needed > self._room_bytes:
            raise _wrong_size(
                f"such an image takes about {needed // _MIB} MiB of memory; this model may use "
                f"{self._room_bytes // _MIB} MiB. Its usual size is {known.usual}x{known.usual}."
            )
        return width, height

    def tokens(self, prompt: str, negative: str) -> int:
        """How many tokens the two texts have together.

        Raises:
            ContextLengthExceeded: one of them is too long.
        """
        total = 0
        for param, text in (("prompt", prompt), ("negative_prompt", negative)):
            ids = self.clip.ids(text)
            self.clip.count(ids, param=param, **({} if self._pieces is None else {"most": self._pieces}))
            total += len(ids)
        return total

    def draw(
        self, picture: Picture, brake: Brake, on_partial: Callable[[int, Pixels], None], on_step: Callable[[], None]
    ) -> Pixels:
        """The image. Blocks, without the interpreter's lock; `on_partial` gets (index, the image as far as it is).

        Raises:
            Stopped: the brake was pulled.
        """
        try:
            return self._drawn(picture, brake, on_partial, on_step)
        except _UNREADABLE as error:
            brake.check()  # it is the brake that the runtime reports
            raise RuntimeError("the image model failed") from error

    def _drawn(
        self, picture: Picture, brake: Brake, on_partial: Callable[[int, Pixels], None], on_step: Callable[[], None]
    ) -> Pixels:
        texts = self._texts(picture, brake)
        random = np.random.Generator(np.random.Philox(picture.seed))
        known = self.layout
        shape = (1, known.channels, picture.height // known.scale, picture.width // known.scale)

        def noise() -> Latents:
            return random.standard_normal(shape, np.float32)

        def network(x: Latents, time: float) -> Latents:
            brake.check()
            guesses = [
                self._unet.run(brake, sample=x, timestep=np.array([time]), encoder_hidden_states=text) for text in texts
            ]
            if len(guesses) == 1:
                return guesses[0]
            wanted, unwanted = guesses
            guided: Latents = unwanted + np.float32(picture.guidance) * (wanted - unwanted)
            return guided

        sampler = SAMPLERS[picture.sampler]
        sigmas = self._schedule.sigmas(picture.steps, sampler.spacing)
        x = noise() * np.float32((sigmas[0] ** 2 + 1) ** 0.5)
        shown = _shown_after(picture)

        def denoise(x: Latents, sigma: float) -> Latents:
            return self._schedule.denoised(network, x, sigma)

        for step, clean in enumerate(sampler.walk(denoise, x, sigmas, noise)):
            on_step()
            x = clean
            if step in shown:
                on_partial(shown.index(step), self._pixels(clean, brake))
        return self._pixels(x, brake)

    def _texts(self, picture: Picture, brake: Brake) -> list[Latents]:
        """float32[1, tokens, width] of the prompt, and of the negative one where it plays a part."""
        ids = [self.clip.ids(text) for text in (picture.prompt, picture.negative)]
        pieces = max(self.clip.count(each, param="prompt") for each in ids)
        return [
            np.concatenate(
                [self._text_encoder.run(brake, input_ids=piece) for piece in self.clip.pieces(each, at_least=pieces)],
                axis=1,
            )
            for each in (ids if picture.guidance != 1 else ids[:1])
        ]

    def _pixels(self, latents: Latents, brake: Brake) -> Pixels:
        brake.check()
        found = self._decoder.run(brake, latent_sample=latents / np.float32(self.layout.scaling_factor))
        pixels: Pixels = (np.clip(found[0].transpose(1, 2, 0) / 2 + 0.5, 0, 1) * 255).round().astype(np.uint8)
        return pixels


class _Part:
    """One graph, which gets its inputs in the types that it was exported with."""

    def __init__(self, known: layout.Layout, part: str, *, threads: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 4
        # Threads that spin between two runs would take the cores from the engine beside us.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = onnxruntime.InferenceSession(known.graph(part), options, providers=["CPUExecutionProvider"])
        except _UNREADABLE as error:
            raise ModelLoadFailed(f"{known.name}/{part}/{layout.GRAPH} can't be loaded: {_brief(error)}") from error
        self._inputs = {each.name: each for each in self._session.get_inputs()}
        if set(self._inputs) != set(_INPUTS[part]):
            raise ModelLoadFailed(
                f"{known.name}/{part}/{layout.GRAPH} takes {', '.join(self._inputs)} instead of "
                f"{', '.join(_INPUTS[part])}: a kind of pipeline that is not served."
            )
        self._output = self._session.get_outputs()[0].name

    def is_open(self, name: str, *, axis: int) -> bool:
        """Whether an input may have any length along an axis."""
        return not isinstance(self._inputs[name].shape[axis], int)

    def run(self, brake: Brake, **inputs: npt.NDArray[Any]) -> Latents:
        given = {name: self._as_exported(name, value) for name, value in inputs.items()}
        found: Latents = self._session.run([self._output], given, brake.options)[0]
        return found.astype(np.float32, copy=False)

    def _as_exported(self, name: str, value: npt.NDArray[Any]) -> npt.NDArray[Any]:
        known = self._inputs[name]
        kind = _TYPES[known.type]
        if issubclass(kind, np.integer) and not np.issubdtype(value.dtype, np.integer):
            value = value.round()
        return value.astype(kind, copy=False).reshape(value.shape if known.shape else ())


def _shown_after(picture: Picture) -> list[int]:
    """The steps after which the image is shown, evenly between the first and the last; fewer where there are few."""
    found = {round((picture.steps - 1) * part / (picture.partials + 1)) for part in range(1, picture.partials + 1)}
    return sorted(found - {picture.steps - 1})


def _wrong_size(why: str) -> InvalidRequest:
    return InvalidRequest(f"Invalid 'size': {why}", param="size", code="invalid_value")


def _brief(error: Exception) -> str:
    return str(error).splitlines()[0][:300]
