"""Rows of `/v1/images/generations`. Source: contract sections 1.8, 5.4, 6, 8.2, 9 and 11."""

from collections.abc import Iterator

from tests.validation_rows import (
    ABSENT,
    HIGH_INT,
    LONG_TEXT,
    LOW_INT,
    MISSING,
    TYPE,
    UNKNOWN,
    UNSUPPORTED,
    UNSUPPORTED_VALUE,
    VALUE,
    Row,
    Surface,
)
from tests.validation_rows_sampling import INT64, SEED_END

PICTURES = "house/pictures"
OLD, NEWER, CHATTING = "dall-e-2", "dall-e-3", "house/chat"
IMAGES = Surface("/v1/images/generations", {"model": PICTURES, "prompt": "A cat"})
IONOS, OXY = IMAGES.of("ionos"), IMAGES.of("oxy")
SIZES = ("256x256", "512x512", "1024x1024", "1536x1024", "1024x1536", "1792x1024", "1024x1792")


def _prompt() -> Iterator[Row]:
    name = "prompt"
    yield from IMAGES.ok(name, "a", " ", "☃", "<|endoftext|>", "x" * 32_000, "☃" * 32_000)
    yield from IMAGES.bad(name, LONG_TEXT, "x" * 32_001, "☃" * 32_001)
    for model, most in ((OLD, 1000), (NEWER, 4000)):
        yield from IMAGES.ok(name, "x" * most, "☃" * most, model=model)
        yield from IMAGES.bad(name, LONG_TEXT, "x" * (most + 1), "☃" * (most + 1), model=model)
    yield from IMAGES.bad(name, LONG_TEXT, "x" * 1001, model=ABSENT)
    yield from IMAGES.bad(name, VALUE, "")
    yield from IMAGES.required(name)
    yield from IMAGES.types(name, "text")


def _model() -> Iterator[Row]:
    name = "model"
    yield from IMAGES.ok(name, PICTURES, OLD)
    yield from IMAGES.optional(name)
    yield from IMAGES.types(name, "text")
    yield from IMAGES.bad(name, VALUE, "")
    yield from IMAGES.bad(name, "model_not_found", "nobody", "house/Pictures", f"{PICTURES} ", status=404)
    yield from IMAGES.bad(name, UNSUPPORTED_VALUE, CHATTING)
    for profile in (IONOS, OXY):
        yield from profile.bad(name, MISSING, ABSENT, None)
        yield from profile.ok(name, PICTURES)


def _counts() -> Iterator[Row]:
    yield from IMAGES.ok("n", 1, 2, 10, 2.0)
    yield from IMAGES.ok("n", 1, 3, stream=True)
    yield from IMAGES.bad("n", LOW_INT, 0, -1, -INT64)
    yield from IMAGES.bad("n", HIGH_INT, 11, 128, INT64, 10**30)
    yield from OXY.ok("n", 1, 4)
    yield from OXY.ok("n", 1, None, stream=True)
    yield from OXY.bad("n", HIGH_INT, 5, 10, 11)
    yield from OXY.bad("n", VALUE, 2, 4, stream=True)
    yield from IONOS.ok("n", 1, 10)
    yield from IMAGES.ok("output_compression", 100)
    yield from IMAGES.ok("output_compression", 0, 50, 100, output_format="jpeg")
    yield from IMAGES.ok("output_compression", 0, 99, output_format="webp")
    yield from IMAGES.bad("output_compression", VALUE, 0, 99)
    yield from IMAGES.bad("output_compression", VALUE, 50, output_format="png")
    yield from IMAGES.bad("output_compression", LOW_INT, -1)
    yield from IMAGES.bad("output_compression", HIGH_INT, 101, INT64)
    yield from IMAGES.ok("partial_images", 0)
    yield from IMAGES.ok("partial_images", 0, 1, 3, None, stream=True)
    yield from IMAGES.bad("partial_images", VALUE, 1, 3)
    yield from IMAGES.bad("partial_images", VALUE, 1, stream=False)
    yield from IMAGES.bad("partial_images", LOW_INT, -1, stream=True)
    yield from IMAGES.bad("partial_images", HIGH_INT, 4, stream=True)
    for name in ("n", "output_compression", "partial_images"):
        yield from IMAGES.types(name, "integer")
        yield from IMAGES.optional(name)


