"""`providers.md`: the servers that are known by name, and what becomes of each request field at each."""

from collections import Counter

import capabilities_page
import markdown

from narthex.core.capabilities import Capabilities, State
from narthex.core.ports import Surface
from narthex.http.capabilities import KNOWN, Fate, fates
from narthex.providers.presets import PRESETS, codecs
from narthex.routing.bounded import with_bounds
from narthex.routing.by_schema import with_schemas
from narthex.routing.fanout import with_choices
from narthex.routing.validated import with_one_call

INTRO = """\
A provider's `type` in the [settings](settings.md) is one of these. A type knows where its server is, how it wants its
key, which requests it takes and which of their fields; `openai-compatible` is any other server that speaks OpenAI's
format, and is sent what the caller wrote.

```yaml
providers:
  openai: {type: openai, api_key: "${OPENAI_API_KEY}", models: {o4-mini: {reasoning: true}}}
  gpu:    {type: vllm, base_url: http://gpu-1:8000/v1}
```

What a server does not take is never sent to it. Where models of one server differ, `models` says so by the model's
name; a field that a model refuses is then refused here, or another deployment answers. Every server can be sent what
the settings `extra_params` and `extra_headers` allow, by
[`inference_extra_params` and `inference_extra_headers`](../howto/inference-settings.md#what-else-a-server-is-told)."""

MARKS = """\
`yes`: sent as it is. `by us`: brought about by other means. `no effect`: not sent, and named in the answer's
`x-narthex-ignored`. An empty cell: refused by name, values apart that ask for nothing. Behind the colon are the values
that are honoured. Fields that no server takes are left out."""

WALK = """\
## How this is known

`scripts/walk` sends every field in every form that it has to every type, whose server is played and says what arrived,
and prints what became of it: on these paths, on Scale's API, on `/api/chat`, and with keys of every profile. A field is
honoured if it arrived as the server's vendor documents it, or if the answer shows it; it has no effect if the answer
names it; it is refused if the error names it and nothing was sent. Anything else fails, as does a cell above that says
otherwise."""

_WORDS = {State.NATIVE: "yes", State.EMULATED: "by us", State.NO_EFFECT: "no effect", State.REFUSED: ""}


def page() -> str:
    """The whole page."""
    head = ("type", "address", "key", "requests")
    rows = [
        (
            markdown.code(name),
            markdown.code(preset.base_url) if preset.base_url else "to be given",
            markdown.code(preset.key_header),
            ", ".join(preset.surfaces),
        )
        for name, preset in PRESETS.items()
    ]
    return markdown.page("Providers", INTRO, markdown.table(head, rows), MARKS, *map(_section, KNOWN), _counted())


def _columns(surface: Surface) -> dict[str, dict[str, Fate]]:
    return {
        name: fates(surface, _honoured(codecs(preset, preset.traits)[surface].capabilities(), surface))
        for name, preset in PRESETS.items()
        if surface in preset.surfaces
    }


def _counted() -> str:
    """How many cells there are of each kind."""
    rows = []
    for surface in KNOWN:
        columns = _columns(surface)
        counted = Counter(fate.state for column in columns.values() for fate in column.values())
        numbers = (len(columns), len(KNOWN[surface]), *(counted[state] for state in State))
        rows.append((markdown.code(capabilities_page.PATHS[surface]), *map(str, numbers)))
    head = ("path", "types", "fields", *State)
    return f"{WALK}\n\n{markdown.table(head, rows)}"


def _section(surface: Surface) -> str:
    columns = _columns(surface)
    rows = [
        (markdown.code(field), *cells)
        for field in KNOWN[surface]
        if any(cells := [_told(column[field]) for column in columns.values()])
    ]
    table = markdown.table(("field", *map(markdown.code, columns)), rows)
    return f"## `POST {capabilities_page.PATHS[surface]}`\n\n{table}"


def _honoured(by_itself: Capabilities, surface: Surface) -> Capabilities:
    by_schema = with_schemas(by_itself, surface)
    return with_bounds(with_one_call(with_choices(by_schema, surface), surface), surface)


def _told(fate: Fate) -> str:
    word = _WORDS[fate.state]
    return f"{word}: {fate.limits}" if word and fate.limits else word
