"""The driver of the embedded engine: a deployment that answers chats and completions with a llama.cpp server.

Source: ARCHITECTURE D7. OpenAI's semantics are ours (templates, tokens, limits, choices, usage); the engine gets tokens
and gives text.
"""

import asyncio
import re
import secrets
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager

import msgspec
from msgspec import UNSET

from narthex.core.capabilities import Capabilities
from narthex.core.chat import ChatRequest, Sampling
from narthex.core.completions import CompletionRequest
from narthex.core.errors import (
    ContextLengthExceeded,
    EngineUnavailable,
    InvalidRequest,
    NarthexError,
    UnsupportedParameter,
)
from narthex.core.ports import Call, Ensure, Grammars, Opened, Request, Slots, Stream, Surface, Templates
from narthex.core.stream import Frame, UsageReported
from narthex.engine.local.capabilities import BY_SURFACE, chat
from narthex.engine.local.checked import Checks, told, whole
from narthex.engine.local.completion import completed, generated, prompt_tokens
from narthex.engine.local.echo import Echo
from narthex.engine.local.form.request import form_of
from narthex.engine.local.form.thinking import unheeded
from narthex.engine.local.generation import Generation, Job, Owner, Tally, generate
from narthex.engine.local.infill import FillIn
from narthex.engine.local.llama import LlamaServer, Props, engine_seed, is_greedy
from narthex.engine.local.probabilities import Vocabulary
from narthex.engine.local.prompt import Marks, chat_variables
from narthex.engine.local.reading import ANY_TEXT, Form
from narthex.engine.local.scoring import Scorer

_PAUSES_S = (0.05, 0.25)
"""Between attempts to reach an engine that has just ended."""
_TAIL = 64
"""As much of a rendered prompt's end as tells how the answer begins."""
_NEXT_ATTEMPT = 1_000_003
"""Between the seeds of one attempt and the next."""


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What a model's file tells. `template` None: ask the server; `control` matches control tokens, None: unknown;
    `fill_in` None: it can't fill in.
    """

    template: str | None = None
    control: re.Pattern[str] | None = None
    fill_in: FillIn | None = None


class LocalModel(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a model before its engine runs.

    `child`: the name under which the supervisor starts its engine; "" where the engine is somebody else's server.
    `window`: tokens of one request, prompt and answer; 0: ask the server.
    `heeds`: the request fields that its template heeds; None: unknown until a prompt is rendered.
    `facts` reads the model's file; it blocks and is called once.
    """

    name: str
    child: str
    fingerprint: str
    window: int
    heeds: frozenset[str] | None = None
    facts: Callable[[], Facts]


