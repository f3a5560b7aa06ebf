"""Limits: what is hostile is refused at its place or does no harm."""

import json
import socket

import pytest
from tests.grammar_engines import ENGINES, EOS
from tests.hostile_schemas import ACCEPTED, REFUSED

from narthex.sandbox.grammar import rule
from narthex.sandbox.schema_text import SchemaRefused
from narthex.sandbox.validity import fault

UNENDING = "patterns that meet"
"""Only the process's limit of time ends it: see the tests of the process."""


@pytest.mark.parametrize("name", sorted(REFUSED.keys() - {UNENDING}))
def test_refused(name: str) -> None:
    schema, place = REFUSED[name]
    with pytest.raises(SchemaRefused) as caught:
        rule(json.dumps(schema).encode())
    assert caught.value.at.startswith(place)
    assert len(caught.value.message) < 300


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", ACCEPTED)
def test_accepted(name: str, engine: type) -> None:
    matcher = engine(rule(json.dumps(ACCEPTED[name]).encode()))
    for _ in range(20):
        allowed = matcher.allowed()
        assert allowed
        if allowed == [EOS]:
            break
        matcher.consume([token for token in allowed if token != EOS][len(allowed) // 2 - 1])


def test_nothing_is_fetched() -> None:
    """A schema's own check by the library would ask for the schema that it names."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        address = f"http://127.0.0.1:{listener.getsockname()[1]}/schema"
        inner = {"$schema": address, "type": "string"}
        for schema in (
            {"$schema": address},
            {"$defs": {"a": inner}, "$ref": "#/$defs/a"},
            {"properties": {"a": inner}},
        ):
            text = json.dumps(schema).encode()
            assert rule(text)
            assert fault(text, "7") is None or "string" in json.dumps(schema)
        with pytest.raises(BlockingIOError):
            listener.accept()


@pytest.mark.parametrize("text", [b"", b"{", b"[" * 100_000, b'{"a": NaN}', b"\xff", b'"' + b"a" * 70_000 + b'"'])
def test_what_is_no_json(text: bytes) -> None:
    with pytest.raises(SchemaRefused) as caught:
        rule(text)
    assert caught.value.at == ""
