"""A conversation in Anthropic's form: the system's text apart, and turns of blocks by user and assistant. No I/O.

Source: contract sections 1.2.1 and 4.3; the Messages API's reference.

Rule 1: no block is empty and no text is blank: the API refuses both, so they are left out.
Rule 2: the results of tools come first in the turn after the calls.
"""

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, assert_never

import msgspec

from narthex.core.capabilities import Verdict
from narthex.core.chat import AudioPart, FilePart, ImagePart, Message, Part, TextPart

Block = dict[str, Any]
Marks = Callable[[int, int], Block]
"""What a caller asks of the cache at a part of a message, by the two's places: members to add to its block."""

_IMAGES = frozenset(("image/jpeg", "image/png", "image/gif", "image/webp"))
_PDF = "application/pdf"
_PDF_BEGINS = "JVBERi"  # "%PDF-", in base64

_data_url = re.compile(r"data:([^,;]*)(?:;[^,;]*)*;base64,", re.IGNORECASE).match
_takes_id = re.compile(r"[a-zA-Z0-9_-]{1,64}").fullmatch
_decode = msgspec.json.Decoder().decode


class Turn(msgspec.Struct, kw_only=True):
    """What one side says until it is the other's turn."""

    role: Literal["user", "assistant"]
    results: list[Block] = msgspec.field(default_factory=list)
    blocks: list[Block] = msgspec.field(default_factory=list)


class Conversation(msgspec.Struct, kw_only=True):
    """All of a request's messages. `prefill`: the place of the message that the model is to go on with, if any."""

    system: list[Block] = msgspec.field(default_factory=list)
    turns: list[Turn] = msgspec.field(default_factory=list)
    prefill: int | None = None

    @property
    def messages(self) -> list[Block]:
        """The turns as the API takes them."""
        return [{"role": turn.role, "content": turn.results + turn.blocks} for turn in self.turns]

    @property
    def called(self) -> tuple[str, ...]:
        """The names of the tools that were called, each once."""
        blocks = (block for turn in self.turns for block in turn.blocks if block["type"] == "tool_use")
        return tuple(dict.fromkeys(block["name"] for block in blocks))

    @property
    def answers_calls(self) -> bool:
        """Whether the model has just been told the results of its calls, and is still within its answer."""
        return bool(self.turns[-1].results)


def conversation(messages: Sequence[Message], *, prefill: bool, marks: Marks = lambda *_: {}) -> Conversation:
    """Read a caller's messages. `prefill`: whether the model can go on with a message of the assistant.

    Raises:
        Verdict: one of them can't be told in this form.
    """
    return _Reader(messages, marks).read(prefill=prefill)


class _CallIds:
    """Ids of tool calls as the API takes them: of few characters, and each but once in a conversation."""

    def __init__(self) -> None:
        self._ours: dict[str, str] = {}
        self._taken: set[str] = set()
        self._numbers: dict[str, int] = {}

    def call(self, id_: str) -> str:
        first = ours = id_ if _takes_id(id_) else f"call_{hashlib.sha256(id_.encode()).hexdigest()[:24]}"
        number = self._numbers.get(first, 1)
        while ours in self._taken:
            number += 1
            ours = f"{first}_{number}"
        self._numbers[first] = number
        self._taken.add(ours)
        self._ours[id_] = ours
        return ours

    def answer(self, id_: str, path: str) -> str:
        if id_ not in self._ours:
            raise Verdict(path, "No message before this one makes the call that it answers.")
        return self._ours[id_]


