"""The branches of what runs here: the embedded engine and the embedder."""

import pydantic
from pydantic import Field, PositiveFloat, PositiveInt

from narthex.settings.part import Part


class LocalModel(Part):
    """A model of the embedded engine, besides those that are installed."""

    source: str | None = Field(None, description="A GGUF file's path, or hf:owner/repo[/file.gguf][@revision].")
    url: str | None = Field(None, description="A running llama-server instead of an engine of our own.")
    slots: PositiveInt = Field(4, description="Of a `url`: how many requests that server runs at a time.")
    context: PositiveInt | None = Field(
        None, description="Tokens of one request, prompt and answer; none: the model's."
    )
    threads: PositiveInt | None = Field(None, description="Threads; none: one for each core.")
    gpu_layers: int = Field(0, ge=0, description="Layers to put on a GPU.")

    @pydantic.model_validator(mode="after")
    def _one_origin(self) -> "LocalModel":
        if self.source is not None and self.url is not None:
            raise ValueError("give `source` or `url`, not both")
        return self


class ImageModel(Part):
    """A model that makes images; it needs the extra `narthex[images]`."""

    source: str | None = Field(
        None,
        min_length=1,
        description="The folder of a Stable Diffusion pipeline in ONNX, or hf:owner/repo[@revision]; none: the "
        "installed model of this name.",
    )
    steps: int = Field(25, ge=1, le=50, description="Steps of an image for which a request names none.")
    guidance: float = Field(
        7.5,
        ge=1,
        le=30,
        allow_inf_nan=False,
        description="How much the prompt counts; 1: no negative prompt, in half the time.",
    )
    threads: PositiveInt | None = Field(None, description="Threads; none: one for each core.")
    memory_bytes: PositiveInt | None = Field(
        None, description="For the work beside the weights; limits the images' size. None: a quarter of the machine's."
    )


class Engine(Part):
    """The embedded engine."""

    models: dict[str, LocalModel] = Field({}, description="Models by name; an installed model's name overrides it.")
    images: dict[str, ImageModel] = Field({}, description="Models that make images, by name.")
    default: str | None = Field(
        "smollm2-135m-instruct", description="The catalogue's chat model that is fetched and kept loaded; none: none."
    )
    slots: PositiveInt | None = Field(None, description="Requests that run at a time; none: by memory and cores.")
    batch: PositiveInt | None = Field(None, description="Prompt tokens read at a time; none: by cores.")
    context: PositiveInt | None = Field(None, description="As in `models`, for all of them.")
    threads: PositiveInt | None = Field(None, description="As in `models`, for all of them.")
    memory_bytes: PositiveInt | None = Field(None, description="For all loaded models; none: half of the machine's.")
    idle_unload_s: PositiveFloat = Field(900.0, description="A model that nobody used for so long is unloaded.")
    cache_tokens: int = Field(4096, ge=0, description="Prompt tokens kept for an account's next request.")
    share_prefix_cache: bool = Field(
        default=False, description="Share kept prompts between accounts (tells who asked what)."
    )
    max_waiting: PositiveInt = Field(256, description="Requests that may wait for a slot.")
    max_waiting_per_key: PositiveInt = Field(64, description="The same, of one key.")
    predictions: bool = Field(
        default=True,
        description="Let requests say what they expect (`prediction`), in a process of its own that has the model a "
        "second time, as long as it is used.",
    )
    deterministic: bool = Field(default=False, description="Serve seeded requests alone, so that they repeat exactly.")


class Embedder(Part):
    """The embedded embedding model."""

    default: str | None = Field("all-minilm-l6-v2", description="The catalogue's model that is fetched; none: none.")
    threads: int = Field(0, ge=0, description="Threads; 0: one for each core.")
