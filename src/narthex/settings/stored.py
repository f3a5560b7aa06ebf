"""The branch of completions that callers store."""

from pydantic import Field, PositiveFloat, PositiveInt

from narthex.settings.part import Part


class Stored(Part):
    """Chat completions that callers store with `store: true`."""

    kept_days: PositiveFloat = Field(30.0, description="How long a completion is kept, from its creation on.")
    max_bytes: PositiveInt = Field(
        10 * 1024**3,
        description="All that one account may store, compressed; beyond it `store: true` is answered with 507.",
    )
