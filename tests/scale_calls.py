"""What Scale's own client, as it is, says to a running server, and what it has to make of the answers.

Nothing here needs more than that client, so that other versions of it can be tried in environments of their own:

    SGP_API_KEY=… python scale_calls.py URL MODEL
"""

import asyncio
import importlib.util
import json
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any, Literal

import pydantic
import scale_gp
from scale_gp import AsyncSGPClient, SGPClient

HELLO: list[Any] = [{"role": "user", "content": "Say hello."}]
SCHEMA = {"type": "object", "properties": {"a": {"enum": ["b"]}}, "required": ["a"], "additionalProperties": False}
TOOL: Any = {"type": "function", "function": {"name": "look", "description": "Look.", "parameters": SCHEMA}}
PICTURE = {"type": "image_url", "image_url": {"url": "iVBORw0KGgo=", "media_type": "image/png"}}
TOKENS = 6
TIMEOUT_S = 120.0


class It(pydantic.BaseModel):
    """The same as a type."""

    model_config = pydantic.ConfigDict(extra="forbid")
    a: Literal["b"]


class Server:
    """The one that is asked, its key, and a chat model of it."""

    def __init__(self, url: str, key: str, model: str) -> None:
        self.url, self.key, self.model = url, key, model

    def client(self, key: str | None = None, **headers: str) -> SGPClient:
        return SGPClient(
            base_url=self.url,
            api_key=self.key if key is None else key,
            account_id="any",
            max_retries=0,
            timeout=TIMEOUT_S,
            default_headers=headers,
        )

    def chat(self, **fields: Any) -> Any:
        asked = {"model": self.model, "messages": HELLO, "max_tokens": TOKENS, "temperature": 0, **fields}
        with self.client() as client:
            return client.beta.chat.completions.create(**asked)

    def streamed(self, **fields: Any) -> list[Any]:
        asked = {"model": self.model, "messages": HELLO, "max_tokens": TOKENS, "temperature": 0, **fields}
        with self.client() as client:
            return list(client.beta.chat.completions.create(stream=True, **asked))

    def text(self, **fields: Any) -> Any:
        asked = {"model": self.model, "prompt": "Once upon a time", "temperature": 0, **fields}
        with self.client() as client:
            return client.beta.completions.create(**asked)


def plain(value: Any) -> Any:
    """What the client has read, as JSON: some of its types are unions, and it does not say which one it takes."""
    return value if isinstance(value, dict) else json.loads(value.to_json())


