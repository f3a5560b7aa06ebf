"""Health, metrics, models, and the document: the endpoints that call no model."""

import json
import re

import pytest
from tests.raw_asgi import Caller
from tests.scripted_deployment import principal

from narthex.core.errors import ModelNotFound, PermissionDenied, StorageError, UpstreamUnavailable
from narthex.core.keys import Grants
from narthex.core.models import ModelCard
from narthex.dialects import openai_chat, openai_completions, scale_chat, scale_completions
from narthex.http.docs import page
from narthex.http.exchange import Exchange
from narthex.http.health import Health
from narthex.http.metrics import Metrics
from narthex.http.models import Models
from narthex.http.openapi import CHAT_BODY, COMPLETIONS_BODY, OPERATIONS, OpenApi, document
from narthex.http.routes import Route
from narthex.routing.health import Health as Routing
from narthex.routing.health import Limits

pytestmark = pytest.mark.anyio


async def asked(endpoint, *, who=None, **parameters: str) -> Caller:
    """What the caller of an endpoint got."""
    caller = Caller(method="GET")
    exchange = Exchange(caller.scope, caller.receive, caller.send, request_id="req_abc")
    exchange.principal = who or principal()
    exchange.parameters = parameters
    await endpoint(exchange)
    assert exchange.ended
    return caller


# --- health ----------------------------------------------------------------------------------------------------------


async def well() -> None:
    return None


async def ill() -> None:
    raise StorageError


async def test_this_process_lives():
    caller = await asked(Health({"keys": ill}, draining=lambda: True).alive)
    assert (caller.status, caller.json()) == (200, {"status": "ok"})


@pytest.mark.parametrize(
    ("probe", "draining", "status", "checks"),
    [
        (well, False, 200, {"draining": "no", "keys": "ok"}),
        (well, True, 503, {"draining": "yes", "keys": "ok"}),
        (ill, False, 503, {"draining": "no", "keys": "The database can't answer now."}),
    ],
)
async def test_readiness_is_of_everything(probe, draining, status, checks):
    caller = await asked(Health({"keys": probe}, draining=lambda: draining).ready)
    assert caller.status == status
    assert caller.json() == {"status": "ready" if status == 200 else "unready", "checks": checks}


# --- metrics ---------------------------------------------------------------------------------------------------------


async def test_metrics_are_text():
    metrics = Metrics(worker="worker-0", version="1.2")
    metrics.answered("/v1/models", "GET", 200, 0.5)
    caller = await asked(metrics.endpoint)
    assert caller.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert 'narthex_build_info{version="1.2"} 1.0' in caller.body.decode()
    assert 'narthex_request_seconds_count{route="/v1/models",worker="worker-0"} 1.0' in caller.body.decode()


async def test_metrics_tell_how_deployments_fare():
    now = [10.0]
    fares = Routing(clock=lambda: now[0], limits=Limits(in_a_row=1))
    metrics = Metrics(worker="worker-0", version="1.2")
    metrics.watch(fares.snapshot)
    good, bad = fares.begin("local/good"), fares.begin("far/bad")
    now[0] += 0.5
    good.answered()
    bad.failed(UpstreamUnavailable(), cooldown_s=30.0)
    told = (await asked(metrics.endpoint)).body.decode()
    for name, deployment, value in (
        ("open", "far/bad", 1), ("open", "local/good", 0), ("in_flight", "local/good", 1), ("in_flight", "far/bad", 0),
        ("attempts_total", "far/bad", 1), ("failures_total", "far/bad", 1), ("failures_total", "local/good", 0),
        ("first_output_seconds", "local/good", 0.5),
    ):  # fmt: skip
        assert f'narthex_deployment_{name}{{deployment="{deployment}",worker="worker-0"}} {float(value)}' in told
    assert 'first_output_seconds{deployment="far/bad"' not in told


# --- models ----------------------------------------------------------------------------------------------------------


