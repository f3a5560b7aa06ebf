"""Settings by name with a digest of each value: by these a reload tells what has changed, and never a value."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
from pydantic import BaseModel, SecretStr

from narthex.engine.served import ServedModel
from narthex.settings import Settings


def facets(settings: Settings, models: Sequence[ServedModel] = ()) -> dict[str, str]:
    """Digests by name, such as `http.drain_s`, `providers.gpu`, `models.assistant`, `local.smollm2-135m-instruct`."""
    found = {name: _digest(value) for name, value in _values(settings)}
    return found | {
        f"local.{model.name}": _digest(msgspec.to_builtins(model, order="deterministic")) for model in models
    }


def _values(settings: Settings) -> Iterator[tuple[str, Any]]:
    for name, branch in settings:
        if name == "models":
            yield from ((f"models.{row.name}", row) for row in settings.models)
        elif isinstance(branch, dict):
            yield from ((f"{name}.{key}", row) for key, row in branch.items())
        elif isinstance(branch, BaseModel):
            for leaf, value in branch:
                if isinstance(value, dict):
                    yield from ((f"{name}.{leaf}.{key}", row) for key, row in value.items())
                else:
                    yield f"{name}.{leaf}", value
        else:
            yield name, branch


def _digest(value: Any) -> str:
    text = json.dumps(value, default=_plain, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return dict(value)
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, set | frozenset):
        return sorted(value)
    assert isinstance(value, Path), type(value)  # noqa: S101 - the tree holds nothing else
    return str(value.absolute())
