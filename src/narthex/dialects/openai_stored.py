"""Stored chat completions: what is kept of a call, and how it is shown. Source: contract section 1.5.

Rule: kept are the answer as it was told, the messages, and the few fields that a stored completion shows; nothing else
of a request.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from narthex.core.chat import AudioPart, ChatRequest, FilePart, ImagePart, Message, TextPart, ToolCall
from narthex.core.stored import ChatPage, ChatQuery, StoredChat
from narthex.dialects.fields import (
    STRING,
    Field,
    choice,
    integer,
    invalid,
    nullable,
    parse_fields,
    refuse_unknown,
)
from narthex.dialects.sampling import METADATA
from narthex.wire import json
from narthex.wire.json import encode

LARGEST_IMAGE_BYTES = 8 * 1024 * 1024
"""Of an image that is sent as data; a larger one is left out of the messages that are kept."""

_DEFAULTS: Mapping[str, Any] = {
    "seed": None,
    "top_p": 1.0,
    "temperature": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
}
_AS_SENT = ("tool_choice", "tools", "response_format")
_NULL = msgspec.Raw(b"null")

_raw_map = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_raw_maps = msgspec.json.Decoder(list[dict[str, msgspec.Raw]]).decode
_raws = msgspec.json.Decoder(list[msgspec.Raw]).decode


class _Head(msgspec.Struct):
    id: str
    created: int
    model: str


_head = msgspec.json.Decoder(_Head).decode


# --- what is kept ----------------------------------------------------------------------------------------------------


def chat_of(request: ChatRequest, answer: bytes, *, request_id: str) -> StoredChat:
    """What is kept of an answer; `answer`: as the caller gets it, or would get it whole."""
    head = _head(answer)
    kept: dict[str, Any] = _raw_map(answer)
    kept |= {"request_id": request_id, "input_user": request.fields.get("user")}
    kept |= {name: request.fields.get(name, default) for name, default in _DEFAULTS.items()}
    kept |= {name: request.sent.get(name, _NULL) for name in _AS_SENT}
    kept["choices"] = [_choice(each) for each in _raw_maps(kept["choices"])]
    return StoredChat(
        id=head.id,
        created_s=head.created,
        model=head.model,
        metadata=request.fields.get("metadata", {}),
        answer=encode(kept),
    )


def _choice(choice: dict[str, msgspec.Raw]) -> dict[str, Any]:
    message = _raw_map(choice["message"])
    return {**choice, "message": {"tool_calls": _NULL, "function_call": _NULL, **message}}


def messages_of(request: ChatRequest, *, chat_id: str) -> bytes:
    """The messages that were answered, as they are shown: a JSON array."""
    return encode([_item(each, f"{chat_id}-{index}") for index, each in enumerate(request.messages)])


def _item(message: Message, item_id: str) -> dict[str, Any]:
    parts = message.content if isinstance(message.content, tuple) else None
    item: dict[str, Any] = {
        "id": item_id,
        "role": message.role,
        "content": None if parts is not None else message.content,
        "refusal": message.refusal,
        "name": message.name,
        "content_parts": None if parts is None else list(filter(None, map(_part, parts))),
    }
    if message.tool_calls:
        item["tool_calls"] = [_call(call) for call in message.tool_calls]
    if message.function_call is not None:
        item["function_call"] = message.function_call
    if message.tool_call_id is not None:
        item["tool_call_id"] = message.tool_call_id
    return item


def _part(part: TextPart | ImagePart | AudioPart | FilePart) -> dict[str, Any] | None:
    """None: it is not kept."""
    if isinstance(part, TextPart):
        return {"type": "text", "text": part.text}
    if not isinstance(part, ImagePart) or _is_too_large(part.url):
        return None
    return {"type": "image_url", "image_url": {"url": part.url, "detail": part.detail}}


def _is_too_large(url: str) -> bool:
    return url[:5].lower() == "data:" and len(url) * 3 // 4 > LARGEST_IMAGE_BYTES


def _call(call: ToolCall) -> dict[str, Any]:
    if call.custom:
        return {"id": call.id, "type": "custom", "custom": {"name": call.name, "input": call.arguments}}
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


# --- how it is shown -------------------------------------------------------------------------------------------------


def shown(chat: StoredChat) -> bytes:
    """A stored completion."""
    return b'%b,"metadata":%b}' % (chat.answer[:-1], encode(chat.metadata))


def shown_page(page: ChatPage) -> bytes:
    """A page of them."""
    return _page([(chat.id, shown(chat)) for chat in page.chats], more=page.more)


def shown_messages(items: bytes, query: ChatQuery, *, chat_id: str) -> bytes | None:
    """A page of messages; None where there is none that it could come after."""
    texts = [bytes(raw) for raw in _raws(items)]
    all_items = [(f"{chat_id}-{index}", text) for index, text in enumerate(texts)]
    if query.order == "desc":
        all_items.reverse()
    begin = 0
    if query.after is not None:
        places = [place for place, (item_id, _) in enumerate(all_items) if item_id == query.after]
        if not places:
            return None
        begin = places[0] + 1
    end = begin + query.limit
    return _page(all_items[begin:end], more=end < len(all_items))


def _page(items: Sequence[tuple[str, bytes]], *, more: bool) -> bytes:
    return encode(
        {
            "object": "list",
            "data": [msgspec.Raw(text) for _, text in items],
            "first_id": items[0][0] if items else None,
            "last_id": items[-1][0] if items else None,
            "has_more": more,
        }
    )


def deleted(chat_id: str) -> bytes:
    """What tells that it is deleted."""
    return encode({"object": "chat.completion.deleted", "id": chat_id, "deleted": True})


# --- what is asked ---------------------------------------------------------------------------------------------------

PAGING: Mapping[str, str] = {
    "after": "Only what comes after the one of this id, the `last_id` of the page before.",
    "limit": "How many, 1 to 100; 20 when left out.",
    "order": "`asc` (when left out) or `desc`.",
}
"""What a query for a page may hold, with what it means."""
LISTING: Mapping[str, str] = {
    "model": "Only those of this model.",
    "metadata[key]": "Only those whose metadata have this value for `key`. May be sent for several keys.",
    **PAGING,
}
"""The same for lists of completions; the first page begins at the oldest unless `order` says otherwise."""
UPDATE: dict[str, Field] = {"metadata": nullable(METADATA)}
UPDATE_REQUIRED = ("metadata",)

PARAMETERS: Mapping[str, Field] = {
    "model": STRING,
    "after": STRING,
    "limit": integer(1, 100),
    "order": choice("asc", "desc"),
}
_PAIR = re.compile(r"metadata\[(.*)\]", re.DOTALL).fullmatch
_NUMBER = re.compile(r"-?[0-9]+").fullmatch
_LONGEST_NUMBER = 40


def list_query(sent: Sequence[tuple[str, str]], *, strict: bool) -> tuple[ChatQuery, tuple[str, ...]]:
    """What a query asks a list for, and the names that a lenient key let pass.

    Raises:
        InvalidRequest: names the parameter at fault.
    """
    pairs = [(found[1], value) for name, value in sent if (found := _PAIR(name)) is not None]
    METADATA.parse(dict(pairs), "metadata")
    rest = [(name, value) for name, value in sent if _PAIR(name) is None]
    return _query(rest, LISTING, metadata=tuple(pairs), strict=strict)


def messages_query(sent: Sequence[tuple[str, str]], *, strict: bool) -> tuple[ChatQuery, tuple[str, ...]]:
    """The same for a list of messages."""
    return _query(sent, PAGING, metadata=(), strict=strict)


def _query(
    sent: Sequence[tuple[str, str]], known: Mapping[str, str], *, metadata: tuple[tuple[str, str], ...], strict: bool
) -> tuple[ChatQuery, tuple[str, ...]]:
    values: dict[str, Any] = {}
    for name, text in sent:
        if name in values:
            raise invalid(name, "it is there twice.")
        is_number = name == "limit" and _NUMBER(text) is not None
        values[name] = int(text[:_LONGEST_NUMBER]) if is_number else text
    ignored = refuse_unknown(values, known, strict=strict)
    return ChatQuery(metadata=metadata, **parse_fields(values, PARAMETERS)), ignored


def update_of(body: bytes, *, strict: bool) -> tuple[dict[str, str], tuple[str, ...]]:
    """The metadata that an update asks for, and the names that a lenient key let pass.

    Raises:
        InvalidRequest: names the field at fault.
    """
    raw = json.top_level(body)
    ignored = refuse_unknown(raw, UPDATE, strict=strict)
    values = {name: json.value(each) for name, each in raw.items() if name in UPDATE}
    return parse_fields(values, UPDATE, required=UPDATE_REQUIRED)["metadata"] or {}, ignored
