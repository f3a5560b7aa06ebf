"""The row of OpenAI-compatible servers."""

import pytest

from narthex.core.capabilities import refusal
from narthex.core.embeddings import EmbeddingsRequest
from narthex.core.errors import NarthexError, UpstreamCredentials
from narthex.dialects.openai_chat import FIELDS, ChatDialect
from narthex.providers.openai_codec import OpenAIChat


def test_honours_every_field_of_the_dialect() -> None:
    honoured = OpenAIChat().capabilities()
    assert set(FIELDS) <= set(honoured)
    assert refusal({"temperature": 1.0, "tools": ()}, honoured, model="m") is None
    assert refusal({"guided_json": {}}, honoured, model="m") is not None


def test_speaks_of_chats() -> None:
    decoded = ChatDialect().decode(
        b'{"model": "m", "n": 2, "messages": [{"role": "user", "content": "Hi"}]}', profile="openai", strict=True
    )
    codec = OpenAIChat()
    assert b'"model":"theirs"' in codec.build(decoded.request, model="theirs")
    assert codec.decoder(decoded.request) is not codec.decoder(decoded.request)
    assert isinstance(codec.parse_error(401, [], b"{}"), UpstreamCredentials)


def test_is_asked_for_nothing_else() -> None:
    with pytest.raises(NarthexError):
        OpenAIChat().build(EmbeddingsRequest(model="m", fields={}, sent={}), model="m")
