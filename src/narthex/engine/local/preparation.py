"""What a request needs before its first token: its prompts as tokens and the form of its answer, from an engine that
runs.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any

import msgspec

from narthex.core.chat import ChatRequest
from narthex.core.completions import CompletionRequest
from narthex.core.errors import EngineUnavailable, InvalidRequest, UnsupportedParameter
from narthex.core.memory import BUDGET
from narthex.core.ports import Ensure, Grammars, Templates
from narthex.core.templates import TEMPLATE
from narthex.engine.local import steering
from narthex.engine.local.budget import within
from narthex.engine.local.completion import generated, prompt_tokens
from narthex.engine.local.echo import Echo
from narthex.engine.local.form.request import check_sizes, completion_form, form_of
from narthex.engine.local.form.thinking import answer_begins
from narthex.engine.local.infill import FillIn
from narthex.engine.local.llama import LlamaServer, Props
from narthex.engine.local.prediction import can_be_checked, predicted_text
from narthex.engine.local.probabilities import Vocabulary
from narthex.engine.local.prompt import Marks, Span, chat_variables
from narthex.engine.local.reading import ANY_TEXT, Form

_PAUSES_S = (0.05, 0.25)
"""Between attempts to reach an engine that has just ended."""
_TAIL = 64
"""As much of a rendered prompt's end as tells how the answer begins."""
_MOST_PER_TOKEN = 64
"""Characters: of what a caller's own template makes, and of a prediction, more than so many for each token of the
window are not looked at."""


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
    `heeds`: the request fields that some models honour and this one does; None: unknown until its server is asked.
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

    `begun`: how many tokens at the prompt's end are the answer's beginning.
    `predicted`: what the answer is expected to be, as tokens; nothing where that can't be checked.
    `vocabulary`: where log probabilities or an echo are asked for; `echoes`: one for each prompt, where asked for.
    `forgotten`: how many messages are not in the prompt, as the request asked for.
    `unheard`: what the template has no place for.
    """

    prompts: Sequence[Sequence[int]]
    param: str
    window: int
    form: Form = ANY_TEXT
    vocabulary: Vocabulary | None = None
    echoes: Sequence[Echo] = ()
    begun: int = 0
    forgotten: int = 0
    predicted: Sequence[int] = ()
    unheard: Sequence[str] = ()

    @property
    def count(self) -> int:
        """Tokens of a chat's prompt."""
        return len(self.prompts[0]) - self.begun


async def _dropped(rendered: str, nameless: Awaitable[str]) -> Sequence[str]:
    """What a template drops: names, where it makes the same of a conversation in which nobody is named."""
    try:
        return (steering.NAMES,) if await nameless == rendered else ()
    except InvalidRequest:  # it wants names
        return ()


def _check_end(request: ChatRequest | CompletionRequest, form: Form) -> None:
    """Refuse to put off an end that comes by itself.

    A form comes to an end, where nothing but the end can be chosen; and the engine looks for stop strings all along.
    """
    sampling = request.sampling
    for name, asked in (("ignore_eos", sampling.ignore_eos), ("min_tokens", sampling.min_tokens > 0)):
        if asked and form.grammar:
            message = f"'{name}' can't be used with tools, nor where the answer has to have a form."
            raise InvalidRequest(message, param=name, code="unsupported_value")
    if sampling.min_tokens and sampling.stop:
        message = "'min_tokens' can't be used with 'stop'; it can with 'stop_token_ids'."
        raise InvalidRequest(message, param="min_tokens", code="unsupported_value")


