"""Answers with a prediction: which ones another process generates, and how that is asked.

Source: contract section 1.2 (`prediction`) and Q27: it is a hint, so whatever stands in its way sends the request to
the engine, where it has no effect.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import structlog
from msgspec import UNSET

from narthex.core.chat import Sampling
from narthex.core.errors import EngineError, NotFound
from narthex.core.ports import Ensure
from narthex.engine.local.llama import Piece, Timings, is_greedy
from narthex.engine.local.reading import Form
from narthex.engine.prediction.protocol import Begin, Burst
from narthex.ipc.client import Client

log = structlog.get_logger(__name__)

_LOADS_WITHIN_S = 10.0
"""So long a request waits for the process to start, which it does after a while without predictions."""
_AGAIN_AFTER_S = 60.0


def predicted_text(fields: Mapping[str, Any]) -> str:
    """What a request predicts; "" if nothing."""
    prediction = fields.get("prediction")
    if prediction is None:
        return ""
    content = prediction["content"]
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


def can_be_checked(sampling: Sampling, form: Form) -> bool:
    """Whether the other process generates such answers: one text, of any form, chosen by nothing but likelihood."""
    plain = sampling.repetition_penalty == 1 and all(
        penalty is UNSET or penalty == 0 for penalty in (sampling.frequency_penalty, sampling.presence_penalty)
    )
    ends = sampling.stop or sampling.stop_token_ids or sampling.ignore_eos or sampling.min_tokens
    held = form.grammar or form.preserved or sampling.logit_bias
    return plain and sampling.n == 1 and sampling.logprobs is None and not ends and not held


def begin(
    sampling: Sampling, *, account: str, prompt: Sequence[int], predicted: Sequence[int], max_new: int, seed: int
) -> Begin:
    """The same choice of tokens as `sampling_body` asks the engine for."""
    temperature = 1.0 if sampling.temperature is UNSET else sampling.temperature
    return Begin(
        account=account,
        prompt=list(prompt),
        predicted=list(predicted),
        max_new=max_new,
        temperature=0.0 if is_greedy(sampling) else temperature,
        min_p=sampling.min_p,
        top_k=sampling.top_k,
        top_p=1.0 if sampling.top_p is UNSET else sampling.top_p,
        seed=seed,
    )


class Predictions:
    """The process that checks one model's predictions. `child`: its name with the supervisor."""

    def __init__(self, socket: Path, *, child: str, ensure: Ensure) -> None:
        self._client = Client(socket, name=child)
        self._child = child
        self._ensure = ensure
        self._numbers = itertools.count(1)
        self._not_before_s = 0.0

    async def aclose(self) -> None:
        """Close the connection, and end what runs over it."""
        await self._client.aclose()

    @asynccontextmanager
    async def checked(self, asked: Begin) -> AsyncIterator[AsyncIterator[Piece] | None]:
        """The pieces of an answer as the engine would tell them; None: it is to be asked. Leaving the block stops all.

        Raises (between pieces):
            EngineError: the process has ended.
        """
        asked = msgspec.structs.replace(asked, number=next(self._numbers))
        try:
            first = await self._begun(asked)
            yield None if first is None else self._pieces(asked.number, first)
        finally:
            await self._client.notify("drop", asked.number)  # even if nobody heard that it had begun

    async def _begun(self, asked: Begin) -> Burst | None:
        """With the first tokens: after those a fault is the request's own."""
        now_s = asyncio.get_running_loop().time()
        if now_s < self._not_before_s:
            return None
        try:
            async with asyncio.timeout(_LOADS_WITHIN_S):
                await self._ensure(self._child)
        except TimeoutError:
            self._not_before_s = now_s + 2 * _LOADS_WITHIN_S
            return None  # it goes on loading; others, who hold slots too, need not wait for that
        except (EngineError, NotFound) as error:
            self._not_before_s = now_s + _AGAIN_AFTER_S
            log.warning("predictions can't be checked", process=self._child, reason=error.message)
            return None
        try:
            await self._client.call("begin", asked, type(None))
            return await self._client.call("more", asked.number, Burst)
        except EngineError:
            return None  # it is busy, or ends

    async def _pieces(self, number: int, burst: Burst) -> AsyncIterator[Piece]:
        count = 0
        while True:
            count += len(burst.tokens)
            yield Piece(
                content=burst.text,
                tokens=tuple(burst.tokens),
                stop=bool(burst.end),
                stop_type=burst.end,
                tokens_predicted=count,
                timings=Timings(cache_n=burst.cached),
                accepted=burst.accepted,
                rejected=burst.rejected,
            )
            if burst.end:
                return
            burst = await self._client.call("more", number, Burst)
