"""How models write calls of tools: a row for each way, recognised by the model's chat template.

Source: the chat templates of the models named; llama.cpp, docs/function-calling.md.
"""

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache

import msgspec

NAME = "{name}"
"""Stands for the tool's name in a `head`."""


class CallFormat(msgspec.Struct, frozen=True, kw_only=True):
    """How calls stand in a text: `begin`, calls parted by `separator`, `end`; each call is `head`, arguments, `tail`.

    `marks`: what a template of this kind holds, all of them; `unlike`: what it does not hold.
    `trigger`: the beginning of the first call that no other text has; "": only the whole beginning up to the arguments
    tells, and only where the answer begins. `separator` None: the model makes one call at a time.
    `control`: what of all this may be control tokens. `written`: templates want arguments as text, not as objects.
    """

    name: str
    marks: tuple[str, ...]
    unlike: tuple[str, ...] = ()
    trigger: str = ""
    begin: str = ""
    head: str
    tail: str = ""
    separator: str | None = None
    end: str = ""
    control: tuple[str, ...] = ()
    written: bool = False

    def head_of(self, name: str) -> str:
        """What stands before the arguments of a call."""
        return self.head.replace(NAME, name)

    def writes(self, text: str, names: Iterable[str]) -> bool:
        """Whether every call of one of these tools has a text in it, outside its arguments."""
        fixed = [self.begin, self.tail, self.separator or "", self.end, *map(self.head_of, names)]
        return any(text in piece for piece in fixed)

    def on_one_line(self) -> "CallFormat":
        """The same without line breaks, which models read and write as well."""
        head, tail = self.head.replace("\n", ""), self.tail.replace("\n", "")
        separator = self.separator if self.separator is None else self.separator.replace("\n", "")
        return msgspec.structs.replace(self, head=head, tail=tail, separator=separator)

    def parallel(self, several: bool) -> bool:  # noqa: FBT001 - the one thing it is asked
        """Whether an answer may hold several calls."""
        return several and self.separator is not None


_OBJECT = '{"name": "{name}", "arguments": '


def _list(name: str, *, open_: str, close: str = "", unlike: tuple[str, ...] = ()) -> CallFormat:
    """Calls as one JSON array between two markers."""
    markers = tuple(filter(None, (open_, close)))
    return CallFormat(
        name=name,
        marks=markers,
        unlike=unlike,
        trigger=open_,
        begin=f"{open_}[",
        head=_OBJECT,
        tail="}",
        separator=", ",
        end=f"]{close}",
        control=markers,
    )


HERMES = CallFormat(
    name="hermes",  # Hermes, Qwen 2.5 and 3, SmolLM3, Granite 4; and every model whose template knows no tools
    marks=("<tool_call>", "arguments"),
    unlike=("<arg_key>", "<parameter=", "<function=", "<|tool_call|>"),
    trigger="<tool_call>",
    head=f"<tool_call>\n{_OBJECT}",
    tail="}\n</tool_call>",
    separator="\n",
    control=("<tool_call>", "</tool_call>"),
)

_DEEPSEEK = tuple(
    f"<\uff5c{words}\uff5c>".replace(" ", "\u2581")  # the vendor's bars are full-width, its spaces low blocks
    for words in ("tool calls begin", "tool call begin", "tool sep", "tool call end", "tool calls end")
)
_BEGIN, _CALL, _SEP, _CALL_END, _END = _DEEPSEEK

FORMATS: tuple[CallFormat, ...] = (
    CallFormat(
        name="mistral_named",  # Mistral Small 3.2, Devstral, Magistral
        marks=("[TOOL_CALLS]", "[ARGS]"),
        trigger="[TOOL_CALLS]",
        head="[TOOL_CALLS]{name}[ARGS]",
        separator="",
        control=("[TOOL_CALLS]", "[ARGS]"),
    ),
    _list("mistral_list", open_="[TOOL_CALLS]"),  # Mistral 7B v0.3, Nemo, Large, Small 3.1
    _list("granite", open_="<|tool_call|>", unlike=("<|/tool_call|>",)),  # Granite 3.1 to 3.3
    _list("apriel", open_="<tool_calls>", close="</tool_calls>"),
    _list("nemotron", open_="<TOOLCALL>", close="</TOOLCALL>"),  # Nemotron Nano v2
    CallFormat(
        name="phi",  # Phi-4 mini
        marks=("<|tool_call|>", "<|/tool_call|>"),
        trigger="<|tool_call|>",
        head=f"<|tool_call|>{_OBJECT}",
        tail="}<|/tool_call|>",
        separator="",
        control=("<|tool_call|>", "<|/tool_call|>"),
    ),
    CallFormat(
        name="deepseek_fenced",  # DeepSeek V3 and R1, and what was distilled from it
        marks=(_BEGIN, _SEP, "```json"),
        trigger=_BEGIN,
        begin=_BEGIN,
        head=f"{_CALL}function{_SEP}{{name}}\n```json\n",
        tail=f"\n```{_CALL_END}",
        separator="\n",
        end=_END,
        control=_DEEPSEEK,
        written=True,
    ),
    CallFormat(
        name="deepseek",  # DeepSeek V3.1
        marks=(_BEGIN, _SEP),
        trigger=_BEGIN,
        begin=_BEGIN,
        head=f"{_CALL}{{name}}{_SEP}",
        tail=_CALL_END,
        separator="",
        end=_END,
        control=_DEEPSEEK,
        written=True,
    ),
    HERMES,
    CallFormat(
        name="functionary",  # Functionary 3.1
        marks=("<function=", "</function>"),
        unlike=("<parameter=", "<tool_call>"),
        trigger="<function=",
        head="<function={name}>",
        tail="</function>",
        separator="",
    ),
    CallFormat(
        name="llama3",  # Llama 3.1 to 3.3, which write the call and nothing else
        marks=("<|start_header_id|>", '"parameters": '),
        head='{"name": "{name}", "parameters": ',
        tail="}",
    ),
)
"""The first row that fits a template counts."""

