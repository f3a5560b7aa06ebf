"""Each documented sample is taken as it is printed, but for what its own document forbids, and answered as printed."""

import json
from typing import Any

import httpx2
import pytest
from tests.published_samples import SAMPLES, Sample
from tests.server_process import Server

pytest_plugins = ["tests.models_fixture", "tests.server_fixture"]
pytestmark = pytest.mark.patient

_STREAMED = [(name, each) for name, each in SAMPLES.items() if each.streams]
_WRONG = [(f"{name}: {param}", each, param) for name, each in SAMPLES.items() for param in each.wrong]


@pytest.fixture(scope="module")
def keys(shallow_server: Server) -> dict[str, str]:
    """One of each profile."""
    profiles = {each.profile for each in SAMPLES.values()}
    return {profile: shallow_server.key(profile=profile, name=f"samples of {profile}") for profile in profiles}


def asked(server: Server, key: str, sample: Sample, body: dict[str, Any]) -> httpx2.Response:
    with server.http(key) as http:
        return http.post(sample.path, json=body)


def lacking(told: Any, printed: Any, path: str = "") -> list[str]:
    """What an answer has not, or not of the JSON type that is printed."""
    if isinstance(printed, dict) and isinstance(told, dict):
        members = [lacking(told.get(name), value, f"{path}.{name}") for name, value in printed.items()]
        return [each for found in members for each in found]
    if isinstance(printed, list) and printed and isinstance(told, list) and told:
        return lacking(told[0], printed[0], f"{path}[0]")
    return [] if type(told) is type(printed) else [f"{path}: {told!r}"]


@pytest.mark.parametrize("sample", SAMPLES.values(), ids=SAMPLES)
def test_a_sample_is_answered(sample: Sample, shallow_server: Server, keys: dict[str, str]) -> None:
    answer = asked(shallow_server, keys[sample.profile], sample, sample.mended())
    assert answer.status_code == sample.status, answer.text
    assert lacking(answer.json(), sample.answer) == []
    if "object" in sample.answer:
        assert answer.json()["object"] == sample.answer["object"]


@pytest.mark.parametrize(("_", "sample", "param"), _WRONG, ids=[name for name, *_ in _WRONG])
def test_what_its_document_forbids_is_named(
    _: str, sample: Sample, param: str, *, shallow_server: Server, keys: dict[str, str]
) -> None:
    answer = asked(shallow_server, keys[sample.profile], sample, sample.mended(but=param))
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param), answer.text


@pytest.mark.parametrize(("_", "sample"), _STREAMED, ids=[name for name, _ in _STREAMED])
def test_a_sample_streams(_: str, sample: Sample, *, shallow_server: Server, keys: dict[str, str]) -> None:
    body = {name: value for name, value in sample.mended().items() if name != "best_of"} | {"stream": True}
    answer = asked(shallow_server, keys[sample.profile], sample, body)
    assert answer.status_code == 200, answer.text
    lines = [line.removeprefix("data: ") for line in answer.text.split("\n\n") if line]
    assert (lines[-1] == "[DONE]") is sample.path.startswith("/v1")
    for line in lines:
        if line != "[DONE]":
            assert lacking(json.loads(line), sample.streams) == []
            assert json.loads(line)["object"] == sample.streams["object"]
