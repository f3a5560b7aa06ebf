"""The extractor under the supervisor: it comes when asked, goes when idle, and comes back after what ended it."""

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest

from narthex.app.supervisor import Supervisor
from narthex.core.documents import Chunking
from narthex.core.errors import EngineUnavailable, InvalidRequest
from narthex.retrieval.extract.client import Extractor
from narthex.retrieval.extract.protocol import NAME, ExtractorSettings
from narthex.supervisor.plan import ChildSpec
from narthex.testing.supervised import Supervised

pytestmark = [pytest.mark.anyio, pytest.mark.patient]

DEEP = b"<html>" + b"<div>" * 200_000


def supervised(folder: Path, **limits: Any) -> Supervised:
    made = Supervised(folder)
    settings = ExtractorSettings(socket=str(made.run_dir / f"{NAME}.sock"), log_format="json", **limits)
    raw = msgspec.Raw(msgspec.json.encode(settings))
    made.plan.children.append(
        ChildSpec(name=NAME, module="narthex.retrieval.extract.child", settings=raw, start="on_demand")
    )
    return made


async def text_of(extractor: Extractor, data: bytes) -> str:
    """Asked again while the supervisor holds it back after a crash, as jobs do."""
    async with asyncio.timeout(60):
        while True:
            try:
                return (await extractor.extract(data, name="a", media_type=None, chunking=Chunking(size=9))).text
            except EngineUnavailable as error:
                await asyncio.sleep(error.retry_after_s or 0.05)


async def test_it_comes_when_asked_and_goes_when_idle(tmp_path: Path) -> None:
    async with supervised(tmp_path, idle_s=0.3) as server:
        await server.serving()
        assert (await server.status())[NAME].state == "stopped"
        supervisor = Supervisor(server.run_dir)
        extractor = Extractor(server.run_dir / f"{NAME}.sock", ensure=supervisor.ensure)
        assert await text_of(extractor, b"first") == "first"
        await server.reached(NAME, "stopped")
        assert await text_of(extractor, b"second") == "second"
        assert (await server.reached(NAME, "stopped")).restarts == 0
        await extractor.aclose()
        await supervisor.aclose()


async def test_complaint_28_it_comes_back_after_a_file_that_ended_it(tmp_path: Path) -> None:
    async with supervised(tmp_path, time_limit_s=0.5) as server:
        await server.serving()
        supervisor = Supervisor(server.run_dir)
        extractor = Extractor(server.run_dir / f"{NAME}.sock", ensure=supervisor.ensure)
        for _ in range(2):
            with pytest.raises(InvalidRequest, match="ended the extractor"):
                await text_of(extractor, DEEP)
            assert await text_of(extractor, b"next") == "next"
        assert (await server.status())[NAME].restarts == 2
        await extractor.aclose()
        await supervisor.aclose()
