"""How a field shows that an embedded model honours: in its answers, which the same request without it makes otherwise.

Every look asks a running server what it needs, with the most likely token each time unless it says otherwise.
"""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

import httpx2
from tests.walk.values import BEGUN, FUNCTION, LONG, SCHEMA, TOOLS, Body

END = "2"
"""The token that ends an answer."""
SOME = "100"
"""Another token."""
STEADY: Body = {"temperature": 0, "max_tokens": 12}
WILD: Body = {"temperature": 2, "max_tokens": 12, "seed": 7}


class Probe:
    """Asks one model on one path. `base`: what every request has."""

    def __init__(self, http: httpx2.Client, path: str, base: Body) -> None:
        self.http = http
        self._path = path
        self._base = base
        self._steady: dict[str, Body] = {}

    def response(self, **fields: Any) -> httpx2.Response:
        short = {} if "input" in self._base or "max_completion_tokens" in fields else {"max_tokens": 12}
        return self.http.post(self._path, json={**self._base, **short, **fields})

    def ask(self, **fields: Any) -> Body:
        answer = self.response(**fields)
        assert answer.status_code == 200, (fields, answer.text)
        assert "x-narthex-ignored" not in answer.headers, fields
        found: Body = answer.json()
        return found

    def steadily(self, **fields: Any) -> Body:
        """Asked once, however often it is looked at."""
        asked = json.dumps(STEADY | fields)
        if asked not in self._steady or "seed" in fields:
            self._steady[asked] = self.ask(**STEADY | fields)
        return self._steady[asked]

    def text(self, **fields: Any) -> str:
        return text_of(self.steadily(**fields)["choices"][0])

    def prompt_tokens(self, **fields: Any) -> int:
        count: int = self.steadily(**fields)["usage"]["prompt_tokens"]
        return count

    def made_tokens(self, **fields: Any) -> int:
        count: int = self.steadily(**fields)["usage"]["completion_tokens"]
        return count


def text_of(choice: Body) -> str:
    found: str = choice["message"]["content"] if "message" in choice else choice["text"]
    return found or ""


Look = Callable[[Probe], bool]


def _changes(**fields: Any) -> Look:
    """Another text."""
    return lambda probe: probe.text(**fields) != probe.text()


def _tames(**fields: Any) -> Look:
    """Of all that could be chosen only the most likely token is left."""
    return lambda probe: probe.text(**WILD | fields) == probe.text() != probe.text(**WILD)


def _held(fits: Callable[[str], Any], **fields: Any) -> Look:
    return lambda probe: bool(fits(probe.text(max_tokens=40, **fields)))


def _seed(probe: Probe) -> bool:
    once, again, other = (probe.text(**WILD | {"seed": seed}) for seed in (7, 7, 8))
    return once == again != other


def _some_of(text: str) -> str:
    """A piece of a text that is not at its beginning."""
    return next(piece for begin in range(1, len(text)) if text.find(piece := text[begin : begin + 2]) == begin)


def _stop(probe: Probe) -> bool:
    whole = probe.text()
    return probe.text(stop=_some_of(whole)) == whole.partition(_some_of(whole))[0]


def _stop_kept(probe: Probe) -> bool:
    stop = _some_of(probe.text())
    return probe.text(stop=stop, include_stop_str_in_output=True).endswith(stop)


def _stream(probe: Probe) -> bool:
    return probe.response(stream=True).headers["content-type"].startswith("text/event-stream")


def _usage(probe: Probe) -> bool:
    told = [b'"usage":{' in probe.response(stream=True, stream_options={"include_usage": wanted}).content
            for wanted in (True, False)]  # fmt: skip
    return told == [True, False]


def _in_time(probe: Probe) -> bool:
    answer = probe.response(inference_timeout=0.001, max_tokens=300)
    return (answer.status_code, answer.json()["error"]["param"]) == (504, "inference_timeout")


def _stored(probe: Probe) -> bool:
    made = probe.ask(store=True, metadata={"a": "b"})
    kept = probe.http.get(f"/v1/chat/completions/{made['id']}").json()
    return (kept["id"], kept["metadata"]) == (made["id"], {"a": "b"})


def _calls(**fields: Any) -> Callable[[Probe], list[Body]]:
    def made(probe: Probe) -> list[Body]:
        message = probe.ask(**STEADY | {"max_tokens": 60, **fields})["choices"][0]["message"]
        return [message["function_call"]] if "function_call" in message else message.get("tool_calls") or []

    return made


def _logprobs(probe: Probe) -> bool:
    told = probe.ask(logprobs=True, top_logprobs=2)["choices"][0]["logprobs"]["content"]
    return all(len(each["top_logprobs"]) == 2 for each in told)


def _predicted(probe: Probe) -> bool:
    text = probe.text(max_tokens=40)
    details = probe.ask(**STEADY | {"max_tokens": 40}, prediction={"type": "content", "content": text})["usage"][
        "completion_tokens_details"
    ]
    return bool(details["accepted_prediction_tokens"])


def _dense(probe: Probe) -> bool:
    told = probe.text(max_tokens=40, guided_json=SCHEMA, guided_whitespace_pattern="\n?")
    return " " not in told != probe.text(max_tokens=40, guided_json=SCHEMA)


