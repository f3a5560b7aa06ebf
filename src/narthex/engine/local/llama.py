"""What llama.cpp's server says and hears, as far as we use it: `/props`, `/v1/models`, `/tokenize`, `/completion`.

Source: llama.cpp, tools/server/README.md. Any such server can stand in for our own child.
"""

import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from msgspec import UNSET

from narthex.core.chat import Sampling
from narthex.core.errors import (
    ContextLengthExceeded,
    EngineCrashed,
    EngineStarting,
    EngineUnavailable,
    InvalidRequest,
    NarthexError,
    RequestError,
    UpstreamError,
)
from narthex.core.ports import Exchange, Send
from narthex.wire.json import encode
from narthex.wire.sse import SseDecoder

_FORCED = 30_000
"""Added to a logit to force its token: more than penalties can take away again in the longest text."""
SEEDS = 2**32 - 1 - 4096
"""Seeds of the engine in use: below its "random" mark by more than any request's number of choices."""


class Fault(msgspec.Struct, frozen=True):
    """An error as the engine words it."""

    code: int = 500
    message: str = ""
    type: str = ""


class _Failed(msgspec.Struct, frozen=True):
    error: Fault = Fault()


class Timings(msgspec.Struct, frozen=True):
    """Of a finished choice: `cache_n` prompt tokens came from the prefix cache."""

    cache_n: int = 0


class Rival(msgspec.Struct, frozen=True):
    """A token that could have been chosen. Control tokens have no bytes, unless they were asked for as text."""

    id: int
    bytes_: tuple[int, ...] = msgspec.field(name="bytes", default=())
    logprob: float | None = None


class Chosen(Rival, frozen=True):
    """The token that was chosen. Its bytes are those of the text that came with it, so not always its own."""

    top_logprobs: tuple[Rival, ...] = ()


class _Biased(msgspec.Struct, frozen=True):
    token: int


class _Asked(msgspec.Struct, frozen=True):
    logit_bias: tuple[_Biased, ...] = ()


class Piece(msgspec.Struct, frozen=True):
    """One event of a `/completion` stream: more text of a choice, or its end (`stop`)."""

    index: int = 0
    content: str = ""
    tokens: tuple[int, ...] = ()
    stop: bool = False
    stop_type: str = ""
    stopping_word: str = ""
    tokens_predicted: int = 0
    id_slot: int = -1
    timings: Timings = Timings()
    accepted: int = 0
    rejected: int = 0
    """Tokens of a prediction, which only a process of ours checks."""
    completion_probabilities: tuple[Chosen, ...] = ()
    prompt_progress: dict[str, int] | None = None
    generation_settings: msgspec.Raw = msgspec.Raw(b"{}")
    error: Fault | None = None


class _Generation(msgspec.Struct, frozen=True):
    n_ctx: int = 0


class Props(msgspec.Struct, frozen=True):
    """What a server tells of itself. `window` is the context of one slot, in tokens."""

    default_generation_settings: _Generation = _Generation()
    total_slots: int = 1
    chat_template: str = ""
    bos_token: str = ""
    eos_token: str = ""
    model_path: str = ""
    build_info: str = ""

    @property
    def window(self) -> int:
        """Tokens that one request may hold, prompt and answer together."""
        return self.default_generation_settings.n_ctx


class _Text(msgspec.Struct, frozen=True):
    content: str


class _Vector(msgspec.Struct, frozen=True):
    embedding: list[float]


class _Vectors(msgspec.Struct, frozen=True):
    data: list[_Vector]


class _Tokens(msgspec.Struct, frozen=True):
    tokens: list[int]


class _Meta(msgspec.Struct, frozen=True):
    n_vocab: int = 0


class _Model(msgspec.Struct, frozen=True):
    meta: _Meta | None = None


class _Models(msgspec.Struct, frozen=True):
    data: list[_Model] = []


class _Spelled(msgspec.Struct, frozen=True):
    piece: str | list[int]


class _Pieces(msgspec.Struct, frozen=True):
    tokens: list[_Spelled]


