import asyncio
import contextlib

import pytest
from tests.raw_asgi import Caller, until

from narthex.core.errors import InvalidRequest, RequestTooLarge, UnsupportedMediaType
from narthex.http.asgi import CallerLeft, ended_by_hangup, header, read_body, refuse_foreign_media

pytestmark = pytest.mark.anyio


def test_the_first_header_of_a_name_counts():
    headers = [(b"a", b"1"), (b"b", b"2"), (b"b", b"3")]
    assert header(headers, b"b") == b"2"
    assert header(headers, b"c") is None


@pytest.mark.parametrize(
    "kind",
    [
        None,
        "application/json",
        "Application/JSON; charset=UTF-8",
        'application/json;charset="utf-8"; boundary=x',
        "application/vnd.api+json",
        "application/json; charset=utf8",
    ],
)
def test_json_in_utf8_is_taken(kind):
    headers = [] if kind is None else [(b"content-type", kind.encode())]
    refuse_foreign_media([*headers, (b"content-encoding", b"Identity")])


@pytest.mark.parametrize(
    "headers",
    [
        [(b"content-type", b"text/plain")],
        [(b"content-type", b"")],
        [(b"content-type", b"text/foo+json")],
        [(b"content-type", b"application/x-www-form-urlencoded")],
        [(b"content-type", b"application/json; charset=utf-16")],
        [(b"content-type", b"application/json; charset=\xff")],
        [(b"content-encoding", b"gzip"), (b"content-type", b"application/json")],
    ],
)
def test_other_media_are_refused(headers):
    with pytest.raises(UnsupportedMediaType):
        refuse_foreign_media(headers)


async def test_a_body_is_read_whole_up_to_the_limit():
    assert await read_body(Caller(b"ab", b"", b"cd").receive, [], limit_bytes=4) == b"abcd"


async def test_a_body_that_grows_past_the_limit_is_left_unread():
    caller = Caller(b"ab", b"cde", b"never read")
    with pytest.raises(RequestTooLarge):
        await read_body(caller.receive, [], limit_bytes=4)
    assert (await caller.receive())["body"] == b"never read"


@pytest.mark.parametrize("length", [b"5", b"9" * 5000])
async def test_a_body_that_says_it_is_too_long_is_not_read(length):
    caller = Caller(b"abcd")
    with pytest.raises(RequestTooLarge):
        await read_body(caller.receive, [(b"content-length", length)], limit_bytes=4)
    assert (await caller.receive())["body"] == b"abcd"


async def test_a_length_that_is_no_number_is_refused():
    with pytest.raises(InvalidRequest):
        await read_body(Caller().receive, [(b"content-length", b"-1")], limit_bytes=4)


async def test_a_caller_who_leaves_within_the_body():
    async def receive():
        return {"type": "http.disconnect"}

    with pytest.raises(CallerLeft):
        await read_body(receive, [], limit_bytes=4)


# --- hanging up ------------------------------------------------------------------------------------------------------


async def test_a_block_that_ends_is_left_alone():
    async with ended_by_hangup(Caller(quiet=True).receive):
        await asyncio.sleep(0)
    assert asyncio.current_task().cancelling() == 0


async def test_a_hangup_ends_the_block():
    caller, ended = Caller(b"more", b"pieces"), False
    caller.left.set()
    with pytest.raises(CallerLeft):  # noqa: PT012 - the block is what is tested
        async with ended_by_hangup(caller.receive):
            try:
                await asyncio.Event().wait()
            finally:
                ended = True
    assert ended
    assert asyncio.current_task().cancelling() == 0


async def test_an_error_of_the_block_passes():
    with pytest.raises(ZeroDivisionError):
        async with ended_by_hangup(Caller(quiet=True).receive):
            raise ZeroDivisionError


async def test_a_hangup_just_as_the_block_ends_cancels_nothing_later():
    """The watcher has asked for the cancellation, and the block has swallowed it: what follows must not notice."""
    caller = Caller()
    async with ended_by_hangup(caller.receive):
        caller.left.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
    await asyncio.sleep(0)
    assert asyncio.current_task().cancelling() == 0


async def test_a_hangup_while_the_block_fails_lets_the_failure_pass():
    caller = Caller()
    with pytest.raises(ZeroDivisionError):  # noqa: PT012 - the block is what is tested
        async with ended_by_hangup(caller.receive):
            caller.left.set()
            try:
                await asyncio.Event().wait()
            finally:
                raise ZeroDivisionError
    await asyncio.sleep(0)
    assert asyncio.current_task().cancelling() == 0


async def test_a_hangup_in_the_very_turn_of_the_blocks_end():
    """What the block waited for is there, and the caller leaves, in one turn of the loop."""
    caller, ready = Caller(), asyncio.Event()
    asyncio.get_running_loop().call_soon(caller.left.set)
    asyncio.get_running_loop().call_soon(ready.set)
    outcome = "ended"
    try:
        async with ended_by_hangup(caller.receive):
            await ready.wait()
    except CallerLeft:
        outcome = "left"
    await asyncio.sleep(0)
    assert outcome in {"ended", "left"}
    assert asyncio.current_task().cancelling() == 0


async def test_a_hangup_after_the_answer_does_not_disturb_the_cleaning_up():
    caller, cleaned = Caller(), asyncio.Event()
    async with ended_by_hangup(caller.receive, answered=lambda: True):
        caller.left.set()
        asyncio.get_running_loop().call_later(0.01, cleaned.set)
        await cleaned.wait()


async def test_a_cancellation_from_outside_is_no_hangup():
    started = asyncio.Event()

    async def endpoint():
        async with ended_by_hangup(Caller(quiet=True).receive):
            started.set()
            await asyncio.Event().wait()

    task = asyncio.ensure_future(endpoint())
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_cancellation_from_outside_beats_a_hangup_in_the_same_turn():
    caller, started = Caller(), asyncio.Event()

    async def endpoint():
        async with ended_by_hangup(caller.receive):
            started.set()
            await asyncio.Event().wait()

    task = asyncio.ensure_future(endpoint())
    await started.wait()
    caller.left.set()
    await asyncio.sleep(0)  # the watcher hears of it with the next turn, after this task
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()


async def test_both_at_once_and_swallowed_by_the_block():
    caller, started = Caller(), asyncio.Event()

    async def endpoint():
        async with ended_by_hangup(caller.receive):
            started.set()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()

    task = asyncio.ensure_future(endpoint())
    await started.wait()
    caller.left.set()
    await asyncio.sleep(0)
    task.cancel()
    await until(task.done)
    assert task.cancelled()
