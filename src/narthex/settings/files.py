"""The branch of files that become documents."""

from pydantic import Field, PositiveFloat, PositiveInt

from narthex.settings.part import Part

MIB = 1024 * 1024


class Files(Part):
    """Reading files. It is done in a process of its own, which they can't leave."""

    time_limit_s: PositiveFloat = Field(120.0, description="The longest that reading one file may take.")
    memory_limit_bytes: int = Field(
        1024 * MIB, ge=256 * MIB, description="The address space of the process that reads files."
    )
    max_characters: PositiveInt = Field(32 * MIB, description="The longest text that a file may hold.")
