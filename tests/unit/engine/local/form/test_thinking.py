"""Whether a model thinks, and what it is told of how much."""

import pytest

from narthex.engine.local.form.thinking import (
    Marks,
    Thinking,
    answer_begins,
    effort_variables,
    field_variables,
    heeded,
    thinking_of,
    unheeded,
    verbosity_variables,
)

THINK = Marks("<think>", "</think>")
STRIPS = "{{ m.content.split('</think>')[-1] }}"
SWITCH = "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>{% endif %}"
EFFORT = "{{ reasoning_effort }}"


@pytest.mark.parametrize(
    ("template", "opened", "thinking"),
    [
        ("{{ m.content }}", "assistant\n", None),
        (STRIPS, "assistant\n", Thinking(marks=THINK, opened=False)),
        (STRIPS, "assistant\n<think>\n", Thinking(marks=THINK, opened=True)),
        (STRIPS, "assistant\n<think>", Thinking(marks=THINK, opened=True)),
        (STRIPS, "assistant\n<think>\n\n</think>\n\n", None),
        ("[THINK]", "[/INST]", Thinking(marks=Marks("[THINK]", "[/THINK]"), opened=False)),
    ],
)
def test_models_that_think(template: str, opened: str, thinking: Thinking | None) -> None:
    assert thinking_of(template, opened) == thinking


@pytest.mark.parametrize(
    ("template", "effort", "variables"),
    [
        ("", "low", None),
        (EFFORT, "low", {"reasoning_effort": "low"}),
        (SWITCH, "none", {"enable_thinking": False}),
        (SWITCH, "high", {"enable_thinking": True}),
        ("{% if thinking %}", "none", {"thinking": False}),
        (EFFORT + SWITCH, "none", {"reasoning_effort": "none", "enable_thinking": False}),
    ],
)
def test_effort(template: str, effort: str, variables: dict[str, object] | None) -> None:
    assert effort_variables(template, effort) == variables


def test_verbosity() -> None:
    assert verbosity_variables("{{ verbosity }}", "low") == {"verbosity": "low"}
    assert verbosity_variables("{{ 'verbosity' }}", "low") is None


def test_fields_of_a_request() -> None:
    fields = {"reasoning_effort": "low", "verbosity": "high", "model": "m"}
    assert field_variables(fields, EFFORT) == {"reasoning_effort": "low"}
    assert unheeded(fields, EFFORT) == "verbosity"
    assert unheeded(fields, "{{ verbosity }}") == "reasoning_effort"
    assert unheeded(fields, "{{ verbosity }}" + EFFORT) is None
    assert unheeded({}, "") is None
    assert field_variables({}, EFFORT) == {}
    assert heeded(EFFORT) == {"reasoning_effort"}
    assert heeded(SWITCH + "{{ verbosity }}") == {"reasoning_effort", "verbosity"}
    assert heeded("") == frozenset()


@pytest.mark.parametrize(
    ("template", "opened", "between"),
    [
        ("{{ m.content }}", "assistant\n", ""),
        (STRIPS, "assistant\n", ""),
        (STRIPS, "assistant\n<think>\n", "\n</think>\n\n"),
        (STRIPS, "assistant\n<think>\n\n</think>\n\n", ""),
    ],
)
def test_the_text_of_an_answer_comes_after_thoughts(template: str, opened: str, between: str) -> None:
    assert answer_begins(template, opened) == between
