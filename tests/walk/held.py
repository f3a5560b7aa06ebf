"""Whether an answer was asked for in a form, in any of the ways in which servers are asked, and has it."""

import json
from typing import Any

from tests.walk.seen import Seen, is_sent
from tests.walk.upstream import ANSWER_TOOL
from tests.walk.values import Body


def _text(seen: Seen) -> str:
    choice = seen.said["choices"][0]
    found: str = choice["message"]["content"] if "message" in choice else choice["text"]
    return found


def _is_within(wanted: Any, given: Any) -> bool:
    """Whether an object has all that another has; others may have been added on any level."""
    if isinstance(wanted, dict) and isinstance(given, dict):
        return all(name in given and _is_within(each, given[name]) for name, each in wanted.items())
    return bool(wanted == given)


def held(seen: Seen, kind: str, value: Any) -> bool:
    """Whether the server was asked for a form, in any of the ways there are to ask, and the answer has it bare."""
    body, wanted = seen.body, json.loads(value) if isinstance(value, str) and kind == "json" else value
    if f"guided_{kind}" in seen.asked and body.get(f"guided_{kind}") == value:
        return True
    if kind == "choice":
        asked = _asked(body, "choice") == wanted or body.get("regex") == f"({'|'.join(wanted)})"
        named = _schema(body).get("properties", {}).get("choice", {})
        return (asked or named.get("enum") == wanted) and _text(seen) in wanted
    if kind == "json_object":
        forms = (_asked(body, "json_object") is True, body.get("response_format") == {"type": "json_object"})
        any_object = _schema(body) == {"type": "object"}
        return (any(forms) or any_object) and isinstance(json.loads(_text(seen)), dict)
    if kind == "json":
        given = _asked(body, "json")
        given = json.loads(given) if isinstance(given, str) else given
        held = wanted == given or _is_within(wanted, _schema(body))
        return held and isinstance(json.loads(_text(seen)), dict)
    theirs = {"regex": "regex", "grammar": "ebnf"}[kind]
    return bool(wanted in (_asked(body, kind), body.get(theirs)))


def _asked(body: Body, kind: str) -> Any:
    return body.get("structured_outputs", {}).get(kind)


def _schema(body: Body) -> Body:
    """The schema that an answer is to be held to, wherever it stands."""
    if "json_schema" in body:
        found: Body = json.loads(body["json_schema"])
        return found
    format_ = body.get("response_format") or body.get("output_config", {}).get("format") or {}
    forced = [each["input_schema"] for each in body.get("tools", ()) if each.get("name") == ANSWER_TOOL]
    schema: Body = format_.get("json_schema", {}).get("schema") or format_.get("schema") or (forced or [{}])[0]
    return schema


def response_format(seen: Seen, value: Any) -> bool:
    if seen.type != "anthropic":
        schema = value.get("json_schema", {"schema": None})
        any_object = "schema" not in schema and seen.body.get("response_format") == {"type": "json_object"}
        return is_sent("response_format", seen) or any_object
    if value["type"] == "text":
        return not _schema(seen.body)
    wanted = value.get("json_schema", {}).get("schema", {"type": "object"})
    given = _schema(seen.body)
    return _is_within(wanted, given) and isinstance(json.loads(_text(seen)), dict)


def structured(seen: Seen, value: Any) -> bool:
    if seen.type == "narthex":
        return is_sent("structured_outputs", seen)
    ((kind, wanted), *options) = sorted(value.items(), key=lambda each: each[0] not in {"json", "json_object"})
    if options:
        return bool(seen.body.get("structured_outputs") == value)
    return held(seen, kind, wanted)


def spacing(seen: Seen, value: Any) -> bool:
    return "guided_whitespace_pattern" in seen.body or bool(_asked(seen.body, "whitespace_pattern") == value)
