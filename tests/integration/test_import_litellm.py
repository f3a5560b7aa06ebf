"""An imported configuration, served: what callers of LiteLLM get when they come to us."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import openai
import pytest
import yaml
from tests.callers import EMBEDDINGS, ask
from tests.served_gateway import bodies, chat, client, refusing, saying, started, text, whole
from tests.server_process import StartServer

from narthex.testing.scripted import ScriptedUpstream

pytest_plugins = ["tests.models_fixture", "tests.server_fixture"]
pytestmark = [pytest.mark.anyio, pytest.mark.patient]

THEIRS = """\
model_list:
  - model_name: assistant
    litellm_params: {{model: openai/first, api_base: "{one}/v1", api_key: os.environ/FIRST_KEY}}
  - model_name: spare
    litellm_params: {{model: hosted_vllm/org/second, api_base: "{two}", api_key: sk-written-out}}
  - model_name: wide
    litellm_params: {{model: openai/third, api_base: "{two}/v1"}}
  - model_name: vectors
    litellm_params: {{model: hosted_vllm/vectors, api_base: "{two}", api_key: sk-written-out}}
    model_info: {{mode: embedding}}
litellm_settings:
  drop_params: true
  num_retries: 0
  fallbacks: [{{assistant: [spare]}}]
  context_window_fallbacks: [{{assistant: [wide]}}]
router_settings:
  model_group_alias: {{gpt-4: assistant}}
general_settings: {{master_key: sk-master}}
"""


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIRST_KEY", "sk-first")
    monkeypatch.setenv("VLLM_API_KEY", "sk-second")


def imported(folder: Path, **addresses: str) -> dict[str, Any]:
    """What the command writes for these addresses."""
    (folder / "litellm.yaml").write_text(THEIRS.format(**addresses))
    command = [sys.executable, "-m", "narthex", "import", "litellm", "litellm.yaml", "--output", "narthex.yaml"]
    done = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True, timeout=60)
    assert "general_settings.master_key" in done.stderr
    written = (folder / "narthex.yaml").read_text()
    assert "sk-written-out" not in written + done.stderr + done.stdout
    settings: dict[str, Any] = yaml.safe_load(written)
    return settings


async def test_callers_are_answered_as_before(start_server: StartServer, tmp_path: Path) -> None:
    long = refusing(400, code="context_length_exceeded")
    numbers = whole({"data": [{"index": 0, "embedding": [1.0, 0.0]}], "usage": {"prompt_tokens": 1}})
    async with (
        ScriptedUpstream(saying("first"), refusing(500), refusing(503), long, saying("first")) as one,
        ScriptedUpstream(saying("second"), saying("second"), saying("third"), numbers) as two,
    ):
        settings = imported(tmp_path, one=one.url, two=two.url)
        async with started(start_server, settings) as server, client(server) as official:
            listed = [model.id async for model in official.models.list()]
            assert sorted(listed) == ["assistant", "gpt-4", "spare", "vectors", "wide"]

            assert text(await chat(server, "assistant")) == "first"
            assert one.requests[-1].headers["authorization"] == "Bearer sk-first"
            assert bodies(one)[-1]["model"] == "first"

            for stream in (False, True):
                assert text(await chat(server, "assistant", stream=stream)) == "second"
            assert two.requests[-1].headers["authorization"] == "Bearer sk-second"
            assert two.requests[-1].target == "/v1/chat/completions"
            assert bodies(two)[-1]["model"] == "org/second"

            assert text(await chat(server, "gpt-4")) == "third"
            assert "authorization" not in two.requests[-1].headers

            answer = await chat(server, "assistant", unheard_of=1)
            assert (text(answer), answer.headers["x-narthex-ignored"]) == ("first", "unheard_of")
            assert "unheard_of" not in bodies(one)[-1]

            vectors = await ask(server, EMBEDDINGS, {"model": "vectors", "input": "text"})
            assert vectors.json["data"][0]["embedding"] == [1.0, 0.0]

            with pytest.raises(openai.NotFoundError):
                await official.chat.completions.create(model="first", messages=[{"role": "user", "content": "Hi"}])