class Preparation:
    """Prepares the requests to one model. What it asked an engine once it keeps until `forget`."""

    def __init__(self, model: LocalModel, server: LlamaServer, *, templates: Templates, ensure: Ensure) -> None:
        self._model = model
        self._server = server
        self._templates = templates
        self._ensure = ensure
        self._facts: Facts | None = None
        self._props: Props | None = None
        self._vocabulary_size: int | None = None
        self._vocabulary: Vocabulary | None = None
        self._token_ids: dict[str, int | None] = {}

    def forget(self) -> None:
        """The engine failed: ask anew what it is."""
        self._props = None

    async def prepare(self, request: ChatRequest | CompletionRequest, grammars: Grammars) -> Prepared:
        """All that is needed before the first token, from an engine that runs. `grammars`: of whoever asks.

        An engine that ended since we last spoke is awaited in its next life. The supervisor may hear of its end later
        than we do, and call it ready once more.

        Raises:
            RequestError: the model can't answer this.
            EngineError: the engine does not run.
        """
        pauses_s = iter(_PAUSES_S)
        while True:
            try:
                props = await self._ready()
                window = self._model.window or props.window
                if isinstance(request, ChatRequest):
                    chat = await self._within_budget(request, props, grammars, window=window)
                    ready = await self._predicted(request, chat)
                else:
                    ready = await self._completion(request, props, grammars, window=window)
                _check_end(request, ready.form)
                return ready
            except EngineUnavailable:
                self.forget()
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
            self._token_ids.clear()
            self._props = await self._server.props()
        return self._props

    async def _spelled(self, request: ChatRequest | CompletionRequest) -> Vocabulary | None:
        """What the model's tokens spell, where the answer to a request needs it."""
        if generated(request).logprobs is None and not getattr(request, "echo", False):
            return None
        size = await self.known_tokens()
        if not size:
            param = "logprobs" if "logprobs" in request.fields else "echo"
            raise UnsupportedParameter(f"The server of '{request.model}' does not tell its vocabulary.", param=param)
        if self._vocabulary is None:
            self._vocabulary = Vocabulary(await self._server.spell(range(size)))
        return self._vocabulary

    # --- prompts -----------------------------------------------------------------------------------------------------

    async def _completion(
        self, request: CompletionRequest, props: Props, grammars: Grammars, *, window: int
    ) -> Prepared:
        assert self._facts is not None  # noqa: S101 - `_ready` comes first
        await self._check_sampled(request)
        for prompt in request.prompts:
            await self._check_ids(prompt if isinstance(prompt, tuple) else (), param="prompt")
        prompts = await prompt_tokens(request, self._server, props=props, fill_in=self._facts.fill_in)
        if request.begun:
            return await self._completion_begun(request, prompts, window=window)
        form = await completion_form(request, grammars)
        vocabulary = await self._spelled(request)
        echoes: Sequence[Echo] = ()
        if request.echo and vocabulary is not None:
            pairs = zip(request.prompts, prompts, strict=True)
            echoes = [Echo.of(prompt, tokens, vocabulary) for prompt, tokens in pairs]
        return Prepared(prompts=prompts, param="prompt", window=window, form=form, vocabulary=vocabulary, echoes=echoes)

    async def _completion_begun(
        self, request: CompletionRequest, prompts: Sequence[Sequence[int]], *, window: int
    ) -> Prepared:
        begin = request.fields.get("add_special_tokens", True)
        grown = await self._server.tokenize(f"{request.prompts[0]}{request.begun}", control=False, begin=begin)
        begun = max(0, len(grown) - len(prompts[0]))
        return Prepared(prompts=[grown], param="prompt", window=window, begun=begun)

    async def _within_budget(self, request: ChatRequest, props: Props, grammars: Grammars, *, window: int) -> Prepared:
        budget = request.fields.get(BUDGET)
        if budget is None:
            return await self._chat(request, props, grammars, window=window)
        ready, number = await within(request, budget, lambda fewer: self._chat(fewer, props, grammars, window=window))
        return msgspec.structs.replace(ready, forgotten=request.forgotten + number)

    async def _chat(self, request: ChatRequest, props: Props, grammars: Grammars, *, window: int) -> Prepared:
        await self._check_sampled(request)
        check_sizes(request)
        template = self._template(request, props)
        steering.check_heeded(request.fields, template, model=request.model)
        marks = Marks(self._facts.control if self._facts is not None else None)
        going_on = steering.continued(request)
        special = {"bos_token": props.bos_token, "eos_token": props.eos_token}
        variables = chat_variables(going_on.request, template, bracket=marks.bracket, special=special)
        rendered = await self._rendered(request, template, variables, window=window)
        unheard: Sequence[str] = ()
        if steering.are_named(request.messages):
            nameless = self._rendered(request, template, steering.without_names(variables), window=window)
            unheard = await _dropped(rendered, nameless)
        begin = not (props.bos_token and rendered.startswith(props.bos_token))
        begin = request.fields.get("add_special_tokens", begin)
        opened, begun = rendered[-_TAIL:], 0
        tokens = await self._tokens(marks.split(rendered), begin=begin) if request.begun or not going_on.begun else []
        if going_on.begun:
            grown = rendered + answer_begins(template, opened) + marks.bracket(going_on.begun)
            whole = await self._tokens(marks.split(grown), begin=begin)
            begun = max(0, len(whole) - len(tokens)) if request.begun else 0
            tokens = whole
        form = await form_of(
            request,
            template=template,
            opened=None if going_on.begun else opened,
            grammars=grammars,
            token_id=self._token_id,
        )
        vocabulary = await self._spelled(request)
        return Prepared(
            prompts=[tokens],
            param="messages",
            window=window,
            form=form,
            vocabulary=vocabulary,
            begun=begun,
            unheard=unheard,
        )

    async def _rendered(self, request: ChatRequest, template: str, variables: Mapping[str, Any], *, window: int) -> str:
        if TEMPLATE not in request.fields:
            return await self._templates.render(template, variables)
        return await self._templates.render_brought(template, variables, most_chars=window * _MOST_PER_TOKEN)

    async def _predicted(self, request: ChatRequest, ready: Prepared) -> Prepared:
        """With as much of its prediction as can come true: what is beyond the window would only take memory."""
        text = predicted_text(request.fields)[: ready.window * _MOST_PER_TOKEN]
        if not text or not can_be_checked(generated(request), ready.form):
            return ready
        tokens = await self._server.tokenize(text, control=False, begin=False)
        return msgspec.structs.replace(ready, predicted=tokens[: ready.window])

    def _template(self, request: ChatRequest, props: Props) -> str:
        """The caller's template, or the model's own."""
        brought: str | None = request.fields.get(TEMPLATE)
        if brought is not None:
            return brought
        facts = self._facts
        template = props.chat_template if facts is None or facts.template is None else facts.template
        if not template:
            ways = "use /v1/completions, or send a 'chat_template' to a model that is trusted with it."
            message = f"The model '{self._model.name}' has no chat template: {ways}"
            raise InvalidRequest(message, param="messages", code="unsupported_value")
        return template

    async def _tokens(self, spans: Sequence[Span], *, begin: bool) -> list[int]:
        """Those of a rendered text; `begin`: with the token of a beginning before it."""
        tokens: list[int] = []
        for span in spans:
            tokens += await self._server.tokenize(span.text, control=span.ours, begin=begin)
            begin = False
        return tokens

    async def _token_id(self, text: str) -> int | None:
        if text not in self._token_ids:
            tokens = await self._server.tokenize(text, control=True, begin=False)
            self._token_ids[text] = tokens[0] if len(tokens) == 1 else None
        return self._token_ids[text]

    async def _check_sampled(self, request: ChatRequest | CompletionRequest) -> None:
        await self._check_ids(request.sampling.logit_bias, param="logit_bias")
        await self._check_ids(request.sampling.stop_token_ids, param="stop_token_ids")

    async def _check_ids(self, tokens: Collection[int], *, param: str) -> None:
        """Refuse ids of no token (contract Q29); where the server does not tell how many there are, it is the judge."""
        size = await self.known_tokens() if tokens else 0
        if size and max(tokens) >= size:
            known = f"the model '{self._model.name}' has the tokens 0 to {size - 1}, and no {max(tokens)}."
            raise InvalidRequest(f"Invalid '{param}': {known}", param=param, code="invalid_value")

    async def known_tokens(self) -> int:
        """How many there are; 0: unknown."""
        if self._vocabulary_size is None:
            self._vocabulary_size = await self._server.vocabulary_size()
        return self._vocabulary_size
