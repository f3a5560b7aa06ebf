"""The form of the answer to one chat request."""

from collections.abc import Awaitable, Callable, Sequence

import msgspec

from narthex.core.chat import ChatRequest
from narthex.core.completions import CompletionRequest
from narthex.core.constrained import INVALID_SCHEMA, MAX_SCHEMA_BYTES, JsonFormat
from narthex.core.errors import InvalidRequest
from narthex.core.ports import Grammars
from narthex.core.tools import Tool, Tools
from narthex.engine.local.form.formats import CallFormat, call_format
from narthex.engine.local.form.grammar import Calls, Shape, compose
from narthex.engine.local.form.reader import FormOfParts, Layout
from narthex.engine.local.form.thinking import Thinking, thinking_of
from narthex.engine.local.reading import ANY_TEXT, Form
from narthex.wire.json import encode

TokenId = Callable[[str], Awaitable[int | None]]
"""The id of the one token that a text is, control tokens included; None where it is several."""

_SHAPING = frozenset({"type", "$ref", "anyOf", "oneOf", "allOf", "enum", "const", "not", "if"})
"""Keywords that tell which types a value may have."""


async def form_of(
    request: ChatRequest, *, template: str, opened: str | None, grammars: Grammars, token_id: TokenId | None = None
) -> Form:
    """What the answer may be and how it is read. `opened`: how the rendered prompt ends; None: amid an answer's text.

    `token_id`: without it markers that are control tokens can only be spelled out.

    Raises:
        InvalidRequest: a schema can't be held; names its path. A stop string would cut every call that has to be made.
            A text that is no JSON can't be told from calls that may be made instead.
    """
    thinking = None if opened is None else thinking_of(template, opened)
    tools, constraint = request.tools, request.constraint
    row = None
    if tools is not None and not tools.required and constraint is not None and not isinstance(constraint, JsonFormat):
        message = (
            "It can't be used with tools that may or may not be called: set 'tool_choice' to 'none' or 'required'."
        )
        raise InvalidRequest(f"Invalid '{constraint.path}': {message}", param=constraint.path, code="unsupported_value")
    if tools is not None:
        row = _uncut(call_format(template, json=constraint is not None), tools, stop=request.sampling.stop)
    if tools is None and constraint is None and thinking is None:
        return ANY_TEXT
    markers = _markers(thinking, row)
    held = tools is not None or constraint is not None
    shape = Shape(
        thinking=thinking,
        calls=await _calls(tools, row, grammars) if tools is not None and row is not None else None,
        text=await grammars.rule_of(constraint) if constraint is not None else "",
        ids=await _ids(markers, token_id) if held else {},
    )
    layout = Layout(
        thinking=thinking,
        format=row,
        names=tuple(tool.name for tool in tools.callable_) if tools is not None else (),
        required=tools is not None and tools.required,
        anywhere=constraint is None and row is not None and bool(row.trigger),
    )
    return FormOfParts(grammar=compose(shape), preserved=markers, layout=layout)


def check_sizes(request: ChatRequest) -> None:
    """Before tools are written into a prompt, which takes long for what is refused afterwards.

    Raises:
        InvalidRequest: the schema of a tool's arguments is too large.
    """
    for tool in request.tools.all_ if request.tools is not None else ():
        if len(tool.parameters) > MAX_SCHEMA_BYTES:
            message = f"The schema is larger than {MAX_SCHEMA_BYTES // 1024} KiB."
            raise InvalidRequest(message, param=tool.path, code=INVALID_SCHEMA)


async def completion_form(request: CompletionRequest, grammars: Grammars) -> Form:
    """What a completion may be: any text, or one of a form.

    Raises:
        InvalidRequest: it can't be held; names its path.
    """
    if request.guided is None:
        return ANY_TEXT
    return Form(grammar=compose(Shape(text=await grammars.rule_of(request.guided))))


def _uncut(row: CallFormat, tools: Tools, *, stop: Sequence[str]) -> CallFormat:
    """The format, or one that no stop string cuts: the engine looks for them in all that a model writes."""
    names = [tool.name for tool in tools.callable_]
    if not any(row.writes(text, names) for text in stop):
        return row
    row = row.on_one_line()
    cutting = next((text for text in stop if row.writes(text, names)), None)
    if cutting is not None and tools.required:
        raise InvalidRequest(f"The stop string {cutting!r} would cut the tool call that has to be made.", param="stop")
    return row


def _markers(thinking: Thinking | None, row: CallFormat | None) -> tuple[str, ...]:
    marks = (thinking.marks.open, thinking.marks.close) if thinking is not None else ()
    return (*marks, *(row.control if row is not None else ()))


async def _calls(tools: Tools, row: CallFormat, grammars: Grammars) -> Calls:
    rules = [(tool.name, await grammars.rule(_parameters(tool), path=tool.path)) for tool in tools.callable_]
    return Calls(format=row, tools=rules, required=tools.required, parallel=row.parallel(tools.parallel))


def _parameters(tool: Tool) -> bytes:
    """The schema of a tool's arguments, which are an object even where it does not say so."""
    schema = msgspec.json.decode(tool.parameters)
    if not isinstance(schema, dict) or _SHAPING & schema.keys():
        return tool.parameters
    return encode({"type": "object", **schema})


async def _ids(markers: tuple[str, ...], token_id: TokenId | None) -> dict[str, int]:
    if token_id is None:
        return {}
    found = {marker: await token_id(marker) for marker in markers}
    return {marker: number for marker, number in found.items() if number is not None}
