"""Rows of `messages`. Source: contract sections 1.2.1, 1.9 and 11."""

from collections.abc import Iterator
from typing import Any

from tests.validation_rows import (
    ABSENT,
    ANY,
    CHAT,
    EMPTY,
    HELLO,
    MISSING,
    TYPE,
    UNKNOWN,
    UNSUPPORTED_VALUE,
    VALUE,
    WINDOW,
    Row,
)

FUNCTION = {"name": "f", "arguments": "{}"}
TEXT = {"type": "text", "text": "Hi"}
CALL = {"id": "c", "type": "function", "function": FUNCTION}
CALLED = {"role": "assistant", "content": None, "tool_calls": [CALL]}
RESULT = {"role": "tool", "content": "1", "tool_call_id": "c"}


def without(document: dict[str, Any], name: str) -> dict[str, Any]:
    """The same without one field."""
    return {key: value for key, value in document.items() if key != name}


def ok(*messages: Any) -> Iterator[Row]:
    """Each is taken after a greeting."""
    yield from CHAT.ok("messages", *([*HELLO, message] for message in messages))


def bad(code: str, place: str, *messages: Any) -> Iterator[Row]:
    """Each is refused after a greeting, at `messages[1]` and `place`."""
    yield from CHAT.bad("messages", code, *([*HELLO, each] for each in messages), param=f"messages[1]{place}")


def _list() -> Iterator[Row]:
    yield from CHAT.required("messages")
    yield from CHAT.types("messages", "array")
    yield from CHAT.bad("messages", EMPTY, [])
    yield from CHAT.ok("messages", HELLO, HELLO * 2, HELLO * 20)
    yield from bad(TYPE, "", None, 1, "Hi", True, [], [HELLO[0]])
    yield from bad(MISSING, ".role", {}, {"content": "Hi"})
    yield from bad(ANY, ".role", {"role": None, "content": "Hi"})
    yield from bad(VALUE, ".role", *({"role": role, "content": "Hi"} for role in ("bot", "", "User", "user ")))
    yield from bad(TYPE, ".role", *({"role": role, "content": "Hi"} for role in (1, True, [], {})))
    yield from CHAT.bad("messages", WINDOW, [{"role": "user", "content": "a b " * 10_000}])


def _said(role: str) -> dict[str, Any]:
    more = {"tool": {"tool_call_id": "c"}, "function": {"name": "f"}}
    return {"role": role, "content": "Hi"} | more.get(role, {})


def _roles() -> Iterator[Row]:
    """What all roles have in common."""
    for role in ("system", "developer", "user", "assistant", "tool", "function"):
        said = _said(role)
        if role != "tool":
            yield from ok(*(said | {"content": content} for content in ("Hi", "", "☃", "<|im_end|>")))
        yield from bad(TYPE, ".content", *(said | {"content": content} for content in (1, 1.5, True)))
        yield from bad(UNKNOWN, ".zzz", said | {"zzz": 1}, said | {"zzz": None})
        yield from bad(UNKNOWN, ".Content", said | {"Content": "Hi"})
        if role not in {"assistant", "function"}:
            yield from bad(MISSING, ".content", without(said, "content"))
            yield from bad(TYPE, ".content", said | {"content": None})
        if role not in {"tool", "function"}:
            yield from ok(said | {"name": "Ann"}, said | {"name": None})
            yield from bad(TYPE, ".name", *(said | {"name": name} for name in (1, True, [], {})))
            yield from bad(UNKNOWN, ".tool_call_id", said | {"tool_call_id": "c"})
    yield from bad(UNKNOWN, ".tool_calls", _said("user") | {"tool_calls": [CALL]})
    yield from bad(UNKNOWN, ".refusal", _said("user") | {"refusal": "no"})


