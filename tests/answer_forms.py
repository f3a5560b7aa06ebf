"""What tests of answers' forms share: tools, rules without a compiler process, answers as models write them."""

import msgspec
from llguidance import LLMatcher, LLTokenizer

from narthex.core.chat import ChatRequest, Sampling
from narthex.core.constrained import Constraint, JsonFormat
from narthex.core.errors import InvalidRequest
from narthex.core.fold import Fold, FoldedChoice
from narthex.core.stream import FinishReason, TokenLogprob
from narthex.core.tools import Tool, Tools
from narthex.engine.local.form.formats import CallFormat
from narthex.engine.local.reading import Form
from narthex.sandbox.forms import rule_of
from narthex.wire.json import encode

TOKENIZER = LLTokenizer("byte")
CONTROL, CONTROL_ID = "\0", 256
"""How a control token is written in texts that a grammar is tried with."""

CITY = b'{"type":"object","properties":{"city":{"type":"string"}},"required":["city"],"additionalProperties":false}'
ANY = b'{"type":"object"}'
WEATHER = Tool(name="get_weather", description="The weather now.", parameters=CITY, path="tools[0].function.parameters")
TIME = Tool(name="get_time", parameters=ANY, path="tools[1].function.parameters")
BOTH = Tools(all_=(WEATHER, TIME))
NATIVE = (
    "{% for t in tools or [] %}{{ t | tojson }}{% endfor %}"
    '{{ \'<tool_call>{"name": ..., "arguments": ...}</tool_call>\' }}'
)


class CompactRules:
    """Rules of schemas as they are, without white space. Schemas that say `not` can't be held."""

    def of(self, owner: str) -> "CompactRules":
        return self

    async def rule(self, schema: bytes, *, path: str) -> str:
        if b'"not"' in schema:
            raise InvalidRequest("This schema can't be held.", param=path)
        known = msgspec.json.decode(schema) | {"x-guidance": {"whitespace_flexible": False}}
        return f"%json {encode(known).decode()}"

    async def fault(self, schema: bytes, text: str) -> str | None:
        del schema, text
        return None

    async def rule_of(self, constraint: Constraint) -> str:
        if isinstance(constraint, JsonFormat):
            return await self.rule(constraint.schema, path=constraint.path)
        return rule_of(constraint)

    async def fault_of(self, constraint: Constraint, text: str, *, cut: bool = False) -> str | None:
        del constraint, text, cut
        return None


def asked(
    tools: Tools | None = None, *, json: bytes | None = None, stop: tuple[str, ...] = (), **fields: object
) -> ChatRequest:
    """A request for an answer of some form."""
    return ChatRequest(
        model="m",
        messages=(),
        sampling=Sampling(stop=stop),
        tools=tools,
        response_format=None if json is None else JsonFormat(schema=json, path="response_format"),
        fields=fields,
        sent={},
    )


def written(row: CallFormat, *calls: tuple[str, str]) -> str:
    """Calls, each (name, arguments), as a model of that format writes them."""
    return (
        row.begin
        + (row.separator or "").join(row.head_of(name) + arguments + row.tail for name, arguments in calls)
        + row.end
    )


def accepts(grammar: str, text: str) -> bool | None:
    """Whether a text is one of the grammar's; None where it is only the beginning of one."""
    matcher = LLMatcher(TOKENIZER, grammar)
    assert not matcher.is_error(), matcher.get_error()
    tokens: list[int] = []
    for number, piece in enumerate(text.split(CONTROL)):
        tokens += [CONTROL_ID] if number else []
        tokens += piece.encode()
    if matcher.try_consume_tokens(tokens) < len(tokens):
        return False
    return True if matcher.is_accepting() else None


def read(
    form: Form, *pieces: str, reason: FinishReason = "stop", logprobs: list[list[TokenLogprob]] | None = None
) -> FoldedChoice:
    """What is read of an answer that comes in pieces."""
    reader, fold = form.reader(0), Fold()
    fold.feed(reader.begin())
    for number, piece in enumerate(pieces):
        fold.feed(reader.feed(piece, None if logprobs is None else logprobs[number]))
    fold.feed(reader.end(reason))
    fold.end()
    return fold.choices[0]


def told(choice: FoldedChoice) -> tuple[str, str, list[tuple[str, str]], str]:
    """(thoughts, text, calls, finish reason)."""
    calls = [(call.name, call.arguments) for _, call in sorted(choice.calls.items())]
    return "".join(choice.reasoning), "".join(choice.text), calls, choice.finish_reason
