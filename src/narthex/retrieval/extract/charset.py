"""Bytes to text. UTF-8 wins wherever it fits; else what the file declares; else a guess, which is told."""

import codecs
import re
import string

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_DECLARED = re.compile(
    rb"(?:charset\s*=\s*|<\?xml[^>]{0,100}?encoding\s*=\s*)[\"']?([A-Za-z0-9_.:-]{2,40})", re.IGNORECASE
)
_HEAD_BYTES = 4096
_SAMPLE_BYTES = 64 * 1024
_MANY = 0.5
"""Of the letters: a text in Latin script has fewer outside ASCII, one in another script has more."""
_BEYOND_ASCII = bytes(range(0x80, 0x100))
_ANY_TEXT = bytes(range(0x20, 0x7F)) + b"\t\n\r\f\v\b\x1b" + _BEYOND_ASCII


def marked(head: bytes) -> str | None:
    """The encoding that a byte order mark tells."""
    return next((encoding for mark, encoding in _MARKS if head.startswith(mark)), None)


def is_binary(head: bytes) -> bool:
    """Whether these bytes are no text in any encoding: more control characters than a text has by mistake."""
    if marked(head) is not None:
        return False
    return len(head.translate(None, _ANY_TEXT)) * 200 > len(head)


def decode(data: bytes) -> tuple[str, str]:
    """The text, and a warning where it may be wrong ("" where it isn't)."""
    if (encoding := marked(data[:4])) is not None:
        return _with_gaps(data, encoding)
    try:
        return data.decode(), ""
    except UnicodeDecodeError:
        pass
    text = data.decode(errors="replace")
    gaps = text.count("\ufffd")
    if len(text) - gaps - len(text.encode("ascii", "ignore")) > 10 * gaps:
        return text, _told(gaps, "UTF-8")
    return _guessed(data)


def _with_gaps(data: bytes, encoding: str) -> tuple[str, str]:
    text = data.decode(encoding, errors="replace")
    gaps = text.count("\ufffd")
    return text, (_told(gaps, encoding.removesuffix("-sig").upper()) if gaps else "")


def _told(gaps: int, encoding: str) -> str:
    return f"The file is not valid {encoding} in places ({gaps}): U+FFFD stands there."


def _guessed(data: bytes) -> tuple[str, str]:
    for encoding in (_declared(data), _likely(data), "cp1252", "latin-1"):
        if encoding is None:
            continue
        try:
            return data.decode(encoding), f"The file is not in UTF-8; it was read as {encoding}."
        except (UnicodeDecodeError, LookupError):
            continue
    raise AssertionError("latin-1 takes any bytes")


def _declared(data: bytes) -> str | None:
    found = _DECLARED.search(data, 0, _HEAD_BYTES)
    if found is None:
        return None
    try:
        name = codecs.lookup(found[1].decode("ascii"))
    except LookupError:
        return None
    return name.name if name._is_text_encoding else None  # noqa: SLF001 - nothing else tells; `zlib` is a codec too


def _likely(data: bytes) -> str | None:
    """What the letters' frequencies tell; None where it is most likely a text in Latin script."""
    high = re.search(rb"[\x80-\xff]", data)
    start = max(0, high.start() - 1000) if high else 0
    sample = data[start : start + _SAMPLE_BYTES]
    strange = len(sample) - len(sample.translate(None, _BEYOND_ASCII))
    letters = len(sample) - len(sample.translate(None, _BEYOND_ASCII + string.ascii_letters.encode()))
    if strange < letters * _MANY:
        return None
    import charset_normalizer  # noqa: PLC0415 - nearly all texts are in UTF-8

    best = charset_normalizer.from_bytes(sample).best()
    return best.encoding if best is not None else None
