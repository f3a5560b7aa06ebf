"""What images are."""

import pytest
from tests.images import JPEG, PNG, WEBP

from narthex.core.images import is_gpt_image, media_type


@pytest.mark.parametrize(
    ("data", "media"),
    [
        (PNG, "image/png"),
        (JPEG, "image/jpeg"),
        (WEBP, "image/webp"),
        (b"", "application/octet-stream"),
        (b"RIFF\x10\x00\x00\x00WAVE", "application/octet-stream"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "application/octet-stream"),
        (b"<html>", "application/octet-stream"),
    ],
)
def test_the_first_bytes_tell_the_kind(data: bytes, media: str) -> None:
    assert media_type(data) == media


@pytest.mark.parametrize(
    ("model", "is_one"),
    [
        ("gpt-image-1", True),
        ("gpt-image-1.5", True),
        ("chatgpt-image-latest", True),
        ("openai/gpt-image-1", True),
        ("dall-e-3", False),
        ("my-gpt-image", False),
        ("black-forest-labs/FLUX.1-schnell", False),
    ],
)
def test_one_family_has_its_own_ways(model: str, is_one: bool) -> None:
    assert is_gpt_image(model) is is_one
