"""What Anthropic's models can do, by the version in their names. No I/O.

Source: the vendor's pages on structured outputs, adaptive thinking and migration, November 2026. Schemas are held from
4.5 on; from 4.6 on a model thinks by effort and goes on with no message of the assistant; from 4.7 on it takes no
sampling fields. Two families always think, and from 5.1 on can't be made to call a tool. What a name does not tell is
left as it was.
"""

import re

import msgspec

from narthex.providers.traits import ModelTraits

_version = re.compile(
    r"(?:.*[./])?claude-(?:([a-z]+)-)?(\d{1,2})(?:-(\d{1,2}))?(?:-[a-z]+)?(?:[-@]\d{8}|-latest)?(?:-v\d.*)?"
).fullmatch

_HOLDS_SCHEMAS = (4, 5)
_ADAPTIVE = (4, 6)
_NO_SAMPLING = (4, 7)
_ALWAYS_THINKING = ("fable", "mythos")
_CALLS_FREELY = (5, 1)


def traits_of(model: str, traits: ModelTraits) -> ModelTraits:
    """The traits of one model; `traits` are those of models whose names tell nothing."""
    found = _version(model.lower())
    if found is None:
        return traits
    version = (int(found[2]), int(found[3] or 0))
    known = traits
    if version >= _HOLDS_SCHEMAS:
        known = msgspec.structs.replace(known, json_schema=True)
    if version >= _ADAPTIVE:
        known = msgspec.structs.replace(known, adaptive=True, prefill=False)
    if version >= _NO_SAMPLING:
        known = msgspec.structs.replace(known, reasoning=True)
    if found[1] in _ALWAYS_THINKING:
        known = msgspec.structs.replace(known, may_not_think=False, may_have_to_call=version < _CALLS_FREELY)
    return known
