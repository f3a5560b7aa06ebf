"""Requests with a prediction while nobody checks one are not kept waiting. The rest is tried with a real process."""

import asyncio
from pathlib import Path

import pytest

from narthex.engine.local import prediction
from narthex.engine.local.prediction import Predictions
from narthex.engine.prediction.protocol import Begin

pytestmark = pytest.mark.anyio


async def test_one_request_waits_for_a_slow_start_and_the_others_don_t(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    async def loading(child: str) -> None:
        asked.append(child)
        await asyncio.Event().wait()

    monkeypatch.setattr(prediction, "_LOADS_WITHIN_S", 0.2)
    predictions = Predictions(tmp_path / "p.sock", child="prediction/m", ensure=loading)
    begin = Begin(account="a", prompt=[1], predicted=[2], max_new=1, temperature=0)
    for _ in range(3):
        async with predictions.checked(begin) as pieces:
            assert pieces is None
    assert asked == ["prediction/m"]
    await predictions.aclose()
