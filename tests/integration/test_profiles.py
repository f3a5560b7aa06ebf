"""Profiles on a running server: its own, those of keys, and what every surface makes of them."""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from anyio.from_thread import start_blocking_portal
from tests import speech_chats as chats
from tests.served_gateway import HELLO, config, gateway
from tests.server_process import Server, StartServer

from narthex.testing.scripted import Reply, ScriptedUpstream, response

pytest_plugins = ["tests.models_fixture", "tests.server_fixture"]
pytestmark = pytest.mark.patient

CHAT, V4 = "/v1/chat/completions", "/v4/beta/chat/completions"
ENVELOPE = {"httpStatus", "messages"}
UPSTREAM = "up"


class World:
    """A server whose own profile is `ionos`, and the upstream that answers."""

    def __init__(self, server: Server, upstream: ScriptedUpstream) -> None:
        self.server = server
        self.upstream = upstream
        self._keys: dict[str, str] = {}

    def http(self, profile: str) -> httpx2.Client:
        """With a key of this profile; `admin`: with that one's; the caller closes it."""
        if profile == "admin":
            return self.server.http()
        if profile not in self._keys:
            self._keys[profile] = self.server.key(name=profile, profile=profile)
        return self.server.http(self._keys[profile])

    def chat(self, profile: str, path: str = CHAT, **fields: Any) -> httpx2.Response:
        with self.http(profile) as http:
            return http.post(path, json={"model": "m", "messages": HELLO} | fields)

    def sent(self) -> dict[str, Any]:
        """What the upstream got last."""
        found: dict[str, Any] = json.loads(self.upstream.requests[-1].body)
        return found


@pytest.fixture(scope="module")
def world(start_server: StartServer) -> Iterator[World]:
    with tempfile.TemporaryDirectory(prefix="nx-p-") as name, start_blocking_portal() as portal:
        folder = Path(name)
        settings = config(folder, {UPSTREAM: "openai"}, [{"name": "m", "deployments": [f"{UPSTREAM}/x"]}])
        upstream = ScriptedUpstream(chats.answer(chats.choice()), unix=folder / f"{UPSTREAM}.sock")
        portal.call(upstream.__aenter__)
        try:
            with gateway(start_server, settings | {"http": {"profile": "ionos"}}) as server:
                yield World(server, upstream)
        finally:
            portal.call(upstream.__aexit__, None, None, None)


@pytest.mark.parametrize(
    ("profile", "limit"),
    [("server", 16), ("ionos", 16), ("openai", None), ("thyris", None), ("oxy", None), ("admin", None)],
)
def test_a_key_has_its_own_or_the_servers(profile: str, limit: int | None, world: World) -> None:
    assert world.chat(profile).status_code == 200
    sent = world.sent()
    assert sent.get("max_tokens", sent.get("max_completion_tokens")) == limit
    assert world.chat(profile, stop="a").status_code == (400 if limit else 200)
    assert world.chat(profile, max_completion_tokens=5).status_code == (400 if profile == "oxy" else 200)
    assert world.chat(profile, reasoning_effort="low").status_code == (400 if profile == "thyris" else 200)


@pytest.mark.parametrize("profile", ["server", "thyris", "oxy"])
def test_scales_api_has_no_profiles(profile: str, world: World) -> None:
    assert world.chat(profile, V4, stop="a", tool_choice=None, parallel_tool_calls=None).status_code == 200
    assert "max_tokens" not in world.sent()


@pytest.mark.parametrize("path", [CHAT, *(f"/v1/{name}" for name in ("audio/speech", "embeddings", "completions"))])
def test_a_401_is_the_servers_where_no_key_is_known(path: str, world: World) -> None:
    for headers in ({}, {"authorization": "Bearer nx-wrong"}, {"authorization": "raw-token"}):
        answer = httpx2.post(world.server.url + path, json={}, headers=headers)
        assert (answer.status_code, answer.headers["content-type"]) == (401, "application/json")
        assert answer.headers["www-authenticate"] == "Bearer"
        assert answer.json().keys() == ENVELOPE
        assert answer.json()["httpStatus"] == 401
        assert answer.json()["messages"][0]["errorCode"] == "paas-auth-1"


def test_other_surfaces_have_their_own_401(world: World) -> None:
    assert httpx2.get(world.server.url + "/v1/models").json().keys() == ENVELOPE
    assert httpx2.get(f"{world.server.url}{CHAT}/chatcmpl-1").json().keys() == ENVELOPE
    assert httpx2.post(world.server.url + V4, json={}).json().keys() == {"detail", "error"}
    told = httpx2.get(world.server.url + "/api/models").json()
    assert told.keys() == {"error"}
    assert isinstance(told["error"], str)


@pytest.mark.parametrize("profile", ["server", "openai", "ionos"])
def test_a_key_that_has_ended_gets_its_own_401(profile: str, world: World) -> None:
    name = f"ended {profile}"
    key = world.server.key(name=name, profile=profile)
    world.server.revoke(name)
    with world.server.http(key) as http:
        told = http.get("/v1/models")
    assert told.status_code == 401
    assert told.json().keys() == ({"error"} if profile == "openai" else ENVELOPE)


@pytest.mark.parametrize("profile", ["server", "openai", "thyris", "ionos", "oxy"])
def test_other_errors_and_the_models_are_alike(profile: str, world: World) -> None:
    with world.http(profile) as http:
        assert "m" in {model["id"] for model in http.get("/v1/models").json()["data"]}
        unknown = http.post(CHAT, json={"model": "none", "messages": HELLO})
        assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "model_not_found")
        assert http.post(CHAT, content=b"{").json()["error"]["type"] == "invalid_request_error"
        assert http.get("/v1/nowhere").json().keys() == {"error"}


@pytest.mark.parametrize("profile", ["server", "openai", "thyris", "ionos"])
def test_what_is_stored_is_found(profile: str, world: World) -> None:
    made = world.chat(profile, store=True, metadata={"of": profile}, service_tier="default").json()
    with world.http(profile) as http:
        kept = http.get(f"{CHAT}/{made['id']}").json()
        listed = http.get(CHAT, params={"metadata[of]": profile}).json()["data"]
    assert [each["id"] for each in listed] == [made["id"]]
    assert (kept["service_tier"], kept["metadata"]) == ("default", {"of": profile})
    with world.http("oxy") as http:  # of the same account, and it stores none of its own
        assert http.get(f"{CHAT}/{made['id']}").json()["id"] == made["id"]
        assert http.post(CHAT, json={"model": "m", "messages": HELLO, "store": True}).status_code == 400


def test_two_tiers_are_told_where_no_more_are_known(world: World) -> None:
    reply = json.loads(chats.answer(chats.choice()).steps[0].partition(b"\r\n\r\n")[2])
    world.upstream._replies[:] = [Reply(response(json.dumps(reply | {"service_tier": "flex"}).encode()))]
    try:
        answers = {profile: world.chat(profile, service_tier="auto").json() for profile in ("thyris", "openai")}
    finally:
        world.upstream._replies[:] = [chats.answer(chats.choice())]
    assert {name: told["service_tier"] for name, told in answers.items()} == {"thyris": "default", "openai": "flex"}
