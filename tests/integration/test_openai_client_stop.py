"""Stop strings: none of them, nor a part of the one that stopped, is ever in an answer; streams included."""

import httpx2
import pytest
from openai import OpenAI
from tests.server_process import CHAT_MODEL

pytest_plugins = ["tests.models_fixture", "tests.server_fixture", "tests.client_fixture"]

WHOLE = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12"
QUESTION = [
    {"role": "user", "content": "Write the numbers from 1 to 12."},
    {"role": "assistant", "content": WHOLE},
    {"role": "user", "content": "Write the numbers from 1 to 12."},
]
"""The answer is so likely that it is always `WHOLE`."""


def answered(client: OpenAI, *, streamed: bool, **options: object) -> tuple[str, str]:
    """The text and why it ended."""
    options = {"model": CHAT_MODEL, "messages": QUESTION, "temperature": 0, "max_tokens": 100} | options
    if not streamed:
        (choice,) = client.chat.completions.create(**options).choices  # type: ignore[call-overload]
        return choice.message.content, choice.finish_reason
    text, reason = "", ""
    for chunk in client.chat.completions.create(stream=True, **options):  # type: ignore[call-overload]
        text += chunk.choices[0].delta.content or ""
        reason = chunk.choices[0].finish_reason or reason
    return text, reason


both = pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])


@pytest.mark.parametrize(
    ("stop", "streamed"),
    [
        ("5", True),
        (["5"], False),
        (", 9", True),
        ("3, 4, 5, 6", True),
        ("12", True),
        ("0", False),
        (["never", "in", "this", "7"], True),
        (["11, 12", "9, 10", "absent \u2603", "5, 6"], True),
        (["4, 5, 6, 7, 8, 9, 1", "6, 7"], True),
        (["4, 5, 6, 7, 8, 9, 1", "6, 7"], False),
        ("1", True),
    ],
    ids=str,
)
def test_cuts_the_text(client: OpenAI, stop: str | list[str], *, streamed: bool) -> None:
    stops = [stop] if isinstance(stop, str) else stop
    first = min((each for each in stops if each in WHOLE), key=lambda each: WHOLE.index(each) + len(each))
    assert answered(client, streamed=streamed, stop=stop) == (WHOLE[: WHOLE.index(first)], "stop")


@pytest.mark.parametrize(
    ("almost", "streamed"),
    [("5, 6\u2603", True), ("12\u2603", True), ("12\u2603", False), ("10, 11, 12!", True), ("1, 2, 3, 4, 6", True)],
)
def test_the_beginning_of_a_stop_string_is_text(client: OpenAI, almost: str, *, streamed: bool) -> None:
    assert answered(client, streamed=streamed, stop=[almost]) == (WHOLE, "stop")


@both
def test_the_beginning_of_a_stop_string_is_text_at_the_limit_too(client: OpenAI, *, streamed: bool) -> None:
    limited = answered(client, streamed=False, max_tokens=16)[0]
    for stop in (WHOLE[:30], WHOLE[len(limited) - 4 : len(limited) + 3], WHOLE[len(limited) - 1 : len(limited) + 1]):
        assert answered(client, streamed=streamed, stop=stop, max_tokens=16) in {
            (limited, "length"),
            (WHOLE[: WHOLE.index(stop)], "stop"),
        }
    assert answered(client, streamed=streamed, stop=WHOLE[:30], max_tokens=16) == (limited, "length")


def test_every_choice_is_cut(client: OpenAI) -> None:
    answer = client.chat.completions.create(
        model=CHAT_MODEL,
        messages=QUESTION,
        temperature=0.01,
        n=3,
        stop=[", 6"],
        max_tokens=40,  # type: ignore[arg-type]
    )
    assert [choice.message.content for choice in answer.choices] == ["1, 2, 3, 4, 5"] * 3


@both
def test_in_completions(client: OpenAI, *, streamed: bool) -> None:
    options = {"model": CHAT_MODEL, "prompt": WHOLE[:12], "temperature": 0, "stop": [", 9", "11"], "max_tokens": 40}
    if streamed:
        text = "".join(
            chunk.choices[0].text
            for chunk in client.completions.create(stream=True, **options)  # type: ignore[call-overload]
        )
    else:
        text = client.completions.create(**options).choices[0].text  # type: ignore[call-overload]
    assert WHOLE.startswith(WHOLE[:12] + text)
    assert text.endswith("8")


def test_no_stop_strings(http: httpx2.Client) -> None:
    body = {"model": CHAT_MODEL, "messages": QUESTION, "max_tokens": 3, "stop": []}
    assert http.post("/v1/chat/completions", json=body).json()["choices"][0]["finish_reason"] == "length"
