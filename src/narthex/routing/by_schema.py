"""vLLM's constraints at servers that know only schemas: JSON as their own `response_format`, a choice as a schema too.

Source: ARCHITECTURE D3; contract sections 7.2 and 11.

Rule 1: only what the server's own format can say is brought about; patterns, grammars and white space are refused.
Rule 2: what comes of it is checked like every answer that has a form (`validated.py`), so it is asked behind that.
Rule 3: a choice is told when it is whole, or cut; its envelope is nobody's business but ours.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Collection, Mapping
from contextlib import aclosing, asynccontextmanager
from typing import Any

import msgspec
from typing_extensions import override

from narthex.core.capabilities import Capabilities, Limited, Rule, State, Verdict
from narthex.core.chat import ChatRequest
from narthex.core.constrained import ChoiceFormat, JsonFormat
from narthex.core.deployments import Around
from narthex.core.errors import NarthexError, UnsupportedParameter
from narthex.core.ports import Call, Deployment, Opened, Stream, Surface
from narthex.core.stream import ChoiceFinished, Event, Frame, TextDelta
from narthex.providers.vllm_constraints import check_schema
from narthex.wire.json import UNREADABLE, encode

FORMAT = "response_format"
ENVELOPE_TOKENS = 16
"""By so much the limit of an answer is raised for what stands around a choice."""
ROOMY_TOKENS = 1024
"""From here on a limit stays as it is: it may be the most that the model takes."""

_OLDER = ("guided_json", "guided_choice")
_NEWER = "structured_outputs"
_FORMS = ("json", "json_object", "choice")
_BACKEND = "guided_decoding_backend"
_OURS = frozenset((*_OLDER, _NEWER, _BACKEND))
_LIMITS = ("max_tokens", "max_completion_tokens")
_CHOSEN = "choice"
_NAME = "answer"
_ONE_OF_TWO = ("yes", "no")

_COMBINED = frozenset(("anyOf", "oneOf", "allOf", "$ref", "not", "if"))
_HELD_STRICTLY = frozenset(
    (
        "type", "properties", "required", "additionalProperties", "enum", "const", "items", "anyOf", "$ref", "$defs",
        "title", "description", "pattern", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf",
        "minItems", "maxItems",
    )
)  # fmt: skip
"""What servers that hold schemas strictly know; any other keyword is a 400 there, and heeded as well as they can else.
"""
_TYPED = frozenset(("type", "anyOf", "$ref"))
"""One of which every part of a schema has to have there: an `enum` alone is a 400, too."""


# --- what is honoured ----------------------------------------------------------------------------------------------


def with_schemas(honoured: Capabilities, surface: Surface, *, refused: Collection[str] = ()) -> Capabilities:
    """What a deployment honours when `BySchema` stands before it. `refused`: fields that its model is not to take."""
    format_ = honoured.get(FORMAT, State.REFUSED)
    if surface != "chat" or not _OURS.isdisjoint(honoured) or _why_not(format_, _choice_format(_ONE_OF_TWO)):
        return honoured
    rules: dict[str, Rule] = {
        "guided_json": Limited(
            state=State.EMULATED,
            limits="schemas of objects, within limits",
            check=lambda value: _check_form(format_, "json", value, path="guided_json"),
        ),
        "guided_choice": State.EMULATED,
        _NEWER: Limited(
            state=State.EMULATED,
            limits="choices and JSON objects, without options",
            check=lambda value: _check_newer(format_, value),
        ),
        _BACKEND: State.NO_EFFECT,
    }
    return {**honoured, **{name: rule for name, rule in rules.items() if name not in refused}}


def _check_newer(rule: Rule, value: Mapping[str, Any]) -> None:
    for name in value:
        if name not in _FORMS:
            raise Verdict(f"{_NEWER}.{name}", f"'{_NEWER}.{name}' is not supported.")
    ((name, wanted),) = value.items()
    _check_form(rule, name, wanted, path=f"{_NEWER}.{name}")


def _check_form(rule: Rule, name: str, value: Any, *, path: str) -> None:
    if name == "json":
        check_schema(path, value)
    _check(rule, path, _format_of(name, value))


def _check(rule: Rule, path: str, wanted: dict[str, Any]) -> None:
    """Refuse, by the caller's own name, what can't be said as a format."""
    schema = wanted.get("json_schema", {}).get("schema", {"type": "object"})
    if schema.get("type") != "object" or _COMBINED & schema.keys():
        listed = ", ".join(sorted(_COMBINED))
        raise Verdict(path, f"This model takes schemas of type 'object' only, without {listed} at the top.")
    if (why := _why_not(rule, wanted)) is not None:
        raise Verdict(path, why)


def _why_not(rule: Rule, wanted: dict[str, Any]) -> str | None:
    """Why a format is refused; None if it is not."""
    if not isinstance(rule, Limited):
        return None if rule in {State.NATIVE, State.EMULATED} else f"'{FORMAT}' is not supported."
    try:
        rule.check(wanted)
    except Verdict as verdict:
        return verdict.why
    return None


# --- formats -------------------------------------------------------------------------------------------------------


def _format_of(name: str, value: Any) -> dict[str, Any]:
    if name == "choice":
        return _choice_format(value)
    return {"type": "json_object"} if name == "json_object" else _json_format(value)


def _json_format(value: Any) -> dict[str, Any]:
    schema = msgspec.json.decode(value) if isinstance(value, str) else value
    return _schema_format(schema, strict=_is_held_strictly(schema))


def _choice_format(options: Collection[str]) -> dict[str, Any]:
    schema = {
        "type": "object",
        "properties": {_CHOSEN: {"type": "string", "enum": list(dict.fromkeys(options))}},
        "required": [_CHOSEN],
        "additionalProperties": False,
    }
    return _schema_format(schema, strict=True)


def _schema_format(schema: Any, *, strict: bool) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": _NAME, "schema": schema, "strict": strict}}


def _is_held_strictly(schema: Any) -> bool:
    """Whether servers take a schema that they are to hold in all respects: closed objects, types, and keywords they
    know.
    """
    if isinstance(schema, list):
        return all(map(_is_held_strictly, schema))
    if schema is None:  # no such part
        return True
    if not isinstance(schema, dict) or _TYPED.isdisjoint(schema):
        return False
    properties, required, others = schema.get("properties", {}), schema.get("required", []), schema.get("$defs", {})
    sound = isinstance(properties, dict) and isinstance(required, list) and isinstance(others, dict)
    if not sound or not schema.keys() <= _HELD_STRICTLY:
        return False
    if ("properties" in schema or schema.get("type") == "object") and (
        schema.get("additionalProperties") is not False or len(required) != len(properties)
    ):
        return False
    return all(
        map(_is_held_strictly, (schema.get("items"), schema.get("anyOf"), *properties.values(), *others.values()))
    )


# --- requests ------------------------------------------------------------------------------------------------------


class BySchema(Around):
    """A deployment whose `response_format` also does what is asked by other names. Others' requests pass untouched."""

    def __init__(self, deployment: Deployment, *, refused: Collection[str] = ()) -> None:
        """`refused`: fields that its model is not to take."""
        self._refused = refused
        self._brings: set[Surface] = set()
        super().__init__(deployment)

    @override
    def honoured(self, surface: Surface, inner: Capabilities) -> Capabilities:
        """The constraints besides."""
        honoured = with_schemas(inner, surface, refused=self._refused)
        if honoured is not inner:
            self._brings.add(surface)
        return honoured

    def open(self, call: Call) -> Opened:
        """See `Deployment.open`.

        Raises:
            UnsupportedParameter: what the server does not take beside a form, by the name of the form that was asked.
        """
        request = call.request
        if not isinstance(request, ChatRequest) or request.guided is None or call.surface not in self._brings:
            return self._deployment.open(call)
        return self._open(call, request)

    @asynccontextmanager
    async def _open(self, call: Call, request: ChatRequest) -> AsyncIterator[Stream]:
        wanted, path = _wanted(request)
        chooses = isinstance(request.guided, ChoiceFormat)
        if chooses and request.sampling.logprobs is not None:
            message = f"'logprobs' is not supported beside '{path}': the tokens would not be those of the choice."
            raise UnsupportedParameter(message, param="logprobs", code="unsupported_value")
        asked = _formatted(request, wanted)
        try:
            async with self._deployment.open(call.asking(_with_room(asked) if chooses else asked)) as frames:
                if not chooses:
                    yield frames
                    return
                async with aclosing(_choices(frames, stops=request.sampling.stop)) as told:
                    yield told
        except NarthexError as error:
            if error.param is not None and error.param.startswith(FORMAT):
                error.param = path
            raise


