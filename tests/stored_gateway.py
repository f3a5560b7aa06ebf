"""A server before upstreams that answer by script, whose answers are stored, and official clients of two accounts."""

import contextlib
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
from anyio.from_thread import start_blocking_portal
from openai import OpenAI
from tests.served_gateway import DONE, ROLE, STOP, chunk, config, gateway, streaming, whole
from tests.server_process import Server, StartServer

from narthex.testing.scripted import CUT, HANG, Reply, ScriptedUpstream, sse, stream_head

FINGERPRINT = "fp_flow"
HANGING = "hangs"
SAID = "Blue as the sea."
PIECES = (SAID[:5], SAID[5:])
USED = {"prompt_tokens": 5, "completion_tokens": 4, "total_tokens": 9}
TOKENS = [{"token": "Blue", "logprob": -0.5, "bytes": [66], "top_logprobs": []}]
CALL = {"id": "call_1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}


def choice(index: int = 0, finish: str = "stop", *, logprobs: Any = None, **message: Any) -> dict[str, Any]:
    told = {"role": "assistant", "content": SAID, "refusal": None} | message
    return {"index": index, "message": told, "finish_reason": finish, "logprobs": logprobs}


def answer(*choices: dict[str, Any]) -> Reply:
    return whole(
        {"id": "x", "object": "chat.completion", "created": 1, "model": "x", "choices": choices, "usage": USED}
    )


def _spent() -> bytes:
    return json.dumps({"id": "x", "created": 1, "model": "x", "choices": [], "usage": USED}).encode()


SCRIPTS: dict[str, Reply] = {
    "plain": answer(choice()),
    "other": answer(choice()),
    "twice": answer(choice(1, content="No."), choice(0)),
    "caller": answer(choice(finish="tool_calls", content=None, tool_calls=[CALL])),
    "denier": answer(choice(content=None, refusal="I won't.")),
    "surely": answer(choice(logprobs={"content": TOKENS, "refusal": None})),
    "flow": streaming(
        chunk({"role": "assistant", "content": ""}, system_fingerprint=FINGERPRINT),
        *(chunk({"content": piece}, system_fingerprint=FINGERPRINT) for piece in PIECES),
        STOP,
        _spent(),
        DONE,
    ),
    HANGING: Reply(stream_head(), sse(ROLE, chunk({"content": SAID})), HANG),
    "breaks": Reply(stream_head(), sse(ROLE, chunk({"content": SAID})), CUT),
}
"""By the name of the model, and of the provider behind it."""


class Kept:
    """The server, and who asks it. `upstreams`: by the names of `SCRIPTS`."""

    def __init__(self, server: Server, upstreams: dict[str, ScriptedUpstream]) -> None:
        self.server = server
        self.upstreams = upstreams

    def client(self, account: str, **grants: Any) -> OpenAI:
        """The official client with a key of this account; the caller closes it."""
        key = self.server.key(account=account, name=f"of {account}", **grants)
        http = openai.DefaultHttpxClient()
        return OpenAI(base_url=self.server.base_url, api_key=key, max_retries=0, timeout=60, http_client=http)


@contextlib.contextmanager
def serving_kept(start_server: StartServer) -> Iterator[Kept]:
    with tempfile.TemporaryDirectory(prefix="nx-up-") as name, start_blocking_portal() as portal:
        folder = Path(name)
        models = [{"name": each, "deployments": [f"{each}/x"]} for each in SCRIPTS]
        upstreams = {each: ScriptedUpstream(reply, unix=folder / f"{each}.sock") for each, reply in SCRIPTS.items()}
        for upstream in upstreams.values():
            portal.call(upstream.__aenter__)
        try:
            with gateway(start_server, config(folder, dict.fromkeys(SCRIPTS, "openai"), models)) as server:
                yield Kept(server, upstreams)
        finally:
            for upstream in upstreams.values():
                portal.call(upstream.aclose)