def _choices() -> Iterator[Row]:
    for name, taken, refused in (
        ("quality", ("standard", "hd", "low", "medium", "high", "auto"), ("", "xhigh", "HD", "best", "auto ")),
        ("response_format", ("url", "b64_json"), ("", "b64", "URL", "base64", "json")),
        ("style", ("vivid", "natural"), ("", "Vivid", "auto")),
        ("background", ("transparent", "opaque", "auto"), ("", "none", "white")),
        ("output_format", ("png", "jpeg", "webp"), ("", "jpg", "gif", "PNG")),
        ("moderation", ("low", "auto"), ("", "high", "none")),
    ):
        yield from IMAGES.ok(name, *taken)
        yield from IMAGES.bad(name, VALUE, *refused)
        yield from IMAGES.types(name, "text")
        yield from IMAGES.optional(name)
    yield from IMAGES.ok("response_format", "b64_json", None, stream=True)
    yield from IMAGES.bad("response_format", VALUE, "url", stream=True)
    yield from IMAGES.ok("background", "transparent", output_format="webp")
    yield from IMAGES.ok("background", "opaque", "auto", output_format="jpeg")
    yield from IMAGES.bad("background", VALUE, "transparent", output_format="jpeg")
    yield from IONOS.ok("response_format", "url", "b64_json", None)


def _sizes() -> Iterator[Row]:
    name = "size"
    yield from IMAGES.ok(name, "auto", *SIZES, *(size.replace("x", "*") for size in SIZES), "1x1", "99999x99999")
    refused = (
        "",
        "AUTO",
        "1024",
        "1024X1024",
        "1024 x 1024",
        "1024x",
        "x1024",
        "0x0",
        "01x1",
        "100000x1",
        "1024\u00d71024",
    )
    yield from IMAGES.bad(
        name, VALUE, *refused, "1024x1024x1024", "-1x1", "1024x1024 ", "1024**1024", "1024,1024", "٣x٣"
    )
    yield from IMAGES.types(name, "text")
    yield from IMAGES.optional(name)
    allowed = ("1024x1024", "1792x1024", "1024x1792")
    yield from IONOS.ok(name, *allowed, *(size.replace("x", "*") for size in allowed), None, ABSENT)
    yield from IONOS.bad(name, VALUE, "auto", "512x512", "256*256", "1536x1024", "1792x1792", "2048*2048")
    yield from OXY.ok(name, "512x512", "auto")


def _others() -> Iterator[Row]:
    yield from IMAGES.ok("stream", True, False)
    yield from IMAGES.types("stream", "boolean")
    yield from IMAGES.bad("stream", TYPE, 0, "true")
    yield from IMAGES.optional("stream")
    yield from IMAGES.ok("user", "", "user-123", "☃", "x" * 1000)
    yield from IMAGES.types("user", "text")
    yield from IMAGES.optional("user")
    for name in (
        "zzz",
        "",
        "Prompt",
        "SIZE",
        "messages",
        "input",
        "temperature",
        "max_tokens",
        "stream_options",
        "image",
    ):
        yield from IMAGES.bad(name, UNKNOWN, 1, None)


def _siblings() -> Iterator[Row]:
    """Checked, and then refused by a server that has them not; unknown to two profiles."""
    for name, kind, taken in (
        ("negative_prompt", "text", ("", "dogs")),
        ("steps", "integer", (1, 25, 50)),
        ("sampler", "text", ("Euler", "Euler a", "Heun", "DPM++ 2M Karras", "DPM++ SDE Karras", "DDIM")),
        ("seed", "integer", (0, -1, 7, INT64, SEED_END, -SEED_END)),
    ):
        yield from OXY.bad(name, UNSUPPORTED, *taken)
        yield from OXY.types(name, kind)
        yield from OXY.optional(name)
        yield from IMAGES.bad(name, UNSUPPORTED, taken[0])
        yield from IMAGES.optional(name)
        for surface in (IMAGES.of("thyris"), IONOS):
            yield from surface.bad(name, UNKNOWN, taken[0])
            yield from surface.optional(name)
    yield from OXY.bad("steps", LOW_INT, 0, -1)
    yield from OXY.bad("steps", HIGH_INT, 51)
    yield from OXY.bad("sampler", VALUE, "", "euler", "LMS")
    yield from OXY.bad("seed", HIGH_INT, SEED_END + 1)
    yield from OXY.bad("seed", LOW_INT, -SEED_END - 1)


def _lenient() -> Iterator[Row]:
    lenient = IMAGES.of("lenient")
    yield from lenient.ok("zzz", 1)
    yield from lenient.bad("Prompt", UNKNOWN, "a")
    yield from lenient.bad("n", HIGH_INT, 11)


def rows() -> Iterator[Row]:
    for part in (_prompt, _model, _counts, _choices, _sizes, _others, _siblings, _lenient):
        yield from part()
