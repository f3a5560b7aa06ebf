"""From a conversation to text and tokens, with control tokens kept ours: what a caller writes is never one of them.

Source: ARCHITECTURE D7. Control-token text inside callers' strings is bracketed with marks before the template runs;
the rendered text is split at the marks, and what stood between them is tokenized as plain text.
"""

import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from narthex.core.chat import Message
from narthex.core.errors import InvalidRequest

_OPEN, _CLOSE = "\ue000", "\ue001"
_WORDS = re.compile(r"[\w\s.,;:!?'\"()-]*", re.ASCII)
"""Text that is no control token of any model: roles, names of fields, plain sentences."""


class Span(msgspec.Struct, frozen=True):
    """A piece of rendered text. `ours` tells whether control tokens in it count."""

    text: str
    ours: bool


class Marks:
    """The marks of one prompt. Random, so that no caller can write them."""

    def __init__(self, control: re.Pattern[str] | None) -> None:
        """`control` matches every control token's text; None: unknown, so every string that could hold one is bracketed
        whole.
        """
        self._nonce = secrets.token_hex(8)
        self._open, self._close = f"{_OPEN}{self._nonce}{_CLOSE}", f"{_CLOSE}{self._nonce}{_OPEN}"
        self._control = control
        self._marks = re.compile(f"({re.escape(self._open)}|{re.escape(self._close)})")

    def bracket(self, value: Any) -> Any:
        """The same JSON value with the dangerous parts of all its strings bracketed."""
        if isinstance(value, str):
            return self._bracket_text(value)
        if isinstance(value, dict):
            return {self.bracket(name): self.bracket(item) for name, item in value.items()}
        if isinstance(value, list):
            return [self.bracket(item) for item in value]
        return value

    def split(self, rendered: str) -> list[Span]:
        """The rendered text as spans, empty ones left out.

        A template may cut texts apart at a control token and so leave a mark without its partner: it brackets nothing.

        Raises:
            InvalidRequest: the template rewrote the marks themselves, so that nobody could tell whose a token is.
        """
        pieces = self._marks.split(rendered)
        spans = []
        for at in range(0, len(pieces), 2):
            if self._nonce in pieces[at].lower():
                message = "The model's chat template can't render the control tokens in these messages."
                raise InvalidRequest(message, param="messages")
            bracketed = pieces[at - 1 : at + 2 : 2] == [self._open, self._close] if at else False
            if pieces[at]:
                spans.append(Span(pieces[at], ours=not bracketed))
        return spans

    def _bracket_text(self, text: str) -> str:
        if self._control is None:
            return text if _WORDS.fullmatch(text) else f"{self._open}{text}{self._close}"
        return self._control.sub(lambda match: f"{self._open}{match[0]}{self._close}", text)


def control_pattern(tokens: Sequence[str]) -> re.Pattern[str] | None:
    """Matches any of the control tokens, longest first; None when there are none to know of."""
    texts = sorted({text for text in tokens if text}, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, texts))) if texts else None


# --- messages as templates know them ---------------------------------------------------------------------------------


def template_messages(messages: Sequence[Message], template: str) -> list[dict[str, Any]]:
    """Messages as plain objects for a template; calls and results become text where it knows no tools."""
    knows_tools = "tool_calls" in template
    write = _native if knows_tools else _as_text
    return [write(message) for message in messages]


def _plain(message: Message) -> dict[str, Any]:
    role = "system" if message.role == "developer" else message.role
    plain: dict[str, Any] = {"role": role, "content": message.text or message.refusal or ""}
    if message.name is not None:
        plain["name"] = message.name
    return plain


def _native(message: Message) -> dict[str, Any]:
    plain = _plain(message)
    calls = [{"name": call.name, "arguments": _arguments(call.arguments)} for call in message.tool_calls]
    if message.function_call is not None:
        calls.append({"name": message.function_call.name, "arguments": _arguments(message.function_call.arguments)})
    if calls:
        plain["tool_calls"] = [{"type": "function", "function": call} for call in calls]
    for call, native in zip(message.tool_calls, plain.get("tool_calls", ()), strict=False):
        native["id"] = call.id
    if message.role == "function":
        plain["role"] = "tool"
    if message.tool_call_id is not None:
        plain["tool_call_id"] = message.tool_call_id
    return plain


def _as_text(message: Message) -> dict[str, Any]:
    plain = _plain(message)
    calls: list[Any] = [*message.tool_calls, *([message.function_call] if message.function_call else [])]
    written = [f'<tool_call>{{"name": "{call.name}", "arguments": {call.arguments}}}</tool_call>' for call in calls]
    plain["content"] = "\n".join(filter(None, [plain["content"], *written]))
    if message.role in {"tool", "function"}:
        plain = {"role": "user", "content": f"<tool_response>{plain['content']}</tool_response>"}
    return plain


def _arguments(text: str) -> Any:
    """Arguments as an object, as most templates expect them; text that is no JSON stays text."""
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return text


def template_variables(
    messages: Sequence[Message], template: str, *, bracket: Callable[[Any], Any], special: Mapping[str, str]
) -> dict[str, Any]:
    """What a template is rendered with: bracketed messages, the special tokens' texts, the usual flags.

    Raises:
        InvalidRequest: the arguments of a tool call are nested too deeply.
    """
    try:
        bracketed = bracket(template_messages(messages, template))
    except RecursionError:
        raise InvalidRequest("The arguments of a tool call are nested too deeply.", param="messages") from None
    return {
        "messages": bracketed,
        "add_generation_prompt": True,
        "tools": None,
        "documents": None,
        **special,
    }
