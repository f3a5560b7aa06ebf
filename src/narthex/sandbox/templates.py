"""Renders chat templates as model files carry them: Jinja in an immutable sandbox, with the few names that they expect.

Source: contract section 7.3, rule 4. A sandbox does not stop endless work: limits of time and memory are the process's.
"""

import datetime as dt
import functools
import json
from collections.abc import Mapping
from typing import Any, NoReturn

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from typing_extensions import override

from narthex.core.errors import InvalidRequest, ModelLoadFailed
from narthex.core.templates import MAX_TEMPLATE_BYTES, TEMPLATE

MAX_OUTPUT_CHARS = 16 * 1024 * 1024
_LONGEST_REASON = 300


class _Refused(Exception):
    """The template called `raise_exception`."""


class _Generation(Extension):
    """`{% generation %}` marks what training should learn from; for rendering it is a plain block."""

    tags = {"generation"}  # noqa: RUF012 - the base class's own form

    @override
    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _raise_exception(message: str) -> NoReturn:
    raise _Refused(message)


def _tojson(value: Any, ensure_ascii: bool = False, indent: int | None = None, **_: Any) -> str:  # noqa: FBT001, FBT002 - as templates call it
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent)


def _strftime_now(form: str) -> str:
    return dt.datetime.now().astimezone().strftime(form)


def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=["jinja2.ext.loopcontrols", _Generation],
        autoescape=False,
    )
    environment.filters["tojson"] = _tojson
    environment.globals |= {"raise_exception": _raise_exception, "strftime_now": _strftime_now}
    return environment


_ENVIRONMENT = _environment()


@functools.lru_cache(maxsize=64)
def _compiled(template: str) -> jinja2.Template:
    return _ENVIRONMENT.from_string(template)


def render(template: str, variables: Mapping[str, Any]) -> str:
    """The text that a model's own template makes.

    Raises:
        ModelLoadFailed: the template itself is broken or too long.
        InvalidRequest: the template refuses these messages, or its output is too long.
    """
    if len(template.encode()) > MAX_TEMPLATE_BYTES:
        raise ModelLoadFailed(f"The chat template is longer than {MAX_TEMPLATE_BYTES // 1024} KiB.")
    try:
        return _text(template, variables, most_chars=MAX_OUTPUT_CHARS)
    except _Refused as error:
        raise InvalidRequest(f"The model's chat template refuses these messages: {error}", param="messages") from None
    except jinja2.TemplateSyntaxError as error:
        raise ModelLoadFailed(f"The chat template is not valid: {error.message} (line {error.lineno})") from None
    except (jinja2.TemplateError, TypeError, ValueError, ArithmeticError, LookupError, AttributeError) as error:
        message = f"The model's chat template can't render these messages: {error}"
        raise InvalidRequest(message[:500], param="messages") from None


def render_brought(template: str, variables: Mapping[str, Any], *, most_chars: int) -> str:
    """The text that a caller's template makes: whatever is wrong with it is the caller's to mend.

    Raises:
        InvalidRequest: it can't be rendered; `param` is its field.
    """
    try:
        text = _text(template, variables, most_chars=most_chars)
        text.encode()  # halves of characters can't be told
    except InvalidRequest as error:
        why = error.message
    except _Refused as error:
        why = f"The chat template refuses these messages: {error}"
    except jinja2.TemplateSyntaxError as error:
        why = f"The chat template is not valid: {error.message} (line {error.lineno})"
    except (MemoryError, RecursionError):
        why = "The chat template is nested too deeply, or takes too much memory."
    except Exception as error:  # noqa: BLE001 - the sandbox's edge: nobody knows what a stranger's template may raise
        why = f"The chat template can't be rendered: {type(error).__name__}: {error}"
    else:
        if text:
            return text
        why = "The chat template makes no text of these messages."
    raise InvalidRequest(why[:_LONGEST_REASON], param=TEMPLATE)


def _text(template: str, variables: Mapping[str, Any], *, most_chars: int) -> str:
    pieces, length = [], 0
    for piece in _compiled(template).generate(variables):
        pieces.append(piece)
        length += len(piece)
        if length > most_chars:
            raise InvalidRequest("The rendered prompt is too long.", param="messages")
    return "".join(pieces)
