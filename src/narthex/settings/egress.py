"""The branch of what is fetched for callers."""

from typing import Literal

import pydantic
from pydantic import Field, PositiveInt

from narthex.core.errors import ConfigError
from narthex.settings.part import Part
from narthex.settings.public import Seconds
from narthex.upstream.egress import MIB
from narthex.upstream.reach import Allowed


class Egress(Part):
    """Images that callers name by their address, on their way to a model that must not fetch them itself."""

    images: Literal["fetch", "refuse"] = Field(
        "fetch", description="fetch: from public addresses, and sent on as data; refuse: only data URLs are taken."
    )
    max_bytes: PositiveInt = Field(20 * MIB, description="The largest image.")
    timeout: Seconds = Field(10.0, description="The longest that fetching one image may take.")
    allow: tuple[str, ...] = Field(
        (),
        description="Where to fetch from besides: addresses, networks or host names of your own, with a port where it "
        "is neither 80 nor 443: 10.1.2.0/24, images.internal:9000.",
    )

    @pydantic.field_validator("allow")
    @classmethod
    def _readable(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        try:
            for each in value:
                Allowed.parse(each)
        except ConfigError as error:
            raise ValueError(error.message) from None
        return value
