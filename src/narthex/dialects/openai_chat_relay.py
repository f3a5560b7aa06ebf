"""Chunks of providers that speak this very format, passed on with our identity in them. Source: contract 1.4.

There are three ways, and the first that can is taken: a chunk that differs from one before it in nothing but a text is
cut around that text; one that differs in nothing but its choices, around these; any other is told member by member.
All say the same, and tests hold them to it.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from narthex.core.stream import Splice
from narthex.wire import sse
from narthex.wire.json import encode
from narthex.wire.shortcut import Spliced

_THEIRS = ("usage", "service_tier", "obfuscation", "x_groq")
"""Members of a provider's chunks that are left out, or replaced by ours. Usage stands in the last one too."""
_OF_ALL = ("system_fingerprint", "service_tier")

_CHOICES = b'"choices":'
_TEXT = re.compile(rb'"(?:content|reasoning_content|arguments)": ?"((?:[^"\\]|\\.)*+)"').search
"""What nearly all chunks of a stream differ in."""
_IN_CHOICES = re.compile(rb'"(?:role|reasoning|usage)"').search
"""Members that are told anew, or left out."""

_raw_map = msgspec.json.Decoder(dict[str, msgspec.Raw])
_raw_maps = msgspec.json.Decoder(list[dict[str, msgspec.Raw]])
_any = msgspec.json.Decoder().decode


class ChunkRelay:
    """Those of one stream of so many `choices`.

    `edits` makes the members that replace or join a provider's, out of `of_all`.
    """

    def __init__(self, edits: Callable[[dict[str, Any]], dict[str, Any]], *, choices: int, with_usage: bool) -> None:
        self.of_all: dict[str, Any] | None = None
        """What the first chunk says of the whole answer; None before that."""
        self._edits_after = edits
        self._choices = choices
        self._with_usage = with_usage
        self._tail = b',"usage":null}\n\n' if with_usage else b"}\n\n"
        self._edits: dict[str, msgspec.Raw] = {}
        self._roles_told: set[int] = set()
        self._their_head = self._their_tail = self._our_head = b""
        self._spliced: Spliced | None = None

    @property
    def has_begun(self) -> bool:
        """Whether anything was passed on."""
        return self.of_all is not None

    def splice(self, data: bytes) -> Splice | None:
        """How those are passed on that differ from this one only in a text; None where that is not known."""
        spliced = self._spliced
        return None if spliced is None or spliced.told(data) is None else spliced.splice

    def passed_on(self, data: bytes) -> bytes:
        """The event for a chunk; b"" where it has nothing to tell."""
        if self._spliced is not None and (told := self._spliced.told(data)) is not None:
            return told
        if self._their_head and data.startswith(self._their_head) and data.endswith(self._their_tail):
            choices = data[len(self._their_head) : -len(self._their_tail)]
            if _is_plain(choices) and len(self._roles_told) == self._choices:
                self._remember_text(choices)
                return b"%b%b%b" % (self._our_head, choices, self._tail)
        return self._read(data)

    def _read(self, data: bytes) -> bytes:
        chunk = _raw_map.decode(data)
        if not bytes(chunk.get("choices", b"")).strip(b"[] \t\r\n"):
            return b""  # their usage; ours follows at the end
        if self.of_all is None:
            self.of_all = _of_all(chunk)
            edits = self._edits_after(self.of_all) | ({"usage": None} if self._with_usage else {})
            self._edits = {name: msgspec.Raw(encode(value)) for name, value in edits.items()}
        for name in _THEIRS:
            chunk.pop(name, None)
        choices = chunk["choices"]
        chunk |= self._edits
        self._remember(data, chunk)
        if len(self._roles_told) < self._choices or _IN_CHOICES(choices) is not None:
            chunk["choices"] = self._retold(choices)
        return sse.encode(encode(chunk))

    def _retold(self, choices: msgspec.Raw) -> msgspec.Raw:
        """The role once, thoughts by the name that they have in whole answers too, and no usage."""
        entries = _raw_maps.decode(choices)
        for entry in entries:
            entry.pop("usage", None)
            delta = _any(entry.get("delta", b"{}"))
            if not isinstance(delta, dict):
                continue
            index = _any(entry.get("index", b"0"))
            if index in self._roles_told:
                delta.pop("role", None)
            else:
                self._roles_told.add(index)
                delta = {"role": "assistant"} | {name: value for name, value in delta.items() if name != "role"}
            if (thought := delta.pop("reasoning", None)) and not delta.get("reasoning_content"):
                delta["reasoning_content"] = thought
            entry["delta"] = msgspec.Raw(encode(delta))
        return msgspec.Raw(encode(entries))

    # --- what is known of the next ones

    def _remember(self, data: bytes, chunk: Mapping[str, msgspec.Raw]) -> None:
        """What stands before and after the choices in their chunks, and is to stand there in ours."""
        head, mark, rest = data.partition(_CHOICES)
        before, choices, after = rest.partition(bytes(chunk["choices"]))
        if before.strip() or not choices or _CHOICES in rest:  # it is another name, deeper within
            return
        ours = encode({name: raw for name, raw in chunk.items() if name not in {"choices", "usage"}})
        if b"\n" not in ours and b"\r" not in ours:
            self._their_head, self._their_tail = head + mark + before, after
            self._our_head = b"data: " + ours[:-1] + b"," + _CHOICES

    def _remember_text(self, choices: bytes) -> None:
        """What stands around the text of their chunks, and is to stand around it in ours."""
        found = _TEXT(choices)
        if found is not None:
            start, end = choices[: found.start(1)], choices[found.end(1) :]
            theirs = self._their_head + start, end + self._their_tail
            self._spliced = Spliced(Splice(theirs, (self._our_head + start, end + self._tail)))


def _is_plain(choices: bytes) -> bool:
    """Whether this is one list of choices and nothing after it, in one line, with nothing to be told anew.

    Where a list ends within it, it is looked at closely. A quote within a text has a backslash before it, so no text is
    taken for a name.
    """
    return (
        choices[-1:] == b"]"
        and len(choices) > len(b"[{}]")
        and b"]," not in choices
        and b"] " not in choices
        and b"]\t" not in choices
        and b"\n" not in choices
        and b"\r" not in choices
        and b'"role"' not in choices
        and b'"reasoning"' not in choices
        and b'"usage"' not in choices
    )


def said_of_all(data: bytes) -> dict[str, Any]:
    """What a provider's chunk says of the whole answer."""
    return _of_all(_raw_map.decode(data))


def _of_all(chunk: Mapping[str, msgspec.Raw]) -> dict[str, Any]:
    return {name: _any(chunk[name]) for name in _OF_ALL if name in chunk}
