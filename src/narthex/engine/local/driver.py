"""The driver of the embedded engine: a deployment that answers chats and completions with a llama.cpp server.

Source: ARCHITECTURE D7. OpenAI's semantics are ours (templates, tokens, limits, choices, usage); the engine gets tokens
and gives text.
"""

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
from msgspec import UNSET

from narthex.core.capabilities import Capabilities
from narthex.core.chat import ChatRequest, Sampling
from narthex.core.completions import CompletionRequest
from narthex.core.errors import (
    ContextLengthExceeded,
    NarthexError,
)
from narthex.core.memory import BUDGET
from narthex.core.ports import NO_CLOCKS, Call, Ensure, Grammars, Opened, Stream, Surface, Templates
from narthex.core.slots import Slots
from narthex.core.stream import Frame, UsageReported
from narthex.core.tiers import DEFAULT_RANK, rank
from narthex.engine.local.capabilities import honoured
from narthex.engine.local.checked import Checks, told, whole
from narthex.engine.local.completion import chatted, completed, generated
from narthex.engine.local.generation import Generation, Job, Owner, Tally, generate
from narthex.engine.local.lasting import Ends
from narthex.engine.local.llama import SEEDS, LlamaServer, engine_seed, is_greedy
from narthex.engine.local.prediction import Predictions
from narthex.engine.local.preparation import LocalModel, Preparation, Prepared
from narthex.engine.local.probabilities import Vocabulary
from narthex.engine.local.scoring import Scorer

_NEXT_ATTEMPT = 1_000_003
"""Between the seeds of one attempt and the next."""


class LocalDeployment:
    """Answers for one model on one engine. Safe for any number of calls at a time."""

    def __init__(
        self,
        model: LocalModel,
        server: LlamaServer,
        *,
        slots: Slots,
        templates: Templates,
        grammars: Grammars,
        ensure: Ensure,
        predictions: Predictions | None = None,
    ) -> None:
        """`predictions`: who checks them; None: nobody, so they have no effect."""
        self._model = model
        self._server = server
        self._slots = slots
        self._grammars = grammars
        self._preparation = Preparation(model, server, templates=templates, ensure=ensure)
        self._ends = Ends(server, slots)
        self._predictions = predictions
        self._honoured = honoured(heeds=model.heeds, predictions=predictions is not None)

    @property
    def name(self) -> str:
        """See `Deployment.name`."""
        return f"local/{self._model.name}"

    clocks = NO_CLOCKS

    @property
    def fingerprint(self) -> str | None:
        """See `Deployment.fingerprint`."""
        return self._model.fingerprint

    def capabilities(self, surface: Surface) -> Capabilities | None:
        """See `Deployment.capabilities`."""
        return self._honoured.get(surface)

    def continues(self, call: Call) -> bool:
        """See `Deployment.continues`."""
        return True

    def open(self, call: Call) -> Opened:
        """See `Deployment.open`."""
        return self._open(call)

    @asynccontextmanager
    async def _open(self, call: Call) -> AsyncIterator[Stream]:
        request = call.request
        assert isinstance(request, ChatRequest | CompletionRequest)  # noqa: S101 - the router asks for no other surface
        grammars = self._grammars.of(call.principal.key.id)
        ready = await self._preparation.prepare(request, grammars)
        if BUDGET in request.fields:
            call.forget(ready.forgotten)
        for name in ready.unheard:
            call.ignore(name)
        if request.sampling.min_tokens:
            ready = await self._lasting(call, request, ready)
        checks = Checks(request, grammars)
        if request.stream or not checks.any:
            async with self._attempt(call, request, ready, checks=checks) as frames:
                yield frames
        else:
            yield told(await whole(lambda number: self._attempt(call, request, ready, number=number, checks=checks)))

    async def _lasting(self, call: Call, request: ChatRequest | CompletionRequest, ready: Prepared) -> Prepared:
        """The same, for answers of at least so many tokens."""
        known_tokens = await self._preparation.known_tokens()
        grammar = await self._ends.grammar(
            request.sampling, owner=_owner(call, request), known_tokens=known_tokens, room=ready.window
        )
        return msgspec.structs.replace(ready, form=msgspec.structs.replace(ready.form, grammar=grammar))

    @asynccontextmanager
    async def _attempt(
        self, call: Call, request: ChatRequest | CompletionRequest, ready: Prepared, *, number: int = 0, checks: Checks
    ) -> AsyncIterator[Stream]:
        """Generate. A further attempt draws other tokens, the same ones each time that the request is seeded."""
        sampling = generated(request)
        jobs = _jobs(sampling, ready, attempt=number)
        scored = bool(ready.echoes) and sampling.logprobs is not None
        tally = Tally(sum(map(len, ready.prompts)), scored=scored, begun=ready.begun)
        owner = _owner(call, request)
        generation = Generation(
            self._server,
            self._slots,
            owner=owner,
            sampling=sampling,
            form=ready.form,
            tally=tally,
            vocabulary=ready.vocabulary,
            predictions=self._predictions,
        )
        async with generate(generation, jobs) as frames:
            if checks.any:
                frames = checks.watch(frames)
            if isinstance(request, CompletionRequest):
                frames = self._completed(frames, request, ready, owner=owner)
            else:
                frames = chatted(frames, request)
            yield self._watched(frames, tally)

    def _completed(
        self, frames: AsyncIterator[Frame], request: CompletionRequest, ready: Prepared, *, owner: Owner
    ) -> AsyncIterator[Frame]:
        scorer = Scorer(
            self._server,
            self._slots,
            owner=owner,
            vocabulary=ready.vocabulary or Vocabulary(()),
            rivals=request.sampling.logprobs or 0,
        )
        return completed(frames, request, prompts=ready.prompts, echoes=ready.echoes, score=scorer.score)

    async def _watched(self, frames: AsyncIterator[Frame], tally: Tally) -> AsyncIterator[Frame]:
        """The frames, and the usage after them. After a fault the engine is asked anew what it is."""
        try:
            async for frame in frames:
                yield frame
        except NarthexError as error:
            if error.status >= 500:
                self._preparation.forget()
                self._ends.forget()
            raise
        yield Frame.of(UsageReported(tally.usage))


