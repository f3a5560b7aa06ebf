"""Two hundred times: processes that write, rebuild and read one collection are killed at a random moment."""

import asyncio

import pytest
from tests.collection_kills import Expected, run_and_kill

pytestmark = [pytest.mark.anyio, pytest.mark.soak, pytest.mark.timeout(1800)]

KILLS = 200


async def test_nothing_acknowledged_is_lost_in_two_hundred_kills(tmp_path):
    expected = Expected()
    for seed in range(KILLS):
        expected.learn(await asyncio.to_thread(run_and_kill, tmp_path, seed=seed, seconds=1.0))
        await expected.check(tmp_path)
    print(f"{expected.acknowledged} acknowledged changes, {len(expected.sure)} documents at the end")
    assert expected.acknowledged > 10 * KILLS
