"""From a conversation to text and tokens, with control tokens kept ours: what a caller writes is never one of them.

Source: ARCHITECTURE D7. Control-token text inside callers' strings is bracketed with marks before the template runs;
the rendered text is split at the marks, and what stood between them is tokenized as plain text.
"""

import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from narthex.core.chat import ChatRequest, Message
from narthex.core.errors import InvalidRequest
from narthex.core.tools import Tools
from narthex.engine.local import steering
from narthex.engine.local.form.formats import call_format, native_format
from narthex.engine.local.form.telling import tool_objects, with_tools
from narthex.engine.local.messages import template_messages

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


# --- what a template is rendered with --------------------------------------------------------------------------------


def template_variables(
    messages: Sequence[Message],
    template: str,
    *,
    tools: Tools | None = None,
    json: bool = False,
    bracket: Callable[[Any], Any],
    special: Mapping[str, str],
) -> dict[str, Any]:
    """What a template is rendered with: bracketed messages and tools, the special tokens' texts, the usual flags.

    `json`: the answer is to have a form of the caller's; see `call_format`.

    Raises:
        InvalidRequest: the arguments of a tool call, or the schema of a tool, are nested too deeply.
    """
    native = native_format(template)
    if tools is not None and call_format(template, json=json) is not native:
        native = None
    objects = tool_objects(tools) if tools is not None and native is not None else None
    try:
        plain = template_messages(messages, template, native=native)
        if tools is not None and native is None:
            plain = with_tools(plain, tools, template=template)
        bracketed, known = bracket(plain), bracket(objects)
    except RecursionError:
        raise InvalidRequest("The arguments of a tool call are nested too deeply.", param="messages") from None
    return {
        "messages": bracketed,
        "add_generation_prompt": True,
        "tools": known,
        "documents": None,
        **special,
    }


def chat_variables(
    request: ChatRequest, template: str, *, bracket: Callable[[Any], Any], special: Mapping[str, str]
) -> dict[str, Any]:
    """What a template is rendered with to answer a request: `template_variables`, and what its fields tell it.

    Raises:
        InvalidRequest: as `template_variables`.
    """
    json = request.constraint is not None
    return template_variables(
        request.messages, template, tools=request.tools, json=json, bracket=bracket, special=special
    ) | steering.variables(request.fields, template, bracket=bracket)
