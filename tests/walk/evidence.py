"""How a field shows that was honoured: in what its vendor's server received, or in the answer. No table is asked.

`shows` is given what a caller wrote and what was seen of it; a field that it finds no trace of was dropped.
"""

import json
from collections.abc import Callable
from typing import Any

from tests.walk.held import held, response_format, spacing, structured
from tests.walk.seen import Seen, is_sent
from tests.walk.values import LONG, Body

_LIMITS = ("max_tokens", "max_completion_tokens", "max_new_tokens")


def shows(field: str, seen: Seen) -> bool:
    """Whether there is a trace of a field in what was seen."""
    value = seen.asked.get(field)
    if (look := _LOOKS.get((seen.surface, field)) or _LOOKS.get(("", field))) is not None:
        return look(seen, value)
    if seen.type == "anthropic":
        return field in _ANTHROPIC and _ANTHROPIC[field](seen.body, value)
    return is_sent(field, seen)


# --- in the answer, or in either -------------------------------------------------------------------------------------


def _model(seen: Seen, _: Any) -> bool:
    return seen.body["model"] == "big"


def _stream(seen: Seen, value: Any) -> bool:
    return seen.answer.headers["content-type"].startswith("text/event-stream") is value


def _usage(seen: Seen, value: Any) -> bool:
    """Told at the end of a stream, where it is wanted."""
    return any(each.get("usage") for each in seen.pieces) is value["include_usage"]


def _top_p(seen: Seen, value: Any) -> bool:
    """Some servers take no 0: only the likeliest token is the same as no temperature."""
    if value == 0 and "top_p" not in seen.body:
        return bool(seen.body["temperature"] == 0)
    return bool(seen.body.get("top_p", 1 if seen.type == "anthropic" else None) == value)


def _top_k(seen: Seen, value: Any) -> bool:
    """Neither 0 nor -1 asks for anything; some servers know one of them, some none."""
    return bool(seen.body.get("top_k", 0) == value) or (value in {0, -1} and seen.body.get("top_k", -1) == -1)


def _choices(seen: Seen, value: Any) -> bool:
    asked_for = sum(heard.body.get("n", 1) for heard in seen.heard)
    return len(seen.said["choices"]) == value and asked_for in {1, value}


def _best(seen: Seen, value: Any) -> bool:
    tried = seen.body.get("best_of", seen.body.get("n", 1))
    return len(seen.said["choices"]) == 1 and bool(tried == value)


def _stored(seen: Seen, _: Any) -> bool:
    return seen.kept is not None and bool(seen.kept["id"] == seen.said["id"])


def _metadata(seen: Seen, value: Any) -> bool:
    return seen.kept is not None and bool(seen.kept["metadata"] == value)


def _in_time(seen: Seen, _: Any) -> bool:
    error = seen.answer.json()["error"]
    return (seen.answer.status, error["param"]) == (504, "inference_timeout")


def _params(seen: Seen, value: Any) -> bool:
    return value.items() <= seen.body.items()


def _headers(seen: Seen, value: Any) -> bool:
    return value.items() <= seen.heard[-1].headers.items()


def _remembered(seen: Seen, _: Any) -> bool:
    told = [each for each in seen.body["messages"] if each["role"] != "system"]
    return len(told) == 1 and "Hi" in json.dumps(told)


def _within_budget(seen: Seen, _: Any) -> bool:
    return 0 < len(seen.body["messages"]) < len(LONG) and "Hi" in json.dumps(seen.body["messages"][-1])


def _tier(seen: Seen, value: Any) -> bool:
    """Sent on, and what the server says of it is told; or nobody was asked, and that is told."""
    if "service_tier" not in seen.body:
        return bool(seen.said["service_tier"] == "default")
    theirs = {"auto": "auto", "default": "standard_only"}.get(value) if seen.type == "anthropic" else value
    return bool(seen.body["service_tier"] == theirs) and "service_tier" in seen.said


def _one_call(seen: Seen, value: Any) -> bool:
    return len(seen.message["tool_calls"]) == (2 if value else 1)


def _limit(seen: Seen, value: Any) -> bool:
    return value in [seen.body.get(name) for name in _LIMITS]


