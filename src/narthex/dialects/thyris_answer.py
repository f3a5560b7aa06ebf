"""`/api/chat`: writing answers, whole and as a stream. Source: contract sections 3.4 and 11.

A stream is `{"message": "<more text>"}` for each piece, then the answer's other members in one event with
`"done": true`; after the first event an error is `{"error": "<text>"}`, and nothing follows.
"""

import re
import time
from collections.abc import Sequence
from typing import Any

from narthex.core.chat import ChatRequest, ImagePart
from narthex.core.errors import NarthexError
from narthex.core.fold import folded
from narthex.core.grounding import Grounded, approximate_tokens
from narthex.core.ports import Call
from narthex.core.stream import ChoiceFinished, FinishReason, Frame, OrderCheck, RefusalDelta, TextDelta, Usage
from narthex.dialects.thyris_documents import citation_object, left_object, rfc3339, store_usage
from narthex.dialects.thyris_errors import error_body
from narthex.wire import sse
from narthex.wire.json import encode

APPROXIMATE_IMAGE_TOKENS = 1000
"""Nobody knows before a model has seen an image; most count some hundreds up to two thousand."""

_MARK = re.compile(r"\[(\d{1,4})\]")
_WHY_CUT: dict[FinishReason, str] = {
    "length": "The answer was cut off: the model's window is full, or its limit of an answer's length was reached.",
    "content_filter": "The answer was cut off by a content filter.",
}


def encode_answer(call: Call, frames: Sequence[Frame], *, created: int) -> bytes:
    """One answer object. Raises `OutOfOrder` when the frames are no complete answer."""
    fold = folded(frames)
    choice = fold.choices[0]
    text = "".join(choice.text) or "".join(choice.refusal)
    told = _rest(call, text, created=created, usage=fold.usage, finished=choice.finish_reason)
    return encode({"model": told.pop("model"), "created_at": told.pop("created_at"), "message": text} | told)


class NativeStream:
    """Writes the events of one answer."""

    def __init__(self, call: Call, *, created: int) -> None:
        self._call = call
        self._created = created
        self._order = OrderCheck()
        self._pieces: list[str] = []
        self._usage: Usage | None = None
        self._finished: FinishReason = "stop"

    def encode(self, frame: Frame) -> bytes:
        """The events of a frame."""
        self._usage = frame.usage or self._usage
        self._order.feed(frame.events)
        written = []
        for event in frame.events:
            if isinstance(event, TextDelta | RefusalDelta) and event.text:
                self._pieces.append(event.text)
                written.append(sse.encode(encode({"message": event.text})))
            elif isinstance(event, ChoiceFinished):
                self._finished = event.reason
        return b"".join(written)

    def alike(self, frame: Frame) -> None:
        """See `StreamEncoder`: nothing is written as it came."""

    def end(self) -> bytes:
        """What there is to tell besides the text."""
        self._order.end()
        text = "".join(self._pieces)
        rest = _rest(self._call, text, created=self._created, usage=self._usage, finished=self._finished)
        return sse.encode(encode({"done": True} | rest))

    def error(self, error: NarthexError) -> bytes:
        """The error as an event; nothing follows it."""
        return sse.encode(error_body(error))


def _rest(call: Call, text: str, *, created: int, usage: Usage | None, finished: FinishReason) -> dict[str, Any]:
    """All of an answer but its text."""
    grounded = call.grounded
    warnings = list(grounded.warnings) if grounded is not None else []
    if (why := _WHY_CUT.get(finished)) is not None:
        warnings.append(why)
    if grounded is not None:
        warnings += _unknown_marks(text, grounded)
    rest: dict[str, Any] = {
        "model": call.request.model,
        "created_at": rfc3339(created),
        "sources": list(grounded.sources) if grounded is not None else [],
        "usage": _usage(call, usage or Usage(prompt_tokens=0)),
        "citations": _citations(grounded) if grounded is not None else [],
        "warnings": warnings,
    }
    if grounded is not None and grounded.explain:
        rest["explain"] = _explained(grounded)
    return rest


def _unknown_marks(text: str, grounded: Grounded) -> list[str]:
    """A mark that stands in what the model was given may be quoted from there; any other it made up."""
    known = {str(block.number) for block in grounded.blocks}
    given = grounded.context
    unknown = dict.fromkeys(mark for mark in _MARK.findall(text) if mark not in known and f"[{mark}]" not in given)
    return [f"The answer refers to [{mark}], which the model was not given." for mark in unknown]


def _usage(call: Call, used: Usage) -> dict[str, Any]:
    grounded, request = call.grounded, call.request
    assert isinstance(request, ChatRequest)  # noqa: S101 - the surface decides the type
    elapsed_ms = round((time.monotonic() - call.started_s) * 1000)
    return {
        "apiKeyID": call.principal.key.id,
        "chatModel": call.deployment or request.model,
        "embeddingModel": grounded.collection.model.name if grounded is not None else None,
        "inference": {
            "approxTextInputTokens": _approximate_input(request),
            "approxImageInputTokens": APPROXIMATE_IMAGE_TOKENS * sum(map(_images, request.messages)),
            "approxContextTokens": grounded.context_tokens if grounded is not None else 0,
            "approxSystemTokens": sum(
                approximate_tokens(message.text) for message in request.messages if message.role == "system"
            ),
            "inputTokens": used.prompt_tokens,
            "outputTokens": used.completion_tokens,
            "duration": max(0, elapsed_ms - (grounded.duration_ms if grounded is not None else 0)),
        },
        "documentStore": _store(grounded) if grounded is not None else None,
    }


def _approximate_input(request: ChatRequest) -> int:
    """Of the input itself and the history, without the context that was put around it."""
    *history, last = (message for message in request.messages if message.role != "system")
    question = request.documents.question if request.documents is not None else last.text
    return sum(approximate_tokens(message.text) for message in history) + approximate_tokens(question)


def _images(message: Any) -> int:
    content = message.content
    return sum(isinstance(part, ImagePart) for part in content) if isinstance(content, tuple) else 0


def _store(grounded: Grounded) -> dict[str, int]:
    return store_usage(
        tokens=grounded.tokens,
        chunks=len(grounded.hits),
        chunk_size_sum=sum(len(hit.chunk.text) for hit in grounded.hits),
        duration_ms=grounded.duration_ms,
    )


def _citations(grounded: Grounded) -> list[dict[str, Any]]:
    """Best first; `number` is that of the block in the context in which the model read it."""
    numbers = {(hit.document_key, hit.index): block.number for block in grounded.blocks for hit in block.hits}
    return [citation_object(hit, block=numbers[hit.document_key, hit.index]) for hit in grounded.hits]


def _explained(grounded: Grounded) -> dict[str, Any]:
    collection = grounded.collection
    return {
        "retrieval": collection.retrieval,
        "weight": collection.weight,
        "words": grounded.words,
        "left": [left_object(each) for each in grounded.left],
        "tokenBudget": grounded.budget,
        "contextTokens": grounded.context_tokens,
        "context": grounded.context,
    }
