"""`capabilities.md`: what becomes of each request field, by who answers."""

from collections.abc import Mapping

import markdown

from narthex.core.capabilities import EMBEDDINGS, Capabilities
from narthex.core.ports import Surface
from narthex.engine.images.deployment import IMAGES
from narthex.engine.local import capabilities as local
from narthex.engine.speech.deployment import honoured as spoken
from narthex.http.capabilities import KNOWN, Fate, fates
from narthex.providers import openai_completions, openai_embeddings, openai_images, openai_speech
from narthex.providers.openai_codec import HONOURED
from narthex.routing.bounded import with_bounds
from narthex.routing.by_schema import with_schemas

INTRO = """\
Nothing that a caller sets is dropped in silence. What becomes of a field depends on the deployment that answers:

* **native**: honoured.
* **emulated**: honoured by other means than the model's server has itself.
* **no effect**: accepted, changes nothing, and is named in the answer's `x-narthex-ignored`.
* **refused**: 400 `unsupported_parameter`, or `unsupported_value` where only some values are refused, with the path of
  the field in `param`. A value after "except" asks for nothing and passes.

Behind the colon are the limits: which values are honoured. A model with several deployments is answered by the first
that can honour the whole request. A field that stands in none of these tables is a 400 `unknown_parameter`.

Additions by `inference_extra_params` and `inference_extra_headers` are honoured where the settings of a provider allow
them. Where a [speech engine](../howto/speech.md) is installed, chat models that only write also honour `modalities` and
`audio`, emulated by it.

Each kind of provider has a column of its own on the [providers' page](providers.md)."""

RUNNING = """\
A running server tells the same of its own models, for the key that asks: `GET /v1/capabilities`, or of one model with
`GET /v1/capabilities?model=ID`.

```json
{"object": "list", "data": [{"id": "smollm2-135m-instruct", "object": "model.capabilities", "deployments": [
  {"name": "local/smollm2-135m-instruct", "surfaces": {"chat": {"temperature": {"state": "native"},
    "modalities": {"state": "native", "limits": "text only"}}}}]}]}
```

`limits` is left out where there are none. A surface that a deployment does not serve is left out, too. A key's profile
may know fewer fields than the model; the answer tells of the model."""

EXCEPT = "except "
EMBEDDED, ELSEWHERE = "embedded models", "OpenAI-compatible providers"
BY_SURFACE: Mapping[Surface, Mapping[str, Capabilities]] = {
    "chat": {EMBEDDED: local.BY_SURFACE["chat"], ELSEWHERE: with_bounds(with_schemas(HONOURED, "chat"), "chat")},
    "completions": {
        EMBEDDED: local.BY_SURFACE["completions"],
        ELSEWHERE: with_bounds(openai_completions.HONOURED, "completions"),
    },
    "embeddings": {EMBEDDED: EMBEDDINGS, ELSEWHERE: openai_embeddings.HONOURED},
    "images": {EMBEDDED: IMAGES, ELSEWHERE: openai_images.HONOURED},
    "speech": {EMBEDDED: spoken(encodes=True), ELSEWHERE: openai_speech.HONOURED},
}
"""Every row of capabilities there is, by the heading of its column."""

PATHS: Mapping[Surface, str] = {
    "chat": "/v1/chat/completions",
    "completions": "/v1/completions",
    "embeddings": "/v1/embeddings",
    "images": "/v1/images/generations",
    "speech": "/v1/audio/speech",
}


def page() -> str:
    """The whole page."""
    return markdown.page("Capabilities", INTRO, RUNNING, *map(_section, BY_SURFACE))


def _section(surface: Surface) -> str:
    columns = {head: fates(surface, honoured) for head, honoured in BY_SURFACE[surface].items()}
    told = {head: {name: _told(fate) for name, fate in column.items()} for head, column in columns.items()}
    for name, which in local.OF_THE_MODEL.get(surface, {}).items():
        told[EMBEDDED][name] += f"; native with {which}"
    rows = [(markdown.code(name), *(column[name] for column in told.values())) for name in KNOWN[surface]]
    return f"## `POST {PATHS[surface]}`\n\n{markdown.table(('field', *columns), rows)}"


def _told(fate: Fate) -> str:
    if fate.limits.startswith(EXCEPT):
        return f"{fate.state}, {EXCEPT}{markdown.code(fate.limits.removeprefix(EXCEPT))}"
    return f"{fate.state}: {fate.limits}" if fate.limits else fate.state.value
