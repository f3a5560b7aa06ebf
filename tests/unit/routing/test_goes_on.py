"""The router where an answer breaks off: who is asked for the rest, when, and what is accounted for."""

from typing import Any

import msgspec
import pytest
from structlog.testing import capture_logs
from tests.routing_parts import FILTERED, Played, a_call, outcomes, routed, says, told
from tests.scripted_deployment import START, STOP, USED, text
from tests.virtual_time import VirtualLoop

from narthex.core.chat import ChatRequest, Sampling
from narthex.core.errors import (
    EngineCrashed,
    NarthexError,
    UpstreamCredentials,
    UpstreamRejected,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from narthex.core.ports import Call
from narthex.core.stream import ChoiceFinished, Frame, TextDelta, Usage, UsageReported
from narthex.routing.route import Rules

pytestmark = pytest.mark.anyio

BROKEN = (START, text("Once"), text(" upon"), UpstreamUnavailable())
REST = (START, text(" a"), text(" time"), STOP, Frame.of(UsageReported(Usage(prompt_tokens=9, completion_tokens=4))))
RULES = Rules(attempts=3, backoff_s=1.0, rescue=True)


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "asyncio", {"loop_factory": VirtualLoop}


def call(**fields: Any) -> Call:
    made = a_call(**fields)
    assert isinstance(made.request, ChatRequest)
    request = msgspec.structs.replace(made.request, sent={"messages": msgspec.Raw(b"[]")})
    made.request = request
    return made


async def test_the_next_goes_on() -> None:
    one, two = Played("a/1", BROKEN), Played("a/2", REST, goes_on=True)
    made = call()
    request = made.request
    with capture_logs() as logs:
        assert await told(routed(one, two, rules=RULES), made) == "Once upon a time"
    assert outcomes(made) == [("a/1", "UpstreamUnavailable"), ("a/2", "answered")]
    assert [(each.pieces, each.usage) for each in made.attempts] == [
        (2, None),
        (2, Usage(prompt_tokens=9, completion_tokens=4)),
    ]
    assert made.request is request
    assert [getattr(each, "begun", None) for each in two.asked] == ["Once upon"]
    (line,) = [each for each in logs if each["event"] == "an answer goes on"]
    assert (line["after"], line["deployment"], line["characters"]) == ("a/1", "a/2", 9)


async def test_who_cannot_go_on_is_not_asked() -> None:
    one, two = Played("a/1", BROKEN), Played("a/2", says("anew"))
    with pytest.raises(UpstreamUnavailable):
        await told(routed(one, two, rules=RULES), call())
    assert two.opened == 0


async def test_the_same_one_is_asked_again_after_a_while() -> None:
    one = Played("a/1", BROKEN, REST, goes_on=True)
    assert await told(routed(one, rules=RULES), call()) == "Once upon a time"
    assert 0.5 <= one.at_s[1] - one.at_s[0] <= 1.0


async def test_there_are_so_many_attempts_and_no_more() -> None:
    again = (START, text("."), EngineCrashed())
    one = Played("a/1", BROKEN, again, goes_on=True)
    made = call()
    with pytest.raises(EngineCrashed):
        await told(routed(one, rules=RULES), made)
    assert (one.opened, len(made.attempts)) == (3, 3)
    assert [getattr(each, "begun", None) for each in one.asked] == ["", "Once upon", "Once upon."]


@pytest.mark.parametrize("refusal", [UpstreamRejected(), UpstreamCredentials(), UpstreamTimeout(), NarthexError()])
async def test_who_refuses_to_go_on_leaves_it_to_the_next(refusal: NarthexError) -> None:
    one, two, three = Played("a/1", BROKEN), Played("a/2", (refusal,), goes_on=True), Played("a/3", REST, goes_on=True)
    assert await told(routed(one, two, three, rules=RULES), call()) == "Once upon a time"


@pytest.mark.parametrize("error", [UpstreamRejected(), NarthexError()])
async def test_what_nobody_could_mend_is_told_at_once(error: NarthexError) -> None:
    one, two = Played("a/1", (START, text("Once"), error)), Played("a/2", REST, goes_on=True)
    with pytest.raises(type(error)):
        await told(routed(one, two, rules=RULES), call())
    assert two.opened == 0


async def test_at_its_limit_an_answer_ends_where_it_broke_off() -> None:
    one, two = Played("a/1", BROKEN), Played("a/2", REST, goes_on=True)
    made = call(max_tokens=2)
    assert isinstance(made.request, ChatRequest)
    made.request = msgspec.structs.replace(made.request, sampling=Sampling(max_tokens=2))
    async with routed(one, two, rules=RULES).open(made) as frames:
        seen = [event async for frame in frames for event in frame.events]
    assert seen[-2:] == [ChoiceFinished(0, "length"), UsageReported(Usage(prompt_tokens=0, completion_tokens=2))]
    assert two.opened == 0


async def test_a_filter_may_end_the_rest() -> None:
    """What the caller has can't be taken back, so nobody else is asked."""
    one, two = Played("a/1", BROKEN), Played("a/2", FILTERED, goes_on=True)
    lax = Played("a/3", says("anew"), goes_on=True)
    made = call()
    assert await told(routed(one, two, rules=RULES, content_filter=(lax,)), made) == "Once upon"
    assert outcomes(made)[-1] == ("a/2", "answered")
    assert lax.opened == 0


async def test_a_whole_answer_is_made_anew_by_whoever_is_next() -> None:
    one, two = Played("a/1", BROKEN), Played("a/2", says("anew"))
    made = call(stream=False)
    assert await told(routed(one, two, rules=Rules(attempts=2)), made) == "anew"
    assert outcomes(made) == [("a/1", "UpstreamUnavailable"), ("a/2", "answered")]
    assert [(each.pieces, each.usage is None) for each in made.attempts] == [(2, True), (1, False)]


async def test_an_attempt_is_accounted_for_as_it_is_billed() -> None:
    billed = Usage(prompt_tokens=9, completion_tokens=2)
    used = Frame.of(UsageReported(Usage(prompt_tokens=3, completion_tokens=2)), billed=billed)
    made = call()
    assert await told(routed(Played("a/1", (START, text("Hi"), STOP, used))), made) == "Hi"
    assert made.attempts[0].usage == billed


async def test_a_whole_answer_keeps_its_order() -> None:
    one = Played("a/1", (START, text("a"), text("b"), STOP, USED))
    async with routed(one).open(call(stream=False)) as frames:
        seen = [frame async for frame in frames]
    assert [event.text for frame in seen for event in frame.events if isinstance(event, TextDelta)] == ["a", "b"]
    assert (seen[-1].usage, one.closed) == (USED.usage, 1)
