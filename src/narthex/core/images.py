"""The canonical image request, and what images are. Source: contract sections 1.8, 5.4 and 6."""

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

ResponseFormat = Literal["url", "b64_json"]

UNKNOWN_MEDIA = "application/octet-stream"

_GPT_IMAGE = ("gpt-image", "chatgpt-image")


class ImagesRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One call for images. `size` as `WxH` or `auto`; `sent` holds it in that form too."""

    model: str
    prompt: str
    n: int = 1
    size: str = "auto"
    quality: str = "auto"
    background: str = "auto"
    output_format: str = "png"
    response_format: ResponseFormat
    stream: bool = False
    partial_images: int = 0
    fields: Mapping[str, Any]
    sent: Mapping[str, msgspec.Raw]


def is_gpt_image(model: str) -> bool:
    """Whether a model is of the family that streams, knows no `response_format` and always answers with data."""
    return model.rpartition("/")[2].startswith(_GPT_IMAGE)


def media_type(data: bytes) -> str:
    """What an image's first bytes say it is; `UNKNOWN_MEDIA` for what nobody should display."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if data.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    return UNKNOWN_MEDIA
