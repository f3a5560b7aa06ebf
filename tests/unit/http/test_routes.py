import pytest

from narthex.core.errors import MethodNotAllowed, RouteNotFound
from narthex.http.routes import Route, Routes


async def _endpoint(exchange):
    raise NotImplementedError


LIST = Route(path="/v1/models", endpoints={"GET": _endpoint})
ONE = Route(path="/v1/models/{model}", endpoints={"GET": _endpoint, "DELETE": _endpoint})
DEEPER = Route(path="/v1/models/own/{name}", endpoints={"POST": _endpoint})
ROUTES = Routes([LIST, ONE, DEEPER])


@pytest.mark.parametrize(
    ("method", "path", "route", "parameters"),
    [
        ("GET", "/v1/models", LIST, {}),
        ("HEAD", "/v1/models", LIST, {}),
        ("GET", "/v1/models/a", ONE, {"model": "a"}),
        ("DELETE", "/v1/models/meta/llama 3", ONE, {"model": "meta/llama 3"}),
        ("POST", "/v1/models/own/x", DEEPER, {"name": "x"}),
        ("GET", "/v1/models/own/", ONE, {"model": "own/"}),
    ],
)
def test_a_path_leads_to_its_route(method, path, route, parameters):
    found, endpoint, given = ROUTES.find(method, path)
    assert (found, given) == (route, parameters)
    assert endpoint is _endpoint


@pytest.mark.parametrize("path", ["/", "/v1", "/v1/models/", "/V1/models", "/v1/modelsx", "", "*"])
def test_other_paths_lead_nowhere(path):
    with pytest.raises(RouteNotFound) as caught:
        ROUTES.find("GET", path)
    assert caught.value.message == f"Invalid URL (GET {path})"


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("POST", "/v1/models", ("GET", "HEAD")),
        ("PUT", "/v1/models/a", ("DELETE", "GET", "HEAD")),
        ("HEAD", "/v1/models/own/x", ("POST",)),
        ("get", "/v1/models", ("GET", "HEAD")),
    ],
)
def test_other_methods_are_told_which_are_allowed(method, path, allow):
    with pytest.raises(MethodNotAllowed) as caught:
        ROUTES.find(method, path)
    assert caught.value.allow == allow


ROW = Route(path="/api/sets/{key}/rows/{row}", endpoints={"GET": _endpoint}, segments=True)
SET = Route(path="/api/sets/{key}", endpoints={"GET": _endpoint}, segments=True)
SEGMENTS = Routes([LIST, ONE, SET, ROW])


@pytest.mark.parametrize(
    ("path", "sent", "route", "parameters"),
    [
        ("/api/sets/a", None, SET, {"key": "a"}),
        ("/api/sets/a/rows/b", None, ROW, {"key": "a", "row": "b"}),
        ("/api/sets/a b/rows/c", b"/api/sets/a%20b/rows/c", ROW, {"key": "a b", "row": "c"}),
        ("/api/sets/a/rows/b", b"/api/sets/a%2Frows%2Fb", SET, {"key": "a/rows/b"}),
        ("/api/sets/a/rows/b/c", b"/api/sets/a/rows/b%2Fc", ROW, {"key": "a", "row": "b/c"}),
        ("/api/sets/ä%2F", b"/api/sets/%C3%A4%252F", SET, {"key": "ä%2F"}),
        ("/api/sets/a\nb", b"/api/sets/a%0Ab", SET, {"key": "a\nb"}),
    ],
)
def test_a_parameter_of_segments_is_one_segment_as_it_was_sent(path, sent, route, parameters):
    found, _, given = SEGMENTS.find("GET", path, sent)
    assert (found, given) == (route, parameters)


@pytest.mark.parametrize(
    ("path", "sent"),
    [
        ("/api/sets/", None),
        ("/api/sets/a/", None),
        ("/api/sets/a/rows/b/c", b"/api/sets/a/rows/b/c"),
        ("/api/sets//rows/b", b"/api/sets//rows/b"),
        ("/api/sets/\ufffd", b"/api/sets/%FF"),
    ],
)
def test_other_segments_lead_nowhere(path, sent):
    with pytest.raises(RouteNotFound):
        SEGMENTS.find("GET", path, sent)