def _function(seen: Seen, value: Any) -> bool:
    if "functions" in seen.body:
        return bool(seen.body["functions"] == value)
    told = seen.body["tools"]
    if seen.type == "anthropic":
        return [(each["name"], each["input_schema"]["type"]) for each in told] == [(value[0]["name"], "object")]
    return bool(told == [{"type": "function", "function": value[0]}])


def _function_call(seen: Seen, value: Any) -> bool:
    if isinstance(value, dict):
        return seen.message["function_call"]["name"] == value["name"]
    if "function_call" in seen.body:
        return bool(seen.body["function_call"] == value)
    return _tool_choice(seen, value)


def _tool_choice(seen: Seen, value: Any) -> bool:
    """Sent on; or without one: no tool is told of where none may be called."""
    told = seen.body.get("tool_choice")
    if seen.type == "anthropic":
        return _chosen(told, value)
    if told is not None:
        return bool(told == value)
    return ("tools" in seen.body) is (value == "auto") and value in {"auto", "none"}


def _chosen(told: Any, value: Any) -> bool:
    """By Anthropic's names."""
    kinds = {"auto": "auto", "none": "none", "required": "tool"}
    if isinstance(value, str):
        return bool(told["type"] == kinds[value])
    if value["type"] == "allowed_tools":
        return bool(told["type"] == ("auto" if value["allowed_tools"]["mode"] == "auto" else "tool"))
    return bool((told["type"], told["name"]) == ("tool", "look"))


def _continued(seen: Seen, value: Any) -> bool:
    if "continue_final_message" in seen.body:
        return bool(seen.body["continue_final_message"] == value)
    last = seen.body["messages"][-1]
    return last["role"] == "assistant" and "Well," in json.dumps(last)


def _messages(seen: Seen, value: Any) -> bool:
    """The same messages; where they are written otherwise, with the same things in them."""
    told = seen.body["messages"]
    if told == value:
        return True
    written = json.dumps(seen.body)
    return all(each in written for each in _words(value))


def _words(value: Any) -> set[str]:
    """What nobody may change: texts, data, names of those who speak and of what is called."""
    if isinstance(value, list):
        return {word for each in value for word in _words(each)}
    if not isinstance(value, dict):
        return set()
    own = {
        json.dumps(each)[1:-1].rpartition("base64,")[2]
        for name, each in value.items()
        if isinstance(each, str) and name in {"text", "content", "refusal", "data", "file_data", "url", "name"}
    }
    return own | {word for each in value.values() for word in _words(each)}


# --- other surfaces --------------------------------------------------------------------------------------------------


def _encoding(seen: Seen, value: Any) -> bool:
    return isinstance(seen.said["data"][0]["embedding"], str if value == "base64" else list)


def _dimensions(seen: Seen, value: Any) -> bool:
    return len(seen.said["data"][0]["embedding"]) == value


def _picture(seen: Seen, value: Any) -> bool:
    return value in seen.said["data"][0]


def _drawn(seen: Seen, value: Any) -> bool:
    return seen.answer.headers["content-type"].startswith("text/event-stream") is value


def _size(seen: Seen, value: Any) -> bool:
    return bool(seen.body["size"] == value.replace("*", "x"))


def _logprobs(seen: Seen, value: Any) -> bool:
    """By the name of `/v1/completions`, where it is a number."""
    wanted = value if value is not True else seen.asked.get("top_logprobs", 0)
    return bool(seen.body.get("logprobs") == wanted) and seen.said["choices"][0]["logprobs"] is not None


def _ended(seen: Seen, value: Any) -> bool:
    return bool(seen.body["stop"] == value)


_Look = Callable[[Seen, Any], bool]


def _guided(kind: str) -> _Look:
    return lambda seen, value: held(seen, kind, value)


