"""What is special of text completions on this engine: prompts in four forms, fill-in, `echo` and `best_of`.

Source: contract sections 1.6, 7.1 and 11.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import msgspec

from narthex.core.chat import ChatRequest, Sampling
from narthex.core.completions import DEFAULT_PROMPT, CompletionRequest, Prompt
from narthex.core.errors import UnsupportedParameter
from narthex.core.stream import Frame, TokenLogprob
from narthex.engine.local.echo import Echo, Told, echoed
from narthex.engine.local.infill import FillIn
from narthex.engine.local.llama import LlamaServer, Props
from narthex.engine.local.ranking import ranked

Score = Callable[[Sequence[int], Sequence[bytes]], Awaitable[tuple[TokenLogprob, ...]]]
"""See `Scorer.score`."""


async def prompt_tokens(
    request: CompletionRequest, server: LlamaServer, *, props: Props, fill_in: FillIn | None
) -> list[Sequence[int]]:
    """The prompts as the engine takes them.

    Raises:
        UnsupportedParameter: the model can't fill in, or is to repeat what it filled in.
    """
    if all(isinstance(prompt, tuple) for prompt in request.prompts):
        await server.props()  # nothing else would tell that the engine is gone before we count on it
    if not request.suffix:
        begin = request.fields.get("add_special_tokens", True)
        return [await _tokens(prompt, server, props, begin=begin) for prompt in request.prompts]
    if fill_in is None:
        message = f"'suffix' is not supported with the model '{request.model}': it was not trained to fill in."
        raise UnsupportedParameter(message, param="suffix")
    if request.echo:
        message = "'echo' can't be used with 'suffix'."
        raise UnsupportedParameter(message, param="echo", code="unsupported_value")
    begin = await server.tokenize("", control=False, begin=True)
    after = await server.tokenize(request.suffix, control=False, begin=False)
    return [fill_in.prompt(begin, await _plain(prompt, server), after) for prompt in request.prompts]


async def _tokens(prompt: Prompt, server: LlamaServer, props: Props, *, begin: bool) -> Sequence[int]:
    """Text as plain text, with what the model begins a text by or without; token ids as they are; nothing as the
    beginning of a new text.
    """
    if isinstance(prompt, tuple):
        return prompt
    if prompt in {"", DEFAULT_PROMPT}:
        tokens = await server.tokenize(DEFAULT_PROMPT, control=True, begin=False)
        if len(tokens) == 1:
            return tokens
        return await server.tokenize(props.bos_token or props.eos_token, control=True, begin=False)
    return await server.tokenize(prompt, control=False, begin=begin)


async def _plain(prompt: Prompt, server: LlamaServer) -> Sequence[int]:
    """What stands before the text to fill in."""
    if isinstance(prompt, tuple):
        return prompt
    return await server.tokenize("" if prompt == DEFAULT_PROMPT else prompt, control=False, begin=False)


def is_ranked(request: ChatRequest | CompletionRequest) -> bool:
    """Whether the caller asked for the best of several candidates."""
    return (request.fields.get("best_of") or 1) > 1


def generated(request: ChatRequest | CompletionRequest) -> Sampling:
    """How the engine is to sample: every candidate, with log probabilities where they are needed to choose."""
    sampling = request.sampling
    if not is_ranked(request):
        return sampling
    logprobs = 0 if sampling.logprobs is None else sampling.logprobs
    return msgspec.structs.replace(sampling, n=request.best_of, logprobs=logprobs)


def chatted(frames: AsyncIterator[Frame], request: ChatRequest) -> AsyncIterator[Frame]:
    """The frames of a chat's answer, from those of all that is generated: the best, behind what they go on from."""
    sampling = request.sampling
    if is_ranked(request):
        frames = ranked(frames, candidates=request.best_of, n=sampling.n, logprobs=sampling.logprobs is not None)
    last = request.messages[-1]
    if request.fields.get("echo") and last.role == "assistant" and last.text:
        frames = echoed(frames, [Told(last.text)], n=sampling.n)
    return frames


async def completed(
    frames: AsyncIterator[Frame],
    request: CompletionRequest,
    *,
    prompts: Sequence[Sequence[int]],
    echoes: Sequence[Echo],
    score: Score,
) -> AsyncIterator[Frame]:
    """The frames of the answer, from those of all that is generated. Prompts are scored before anything is."""
    asked = request.sampling.logprobs is not None
    if is_ranked(request):
        frames = ranked(frames, candidates=request.best_of, n=request.sampling.n, logprobs=asked)
    if request.echo:
        told = [
            Told(echo.text, await score(prompt, echo.pieces) if asked else None)
            for prompt, echo in zip(prompts, echoes, strict=True)
        ]
        frames = echoed(frames, told, n=request.sampling.n)
    async for frame in frames:
        yield frame
