"""Rendering itself, in this process: what templates of model files need, and what no template gets."""

import re

import pytest

from narthex.core.errors import InvalidRequest, ModelLoadFailed, NarthexError
from narthex.sandbox.templates import render

CHATML = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\\nYou are helpful<|im_end|>\\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
LLAMA = """{{- bos_token }}
{%- if not date_string is defined %}
    {%- set date_string = strftime_now("%d %b %Y") %}
{%- endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\nToday Date: " + date_string + "\\n\\n" + system_message }}
{%- for message in messages %}
    {%- if message.role not in ['user', 'assistant'] %}
        {{- raise_exception("Only user and assistant roles are supported!") }}
    {%- endif %}
    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' }}
    {{- message['content'] | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}"""
QWEN = """{%- if tools %}
    {{- '<|im_start|>system\\n# Tools\\n<tools>' }}
    {%- for tool in tools %}
        {{- "\\n" }}
        {{- tool | tojson }}
    {%- endfor %}
    {{- "\\n</tools><|im_end|>\\n" }}
{%- endif %}
{%- set ns = namespace(multi_step_tool=true, last_query_index=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.multi_step_tool and message.role == "user" %}
        {%- set ns.multi_step_tool = false %}
        {%- set ns.last_query_index = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.role == "assistant" and message.tool_calls %}
        {{- '<|im_start|>' + message.role }}
        {%- for tool_call in message.tool_calls %}
            {%- set tool_call = tool_call.function %}
            {{- '\\n<tool_call>\\n{"name": "' + tool_call.name + '", "arguments": ' }}
            {{- tool_call.arguments | tojson }}
            {{- '}\\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\\n' }}
    {%- elif message.role == "assistant" %}
        {%- set content = message.content.split('</think>')[-1].lstrip('\\n') %}
        {{- '<|im_start|>' + message.role + '\\n' }}{% generation %}{{- content + '<|im_end|>\\n' }}{% endgeneration %}
    {%- else %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
    {%- endif %}
    {%- if loop.index > 100 %}{% break %}{% endif %}
{%- endfor %}"""

USER = {"role": "user", "content": "Hi"}


def test_chatml_as_smollm_has_it():
    assert render(CHATML, {"messages": [USER], "add_generation_prompt": True}) == (
        "<|im_start|>system\nYou are helpful<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    )


def test_llama():
    messages = [{"role": "system", "content": " Be brief. "}, USER]
    rendered = render(LLAMA, {"messages": messages, "add_generation_prompt": True, "bos_token": "<|begin_of_text|>"})
    assert rendered.startswith("<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nToday Date: ")
    assert re.search(
        r"\d\d \w{3} \d{4}\n\nBe brief\.<\|start_header_id\|>user<\|end_header_id\|>\n\nHi<\|eot_id\|>", rendered
    )
    assert rendered.endswith("assistant<|end_header_id|>\n\n")


def test_qwen_with_tools_and_thoughts():
    arguments = {"q": "Öl & <b>"}
    messages = [
        USER,
        {"role": "assistant", "tool_calls": [{"function": {"name": "find", "arguments": arguments}}]},
        {"role": "assistant", "content": "<think>hm</think>\n\nYes"},
    ]
    rendered = render(QWEN, {"messages": messages, "tools": [{"type": "function"}]})
    assert '\n{"type": "function"}\n</tools>' in rendered
    assert '{"name": "find", "arguments": {"q": "Öl & <b>"}}' in rendered
    assert rendered.endswith("<|im_start|>assistant\nYes<|im_end|>\n")


def test_blocks_leave_no_blanks():
    assert render("{% if true %}\n  a\n  {% endif %}\nb", {}) == "  a\nb"


def test_json_may_be_indented():
    assert render("{{ x | tojson(indent=2) }}", {"x": {"a": 1}}) == '{\n  "a": 1\n}'
    assert render("{{ x | tojson(ensure_ascii=True) }}", {"x": "é"}) == '"\\u00e9"'


def test_a_refusal_of_the_template():
    with pytest.raises(InvalidRequest, match="roles are supported") as caught:
        render(LLAMA, {"messages": [{"role": "tool", "content": "x"}], "bos_token": ""})
    assert caught.value.param == "messages"


@pytest.mark.parametrize("template", ["{% if %}", "{{ a", "{% nosuchtag %}", "{{ 'x' | nosuchfilter }}"])
def test_a_broken_template_is_the_models_fault(template):
    with pytest.raises(ModelLoadFailed, match="not valid"):
        render(template, {})


@pytest.mark.parametrize(
    "template",
    [
        "{{ nothing.at.all }}",
        "{{ messages[0].content + 1 }}",
        "{{ 1 / 0 }}",
        "{{ 'x' * 10 ** 30 }}",
        "{{ range(1000000) }}",
        "{{ 'x'.join(1) }}",
        "{{ [] | first | upper + nothing }}",
        "{{ '%d' | format('x') }}",
        "{% include 'x' %}",
        "{% extends 'x' %}",
        "{{ messages.append(1) }}",
        "{{ messages[0].update(x=1) }}",
    ],
)
def test_messages_that_a_template_cannot_take(template):
    with pytest.raises(InvalidRequest) as caught:
        render(template, {"messages": [USER]})
    assert len(caught.value.message) <= 500


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__ }}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ ''['__class__']['__mro__'] }}",
        "{{ '' | attr('__class__') | attr('__mro__') }}",
        "{{ raise_exception.__globals__ }}",
        "{{ raise_exception.__globals__['jinja2'] }}",
        "{{ strftime_now.__code__.co_consts }}",
        "{{ cycler.__init__.__globals__.os }}",
        "{{ lipsum.__globals__['os'].popen('id').read() }}",
        "{{ namespace.__init__ }}",
        "{{ self.__init__.__globals__ }}",
        "{{ self._TemplateReference__context.environment }}",
        "{{ '{0.__class__.__mro__}'.format('') }}",
        "{{ '{x.__class__}'.format_map({'x': ''}) }}",
        "{{ ('{0.__cl' ~ 'ass__}').format(raise_exception) }}",
        "{{ (messages | map(attribute='__class__') | list)[0].__mro__ }}",
        "{{ messages[0].get.__self__ }}",
        "{% set x = messages.__init_subclass__ %}{{ x() }}",
        "{% import 'os' as os %}",
    ],
)
def test_nothing_of_python_can_be_reached(template):
    """Refused, or rendered as nothing."""
    try:
        rendered = render(template, {"messages": [USER]})
    except NarthexError:
        return
    assert rendered in {"", "<class>"}, rendered


def test_a_variable_cannot_bring_code():
    """What stands in messages is text, whatever it looks like."""
    evil = "{{ raise_exception('x') }}{% for a in range(9) %}"
    assert render("{{ messages[0].content }}", {"messages": [{"content": evil}]}) == evil


def test_a_template_keeps_nothing_from_one_job_to_the_next():
    counting = "{% set n = namespace(v=0) %}{% set n.v = n.v + 1 %}{{ n.v }}"
    assert [render(counting, {}) for _ in range(3)] == ["1", "1", "1"]
    assert render("{% set secret = x %}{{ secret }}", {"x": "mine"}) == "mine"
    assert render("{{ secret is defined }}", {}) == "False"


def test_limits():
    with pytest.raises(ModelLoadFailed):
        render("é" * (32 * 1024) + "x", {})
    with pytest.raises(InvalidRequest, match="too long"):
        render("{% for _ in range(20) %}{{ x }}{% endfor %}", {"x": "x" * 1024 * 1024})
