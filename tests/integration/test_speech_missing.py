"""A server without a speech engine: who asks for one is told what to install, and nobody is offered it."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.raw_asgi import Caller

from narthex.app.worker import Worker, open_worker
from narthex.engine.served import ServedModel
from narthex.http.worker import WorkerSettings
from narthex.storage.sqlite.control import open_control

pytestmark = [pytest.mark.anyio, pytest.mark.patient]


async def test_who_asks_for_it_is_told(tmp_path: Path) -> None:
    control = await open_control(tmp_path / "control.db", clock=lambda: 0)
    made = await control.keys.ensure_admin()
    await control.aclose()
    assert made is not None
    key = made[1].reveal()
    missing = ServedModel(name="espeak-ng", kind="speech", runs="speech", missing=True)
    settings = WorkerSettings(name="w", data_dir=str(tmp_path), run_dir=str(tmp_path), models=(missing,))
    async with open_worker(settings) as worker:
        asked = {"model": "espeak-ng", "voice": "alloy", "input": "Hi"}
        status, said = await ask(worker, "POST", "/v1/audio/speech", key, asked)
        assert status == 503
        assert "narthex[speech]" in said["error"]["message"]
        _, listed = await ask(worker, "GET", "/v1/models", key)
        assert listed["data"] == []


async def ask(worker: Worker, method: str, path: str, key: str, body: Any = None) -> tuple[int, Any]:
    caller = Caller(json.dumps(body).encode(), method=method, path=path, headers={"x-api-key": key})
    answer = await caller.call(worker)
    return answer.status, json.loads(answer.body)
