"""A store with very many completions, for measurements: of twenty accounts, with metadata that are common and rare."""

import random
import zlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from narthex.core.stored import ChatQuery, Reach, StoredChat
from narthex.storage.sqlite.connection import immediate, open_connection
from narthex.storage.sqlite.migrate import prepare
from narthex.storage.sqlite.stored import SCHEMA
from narthex.storage.sqlite.stored_rows import NewRow, insert

ACCOUNTS = 20
EACH_S = 3
"""So many are created in a second."""
REACH = Reach(account_id="account-1", since_s=0)
QUERIES: dict[str, ChatQuery] = {
    "the first page": ChatQuery(),
    "the last page": ChatQuery(order="desc"),
    "of a model": ChatQuery(model="model-1"),
    "by common metadata": ChatQuery(metadata=(("env", "prod"),)),
    "by rare metadata": ChatQuery(metadata=(("user", "user-1"),)),
    "by metadata of none": ChatQuery(metadata=(("user", "nobody"),)),
    "by common and rare metadata": ChatQuery(metadata=(("env", "prod"), ("user", "user-1")), model="model-1"),
}
"""What is asked of it, by name; all for `REACH`."""

_BATCH = 10_000
_ANSWER = b'{"id":"%b","object":"chat.completion","choices":[{"message":{"content":"%b"}}]}'
_TEXT = b"It is what people say of rivers that they find their way. " * 12
"""Long enough to be compressed as answers are."""


def fill(path: Path, count: int) -> None:
    """Make the file `path` with so many; blocks. They come one after the other in time, from second 0 on."""
    prepare(path, schema=SCHEMA, clock=lambda: 0)
    connection = open_connection(path, synchronous="NORMAL")
    connection.pragma("cache_size", -256 * 1024)
    try:
        rows = _rows(count)
        while batch := list(islice(rows, _BATCH)):
            with immediate(connection):
                insert(connection, batch=batch)
    finally:
        connection.close()


def _rows(count: int) -> Iterator[NewRow]:
    rng = random.Random(1)  # noqa: S311 - no secrets
    messages = zlib.compress(b'[{"id":"x","role":"user","content":"What do people say of rivers?"}]', 1)
    for number in range(count):
        chat_id = f"chatcmpl-{rng.getrandbits(128):032x}"
        metadata = {"env": "prod" if number % 7 else "test", "user": f"user-{rng.randrange(count // 20)}"}
        model = f"model-{rng.randrange(3)}"
        chat = StoredChat(id=chat_id, created_s=number // EACH_S, model=model, metadata=metadata, answer=b"")
        yield NewRow(
            account_id=f"account-{number % ACCOUNTS}",
            chat=chat,
            answer=zlib.compress(_ANSWER % (chat_id.encode(), _TEXT), 1),
            messages=messages,
        )
