"""What every branch of the tree has in common."""

from pydantic import BaseModel, ConfigDict


class Part(BaseModel):
    """A branch of the tree."""

    model_config = ConfigDict(frozen=True, extra="forbid")
