"""How large an image is, by its head alone: PNG, GIF, JPEG and WebP.

Source: PNG (W3C) 11.2.1, GIF89a 18, ITU T.81 B.2.2, RFC 9649.
"""

_NO_SIZE = frozenset((0xC4, 0xC8, 0xCC))
"""Markers among JPEG's frame headers that are none."""


def size_of(image: bytes) -> tuple[int, int] | None:
    """Width and height in pixels; None where the head doesn't tell."""
    if image.startswith(b"\x89PNG\r\n\x1a\n") and image[12:16] == b"IHDR" and len(image) >= 24:
        return int.from_bytes(image[16:20], "big"), int.from_bytes(image[20:24], "big")
    if image.startswith((b"GIF87a", b"GIF89a")) and len(image) >= 10:
        return int.from_bytes(image[6:8], "little"), int.from_bytes(image[8:10], "little")
    if image.startswith(b"\xff\xd8"):
        return _jpeg(image)
    if image.startswith(b"RIFF") and image[8:12] == b"WEBP" and len(image) >= 30:
        return _webp(image)
    return None


def _jpeg(image: bytes) -> tuple[int, int] | None:
    at = 2
    while at + 9 <= len(image) and image[at] == 0xFF:
        kind = image[at + 1]
        if kind == 0xFF:  # fill bytes may stand before a marker
            at += 1
            continue
        if 0xC0 <= kind <= 0xCF and kind not in _NO_SIZE:
            return int.from_bytes(image[at + 7 : at + 9], "big"), int.from_bytes(image[at + 5 : at + 7], "big")
        at += 2 + int.from_bytes(image[at + 2 : at + 4], "big")
    return None


def _webp(image: bytes) -> tuple[int, int] | None:
    kind = image[12:16]
    if kind == b"VP8X":
        return 1 + int.from_bytes(image[24:27], "little"), 1 + int.from_bytes(image[27:30], "little")
    if kind == b"VP8L":
        bits = int.from_bytes(image[21:25], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8 ":
        return int.from_bytes(image[26:28], "little") & 0x3FFF, int.from_bytes(image[28:30], "little") & 0x3FFF
    return None
