"""Programs for one request: what they write, how they fail, and that none outlives its request."""

import asyncio
import importlib.util
import os
import resource
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest

from narthex.core.errors import EngineCrashed, EngineUnavailable, NarthexError
from narthex.engine.speech import program
from narthex.engine.speech.espeak import LIBRARY
from narthex.engine.speech.program import output_of

pytestmark = pytest.mark.anyio

COPIES = "import shutil, sys; shutil.copyfileobj(sys.stdin.buffer, sys.stdout.buffer)"


async def given(*pieces: bytes | NarthexError) -> AsyncIterator[bytes]:
    for piece in pieces:
        if isinstance(piece, NarthexError):
            raise piece
        yield piece


async def written(code: str, *pieces: bytes | NarthexError, stall_s: float = 60) -> bytes:
    argv = (sys.executable, "-c", code)
    async with aclosing(output_of(argv, given(*pieces), what="copier", stall_s=stall_s)) as output:
        return b"".join([piece async for piece in output])


async def test_more_than_any_pipe_holds_passes_through() -> None:
    pieces = [bytes([number]) * 300_000 for number in range(5)]
    assert await written(COPIES, *pieces) == b"".join(pieces)


async def test_what_can_t_be_started() -> None:
    output = output_of(("/nowhere/espeak-ng",), given(b""), what="speech engine", stall_s=60)
    with pytest.raises(EngineUnavailable, match="The speech engine can't be started"):
        await anext(output)


async def test_a_failure_is_told_and_its_words_are_logged(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(EngineCrashed, match="The copier failed"):
        await written("import sys; print('no such voice', file=sys.stderr); sys.exit(3)", b"x" * 10**6)
    assert "no such voice" in capsys.readouterr().out


async def test_a_program_that_is_killed_has_failed() -> None:
    with pytest.raises(EngineCrashed):
        await written("import os; os.write(1, b'begun'); os.kill(os.getpid(), 9)")


async def test_a_program_that_stalls_is_ended() -> None:
    with pytest.raises(EngineCrashed, match="said nothing"):
        await written("import time; time.sleep(1000)", stall_s=0.2)


async def test_what_breaks_off_is_not_taken_for_whole() -> None:
    with pytest.raises(EngineCrashed, match="broke"):
        await written(COPIES, b"begun", EngineCrashed("It broke."))


async def test_who_leaves_ends_it(tmp_path: Path) -> None:
    told = tmp_path / "pid"
    code = f"import os, time; open({str(told)!r}, 'w').write(str(os.getpid())); os.write(1, b'x'); time.sleep(1000)"
    async with aclosing(output_of((sys.executable, "-c", code), given(), what="it", stall_s=60)) as output:
        assert await anext(output) == b"x"
    with pytest.raises(ProcessLookupError):
        os.kill(int(told.read_text()), 0)


async def test_it_has_a_limit_of_memory() -> None:
    with pytest.raises(EngineCrashed):
        await written("import sys; sys.stdin.read(); x = bytearray(8 * 1024**3); print(len(x))", b"")


async def test_a_stricter_limit_stays() -> None:
    """As where a service manager sets one: raising it would be an error."""

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_CPU, (100, 100))

    process = await asyncio.create_subprocess_exec("sleep", "1000", preexec_fn=limited)
    try:
        program._bound(process.pid)
        assert resource.prlimit(process.pid, resource.RLIMIT_CPU) == (100, 100)
        assert resource.prlimit(process.pid, resource.RLIMIT_AS) == (program.MEMORY_BYTES, program.MEMORY_BYTES)
    finally:
        process.kill()
        await process.wait()


async def test_a_system_that_lets_nobody_set_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(resource, "prlimit", refused)
    assert await written(COPIES, b"all the same") == b"all the same"


@pytest.mark.skipif(importlib.util.find_spec(LIBRARY) is None, reason="the extra narthex[speech] is not installed")
async def test_the_library_stops_speaking_when_nobody_listens() -> None:
    """As where its worker was killed."""
    argv = (sys.executable, "-P", "-m", "narthex.engine.speech.library", "-v", "en-us", "-s", "175", "--stdout")
    process = await asyncio.create_subprocess_exec(*argv, stdin=PIPE, stdout=PIPE, stderr=DEVNULL)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(b"On and on. " * 100_000)
    process.stdin.close()
    await process.stdout.read(1)
    process._transport.get_pipe_transport(1).close()  # type: ignore[attr-defined]
    await asyncio.wait_for(process.wait(), 30)


async def test_a_cancelled_reader_ends_it(tmp_path: Path) -> None:
    told = tmp_path / "pid"
    code = f"import os, time; open({str(told)!r}, 'w').write(str(os.getpid())); time.sleep(1000)"
    reading = asyncio.ensure_future(written(code))
    while not (told.exists() and told.read_text()):
        await asyncio.sleep(0.01)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    with pytest.raises(ProcessLookupError):
        os.kill(int(told.read_text()), 0)
