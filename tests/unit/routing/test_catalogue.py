"""Which public models there are, and who answers for each."""

from pathlib import Path

import pytest
from tests.routing_parts import Played

from narthex.core.capabilities import Capabilities
from narthex.core.ports import Deployment, Surface
from narthex.engine.served import ServedModel
from narthex.routing.catalogue import cards, local_routes, named_routes
from narthex.routing.route import ANY, Named, Rules


class Finder:
    """Makes each deployment once for each clock of connections."""

    def __init__(self) -> None:
        self.made: dict[tuple[str, float | None], Played] = {}

    def __call__(self, name: str, connect_s: float | None = None) -> Deployment:
        return self.made.setdefault((name, connect_s), Played(name))


def served(name: str, **fields: object) -> ServedModel:
    return ServedModel(name=name, kind="embedding" if "embed" in name else "chat", runs="engine", created=7, **fields)  # type: ignore[arg-type]


def test_each_model_of_this_server_is_one_row():
    find = Finder()
    routes = local_routes([served("small"), served("embedder")], find)
    assert {name: [each.name for each in route.deployments] for name, route in routes.items()} == {
        "small": ["local/small"],
        "embedder": ["local/embedder"],
    }
    assert {name: (card.kind, card.created) for name, card in cards(routes).items()} == {
        "small": ("chat", 7),
        "embedder": ("embedding", 7),
    }
    assert routes["small"].rules == Rules()


def test_a_deleted_model_is_gone(tmp_path: Path):
    file = tmp_path / "model.gguf"
    file.touch()
    routes = local_routes([served("small", removable=True, path=str(file))], Finder())
    assert list(cards(routes)) == ["small"]
    file.unlink()
    assert (list(cards(routes)), routes["small"].exists()) == ([], False)


def test_a_name_of_the_settings_is_one_row_with_its_rules():
    find, rules = Finder(), Rules(strategy="weighted", attempts=4, connect_s=0.5)
    named = Named(
        deployments=("gpu/big", "local/embedder"),
        weights=(2.0, 1.0),
        rules=rules,
        context_window=("far/wide",),
        content_filter=("far/lax",),
    )
    route = named_routes({"assistant": named}, find, local={}, created=9)["assistant"]
    assert [each.name for each in route.deployments] == ["gpu/big", "local/embedder"]
    assert (route.weights, route.rules) == ((2.0, 1.0), rules)
    assert [each.name for each in (*route.context_window, *route.content_filter)] == ["far/wide", "far/lax"]
    assert (route.card.created, route.card.owned_by, route.card.kind) == (9, "gpu", "chat")
    assert {connect_s for _, connect_s in find.made} == {0.5}


def test_a_name_for_a_model_of_this_server_is_of_its_kind_and_can_not_be_deleted():
    find = Finder()
    local = local_routes([served("embedder", removable=True, path="/nowhere")], find)
    routes = named_routes({"vectors": Named(deployments=("local/embedder",))}, find, local=local, created=9)
    card = routes["vectors"].card
    assert (card.id, card.kind, card.created, card.removable) == ("vectors", "embedding", 7, False)


def test_the_name_for_all_others_is_not_listed():
    routes = named_routes({ANY: Named(deployments=("gpu/big",))}, Finder(), local={}, created=9)
    assert (list(routes), cards(routes)) == ([ANY], {})


@pytest.mark.parametrize(
    ("surfaces", "kind"),
    [
        (("chat", "completions", "embeddings", "images"), "chat"),
        (("completions",), "chat"),
        (("embeddings",), "embedding"),
        (("images",), "image"),
    ],
)
def test_a_model_elsewhere_is_of_the_kind_that_it_serves(surfaces: tuple[Surface, ...], kind: str):
    class Serving(Played):
        def capabilities(self, surface: Surface) -> Capabilities | None:
            return {} if surface in surfaces else None

    routes = named_routes(
        {"theirs": Named(deployments=("far/big",))}, lambda name, connect_s=None: Serving(name), local={}, created=9
    )
    assert routes["theirs"].card.kind == kind
