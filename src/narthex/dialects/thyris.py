"""`/api/chat`: reading requests. Source: contract sections 3.2, 3.3, 9 and 11. The answers are in `thyris_answer`.

`stream`, `explain`, `documents`, `memory_strategy` and `token_budget` are extensions of ours.
"""

import binascii
import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import UNSET

from narthex.core.chat import ChatRequest, ImagePart, Message, Part, Sampling, TextPart
from narthex.core.grounding import CONTEXT, RAG_PROMPT, SYSTEM_PROMPT, USER_INPUT, Wanted
from narthex.core.memory import BUDGET, STRATEGY
from narthex.core.ports import Call, Decoded, Surface
from narthex.core.stream import Frame
from narthex.dialects.body import Form
from narthex.dialects.fields import BOOLEAN, STRING, Field, array, integer, invalid, number, string
from narthex.dialects.inference import MEMORY
from narthex.dialects.thyris_answer import NativeStream, encode_answer
from narthex.dialects.thyris_documents import DEFAULT_CHUNKS_FOUND, KEYS, MAX_CHUNKS_FOUND
from narthex.wire import json
from narthex.wire.pixels import size_of

MAX_HISTORY = 10
LONGEST_ANSWER = 1024
"""Tokens. This API has no limit of an answer's length, and a small model may find no end before its window does."""
_PAIR = array(STRING)
MAX_IMAGE_SIDE = 8000
"""Pixels. Models make larger ones smaller, or refuse them."""
IMAGE_TYPES = ("image/jpeg", "image/png", "image/gif", "image/webp")
_DATA_URL = re.compile(rf"data:({'|'.join(IMAGE_TYPES)});base64,", re.IGNORECASE)


def _pair(value: Any, path: str) -> tuple[str, str]:
    said = _PAIR.parse(value, path)
    if len(said) != 2:
        raise invalid(path, f"expected a user's message and the assistant's, but got {len(said)} strings.")
    return said[0], said[1]


def _image(value: Any, path: str) -> str:
    text: str = STRING.parse(value, path)
    head = _DATA_URL.match(text)
    if head is None:
        kinds = ", ".join(IMAGE_TYPES)
        raise invalid(path, f"expected a data URL, data:<type>;base64,<data>, of one of the types {kinds}.")
    try:
        data = binascii.a2b_base64(text[head.end() :].encode("ascii"), strict_mode=True)
    except (binascii.Error, UnicodeEncodeError):
        raise invalid(path, "the data is not valid base64.") from None
    if not data:
        raise invalid(path, "there is no data in it.")
    size = size_of(data)
    if size is not None and max(size) > MAX_IMAGE_SIDE:
        message = f"it is {size[0]} x {size[1]} pixels, and no side may be longer than {MAX_IMAGE_SIDE}."
        raise invalid(path, message)
    return text


def _rag_prompt(value: Any, path: str) -> str:
    text: str = STRING.parse(value, path)
    for placeholder in (CONTEXT, USER_INPUT):
        if placeholder not in text:
            raise invalid(path, f"the placeholder '{placeholder}' is missing.")
    return text


FIELDS: dict[str, Field] = {
    "model": string(shortest=1),
    "input": string(shortest=1),
    "chat_history": array(
        Field(_pair, _PAIR.schema | {"minItems": 2, "maxItems": 2}),
        0,
        MAX_HISTORY,
    ),
    "use_documents_from": string(shortest=1),
    "n_documents": integer(1, MAX_CHUNKS_FOUND),
    "image": Field(_image, {"type": "string", "pattern": "^data:image/[a-z]+;base64,"}),
    "system_prompt": STRING,
    "rag_prompt": Field(_rag_prompt, {"type": "string"}),
    "frequency_penalty": number(-2, 2),
    "presence_penalty": number(-2, 2),
    "temperature": number(0, 2),
    "top_p": number(0, 1),
    "stream": BOOLEAN,
    "explain": BOOLEAN,
    "documents": KEYS,
    **MEMORY,
}
REQUIRED = ("model", "input")
FORM = Form("chat", FIELDS, REQUIRED)

_ONLY_WITH_DOCUMENTS = ("n_documents", "explain")
"""Without documents these have nothing to work on: they are named as ignored."""
_SAMPLING = ("frequency_penalty", "presence_penalty", "temperature", "top_p")
_PASSED_ON = ("model", *_SAMPLING, "stream", STRATEGY)


