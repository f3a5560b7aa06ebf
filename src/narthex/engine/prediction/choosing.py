"""How the next token is chosen: the likeliest, or drawn as the engine draws."""

from narthex.engine.prediction.llama_c import Sampler, Text


class Likeliest:
    """Always the likeliest token."""

    def __init__(self, text: Text) -> None:
        self._text = text

    def __call__(self, place: int) -> int:
        """See `Choose`."""
        return int(self._text.logits(place).argmax())


class Drawn:
    """A draw, by a sampler that is closed with the answer."""

    def __init__(self, text: Text, sampler: Sampler) -> None:
        self._text = text
        self._sampler = sampler

    def __call__(self, place: int) -> int:
        """See `Choose`."""
        return self._sampler.choose(self._text.context, place)