def message(answer: Any, choice: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = plain(answer.choices[choice])["message"]
    return found


def refused(kind: type[Exception], ask: Callable[[], Any]) -> Any:
    """The error of a class that a call ends with; its body has the text twice."""
    raised: Any = None
    try:
        ask()
    except kind as error:
        raised = error
    assert raised is not None, f"no {kind.__name__} was raised"
    assert raised.body["detail"] == raised.body["error"]["message"], raised.body
    assert raised.response.headers["x-request-id"].startswith("req_")
    return raised


# --- chats -----------------------------------------------------------------------------------------------------------


def a_whole_chat(server: Server) -> None:
    answer = server.chat()
    assert answer.id.startswith("chatcmpl-")
    assert (answer.object, answer.model) == ("chat.completion", server.model)
    assert answer.created > 0
    assert answer.system_fingerprint.startswith("fp_")
    (choice,) = map(plain, answer.choices)
    assert (choice["index"], choice["message"]["role"]) == (0, "assistant")
    assert choice["message"]["content"]
    assert choice["finish_reason"] in {"stop", "length"}
    used = answer.usage
    assert used.total_tokens == used.prompt_tokens + used.completion_tokens
    assert 0 < used.completion_tokens <= TOKENS


def a_stream_says_the_same(server: Server) -> None:
    *chunks, last = server.streamed(stream_options={"include_usage": True})
    assert {chunk.object for chunk in (*chunks, last)} == {"chat.completion.chunk"}
    choices = [plain(choice) for chunk in chunks for choice in chunk.choices]
    said = "".join(choice["delta"].get("content") or "" for choice in choices)
    whole = server.chat()
    assert said == message(whole)["content"]
    assert [choice["finish_reason"] for choice in choices if choice["finish_reason"]] == [
        plain(whole.choices[0])["finish_reason"]
    ]
    assert (last.choices, last.usage.completion_tokens) == ([], whole.usage.completion_tokens)


def a_stream_without_usage_just_ends(server: Server) -> None:
    chunks = server.streamed()
    assert plain(chunks[-1].choices[0])["finish_reason"] in {"stop", "length"}


def the_async_client(server: Server) -> None:
    asked: Any = {"model": server.model, "messages": HELLO, "max_tokens": TOKENS, "temperature": 0}

    async def ask() -> tuple[str, str]:
        async with AsyncSGPClient(base_url=server.url, api_key=server.key, max_retries=0) as client:
            answer: Any = await client.beta.chat.completions.create(**asked)
            stream: Any = await client.beta.chat.completions.create(stream=True, **asked)
            deltas = [plain(choice)["delta"] async for chunk in stream for choice in chunk.choices]
        return message(answer)["content"], "".join(delta.get("content") or "" for delta in deltas)

    whole, streamed = asyncio.run(ask())
    assert whole == streamed


def messages_in_every_form(server: Server) -> None:
    part = {"type": "text", "text": "Say hello."}
    whole = message(server.chat())["content"]
    for content in (part, [part]):
        assert message(server.chat(messages=[{"role": "user", "content": content, "name": "a"}]))["content"] is not None
        assert message(server.chat(messages=[{"role": "user", "content": content}]))["content"] == whole
    typed = {"role": "user", "content": "Say hello.", "function_call": {}, "tool_calls": []}
    assert message(server.chat(messages=[typed]))["content"] == whole


def an_answer_sent_back_as_it_is(server: Server) -> None:
    answer = message(server.chat())
    assert message(server.chat(messages=[*HELLO, answer, {"role": "user", "content": "Again."}]))["content"] is not None


def a_call_and_its_result(server: Server) -> None:
    marked = TOOL | {"cache_control": {"type": "ephemeral"}}
    named = {"type": "function", "function": {"name": "look"}}
    called = server.chat(tools=[marked], tool_choice=named, max_tokens=60)
    assert plain(called.choices[0])["finish_reason"] in {"stop", "tool_calls"}
    (call,) = message(called)["tool_calls"]
    assert json.loads(call["function"]["arguments"]) == {"a": "b"}
    call["function"]["type"] = "function"
    result = {"role": "tool", "content": "4", "tool_call_id": call["id"]}
    back = message(called) | {"tool_calls": [call]}
    assert message(server.chat(messages=[*HELLO, back, result], tools=[marked]))["role"] == "assistant"


def constrained_answers(server: Server) -> None:
    assert message(server.chat(guided_choice=["yes", "no"]))["content"] in {"yes", "no"}
    assert len(message(server.chat(guided_regex="[0-9]{3}"))["content"]) == 3
    assert message(server.chat(guided_grammar='root ::= "a" | "b"'))["content"] in {"a", "b"}
    spaced = {"guided_json": SCHEMA, "guided_whitespace_pattern": "[ ]?", "guided_decoding_backend": "outlines"}
    # Some versions take a class there, and nothing else.
    written = {"response_format": {"type": "json_schema", "json_schema": {"name": "it", "schema": SCHEMA}}}
    takes_classes = importlib.util.find_spec("scale_gp._utils._parsing") is not None
    for fields in (spaced, {"extra_body": written}, {"response_format": It} if takes_classes else written):
        assert json.loads(message(server.chat(**fields, max_tokens=60))["content"]) == {"a": "b"}


def sampling(server: Server) -> None:
    several = server.chat(n=2, seed=-1, temperature=1, top_k=5, top_p=0.9, frequency_penalty=0.1, presence_penalty=0.1)
    assert [plain(choice)["index"] for choice in several.choices] == [0, 1]
    assert len(server.chat(best_of=2, temperature=1).choices) == 1
    once, again = (message(server.chat(seed=7, temperature=1, logit_bias={"5": -1}))["content"] for _ in range(2))
    assert once == again
    assert server.chat(max_completion_tokens=2).usage.completion_tokens == 2
    stopped = server.chat(guided_choice=["a.b"], stop=["."], include_stop_str_in_output=True)
    assert message(stopped)["content"] == "a."


def log_probabilities(server: Server) -> None:
    told = plain(server.chat(logprobs=True, top_logprobs=2).choices[0])["logprobs"]["content"]
    assert all(len(entry["top_logprobs"]) == 2 for entry in told)
    assert told[0]["logprob"] <= 0


# --- texts -----------------------------------------------------------------------------------------------------------


def a_whole_text(server: Server) -> None:
    answer = server.text()
    assert (answer.object, answer.model, answer.usage.completion_tokens) == ("text_completion", server.model, 16)
    (choice,) = answer.choices
    assert (choice.index, choice.finish_reason, choice.logprobs) == (0, "length", None)
    with server.client() as client:
        asked: Any = {"model": server.model, "prompt": "Once upon a time", "temperature": 0}
        stream: Any = client.beta.completions.create(stream=True, **asked)
        assert "".join(each.text or "" for chunk in stream for each in chunk.choices) == choice.text


def other_names(server: Server) -> None:
    answer = server.text(max_new_tokens=3, return_token_log_probs=True)
    assert answer.usage.completion_tokens == 3
    told = answer.choices[0].logprobs
    assert [entry.top_logprobs for entry in told.content] == [[], [], []]
    assert "".join(entry.token for entry in told.content) == answer.choices[0].text
    rivals = server.text(max_completion_tokens=1, logprobs=True, top_logprobs=7).choices[0].logprobs
    assert len(rivals.content[0].top_logprobs) == 7
    assert server.text(guided_choice=["a.b"], stop_sequences=["."]).choices[0].text == "a"


# --- errors ----------------------------------------------------------------------------------------------------------


def what_is_wrong_is_named(server: Server) -> None:
    bad: tuple[tuple[dict[str, Any], str, str], ...] = (
        ({"temperature": 3}, "temperature", "decimal_above_max_value"),
        ({"suffix": "."}, "suffix", "unsupported_parameter"),
        ({"extra_body": {"store": True}}, "store", "unknown_parameter"),
        ({"messages": [{"role": "user", "content": PICTURE}]}, "messages[0].content[0]", "unsupported_value"),
    )
    for fields, param, code in bad:
        error = refused(scale_gp.BadRequestError, lambda fields=fields: server.chat(**fields))  # type: ignore[misc]
        assert (error.body["error"]["param"], error.body["error"]["code"]) == (param, code)
    for text, param in ({"max_tokens": 1, "max_new_tokens": 1}, "max_new_tokens"), ({"tools": [TOOL]}, "tools"):
        error = refused(scale_gp.BadRequestError, lambda text=text: server.text(**text))  # type: ignore[misc]
        assert error.body["error"]["param"] == param


def before_a_stream_errors_are_statuses(server: Server) -> None:
    refused(scale_gp.BadRequestError, lambda: server.streamed(n=0))


def who_may_not_come_in(server: Server) -> None:
    with server.client("wrong") as stranger:
        asked: Any = {"model": server.model, "messages": HELLO}
        refused(scale_gp.AuthenticationError, lambda: stranger.beta.chat.completions.create(**asked))
    error = refused(scale_gp.NotFoundError, lambda: server.chat(model="openai/gpt-3.5-turbo"))
    assert error.body["error"]["code"] == "model_not_found"


CALLS: Mapping[str, Callable[[Server], None]] = {
    each.__name__: each
    for each in (
        a_whole_chat,
        a_stream_says_the_same,
        a_stream_without_usage_just_ends,
        the_async_client,
        messages_in_every_form,
        an_answer_sent_back_as_it_is,
        a_call_and_its_result,
        constrained_answers,
        sampling,
        log_probabilities,
        a_whole_text,
        other_names,
        what_is_wrong_is_named,
        before_a_stream_errors_are_statuses,
        who_may_not_come_in,
    )
}


def main(url: str, model: str) -> int:
    """Make all calls; how many have failed."""
    server, failed = Server(url, os.environ["SGP_API_KEY"], model), 0
    for name, call in CALLS.items():
        try:
            call(server)
        except Exception as error:  # noqa: BLE001 - the next one is to be tried too
            failed += 1
            print(f"failed  {name}: {error!r}", file=sys.stderr)
    print(f"scale-gp {scale_gp.__version__}: {len(CALLS) - failed} passed, {failed} failed")
    return failed


if __name__ == "__main__":
    sys.exit(min(main(*sys.argv[1:]), 1))
