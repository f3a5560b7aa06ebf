"""A worker in front of scripted upstreams: who is asked, what they say, and what a caller gets."""

import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.raw_asgi import Caller

from narthex.app.worker import open_worker
from narthex.http.worker import RemoteProvider, WorkerSettings
from narthex.routing.route import Named, Rules
from narthex.storage.sqlite.control import open_control
from narthex.testing.scripted import END, Reply, response, sse, stream_head

DONE = b"[DONE]"


def chunk(content: str | None = None, finish: str | None = None, **more: Any) -> bytes:
    delta = {} if content is None else {"content": content}
    choices = [{"index": 0, "delta": delta, "finish_reason": finish}]
    line = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "x", "choices": choices, **more}
    return json.dumps(line).encode()


ROLE = json.dumps({"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]}).encode()


def whole(words: str) -> Reply:
    return Reply(stream_head(), sse(ROLE, chunk(words), chunk(finish="stop"), DONE), END)


def refused(status: int, *headers: str, code: str | None = None) -> Reply:
    body = json.dumps({"error": {"message": "sk-canary of org-canary", "type": "x", "param": None, "code": code}})
    return Reply(response(body.encode(), status=status, headers=("content-type: application/json", *headers)))


ERROR_EVENT = json.dumps({"error": {"message": "sk-canary", "type": "server_error", "code": 500}}).encode()


class Gateway:
    """A worker whose model `m` is answered by `one`, then by `two`."""

    def __init__(self, application: Callable[..., Any], key: str) -> None:
        self._application, self._key = application, key

    def asking(self, *, path: str = "/v1/chat/completions", **fields: Any) -> Caller:
        words: dict[str, Any] = {"messages": [{"role": "user", "content": "Hello"}]}
        if path == "/v1/completions":
            words = {"prompt": "Hello"}
        headers = {"x-api-key": self._key}
        return Caller(json.dumps({"model": "m", **words, **fields}).encode(), path=path, headers=headers)

    async def call(self, caller: Caller) -> Caller:
        return await caller.call(self._application)

    async def get(self, path: str, *, query: str = "") -> Caller:
        caller = Caller(method="GET", path=path, headers={"x-api-key": self._key})
        caller.scope["query_string"] = query.encode()
        return await self.call(caller)

    async def ask(self, **fields: Any) -> Caller:
        return await self.call(self.asking(**fields))


@asynccontextmanager
async def gateway(
    folder: Path,
    providers: Mapping[str, str | RemoteProvider],
    *,
    more: Mapping[str, Any] | None = None,
    **fields: Any,
) -> AsyncIterator[Gateway]:
    """`providers`: what they are by name; an address alone is OpenAI's. `fields`: of the model's `Named`.

    `more`: further settings of the worker.
    """
    control = await open_control(folder / "control.db", clock=lambda: 0)
    made = await control.keys.ensure_admin()
    await control.aclose()
    assert made is not None
    named = Named(deployments=tuple(f"{name}/model" for name in providers if name != "wide"), **fields)
    settings = WorkerSettings(
        name="worker-0",
        data_dir=str(folder),
        run_dir=str(folder),
        models=(),
        names={"m": named},
        providers={
            name: RemoteProvider(type="openai", base_url=each) if isinstance(each, str) else each
            for name, each in providers.items()
        },
        **(more or {}),
    )
    async with open_worker(settings) as worker:
        yield Gateway(worker.application, made[1].reveal())


QUICK = Rules(attempts=2, backoff_s=0.01, first_token_s=0.3, idle_s=0.3, total_s=5.0)


def said(caller: Caller) -> str:
    """The text of an answer, however it was sent."""
    if not caller.headers["content-type"].startswith("text/event-stream"):
        return str(caller.json()["choices"][0]["message"]["content"])
    *chunks, done = caller.events()
    assert done == "[DONE]"
    deltas = [choice["delta"] for event in chunks for choice in json.loads(event)["choices"]]
    assert sum("role" in delta for delta in deltas) == 1
    return "".join(delta.get("content") or "" for delta in deltas)
