"""Requests that say how many tokens their prompt may have, for servers whose tokens nobody here can count."""

import asyncio
import json
from typing import Any

import msgspec
import pytest
from tests.routing_parts import Played, says
from tests.scripted_deployment import principal

from narthex.core.capabilities import State
from narthex.core.chat import AudioPart, ChatRequest, FunctionCall, ImagePart, Message, Sampling, TextPart, ToolCall
from narthex.core.errors import ContextLengthExceeded
from narthex.core.grounding import approximate_tokens
from narthex.core.ports import Call
from narthex.routing.bounded import AROUND_A_MESSAGE, OF_A_PART, Bounded, tokens_of, with_bounds, within

TEN = "word word word word word word word word"


def asked(*said: str, roles: str = "suau", **fields: Any) -> ChatRequest:
    kinds = {"s": "system", "u": "user", "a": "assistant"}
    messages = tuple(Message(role=kinds[role], content=each) for role, each in zip(roles, said, strict=False))  # type: ignore[arg-type]
    sent = {"messages": [{"role": each.role, "content": each.content} for each in messages], **fields}
    return ChatRequest(
        model="m",
        messages=messages,
        sampling=Sampling(),
        fields={"model": "m", "messages": messages, **fields},
        sent={name: msgspec.Raw(msgspec.json.encode(value)) for name, value in sent.items()},
    )


def call(request: ChatRequest) -> Call:
    return Call(request, id="1", surface="chat", principal=principal(), started_s=0.0)


ONE = AROUND_A_MESSAGE + approximate_tokens(TEN)
WHOLE = asked(TEN, TEN, TEN, TEN)


@pytest.mark.parametrize(("budget", "kept"), [(4 * ONE, 4), (4 * ONE - 1, 3), (3 * ONE, 3), (2 * ONE, 2), (9999, 4)])
def test_as_many_of_the_newest_are_kept_as_fit(budget: int, kept: int) -> None:
    cut = within(WHOLE, budget)
    assert (len(cut.messages), cut.forgotten) == (kept, 4 - kept)
    assert cut.messages[0].role == "system"
    assert json.loads(bytes(cut.sent["messages"])) == [{"role": each.role, "content": TEN} for each in cut.messages]


def test_what_always_stays_has_to_fit() -> None:
    with pytest.raises(ContextLengthExceeded) as caught:
        within(WHOLE, 2 * ONE - 1)
    assert caught.value.param == "token_budget"
    assert f"{2 * ONE} tokens" in caught.value.message


def test_tools_are_a_part_of_the_prompt() -> None:
    tools = [{"type": "function", "function": {"name": "f", "description": TEN}}]
    request = asked(TEN, TEN, TEN, TEN, tools=tools)
    extra = approximate_tokens(json.dumps(tools, separators=(",", ":")))
    assert within(request, 4 * ONE + extra).forgotten == 0
    assert within(request, 4 * ONE + extra - 1).forgotten == 1


def test_everything_in_a_message_counts() -> None:
    plain = tokens_of(Message(role="user", content=TEN))
    assert plain == ONE
    parts = (TextPart(TEN), ImagePart("data:"), AudioPart(data="", format="wav"))
    assert tokens_of(Message(role="user", content=parts)) == ONE + 2 * OF_A_PART
    assert tokens_of(Message(role="assistant", content=TEN, audio_id="a")) == ONE + OF_A_PART
    spoken = Message(role="assistant", tool_calls=(ToolCall(id="1", name=TEN, arguments=TEN),))
    assert tokens_of(spoken) == 2 * ONE - AROUND_A_MESSAGE
    older = Message(role="assistant", function_call=FunctionCall(name=TEN, arguments=TEN))
    assert tokens_of(older) == tokens_of(spoken)


# --- the deployment --------------------------------------------------------------------------------------------------


async def opened(deployment: Bounded, made: Call) -> None:
    async with deployment.open(made) as frames:
        async for _ in frames:
            pass


def test_the_server_is_asked_for_what_fits() -> None:
    inner = Played("a/1", says())
    made = call(asked(TEN, TEN, TEN, TEN, token_budget=3 * ONE))
    asyncio.run(opened(Bounded(inner), made))
    (request,) = inner.asked
    assert isinstance(request, ChatRequest)
    assert (len(request.messages), made.forgotten, len(made.request.messages)) == (3, 1, 4)  # type: ignore[union-attr]


def test_what_is_left_out_is_told_of_the_calls_that_it_is_asked_for() -> None:
    made = call(asked(TEN, TEN, TEN, TEN, token_budget=3 * ONE))
    asyncio.run(opened(Bounded(Played("a/1", says())), made.asking(made.request).asking(made.request)))
    assert made.forgotten == 1


def test_other_requests_pass_untouched() -> None:
    inner = Played("a/1", says())
    made = call(WHOLE)
    asyncio.run(opened(Bounded(inner), made))
    assert inner.asked == [WHOLE]
    assert made.forgotten == 0


def test_what_is_honoured_besides() -> None:
    assert with_bounds({}, "chat") == dict.fromkeys(
        ("inference_timeout", "memory_strategy", "token_budget"), State.EMULATED
    )
    assert with_bounds({}, "completions") == {"inference_timeout": State.EMULATED}
    assert with_bounds({}, "embeddings") == {}
    assert (Bounded(Played("a/1")).capabilities("chat") or {})["token_budget"] is State.EMULATED
