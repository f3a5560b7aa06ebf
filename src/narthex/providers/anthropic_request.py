"""Requests in the form of Anthropic's Messages API, always for a stream. No I/O.

Source: contract sections 1.2 and 4.3; the API's reference and its page on thinking.

Fields that can't go together there are refused here, by the name of the one to leave out.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from msgspec import UNSET

from narthex.core.capabilities import Verdict
from narthex.core.chat import ChatRequest
from narthex.core.constrained import ANY_OBJECT, JsonFormat
from narthex.core.errors import UnsupportedParameter
from narthex.core.tools import Tools
from narthex.providers.anthropic_messages import Block, Conversation, Marks, conversation
from narthex.providers.beginning import ends_for_good

ANSWER = "answer_in_json"
"""The tool that the model has to call where its answer must be JSON."""

_BUDGETS = {"minimal": 1024, "low": 2048, "medium": 8192, "high": 16384, "xhigh": 20480, "max": 24576}
"""Tokens for thinking by effort; with the default of `max_tokens` all models can do the highest."""

_LEAST_BUDGET = 1024
_LEAST_TOP_P = 0.95
"""What the API takes together with a budget for thinking."""

_EFFORTS = {"minimal": "low"}
"""Efforts that models with adaptive thinking know by another name."""

_LITERAL = frozenset(("const", "default", "enum", "examples"))
"""Members of a schema that hold values and no schemas."""

TIERS = {"auto": "auto", "default": "standard_only"}
"""Their names of service tiers."""

_EPHEMERAL = {"cache_control": {"type": "ephemeral"}}

_is_opaque = re.compile(r"(?=[^A-Za-z]*[A-Za-z])[A-Za-z0-9_.:-]{1,256}").fullmatch
_decode = msgspec.json.Decoder().decode


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What one model can do.

    `max_tokens`: of an answer whose caller set none; the API has no default. `prefill`: it goes on with a message of
    the assistant. `thinking`: it thinks; `adaptive`: as much as an effort asks for, and not by a budget. `schema`: its
    answers and calls can be held to a schema. `sampling`: it takes a temperature, top_p and top_k. `may_not_think`,
    `may_have_to_call`: as in `ModelTraits`.
    """

    max_tokens: int = 4096
    prefill: bool = True
    thinking: bool = True
    adaptive: bool = False
    schema: bool = False
    sampling: bool = True
    may_not_think: bool = True
    may_have_to_call: bool = True


def build(request: ChatRequest, *, model: str, options: Options) -> bytes:
    """The body to send.

    Raises:
        UnsupportedParameter: fields that the API does not take together; `param` names one of them.
    """
    try:
        return msgspec.json.encode(_body(request, model, options))
    except Verdict as verdict:
        raise UnsupportedParameter(verdict.why, param=verdict.param, code="unsupported_value") from None


def answer_is_call(request: ChatRequest, options: Options) -> bool:
    """Whether the answer comes as the input of a tool that the model has to call, and not as text."""
    wanted = request.response_format
    # The API wants objects without additional properties, so the schema of any object is none for it.
    return wanted is not None and not (options.schema and wanted.schema != ANY_OBJECT)


def _body(request: ChatRequest, model: str, options: Options) -> Block:
    talk = conversation(request.messages, prefill=options.prefill, marks=_marks(request))
    if talk.prefill is not None and not request.begun and (field := ends_for_good(request)):
        raise Verdict(field, "The model goes on with a last message of the assistant.")
    forced = answer_is_call(request, options)
    tools, choice = _tools(request, talk, forced=forced)
    if forced and talk.prefill is not None:
        raise Verdict(f"messages[{talk.prefill}]", "The model can't go on with a message in a response_format.")
    body: Block = {"model": model, "stream": True, "max_tokens": request.sampling.max_tokens or options.max_tokens}
    body |= {"system": talk.system} if talk.system else {}
    body["messages"] = talk.messages
    body |= {"tools": tools, "tool_choice": choice} if tools else {}
    body |= dict(_plain(request))
    if request.response_format is not None and not forced:
        schema = _closed(_schema(request, request.response_format))
        body["output_config"] = {"format": {"type": "json_schema", "schema": schema}}
    effort = request.fields.get("reasoning_effort")
    if effort is None or not options.thinking:
        return body
    if options.adaptive:
        return _thinking_adaptively(body, effort, limit=request.sampling.max_tokens)
    if effort == "none" or talk.answers_calls:
        # Within an answer the API wants its earlier thoughts back, signed; callers of this contract don't have them.
        return body
    _check_thinking(request, talk, choice)
    return _thinking(body, budget=_BUDGETS[effort], limit=request.sampling.max_tokens)


def _plain(request: ChatRequest) -> Iterator[tuple[str, Any]]:
    """Fields that only have another name there."""
    sampling = request.sampling
    if sampling.stop:
        yield "stop_sequences", sampling.stop
    if sampling.temperature is not UNSET:
        yield "temperature", sampling.temperature
    if sampling.top_p is not UNSET:
        yield "top_p", sampling.top_p
    if (top_k := request.fields.get("top_k", 0)) > 0:
        yield "top_k", top_k
    if user := request.fields.get("safety_identifier") or request.fields.get("user"):
        yield "metadata", {"user_id": _user_id(user)}
    if request.service_tier is not None:
        yield "service_tier", TIERS[request.service_tier]


def _user_id(user: str) -> str:
    """A user's id; the API refuses addresses and phone numbers, so what may be one is told as its hash."""
    return user if _is_opaque(user) else hashlib.sha256(user.encode()).hexdigest()


# --- thinking ------------------------------------------------------------------------------------------------------


