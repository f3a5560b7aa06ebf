import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from narthex.core.grounding import CONTEXT, RAG_PROMPT, SYSTEM_PROMPT, USER_INPUT, approximate_tokens, filled

PLACEHOLDERS = st.sampled_from([CONTEXT, USER_INPUT, "{{", "}}", "Context", "UserInput", "x", "\\1", "\n"])
TEXTS = st.lists(PLACEHOLDERS, max_size=8).map("".join)


@given(TEXTS, TEXTS, TEXTS)
def test_placeholders_are_replaced_in_one_pass(prompt, context, user_input):
    """What stands between the placeholders stays, and what is put in is never read as one."""
    pieces = re.split(r"(\{\{Context\}\}|\{\{UserInput\}\})", prompt)
    values = {CONTEXT: context, USER_INPUT: user_input}
    expected = "".join(values.get(piece, piece) for piece in pieces)
    assert filled(prompt, context=context, user_input=user_input) == expected


def test_a_document_can_t_bring_in_the_other_placeholder():
    assert filled("{{Context}}|{{UserInput}}", context=USER_INPUT, user_input=CONTEXT) == f"{USER_INPUT}|{CONTEXT}"


def test_the_default_prompts_are_whole():
    assert RAG_PROMPT.count(CONTEXT) == RAG_PROMPT.count(USER_INPUT) == 1
    assert RAG_PROMPT.index(CONTEXT) < RAG_PROMPT.index(USER_INPUT)
    for tag in ("context", "rules", "user_query"):
        assert f"<{tag}>\n" in RAG_PROMPT
        assert f"\n</{tag}>" in RAG_PROMPT
    assert RAG_PROMPT.endswith("\n")
    assert "Narthex" in SYSTEM_PROMPT


@pytest.mark.parametrize(
    ("text", "tokens"),
    [("", 0), ("a", 1), ("abcd", 1), ("abcde", 2), ("äöü", 3), ("aä", 2), ("中文字", 3), ("12 + 3", 5)],
)
def test_about_how_many_tokens_a_text_has(text, tokens):
    assert approximate_tokens(text) == tokens
