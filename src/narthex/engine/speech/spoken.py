"""A chat model that only writes, and is made to speak: its text is told as sound. Source: contract sections 1.2 to 1.4,
11; docs/design/speech.md.

Rule 1: a request without sound, in question or answer, passes untouched.
Rule 2: an id of ours stands for its transcript, whoever answers; another's id means something only to who made it.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from operator import attrgetter
from typing import Any

import msgspec
from typing_extensions import override

from narthex.core.capabilities import Capabilities, Limited, Rule, State, Verdict, state_of
from narthex.core.chat import ChatRequest, Message
from narthex.core.deployments import Around
from narthex.core.errors import InvalidRequest, UnsupportedParameter
from narthex.core.ports import Call, Deployment, Opened, Stream, Surface
from narthex.engine.speech.encoder import FORMATS
from narthex.engine.speech.speaker import Speaker
from narthex.engine.speech.telling import Telling
from narthex.storage.transcripts import Transcripts, is_ours

_audio_id = attrgetter("audio_id")
_ASKED = ("modalities", "audio")
_decode = msgspec.json.Decoder().decode


class Spoken(Around):
    """Speaks for a deployment that does not speak itself; lets any deployment know what was said before."""

    def __init__(self, deployment: Deployment, speaker: Speaker, transcripts: Transcripts) -> None:
        self._speaker = speaker
        self._transcripts = transcripts
        self._native = False
        super().__init__(deployment)

    @override
    def honoured(self, surface: Surface, inner: Capabilities) -> Capabilities:
        """Sound besides, where the other has none."""
        if surface != "chat":
            return inner
        self._native = inner.get("modalities") is State.NATIVE and state_of("audio", inner) is State.NATIVE
        if self._native:
            return inner
        audio = Limited(state=State.EMULATED, limits=self._limits(), check=self._check)
        rules: dict[str, Rule] = {**inner, "modalities": State.EMULATED, "audio": audio}
        if isinstance(messages := inner.get("messages"), Limited):
            rules["messages"] = _knowing_ids(messages)
        return rules

    def open(self, call: Call) -> Opened:
        """See `Deployment.open`.

        Raises:
            InvalidRequest: a message names a sound that is not there, or not any more.
            UnsupportedParameter: it is asked for beside sound, and can't be told of that.
            QueueFull: too many texts wait to be spoken already.
        """
        request = call.request
        if not isinstance(request, ChatRequest):
            return self._deployment.open(call)
        speaks = "audio" in request.fields and not self._native
        if speaks and "audio" not in request.fields.get("modalities", ()):
            if "audio" not in call.ignored:
                call.ignored.append("audio")
            speaks = False
        if not speaks and not any(map(_audio_id, request.messages)):
            return self._deployment.open(call)
        if speaks and request.sampling.logprobs is not None:
            raise UnsupportedParameter("'logprobs' can't be told of an answer that is spoken.", param="logprobs")
        return self._open(call, request, speaks=speaks)

    @asynccontextmanager
    async def _open(self, call: Call, request: ChatRequest, *, speaks: bool) -> AsyncIterator[Stream]:
        account, key = call.principal.account.id, call.principal.key.id
        if speaks:
            self._speaker.check_room(key)  # before anything is paid for
        asked = await self._with_transcripts(request, account)
        if not speaks:
            async with self._deployment.open(call.asking(asked)) as frames:
                yield frames
            return
        telling = Telling(self._speaker, self._transcripts, request, account=account, key=key)
        async with (
            self._deployment.open(call.asking(_to_be_written(asked))) as frames,
            aclosing(telling.frames(frames)) as told,
        ):
            yield told

    async def _with_transcripts(self, request: ChatRequest, account: str) -> ChatRequest:
        """The same conversation with what was said in place of ids."""
        said: dict[int, str] = {}
        for index, message in enumerate(request.messages):
            name = message.audio_id
            if name is None or (self._native and not is_ours(name)):
                continue
            transcript = await asyncio.to_thread(self._transcripts.recall, name, account=account)
            if transcript is None:
                place = f"messages[{index}].audio.id"
                why = "there is no such audio, or not any more"
                raise InvalidRequest(f"Invalid '{place}': {why}.", param=place, code="invalid_value")
            said[index] = transcript
        return _written(request, said) if said else request

    def _limits(self) -> str:
        return "voices by name" if self._speaker.engine.encodes else "voices by name; wav and pcm16 only"

    def _check(self, value: Any) -> None:
        if not isinstance(value["voice"], str):
            raise Verdict("audio.voice", "This model speaks only with the voices that have names.")
        if value["format"] in FORMATS and not self._speaker.engine.encodes:
            message = "This format needs the extra `narthex[speech]`, which is not installed here."
            raise Verdict("audio.format", message)


def _knowing_ids(rule: Limited) -> Limited:
    """The same rule for conversations in which ids have become texts."""

    def check(messages: tuple[Message, ...]) -> None:
        if any(map(_audio_id, messages)):
            messages = tuple(msgspec.structs.replace(each, audio_id=None) for each in messages)
        rule.check(messages)

    return msgspec.structs.replace(rule, check=check)


def _to_be_written(request: ChatRequest) -> ChatRequest:
    """The same, to be answered by text."""
    fields = {name: value for name, value in request.fields.items() if name not in _ASKED}
    sent = {name: value for name, value in request.sent.items() if name not in _ASKED}
    return msgspec.structs.replace(request, fields=fields, sent=sent)


def _written(request: ChatRequest, said: dict[int, str]) -> ChatRequest:
    messages = list(request.messages)
    sent = _decode(request.sent["messages"])
    for index, transcript in said.items():
        message = messages[index]
        content = transcript if message.content is None else message.content
        messages[index] = msgspec.structs.replace(message, content=content, audio_id=None)
        del sent[index]["audio"]
        if sent[index].get("content") is None:
            sent[index]["content"] = transcript
    return msgspec.structs.replace(
        request,
        messages=tuple(messages),
        fields={**request.fields, "messages": tuple(messages)},
        sent={**request.sent, "messages": msgspec.Raw(msgspec.json.encode(sent))},
    )
