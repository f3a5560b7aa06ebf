"""Kokoro's process as its callers see it: its settings, its calls, and the client.

speak   SpeakCall → bytes                samples as `core.speech` has them; stops where the caller gives up
retire  null      → {"retired": bool}    true: nothing waited or ran, the process takes no more and ends
"""

from collections.abc import Mapping
from pathlib import Path

import msgspec

from narthex.ipc.client import Client
from narthex.ipc.logs import LogFormat

NAME = "kokoro"
"""The model of this server that it is."""

VOICES: Mapping[str, str] = {
    "alloy": "af_alloy",
    "ash": "am_michael",
    "ballad": "bm_fable",
    "coral": "af_heart",
    "echo": "am_echo",
    "sage": "af_sarah",
    "shimmer": "af_bella",
    "verse": "am_puck",
}
"""The documented voices, each as one of the model's own."""


class KokoroSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings line of the process. `voices`: the file; `named`: the model's own names by the documented ones."""

    model: str
    voices: str
    socket: str
    named: Mapping[str, str]
    threads: int = 0
    idle_unload_s: float | None = None
    log_format: LogFormat = "auto"


class SpeakCall(msgspec.Struct, frozen=True, kw_only=True):
    """Payload of `speak`. `phonemes`: as many as one run takes; `voice`: a documented one; `key`: whose turn it is."""

    phonemes: str
    voice: str
    speed: float
    key: str


class Kokoro:
    """A client of the process; safe for any number of tasks of one loop."""

    def __init__(self, socket: Path) -> None:
        self._client = Client(socket, name="speech model kokoro")

    async def speak(self, call: SpeakCall) -> bytes:
        """The samples.

        Raises:
            EngineUnavailable, EngineCrashed: the process is not there, failed, or ended.
        """
        return await self._client.call("speak", call, bytes)

    async def aclose(self) -> None:
        """Close the connection."""
        await self._client.aclose()
