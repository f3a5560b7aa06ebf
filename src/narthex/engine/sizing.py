"""How large an engine is made for a model and a machine: slots, KV cells, batch, threads.

One batch of prefill must end within 500 ms, because a caller who leaves is only noticed between batches. Two cores read
about 200 prompt tokens a second of a small model: 32 tokens a core take 0.3 s. Where that is too much for a larger
model, or too little for a GPU, the setting overrides it.
"""

import msgspec

SLOTS = 16
_CACHE_SHARE = 16
"""Of the machine's memory, one part in this many may become KV cells."""


class Size(msgspec.Struct, frozen=True, kw_only=True):
    """What an engine is started with. `cells`: tokens of the unified cache; `window`: the most one request may fill."""

    slots: int
    cells: int
    window: int
    batch: int
    threads: int
    cache_bytes: int
    """Memory that the cells take, beside the model's own size."""


class Overrides(msgspec.Struct, frozen=True, kw_only=True):
    """What the settings fix; None leaves it to `size`."""

    slots: int | None = None
    cells: int | None = None
    window: int | None = None
    batch: int | None = None
    threads: int | None = None


def size(
    *,
    kv_bytes_per_token: int,
    context_length: int,
    memory_bytes: int,
    cores: int,
    overrides: Overrides | None = None,
) -> Size:
    """Fit an engine to its model (the first two, from the GGUF header) and the machine (the next two)."""
    fixed = overrides or Overrides()
    slots = max(1, fixed.slots or SLOTS)
    window = min(fixed.window or context_length, context_length)
    affordable = memory_bytes // _CACHE_SHARE // max(1, kv_bytes_per_token)
    cells = max(window, fixed.cells or min(slots * window, affordable))
    batch = fixed.batch or _power_of_two(32 * cores)
    return Size(
        slots=slots,
        cells=cells,
        window=window,
        batch=max(batch, slots),  # each running sequence adds one token to every batch
        threads=fixed.threads or cores,
        cache_bytes=cells * kv_bytes_per_token,
    )


def _power_of_two(tokens: int) -> int:
    """The largest power of two up to `tokens`, from 32 to 2048."""
    return max(32, min(2048, 1 << (tokens.bit_length() - 1)))
