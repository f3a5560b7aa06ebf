"""A server that speaks, before upstreams that answer by script; the official client; and what was said, as sound."""

import io
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal
from openai import OpenAI
from tests.served_gateway import config, gateway
from tests.server_process import Server, StartServer

from narthex.core.speech import RATE
from narthex.testing.scripted import Reply, ScriptedUpstream

av = pytest.importorskip("av", reason="the extra narthex[speech] is not installed")

ENGINE = "espeak-ng"
TEXT, VOCAL = "text", "vocal"
"""An upstream that only writes, and one that speaks."""

Sound = tuple[int, Any]


class Speaking:
    """The server, and who asks it. `upstreams`: by the names of their providers, which are those of their models."""

    def __init__(self, server: Server, upstreams: dict[str, ScriptedUpstream], portal: BlockingPortal) -> None:
        self.server = server
        self.upstreams = upstreams
        self._portal = portal

    def client(self, account: str = "default") -> OpenAI:
        """The official client with a key of this account; the caller closes it."""
        key = self.server.key(account=account, name=f"of {account}")
        http = openai.DefaultHttpxClient()
        return OpenAI(base_url=self.server.base_url, api_key=key, max_retries=0, timeout=60, http_client=http)

    def answers(self, name: str, *replies: Reply) -> None:
        """Let an upstream give these answers from now on, the last of them for ever."""
        upstream = self.upstreams[name]
        upstream.requests.clear()
        upstream._replies[:] = replies


def speaking(start_server: StartServer, **speech: Any) -> Iterator[Speaking]:
    """For a fixture of a module. `speech`: settings besides."""
    with tempfile.TemporaryDirectory(prefix="nx-up-") as name, start_blocking_portal() as portal:
        folder = Path(name)
        models = [
            {"name": TEXT, "deployments": [f"{TEXT}/x"]},
            {"name": VOCAL, "deployments": [f"{VOCAL}/x"]},
            {"name": "tts-1", "deployments": [f"local/{ENGINE}"]},
        ]
        settings = config(folder, {TEXT: "vllm", VOCAL: "openai"}, models) | {"speech": {"stall_s": 60} | speech}
        upstreams = {each: ScriptedUpstream(unix=folder / f"{each}.sock") for each in (TEXT, VOCAL)}
        for upstream in upstreams.values():
            portal.call(upstream.__aenter__)
        try:
            with gateway(start_server, settings) as server:
                yield Speaking(server, upstreams, portal)
        finally:
            for upstream in upstreams.values():
                portal.call(upstream.__aexit__, None, None, None)


# --- sounds ----------------------------------------------------------------------------------------------------------


def heard(data: bytes) -> Sound:
    """A file's rate and samples, by whatever it says it is."""
    with av.open(io.BytesIO(data)) as file:
        stream = file.streams.audio[0]
        resampler = av.AudioResampler(format="s16", layout="mono", rate=stream.rate)
        frames = [out for frame in file.decode(stream) for out in resampler.resample(frame)]
        return stream.rate, np.concatenate([frame.to_ndarray()[0] for frame in frames])


def heard_raw(data: bytes) -> Sound:
    """Bare samples."""
    return RATE, np.frombuffer(data, "<i2")


def fits(sound: Sound, text: str, *, speed: float = 1.0) -> bool:
    """Whether it may be that text: as long as a person would take, and to be heard."""
    rate, samples = sound
    pace = len(text) / (len(samples) / rate) / speed
    return 2 < pace < 25 and int(np.abs(samples.astype(int)).max()) > 3000
