"""Embedding models that come as GGUF run in the engine, and give what the embedder gives for the same weights."""

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from safetensors.numpy import load_file
from tests.server_process import EMBEDDING_MODEL, StartServer

pytest_plugins = ["tests.models_fixture", "tests.server_fixture"]
pytestmark = pytest.mark.patient

TEXTS = ["Once upon a time", "Hi", "Größe und Café: naïve façade", "word " * 200]
NAME = "minilm-gguf"
_OF_LAYER = {
    "attention.self.query": "attn_q",
    "attention.self.key": "attn_k",
    "attention.self.value": "attn_v",
    "attention.output.dense": "attn_output",
    "attention.output.LayerNorm": "attn_output_norm",
    "intermediate.dense": "ffn_up",
    "output.dense": "ffn_down",
    "output.LayerNorm": "layer_output_norm",
}
_EMBEDDINGS = {
    "word_embeddings.weight": "token_embd.weight",
    "position_embeddings.weight": "position_embd.weight",
    "token_type_embeddings.weight": "token_types.weight",
    "LayerNorm.weight": "token_embd_norm.weight",
    "LayerNorm.bias": "token_embd_norm.bias",
}


@pytest.fixture(scope="module")
def model(models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The catalogue's embedding model, written as GGUF."""
    source, target = models_dir / EMBEDDING_MODEL, tmp_path_factory.mktemp("gguf") / "minilm.gguf"
    config = json.loads((source / "config.json").read_text())
    writer = gguf.GGUFWriter(target, "bert")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_layer_norm_eps(config["layer_norm_eps"])
    writer.add_causal_attention(False)
    writer.add_pooling_type(gguf.PoolingType.MEAN)
    writer.add_file_type(0)
    _add_tokens(writer, json.loads((source / "tokenizer.json").read_text())["model"]["vocab"])
    weights = load_file(source / "model.safetensors")
    for theirs, name in _names(config["num_hidden_layers"]).items():
        writer.add_tensor(name, weights[theirs].astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target


def _add_tokens(writer: Any, vocabulary: dict[str, int]) -> None:
    words = sorted(vocabulary, key=vocabulary.__getitem__)
    special = [word.startswith("[") and word.endswith("]") for word in words]
    plain = [word[2:] if word.startswith("##") else f"\u2581{word}" for word in words]
    writer.add_tokenizer_model("bert")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([word if kept else text for word, text, kept in zip(words, plain, special, strict=True)])
    writer.add_token_types([3 if kept else 1 for kept in special])
    writer.add_token_type_count(2)
    writer.add_bos_token_id(vocabulary["[CLS]"])
    writer.add_eos_token_id(vocabulary["[SEP]"])
    writer.add_sep_token_id(vocabulary["[SEP]"])
    writer.add_unk_token_id(vocabulary["[UNK]"])
    writer.add_pad_token_id(vocabulary["[PAD]"])
    writer.add_mask_token_id(vocabulary["[MASK]"])


def _names(layers: int) -> dict[str, str]:
    names = {f"embeddings.{theirs}": ours for theirs, ours in _EMBEDDINGS.items()}
    for layer in range(layers):
        for theirs, ours in _OF_LAYER.items():
            for kind in ("weight", "bias"):
                names[f"encoder.layer.{layer}.{theirs}.{kind}"] = f"blk.{layer}.{ours}.{kind}"
    return names


def test_agrees_with_the_embedder(start_server: StartServer, model: Path) -> None:
    config = {"engine": {"default": None, "models": {NAME: {"source": str(model)}}}}
    with start_server(config, models=(EMBEDDING_MODEL,)) as server, server.http() as http:

        def embed(**body: Any) -> Any:
            return http.post("/v1/embeddings", json=body).json()

        theirs, ours = embed(model=EMBEDDING_MODEL, input=TEXTS), embed(model=NAME, input=TEXTS)
        assert ours["usage"] == theirs["usage"]
        for one, other in zip(ours["data"], theirs["data"], strict=True):
            assert float(np.dot(one["embedding"], other["embedding"])) >= 0.999
        short = embed(model=NAME, input=[[101, 7632, 102]], dimensions=8)["data"][0]["embedding"]
        assert len(short) == 8
        assert np.linalg.norm(short) == pytest.approx(1, abs=1e-5)
        assert embed(model=NAME, input="word " * 2000)["error"]["code"] == "context_length_exceeded"
        chat = {"model": NAME, "messages": [{"role": "user", "content": "Hi"}]}
        assert http.post("/v1/chat/completions", json=chat).json()["error"]["param"] == "model"
