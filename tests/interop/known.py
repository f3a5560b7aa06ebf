"""Where a server in between changes what it passes on: by chain, the test, the field and what becomes of it.

Each of these tests must fail; one that passes is an error, so that this list gets shorter when others mend their ways.
A test is named by its end: `file.py::test`, with `[parameters]` where only they are meant.
"""

from collections.abc import Mapping

import msgspec


class Known(msgspec.Struct, frozen=True):
    """One difference."""

    test: str
    field: str
    reason: str

    def is_of(self, node: str) -> bool:
        """Whether a test, by its node id, is meant."""
        return node.endswith(self.test) or node.partition("[")[0].endswith(self.test)


_CODE = "LiteLLM tells the status where the error's code was, or none, and drops the param of most"
_CHOICES = "LiteLLM ends streams of chats with their first choice, and tells all choices of completions as one"
_LOGPROBS = "LiteLLM drops the log probabilities of streamed completions"
_ALLOWED = "LiteLLM refuses the form"
_PARALLEL = "LiteLLM drops disable_parallel_tool_use"

_IMAGE = Known("-messages[0].content[0]]", "error.code", _CODE)  # of fields.py::test_honoured_or_refused_by_name
_EMBEDDINGS = (
    Known("embeddings.py::test_a_text_that_is_too_long", "error.code", _CODE),
    Known("embeddings.py::test_a_token_id_outside_the_vocabulary", "error.code", _CODE),
    Known("embeddings.py::test_what_is_wrong_is_named[body11-integer_above_max_value-dimensions]", "error.code", _CODE),
)
_CHATS = (
    Known("chat.py::test_a_prompt_longer_than_the_window", "error.code", _CODE),
    Known("chat.py::test_a_limit_beyond_the_window", "error.code", _CODE),
)

KNOWN: Mapping[str, tuple[Known, ...]] = {
    "litellm-openai": (
        *_EMBEDDINGS,
        *_CHATS,
        Known("completions.py::test_a_prompt_beyond_the_window", "error.code", _CODE),
        Known("echo.py::test_a_prompt_beyond_the_window", "error.code", _CODE),
        Known("echo.py::test_a_token_id_outside_the_vocabulary", "error.code", _CODE),
        Known("logprobs.py::test_an_id_of_no_token", "error.code", _CODE),
        _IMAGE,
        Known("-messages[0].content[1]]", "error.code", _CODE),
        Known("-messages[1].content[0]]", "error.code", _CODE),
        Known("-messages[1].audio]", "error.code", _CODE),
        Known(
            "test_honoured_or_refused_by_name[{'modalities': ['text', 'audio'], 'audio': {'voice': 'alloy', 'format': "
            "'wav'}}-modalities]",
            "error.code",
            _CODE,
        ),
        Known("completions.py::test_several_prompts_streamed", "choices[].index", _CHOICES),
        Known("echo.py::test_streamed", "choices[].index", _CHOICES),
        Known("echo.py::test_a_streamed_list_is_the_whole_one", "choices[].index", _CHOICES),
        Known("stream.py::test_greedy_choices_are_streamed_alike", "choices[].index", _CHOICES),
        Known("logprobs.py::test_a_stream_has_those_of_the_whole_completion", "logprobs", _LOGPROBS),
        Known("logprobs.py::test_what_a_stop_string_cuts_off_is_not_told[True]", "logprobs", _LOGPROBS),
        Known("tools.py::test_only_allowed_tools_are_called", "tool_choice", _ALLOWED),
    ),
    "litellm-anthropic": (
        *_EMBEDDINGS,
        *_CHATS,
        _IMAGE,
        Known("tools.py::test_auto_calls_where_the_model_begins_to[False]", "parallel_tool_calls", _PARALLEL),
        Known("tools.py::test_a_stream_tells_what_the_whole_answer_has", "parallel_tool_calls", _PARALLEL),
    ),
}
