"""Pixels to files. Pillow comes with the extra `narthex[images]`."""

import io
from typing import Any, Literal

from PIL import Image

from narthex.engine.images.pipeline import Pixels

Format = Literal["png", "jpeg", "webp"]


def encoded(pixels: Pixels, output: Format, *, quality: int = 100) -> bytes:
    """The file. `quality`: 0..100, of the formats that lose something."""
    options: dict[str, Any] = {"png": {}, "jpeg": {"quality": max(1, quality)}, "webp": {"quality": quality}}[output]
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, output.upper(), **options)
    return file.getvalue()