def _parts() -> Iterator[Row]:
    """Text parts in each role that takes parts; those of other kinds below."""
    for role in ("system", "developer", "user", "assistant", "tool"):
        said = _said(role)

        def parts(*parts: Any, said: dict[str, Any] = said) -> dict[str, Any]:
            return said | {"content": list(parts)}

        if role != "tool":
            yield from ok(parts(TEXT), parts(TEXT, TEXT), parts(TEXT | {"text": ""}))
            yield from ok(parts(TEXT | {"prompt_cache_breakpoint": {"mode": "explicit"}}))
        yield from bad(EMPTY, ".content", parts())
        yield from bad(TYPE, ".content[0]", parts(None), parts(1), parts("Hi"), parts([TEXT]))
        yield from bad(MISSING, ".content[0].type", parts({}), parts({"text": "Hi"}))
        yield from bad(MISSING, ".content[1].text", parts(TEXT, {"type": "text"}))
        yield from bad(TYPE, ".content[0].text", *(parts(TEXT | {"text": text}) for text in (None, 1, True, [], {})))
        yield from bad(VALUE, ".content[0].type", parts({"type": "video"}), parts(TEXT | {"type": "Text"}))
        yield from bad(TYPE, ".content[0].type", parts({"type": 1}), parts({"type": []}))
        yield from bad(UNKNOWN, ".content[0].zzz", parts(TEXT | {"zzz": 1}))
        if role != "user":
            yield from bad(VALUE, ".content[0].type", parts({"type": "image_url", "image_url": {"url": "data:,"}}))
        if role != "assistant":
            yield from bad(VALUE, ".content[0].type", parts({"type": "refusal", "refusal": "no"}))
    yield from bad(TYPE, ".content", _said("function") | {"content": [TEXT]})


def _media() -> Iterator[Row]:
    """Images, sound and files: refused by name by a text model, after their own checks."""
    picture, sound = {"url": "data:image/png;base64,AA=="}, {"data": "AA==", "format": "wav"}
    at = ".content[1]"

    def part(kind: str, value: Any = ABSENT) -> dict[str, Any]:
        made = {"type": kind} if value is ABSENT else {"type": kind, kind: value}
        return {"role": "user", "content": [TEXT, made]}

    yield from bad(
        UNSUPPORTED_VALUE, at, *(part("image_url", picture | {"detail": d}) for d in ("auto", "low", "high"))
    )
    yield from bad(UNSUPPORTED_VALUE, at, part("image_url", picture), part("image_url", {"url": "https://a.example/b"}))
    yield from bad(UNSUPPORTED_VALUE, at, part("input_audio", sound), part("input_audio", sound | {"format": "mp3"}))
    yield from bad(UNSUPPORTED_VALUE, at, part("file", {"file_id": "f"}), part("file", {"file_data": "AA=="}))
    for kind in ("image_url", "input_audio", "file"):
        yield from bad(MISSING, f"{at}.{kind}", part(kind))
        yield from bad(TYPE, f"{at}.{kind}", *(part(kind, value) for value in (None, 1, "x", [])))
        yield from bad(UNKNOWN, f"{at}.{kind}.zzz", part(kind, {"zzz": 1}))
    yield from bad(MISSING, f"{at}.image_url.url", part("image_url", {}), part("image_url", {"detail": "low"}))
    yield from bad(TYPE, f"{at}.image_url.url", part("image_url", {"url": 1}), part("image_url", {"url": None}))
    yield from bad(VALUE, f"{at}.image_url.detail", part("image_url", picture | {"detail": "huge"}))
    yield from bad(TYPE, f"{at}.image_url.detail", part("image_url", picture | {"detail": 1}))
    yield from bad(MISSING, f"{at}.input_audio.data", part("input_audio", {"format": "wav"}))
    yield from bad(MISSING, f"{at}.input_audio.format", part("input_audio", {"data": "AA=="}))
    yield from bad(VALUE, f"{at}.input_audio.format", part("input_audio", sound | {"format": "ogg"}))
    yield from bad(TYPE, f"{at}.input_audio.data", part("input_audio", sound | {"data": 1}))
    yield from bad(TYPE, f"{at}.file.file_id", part("file", {"file_id": 1}))


def _assistant() -> Iterator[Row]:
    said, no = _said("assistant"), {"type": "refusal", "refusal": "no"}
    yield from ok({"role": "assistant", "content": None, "refusal": "no"}, said | {"refusal": None})
    yield from ok({"role": "assistant", "content": [no]})
    yield from bad(ANY, ".content", {"role": "assistant"}, {"role": "assistant", "content": None})
    yield from bad(VALUE, ".content", {"role": "assistant", "content": [no, TEXT]}, said | {"content": [TEXT, no]})
    yield from bad(VALUE, ".content", {"role": "assistant", "content": [no, no]})
    yield from bad(MISSING, ".content[0].refusal", said | {"content": [{"type": "refusal"}]})
    yield from bad(TYPE, ".content[0].refusal", said | {"content": [no | {"refusal": 1}]})
    yield from bad(TYPE, ".refusal", said | {"refusal": 1}, said | {"refusal": []})
    yield from ok(said | {"audio": None})
    yield from bad(UNSUPPORTED_VALUE, ".audio", said | {"audio": {"id": "a"}})
    yield from bad(MISSING, ".audio.id", said | {"audio": {}})
    yield from bad(TYPE, ".audio.id", said | {"audio": {"id": 1}})
    yield from bad(TYPE, ".audio", said | {"audio": "a"})
    yield from ok(said | {"function_call": FUNCTION}, {"role": "assistant", "function_call": FUNCTION})
    yield from ok(said | {"function_call": None})
    yield from bad(TYPE, ".function_call", said | {"function_call": "f"}, said | {"function_call": [FUNCTION]})
    for name in FUNCTION:
        yield from bad(MISSING, f".function_call.{name}", said | {"function_call": without(FUNCTION, name)})
        yield from bad(TYPE, f".function_call.{name}", said | {"function_call": FUNCTION | {name: {}}})


