"""How long a server asks us to stay away, in whatever words its kind has for it. No I/O.

Sources: RFC 9110 section 10.2.3; OpenAI's, Azure's and Anthropic's pages on rate limits; Google's error model
(`google.rpc.RetryInfo`).

Rule 1: headers win over bodies, and what tells a wait over what tells when a limit is reset.
Rule 2: what can't be read, or makes no sense as a wait, tells nothing.
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any

Headers = Sequence[tuple[bytes, bytes]]

_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SPAN = r"(?:\d{1,9}(?:\.\d{1,9})?(?:ms|[smhd]))+"
_is_span = re.compile(_SPAN).fullmatch
_spans = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)(ms|[smhd])").findall
_said = re.compile(
    rf"(?:try again|retry) (?:in|after) (?:({_SPAN})\b|(\d{{1,9}}(?:\.\d{{1,9}})?) seconds?\b)", re.IGNORECASE
).search

_OPENAI_BUCKETS = ("x-ratelimit-{}-requests", "x-ratelimit-{}-tokens")
_ANTHROPIC_BUCKETS = tuple(
    f"anthropic-ratelimit-{kind}-{{}}" for kind in ("requests", "tokens", "input-tokens", "output-tokens")
)


def retry_after_s(headers: Headers, document: Any = None, *, limited: bool = False) -> float | None:
    """Seconds until a retry may pass; None: nothing tells. `document`: the body, parsed, whatever it is.

    `limited`: a rate limit was reached, so that the time of its reset counts too. `headers` have lower-case names.
    """
    fields = {name: value.decode("latin-1") for name, value in reversed(headers)}
    told = _told(fields)
    if told is None and limited:
        told = _reset(fields)
    return _of_body(document) if told is None else told


def _told(fields: Mapping[bytes, str]) -> float | None:
    """`retry-after-ms`, else `retry-after`, which may be a date."""
    for name, unit_s in ((b"retry-after-ms", 0.001), (b"x-ms-retry-after-ms", 0.001), (b"retry-after", 1.0)):
        if (seconds := _number(fields.get(name))) is not None:
            return seconds * unit_s
    try:
        return _until(parsedate_to_datetime(fields[b"retry-after"]), fields)
    except (KeyError, ValueError):
        return None


def _reset(fields: Mapping[bytes, str]) -> float | None:
    """When the last of the limits that are used up is reset. One of which more is left is not what was reached."""
    resets = [*_resets(fields, _OPENAI_BUCKETS, _span), *_resets(fields, _ANTHROPIC_BUCKETS, _instant)]
    return max(resets, default=None)


def _resets(
    fields: Mapping[bytes, str], buckets: Sequence[str], read: Callable[[str, Mapping[bytes, str]], float | None]
) -> Iterator[float]:
    for bucket in buckets:
        told = fields.get(bucket.format("reset").encode())
        left = _number(fields.get(bucket.format("remaining").encode()))
        if told is not None and not left and (seconds := read(told, fields)) is not None:
            yield seconds


def _of_body(document: Any) -> float | None:
    error = document.get("error", document) if isinstance(document, dict) else None
    if not isinstance(error, dict):
        return None
    details = error.get("details")
    for detail in details if isinstance(details, list) else ():
        delay = detail.get("retryDelay") if isinstance(detail, dict) else None
        if isinstance(delay, str) and (seconds := _span(delay)) is not None:
            return seconds
    message = error.get("message")
    if isinstance(message, str) and (found := _said(message[:4000])) is not None:
        return _span(found[1]) if found[1] else float(found[2])
    return None


# --- forms of time -------------------------------------------------------------------------------------------------


def _number(value: str | None) -> float | None:
    try:
        number = float(value or "x")
    except ValueError:
        return None
    return number if math.isfinite(number) and number >= 0 else None


def _span(text: str, _: Mapping[bytes, str] | None = None) -> float | None:
    """`20ms`, `17s`, `6m0s`, `1h2m3.5s`."""
    if not _is_span(text):
        return None
    return sum(float(count) * _UNITS_S[unit] for count, unit in _spans(text))


def _instant(text: str, fields: Mapping[bytes, str]) -> float | None:
    """A time of RFC 3339."""
    try:
        return _until(datetime.fromisoformat(text), fields)
    except ValueError:
        return None


def _until(then: datetime, fields: Mapping[bytes, str]) -> float | None:
    """Seconds from the server's own time: its clock and ours need not agree."""
    try:
        now = parsedate_to_datetime(fields[b"date"])
        return max(0.0, (then - now).total_seconds())
    except (KeyError, ValueError, TypeError):  # TypeError: one has a time zone and the other has none
        return None
