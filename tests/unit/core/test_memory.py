"""Which messages are kept, and a request without the others."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from narthex.core.chat import ChatRequest, FunctionCall, Message, Sampling, ToolCall
from narthex.core.memory import beyond_last, leading, omissible, over_budget, without

SYSTEM, DEVELOPER = Message(role="system", content="s"), Message(role="developer", content="d")
USER, ASSISTANT = Message(role="user", content="u"), Message(role="assistant", content="a")


def calls(*ids: str) -> Message:
    return Message(role="assistant", tool_calls=tuple(ToolCall(id=each, name="f", arguments="{}") for each in ids))


def result(id_: str) -> Message:
    return Message(role="tool", tool_call_id=id_, content="r")


OLDER_CALL = Message(role="assistant", function_call=FunctionCall(name="f", arguments="{}"))
OLDER_RESULT = Message(role="function", name="f", content="r")


def kept(messages: list[Message], k: int) -> list[Message]:
    begin = leading(messages)
    return messages[:begin] + messages[begin + beyond_last(messages, k) :]


def asked(messages: list[Message]) -> ChatRequest:
    sent = [{"role": message.role, "content": str(at)} for at, message in enumerate(messages)]
    return ChatRequest(
        model="m",
        messages=tuple(messages),
        sampling=Sampling(),
        fields={"model": "m", "messages": tuple(messages)},
        sent={"model": msgspec.Raw(b'"m"'), "messages": msgspec.Raw(msgspec.json.encode(sent))},
    )


@pytest.mark.parametrize(
    ("messages", "k", "left"),
    [
        ([USER, ASSISTANT, USER], 1, [USER]),
        ([USER, ASSISTANT, USER], 2, [ASSISTANT, USER]),
        ([USER, ASSISTANT, USER], 3, [USER, ASSISTANT, USER]),
        ([USER, ASSISTANT, USER], 2**63, [USER, ASSISTANT, USER]),
        ([SYSTEM, DEVELOPER, USER, ASSISTANT, USER], 1, [SYSTEM, DEVELOPER, USER]),
        ([USER, SYSTEM, USER], 1, [USER]),
        ([SYSTEM], 1, [SYSTEM]),
        ([SYSTEM, USER], 1, [SYSTEM, USER]),
        ([calls("1"), result("1"), USER], 2, [USER]),
        ([calls("1"), result("1"), USER], 3, [calls("1"), result("1"), USER]),
        ([USER, calls("1", "2"), result("1"), result("2")], 1, [calls("1", "2"), result("1"), result("2")]),
        ([calls("1", "2"), result("1"), USER, result("2"), USER], 3, [USER]),
        ([calls("1"), result("1"), calls("1"), result("1")], 2, [calls("1"), result("1")]),
        ([USER, OLDER_CALL, OLDER_RESULT, USER], 2, [USER]),
        ([USER, OLDER_CALL, OLDER_RESULT], 1, [OLDER_CALL, OLDER_RESULT]),
        ([USER, OLDER_RESULT, USER], 2, [OLDER_RESULT, USER]),  # nobody called it
    ],
)
def test_the_last_k_are_kept(messages: list[Message], k: int, left: list[Message]) -> None:
    assert kept(messages, k) == left


def test_many_results_of_one_call_are_looked_at_once() -> None:
    """Each step over so many would take hours."""
    messages = [USER, calls("1"), *[result("1")] * 200_000, USER]
    assert omissible(messages) == [0, 1, 200_002]


def test_a_request_without_some_messages_has_none_of_them_in_any_form() -> None:
    request = asked([SYSTEM, USER, ASSISTANT, USER])
    cut = without(without(request, 1), 1)
    assert cut.messages == cut.fields["messages"] == (SYSTEM, USER)
    assert bytes(cut.sent["messages"]) == b'[{"role":"system","content":"0"},{"role":"user","content":"3"}]'
    assert (cut.forgotten, cut.sent["model"], cut.fields["model"]) == (2, request.sent["model"], "m")
    assert without(request, 0) is request


def test_the_kept_messages_are_the_callers_own_bytes() -> None:
    odd = b'{ "content" : "\\u00e9\\/" , "role":"user"}'
    request = msgspec.structs.replace(asked([USER, USER]), sent={"messages": msgspec.Raw(b"[1," + odd + b"]")})
    assert bytes(without(request, 1).sent["messages"]) == b"[" + odd + b"]"


def test_a_budget_that_is_too_small_is_told_with_the_counts() -> None:
    error = over_budget(10, least=25)
    assert (error.status, error.code, error.param) == (400, "context_length_exceeded", "token_budget")
    assert "10 tokens" in error.message
    assert "25 tokens" in error.message


# --- any conversation ------------------------------------------------------------------------------------------------


@st.composite
def conversations(draw: st.DrawFn) -> list[Message]:
    """Results answer some call before them, as the surfaces demand."""
    messages = draw(st.lists(st.sampled_from([SYSTEM, DEVELOPER]), max_size=2))
    known: list[str] = []
    for _ in range(draw(st.integers(0, 12))):
        kinds = ["plain", "calls", "older"] + (["result"] if known else [])
        match draw(st.sampled_from(kinds)):
            case "plain":
                messages.append(draw(st.sampled_from([USER, ASSISTANT, SYSTEM])))
            case "calls":
                ids = draw(st.lists(st.sampled_from("abcd"), min_size=1, max_size=3, unique=True))
                known += ids
                messages.append(calls(*ids))
            case "older":
                messages += [OLDER_CALL, OLDER_RESULT]
            case _:
                messages.append(result(draw(st.sampled_from(known))))
    return [*messages, *([] if messages else [USER])]


def pairs(messages: list[Message]) -> list[tuple[int, int]]:
    """The places of each result and of the call that it answers."""
    found = []
    for at, message in enumerate(messages):
        if message.role == "tool":
            callers = (i for i in range(at) if message.tool_call_id in {call.id for call in messages[i].tool_calls})
            found.append((max(callers), at))
        elif message.role == "function":
            found.append((max(i for i in range(at) if messages[i].function_call is not None), at))
    return found


@given(conversations(), st.integers(1, 15))
def test_what_is_kept_is_a_conversation(messages: list[Message], k: int) -> None:
    begin, number = leading(messages), beyond_last(messages, k)
    assert 0 <= number <= max(0, len(messages) - begin - 1)  # the last message stays
    assert all(message.role in {"system", "developer"} for message in messages[:begin])
    first = begin + number
    assert all((call < first) == (answer < first) for call, answer in pairs(messages))
    own = len(messages) - first
    if own > k:  # nothing but the results of one message's calls would have been left
        assert all(
            any(call < cut <= answer for call, answer in pairs(messages)) for cut in range(first + 1, len(messages))
        )
    if begin < len(messages) and not pairs(messages):
        assert own == min(k, len(messages) - begin)


@given(conversations())
def test_every_number_that_may_be_left_out_leaves_whole_pairs(messages: list[Message]) -> None:
    begin, numbers = leading(messages), omissible(messages)
    assert numbers[0] == 0
    assert numbers == sorted(set(numbers))
    cuts = range(max(1, len(messages) - begin))
    whole = [n for n in cuts if all((call < begin + n) == (answer < begin + n) for call, answer in pairs(messages))]
    assert numbers == whole
