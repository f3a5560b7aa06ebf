"""A codec for a model whose callers may add members of their own to the body, and headers. No I/O.

Source: contract section 4.5. Rule: what a caller adds is sent beside what was checked, and never in its place; where a
server repeats it in an error, it is told to nobody.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import msgspec

from narthex.core.capabilities import Capabilities, Limited, Rule, Verdict
from narthex.core.errors import UnsupportedParameter, UpstreamError
from narthex.core.extras import HEADERS, PARAMS, hide
from narthex.core.ports import Request
from narthex.core.stream import Frame
from narthex.providers.codec import AnswerDecoder, AnyCodec

_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class Extended:
    """The same codec for requests with additions. `params`, `headers`: the names that are allowed."""

    def __init__(self, codec: AnyCodec, *, params: Iterable[str], headers: Iterable[str]) -> None:
        self._codec = codec
        allowed = {PARAMS: frozenset(params), HEADERS: frozenset(headers)}
        rules: dict[str, Rule] = {name: _only(name, names) for name, names in allowed.items() if names}
        self._honoured = {**codec.capabilities(), **rules}
        self.path = codec.path
        self.read = codec.read
        self.parse_error = codec.parse_error
        self.continues = codec.continues

    def build(self, request: Request, *, model: str) -> bytes:
        """See `Codec.build`.

        Raises:
            UnsupportedParameter: an addition would replace what is sent anyway.
        """
        body = self._codec.build(request, model=model)
        added = request.fields.get(PARAMS)
        if not added:
            return body
        members: dict[str, Any] = _members(body)
        for name in added:
            if name in members:
                message = f"'{name}' is part of this request already: what is checked can't be replaced."
                raise UnsupportedParameter(message, param=f"{PARAMS}.{name}")
        return msgspec.json.encode(members | added)

    def decoder(self, request: Request) -> AnswerDecoder:
        """See `Codec.decoder`."""
        decoder = self._codec.decoder(request)
        adds = request.fields.get(PARAMS) or request.fields.get(HEADERS)
        return _Discreet(decoder, request.fields) if adds else decoder

    def capabilities(self) -> Capabilities:
        """See `Codec.capabilities`."""
        return self._honoured


class _Discreet:
    """Decodes an answer, and keeps quiet about what the caller added."""

    def __init__(self, decoder: AnswerDecoder, fields: Mapping[str, Any]) -> None:
        self._decoder = decoder
        self._fields = fields

    def feed(self, data: bytes) -> Iterator[Frame]:
        """See the decoder that was given."""
        return self._frames(lambda: self._decoder.feed(data))

    def end(self) -> Iterator[Frame]:
        """See the decoder that was given."""
        return self._frames(self._decoder.end)

    def _frames(self, read: Callable[[], Iterator[Frame]]) -> Iterator[Frame]:
        try:
            yield from read()
        except UpstreamError as error:
            hide(error, self._fields)
            raise


def _only(field: str, names: frozenset[str]) -> Limited:
    """A rule that lets but these names pass."""

    def check(value: Any) -> None:
        for name in value:
            if name not in names:
                why = f"'{name[:100]}' is not among what may be added to requests for this model."
                raise Verdict(f"{field}.{name[:100]}", why, code="unsupported_parameter")

    return Limited(limits=", ".join(sorted(names)), check=check)
