"""`errors.md`: every error that a caller may see, from the tree of classes, and the codes given where one is raised."""

import ast
from collections.abc import Iterator
from pathlib import Path

import markdown

import narthex
from narthex.core.errors import BY_NAME, ConfigError, NarthexError

INTRO = """\
Every error of `/v1` has this body, and a streamed answer that fails after its first event ends with the same object
as an event, without `[DONE]`:

```json
{"error": {"message": "…", "type": "invalid_request_error", "param": "messages[0].content", "code": "invalid_type"}}
```

`param` is the path of the field at fault, or null. `code` is null where the table has none. Every answer bears
`x-request-id`; the server's log has the same id. Do not compare messages: their words may change, codes do not."""

RETRY = """\
"Retry" says whether the same request may pass later. Where the server knows when, it sends `Retry-After` in seconds.
The official OpenAI clients retry 408, 409, 429 and every status from 500 on by themselves, unless the answer has
`x-should-retry: false`: such answers have it where the same request would fail again, but for faults of the server
itself."""

MORE = """\
An error of the class `InvalidRequest` or `UnsupportedParameter` may carry one of these codes:"""

SPECIFIC = {
    "array_above_max_length": "An array has too many elements, or too many choices were asked for.",
    "empty_array": "An array that needs an element has none.",
    "integer_above_max_value": "A number is too large.",
    "integer_below_min_value": "A number is too small.",
    "decimal_above_max_value": "A number is too large.",
    "decimal_below_min_value": "A number is too small.",
    "invalid_configuration": "The settings that a reload has read are invalid; the message lists every fault.",
    "invalid_image_url": "An image can't be fetched from its address, or is not to be; the message says why.",
    "invalid_type": "A value has the wrong JSON type.",
    "invalid_value": "A value has the right type and is not allowed.",
    "missing_required_parameter": "A required field is absent.",
    "model_changed": "Another model bears the name of a collection's by now: rebuild the collection.",
    "object_above_max_properties": "An object has too many names.",
    "string_above_max_length": "A string is too long.",
    "unsupported_value": "The model honours the field, but not this value, or is not a model for this endpoint.",
}
"""What the codes mean that are given at the place where an error is raised."""

WORDS = {"KeyRefused": "The key is wrong, revoked or expired, or two different ones were sent."}


def page() -> str:
    """The whole page."""
    of_classes = {kind.default_code for kind in BY_NAME.values()}  # a provider's refusal may carry one of these
    specific = [(markdown.code(name), SPECIFIC[name]) for name in sorted(given_codes() - of_classes)]
    return markdown.page(
        "Errors",
        INTRO,
        markdown.table(("error", "status", "type", "code", "when", "retry"), map(_row, _shown())),
        RETRY,
        MORE,
        markdown.table(("code", "meaning"), specific),
    )


def given_codes() -> set[str]:
    """Every code that stands in the source where an error is raised."""
    found: set[str] = set()
    for file in Path(narthex.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if (value := _code_value(node)) is not None:
                found |= {text for one in ast.walk(value) if (text := _text(one)) is not None}
    endings = {text for text in found if text.startswith("_")}  # of f"{kind}_above_max_value"
    return (found - endings) | {f"{kind}{ending}" for kind in ("integer", "decimal") for ending in endings}


def _code_value(node: ast.AST) -> ast.expr | None:
    """What is given as `code=` or assigned to `code`."""
    if isinstance(node, ast.keyword) and node.arg == "code":
        return node.value
    if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "code":
        return node.value
    return None


def _text(node: ast.AST) -> str | None:
    """A constant that looks like a code."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str) and "_" in node.value:
        return node.value
    return None


def _shown() -> Iterator[type[NarthexError]]:
    from narthex.policy.auth import KeyRefused  # noqa: PLC0415 - it stands outside of the tree's file

    parents = {kind.__bases__[0].__name__ for kind in BY_NAME.values() if kind.__bases__[0] is not NarthexError}
    for name, kind in BY_NAME.items():
        concrete = name not in parents or kind.default_code
        if concrete and not issubclass(kind, ConfigError) and kind is not KeyRefused:
            yield kind
            if name == "AuthenticationFailed":
                yield KeyRefused


def _row(kind: type[NarthexError]) -> tuple[str, ...]:
    when = WORDS.get(kind.__name__) or (kind.__doc__ or "").splitlines()[0]
    code = markdown.code(kind.default_code) or "null"
    return (kind.__name__, str(kind.status), markdown.code(kind.type), code, when, "yes" if kind.retryable else "no")