def _tool_calls() -> Iterator[Row]:
    at = ".tool_calls[0]"

    def called(*calls: Any) -> dict[str, Any]:
        return {"role": "assistant", "content": None, "tool_calls": list(calls)}

    def function(**changes: Any) -> dict[str, Any]:
        return called(CALL | {"function": FUNCTION | changes})

    yield from ok(CALLED, without(CALLED, "content"), CALLED | {"content": "Hi"}, function(arguments="no JSON"))
    yield from ok(called(CALL, CALL | {"id": "d"}), _said("assistant") | {"tool_calls": None})
    yield from ok(called({"id": "c", "type": "custom", "custom": {"name": "f", "input": "x"}}))
    for name in ("id", "function"):
        yield from bad(MISSING, f"{at}.{name}", called(without(CALL, name)))
        yield from bad(TYPE, f"{at}.{name}", called(CALL | {name: None}), called(CALL | {name: 1}))
    for name in FUNCTION:
        yield from bad(MISSING, f"{at}.function.{name}", called(CALL | {"function": without(FUNCTION, name)}))
        yield from bad(TYPE, f"{at}.function.{name}", *(function(**{name: odd}) for odd in (None, 1, True, {})))
    yield from bad(MISSING, f"{at}.type", called({}), called(without(CALL, "type")))
    yield from bad(VALUE, f"{at}.type", called(CALL | {"type": "search"}))
    yield from bad(TYPE, f"{at}.type", called(CALL | {"type": 1}))
    yield from bad(TYPE, at, called(None), called("f"), called([CALL]))
    yield from bad(UNKNOWN, f"{at}.zzz", called(CALL | {"zzz": 1}))
    yield from bad(TYPE, ".tool_calls", *(CALLED | {"tool_calls": odd} for odd in (1, "f", {}, True)))


def _results() -> Iterator[Row]:
    """What tools and functions answered."""
    asked = {"role": "assistant", "content": None, "function_call": FUNCTION}

    def conversation(*after: Any) -> list[Any]:
        return [*HELLO, *after]

    yield from CHAT.ok("messages", *(
        conversation(CALLED, RESULT), conversation(CALLED, RESULT, *HELLO),
        conversation(CALLED, RESULT | {"content": ""}),
        conversation(CALLED, RESULT | {"content": [TEXT]}),
        conversation(CALLED | {"tool_calls": [CALL, CALL | {"id": "d"}]}, RESULT | {"tool_call_id": "d"}, RESULT),
        conversation(asked, _said("function")), conversation(asked, _said("function") | {"content": None}),
    ))  # fmt: skip
    at = "messages[2].tool_call_id"
    orphans = [
        conversation(CALLED, RESULT | {"tool_call_id": "d"}), conversation(CALLED, RESULT | {"tool_call_id": ""}),
        conversation(CALLED, RESULT | {"tool_call_id": "C"}), conversation(_said("assistant"), RESULT),
        conversation(HELLO[0], RESULT),
    ]  # fmt: skip
    yield from CHAT.bad("messages", VALUE, *orphans, param=at)
    yield from CHAT.bad("messages", VALUE, [RESULT, CALLED], [RESULT], param="messages[0].tool_call_id")
    yield from CHAT.bad("messages", MISSING, conversation(CALLED, without(RESULT, "tool_call_id")), param=at)
    odd_ids = (None, 1, True, [], {})
    yield from CHAT.bad(
        "messages", TYPE, *(conversation(CALLED, RESULT | {"tool_call_id": x}) for x in odd_ids), param=at
    )
    yield from bad(MISSING, ".name", without(_said("function"), "name"))
    yield from bad(MISSING, ".content", without(_said("function"), "content"))
    yield from bad(TYPE, ".name", *(_said("function") | {"name": name} for name in (None, 1, [])))


def rows() -> Iterator[Row]:
    for part in (_list, _roles, _parts, _media, _assistant, _tool_calls, _results):
        yield from part()