def card(name: str, *, removable: bool = False) -> ModelCard:
    return ModelCard(id=name, created=7, owned_by="us", kind="chat", removable=removable)


class Shelf:
    """Two models, of which one can be removed."""

    def __init__(self) -> None:
        self.cards = {"b/built-in": card("b/built-in"), "added": card("added", removable=True)}
        self.models = Models(lambda: self.cards, remove=self._remove)

    async def _remove(self, name: str) -> None:
        del self.cards[name]


def granted(*models: str, surfaces: frozenset[str] = frozenset({"models"}), admin: bool = False):
    return principal(Grants(surfaces=surfaces, models=models, admin=admin))


async def test_models_are_listed_by_name_and_only_those_that_are_granted():
    shelf = Shelf()
    everything = await asked(shelf.models.list)
    assert everything.json() == {
        "object": "list",
        "data": [{"id": name, "object": "model", "created": 7, "owned_by": "us"} for name in ("added", "b/built-in")],
    }
    some = await asked(shelf.models.list, who=granted("b/*"))
    assert [row["id"] for row in some.json()["data"]] == ["b/built-in"]
    assert (await asked(shelf.models.list, who=granted())).json()["data"] == []


async def test_a_model_may_have_a_slash_in_its_name():
    caller = await asked(Shelf().models.retrieve, model="b/built-in")
    assert caller.json()["id"] == "b/built-in"


@pytest.mark.parametrize("endpoint", ["list", "retrieve", "delete"])
async def test_models_need_their_grant(endpoint):
    chat_only = granted("*", surfaces=frozenset({"chat"}), admin=True)
    with pytest.raises(PermissionDenied):
        await asked(getattr(Shelf().models, endpoint), who=chat_only, model="added")


@pytest.mark.parametrize("endpoint", ["retrieve", "delete"])
async def test_what_is_not_granted_reads_like_what_does_not_exist(endpoint):
    for who, name in ((granted("other", admin=True), "added"), (granted("*", admin=True), "nothing")):
        with pytest.raises(ModelNotFound) as caught:
            await asked(getattr(Shelf().models, endpoint), who=who, model=name)
        assert str(caught.value) == str(ModelNotFound.named(name))


async def test_an_admin_deletes_what_was_added_here():
    shelf = Shelf()
    caller = await asked(shelf.models.delete, model="added")
    assert caller.json() == {"id": "added", "object": "model", "deleted": True}
    assert list(shelf.cards) == ["b/built-in"]


async def test_nobody_deletes_a_built_in_model_and_only_admins_delete_any():
    for who, name in ((principal(), "b/built-in"), (granted("*"), "added")):
        shelf = Shelf()
        with pytest.raises(PermissionDenied):
            await asked(shelf.models.delete, who=who, model=name)
        assert len(shelf.cards) == 2


# --- the document ----------------------------------------------------------------------------------------------------


TABLE = [
    Route(path="/v1/models/{model}", endpoints={"GET": asked}, surface="models"),
    Route(path="/metrics", endpoints={"GET": asked}, access="admin"),
    Route(path="/healthz", endpoints={"GET": asked}, access="open"),
    Route(path="/unheard-of", endpoints={"GET": asked}),
]


def test_every_field_that_the_decoders_take_is_in_the_document():
    assert set(CHAT_BODY["properties"]) == set(openai_chat.FORM.known)
    assert set(COMPLETIONS_BODY["properties"]) == set(openai_completions.FORM.known)
    assert "anyOf" not in CHAT_BODY["properties"]["model"]
    assert {"type": "null"} in CHAT_BODY["properties"]["seed"]["anyOf"]
    for form, path in ((scale_chat.FORM, "chat/completions"), (scale_completions.FORM, "completions")):
        body = OPERATIONS["POST", f"/v4/beta/{path}"].body
        assert body is not None
        assert set(body["properties"]) == set(form.known)
    assert "embedded models refuse it" in CHAT_BODY["properties"]["suffix"]["description"]
    assert "trusted with it" in CHAT_BODY["properties"]["chat_template"]["description"]
    assert "without effect" in CHAT_BODY["properties"]["user"]["description"]
    assert "refuse some values" in CHAT_BODY["properties"]["messages"]["description"]
    assert "description" not in CHAT_BODY["properties"]["temperature"]