_SHARED: Mapping[str, Look] = {
    "frequency_penalty": _changes(frequency_penalty=2, max_tokens=40),
    "presence_penalty": _changes(presence_penalty=2, max_tokens=40),
    "repetition_penalty": _changes(repetition_penalty=3),
    "logit_bias": _changes(logit_bias={SOME: 100}),
    "n": lambda probe: len(probe.ask(n=2)["choices"]) == 2,
    "best_of": lambda probe: probe.made_tokens(best_of=2, temperature=1) > 12,
    "seed": _seed,
    "stop": _stop,
    "stop_token_ids": lambda probe: not probe.text(logit_bias={SOME: 100}, stop_token_ids=[int(SOME)]),
    "include_stop_str_in_output": _stop_kept,
    "stream": _stream,
    "stream_options": _usage,
    "temperature": lambda probe: probe.text(**WILD) != probe.text(),
    "top_p": _tames(top_p=0),
    "top_k": _tames(top_k=1),
    "min_p": _tames(min_p=1),
    "ignore_eos": lambda probe: probe.made_tokens(logit_bias={END: 100}, ignore_eos=True) == 12,
    "min_tokens": lambda probe: 5 <= probe.made_tokens(logit_bias={END: 100}, min_tokens=5) < 12,
    "max_tokens": lambda probe: probe.made_tokens(max_tokens=3, ignore_eos=True) == 3,
    "inference_timeout": _in_time,
    "guided_json": _held(lambda text: json.loads(text) == {"a": "b"}, guided_json=SCHEMA),
    "guided_regex": _held(re.compile("[0-9]{2}").fullmatch, guided_regex="[0-9]{2}"),
    "guided_choice": _held({"yes", "no"}.__contains__, guided_choice=["yes", "no"]),
    "guided_grammar": _held({"yes", "no"}.__contains__, guided_grammar='root ::= "yes" | "no"'),
    "guided_whitespace_pattern": _dense,
    "structured_outputs": _held({"yes", "no"}.__contains__, structured_outputs={"choice": ["yes", "no"]}),
}
LOOKS: Mapping[str, Mapping[str, Look]] = {
    "chat": {
        **_SHARED,
        "messages": lambda probe: (
            probe.prompt_tokens(messages=[{"role": "user", "content": [{"type": "text", "text": "Hi there, you"}]}])
            == probe.prompt_tokens(messages=[{"role": "user", "content": "Hi there, you"}])
            > probe.prompt_tokens()
        ),
        "store": _stored,
        "metadata": _stored,
        "logprobs": _logprobs,
        "top_logprobs": _logprobs,
        "max_completion_tokens": lambda probe: (
            probe.ask(temperature=0, max_completion_tokens=3, ignore_eos=True)["usage"]["completion_tokens"] == 3
        ),
        "modalities": lambda probe: bool(probe.text(modalities=["text"])),
        "prediction": _predicted,
        "response_format": _held(lambda text: text.startswith("{"), response_format={"type": "json_object"}),
        "service_tier": lambda probe: probe.ask(service_tier="priority")["service_tier"] == "priority",
        "tools": lambda probe: probe.prompt_tokens(tools=TOOLS) > probe.prompt_tokens(),
        "tool_choice": lambda probe: bool(_calls(tools=TOOLS, tool_choice="required")(probe)),
        "parallel_tool_calls": lambda probe: (
            len(_calls(tools=TOOLS, tool_choice="required", parallel_tool_calls=False)(probe)) == 1
        ),
        "functions": lambda probe: probe.prompt_tokens(functions=[FUNCTION]) > probe.prompt_tokens(),
        "function_call": lambda probe: (
            _calls(functions=[FUNCTION], function_call={"name": "look"})(probe)[0]["name"] == "look"
        ),
        "echo": lambda probe: probe.text(messages=BEGUN, echo=True).startswith("Well,"),
        "add_generation_prompt": lambda probe: probe.prompt_tokens(add_generation_prompt=False) < probe.prompt_tokens(),
        "continue_final_message": lambda probe: (
            probe.prompt_tokens(messages=BEGUN, continue_final_message=True) < probe.prompt_tokens(messages=BEGUN)
        ),
        "memory_strategy": lambda probe: (
            probe.prompt_tokens(messages=LONG, memory_strategy={"name": "last_k", "k": 1}) == probe.prompt_tokens()
        ),
        "token_budget": lambda probe: probe.prompt_tokens(messages=LONG, token_budget=100) <= 100,
    },
    "completions": {
        **_SHARED,
        "prompt": lambda probe: probe.prompt_tokens(prompt=[5, 6, 7]) == 3,
        "echo": lambda probe: probe.text(echo=True) == "Hi" + probe.text(),
        "logprobs": lambda probe: len(probe.ask(logprobs=2)["choices"][0]["logprobs"]["top_logprobs"][0]) >= 2,
    },
    "embeddings": {
        "input": lambda probe: len(probe.ask(input=["Hi", "there"])["data"]) == 2,
        "encoding_format": lambda probe: isinstance(probe.ask(encoding_format="base64")["data"][0]["embedding"], str),
        "dimensions": lambda probe: len(probe.ask(dimensions=64)["data"][0]["embedding"]) == 64,
    },
}
UNSEEN = {
    "model": "each answer is one's own",
    "add_special_tokens": "the model's tokenizer adds none",
    "chat_template_kwargs": "the model's template knows no variable",
}
"""Fields of which nothing can be seen with the models of the tests, and why."""
