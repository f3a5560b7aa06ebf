"""A model as callers see it. Source: contract section 1.8."""

from typing import Literal

import msgspec


class ModelCard(msgspec.Struct, frozen=True, kw_only=True):
    """One row of `GET /v1/models`. `created` is in unix seconds; `removable` says whether an admin may delete it."""

    id: str
    created: int
    owned_by: str
    kind: Literal["chat", "embedding"]
    removable: bool = False
