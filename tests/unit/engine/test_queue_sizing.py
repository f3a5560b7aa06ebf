"""How large an engine is made, and which of its idle slots are erased."""

from narthex.engine.llama import EngineSettings, SlotState, surplus
from narthex.engine.sizing import Overrides, size

GIB = 1024**3


def test_two_cores_and_24_gib() -> None:
    made = size(kv_bytes_per_token=23_040, context_length=8192, memory_bytes=24 * GIB, cores=2)
    assert (made.slots, made.window, made.batch, made.threads) == (16, 8192, 64, 2)
    assert made.cache_bytes == made.cells * 23_040
    assert 0 <= 24 * GIB // 16 - made.cache_bytes < 23_040


def test_a_small_model_needs_no_more_cells_than_its_slots_can_fill() -> None:
    made = size(kv_bytes_per_token=100, context_length=512, memory_bytes=24 * GIB, cores=8)
    assert (made.cells, made.batch) == (16 * 512, 256)


def test_one_window_always_fits() -> None:
    made = size(kv_bytes_per_token=1_000_000, context_length=4096, memory_bytes=GIB, cores=1)
    assert (made.cells, made.batch) == (4096, 32)


def test_settings_override_and_the_model_s_context_bounds_the_window() -> None:
    fixed = Overrides(slots=40, cells=10, window=9999, batch=16, threads=3)
    made = size(kv_bytes_per_token=1, context_length=4096, memory_bytes=GIB, cores=1, overrides=fixed)
    assert (made.slots, made.window, made.cells, made.batch, made.threads) == (40, 4096, 4096, 40, 3)


def test_many_cores_read_2048_tokens_at_most() -> None:
    assert size(kv_bytes_per_token=1, context_length=10, memory_bytes=GIB, cores=500).batch == 2048


def test_the_longest_unused_idle_slots_are_erased_first() -> None:
    rows = [
        SlotState(0, is_processing=True, n_prompt_tokens=900),
        SlotState(1, is_processing=False, n_prompt_tokens=100),
        SlotState(2, is_processing=False, n_prompt_tokens=100),
        SlotState(3, is_processing=False),
    ]
    assert surplus(rows, [3, 2, 1], keep=250) == []
    assert surplus(rows, [3, 2, 1], keep=150) == [2]
    assert surplus(rows, [0, 3, 2, 1], keep=0) == [2, 1]
    assert surplus(rows, [], keep=0) == []


def test_limits_follow_the_settings() -> None:
    settings = EngineSettings(name="m", model_path="m", socket="s", control_socket="c", slots=3, cells=9, window=7)
    assert (settings.limits.slots, settings.limits.cells, settings.limits.window) == (3, 9, 7)
