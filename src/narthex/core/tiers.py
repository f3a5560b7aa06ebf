"""Service tiers: who goes first where requests have to wait. Source: contract sections 1.2 and 11.

Nobody has credits yet that `auto` could draw on: it is the default tier.
"""

from collections.abc import Mapping

DEFAULT_TIER = "default"
USED: Mapping[str, str] = {
    "auto": DEFAULT_TIER,
    "default": DEFAULT_TIER,
    "flex": "flex",
    "scale": "scale",
    "priority": "priority",
    "fast": "priority",
}
"""The tier that is used here for each that a request may name."""
DEFAULT_RANK = 1
_RANKS = {"scale": 0, "priority": 0, "flex": 2}


def rank(asked: str | None) -> int:
    """When a request's turn comes: lower ones first."""
    return DEFAULT_RANK if asked is None else _RANKS.get(USED[asked], DEFAULT_RANK)
