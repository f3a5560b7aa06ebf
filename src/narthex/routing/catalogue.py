"""The public models of a worker: those of this server, and the names that its settings give to deployments."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Protocol

import msgspec

from narthex.core.models import ModelCard, ModelKind
from narthex.core.ports import Deployment, Surface
from narthex.engine.served import ServedModel
from narthex.routing.route import ANY, Named, Route

_TEXT: tuple[Surface, ...] = ("chat", "completions")


class Find(Protocol):
    """Finds the deployment of a `provider/model` name."""

    def __call__(self, name: str, connect_s: float | None = None) -> Deployment:
        """`connect_s`: how long a new connection may take; None: as long as usual."""
        ...


def local_routes(models: Iterable[ServedModel], find: Find) -> dict[str, Route]:
    """One row for each model of this server. A deleted model's row stays, but it is gone for everybody."""
    return {
        model.name: Route(
            card=_card(model),
            deployments=(find(f"local/{model.name}"),),
            listed=not model.missing,
            exists=_exists(model),
        )
        for model in models
    }


def named_routes(
    names: Mapping[str, Named], find: Find, *, local: Mapping[str, Route], created: int
) -> dict[str, Route]:
    """One row for each name of the settings. What answers first decides which kind of model it is."""
    rows = {}
    for name, named in names.items():
        found = partial(find, connect_s=named.rules.connect_s)
        main = named.deployments[0]
        first = local.get(main.removeprefix("local/"))
        if first is not None:
            card = msgspec.structs.replace(first.card, id=name, removable=False)
        else:
            kind = _kind(found(main))
            card = ModelCard(id=name, created=created, owned_by=main.partition("/")[0], kind=kind)
        rows[name] = Route(
            card=card,
            deployments=tuple(map(found, named.deployments)),
            weights=named.weights,
            rules=named.rules,
            context_window=tuple(map(found, named.context_window)),
            content_filter=tuple(map(found, named.content_filter)),
            trusts_templates=named.trusts_templates,
        )
    return rows


def cards(routes: Mapping[str, Route]) -> dict[str, ModelCard]:
    """What `GET /v1/models` lists, by name."""
    return {name: route.card for name, route in routes.items() if name != ANY and route.listed and route.exists()}


def _card(model: ServedModel) -> ModelCard:
    return ModelCard(
        id=model.name,
        created=model.created,
        owned_by=model.owned_by,
        kind=model.kind,
        removable=model.removable,
        window=model.window,
        dim=model.dim,
    )


def _kind(deployment: Deployment) -> ModelKind:
    """By what it serves: where nothing is known of a model, its server's first kind."""
    if any(deployment.capabilities(surface) is not None for surface in _TEXT):
        return "chat"
    if deployment.capabilities("embeddings") is not None:
        return "embedding"
    return "image" if deployment.capabilities("images") is not None else "speech"


def _exists(model: ServedModel) -> Callable[[], bool]:
    """Only a model that may be deleted is looked for; any worker may have deleted it."""
    if not model.removable:
        return lambda: True
    path = Path(model.path)
    return path.exists
