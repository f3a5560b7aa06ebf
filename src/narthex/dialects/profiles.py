"""Profiles: what a key's owner is used to, where that is narrower than `/v1`. Source: contract sections 8.2 and 11."""

from collections.abc import Mapping
from typing import Any

from narthex.core.ports import Surface


def tighten(profile: str, surface: Surface, fields: dict[str, Any], sent: Mapping[str, Any]) -> None:
    """Refuse what the profile doesn't know, and put its defaults where the caller sent nothing."""
