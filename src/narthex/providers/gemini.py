"""Gemini's compatible endpoint: OpenAI's format, but for what newer models want to see of their own thoughts. No I/O.

Source: the vendor's page on thought signatures. From Gemini 3 on, the first call of each message of the assistant has
to come back with the signature of the thought that led to it, in a member that this contract does not have and that
many clients drop. Instead of it goes the value that the vendor documents for calls whose signature is not known:
without, the request is refused; with it, the model goes on without its earlier thoughts.
"""

import re
from typing import Any

import msgspec
from typing_extensions import override

from narthex.core.chat import ChatRequest
from narthex.core.ports import Request
from narthex.providers.codec import of_kind
from narthex.providers.openai_codec import OpenAIChat
from narthex.providers.openai_rows import body

UNSIGNED = {"google": {"thought_signature": "skip_thought_signature_validator"}}
"""The vendor's own value for a call without a signature."""

_asks_for_none = re.compile(r"(?:models/)?gemini-[12](?:\.\d+)?(?:-.*)?").fullmatch
_messages = msgspec.json.Decoder(list[dict[str, msgspec.Raw]]).decode
_calls = msgspec.json.Decoder(list[dict[str, Any]]).decode


class GeminiChat(OpenAIChat):
    """Chats with one model of Gemini's. See `Codec`."""

    @override
    def build(self, request: Request, *, model: str) -> bytes:
        """See `OpenAIChat.build`."""
        asked = of_kind(request, ChatRequest)
        called = any(message.tool_calls or message.function_call for message in asked.messages)
        if not called or _asks_for_none(model):
            return super().build(asked, model=model)
        members = self.members(self._begun(asked))
        return body(members | {"messages": _signed(members["messages"])}, self._row, model=model)


def _signed(sent: msgspec.Raw) -> msgspec.Raw:
    """The messages with a signature at the first call of each that has calls."""
    messages = _messages(sent)
    for message in messages:
        if bytes(message.get("tool_calls", b"null")) not in {b"null", b"[]"}:
            first, *others = _calls(message["tool_calls"])
            calls = [{"extra_content": UNSIGNED} | first, *others]
            message["tool_calls"] = msgspec.Raw(msgspec.json.encode(calls))
    return msgspec.Raw(msgspec.json.encode(messages))
