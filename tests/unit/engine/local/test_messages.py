"""Messages as chat templates know them."""

from narthex.core.chat import FunctionCall, ImagePart, Message, TextPart, ToolCall
from narthex.engine.local.form.formats import FORMATS, HERMES
from narthex.engine.local.messages import template_messages

WRITTEN = next(row for row in FORMATS if row.written)
TURNS = [
    Message(
        role="assistant",
        content="Let me see.",
        tool_calls=(
            ToolCall(id="1", name="find", arguments='{"q": 1}'),
            ToolCall(id="2", name="x", arguments="?"),
            ToolCall(id="3", name="y", arguments=""),
        ),
    ),
    Message(role="tool", content="found", tool_call_id="1"),
    Message(role="tool", content="what?", tool_call_id="2", name="other"),
    Message(role="assistant", function_call=FunctionCall(name="old", arguments="{}")),
    Message(role="function", content="done", name="old"),
    Message(role="user", content="Thanks."),
]


def test_without_tools_calls_and_results_are_text() -> None:
    first = (
        "Let me see.\n"
        '<tool_call>\n{"name": "find", "arguments": {"q": 1}}\n</tool_call>\n'
        '<tool_call>\n{"name": "x", "arguments": ?}\n</tool_call>\n'
        '<tool_call>\n{"name": "y", "arguments": {}}\n</tool_call>'
    )
    results = "<tool_response>\nfound\n</tool_response>\n<tool_response>\nwhat?\n</tool_response>"
    assert template_messages(TURNS, "", native=None) == [
        {"role": "assistant", "content": first},
        {"role": "user", "content": results},
        {"role": "assistant", "content": '<tool_call>\n{"name": "old", "arguments": {}}\n</tool_call>'},
        {"role": "user", "content": "<tool_response>\ndone\n</tool_response>"},
        {"role": "user", "content": "Thanks."},
    ]


def test_where_roles_alternate_a_result_and_the_users_next_words_are_one_message() -> None:
    template = "{{ raise_exception('Conversation roles must alternate user/assistant') }}"
    assert template_messages(TURNS, template, native=None)[3:] == [
        {"role": "user", "content": "<tool_response>\ndone\n</tool_response>\nThanks."},
    ]


def test_templates_that_know_tools_get_them_as_objects() -> None:
    call = {"type": "function", "function": {"name": "find", "arguments": {"q": 1}}, "id": "1"}
    assert template_messages(TURNS, "", native=HERMES) == [
        {
            "role": "assistant",
            "content": "Let me see.",
            "tool_calls": [
                call,
                {"type": "function", "function": {"name": "x", "arguments": "?"}, "id": "2"},
                {"type": "function", "function": {"name": "y", "arguments": ""}, "id": "3"},
            ],
        },
        {"role": "tool", "content": "found", "tool_call_id": "1", "name": "find"},
        {"role": "tool", "content": "what?", "tool_call_id": "2", "name": "other"},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"type": "function", "function": {"name": "old", "arguments": {}}}],
        },
        {"role": "tool", "content": "done", "name": "old"},
        {"role": "user", "content": "Thanks."},
    ]


def test_arguments_as_text_where_a_template_adds_them_to_text() -> None:
    (message, *_) = template_messages(TURNS, "", native=WRITTEN)
    assert [call["function"]["arguments"] for call in message["tool_calls"]] == ['{"q": 1}', "?", ""]


def test_a_call_without_text_has_no_content_where_a_template_asks_for_that() -> None:
    turns = [Message(role="assistant", tool_calls=(ToolCall(id="1", name="find", arguments="{}"),))]
    for template in ("{% if message['content'] is none %}", "{% if message.content is not none %}"):
        assert template_messages(turns, template, native=WRITTEN)[0]["content"] is None


def test_ids_are_nine_letters_where_a_template_refuses_others() -> None:
    template = "{{ raise_exception('Tool call IDs should be alphanumeric strings with length 9!') }}"
    call, result, *_ = template_messages(TURNS, template, native=HERMES)
    ids = [each["id"] for each in call["tool_calls"]]
    assert len(set(ids)) == 3
    assert all(len(id_) == 9 and id_.isalnum() for id_ in ids)
    assert result["tool_call_id"] == ids[0]


def test_roles_and_contents() -> None:
    messages = [
        Message(role="developer", content=(TextPart("a"), ImagePart("x"), TextPart("b")), name="me"),
        Message(role="assistant", refusal="I won't."),
    ]
    assert template_messages(messages, "", native=None) == [
        {"role": "system", "content": "ab", "name": "me"},
        {"role": "assistant", "content": "I won't."},
    ]


def test_calls_one_by_one_where_a_model_makes_one_at_a_time() -> None:
    row = next(row for row in FORMATS if row.separator is None)
    turns = [
        *TURNS[:3],
        Message(role="assistant", tool_calls=(ToolCall(id="1", name="again", arguments="{}"),)),
        TURNS[1],
    ]
    told = [
        (message["role"], message["content"], [call["function"]["name"] for call in message.get("tool_calls", ())])
        for message in template_messages(turns, "", native=row)
    ]
    assert told == [
        ("assistant", "Let me see.", ["find"]),
        ("tool", "found", []),
        ("assistant", "", ["x"]),
        ("tool", "what?", []),
        ("assistant", "", ["y"]),
        ("assistant", "", ["again"]),
        ("tool", "found", []),
    ]
    assert [
        message.get("name") for message in template_messages(turns, "", native=row) if message["role"] == "tool"
    ] == [
        "find",
        "other",
        "again",
    ]


def test_many_results_are_looked_at_once() -> None:
    """Each looked at, or copied, with every other would take minutes."""
    many = 50_000
    calls = Message(
        role="assistant", tool_calls=tuple(ToolCall(id=str(each), name="f", arguments="{}") for each in range(many))
    )
    results = [Message(role="tool", content="x" * 100, tool_call_id=str(each)) for each in range(many)]
    one_at_a_time = next(row for row in FORMATS if row.separator is None)
    assert len(template_messages([calls, *results], "", native=one_at_a_time)) == 2 * many
    (_, joined) = template_messages([calls, *results], "", native=None)
    assert joined["content"].count("<tool_response>") == many
