"""Which template is of which kind. The templates here are our own, short ones that behave like those of the models."""

import pytest

from narthex.engine.local.form.formats import FORMATS, HERMES, call_format, native_format, template_knows, variables_of

TOOLS = "{% if tools %}{{ tools | tojson }}{% endif %}"
SEP, BEGIN = "<\uff5ctool\u2581sep\uff5c>", "<\uff5ctool\u2581calls\u2581begin\uff5c>"
BODIES = {
    "mistral_named": "{{ '[TOOL_CALLS]' + c.function.name + '[ARGS]' + c.function.arguments | tojson }}",
    "mistral_list": "{{ '[TOOL_CALLS] [' + calls | join(', ') + ']' }}",
    "granite": "respond with <|tool_call|> followed by a list",
    "apriel": "{{ '<tool_calls>[' + calls + ']</tool_calls>' }}",
    "nemotron": "<TOOLCALL>[]</TOOLCALL>",
    "phi": "<|tool_call|>{}<|/tool_call|>",
    "deepseek_fenced": f"{{{{ '{BEGIN}' + '{SEP}' + '```json' }}}}",
    "deepseek": f"{{{{ '{BEGIN}' + '{SEP}' }}}}",
    "hermes": '{{ "<tool_call>\\n{\\"name\\": <name>, \\"arguments\\": <object>}\\n</tool_call>" }}',
    "functionary": "{{ '<function=' + name + '>' + arguments + '</function>' }}",
    "llama3": '<|start_header_id|>{{ \'{"name": "\' + name + \'", "parameters": \' + arguments }}',
}


@pytest.mark.parametrize("name", BODIES)
def test_a_template_is_known_by_what_it_writes(name: str) -> None:
    row = native_format(TOOLS + BODIES[name])
    assert row is not None
    assert row.name == name
    assert call_format(TOOLS + BODIES[name]) is row


def test_every_format_has_a_template_here() -> None:
    assert [row.name for row in FORMATS] == list(BODIES)


@pytest.mark.parametrize("name", BODIES)
def test_a_template_that_takes_no_tools_has_no_format(name: str) -> None:
    assert native_format(BODIES[name]) is None
    assert call_format(BODIES[name]) is HERMES


@pytest.mark.parametrize(
    "body",
    [
        "",
        "<tool_call>{{ name }}<arg_key>arguments",
        "<tool_call><function=a><parameter=arguments>",
        "<|start_header_id|>",
    ],
)
def test_ways_that_are_not_known_are_ours(body: str) -> None:
    assert native_format(TOOLS + body) is None
    assert call_format(TOOLS + body) is HERMES


def test_calls_that_look_like_json_are_ours_beside_json_of_the_callers() -> None:
    template = TOOLS + BODIES["llama3"]
    assert call_format(template, json=True) is HERMES
    assert call_format(TOOLS + BODIES["phi"], json=True).name == "phi"


@pytest.mark.parametrize("row", FORMATS, ids=lambda row: row.name)
def test_rows_hold_together(row) -> None:
    opening = row.begin + row.head_of("f")
    assert opening.startswith(row.trigger)
    whole = opening + row.tail + (row.separator or "") + row.end
    assert all(marker in whole for marker in row.control)
    assert row.head_of("a") != row.head_of("b")
    assert row.parallel(False) is False
    assert row.parallel(True) is (row.separator is not None)


@pytest.mark.parametrize(
    ("template", "knows"),
    [
        ("{% if tools %}", True),
        ("{%- for tool in tools -%}", True),
        ("{{ tools | tojson }}", True),
        ("{% if not (tools is none) %}", True),
        ("{{ '<tools>' }}", False),
        ('{{ "in \\"tools\\" tags" }}', False),
        ("<tools>", False),
        ("{% if xml_tools %}", False),
        ("{% if tools_in_user_message %}", False),
        ("{% if message.tools %}", False),
        ("{# tools #}", False),
        ("", False),
    ],
)
def test_a_variable_is_known_where_code_looks_at_it(template: str, knows: bool) -> None:
    assert template_knows(template, "tools") is knows


@pytest.mark.parametrize(
    "template", ["{{" * 32_000, "{% " * 21_000, "{{ '" + "\\'" * 30_000 + " }}", '{{ "' + '\\"' * 30_000 + "\\ }}"]
)
def test_what_nothing_ends_is_read_once(template: str) -> None:
    """Read anew from each brace or quote on, such a template would take a minute."""
    assert not template_knows(template, "tools")
    assert template_knows("{{ tools }}" + template, "tools")
    assert variables_of("{{ tools }}" + template) == {"tools"}


@pytest.mark.parametrize(
    ("template", "names"),
    [
        ("{{ a }}{%- if b is defined and not c is none and b == d -%}{% endif %}", {"a", "b", "c", "d"}),
        ("{% set e = e | default(f, true) %}{{ e|trim|upper }}", {"e", "f"}),
        ("{{ namespace(g=h).g }}{{ dict(i=j, k = l) }}{{ m[n].o['p'] }}", {"h", "j", "l", "m", "n"}),
        ("{% for q in r if q %}{{ loop.index }}{% else %}{% endfor %}", {"r"}),
        ("{% for s, (t, u) in v.items() %}{{ s + t + u }}{% endfor %}", {"v"}),
        ("{%+ macro w(x, y=1) +%}{{ x + y + z }}{% endmacro %}{{ w(1) }}", {"z"}),
        ("{% block %}{{ block }}{{ raise_exception('aa') }}{{ range(bb) if cc else none }}", {"block", "bb", "cc"}),
        ("dd {# {{ #}", set()),
        ("", set()),
    ],
)  # fmt: skip
def test_only_variables_of_the_callers_count(template: str, names: set[str]) -> None:
    assert variables_of(template) == names


@pytest.mark.parametrize(
    "piece", ["for ", "macro a(", "| ", "is not ", "a", " ", "a =", "{% for a", "{% macro a(", "'"]
)
def test_variables_are_found_in_no_time(piece: str) -> None:
    assert variables_of("{% if tools %}{% " + piece * (60_000 // len(piece)) + " %}") >= {"tools"}


@pytest.mark.parametrize(
    "tag", ["for", "for a", "for a in", "macro", "macro a", "if a is", "if a is not", "if a |", "set a"]
)
def test_blanks_within_a_tag_are_read_once(tag: str) -> None:
    """Shared out among the parts of an expression in every way, so many would take days."""
    assert variables_of("{% if tools %}{% " + tag + " " * 60_000 + "%}") <= {"a", "tools"}
