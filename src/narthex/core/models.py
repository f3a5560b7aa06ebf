"""A model as callers see it. Source: contract section 1.8."""

from typing import Literal

import msgspec

ModelKind = Literal["chat", "embedding", "image", "speech"]
"""What a model is asked for; one for chats may complete texts too."""


class ModelCard(msgspec.Struct, frozen=True, kw_only=True):
    """One row of `GET /v1/models`. `created` is in unix seconds; `removable` says whether an admin may delete it.

    `window`: tokens that it reads at once; `dim`: length of its vectors. 0 where nobody knows, or there is none.
    """

    id: str
    created: int
    owned_by: str
    kind: ModelKind
    removable: bool = False
    window: int = 0
    dim: int = 0