class NativeChatDialect:
    """The native chat surface. `max_image_bytes`: of an image once it is decoded; None: as many as a body holds."""

    surface: Surface = "chat"

    def __init__(self, *, max_image_bytes: int | None = None) -> None:
        self._max_image_bytes = max_image_bytes

    def decode(self, body: bytes, *, profile: str, strict: bool) -> Decoded:
        """Read and check a request; see `Dialect.decode`. No profile narrows this API."""
        read = FORM.read(body, profile="openai", strict=strict)
        fields = read.fields
        _check(fields)
        if self._max_image_bytes is not None and _image_bytes(fields) > self._max_image_bytes:
            raise invalid("image", f"it is larger than {self._max_image_bytes} bytes.")
        messages = tuple(_messages(fields))
        # Over documents the budget is theirs, and what was said before stays.
        passed_on = (*_PASSED_ON, *(() if "use_documents_from" in fields else (BUDGET,)))
        request = with_messages(
            ChatRequest(
                model=fields["model"],
                messages=messages,
                sampling=Sampling(at_most=LONGEST_ANSWER, **{name: fields.get(name, UNSET) for name in _SAMPLING}),
                stream=fields.get("stream", False),
                documents=_wanted(fields),
                fields={name: fields[name] for name in passed_on if name in fields},
                sent={name: read.sent[name] for name in passed_on if name in read.sent},
            ),
            messages,
        )
        idle = () if request.documents is not None else tuple(name for name in _ONLY_WITH_DOCUMENTS if name in fields)
        return Decoded(request, read.ignored + idle)

    def encoder(self, call: Call, *, created: int) -> NativeStream:
        """Write the answer as events."""
        return NativeStream(call, created=created)

    def encode_answer(self, call: Call, frames: Sequence[Frame], *, created: int) -> bytes:
        """Write the answer whole."""
        return encode_answer(call, frames, created=created)


def with_messages(request: ChatRequest, messages: tuple[Message, ...]) -> ChatRequest:
    """The same request with other messages, also for servers that are sent what the caller wrote."""
    written = msgspec.Raw(json.encode([_written(message) for message in messages]))
    return msgspec.structs.replace(
        request,
        messages=messages,
        fields={**request.fields, "messages": messages},
        sent={**request.sent, "messages": written},
    )


def _check(fields: Mapping[str, Any]) -> None:
    """Refuse combinations that mean nothing."""
    if "use_documents_from" in fields:
        return
    for name in ("rag_prompt", "documents"):
        if name in fields:
            raise invalid(name, "it is only allowed with 'use_documents_from'.")


def _image_bytes(fields: Mapping[str, Any]) -> int:
    """What the image's base64 stands for."""
    url: str = fields.get("image", "")
    data = url.partition(",")[2]
    return 3 * len(data) // 4 - data[-2:].count("=")


def _messages(fields: Mapping[str, Any]) -> list[Message]:
    """System prompt, history, input: the same beginning in every turn, so that an engine can keep it."""
    messages = []
    if prompt := fields.get("system_prompt", SYSTEM_PROMPT):
        messages.append(Message(role="system", content=prompt))
    for asked, answered in fields.get("chat_history", ()):
        messages += [Message(role="user", content=asked), Message(role="assistant", content=answered)]
    image = fields.get("image")
    text = fields["input"]
    content = text if image is None else (TextPart(text), ImagePart(image))
    return [*messages, Message(role="user", content=content)]


def _wanted(fields: Mapping[str, Any]) -> Wanted | None:
    if "use_documents_from" not in fields:
        return None
    return Wanted(
        collection=fields["use_documents_from"],
        question=fields["input"],
        prompt=fields.get("rag_prompt", RAG_PROMPT),
        n=fields.get("n_documents", DEFAULT_CHUNKS_FOUND),
        documents=fields.get("documents"),
        token_budget=fields.get("token_budget"),
        explain=fields.get("explain", False),
    )


def _written(message: Message) -> dict[str, Any]:
    if not isinstance(message.content, tuple):
        return {"role": message.role, "content": message.content}
    return {"role": message.role, "content": [_written_part(part) for part in message.content]}


def _written_part(part: Part) -> dict[str, Any]:
    if isinstance(part, ImagePart):
        return {"type": "image_url", "image_url": {"url": part.url}}
    assert isinstance(part, TextPart)  # noqa: S101 - this API has no others
    return {"type": "text", "text": part.text}
