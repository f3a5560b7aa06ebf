import asyncio

import pytest
from tests.collection_kills import Expected, run_and_kill

pytestmark = [pytest.mark.anyio, pytest.mark.patient]


async def test_nothing_acknowledged_is_lost_when_every_process_is_killed(tmp_path):
    """The soak does this two hundred times."""
    expected, lines = Expected(), []
    for seed in range(5):
        said = await asyncio.to_thread(run_and_kill, tmp_path, seed=seed, seconds=1.0)
        expected.learn(said)
        lines += said
        await expected.check(tmp_path)
    assert expected.acknowledged > 50
    assert "built True" in lines
    assert any(line.startswith("read ") for line in lines)


async def test_two_processes_write_at_once_and_a_third_reads(tmp_path):
    """No error of a lock reaches a caller: a process that fails says so, and the run fails."""
    expected = Expected()
    lines = await asyncio.to_thread(run_and_kill, tmp_path, seed=77, seconds=4.0)
    expected.learn(lines)
    await expected.check(tmp_path)
    for name in ("a", "b"):
        assert sum(line.startswith(f"done put {name}-") for line in lines) > 10
