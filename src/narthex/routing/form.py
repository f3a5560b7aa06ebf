"""What a request asks of the form of its answer, and whether one has it. For answers that others make.

Source: ARCHITECTURE D3; contract sections 1.2.2, 1.2.3 and 7.2.

Rule 1: a refusal and what a content filter ended are answers of another kind, and have no form to keep.
Rule 2: what ended at its limit, or at a stop string of the caller's, needs only be the beginning of what was asked for.
"""

import hashlib
from collections.abc import Mapping
from typing import Any, Literal

import msgspec
import structlog

from narthex.core.chat import ChatRequest, Sampling
from narthex.core.completions import CompletionRequest
from narthex.core.constrained import ANY_OBJECT, ChoiceFormat, JsonFormat, RegexFormat
from narthex.core.errors import EngineError, InvalidRequest
from narthex.core.fold import FoldedCall, FoldedChoice
from narthex.core.ports import Grammars, Request
from narthex.core.sent import Sent
from narthex.wire.json import UNREADABLE, encode

log = structlog.get_logger(__name__)

Calling = Literal["maybe", "never", "required"]

_OF_FORM = frozenset(
    (
        "response_format", "tools", "tool_choice", "parallel_tool_calls", "function_call", "structured_outputs",
        "guided_json", "guided_choice", "guided_regex", "guided_grammar",
    )
)  # fmt: skip


class Form(msgspec.Struct, frozen=True, kw_only=True):
    """What every choice of an answer has to be.

    `schema`: what its text has to be valid by, as JSON. `options`: the texts that it may be. `pattern`: a schema that
    its text, as a JSON string, has to be valid by. `calling`: whether it is to call tools; `names`: which ones, None:
    any. `strict`: the schemas of functions whose arguments have to be valid, by name. `alone`: only the first call is
    told. `may_be_cut`: by a stop string.
    """

    schema: bytes | None = None
    options: tuple[str, ...] = ()
    pattern: bytes | None = None
    calling: Calling = "maybe"
    names: frozenset[str] | None = None
    strict: Mapping[str, bytes] = {}
    alone: bool = False
    may_be_cut: bool = False


_ANY = Form()


def form_of(request: Request) -> Form | None:
    """The form of the answer to a request; None where it may be anything, as with nearly all."""
    if _OF_FORM.isdisjoint(request.fields) or not isinstance(request, ChatRequest | CompletionRequest):
        return None
    if not isinstance(request.sent, Sent):
        return _form_of(request)
    made = request.sent.alike.made
    if form_of not in made:  # it has nothing to do with the messages
        made[form_of] = _form_of(request)
    form: Form | None = made[form_of]
    return form


def _form_of(request: ChatRequest | CompletionRequest) -> Form | None:
    form = _constrained(request)
    if isinstance(request, ChatRequest):
        form = _with_tools(form, request)
    if form == _ANY:
        return None
    return msgspec.structs.replace(form, may_be_cut=_may_be_cut(request.sampling))


def _may_be_cut(sampling: Sampling) -> bool:
    return bool(sampling.stop or sampling.stop_token_ids)


def _constrained(request: ChatRequest | CompletionRequest) -> Form:
    """What the text may be."""
    if request.fields.get("echo"):
        return _ANY  # the prompt stands before what is constrained
    match request.constraint:
        case JsonFormat(schema=schema):
            return Form(schema=schema)
        case RegexFormat(pattern=pattern):
            return Form(pattern=encode({"type": "string", "pattern": f"^(?:{pattern})$"}))
        case ChoiceFormat(options=options):
            return Form(options=options)
        case _:  # grammars are left to who is asked
            return _ANY


def _with_tools(form: Form, request: ChatRequest) -> Form:
    """The same with what is asked of calls."""
    fields = request.fields
    chosen = fields.get("tool_choice", fields.get("function_call", "auto"))
    if chosen == "auto" and "parallel_tool_calls" not in fields and not any(map(_is_strict, fields.get("tools", ()))):
        return form  # nearly always
    names = None if isinstance(chosen, str) else _named(chosen)
    strict = {tool["function"]["name"] for tool in fields.get("tools", ()) if _is_strict(tool)}
    known = request.tools.all_ if request.tools is not None else ()
    return msgspec.structs.replace(
        form,
        calling=_calling(chosen),
        names=names,
        strict={tool.name: tool.parameters for tool in known if tool.name in strict},
        alone=fields.get("parallel_tool_calls") is False,
    )


