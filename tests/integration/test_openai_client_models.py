"""Models through the official client: list, retrieve, delete."""

import shutil
from pathlib import Path

import httpx2
import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from tests.server_process import CHAT_MODEL, EMBEDDING_MODEL, SLASHED, Server, StartServer

pytest_plugins = ["tests.models_fixture", "tests.server_fixture", "tests.client_fixture"]


def test_list(client: OpenAI) -> None:
    page = client.models.list()
    models = {model.id: model for model in page}
    assert {CHAT_MODEL, EMBEDDING_MODEL, SLASHED} <= models.keys()
    assert {model.object for model in models.values()} == {"model"}
    assert all(model.created > 0 and model.owned_by for model in models.values())


@pytest.mark.anyio
async def test_async_list(aclient: AsyncOpenAI) -> None:
    assert CHAT_MODEL in {model.id async for model in aclient.models.list()}


@pytest.mark.parametrize("name", [CHAT_MODEL, SLASHED])
def test_retrieve(client: OpenAI, name: str) -> None:
    model = client.models.retrieve(name)
    assert (model.id, model.object) == (name, "model")


def test_a_slash_may_be_plain_or_encoded(http: httpx2.Client) -> None:
    for path in (SLASHED, SLASHED.replace("/", "%2F"), SLASHED.replace("/", "%2f")):
        assert http.get(f"/v1/models/{path}").json()["id"] == SLASHED


def test_retrieve_unknown(client: OpenAI) -> None:
    for name in ("nobody", "no/body", CHAT_MODEL.upper(), "%00"):
        with pytest.raises(openai.NotFoundError) as caught:
            client.models.retrieve(name)
        assert (caught.value.code, caught.value.param) == ("model_not_found", "model")


def test_a_key_sees_only_its_models(server: Server) -> None:
    key = server.key(models=("all-*",))
    with OpenAI(base_url=server.base_url, api_key=key, max_retries=0) as narrow:
        assert {model.id for model in narrow.models.list()} == {EMBEDDING_MODEL}
        with pytest.raises(openai.NotFoundError):
            narrow.models.retrieve(CHAT_MODEL)


def test_delete_is_refused(server: Server, client: OpenAI) -> None:
    for name in (CHAT_MODEL, EMBEDDING_MODEL, SLASHED):
        with pytest.raises(openai.PermissionDeniedError) as caught:
            client.models.delete(name)
        assert caught.value.code == "insufficient_permissions"
    with pytest.raises(openai.NotFoundError):
        client.models.delete("nobody")
    with (
        OpenAI(base_url=server.base_url, api_key=server.key(), max_retries=0) as ordinary,
        pytest.raises(openai.PermissionDeniedError),
    ):
        ordinary.models.delete(CHAT_MODEL)
    assert client.models.retrieve(CHAT_MODEL).id == CHAT_MODEL


def test_delete_of_an_added_model(start_server: StartServer, models_dir: Path, tmp_path: Path) -> None:
    """A model from a file of one's own, in the store."""
    added = tmp_path / "models" / "added"
    shutil.copytree(models_dir / CHAT_MODEL, added)
    manifest = added / "manifest.json"
    manifest.write_text(manifest.read_text().replace(f'"{CHAT_MODEL}"', '"added"', 1))
    config = {"engine": {"default": None}, "embedder": {"default": None}}
    with start_server(config, models=("added",), models_from=tmp_path / "models") as server:
        with (
            OpenAI(base_url=server.base_url, api_key=server.key(), max_retries=0) as ordinary,
            pytest.raises(openai.PermissionDeniedError),
        ):
            ordinary.models.delete("added")
        with OpenAI(base_url=server.base_url, api_key=server.admin_key, max_retries=0) as admin:
            assert [model.id for model in admin.models.list()] == ["added"]
            gone = admin.models.delete("added")
            assert (gone.id, gone.object, gone.deleted) == ("added", "model", True)
            assert list(admin.models.list()) == []
            with pytest.raises(openai.NotFoundError):
                admin.models.delete("added")
        assert not (server.data / "models" / "added").exists()