_OPENED, _CLOSED = re.compile(r"\{[{%]").search, re.compile(r"[%}]\}").search
_STRING = re.compile(r"'(?:\\.|[^'\\])*(?:'|\\?\Z)|\"(?:\\.|[^\"\\])*(?:\"|\\?\Z)", re.DOTALL)
"""One that nothing ends goes on to the end: its quotes are not tried anew, each to the end again."""

_TAG = re.compile(r"\A%[-+]?\s*\w+")
_NAMES = re.compile(r"(?<![\w.])[^\W\d]\w*").findall
_NO_VARIABLES = re.compile(r"\|\s*\w+|\bis\s+(?:not\s+)?\w+|\b\w+\s*=(?!=)")
"""Filters, tests, and what stands before one sign of equality: a name that is given to something."""
_NAMED = re.compile(r"\A%[-+]?\s*(?:for\s([\w\s,()]*?)\sin\b|macro\s+(\w+\s*\([^)]*))")
"""Blanks are read by one part of it only: a stranger's template may have many."""
_WORDS = frozenset(
    (
        "and", "else", "false", "False", "for", "if", "in", "is", "none", "None", "not", "or", "recursive", "true",
        "True", "caller", "cycler", "dict", "joiner", "kwargs", "lipsum", "loop", "namespace", "raise_exception",
        "range", "self", "strftime_now", "varargs",
    )
)  # fmt: skip
"""Of the language, and what it or we have given a meaning: no caller is to change that."""


def template_knows(template: str, name: str) -> bool:
    """Whether a template looks at a variable of that name, however it is written in its texts."""
    asked = re.compile(rf"(?<![\w.]){re.escape(name)}\b")
    return any(asked.search(_STRING.sub("''", block)) for block in _blocks(template))


@lru_cache(maxsize=16)
def variables_of(template: str) -> frozenset[str]:
    """The names of a caller's variables that a template looks at: no word of the language, filter, test or argument's
    name, and nothing that it names itself for each item of a list, or for what it hands to a macro.
    """
    found: set[str] = set()
    own: set[str] = set()
    for block in _blocks(template):
        code = _TAG.sub("", _STRING.sub("''", block))
        own.update(name for named in _NAMED.finditer(block) for name in _NAMES(named[1] or named[2]))
        found.update(_NAMES(_NO_VARIABLES.sub(" ", code)))
    return frozenset(found - own - _WORDS)


def _blocks(template: str) -> Iterator[str]:
    """What stands between Jinja's braces, and the second of these; read once, whatever a template is made of."""
    at = 0
    while (opened := _OPENED(template, at)) and (closed := _CLOSED(template, opened.end())):
        yield template[opened.end() - 1 : closed.start()]
        at = closed.end()


def native_format(template: str) -> CallFormat | None:
    """How a template's model writes calls; None where the template knows no tools, or writes them in no way we know."""
    if not template_knows(template, "tools"):
        return None
    plain = template.replace('\\"', '"').replace("\\n", "\n")
    for row in FORMATS:
        if all(mark in plain for mark in row.marks) and not any(mark in plain for mark in row.unlike):
            return row
    return None


def call_format(template: str, *, json: bool = False) -> CallFormat:
    """How calls are written to and by a model. `json`: its answer may be a call or JSON of the caller's form.

    A call that begins as any JSON does can't be told from such JSON, so there the model learns our own way.
    """
    native = native_format(template)
    if native is None or (json and not native.trigger):
        return HERMES
    return native
