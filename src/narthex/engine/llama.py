"""llama.cpp's own server inside this process, and the little that we ask it ourselves.

Only `narthex.engine.child` starts it. It is shut to the outside: a unix socket, no user interface, no properties to be
set, no metrics, no answer to other origins, and no prompt cache in host memory, which all accounts would share.
"""

import http.client
import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from narthex.core.errors import ModelLoadFailed
from narthex.engine.queue import QueueLimits

SPIN_ROUNDS = 1000
"""How long a thread of the engine spins for the others before it sleeps. By default it spins for milliseconds, which
takes the processor from those it waits for: beside busy processes on two cores, 2 tokens a second instead of 55."""


class EngineSettings(msgspec.Struct, frozen=True, kw_only=True):
    """All that an engine's child needs; the line on its standard input. Sizes come from `narthex.engine.sizing`."""

    name: str
    model_path: str
    socket: str
    """Where llama.cpp listens; in a folder of mode 0700."""
    control_socket: str
    """Where the broker listens."""
    slots: int = 16
    spare_slots: int = 2
    cells: int = 16384
    """Tokens of the unified KV cache that are handed out."""
    window: int = 8192
    """The most tokens, prompt and answer, of one request."""
    cache_cells: int | None = 4096
    """How many tokens idle slots may keep for their account's next prompt; None for as many as fit. Every token that is
    kept is looked past in every attention step: 6000 of them slow two cores by a fifth."""
    share_prefix_cache: bool = False
    batch: int = 64
    """Tokens of one batch of prefill: a caller who leaves is noticed between two batches, and only if the request said
    `stream` and `return_progress`, because llama.cpp learns of it from a write that fails."""
    threads: int = 2
    gpu_layers: int = 0
    idle_unload_s: float | None = None
    max_waiting: int = 256
    max_waiting_per_key: int = 64
    embedding: bool = False
    deterministic: bool = False

    @property
    def limits(self) -> QueueLimits:
        """What its queue hands out."""
        return QueueLimits(
            slots=self.slots,
            cells=self.cells,
            window=self.window,
            spare_slots=self.spare_slots,
            max_waiting=self.max_waiting,
            max_waiting_per_key=self.max_waiting_per_key,
            deterministic=self.deterministic,
        )


def start(settings: EngineSettings) -> Any:
    """Load the model and listen; blocks until both are done. The server lives as long as what is returned.

    Raises:
        ModelLoadFailed: llama.cpp refused the file or the socket; its reason is on standard error.
    """
    os.putenv("GOMP_SPINCOUNT", str(SPIN_ROUNDS))
    try:
        import xllamacpp  # noqa: PLC0415 - 106 MB of native code that no other process may load
    except ImportError as error:
        message = f"The engine can't be loaded: {error}. (HINT: on Debian, `apt install libgomp1`.)"
        raise ModelLoadFailed(message) from None
    params = xllamacpp.CommonParams()
    params.model.path = settings.model_path
    params.hostnames = [settings.socket]
    params.verbosity = 1  # errors only
    _shut(params, settings)
    params.n_parallel = settings.slots
    params.kv_unified = True
    batch = settings.window if settings.embedding else settings.batch  # an embedding takes its text in one batch
    # A request that was cut short holds its cells until its batch ends: room for two batches beside what we hand out.
    params.n_ctx = settings.cells + 2 * batch
    params.n_batch = params.n_ubatch = batch
    params.fit_params = False
    params.ctx_shift = False
    params.n_gpu_layers = settings.gpu_layers
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = settings.threads
    params.n_threads_http = settings.slots + 4  # each stream holds one
    params.embedding = settings.embedding
    Path(settings.socket).unlink(missing_ok=True)
    try:
        return xllamacpp.Server(params)
    except RuntimeError:
        raise ModelLoadFailed(f"llama.cpp could not load the model {settings.name} ({settings.model_path}).") from None


def _shut(params: Any, settings: EngineSettings) -> None:
    params.ui = params.endpoint_props = params.endpoint_metrics = False
    params.endpoint_slots = True
    params.cors_origins = ""
    params.cors_credentials = False
    params.offline = True
    params.cache_ram_mib = 0
    params.cache_idle_slots = False
    params.slot_prompt_similarity = 0.0  # no slot is chosen for what another account left in it
    params.slot_save_path = f"{Path(settings.socket).parent}/"  # without it no slot can be erased


class SlotState(msgspec.Struct, frozen=True):
    """A row of `GET /slots`."""

    id: int
    is_processing: bool
    n_prompt_tokens: int = 0
    """What the slot holds."""


class LlamaServer:
    """Questions to a llama-server on a unix socket. They block: ask from a thread.

    Raises: OSError, http.client.HTTPException.
    """

    def __init__(self, path: Path, *, timeout_s: float = 30.0) -> None:
        self._path = path
        self._timeout_s = timeout_s

    def healthy(self) -> bool:
        """It has loaded its model."""
        return self._ask("GET", "/health")[0] == 200

    def slots(self) -> list[SlotState]:
        """All slots."""
        return msgspec.json.decode(self._ask("GET", "/slots")[1], type=list[SlotState])

    def erase(self, slot: int) -> None:
        """Drop what a slot keeps; for one that works, after its work."""
        self._ask("POST", f"/slots/{slot}?action=erase")

    def _ask(self, method: str, path: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("localhost")
        connection.sock = socket.socket(socket.AF_UNIX)
        try:
            connection.sock.settimeout(self._timeout_s)
            connection.sock.connect(str(self._path))
            connection.request(method, path, body=b"{}" if method == "POST" else None)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()


def surplus(slots: Sequence[SlotState], oldest_idle: Sequence[int], *, keep: int) -> list[int]:
    """Which idle slots to erase, longest unused first, so that those left keep at most `keep` tokens."""
    kept = {slot.id: slot.n_prompt_tokens for slot in slots if not slot.is_processing}
    idle = [slot for slot in oldest_idle if kept.get(slot)]
    excess = sum(kept[slot] for slot in idle) - keep
    found: list[int] = []
    for slot in idle:
        if excess <= 0:
            break
        found.append(slot)
        excess -= kept[slot]
    return found
