"""The formats of strings that can be held, each as a pattern. A pattern may admit less than its format, never more.

Source: JSON Schema 2020-12 validation, section 7.3; RFC 3339 without leap seconds, and the 29th of February in leap
years only; host names without doubled hyphens, so that none claims to be an internationalized one.
"""

from typing import Final

_DATE = (
    r"(?:[0-9]{4}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)"
    r"|02-(?:0[1-9]|1[0-9]|2[0-8]))|(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:[02468][048]|[13579][26])00)-02-29)"
)
_TIME = r"(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{1,9})?(?:Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
_CLOCK = r"(?:[0-9]+H(?:[0-9]+M(?:[0-9]+S)?)?|[0-9]+M(?:[0-9]+S)?|[0-9]+S)"
_DURATION = rf"P(?:(?:[0-9]+Y(?:[0-9]+M(?:[0-9]+D)?)?|[0-9]+M(?:[0-9]+D)?|[0-9]+D)(?:T{_CLOCK})?|T{_CLOCK}|[0-9]+W)"
_LABEL = r"[A-Za-z0-9]{1,15}(?:-[A-Za-z0-9]{1,7}){0,2}"
_HOST = rf"{_LABEL}(?:\.{_LABEL}){{0,6}}"
_OCTET = r"(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_H = "[0-9a-fA-F]{1,4}"
_IPV6 = (
    rf"(?:(?:{_H}:){{7}}{_H}|(?:{_H}:){{1,7}}:|(?:{_H}:){{1,6}}:{_H}|(?:{_H}:){{1,5}}(?::{_H}){{1,2}}"
    rf"|(?:{_H}:){{1,4}}(?::{_H}){{1,3}}|(?:{_H}:){{1,3}}(?::{_H}){{1,4}}|(?:{_H}:){{1,2}}(?::{_H}){{1,5}}"
    rf"|{_H}:(?::{_H}){{1,6}}|:(?::{_H}){{1,7}}|::)"
)
_WORD = r"[A-Za-z0-9_+%-]"
_EMAIL = (
    rf"{_WORD}{{1,31}}(?:\.{_WORD}{{1,10}}){{0,3}}"
    r"@(?:[A-Za-z0-9]{1,15}(?:-[A-Za-z0-9]{1,7}){0,2}\.){1,5}[A-Za-z]{2,15}"
)
_PCHAR = r"(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})"
_QUERY = r"(?:[A-Za-z0-9._~!$&'()*+,;=:@/?-]|%[0-9A-Fa-f]{2})"
_URI = (
    rf"[A-Za-z][A-Za-z0-9+.-]{{0,30}}:(?://{_HOST}(?::[0-9]{{1,4}})?(?:/{_PCHAR}*)*|/?{_PCHAR}+(?:/{_PCHAR}*)*)"
    rf"(?:\?{_QUERY}*)?(?:#{_QUERY}*)?"
)

PATTERNS: Final = {
    name: f"^(?:{pattern})$"
    for name, pattern in {
        "date": _DATE,
        "date-time": f"{_DATE}T{_TIME}",
        "duration": _DURATION,
        "email": _EMAIL,
        "hostname": _HOST,
        "ipv4": rf"(?:{_OCTET}\.){{3}}{_OCTET}",
        "ipv6": _IPV6,
        "time": _TIME,
        "uri": _URI,
        "uuid": "[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}",
    }.items()
}

BOUNDS: Final = {
    "int32": (-(2**31), 2**31 - 1),
    "int64": (-(2**53), 2**53),
    "uint32": (0, 2**32 - 1),
    "uint64": (0, 2**53),
    "float": None,
    "double": None,
}
"""Formats of numbers, as OpenAPI has them: least and greatest of what is generated. None: no bounds."""