def test_operations_have_names_of_their_own():
    names = [operation.id for operation in OPERATIONS.values()]
    assert len(set(names)) == len(names)


def test_the_document_tells_who_may_come_in():
    paths = document("1", TABLE)["paths"]
    assert set(paths) == {"/v1/models/{model}", "/metrics", "/healthz"}
    one = paths["/v1/models/{model}"]["get"]
    assert one["security"] == [{"bearer": []}, {"x-api-key": []}]
    assert one["description"] == "Needs a key with the grant `models`."
    assert [parameter["name"] for parameter in one["parameters"]] == ["model"]
    assert set(one["responses"]) == {"200", "400", "401", "403", "404", "500", "503"}
    assert paths["/metrics"]["get"]["description"] == "Needs an admin key."
    assert paths["/healthz"]["get"]["security"] == []
    assert set(paths["/healthz"]["get"]["responses"]) == {"200", "400", "500"}


async def test_the_document_and_its_page_are_served():
    openapi = OpenApi("1.2")
    openapi.describe(TABLE)
    assert (await asked(openapi.endpoint)).json()["info"]["version"] == "1.2"
    shown = await asked(openapi.page)
    assert shown.headers["content-type"] == "text/html; charset=utf-8"
    assert b"GET /v1/models/{model}" in shown.body


def test_the_page_escapes_what_it_shows():
    made = document("<1>", [])
    assert b"<h1>Narthex &lt;1&gt;</h1>" in page(made)


def every_route() -> list[Route]:
    endpoints: dict[str, dict[str, object]] = {}
    for method, path in OPERATIONS:
        endpoints.setdefault(path, {})[method] = asked
    return [Route(path=path, endpoints=methods) for path, methods in endpoints.items()]


def test_every_reference_of_the_document_leads_somewhere():
    made = document("1", every_route())
    targets = set(re.findall(r'"#/components/([^"]+)"', json.dumps(made)))
    assert len(targets) > 15
    for target in targets:
        kind, _, name = target.partition("/")
        assert name in made["components"][kind]


def test_a_model_call_tells_of_its_stream_its_headers_and_its_errors():
    paths = document("1", every_route())["paths"]
    chat = paths["/v1/chat/completions"]["post"]
    assert set(chat["responses"]) == {
        "200", "400", "401", "403", "404", "413", "415", "429", "500", "502", "503", "504",
        "507",
    }  # fmt: skip
    assert set(chat["responses"]["200"]["content"]) == {"application/json", "text/event-stream"}
    assert {"x-request-id", "x-narthex-deployment", "x-narthex-ignored"} <= set(chat["responses"]["200"]["headers"])
    assert "retry-after" in chat["responses"]["429"]["headers"]
    assert "www-authenticate" in chat["responses"]["401"]["headers"]
    assert "text/event-stream" not in paths["/v1/embeddings"]["post"]["responses"]["200"]["content"]
    unready = paths["/readyz"]["get"]["responses"]["503"]["content"]["application/json"]["schema"]
    assert unready == {"$ref": "#/components/schemas/Readiness"}


def test_the_page_shows_fields_with_their_bounds():
    shown = page(document("1", every_route())).decode()
    assert "<code>messages</code> (required)" in shown
    assert "<td>number ≥ 0 ≤ 2 or null</td>" in shown
    assert "<td>text | audio" not in shown  # of an array only its kind
    assert "auto | default | flex | scale | priority | fast or null" in shown
    assert "400 <code>unsupported_parameter</code>" in shown
