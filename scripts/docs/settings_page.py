"""`settings.md`: every setting with its type, default and environment variable."""

import types
import typing
from collections.abc import Iterator
from typing import Any, NamedTuple, get_args, get_origin

import markdown
from annotated_types import Ge, Gt, Le, MinLen
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from narthex.settings import Settings

INTRO = """\
Settings are read in this order, and later ones win: defaults, the YAML file, environment variables, the command line.

* The file is `narthex.yaml` in the working folder, or the one that `--config` names.
* `${NAME}` anywhere in the file stands for an environment variable. A variable that is not set is an error.
* An environment variable is `NARTHEX_` and the setting's name, with `__` where the name has a dot:
  `NARTHEX_HTTP__DRAIN_S=10`. Lists and maps are given as JSON:
  `NARTHEX_MODELS='[{"name": "assistant", "deployments": ["local/smollm2-135m-instruct"]}]'`.
  An entry of a map can be given by itself: `NARTHEX_PROVIDERS__GPU__BASE_URL=http://gpu-1:8000/v1`.
* An unknown name in the file is an error. `narthex config check` lists every fault at once;
  `narthex config show` prints what is in force and where it comes from.
* Settings are read when the server starts and when it [reloads](../howto/operations.md#change-the-settings)."""


REQUIRED = "required"


class Row(NamedTuple):
    """One setting."""

    name: str
    type: str
    default: str
    description: str


def rows(model: type[BaseModel], prefix: str = "") -> Iterator[Row]:
    """Every setting below a branch, depth first. `<name>` stands for a key of a map, `[]` for a list's element."""
    for name, field in model.model_fields.items():
        path = f"{prefix}{name}"
        branch, suffix = _branch(field.annotation)
        if branch is None:
            yield Row(path, _type(field.annotation, field.metadata), _default(field), field.description or "")
        elif suffix or field.default is None:
            kind = {".<name>": "map", "[]": "list"}.get(suffix, "map or null")
            yield Row(path, kind, _default(field), field.description or "")
            yield from rows(branch, f"{path}{suffix}.")
        else:
            yield from rows(branch, f"{path}.")


def page() -> str:
    """The whole page."""
    groups: dict[str, list[Row]] = {}
    for row in rows(Settings):
        groups.setdefault(_group(row.name), []).append(row)
    blocks = []
    for group, found in groups.items():
        head = "## Server" if not group else f"## `{group}`"
        cells = [(markdown.code(row.name), row.type, _shown(row.default), row.description) for row in found]
        blocks.append(f"{head}\n\n{markdown.table(('setting', 'type', 'default', 'meaning'), cells)}")
    return markdown.page("Settings", INTRO, *blocks)


def _shown(default: str) -> str:
    return default if default == REQUIRED else markdown.code(default)


def _group(name: str) -> str:
    first = name.partition(".")[0].partition("[")[0]
    return first if first != name or first in {"providers", "models"} else ""


def _branch(annotation: Any) -> tuple[type[BaseModel] | None, str]:
    """The branch that an annotation holds, and how one gets to it."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation, ""
    suffix = {dict: ".<name>", tuple: "[]"}.get(get_origin(annotation) or object, "")
    for part in get_args(annotation):
        branch, _ = _branch(part)
        if branch is not None:
            return branch, suffix
    return None, ""


def _type(annotation: Any, metadata: list[Any]) -> str:
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is typing.Annotated:
        return _type(parts[0], list(parts[1:]))
    if origin in {typing.Union, types.UnionType}:
        return " or ".join(_type(part, metadata) for part in parts)
    if origin is typing.Literal:
        return ", ".join(markdown.code(part) for part in parts)
    if origin is tuple:
        return f"list of {_type(parts[0], [])}s"
    names = {bool: "boolean", int: "integer", float: "number", SecretStr: "secret", type(None): "null", str: "string"}
    bounds = "".join(_bound(one) for one in metadata) if annotation in {int, float, str} else ""
    return names.get(annotation, "path") + bounds


def _bound(constraint: Any) -> str:
    match constraint:
        case Gt(gt=bound):
            return f" > {bound}"
        case Ge(ge=bound):
            return f" ≥ {bound}"
        case Le(le=bound):
            return f" ≤ {bound}"
        case MinLen():
            return ", not empty"
        case _:
            return ""


def _default(field: FieldInfo) -> str:
    value = field.default
    if value is PydanticUndefined:
        return REQUIRED
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, tuple):
        return f"[{', '.join(map(str, value))}]"
    return str(value)