def _check_thinking(request: ChatRequest, talk: Conversation, choice: Mapping[str, Any]) -> None:
    """Refuse what the API does not take together with a budget for thinking."""
    because = "together with a reasoning_effort."
    if request.sampling.temperature not in {UNSET, 1}:
        raise Verdict("temperature", f"The temperature has to be 1 {because}")
    if request.sampling.top_p is not UNSET and request.sampling.top_p < _LEAST_TOP_P:
        raise Verdict("top_p", f"top_p has to be at least {_LEAST_TOP_P} {because}")
    if request.fields.get("top_k", 0) > 0:
        raise Verdict("top_k", f"top_k is not supported {because}")
    if choice.get("name") == ANSWER:
        raise Verdict("response_format", f"This model takes no response_format {because}")
    if choice.get("type") in {"any", "tool"}:
        name = "function_call" if "functions" in request.fields else "tool_choice"
        raise Verdict(name, f"A call can't be required {because}")
    if talk.prefill is not None:
        raise Verdict(f"messages[{talk.prefill}]", f"The model can't go on with a message {because}")


def _thinking(body: Block, *, budget: int, limit: int | None) -> Block:
    """Let the model think within a budget, which is a part of `max_tokens`; `limit` is the caller's own."""
    if limit is None:
        body["max_tokens"] += budget
    elif limit <= _LEAST_BUDGET:
        raise Verdict("reasoning_effort", f"Thinking takes a limit of more than {_LEAST_BUDGET} tokens.")
    else:
        budget = max(_LEAST_BUDGET, min(budget, limit // 2))
    return body | {"thinking": {"type": "enabled", "budget_tokens": budget}}


def _thinking_adaptively(body: Block, effort: str, *, limit: int | None) -> Block:
    if effort == "none":
        return body | {"thinking": {"type": "disabled"}}
    if limit is None:
        body["max_tokens"] += _BUDGETS[effort]
    config = body.get("output_config", {}) | {"effort": _EFFORTS.get(effort, effort)}
    return body | {"thinking": {"type": "adaptive", "display": "summarized"}, "output_config": config}


# --- tools and forms -----------------------------------------------------------------------------------------------


def _tools(request: ChatRequest, talk: Conversation, *, forced: bool) -> tuple[list[Block], Block]:
    """The tools to tell of, and which of them may or must be called."""
    if forced and request.tools is not None:
        raise Verdict("response_format", "This model takes no tools together with a response_format.")
    known = list(_definitions(request.fields))
    # The API refuses calls of the past where the request has no tools.
    known = known or [{"name": name, "input_schema": {"type": "object"}} for name in talk.called]
    if forced and request.response_format is not None:
        schema = _schema(request, request.response_format)
        answer = {"name": ANSWER, "description": "Gives the answer: its input is all of it.", "input_schema": schema}
        choice = {"type": "tool", "name": ANSWER, "disable_parallel_tool_use": True}
        return [*(tool for tool in known if tool["name"] != ANSWER), answer], choice
    if request.tools is None:
        return known, {"type": "none"}
    callable_ = {tool.name for tool in request.tools.callable_}
    one = request.tools.required and len(callable_) == 1
    return [tool for tool in known if one or tool["name"] in callable_], _choice(request.tools)


def _choice(tools: Tools) -> Block:
    choice: Block = {"type": "any" if tools.required else "auto"}
    if tools.required and len(tools.callable_) == 1:
        choice = {"type": "tool", "name": tools.callable_[0].name}
    return choice if tools.parallel else choice | {"disable_parallel_tool_use": True}


def _definitions(fields: Mapping[str, Any]) -> Iterator[Block]:
    for function in fields.get("functions", ()):
        yield _definition(function)
    for tool in fields.get("tools", ()):
        cache = tool.get("cache_control")
        yield _definition(tool["function"]) | ({"cache_control": cache} if cache else {})


def _definition(function: Mapping[str, Any]) -> Block:
    tool: Block = {"name": function["name"]}
    if function.get("description"):
        tool["description"] = function["description"]
    # A schema without a type is legal JSON Schema; the API insists on one.
    tool["input_schema"] = {"type": "object"} | function.get("parameters", {"properties": {}})
    return tool | {"strict": True} if function.get("strict") else tool


def _schema(request: ChatRequest, wanted: JsonFormat) -> Block:
    schema: Block = _decode(wanted.schema)
    described = request.fields.get("response_format", {}).get("json_schema", {}).get("description")
    return {"description": described} | schema if described else schema


def _closed(schema: Any) -> Any:
    """The schema with no other properties than those it names: the API wants that told, and what it lets pass is valid
    by the caller's too.
    """
    if isinstance(schema, list):
        return [_closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {name: each if name in _LITERAL else _closed(each) for name, each in schema.items()}
    if schema.get("type") == "object" and isinstance(schema.get("properties"), dict):
        return {"additionalProperties": False} | closed
    return closed


# --- what is to be cached ------------------------------------------------------------------------------------------


def _marks(request: ChatRequest) -> Marks:
    """Marks for the cache: only the caller's own bytes still hold them, under either API's name."""
    raw = bytes(request.sent.get("messages", b"[]"))
    if b"cache_control" not in raw and b"prompt_cache_breakpoint" not in raw:
        return lambda *_: {}
    sent = _decode(raw)
    if len(sent) != len(request.messages):  # some have been left out since
        return lambda *_: {}
    return lambda message, part: _mark(sent[message].get("content"), part)


def _mark(content: Any, place: int) -> Block:
    parts = content if isinstance(content, list) else [content]
    part = parts[place] if place < len(parts) and isinstance(parts[place], dict) else {}
    if isinstance(own := part.get("cache_control"), dict):
        return {"cache_control": own}
    return _EPHEMERAL if part.get("prompt_cache_breakpoint") else {}
