"""Requests like those before them: the same bytes but for their messages, as an application sends them all day.

What stands around the messages was read and checked once. JSON is read from its beginning to its end: after the same
beginning another sound value stands in the same place, and what follows it says the same.
"""

from collections import OrderedDict
from collections.abc import Collection
from threading import Lock
from typing import Any

import msgspec
from msgspec.structs import replace

from narthex.core.chat import ChatRequest
from narthex.core.sent import Alike, Sent
from narthex.dialects.messages import MESSAGES
from narthex.wire import json
from narthex.wire.json import UNREADABLE

_NAME = b'"messages":'
_LONGEST_BYTES = 32 * 1024
_MOST = 16
_MOST_SEEN = 512
_NONE = msgspec.Raw(b"[]")
_texts = MESSAGES.quick.read  # type: ignore[union-attr]


class Surroundings:
    """All of a request but its messages: what stands `before` and `after` them."""

    __slots__ = ("_alike", "_fields", "_request", "_sent", "after", "before")

    def __init__(self, before: bytes, after: bytes, request: ChatRequest) -> None:
        self.before, self.after = before, after
        self._alike = Alike()
        self._fields: dict[str, Any] = {**request.fields, "messages": ()}
        self._sent = {**request.sent, "messages": _NONE}
        self._request = replace(request, messages=(), fields={}, sent={})

    def around(self, written: bytes) -> ChatRequest | None:
        """The request with these messages; None: they are not nothing but texts, and have to be read one by one."""
        if not (written.startswith(b"[") and written.endswith(b"]")):
            return None
        raw = msgspec.Raw(written)
        try:
            messages = _texts(raw)
        except UNREADABLE:
            return None
        fields, sent = self._fields.copy(), Sent(self._sent)
        sent.alike = self._alike
        fields["messages"], sent["messages"] = messages, raw
        return replace(self._request, messages=messages, fields=fields, sent=sent)


class Usual:
    """What stood around messages of late, more than once. `fields`: those that have nothing to do with messages."""

    def __init__(self, fields: Collection[str]) -> None:
        self._about = frozenset(fields) | {"messages"}
        self._found: OrderedDict[tuple[bytes, bytes], Surroundings] = OrderedDict()
        self._by_start: dict[bytes, list[Surroundings]] = {}
        self._seen: set[int] = set()
        self._noting = Lock()
        """Large requests are read beside the loop. Who only looks needs no lock."""

    def read(self, body: bytes) -> ChatRequest | None:
        """A request that is as one before; None: it has to be read."""
        start = _start(body)
        for each in self._by_start.get(body[:start], ()):
            if body.endswith(each.after):
                return each.around(body[start : len(body) - len(each.after)])
        return None

    def note(self, body: bytes, request: ChatRequest) -> None:
        """Remember how a sound request was written, if not for the first time."""
        if not self._about.issuperset(request.fields):
            return
        written = bytes(request.sent["messages"])
        start = _start(body)
        if len(body) - len(written) > _LONGEST_BYTES or not body.startswith(written, start):
            return
        before, after = body[:start], body[start + len(written) :]
        with self._noting:
            self._note(before, after, request)

    def _note(self, before: bytes, after: bytes, request: ChatRequest) -> None:
        if (before, after) in self._found:  # these messages were not as they usually are
            self._found.move_to_end((before, after))
            return
        mark = hash((before, after))
        if mark not in self._seen:
            if len(self._seen) >= _MOST_SEEN:
                self._seen.clear()
            self._seen.add(mark)
        elif bytes(json.top_level(before + bytes(_NONE) + after)["messages"]) == bytes(_NONE):  # and none within others
            self._keep(Surroundings(before, after, request))

    def _keep(self, made: Surroundings) -> None:
        self._found[made.before, made.after] = made
        self._by_start.setdefault(made.before, []).insert(0, made)
        if len(self._found) > _MOST:
            _, oldest = self._found.popitem(last=False)
            rest = [each for each in self._by_start.pop(oldest.before) if each is not oldest]
            if rest:
                self._by_start[oldest.before] = rest


def _start(body: bytes) -> int:
    """Where the messages seem to begin."""
    start = body.find(_NAME, 0, _LONGEST_BYTES) + len(_NAME)
    return start + 1 if body[start : start + 1] == b" " else start
