"""How tools are told."""

import msgspec
from tests.answer_forms import BOTH, TIME, WEATHER

from narthex.core.tools import Tools
from narthex.engine.local.form.telling import told, tool_objects, with_tools

HELLO = {"role": "user", "content": "Hello"}
RULES = {"role": "system", "content": "Be kind."}
NO_SYSTEM = "{{ raise_exception('System role not supported') }}"


def test_tools_as_objects() -> None:
    assert tool_objects(BOTH) == [
        {
            "type": "function",
            "function": {
                "name": "get_weather",
                "description": "The weather now.",
                "parameters": msgspec.json.decode(WEATHER.parameters),
            },
        },
        {"type": "function", "function": {"name": "get_time", "parameters": {"type": "object"}}},
    ]


def test_tools_in_words() -> None:
    assert told(BOTH).splitlines() == [
        "You can call these tools:",
        '{"name":"get_weather","description":"The weather now.","parameters":' + WEATHER.parameters.decode() + "}",
        '{"name":"get_time","parameters":{"type":"object"}}',
        "To call one, write:",
        "<tool_call>",
        '{"name": tool name, "arguments": {\u2026}}',
        "</tool_call>",
    ]


def test_what_may_and_what_has_to_be_called_now() -> None:
    def last(*, callable_: tuple[object, ...] = (WEATHER, TIME), required: bool = False) -> str:
        tools = Tools(all_=(WEATHER, TIME), callable_=[each.name for each in callable_], required=required)
        return told(tools).splitlines()[-1]

    assert last() == "</tool_call>"
    assert last(required=True) == "Now call a tool."
    assert last(callable_=(TIME,), required=True) == "Now call get_time."
    assert last(callable_=(TIME,)) == "Now only get_time can be called."


def test_they_join_the_callers_system_message() -> None:
    assert with_tools([RULES, HELLO], BOTH, template="") == [
        {"role": "system", "content": f"Be kind.\n\n{told(BOTH)}"},
        HELLO,
    ]
    assert RULES == {"role": "system", "content": "Be kind."}


def test_they_are_a_message_of_their_own_where_there_is_none() -> None:
    assert with_tools([HELLO], BOTH, template="") == [{"role": "system", "content": told(BOTH)}, HELLO]
    assert with_tools([], BOTH, template=NO_SYSTEM) == [{"role": "system", "content": told(BOTH)}]


def test_they_lead_the_first_message_where_a_template_takes_no_system_messages() -> None:
    assert with_tools([HELLO], BOTH, template=NO_SYSTEM) == [{"role": "user", "content": f"{told(BOTH)}\n\nHello"}]
