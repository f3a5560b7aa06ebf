"""Pipelines in the layouts and types that there are, and what is said of those that can't be served."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from tests import tiny_pipeline

from narthex.core.errors import ContextLengthExceeded, InvalidRequest, ModelLoadFailed
from narthex.engine.images import layout
from narthex.engine.images.pipeline import Brake, Picture, Pipeline, Pixels, Stopped

PICTURE = {
    "prompt": "a cat", "negative": "", "width": 64, "height": 64, "steps": 4, "sampler": "Euler", "seed": 1,
    "guidance": 7.5,
}  # fmt: skip


def drawn(pipeline: Pipeline, **changed: Any) -> tuple[Pixels, list[int], int]:
    """The image, the indexes of the looks at it, and how many steps it took."""
    looks: list[int] = []
    steps: list[None] = []
    image = pipeline.draw(
        Picture(**{**PICTURE, **changed}),
        Brake(),
        lambda index, _: looks.append(index),
        lambda: steps.append(None),
    )
    return image, looks, len(steps)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    return Pipeline(tiny_pipeline.write(tmp_path_factory.mktemp("tiny")), threads=1)


def test_an_image(tiny: Pipeline) -> None:
    image, looks, steps = drawn(tiny, width=128, partials=2)
    assert (image.shape, image.dtype, looks, steps) == ((64, 128, 3), np.uint8, [0, 1], 4)
    assert np.array_equal(image, drawn(tiny, width=128)[0])


@pytest.mark.parametrize("changed", [{"prompt": "a dog"}, {"negative": "a dog"}, {"seed": 2}, {"guidance": 3.0}])
def test_what_an_image_hangs_on(changed: dict[str, Any], tiny: Pipeline) -> None:
    assert not np.array_equal(drawn(tiny)[0], drawn(tiny, **changed)[0])


def test_without_guidance_the_negative_prompt_plays_no_part(tiny: Pipeline) -> None:
    assert np.array_equal(drawn(tiny, guidance=1)[0], drawn(tiny, guidance=1, negative="a dog")[0])


def test_looks_at_an_image_of_few_steps(tiny: Pipeline) -> None:
    assert [drawn(tiny, steps=steps, partials=3)[1] for steps in (1, 2, 3, 9)] == [[], [0], [0, 1], [0, 1, 2]]


def test_a_long_text_is_read_in_pieces_and_not_cut(tiny: Pipeline) -> None:
    words = ["cat"] * 75
    assert tiny.tokens(" ".join([*words, "dog"]), "the roof") == 78
    short, long = (drawn(tiny, prompt=" ".join(text))[0] for text in (words, [*words, "dog"]))
    assert not np.array_equal(short, long)
    with pytest.raises(ContextLengthExceeded) as raised:
        tiny.tokens("cat " * 301, "")
    assert raised.value.param == "prompt"


def test_a_network_of_one_length_takes_one_piece(tmp_path: Path) -> None:
    pipeline = Pipeline(tiny_pipeline.write(tmp_path, tokens=77), threads=1)
    assert drawn(pipeline)[0].shape == (64, 64, 3)
    assert pipeline.tokens("cat " * 75, "") == 75
    with pytest.raises(ContextLengthExceeded, match="at most 75 tokens; this text has 76"):
        pipeline.tokens("", "cat " * 76)


@pytest.mark.parametrize(
    "options",
    [
        {"number": np.float16},
        {"time": (onnx.TensorProto.FLOAT, ())},
        {"time": (onnx.TensorProto.FLOAT, (1,))},
        {"time": (onnx.TensorProto.INT64, (1,))},
        {"kind": "OnnxStableDiffusionPipeline"},
    ],
    ids=str,
)
def test_the_types_of_exporters(options: dict[str, Any], tmp_path: Path) -> None:
    image = drawn(Pipeline(tiny_pipeline.write(tmp_path, **options), threads=1))[0]
    assert image.std() > 10


def test_an_older_export_has_no_settings(tmp_path: Path) -> None:
    pipeline = Pipeline(tiny_pipeline.write(tmp_path, configs=False), threads=1)
    assert pipeline.sized("auto") == (512, 512)
    assert drawn(pipeline)[0].shape == (64, 64, 3)


@pytest.mark.parametrize(
    ("size", "said"),
    [
        ("96x64", "multiples of 64 "),
        ("64x96", "multiples of 64 "),
        ("4160x64", "longer than 4096"),
        ("256x192", "takes about 9 MiB of memory; this model may use 1 MiB. Its usual size is 64x64"),
    ],
)
def test_sizes_that_it_can_t_make(size: str, said: str, tiny: Pipeline) -> None:
    narrow = Pipeline(tiny.layout.folder, threads=1, room_bytes=2**20)
    with pytest.raises(InvalidRequest, match=said) as raised:
        narrow.sized(size)
    assert (raised.value.param, raised.value.code) == ("size", "invalid_value")
    assert (narrow.sized("auto"), narrow.sized("128x64")) == ((64, 64), (128, 64))


def test_the_work_of_stable_diffusion_is_bounded_by_its_attention(tmp_path: Path) -> None:
    usual = layout.read(tiny_pipeline.write(tmp_path, configs=False))
    assert [usual.work_bytes(side, side) // 2**20 for side in (512, 1024)] == [1024, 16384]


def test_the_brake_stops_it(tiny: Pipeline) -> None:
    early = Brake()
    early.pull()
    with pytest.raises(Stopped):
        tiny.draw(Picture(**PICTURE), early, lambda *_: None, lambda: None)
    brake = Brake()
    steps: list[None] = []

    def step() -> None:
        steps.append(None)
        brake.pull()

    with pytest.raises(Stopped):
        tiny.draw(Picture(**PICTURE), brake, lambda *_: None, step)
    assert len(steps) == 1


def test_a_failing_runtime_is_no_brake(tiny: Pipeline) -> None:
    empty = Picture(**{**PICTURE, "width": 0})
    with pytest.raises(RuntimeError, match="the image model failed"):
        tiny.draw(empty, Brake(), lambda *_: None, lambda: None)


# --- what can't be loaded ------------------------------------------------------------------------------------------


def _other_inputs(folder: Path) -> None:
    graph = onnx.load(folder / "unet/model.onnx")
    graph.graph.input.append(onnx.helper.make_tensor_value_info("time_ids", onnx.TensorProto.FLOAT, (1, 6)))
    onnx.save(graph, folder / "unet/model.onnx")


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("model_index.json", None, "pipe is no pipeline: it has no model_index.json"),
        ("model_index.json", "{}", "pipe/model_index.json is not what it should be"),
        ("model_index.json", '{"_class_name": "FluxPipeline"}', "is a FluxPipeline, which is not"),
        ("vae_decoder/model.onnx", None, "pipe/vae_decoder/model.onnx is missing"),
        ("unet/model.onnx", 200, "pipe/unet/model.onnx can't be loaded"),
        ("text_encoder/model.onnx", "", "pipe/text_encoder/model.onnx can't be loaded"),
        ("unet/config.json", '{"sample_size": "x"}', "pipe/unet/config.json is not what it should be"),
        ("scheduler/scheduler_config.json", '{"prediction_type": "flow"}', "scheduler_config.json is not what it"),
        ("tokenizer/vocab.json", None, "pipe/tokenizer can't be read"),
        ("tokenizer/vocab.json", "[]", "pipe/tokenizer holds"),
        ("tokenizer/vocab.json", '{"a": 1}', "pipe/tokenizer holds"),
        ("tokenizer/merges.txt", "", "pipe/tokenizer holds"),
        ("tokenizer/merges.txt", "#version\nnone such\n", "pipe/tokenizer holds a damaged tokenizer"),
        ("tokenizer/special_tokens_map.json", '{"pad_token": {"content": "?!"}}', "pipe/tokenizer holds"),
    ],
)
def test_what_can_t_be_loaded_is_named(file: str, content: str | int | None, said: str, tmp_path: Path) -> None:
    path = tiny_pipeline.write(tmp_path / "pipe") / file
    if content is None:
        path.unlink()
    elif isinstance(content, int):
        os.truncate(path, content)
    else:
        path.write_text(content)
    with pytest.raises(ModelLoadFailed, match=said):
        Pipeline(tmp_path / "pipe", threads=1)


def test_a_network_that_wants_more_is_of_another_kind(tmp_path: Path) -> None:
    folder = tiny_pipeline.write(tmp_path / "pipe")
    _other_inputs(folder)
    with pytest.raises(
        ModelLoadFailed, match=r"pipe/unet/model.onnx takes .*time_ids.*: a kind of pipeline that is not"
    ):
        Pipeline(folder, threads=1)


def test_another_mark_may_fill_pieces_up(tmp_path: Path) -> None:
    folder = tiny_pipeline.write(tmp_path)
    before = drawn(Pipeline(folder, threads=1))[0]
    (folder / "tokenizer/special_tokens_map.json").write_text('{"pad_token": "!"}')
    assert not np.array_equal(before, drawn(Pipeline(folder, threads=1))[0])
    (folder / "tokenizer/special_tokens_map.json").unlink()
    assert np.array_equal(before, drawn(Pipeline(folder, threads=1))[0])


def test_the_size_on_the_disk(tmp_path: Path) -> None:
    assert layout.weights_bytes(tmp_path) == 0
    folder = tiny_pipeline.write(tmp_path)
    (folder / "unet/model.onnx_data").write_bytes(bytes(1_000_000))
    assert 1_010_000 < layout.weights_bytes(folder) < 1_100_000
