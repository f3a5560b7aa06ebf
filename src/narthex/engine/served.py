"""What workers are told of the models that this server has: written by whoever plans the processes."""

from typing import Literal

import msgspec

from narthex.core.models import ModelKind


class ServedModel(msgspec.Struct, frozen=True, kw_only=True):
    """One model with where it answers.

    `runs`: `engine` (a llama.cpp child), `url` (somebody else's llama-server), `embedder` (an onnxruntime child),
    `images` (another, which makes images), `speech` (programs of the worker's own, one for each text; where there is a
    `child` they tell it what to say).
    `heeds`: the request fields that some models honour and this one does; None: unknown until its server is asked.
    `child` is its name with the supervisor; `path` its file or folder; `slots` the queue's width for a `url`.
    `prediction_child` checks what callers predict, and `prediction_socket` is where; "": nobody does.
    `window`: tokens of one request, or of one text to embed; `dim`: length of its vectors; 0: unknown.
    """

    name: str
    kind: ModelKind
    runs: Literal["engine", "url", "embedder", "images", "speech"]
    child: str = ""
    socket: str = ""
    control_socket: str = ""
    prediction_child: str = ""
    prediction_socket: str = ""
    url: str = ""
    path: str = ""
    digest: str = ""
    slots: int = 16
    window: int = 0
    dim: int = 0
    heeds: frozenset[str] | None = None
    created: int = 0
    owned_by: str = "narthex"
    removable: bool = False
    missing: bool = False
    """What it needs is not installed: it is not listed, and who asks for it is told."""
