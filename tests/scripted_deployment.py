"""A deployment that answers by script: frames, errors to raise, events to wait for, or silence."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from narthex.core.capabilities import Capabilities, State
from narthex.core.keys import Account, Grants, Key, Principal, Profile, Project
from narthex.core.ports import NO_CLOCKS, Call, Opened, Stream, Surface
from narthex.core.stream import ChoiceFinished, ChoiceStarted, Frame, TextDelta, Usage, UsageReported

Step = Frame | Exception | asyncio.Event
SILENCE = asyncio.Event

START, STOP = Frame.of(ChoiceStarted(0)), Frame.of(ChoiceFinished(0, "stop"))
USED = Frame.of(UsageReported(Usage(prompt_tokens=3, completion_tokens=2)))
FIELDS = ("model", "messages", "prompt", "stream", "stream_options", "max_tokens", "input", "inference_timeout")
TAKES: Capabilities = dict.fromkeys(FIELDS, State.NATIVE)


def text(words: str) -> Frame:
    return Frame.of(TextDelta(0, words))


def answer(words: str = "Hi") -> tuple[Frame, ...]:
    """A whole answer."""
    return (START, text(words), STOP, USED)


class ScriptedDeployment:
    """Implements `Deployment`. `opened` counts its calls, `closed` those that have ended, whoever ended them."""

    clocks = NO_CLOCKS
    fingerprint: str | None = "fp_0000000000"

    def __init__(
        self,
        *steps: Step,
        name: str = "local/one",
        refuses: Exception | None = None,
        takes: Capabilities | None = TAKES,
        closing: asyncio.Event | None = None,
    ) -> None:
        """`refuses`: raised before the first frame; `closing`: what it waits for after the last."""
        self.name = name
        self.steps = steps
        self.opened = self.closed = 0
        self._refuses = refuses
        self._takes = takes
        self._closing = closing

    def capabilities(self, surface: Surface) -> Capabilities | None:
        return self._takes

    def continues(self, call: Call) -> bool:
        return True

    def open(self, call: Call) -> Opened:
        return self._open(call)

    @asynccontextmanager
    async def _open(self, call: Call) -> AsyncIterator[Stream]:
        self.opened += 1
        call.deployment = self.name
        try:
            if self._refuses is not None:
                raise self._refuses
            yield self._frames()
            if self._closing is not None:
                await self._closing.wait()
        finally:
            self.closed += 1

    async def _frames(self) -> AsyncIterator[Frame]:
        for step in self.steps:
            if isinstance(step, Exception):
                raise step
            if isinstance(step, asyncio.Event):
                await step.wait()
            else:
                yield step


def principal(grants: Grants | None = None, *, strict: bool = True, profile: Profile = "openai") -> Principal:
    """Somebody with these grants; with all of them if none are given."""
    key = Key(
        id="key",
        account_id="a",
        project_id="p",
        name="test",
        prefix="nx-test",
        grants=grants or Grants.everything(),
        created_ms=0,
        strict=strict,
        profile=profile,
    )
    return Principal(
        key=key, account=Account(id="a", name="default"), project=Project(id="p", account_id="a", name="default")
    )
