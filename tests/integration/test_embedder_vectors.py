"""The graph that we build gives the vectors that the model's own arithmetic gives."""

import math
import shutil
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import onnx
import pytest
from safetensors.numpy import load_file, save_file

from narthex.core.errors import ModelLoadFailed
from narthex.retrieval import embedding_model, onnx_graph, sentence_bert
from narthex.retrieval.embedding_model import EmbeddingModel

pytest_plugins = ["tests.models_fixture"]
pytestmark = pytest.mark.patient

Floats = npt.NDArray[np.float32]

TEXTS = [
    "",
    "a",
    "The quick brown fox jumps over the lazy dog.",
    "Überraschung: naïve façades, Σίσυφος, 東京タワー, مرحبا, 🦊🔥!",
    "e\u0301 vs é \x00\t\n zero\u200bwidth",
    "word " * 300,
    "Mixed 123,456.78 text with numbers. " * 40,
]

_erf = np.vectorize(math.erf, otypes=[np.float32])


def reference(tensors: dict[str, Floats], ids: list[int], *, layers: int, heads: int, eps: float) -> Floats:
    """One text through BERT, mean pooling and normalisation, in float32, as the paper has it."""

    def norm(x: Floats, name: str) -> Floats:
        centred = x - x.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + np.float32(eps))
        return scaled * tensors[f"{name}.weight"] + tensors[f"{name}.bias"]

    def linear(x: Floats, name: str) -> Floats:
        return x @ tensors[f"{name}.weight"].T + tensors[f"{name}.bias"]

    n = len(ids)
    x = tensors["embeddings.word_embeddings.weight"][ids] + tensors["embeddings.position_embeddings.weight"][:n]
    x = norm(x + tensors["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
    for layer in range(layers):
        p = f"encoder.layer.{layer}."
        q, k, v = (
            linear(x, f"{p}attention.self.{part}").reshape(n, heads, -1).transpose(1, 0, 2)
            for part in ("query", "key", "value")
        )
        scores = q @ k.transpose(0, 2, 1) / np.float32(math.sqrt(q.shape[-1]))
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        mixed = (weights @ v).transpose(1, 0, 2).reshape(n, -1)
        x = norm(linear(mixed, f"{p}attention.output.dense") + x, f"{p}attention.output.LayerNorm")
        wide = linear(x, f"{p}intermediate.dense")
        wide = wide * np.float32(0.5) * (1 + _erf(wide / np.float32(math.sqrt(2))))
        x = norm(linear(wide, f"{p}output.dense") + x, f"{p}output.LayerNorm")
    mean = x.mean(0)
    return mean / np.linalg.norm(mean)


@pytest.fixture(scope="module")
def model_dir(models_dir: Path) -> Path:
    return models_dir / "all-minilm-l6-v2"


@pytest.fixture(scope="module")
def model(model_dir: Path) -> EmbeddingModel:
    return EmbeddingModel(model_dir, threads=1)


def test_agrees_with_the_reference(model: EmbeddingModel, model_dir: Path) -> None:
    tensors = load_file(model_dir / "model.safetensors")
    inputs = [ids[:512] for ids in model.tokenize(TEXTS)]
    inputs += [[101], [101, 7592, 102], list(range(1000, 1512))]
    assert {1, 2, 3, 512} <= {len(ids) for ids in inputs}
    for ids in inputs:
        (found,) = model.run([ids])
        assert found @ reference(tensors, ids, layers=6, heads=12, eps=1e-12) >= 0.9999
        assert np.linalg.norm(found) == pytest.approx(1, abs=1e-5)


def test_a_text_among_others_of_its_length_gets_the_same_vector(model: EmbeddingModel) -> None:
    inputs = [[101, first, 2003, 102] for first in range(2000, 2032)]
    together = model.run(inputs)
    for ids, vector in zip(inputs, together, strict=True):
        assert vector @ model.run([ids])[0] >= 0.99999


def test_says_what_the_files_say(model: EmbeddingModel) -> None:
    assert (model.dim, model.max_tokens, model.vocabulary, model.first, model.last) == (384, 512, 30522, 101, 102)


def test_long_texts_are_not_cut_by_the_tokenizers_own_settings(model: EmbeddingModel) -> None:
    (ids,) = model.tokenize(["word " * 1000])
    assert len(ids) == 1002


def tiny(folder: Path, *, pooling: str = "mean", normalised: bool = True, prefix: str = "", eps: float = 0.1) -> Path:
    """A model of two layers and other sizes, so that nothing of the catalogue's model can be built in."""
    rng = np.random.default_rng(7)
    hidden, wide = 12, 20
    shapes = {"embeddings.word_embeddings.weight": (50, hidden), "embeddings.position_embeddings.weight": (9, hidden)}
    shapes |= {"embeddings.token_type_embeddings.weight": (2, hidden)}
    shapes |= {f"embeddings.LayerNorm.{part}": (hidden,) for part in ("weight", "bias")}
    for layer in range(2):
        p = f"encoder.layer.{layer}."
        for name, (out, into) in {
            "attention.self.query": (hidden, hidden),
            "attention.self.key": (hidden, hidden),
            "attention.self.value": (hidden, hidden),
            "attention.output.dense": (hidden, hidden),
            "intermediate.dense": (wide, hidden),
            "output.dense": (hidden, wide),
        }.items():
            shapes |= {f"{p}{name}.weight": (out, into), f"{p}{name}.bias": (out,)}
        for name in ("attention.output.LayerNorm", "output.LayerNorm"):
            shapes |= {f"{p}{name}.weight": (hidden,), f"{p}{name}.bias": (hidden,)}
    folder.mkdir()
    (folder / "1_Pooling").mkdir()
    save_file(
        {prefix + name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()},
        folder / "model.safetensors",
    )
    config = {"model_type": "bert", "num_hidden_layers": 2, "num_attention_heads": 3, "hidden_size": hidden}
    config |= {"vocab_size": 50, "max_position_embeddings": 9, "layer_norm_eps": eps}
    modes = {"pooling_mode_mean_tokens": pooling == "mean", "pooling_mode_cls_token": pooling == "cls"}
    modules = [{"type": "x.Transformer", "path": ""}, {"type": "x.Pooling", "path": "1_Pooling"}]
    modules += [{"type": "x.Normalize", "path": "2_Normalize"}] if normalised else []
    write(folder / "config.json", config)
    write(folder / "1_Pooling/config.json", modes)
    write(folder / "modules.json", modules)
    (folder / "tokenizer.json").write_text("{}")
    return folder


def write(path: Path, value: object) -> None:
    path.write_bytes(msgspec.json.encode(value))


def run_graph(path: Path, ids: list[int]) -> Floats:
    onnx.checker.check_model(str(path))
    return embedding_model._open(path, threads=1).run(["vectors"], {"input_ids": np.array([ids])})[0][0]


def test_the_shape_comes_from_the_files(tmp_path: Path) -> None:
    folder = tiny(tmp_path / "tiny", prefix="bert.")
    tensors = {name.removeprefix("bert."): tensor for name, tensor in load_file(folder / "model.safetensors").items()}
    found = run_graph(onnx_graph.build(folder), [3, 1, 4, 1, 5])
    assert found @ reference(tensors, [3, 1, 4, 1, 5], layers=2, heads=3, eps=0.1) >= 0.9999


def test_pooling_by_the_first_token_and_no_normalisation(tmp_path: Path) -> None:
    plain = run_graph(onnx_graph.build(tiny(tmp_path / "plain", normalised=False)), [3, 1])
    mean = run_graph(onnx_graph.build(tiny(tmp_path / "mean")), [3, 1])
    cls = run_graph(onnx_graph.build(tiny(tmp_path / "cls", pooling="cls")), [3, 1])
    assert np.allclose(plain / np.linalg.norm(plain), mean, atol=1e-5)
    assert not np.allclose(cls, mean, atol=1e-4)


def test_is_built_once_and_anew_when_the_weights_change(tmp_path: Path) -> None:
    folder = tiny(tmp_path / "tiny")
    first = onnx_graph.ensure(folder)
    assert onnx_graph.build(folder) == first
    tensors = load_file(folder / "model.safetensors")
    save_file(
        tensors | {"embeddings.LayerNorm.bias": tensors["embeddings.LayerNorm.bias"] + 1}, folder / "model.safetensors"
    )
    second = onnx_graph.ensure(folder)
    assert second != first
    assert sorted(folder.glob("*.onnx")) == [second]


@pytest.mark.parametrize(
    ("file", "value", "message"),
    [
        ("config.json", None, "config.json can't be read: No such file"),
        ("config.json", {"model_type": "bert"}, "config.json is not what it should be"),
        ("modules.json", [], "names other steps"),
        ("modules.json", [{"type": "x.Pooling", "path": "1_Pooling"}, {"type": "x.Dense", "path": ""}], "other steps"),
        ("1_Pooling/config.json", {"pooling_mode_max_tokens": True}, "only pooling by mean or by"),
        ("1_Pooling/config.json", {"pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": True}, "only pooling"),
        ("tokenizer.json", None, "tokenizer.json can't be read"),
        ("model.safetensors", None, "model.safetensors can't be read"),
        ("model.safetensors", "junk", "could not be built: tiny/model.safetensors is not what it should be"),
    ],
)
def test_a_folder_that_is_no_such_model(tmp_path: Path, file: str, value: object, message: str) -> None:
    folder = tiny(tmp_path / "tiny")
    if value is None:
        (folder / file).unlink()
    else:
        write(folder / file, value)
    with pytest.raises(ModelLoadFailed, match=message):
        onnx_graph.ensure(folder)


@pytest.mark.parametrize("change", [{"model_type": "roberta"}, {"hidden_act": "relu"}, {"num_attention_heads": 5}])
def test_a_model_of_another_kind(tmp_path: Path, change: dict[str, object]) -> None:
    folder = tiny(tmp_path / "tiny")
    write(folder / "config.json", msgspec.json.decode((folder / "config.json").read_bytes()) | change)
    with pytest.raises(ModelLoadFailed):
        sentence_bert.read(folder)


def test_the_builder_fails_in_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["onnx_graph", str(tmp_path / "none")])
    assert onnx_graph.main() == 1
    assert "none/config.json can't be read" in capsys.readouterr().err
    monkeypatch.setattr("sys.argv", ["onnx_graph", str(tiny(tmp_path / "tiny"))])
    assert onnx_graph.main() == 0


def copy_of(model_dir: Path, target: Path) -> Path:
    """A copy that is right but for the graph; the weights are linked."""
    target.mkdir()
    for file in model_dir.rglob("*"):
        if file.is_file() and file.suffix != ".onnx":
            (target / file.relative_to(model_dir)).parent.mkdir(exist_ok=True)
            if file.suffix == ".safetensors":
                (target / file.name).hardlink_to(file)
            else:
                shutil.copy2(file, target / file.relative_to(model_dir))
    return target


def test_a_damaged_graph_is_built_anew(model: EmbeddingModel, model_dir: Path, tmp_path: Path) -> None:
    folder = copy_of(model_dir, tmp_path / "copy")
    onnx_graph.path_in(folder).write_bytes(b"damaged")
    again = EmbeddingModel(folder, threads=1)
    assert again.digest == model.digest
    assert again.run([[101, 2003, 102]])[0] @ model.run([[101, 2003, 102]])[0] >= 0.99999


def test_damaged_tokenizers(model_dir: Path, tmp_path: Path) -> None:
    folder = copy_of(model_dir, tmp_path / "copy")
    for body, message in ((b"{}", "is not a tokenizer"), (b"\xff\xfe", "can't be read")):
        (folder / "tokenizer.json").write_bytes(body)
        with pytest.raises(ModelLoadFailed, match=message):
            EmbeddingModel(folder, threads=1)
    bare = '{"version":"1.0","model":{"type":"WordLevel","vocab":{"[UNK]":0},"unk_token":"[UNK]"}}'
    (folder / "tokenizer.json").write_text(bare)
    with pytest.raises(ModelLoadFailed, match="one mark before and one after"):
        EmbeddingModel(folder, threads=1)
