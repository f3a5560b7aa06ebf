"""Chats over documents: what is found goes into the prompt, as much of it as the model can read.

Source: contract sections 3.2, 3.7 and 11. Rule: whether documents are searched is the caller's to say, and never the
model's.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import msgspec
import structlog

from narthex.core.chat import ChatRequest, ImagePart, Message, TextPart
from narthex.core.errors import ContextLengthExceeded, InvalidRequest, NarthexError
from narthex.core.grounding import Grounded, Wanted, approximate_tokens, filled
from narthex.core.ports import Call, Handler, Opened, Stream
from narthex.dialects.thyris import with_messages
from narthex.policy.auth import authorize
from narthex.retrieval.grounding import budget, ground, with_fewer
from narthex.retrieval.library import Library, Question

log = structlog.get_logger(__name__)

SURFACE = "documents"
CHARACTERS_PER_TOKEN = 4
"""An input of more characters than this times the model's window never fits (contract 3.8)."""


class Retrieving:
    """A handler before another one. `window`: tokens that a model of a public name reads; 0 where nobody knows."""

    def __init__(self, library: Library, *, handler: Handler, window: Callable[[str], int]) -> None:
        self._library = library
        self._handler = handler
        self._window = window

    def open(self, call: Call) -> Opened:
        """See `Handler`.

        Raises:
            PermissionDenied: documents are not granted.
            NotFound: there is no such collection.
            InvalidRequest: the input is longer than the model takes.
        """
        request = call.request
        assert isinstance(request, ChatRequest)  # noqa: S101 - no other surface has documents
        window = self._window(request.model)
        _refuse_longer(request, window)
        if request.documents is None:
            return self._handler(call)
        return self._grounded(call, request, request.documents, window)

    @asynccontextmanager
    async def _grounded(self, call: Call, request: ChatRequest, wanted: Wanted, window: int) -> AsyncIterator[Stream]:
        authorize(call.principal, surface=SURFACE)
        question = Question(text=wanted.question, n=wanted.n, documents=wanted.documents)
        retrieved = await self._library.retrieve(call.principal, wanted.collection, question)
        room = budget(wanted, window=window, others=_others(request, wanted))
        grounded = ground(wanted, retrieved, room=room)
        async with AsyncExitStack() as stack:
            yield await self._opened(stack, call, request, grounded)

    async def _opened(self, stack: AsyncExitStack, call: Call, request: ChatRequest, grounded: Grounded) -> Stream:
        """With as much context as the model takes: how many tokens that is, only the model knows exactly."""
        while True:
            _put(call, request, grounded)
            try:
                frames = await stack.enter_async_context(self._handler(call))
            except NarthexError as error:
                if error.code != ContextLengthExceeded.default_code or len(grounded.hits) <= 1:
                    raise
                grounded = with_fewer(grounded)
                continue
            if out := sum(left.why == "token_budget" for left in grounded.left):
                log.info("context was cut", collection=grounded.collection.id, chunks=len(grounded.hits), left=out)
            return frames


def _put(call: Call, request: ChatRequest, grounded: Grounded) -> None:
    """Make the call one with this context in its last message."""
    assert request.documents is not None  # noqa: S101 - whoever calls has looked
    prompt = filled(request.documents.prompt, context=grounded.context, user_input=request.documents.question)
    *before, last = request.messages
    call.request = with_messages(request, (*before, _saying(last, prompt)))
    call.grounded = grounded


def _saying(message: Message, text: str) -> Message:
    if not isinstance(message.content, tuple):
        return msgspec.structs.replace(message, content=text)
    images = tuple(part for part in message.content if isinstance(part, ImagePart))
    return msgspec.structs.replace(message, content=(TextPart(text), *images))


def _others(request: ChatRequest, wanted: Wanted) -> int:
    """Tokens of the prompt without its context, about."""
    prompt = filled(wanted.prompt, context="", user_input=wanted.question)
    texts = [message.text for message in request.messages[:-1]]
    return sum(map(approximate_tokens, [*texts, prompt])) + _FORM * len(request.messages)


_FORM = 8
"""Tokens that a chat template puts around a message, about."""


def _refuse_longer(request: ChatRequest, window: int) -> None:
    most = CHARACTERS_PER_TOKEN * window
    length = len(request.messages[-1].text)
    if window and length > most:
        message = f"Invalid 'input': the model '{request.model}' takes at most {most} characters, but got {length}."
        raise InvalidRequest(message, param="input", code="string_above_max_length")
