"""What is read of an answer, wherever it is cut and wherever it ends."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from tests.answer_forms import read, told, written

from narthex.core.stream import ReasoningDelta, TextDelta, TokenLogprob, ToolCallDelta
from narthex.engine.local.form.formats import FORMATS, HERMES, CallFormat
from narthex.engine.local.form.reader import FormOfParts, Layout, PartsReader
from narthex.engine.local.form.thinking import Marks, Thinking
from narthex.wire.json import encode

THINK = Marks("<think>", "</think>")
NAMES = ("f", "f_2", "get-weather")
A, B = ("f", '{"a":"</tool_call>\\"} <tool_call>"}'), ("get-weather", "{}")


def form(
    row: CallFormat | None = HERMES, *, opened: bool | None = None, required: bool = False, anywhere: bool = True
) -> FormOfParts:
    thinking = None if opened is None else Thinking(marks=THINK, opened=opened)
    names = NAMES if row is not None else ()
    return FormOfParts(layout=Layout(thinking=thinking, format=row, names=names, required=required, anywhere=anywhere))


CASES = [
    (form(), "", ("", "", [], "stop")),
    (form(), "Hello\n", ("", "Hello\n", [], "stop")),
    (form(), written(HERMES, A), ("", "", [A], "tool_calls")),
    (form(), f" \n {written(HERMES, A, B)}\n", ("", "", [A, B], "tool_calls")),
    (form(), f"So:\n\n{written(HERMES, B)}", ("", "So:", [B], "tool_calls")),
    (form(), "a <tool_ca b <tool_call> c", ("", "a <tool_ca b <tool_call> c", [], "stop")),
    (form(), f"<<tool_call{written(HERMES, B)}", ("", "<<tool_call", [B], "tool_calls")),
    (form(), "ends with <tool", ("", "ends with <tool", [], "stop")),
    (form(), '<tool_call>\n{"name": "g", ', ("", '<tool_call>\n{"name": "g", ', [], "stop")),
    (form(opened=False), "Hello", ("", "Hello", [], "stop")),
    (form(opened=False), "\n\nHello", ("", "\n\nHello", [], "stop")),
    (form(opened=False), "\n<thi", ("", "\n<thi", [], "stop")),
    (form(opened=False), "<think>\n\n</think>\n\nHi", ("", "Hi", [], "stop")),
    (form(opened=False), "\n<think> a\n\n b </thi </think>Hi\n", ("a\n\n b </thi", "Hi\n", [], "stop")),
    (form(opened=False), f"<think>{written(HERMES, A)}</think>", (written(HERMES, A), "", [], "stop")),
    (form(opened=True), f"a</think>\n{written(HERMES, A)}", ("a", "", [A], "tool_calls")),
    (form(opened=True), "a</think>b</think>", ("a", "b</think>", [], "stop")),
    (form(opened=True), "a </th", ("a </th", "", [], "stop")),
    (form(opened=True), "a\n", ("a", "", [], "stop")),
    (form(None, opened=False), f"<think>a</think> {written(HERMES, A)}", ("a", written(HERMES, A), [], "stop")),
    (form(None, opened=False), " <thi", ("", " <thi", [], "stop")),
    (form(anywhere=False), f" {written(HERMES, A)}", ("", "", [A], "tool_calls")),
    (form(anywhere=False), f"[ {written(HERMES, A)}", ("", f"[ {written(HERMES, A)}", [], "stop")),
    (form(anywhere=False), " <tool_caller>", ("", " <tool_caller>", [], "stop")),
    (form(required=True), written(HERMES, A, B), ("", "", [A, B], "tool_calls")),
]


@pytest.mark.parametrize(("wanted", "text", "expected"), CASES, ids=[str(number) for number in range(len(CASES))])
def test_whole_char_by_char_and_cut_everywhere(wanted, text, expected) -> None:
    assert told(read(wanted, text)) == expected
    assert told(read(wanted, *text)) == expected
    for at in range(1, len(text)):
        assert told(read(wanted, text[:at], text[at:])) == expected


@pytest.mark.parametrize("row", FORMATS, ids=lambda row: row.name)
def test_every_format(row: CallFormat) -> None:
    wanted = form(row, anywhere=bool(row.trigger))
    calls = [A, B, ("f_2", '{"x":[[]],"y":"{"}')] if row.separator is not None else [A]
    text = written(row, *calls)
    before = "Let me see." if row.trigger else ""
    for pieces in ([text], list(text), [text[:9], text[9:]]):
        assert told(read(wanted, before, *pieces)) == ("", before, calls, "tool_calls")


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-9, 9)
    | st.text(max_size=6)
    | st.sampled_from(["</tool_call>", "]<|", "}"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)
ARGUMENTS = st.dictionaries(st.text(max_size=3), VALUES, max_size=3).map(lambda value: encode(value).decode())
PROSE = st.lists(st.sampled_from(["a", " ", "\n", "<", "<tool", "_call", "[", "{", ">", "\u00e9", "\U0001f600"])).map(
    "".join
)


@given(
    st.sampled_from([row for row in FORMATS if row.trigger]),
    PROSE.filter(lambda text: text == text.rstrip()),
    st.lists(st.tuples(st.sampled_from(NAMES), ARGUMENTS), min_size=1, max_size=4),
    st.lists(st.integers(1, 12), min_size=1),
)
def test_what_is_written_is_read(row, text, calls, sizes) -> None:
    whole, pieces, at = text + written(row, *calls), [], 0
    while at < len(whole):
        size = sizes[len(pieces) % len(sizes)]
        pieces.append(whole[at : at + size])
        at += size
    assert told(read(form(row), *pieces)) == ("", text, calls, "tool_calls")


@given(PROSE, PROSE, st.integers(1, 7))
def test_text_and_thoughts_lose_nothing(thoughts, text, size) -> None:
    assume("<tool_call>" not in text)  # text that no grammar lets through
    whole = f"{thoughts}</think>{text}"
    pieces = [whole[at : at + size] for at in range(0, len(whole), size)]
    assert told(read(form(opened=True), *pieces)) == (thoughts.strip(), text.lstrip(), [], "stop")


# --- endings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", FORMATS, ids=lambda row: row.name)
@pytest.mark.parametrize("required", [False, True])
def test_an_answer_that_ends_at_its_limit(row: CallFormat, required: bool) -> None:
    """Wherever that is: calls stay as far as they were told, and no marker is told as text."""
    whole, wanted = written(row, A), form(row, required=required, anywhere=bool(row.trigger))
    head, committed = len(row.begin + row.head_of("f")), 0 if required else len(row.trigger) or 99
    for at in range(1, len(whole)):
        _, text, calls, reason = told(read(wanted, whole[:at], reason="length"))
        assert reason == "length"
        arguments = whole[head : max(head, at)][: len(A[1])]
        assert calls == ([("f", arguments)] if at >= head else [])
        assert text == (whole[:at] if at < min(head, committed) else "")


def test_a_stop_string_within_a_second_call() -> None:
    text = written(HERMES, B, A)
    assert told(read(form(), text[: -len(HERMES.tail) - 3])) == ("", "", [B, ("f", A[1][:-3])], "stop")
    assert told(read(form(), text[: -len(HERMES.tail)])) == ("", "", [B, A], "tool_calls")
    assert told(read(form(), text[:-3])) == ("", "", [B, A], "tool_calls")
    assert told(read(form(), written(HERMES, B) + "\n<tool_call>\n{")) == ("", "", [B], "tool_calls")


def test_what_follows_calls_is_not_told() -> None:
    assert told(read(form(), written(HERMES, B) + "\n\nDone.")) == ("", "", [B], "tool_calls")
    assert told(read(form(), written(HERMES, B)[:-14] + "?" * 20)) == ("", "", [B], "tool_calls")


# --- how it is told --------------------------------------------------------------------------------------------------


def test_text_is_told_as_it_comes() -> None:
    reader = form().reader(3)
    assert reader.feed("Hello") == [TextDelta(3, "Hello")]
    assert reader.feed(" there ") == [TextDelta(3, " there")]
    assert reader.feed("<") == []
    assert reader.feed("b") == [TextDelta(3, " <b")]


def test_thoughts_are_told_as_they_come() -> None:
    reader = form(opened=True).reader(0)
    assert reader.feed("\n") == []
    assert reader.feed("I ") == [ReasoningDelta(0, "I")]
    assert reader.feed("see") == [ReasoningDelta(0, " see")]
    assert reader.feed("</think>\n") == []
    assert reader.feed("Yes") == [TextDelta(0, "Yes")]


def test_arguments_are_told_as_they_come() -> None:
    reader = form().reader(2)
    begun = reader.feed(HERMES.head_of("f") + '{"a')
    (first, second) = begun
    assert isinstance(first, ToolCallDelta)
    assert (first.choice, first.call, first.name, first.arguments) == (2, 0, "f", "")
    assert first.id is not None
    assert first.id.startswith("call_")
    assert (len(first.id), first.id[5:].isalnum()) == (29, True)
    assert second == ToolCallDelta(choice=2, call=0, arguments='{"a')
    assert reader.feed('":1}}\n</too') == [ToolCallDelta(choice=2, call=0, arguments='":1}')]
    assert reader.feed("l_call>") == []
    (third, fourth) = reader.feed("\n" + HERMES.head_of("f_2") + "{}}")
    assert isinstance(third, ToolCallDelta)
    assert (third.call, third.name) == (1, "f_2")
    assert third.id != first.id
    assert fourth == ToolCallDelta(choice=2, call=1, arguments="{}")


@pytest.mark.parametrize(
    ("opened", "pieces", "count"),
    [
        (True, ["a", "b", "</think>", "c"], 3),
        (True, ["a", "", "b</think>c", "d"], 3),
        (False, ["<", "think", ">", "a", "</", "think>", "\n", "b"], 6),
        (False, ["<think>a</think>b", "c"], 1),
        (False, ["\n", "<thi", "b"], 0),
        (None, ["<think>", "a"], 0),
    ],
)
def test_thinking_is_counted(opened: bool | None, pieces: list[str], count: int) -> None:
    reader = form(opened=opened).reader(0)
    for piece in pieces:
        reader.feed(piece)
    reader.end("stop")
    assert reader.reasoning_tokens == count


# --- log probabilities -----------------------------------------------------------------------------------------------


def entries(*tokens: str) -> list[TokenLogprob]:
    return [TokenLogprob(token=token, logprob=-0.5) for token in tokens]


def test_log_probabilities_stay_with_the_text_that_is_told() -> None:
    tokens = ["<think>", "\n", "a", "</think>", "\n\n", "Let", " me", " see.", "\n", "<tool_call>"]
    tokens += ["\n", '{"name": "', "f", '", "arguments": ', "{}", "}", "\n", "</tool_call>"]
    choice = read(form(opened=False), *tokens, logprobs=[entries(token) for token in tokens])
    assert told(choice) == ("a", "Let me see.", [("f", "{}")], "tool_calls")
    assert [entry.token for entry in choice.logprobs or ()] == ["Let", " me", " see."]


def test_log_probabilities_that_come_before_their_text() -> None:
    reader = form(opened=False).reader(0)
    assert reader.feed("", entries("Hel")) == []
    assert reader.feed("Hello <", entries("lo", " <")) == [TextDelta(0, "Hello", tuple(entries("Hel", "lo")))]
    assert reader.end("length")[0] == TextDelta(0, " <", tuple(entries(" <")))


def test_without_log_probabilities_there_are_none() -> None:
    assert read(form(), "Hello").logprobs is None
    assert isinstance(form().reader(0), PartsReader)
