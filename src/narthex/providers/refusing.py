"""A codec for models that can't do all that their server can. No I/O."""

from collections.abc import Iterable

from narthex.core.capabilities import Capabilities
from narthex.providers.codec import AnyCodec
from narthex.providers.openai_rows import without


class Refusing:
    """The same codec, but for the fields that the model refuses."""

    def __init__(self, codec: AnyCodec, *, refused: Iterable[str]) -> None:
        self._honoured = without(codec.capabilities(), refused)
        self.path = codec.path
        self.build = codec.build
        self.decoder = codec.decoder
        self.read = codec.read
        self.parse_error = codec.parse_error
        self.continues = codec.continues

    def capabilities(self) -> Capabilities:
        """See `Codec.capabilities`."""
        return self._honoured
