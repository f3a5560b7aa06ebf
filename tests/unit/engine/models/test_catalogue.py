import re
from pathlib import Path

import pytest

from narthex.core.errors import InvalidRequest, ModelNotFound
from narthex.engine.models.catalogue import CATALOGUE, CatalogueModel, row
from narthex.engine.models.source import FileSource, HubSource, parse, slug

PINNED = Path(__file__).parents[4] / "requirements" / "models.txt"


@pytest.mark.parametrize("model", CATALOGUE.values(), ids=lambda model: model.name)
def test_rows_are_what_the_requirements_pin(model: CatalogueModel) -> None:
    pins = re.search(rf"\b{model.package}=={re.escape(model.version)}((?: \\\n +--hash=\S+)+)", PINNED.read_text())
    assert pins is not None
    assert f"sha256:{model.wheel_sha256}" in pins[1]
    assert slug(model.name) == model.name
    assert all(re.fullmatch("[0-9a-f]{64}", file.sha256) for file in model.files)
    assert model.size_bytes == sum(file.size_bytes for file in model.files)


def test_a_row_by_name() -> None:
    assert row("all-minilm-l6-v2").kind == "embedding"
    assert parse("smollm2-135m-instruct") is row("smollm2-135m-instruct")
    with pytest.raises(ModelNotFound, match="It has: smollm2-135m-instruct, all-minilm-l6-v2"):
        parse("gpt-5")


@pytest.mark.parametrize(
    ("spec", "source", "name"),
    [
        ("hf:Acme/Some-Model-GGUF", HubSource(repo="Acme/Some-Model-GGUF"), "some-model"),
        ("hf:Acme/m/Q4/some.Q4_K_M.gguf", HubSource(repo="Acme/m", file="Q4/some.Q4_K_M.gguf"), "some.q4_k_m"),
        ("hf:Acme/m/x.GGUF@v1.0", HubSource(repo="Acme/m", file="x.GGUF", revision="v1.0"), "x"),
        ("hf:Acme/m@refs/pr/1", HubSource(repo="Acme/m", revision="refs/pr/1"), "m"),
    ],
)
def test_names_on_the_hub(spec: str, source: HubSource, name: str) -> None:
    assert parse(spec) == source
    assert source.name == name
    assert parse(source.spec) == source


@pytest.mark.parametrize(
    "spec",
    ["hf:", "hf:acme", "hf:acme/../x.gguf", "hf:acme/m/../../x.gguf", "hf:acme/m/x.bin", "hf:a/b/c.gguf@", "hf:/"],
)
def test_what_is_no_name_on_the_hub(spec: str) -> None:
    with pytest.raises(InvalidRequest, match="is not of the form hf:owner/repo"):
        parse(spec)


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "My Model (1).Q8.gguf"
    path.touch()
    source = parse(str(path))
    assert source == FileSource(path=path)
    assert (source.name, source.spec) == ("my-model-1-.q8", str(path))
    for missing in ("none.gguf", str(tmp_path / "none"), "./nothing"):
        with pytest.raises(InvalidRequest, match="There is no file"):
            parse(missing)


def test_a_name_never_leaves_its_folder() -> None:
    assert [slug(text) for text in ("../../etc", "..", "", ".hidden", "A/B")] == [
        "etc",
        "model",
        "model",
        "hidden",
        "a-b",
    ]