class _Reader:
    def __init__(self, messages: Sequence[Message], marks: Marks) -> None:
        self._messages = messages
        self._marks = marks
        self._ids = _CallIds()
        self._read = Conversation()

    def read(self, *, prefill: bool) -> Conversation:
        last = None
        for index, message in enumerate(self._messages):
            if message.role in {"system", "developer"}:
                self._read.system += self._content(index)
            else:
                last = index
                self._say(index, message)
        if last is None or not self._read.turns:
            raise Verdict("messages", "There has to be a message of the user with text in it.")
        if self._read.turns[-1].role == "assistant":
            self._end_with_assistant(last, prefill=prefill)
        return self._read

    def _say(self, index: int, message: Message) -> None:
        path = f"messages[{index}]"
        match message.role:
            case "assistant":
                self._turn("assistant").blocks += [*self._content(index), *self._calls(message, path)]
            case "tool":
                self._answer(index, self._ids.answer(message.tool_call_id or "", f"{path}.tool_call_id"))
            case "function":
                self._answer(index, self._ids.answer(_function_id(message.name), f"{path}.name"))
            case _:
                self._turn("user").blocks += self._content(index)
        if not (self._read.turns[-1].blocks or self._read.turns[-1].results):
            self._read.turns.pop()

    def _turn(self, role: Literal["user", "assistant"]) -> Turn:
        if not self._read.turns or self._read.turns[-1].role != role:
            self._read.turns.append(Turn(role=role))
        return self._read.turns[-1]

    def _answer(self, index: int, id_: str) -> None:
        block: Block = {"type": "tool_result", "tool_use_id": id_}
        if content := self._content(index):
            block["content"] = content
            # A breakpoint within a block is none: it belongs to the block itself.
            block |= {name: part.pop(name) for part in content for name in ("cache_control",) if name in part}
        self._turn("user").results.append(block)

    def _calls(self, message: Message, path: str) -> Iterator[Block]:
        if message.audio_id is not None:
            raise Verdict(f"{path}.audio", "Audio of earlier turns is not supported.")
        for place, call in enumerate(message.tool_calls):
            if call.custom:
                input_: Any = {"input": call.arguments}
            else:
                input_ = _input(call.arguments, f"{path}.tool_calls[{place}].function.arguments")
            yield {"type": "tool_use", "id": self._ids.call(call.id), "name": call.name, "input": input_}
        if (function := message.function_call) is not None:
            input_ = _input(function.arguments, f"{path}.function_call.arguments")
            id_ = self._ids.call(_function_id(function.name))
            yield {"type": "tool_use", "id": id_, "name": function.name, "input": input_}

    def _content(self, index: int) -> list[Block]:
        """The blocks of a message's text, images and files; a participant's name is told before the first text."""
        message = self._messages[index]
        blocks = [
            block | self._marks(index, place)
            for place, part in enumerate(_parts(message))
            if (block := _block(part, f"messages[{index}].content[{place}]")) is not None
        ]
        if message.name and message.role in {"system", "user"} and blocks:
            _name(blocks, message.name)
        return blocks

    def _end_with_assistant(self, last: int, *, prefill: bool) -> None:
        if self._messages[last].role != "assistant":
            raise Verdict(f"messages[{last}].content", "The last message has no text.")
        if not prefill:
            raise Verdict(f"messages[{last}]", "This model can't go on with a message of the assistant.")
        self._read.prefill = last
        block = self._read.turns[-1].blocks[-1]
        if block["type"] == "text":
            block["text"] = block["text"].rstrip()  # the API refuses white space there


def _name(blocks: list[Block], name: str) -> None:
    text = next((block for block in blocks if block["type"] == "text"), None)
    if text is None:
        blocks.insert(0, {"type": "text", "text": f"{name}:"})
    else:
        text["text"] = f"{name}: {text['text']}"


def _function_id(name: str | None) -> str:
    """An id for a call of the older form, which has none; the space keeps it apart from callers' own."""
    return f"function {name}"


def _input(arguments: str, path: str) -> dict[str, Any]:
    try:
        value = _decode(arguments) if arguments.strip() else {}
    except (msgspec.DecodeError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise Verdict(path, "The arguments of an earlier call have to be a JSON object.")
    return value


# --- parts ---------------------------------------------------------------------------------------------------------


def _parts(message: Message) -> Sequence[Part]:
    if isinstance(message.content, str):
        return (TextPart(message.content),)
    if message.content is None and message.refusal is not None:
        return (TextPart(message.refusal),)
    return message.content or ()


def _block(part: Part, path: str) -> Block | None:
    match part:
        case TextPart(text):
            return {"type": "text", "text": text} if text.strip() else None
        case ImagePart():
            return {"type": "image", "source": _image(part, f"{path}.image_url.url")}
        case FilePart():
            block = {"type": "document", "source": _document(part, f"{path}.file")}
            return block | {"title": part.filename} if part.filename else block
        case AudioPart():
            raise Verdict(path, "This model can't read audio.")
        case _:
            assert_never(part)


def _image(image: ImagePart, path: str) -> Block:
    if image.url[:8].lower().startswith(("http://", "https://")):
        return {"type": "url", "url": image.url}
    media_type, data = _base64(image.url)
    media_type = image.media_type or media_type.replace("image/jpg", "image/jpeg")
    if media_type not in _IMAGES:
        raise Verdict(path, "An image has to be an http(s) URL or a data URL of a JPEG, PNG, GIF or WebP in base64.")
    return {"type": "base64", "media_type": media_type, "data": data}


def _document(file: FilePart, path: str) -> Block:
    if file.file_data is None:
        raise Verdict(f"{path}.file_id", "Files have to be sent as data.")
    media_type, data = _base64(file.file_data)
    if media_type != _PDF and (media_type or not data.startswith(_PDF_BEGINS)):
        raise Verdict(f"{path}.file_data", "This model reads PDF files only, in base64.")
    return {"type": "base64", "media_type": _PDF, "data": data}


def _base64(text: str) -> tuple[str, str]:
    """Media type and data of a data URL; of any other text "" and all of it."""
    found = _data_url(text)
    return ("", text) if found is None else (found[1].lower(), text[found.end() :])