class Prepared(msgspec.Struct, frozen=True, kw_only=True):
    """A request as the engine needs it. `param`: the field that the prompts came from.

    `vocabulary`: where log probabilities or an echo are asked for; `echoes`: one for each prompt, where asked for.
    """

    prompts: Sequence[Sequence[int]]
    param: str
    window: int
    form: Form = ANY_TEXT
    vocabulary: Vocabulary | None = None
    echoes: Sequence[Echo] = ()


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
    ) -> None:
        self._model = model
        self._server = server
        self._slots = slots
        self._templates = templates
        self._grammars = grammars
        self._ensure = ensure
        self._honoured = {**BY_SURFACE, "chat": chat(heeds=model.heeds)}
        self._props: Props | None = None
        self._facts: Facts | None = None
        self._vocabulary_size: int | None = None
        self._vocabulary: Vocabulary | None = None

    @property
    def name(self) -> str:
        """See `Deployment.name`."""
        return f"local/{self._model.name}"

    @property
    def fingerprint(self) -> str | None:
        """See `Deployment.fingerprint`."""
        return self._model.fingerprint

    def capabilities(self, surface: Surface) -> Capabilities | None:
        """See `Deployment.capabilities`."""
        return self._honoured.get(surface)

    def open(self, call: Call) -> Opened:
        """See `Deployment.open`."""
        return self._open(call)

    @asynccontextmanager
    async def _open(self, call: Call) -> AsyncIterator[Stream]:
        ready = await self._prepared(call.request)
        checks = Checks(call.request, self._grammars) if isinstance(call.request, ChatRequest) else None
        if checks is None or not checks.any:
            async with self._attempt(call, ready) as frames:
                yield frames
        elif call.request.stream:  # type: ignore[union-attr]
            async with self._attempt(call, ready) as frames:
                yield checks.watch(frames)
        else:
            yield told(await whole(lambda number: self._attempt(call, ready, number), checks))

    @asynccontextmanager
    async def _attempt(self, call: Call, ready: Prepared, number: int = 0) -> AsyncIterator[Stream]:
        """Generate. A further attempt draws other tokens, the same ones each time that the request is seeded."""
        sampling = generated(call.request)
        jobs = _jobs(sampling, ready, attempt=number)
        scored = bool(ready.echoes) and sampling.logprobs is not None
        tally = Tally(sum(map(len, ready.prompts)), scored=scored)
        owner = Owner(key=call.principal.key.id, account=call.principal.account.id, seeded=sampling.seed is not UNSET)
        generation = Generation(
            self._server,
            self._slots,
            owner=owner,
            sampling=sampling,
            form=ready.form,
            tally=tally,
            vocabulary=ready.vocabulary,
        )
        async with generate(generation, jobs) as frames:
            if isinstance(call.request, CompletionRequest):
                frames = self._completed(frames, call.request, ready, owner=owner)
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
                self._props = None
            raise
        yield Frame.of(UsageReported(tally.usage))

    async def _prepared(self, request: Request) -> Prepared:
        """All that is needed before the first token, from an engine that runs.

        An engine that ended since we last spoke is awaited in its next life. The supervisor may hear of its end later
        than we do, and call it ready once more.
        """
        pauses_s = iter(_PAUSES_S)
        while True:
            try:
                props = await self._ready()
                window = self._model.window or props.window
                if isinstance(request, ChatRequest):
                    return await self._chat(request, props, window=window)
                assert isinstance(request, CompletionRequest)  # noqa: S101 - the router asks for no other surface
                return await self._completion(request, props, window=window)
            except EngineUnavailable:
                self._props = None
                if (pause_s := next(pauses_s, None)) is None:
                    raise
                await asyncio.sleep(pause_s)

    async def _ready(self) -> Props:
        if self._facts is None:
            self._facts = await asyncio.to_thread(self._model.facts)
        if self._props is None:
            if self._model.child:
                await self._ensure(self._model.child)
            self._vocabulary_size = self._vocabulary = None
            self._props = await self._server.props()
        return self._props

    async def _spelled(self, request: ChatRequest | CompletionRequest) -> Vocabulary | None:
        """What the model's tokens spell, where the answer to a request needs it."""
        if generated(request).logprobs is None and not getattr(request, "echo", False):
            return None
        size = await self._known_tokens()
        if not size:
            param = "logprobs" if "logprobs" in request.fields else "echo"
            raise UnsupportedParameter(f"The server of '{request.model}' does not tell its vocabulary.", param=param)
        if self._vocabulary is None:
            self._vocabulary = Vocabulary(await self._server.spell(range(size)))
        return self._vocabulary

    # --- prompts -----------------------------------------------------------------------------------------------------

    async def _completion(self, request: CompletionRequest, props: Props, *, window: int) -> Prepared:
        assert self._facts is not None  # noqa: S101 - `_ready` comes first
        await self._check_ids(request.sampling.logit_bias, param="logit_bias")
        for prompt in request.prompts:
            await self._check_ids(prompt if isinstance(prompt, tuple) else (), param="prompt")
        prompts = await prompt_tokens(request, self._server, props=props, fill_in=self._facts.fill_in)
        vocabulary = await self._spelled(request)
        echoes: Sequence[Echo] = ()
        if request.echo and vocabulary is not None:
            pairs = zip(request.prompts, prompts, strict=True)
            echoes = [Echo.of(prompt, tokens, vocabulary) for prompt, tokens in pairs]
        return Prepared(prompts=prompts, param="prompt", window=window, vocabulary=vocabulary, echoes=echoes)

    async def _chat(self, request: ChatRequest, props: Props, *, window: int) -> Prepared:
        assert self._facts is not None  # noqa: S101 - `_ready` comes first
        await self._check_ids(request.sampling.logit_bias, param="logit_bias")
        template = self._facts.template if self._facts.template is not None else props.chat_template
        if not template:
            message = f"The model '{self._model.name}' has no chat template: use /v1/completions."
            raise InvalidRequest(message, param="messages", code="unsupported_value")
        if (field := unheeded(request.fields, template)) is not None:
            message = f"'{field}' is not supported with the model '{request.model}': its chat template ignores it."
            raise UnsupportedParameter(message, param=field)
        marks = Marks(self._facts.control)
        special = {"bos_token": props.bos_token, "eos_token": props.eos_token}
        variables = chat_variables(request, template, bracket=marks.bracket, special=special)
        rendered = await self._templates.render(template, variables)
        form = await form_of(
            request, template=template, opened=rendered[-_TAIL:], grammars=self._grammars, token_id=self._token_id
        )
        tokens: list[int] = []
        begin = not rendered.startswith(props.bos_token) if props.bos_token else True
        for span in marks.split(rendered):
            tokens += await self._server.tokenize(span.text, control=span.ours, begin=begin)
            begin = False
        vocabulary = await self._spelled(request)
        return Prepared(prompts=[tokens], param="messages", window=window, form=form, vocabulary=vocabulary)

    async def _token_id(self, text: str) -> int | None:
        tokens = await self._server.tokenize(text, control=True, begin=False)
        return tokens[0] if len(tokens) == 1 else None

    async def _check_ids(self, tokens: Collection[int], *, param: str) -> None:
        """Refuse ids of no token (contract Q29); where the server does not tell how many there are, it is the judge."""
        size = await self._known_tokens() if tokens else 0
        if size and max(tokens) >= size:
            known = f"the model '{self._model.name}' has the tokens 0 to {size - 1}, and no {max(tokens)}."
            raise InvalidRequest(f"Invalid '{param}': {known}", param=param, code="invalid_value")

    async def _known_tokens(self) -> int:
        """How many there are; 0: unknown."""
        if self._vocabulary_size is None:
            self._vocabulary_size = await self._server.vocabulary_size()
        return self._vocabulary_size


def _jobs(sampling: Sampling, ready: Prepared, *, attempt: int) -> list[Job]:
    seed = secrets.randbits(31) if sampling.seed is UNSET else engine_seed(sampling.seed)
    repeat = sampling.n if is_greedy(sampling) else 1
    return [
        Job(
            prompt=prompt,
            first=number * sampling.n,
            n=sampling.n // repeat,
            seed=(seed + number * sampling.n + attempt * _NEXT_ATTEMPT) % (2**32 - 1 - 4096),
            max_new=_room(len(prompt), sampling.max_tokens, window=ready.window, param=ready.param),
            repeat=repeat,
        )
        for number, prompt in enumerate(ready.prompts)
    ]


def _room(prompt: int, limit: int | None, *, window: int, param: str) -> int:
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
    return window - prompt if limit is None else limit
