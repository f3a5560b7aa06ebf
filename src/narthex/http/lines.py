"""Lines of HTTP/1.1 as they are read and written: targets, heads, pieces of bodies."""

from functools import lru_cache
from urllib.parse import unquote

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

STATUS = {status: line.removesuffix(b"\r\n") for status, line in STATUS_LINE.items()}
"""How an answer begins, by its status; without a line end."""
as_line = b": ".join


def chunk(body: bytes, *, more: bool) -> bytes:
    """A piece of a chunked body; without `more`, with its end."""
    if not body:
        return b"" if more else b"0\r\n\r\n"
    return b"%x\r\n%b\r\n%b" % (len(body), body, b"" if more else b"0\r\n\r\n")


@lru_cache(4)
def beginning(ours: tuple[tuple[bytes, bytes], ...]) -> bytes:
    """Of every answer of status 200, with the server's own headers: they change once a second."""
    return b"\r\n".join((STATUS[200], *map(as_line, ours), b""))


@lru_cache(256)
def parsed(url: bytes) -> tuple[str, bytes, bytes]:
    """Its path, decoded and as it is, and its query."""
    found = httptools.parse_url(url)
    path = found.path.decode("ascii")
    return unquote(path) if "%" in path else path, found.path, found.query or b""
