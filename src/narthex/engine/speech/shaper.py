"""What the speech engine writes, as samples at our rate and speed."""

from narthex.core.errors import EngineCrashed
from narthex.engine.speech.pcm import Resampler, Stretcher, Unreadable, WavReader, written


class Shaper:
    """From the program's WAV file to samples as they are told."""

    def __init__(self, stretch: float) -> None:
        self._reader = WavReader()
        self._resampler: Resampler | None = None
        self._stretcher = Stretcher(stretch) if stretch > 1 else None

    def feed(self, data: bytes) -> bytes:
        """The samples that can be told now. Raises `EngineCrashed`."""
        try:
            samples = self._reader.feed(data)
        except Unreadable:
            raise EngineCrashed("The speech engine did not write a sound.") from None
        if not len(samples):
            return b""
        if self._resampler is None:
            self._resampler = Resampler(self._reader.rate)
        samples = self._resampler.feed(samples)
        return written(samples if self._stretcher is None else self._stretcher.feed(samples))

    def end(self) -> bytes:
        """Those that are left."""
        if self._resampler is None:
            return b""
        samples = self._resampler.end()
        if self._stretcher is None:
            return written(samples)
        return written(self._stretcher.feed(samples)) + written(self._stretcher.end())