_piece = msgspec.json.Decoder(Piece)
_props = msgspec.json.Decoder(Props)
_vectors = msgspec.json.Decoder(_Vectors)
_tokens = msgspec.json.Decoder(_Tokens)
_models = msgspec.json.Decoder(_Models)
_pieces_of = msgspec.json.Decoder(_Pieces)
_text = msgspec.json.Decoder(_Text)
_failed = msgspec.json.Decoder(_Failed)
_asked = msgspec.json.Decoder(_Asked)


class LlamaServer:
    """Calls to one llama.cpp server."""

    def __init__(self, send: Send) -> None:
        self._send = send

    async def props(self) -> Props:
        """What the server serves."""
        async with self._answer("GET", "/props", None) as answer:
            return _props.decode(await answer.read())

    async def tokenize(self, text: str, *, control: bool, begin: bool) -> list[int]:
        """Token ids of a text. `control`: control tokens in it count; `begin`: with what the model begins a text by."""
        body = encode({"content": text, "add_special": begin, "parse_special": control})
        async with self._answer("POST", "/tokenize", body) as answer:
            return _tokens.decode(await answer.read()).tokens

    async def vocabulary_size(self) -> int:
        """How many tokens the model knows; 0 where the server does not tell."""
        try:
            async with self._answer("GET", "/v1/models", None) as answer:
                models = _models.decode(await answer.read()).data
        except RequestError:
            return 0
        return models[0].meta.n_vocab if models and models[0].meta is not None else 0

    async def spell(self, tokens: Sequence[int]) -> list[bytes]:
        """What each token spells, control tokens included; not always whole characters."""
        async with self._answer("POST", "/tokenize", encode({"content": list(tokens), "with_pieces": True})) as answer:
            spelled = _pieces_of.decode(await answer.read()).tokens
        return [one.piece.encode() if isinstance(one.piece, str) else bytes(one.piece) for one in spelled]

    async def embed(self, tokens: Sequence[int]) -> list[float]:
        """The pooled vector of a text, of unit length; only of an engine that was started for embeddings."""
        async with self._answer("POST", "/v1/embeddings", encode({"input": [tokens]})) as answer:
            return _vectors.decode(await answer.read()).data[0].embedding

    async def detokenize(self, tokens: Sequence[int]) -> str:
        """The text of tokens."""
        async with self._answer("POST", "/detokenize", encode({"tokens": tokens})) as answer:
            return _text.decode(await answer.read()).content

    async def ends(self, *, slot: int | None) -> tuple[int, ...]:
        """The tokens that end a text; none where the server does not tell. Takes a slot for a token."""
        body: dict[str, Any] = {"prompt": [0], "n_predict": 1, "ignore_eos": True, "cache_prompt": False}
        if slot is not None:
            body["id_slot"] = slot
        ends: tuple[int, ...] = ()
        async with self.completion(body) as pieces:
            async for piece in pieces:
                if piece.stop:
                    ends = tuple(each.token for each in _asked.decode(piece.generation_settings).logit_bias)
        return ends

    @asynccontextmanager
    async def completion(self, body: dict[str, Any]) -> AsyncIterator[AsyncIterator[Piece]]:
        """Begin to generate.

        Always a stream, because only a stream ends when we hang up; with progress events, because the engine notices
        a hang-up only when it writes, and without them it writes nothing while it reads the prompt.
        """
        asked = body | {"stream": True, "return_progress": True, "return_tokens": True}
        async with self._answer("POST", "/completion", encode(asked)) as answer:
            yield self._whole(_pieces(answer)) if body.get("stop") else _pieces(answer)

    async def _whole(self, pieces: AsyncIterator[Piece]) -> AsyncIterator[Piece]:
        """The same pieces with all of the text.

        The engine holds back what may be the beginning of a stop string, and forgets it when the limit comes first.
        """
        held: dict[int, tuple[int, ...]] = {}
        async for piece in pieces:
            held[piece.index] = () if piece.content else held.get(piece.index, ()) + piece.tokens
            if piece.stop_type == "limit" and held[piece.index]:
                piece = msgspec.structs.replace(piece, content=await self.detokenize(held[piece.index]))
            yield piece

    @asynccontextmanager
    async def _answer(self, method: str, path: str, body: bytes | None) -> AsyncIterator[Exchange]:
        begun = False
        try:
            async with self._send(method, path, body) as answer:
                if answer.status != 200:
                    raise _refusal(answer.status, await answer.read())
                begun = True
                yield answer
        except UpstreamError as error:
            if begun:
                raise EngineCrashed(retry_after_s=1) from error
            raise EngineUnavailable("The engine is not running.", retry_after_s=1) from error
        except msgspec.DecodeError as error:
            raise EngineCrashed("The engine sent an answer that can't be read.") from error


