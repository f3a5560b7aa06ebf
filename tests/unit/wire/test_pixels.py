import io

import pytest
from PIL import Image

from narthex.wire.pixels import size_of

SIZES = [(1, 1), (3, 200), (300, 7), (1025, 2)]


def image(kind, size, mode="RGB", **options):
    file = io.BytesIO()
    Image.new(mode, size).save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("PNG", {}),
        ("GIF", {}),
        ("JPEG", {}),
        ("JPEG", {"progressive": True, "comment": b"c" * 3000}),
        ("WEBP", {}),
        ("WEBP", {"lossless": True}),
        ("WEBP", {"exif": b"Exif\0\0MM\0*\0\0\0\x08\0\0"}),
    ],
)
def test_the_size_of_a_real_image(kind, options, size):
    assert size_of(image(kind, size, **options)) == size


def test_fill_bytes_before_a_marker():
    found = image("JPEG", (5, 6))
    assert size_of(found[:2] + b"\xff\xff" + found[2:]) == (5, 6)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"BM" + bytes(40),
        image("PNG", (5, 6))[:23],
        b"\x89PNG\r\n\x1a\n" + bytes(40),
        image("GIF", (5, 6))[:9],
        image("JPEG", (5, 6))[:60],
        b"\xff\xd8\x00" + bytes(40),
        image("WEBP", (5, 6))[:29],
        b"RIFF\0\0\0\0WEBPVP9 " + bytes(40),
    ],
)
def test_what_tells_no_size(data):
    assert size_of(data) is None