_LOOKS: dict[tuple[str, str], _Look] = {
    ("", "model"): _model,
    ("chat", "stream"): _stream,
    ("completions", "stream"): _stream,
    ("", "stream_options"): _usage,
    ("chat", "n"): _choices,
    ("completions", "n"): _choices,
    ("", "best_of"): _best,
    ("", "top_p"): _top_p,
    ("", "top_k"): _top_k,
    ("", "store"): _stored,
    ("", "metadata"): _metadata,
    ("", "inference_timeout"): _in_time,
    ("", "inference_extra_params"): _params,
    ("", "inference_extra_headers"): _headers,
    ("", "memory_strategy"): _remembered,
    ("", "token_budget"): _within_budget,
    ("", "service_tier"): _tier,
    ("", "parallel_tool_calls"): _one_call,
    **{("", name): _limit for name in _LIMITS},
    ("", "functions"): _function,
    ("", "function_call"): _function_call,
    ("", "tool_choice"): _tool_choice,
    ("", "continue_final_message"): _continued,
    ("", "messages"): _messages,
    ("chat", "response_format"): response_format,
    ("", "guided_json"): _guided("json"),
    ("", "guided_regex"): _guided("regex"),
    ("", "guided_choice"): _guided("choice"),
    ("", "guided_grammar"): _guided("grammar"),
    ("", "guided_whitespace_pattern"): spacing,
    ("", "structured_outputs"): structured,
    ("completions", "logprobs"): _logprobs,
    ("completions", "top_logprobs"): _logprobs,
    ("completions", "return_token_log_probs"): _logprobs,
    ("completions", "stop_sequences"): _ended,
    ("embeddings", "encoding_format"): _encoding,
    ("images", "response_format"): _picture,
    ("images", "stream"): _drawn,
    ("images", "size"): _size,
    ("embeddings", "dimensions"): _dimensions,
}

# --- of the native API -----------------------------------------------------------------------------------------------


def shows_natively(field: str, seen: Seen) -> bool:
    """The same for `/api/chat`."""
    value, told = seen.asked.get(field), json.dumps(seen.body)
    if field in _NATIVELY:
        return _NATIVELY[field](seen, value, told)
    return shows(field, seen)


_NativeLook = Callable[[Seen, Any, str], bool]
_NATIVELY: dict[str, _NativeLook] = {
    "input": lambda _, value, told: value in told,
    "system_prompt": lambda _, value, told: value in told,
    "image": lambda _, value, told: value.partition(",")[2] in told,
    "chat_history": lambda _, value, told: all(each in told for pair in value for each in pair),
    "use_documents_from": lambda _, __, told: "Cats sleep." in told and "Lions roar." in told,
    "n_documents": lambda _, __, told: ("Cats sleep." in told) is not ("Lions roar." in told),
    "documents": lambda _, __, told: "Lions roar." in told and "Cats sleep." not in told,
    "rag_prompt": lambda _, __, told: "Given " in told and "Cats sleep." in told and "{{" not in told,
    "explain": lambda seen, __, ___: "explain" in seen.answer.json(),
    "stream": lambda seen, value, _: seen.answer.headers["content-type"].startswith("text/event-stream") is value,
    "memory_strategy": lambda _, __, told: "Hm?" not in told and "Hi" in told,
    "token_budget": lambda _, __, told: "word word" not in told and "Hi" in told,
}

# --- by Anthropic's names --------------------------------------------------------------------------------------------


def _tools(body: Body, value: Any) -> bool:
    told = {each["name"]: each for each in body["tools"]}
    for tool in value:
        function, its = tool["function"], told[tool["function"]["name"]]
        schema = function.get("parameters", {"type": "object", "properties": {}})
        same = schema.items() <= its["input_schema"].items() and its.get("description") == function.get("description")
        marked = its.get("cache_control") == tool.get("cache_control")
        if not same or not marked or its.get("strict") != function.get("strict"):
            return False
    return True


def _effort(body: Body, value: Any) -> bool:
    return (body.get("thinking", {"type": "disabled"})["type"] == "disabled") is (value == "none")


_ANTHROPIC: dict[str, Callable[[Body, Any], bool]] = {
    "stop": lambda body, value: body["stop_sequences"] == ([value] if isinstance(value, str) else value),
    "temperature": lambda body, value: body.get("temperature", 1) == value,
    "user": lambda body, value: body["metadata"] == {"user_id": value},
    "safety_identifier": lambda body, value: body["metadata"] == {"user_id": value},
    "tools": _tools,
    "reasoning_effort": _effort,
}
