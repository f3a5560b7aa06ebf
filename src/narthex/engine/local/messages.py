"""Messages as chat templates know them. Calls and results become text where a template knows no tools."""

import hashlib
import re
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from narthex.core.chat import FunctionCall, Message, ToolCall
from narthex.engine.local.form.formats import HERMES, CallFormat

_WANTS_NONE = re.compile(r"content['\"]?\]?\s+is\s+(?:not\s+)?none")
_ALTERNATES = re.compile(r"alternate", re.IGNORECASE)
_NINE_LETTERS = re.compile(r"length (?:>= )?9")


def template_messages(messages: Sequence[Message], template: str, *, native: CallFormat | None) -> list[dict[str, Any]]:
    """Messages as plain objects for a template. `native`: how it writes calls; None: it knows no tools."""
    if native is None:
        return _joined([_as_text(message) for message in messages], all_users=bool(_ALTERNATES.search(template)))
    names: dict[str | None, str] = {}
    found = []
    for message in messages if native.separator is not None else _one_by_one(messages):
        names |= {call.id: call.name for call in message.tool_calls}
        found.append(_native(message, template, name=names.get(message.tool_call_id), written=native.written))
    return found


def _plain(message: Message) -> dict[str, Any]:
    role = "system" if message.role == "developer" else message.role
    plain: dict[str, Any] = {"role": role, "content": message.text or message.refusal or ""}
    if message.name is not None:
        plain["name"] = message.name
    return plain


def _calls(message: Message) -> list[ToolCall | FunctionCall]:
    return [*message.tool_calls, *([message.function_call] if message.function_call else [])]


# --- templates that know tools ---------------------------------------------------------------------------------------


def _one_by_one(messages: Sequence[Message]) -> Iterator[Message]:
    """Calls that were made together as if one had followed the other, each with its result (Llama's templates)."""
    rest = deque(messages)
    while rest:
        message = rest.popleft()
        if len(message.tool_calls) < 2:
            yield message
            continue
        results: defaultdict[str | None, list[Message]] = defaultdict(list)
        while rest and rest[0].role == "tool":
            result = rest.popleft()
            results[result.tool_call_id].append(result)
        for number, call in enumerate(message.tool_calls):
            content = message.content if number == 0 else None
            yield msgspec.structs.replace(message, content=content, tool_calls=(call,))
            yield from results.pop(call.id, ())


def _native(message: Message, template: str, *, name: str | None, written: bool) -> dict[str, Any]:
    """`name`: of the function whose result the message is."""
    plain = _plain(message)
    if calls := _calls(message):
        plain["tool_calls"] = [_native_call(call, template, written=written) for call in calls]
        if not plain["content"] and _WANTS_NONE.search(template):
            plain["content"] = None
    if message.role == "function":
        plain["role"] = "tool"
    if message.tool_call_id is not None:
        plain["tool_call_id"] = _id(message.tool_call_id, template)
        plain.setdefault("name", name)
    return plain


def _native_call(call: ToolCall | FunctionCall, template: str, *, written: bool) -> dict[str, Any]:
    arguments = call.arguments if written else _parsed(call.arguments)
    native: dict[str, Any] = {"type": "function", "function": {"name": call.name, "arguments": arguments}}
    if isinstance(call, ToolCall):
        native["id"] = _id(call.id, template)
    return native


def _parsed(text: str) -> Any:
    """Arguments as an object, as most templates expect them; text that is no JSON stays text."""
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return text


def _id(id_: str, template: str) -> str:
    """Some templates (Mistral's) refuse ids that are not nine letters long."""
    if not _NINE_LETTERS.search(template):
        return id_
    return hashlib.blake2b(id_.encode()).hexdigest()[:9]


# --- templates that know none ----------------------------------------------------------------------------------------


def _as_text(message: Message) -> dict[str, Any]:
    plain = _plain(message)
    if message.role in {"tool", "function"}:
        return {"role": "user", "content": f"<tool_response>\n{plain['content']}\n</tool_response>"}
    written = [f"{HERMES.head_of(call.name)}{call.arguments or '{}'}{HERMES.tail}" for call in _calls(message)]
    plain["content"] = "\n".join(filter(None, [plain["content"], *written]))
    return plain


def _joined(messages: Sequence[dict[str, Any]], *, all_users: bool) -> list[dict[str, Any]]:
    """Results that follow each other as one message; with what the user says next where roles have to alternate."""
    found: list[dict[str, Any]] = []
    said: list[list[str]] = []
    for message in messages:
        last = found[-1] if found else {}
        both_users = last.get("role") == message["role"] == "user"
        if both_users and _is_result(last) and (_is_result(message) or all_users):
            said[-1].append(message["content"])
        else:
            found.append(message)
            said.append([message["content"]])
    return [
        each if len(pieces) == 1 else each | {"content": "\n".join(pieces)}
        for each, pieces in zip(found, said, strict=True)
    ]


def _is_result(message: dict[str, Any]) -> bool:
    return str(message["content"]).startswith("<tool_response>")