def _wanted(request: ChatRequest) -> tuple[dict[str, Any], str]:
    """The format that a request's constraint comes to, and where that stands."""
    fields = request.fields
    for name in _OLDER:
        if name in fields:
            return _format_of(name.removeprefix("guided_"), fields[name]), name
    ((name, value),) = fields[_NEWER].items()
    return _format_of(name, value), f"{_NEWER}.{name}"


def _formatted(request: ChatRequest, wanted: dict[str, Any]) -> ChatRequest:
    """The same request with its constraint as a format."""
    schema = encode(wanted.get("json_schema", {}).get("schema", {"type": "object"}))
    return msgspec.structs.replace(
        request,
        guided=None,
        response_format=JsonFormat(schema=schema, path=FORMAT),
        fields={name: value for name, value in request.fields.items() if name not in _OURS} | {FORMAT: wanted},
        sent={name: value for name, value in request.sent.items() if name not in _OURS}
        | {FORMAT: msgspec.Raw(encode(wanted))},
    )


def _with_room(request: ChatRequest) -> ChatRequest:
    """The same with room for the envelope; where the choice is to stop is seen to here, not within the envelope."""
    limits = {name: _raised(request.fields[name]) for name in _LIMITS if name in request.fields}
    fields = {name: value for name, value in request.fields.items() if name != "stop"} | limits
    sent = {name: value for name, value in request.sent.items() if name != "stop"}
    most = request.sampling.max_tokens
    sampling = msgspec.structs.replace(request.sampling, stop=(), max_tokens=None if most is None else _raised(most))
    numbers = {name: msgspec.Raw(b"%d" % limit) for name, limit in limits.items()}
    return msgspec.structs.replace(request, sampling=sampling, fields=fields, sent=sent | numbers)


