"""The `logprobs` of text completions: names of tokens, rivals, offsets."""

import pytest

from narthex.core.stream import TokenLogprob
from narthex.dialects.legacy_logprobs import LegacyLogprobs


def token(data: bytes, logprob: float | None = -1.0, *top: TokenLogprob) -> TokenLogprob:
    text = data.decode(errors="backslashreplace")
    return TokenLogprob(token=text, logprob=logprob, bytes_=data, top=top)


def test_offsets_cut_the_text_into_its_tokens() -> None:
    text, tokens = "Größe 東京", [b"Gr", "öß".encode(), b"e", " 東".encode(), "京".encode()]
    told = LegacyLogprobs().object([token(data) for data in tokens])
    ends = [*told["text_offset"][1:], len(text)]
    assert [text[begin:end] for begin, end in zip(told["text_offset"], ends, strict=True)] == told["tokens"]


def test_offsets_run_on_from_chunk_to_chunk() -> None:
    entries = [token(b"a"), token("é".encode()), token(b"bc"), token(b"d")]
    whole = LegacyLogprobs().object(entries)
    parts = LegacyLogprobs()
    chunks = [parts.object(entries[:2]), parts.object([]), parts.object(entries[2:])]
    for name in whole:
        assert [value for chunk in chunks for value in chunk[name]] == whole[name]


def test_a_part_of_a_character_is_told_by_its_bytes() -> None:
    told = LegacyLogprobs().object([token(b" \xf0\x9f"), token(b"\x98\x80"), token(b"!")])
    assert told["tokens"] == ["bytes: \\xf0\\x9f", "bytes:\\x98\\x80", "!"]
    assert told["text_offset"] == [0, 1, 2]


def test_a_control_token_has_a_name_and_no_bytes() -> None:
    end = TokenLogprob(token="<|im_end|>", logprob=-3.0)
    told = LegacyLogprobs().object([token(b"a", -1.0, end)])
    assert told["top_logprobs"] == [{"<|im_end|>": -3.0, "a": -1.0}]
    assert LegacyLogprobs().object([end, token(b"a")])["text_offset"] == [0, len("<|im_end|>")]


@pytest.mark.parametrize(
    ("top", "told"),
    [
        ((), {"a": -1.0}),
        ((token(b"b", -0.5),), {"b": -0.5, "a": -1.0}),
        ((token(b"a"), token(b"b", -2.0)), {"a": -1.0, "b": -2.0}),
    ],
)
def test_the_chosen_token_is_always_among_the_rivals(top: tuple[TokenLogprob, ...], told: dict[str, float]) -> None:
    (rivals,) = LegacyLogprobs().object([token(b"a", -1.0, *top)])["top_logprobs"]
    assert list(rivals.items()) == list(told.items())


def test_nothing_comes_before_the_first_token_of_a_prompt() -> None:
    told = LegacyLogprobs().object([token(b"a", None)])
    assert told == {"tokens": ["a"], "token_logprobs": [None], "top_logprobs": [None], "text_offset": [0]}