def _owner(call: Call, request: ChatRequest | CompletionRequest) -> Owner:
    key, account = call.principal.key, call.principal.account
    turn = rank(request.service_tier) if isinstance(request, ChatRequest) else DEFAULT_RANK
    return Owner(key=key.id, account=account.id, seeded=request.sampling.seed is not UNSET, rank=turn)


def _jobs(sampling: Sampling, ready: Prepared, *, attempt: int) -> list[Job]:
    limit = sampling.max_tokens
    if limit is not None and ready.begun:  # the prompt has grown by what was taken off the limit, or a little more
        limit = min(limit, max(0, ready.window - len(ready.prompts[0])))
    seed = secrets.randbits(31) if sampling.seed is UNSET else engine_seed(sampling.seed)
    repeat = sampling.n if is_greedy(sampling) else 1
    return [
        Job(
            prompt=prompt,
            first=number * sampling.n,
            n=sampling.n // repeat,
            seed=(seed + number * sampling.n + attempt * _NEXT_ATTEMPT) % SEEDS,
            max_new=_room(len(prompt), limit, at_most=sampling.at_most, window=ready.window, param=ready.param),
            repeat=repeat,
            predicted=ready.predicted,
        )
        for number, prompt in enumerate(ready.prompts)
    ]


def _room(prompt: int, limit: int | None, *, at_most: int | None, window: int, param: str) -> int:
    """How many tokens may be generated.

    Raises:
        ContextLengthExceeded: prompt and limit together pass the window.
    """
    if prompt >= window:
        raise ContextLengthExceeded(
            f"This model's maximum context length is {window} tokens. However, your prompt has {prompt} tokens.",
            param=param,
        )
    if limit is not None and prompt + limit > window:
        message = (
            f"This model's maximum context length is {window} tokens. However, you requested {prompt + limit} tokens "
            f"({prompt} in the prompt, {limit} in the completion)."
        )
        raise ContextLengthExceeded(message, param=param)
    return limit if limit is not None else min(window - prompt, at_most or window)
