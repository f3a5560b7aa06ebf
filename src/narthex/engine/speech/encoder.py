"""What turns samples into files: `python -m narthex.engine.speech.encoder mp3|opus|aac|flac`.

Reads samples as `core.speech` has them from its input and writes the file to its output, as it comes. A process of its
own: it ends with the request, whatever it is at, and FFmpeg's libraries stay out of ours.
"""

import sys
from typing import Any, BinaryIO

from narthex.core.speech import RATE, SAMPLE_BYTES

_PIECE = RATE // 50 * SAMPLE_BYTES
_BITS_PER_S = 64_000
_CONTAINERS: dict[str, tuple[str, str, dict[str, str]]] = {
    "mp3": ("mp3", "libmp3lame", {"write_xing": "0", "id3v2_version": "0"}),  # both would be written at the end
    "opus": ("ogg", "libopus", {"page_duration": "100000"}),
    "aac": ("adts", "aac", {}),
    "flac": ("flac", "flac", {}),
}


FORMATS = frozenset(_CONTAINERS)


def argv_of(name: str) -> tuple[str, ...]:
    """How to start it for a format."""
    return (sys.executable, "-P", "-m", "narthex.engine.speech.encoder", name)


class _Out:
    """A file that only grows: without `seek`, nobody goes back in it."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out

    def write(self, data: bytes) -> int:
        """Write it at once."""
        self._out.write(data)
        self._out.flush()
        return len(data)


def encode(name: str, source: BinaryIO, out: BinaryIO) -> None:
    """Encode all that comes."""
    import av  # noqa: PLC0415 - of the extra

    container, codec, options = _CONTAINERS[name]
    with av.open(_Out(out), "w", format=container, options=options) as file:
        stream: Any = file.add_stream(codec, rate=RATE)
        stream.layout = "mono"
        if name != "flac":
            stream.bit_rate = _BITS_PER_S
        at = 0
        while piece := source.read(_PIECE):
            count = len(piece) // SAMPLE_BYTES
            frame = av.AudioFrame(format="s16", layout="mono", samples=count)
            frame.sample_rate, frame.pts = RATE, at
            frame.planes[0].update(piece[: count * SAMPLE_BYTES])
            at += count
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))


def main() -> int:
    """The process's life."""
    encode(sys.argv[1], sys.stdin.buffer, sys.stdout.buffer)
    return 0


if __name__ == "__main__":
    sys.exit(main())