def _is_strict(tool: dict[str, Any]) -> bool:
    return tool["type"] == "function" and bool(tool["function"].get("strict"))


def _calling(chosen: Any) -> Calling:
    if isinstance(chosen, dict):
        allowed = chosen.get("allowed_tools")
        return "required" if allowed is None or allowed["mode"] == "required" else "maybe"
    return "never" if chosen == "none" else "required" if chosen == "required" else "maybe"


def _named(chosen: dict[str, Any]) -> frozenset[str]:
    """The tools that a choice names."""
    if "type" not in chosen:  # the older form
        return frozenset((chosen["name"],))
    listed = chosen["allowed_tools"]["tools"] if chosen["type"] == "allowed_tools" else [chosen]
    return frozenset(each[each["type"]]["name"] for each in listed)


# --- whether an answer has it --------------------------------------------------------------------------------------


class Check:
    """Holds finished choices against one form. `deployment`: whose they are, for the log."""

    def __init__(self, form: Form, grammars: Grammars, *, deployment: str) -> None:
        self._form = form
        self._grammars = grammars
        self._deployment = deployment

    async def fault(self, choice: FoldedChoice) -> str | None:
        """Why a finished choice is not what was asked for, in short and with the place; None if it is."""
        if choice.refusal or choice.finish_reason == "content_filter":
            return None
        cut = choice.finish_reason == "length" or self._form.may_be_cut
        for call in choice.calls.values():
            if (fault := await self._fault_of_call(call, cut=cut)) is not None:
                return fault
        if choice.calls:
            return None
        if self._form.calling == "required":
            return None if cut else "no tool was called."
        return await self._fault_of_text("".join(choice.text), thought=bool(choice.reasoning), cut=cut)

    async def _fault_of_call(self, call: FoldedCall, *, cut: bool) -> str | None:
        form, name = self._form, call.name
        if form.calling == "never":
            return "a tool was called."
        if name and form.names is not None and name not in form.names:
            return f"it calls '{name[:100]}'."
        schema = form.strict.get(name)
        if schema is None:
            return None
        fault = not_begun(call.arguments) if cut else await self._fault_by(schema, call.arguments)
        return None if fault is None else f"the arguments of '{name}': {fault}"

    async def _fault_of_text(self, text: str, *, thought: bool, cut: bool) -> str | None:
        form = self._form
        if form.schema is not None:
            if not text.strip():
                empty = "the text is empty, and the answer stands in what was thought." if thought else "it is empty."
                return None if cut else empty
            if not cut:
                return await self._fault_by(form.schema, text)
            no_object = form.schema == ANY_OBJECT and not text.lstrip().startswith("{")
            return "it does not begin as an object." if no_object else not_begun(text)
        if form.options:
            fits = any(each.startswith(text) if cut else each == text for each in form.options)
            return None if fits else "it is none of the choices."
        if form.pattern is not None and not cut:
            faulty = await self._asked(form.pattern, encode(text).decode()) is not None
            return "it does not match the regular expression." if faulty else None
        return None

    async def _fault_by(self, schema: bytes, text: str) -> str | None:
        """Why a text is not JSON that is valid by a schema."""
        try:
            value = msgspec.json.decode(text)
        except UNREADABLE as error:
            return f"it is not valid JSON: {error}"
        if schema == ANY_OBJECT:
            return None if isinstance(value, dict) else "it is not an object."
        return await self._asked(schema, text)

    async def _asked(self, schema: bytes, text: str) -> str | None:
        """What the compiler says. An answer that it can't check is not thrown away: whoever made it took the schema."""
        try:
            return await self._grammars.fault(schema, text)
        except (InvalidRequest, EngineError) as error:
            name = hashlib.sha256(schema).hexdigest()[:16]
            log.warning("an answer was not checked", deployment=self._deployment, schema=name, why=error.message)
            return None


def not_begun(text: str) -> str | None:
    """Why a text is not the beginning of JSON; None if it is."""
    from pydantic_core import from_json  # noqa: PLC0415 - long to import, for answers that were cut short only

    try:
        from_json(text, allow_partial="trailing-strings", allow_inf_nan=False)
    except ValueError as error:
        if not str(error).startswith("EOF"):  # a scalar that is not whole yet
            return f"it is not the beginning of valid JSON: {error}"
    return None