def _raised(limit: int) -> int:
    return limit + ENVELOPE_TOKENS if limit < ROOMY_TOKENS else limit


# --- answers -------------------------------------------------------------------------------------------------------


async def _choices(frames: Stream, *, stops: tuple[str, ...]) -> AsyncGenerator[Frame, None]:
    """The frames of an answer with the choices taken out of their envelopes; frames without an event show meanwhile
    that it goes on, as clocks run for it.
    """
    texts: dict[int, list[str]] = {}
    async for frame in frames:
        events: list[Event] = []
        for event in frame.events:
            if isinstance(event, TextDelta):
                texts.setdefault(event.choice, []).append(event.text)
                continue
            if isinstance(event, ChoiceFinished):
                events += _told(event, "".join(texts.pop(event.choice, ())), stops)
            else:
                events.append(event)
        yield _framed(frame, events)


def _framed(frame: Frame, events: list[Event]) -> Frame:
    told = Frame.of(*events, billed=frame.billed)
    told.usage = frame.usage
    return told


def _told(finish: ChoiceFinished, text: str, stops: tuple[str, ...]) -> list[Event]:
    """What is told of a choice when it ends; nothing of one that called a tool or refused."""
    chosen = _taken_out(text, cut=finish.reason == "length")
    ends = [end for stop in stops if (end := chosen.find(stop)) >= 0]
    if ends:
        chosen, finish = chosen[: min(ends)], ChoiceFinished(finish.choice, "stop")
    return [TextDelta(finish.choice, chosen), finish] if chosen else [finish]


def _taken_out(text: str, *, cut: bool) -> str:
    """The choice within its envelope; what is no envelope as it came, to be judged by who checks answers."""
    from pydantic_core import from_json  # noqa: PLC0415 - long to import, and seldom needed

    try:
        value = from_json(text, allow_partial="trailing-strings") if cut else msgspec.json.decode(text)
    except (ValueError, *UNREADABLE):
        return text
    if not isinstance(value, dict):
        return text
    chosen = value.get(_CHOSEN, "" if cut else None)
    return chosen if isinstance(chosen, str) else text