async def _pieces(answer: Exchange) -> AsyncIterator[Piece]:
    decoder = SseDecoder()
    async for chunk in answer.chunks():
        for event in decoder.feed(chunk):
            if event.data == b"[DONE]":
                continue
            piece = _piece.decode(event.data)
            if piece.error is not None:
                raise _fault(piece.error)
            if piece.prompt_progress is None:
                yield piece


def _refusal(status: int, body: bytes) -> NarthexError:
    try:
        fault = _failed.decode(body).error
    except msgspec.DecodeError:
        fault = Fault(code=status)
    return _fault(fault)


def _fault(fault: Fault) -> NarthexError:
    """The engine's words are for the log; what the caller can mend is said in ours."""
    if fault.type == "exceed_context_size_error":
        return ContextLengthExceeded()
    if fault.code == 503:
        return EngineStarting(retry_after_s=2)
    if 400 <= fault.code < 500:
        return InvalidRequest(f"The engine refused the request: {fault.message[:300]}")
    return EngineCrashed(f"The engine failed: {fault.message[:300]}", retry_after_s=1)


def engine_seed(seed: int) -> int:
    """The engine's seed for a documented one: a stable hash, so that the whole range can be used (contract 11)."""
    digest = hashlib.blake2b(str(seed).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % SEEDS


def is_greedy(sampling: Sampling) -> bool:
    """Whether only the most likely token can ever be chosen."""
    return sampling.temperature == 0 or sampling.top_p == 0 or sampling.top_k == 1


def sampling_body(sampling: Sampling, *, seed: int, prompt_tokens: int, max_new: int) -> dict[str, Any]:
    """The sampling part of a `/completion` body: OpenAI's order (penalties, temperature, nucleus), nothing else on.

    Penalties count the whole text so far, the prompt included. Where only the most likely token can be chosen, it is
    picked first: a draw from the whole vocabulary costs the same as a twentieth of the model's step.
    """
    set_: dict[str, Any] = {
        name: value
        for name in ("frequency_penalty", "presence_penalty", "top_p")
        if (value := getattr(sampling, name)) is not UNSET
    }
    penalised = "frequency_penalty" in set_ or "presence_penalty" in set_ or sampling.repetition_penalty != 1
    greedy = is_greedy(sampling)
    if sampling.logit_bias:
        set_["logit_bias"] = [[token, _bias(bias)] for token, bias in sampling.logit_bias.items()]
    if sampling.ignore_eos:
        set_["ignore_eos"] = True
    if sampling.logprobs is not None:
        set_["n_probs"] = max(1, sampling.logprobs)  # 0 would tell nothing at all
    return {
        "n_predict": max_new,
        "samplers": ["penalties", "top_k"]
        if greedy
        else ["penalties", "temperature", *_chosen_from(sampling), "top_p"],
        "top_k": 1 if greedy else sampling.top_k,
        "min_p": sampling.min_p,
        "temperature": 1.0 if sampling.temperature is UNSET else sampling.temperature,
        "top_p": 1.0,
        "repeat_penalty": sampling.repetition_penalty,
        "repeat_last_n": prompt_tokens + max_new if penalised else 0,
        "seed": seed,
        "stop": sampling.stop,
        **set_,
    }


def _chosen_from(sampling: Sampling) -> list[str]:
    """What leaves tokens out besides the nucleus, in vLLM's order."""
    return [*(["min_p"] if sampling.min_p else []), *(["top_k"] if sampling.top_k else [])]


def _bias(bias: float) -> float | bool:
    """What the engine is to add; False bans the token outright."""
    if bias <= -100:
        return False
    return _FORCED if bias >= 100 else bias
