"""Bodies that are not what they should be, on every route of the native API that takes one; and the form of errors."""

import json

import httpx2
import pytest
from tests.native_calls import WRITER, collection_path, document_path, fresh, made, said_no
from tests.server_process import EMBEDDING_MODEL

pytest_plugins = ["tests.models_fixture", "tests.server_fixture", "tests.native_fixture"]
pytestmark = pytest.mark.patient

JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def shelf(api) -> str:
    return made(api, {"d": "The ferry leaves at nine."})


ROUTES = {
    "chat": ("POST", "/api/chat", {"model": WRITER, "input": "words"}),
    "text": ("POST", "/api/text", {"model": WRITER, "input": "words"}),
    "make collection": ("POST", "/api/collections/{new}", {"model": EMBEDDING_MODEL, "description": "words"}),
    "put collection": ("PUT", "/api/collections/{new}", {"model": EMBEDDING_MODEL, "description": "words"}),
    "add document": ("POST", "/api/collections/{shelf}/documents/{new}", {"content": "words", "description": "words"}),
    "put document": ("PUT", "/api/collections/{shelf}/documents/{new}", {"content": "words", "description": "words"}),
    "search": ("POST", "/api/collections/{shelf}/search", {"query": "words"}),
}


@pytest.fixture(params=ROUTES)
def route(request, shelf):
    method, path, body = ROUTES[request.param]
    return method, path.format(shelf=shelf, new=fresh()), body


def send(api, route, content, headers=JSON):
    return api.request(route[0], route[1], content=content, headers=headers)


def first(body):
    return next(iter(body))


NO_OBJECTS = {
    "nothing": b"",
    "blanks": b"  \n",
    "null": b"null",
    "number": b"1",
    "string": b'"model"',
    "array": b"[]",
    "array of an object": b'[{"model": "writer"}]',
    "half an object": b'{"model": "wri',
    "no quotes": b"{model: 1}",
    "single quotes": b"{'model': 'writer'}",
    "form": b"model=writer&input=words",
    "deep": b"[" * 100_000,
    "bytes": bytes(range(128, 256)),
    "utf-16": '{"model": "writer"}'.encode("utf-16"),
}


@pytest.mark.parametrize("content", [pytest.param(each, id=name) for name, each in NO_OBJECTS.items()])
def test_what_is_no_json_object(api, route, content):
    said_no(send(api, route, content), 400)


def with_more(body, more):
    """A body's JSON with raw text put in before its end."""
    return json.dumps(body).encode()[:-1] + b", " + more + b"}"


MORE = {
    "NaN": (b'"temperature": NaN', ""),
    "Infinity": (b'"temperature": -Infinity', ""),
    "trailing comma": (b"", ""),
    "comment": (b'"a": 1 /* b */', ""),
    "unknown": (b'"nobody_knows_me": 1', "nobody_knows_me"),
    "unknown null": (b'"nobody_knows_me": null', "nobody_knows_me"),
    "empty name": (b'"": 1', ""),
    "deep value": (b'"nobody_knows_me": ' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000, ""),
    "huge number": (b'"nobody_knows_me": 1' + b"0" * 5000, ""),
    "lone surrogate in a name": (b'"a\\ud800": 1', ""),
    "control character": (b'"a": "\n"', ""),
}


@pytest.mark.parametrize(("more", "named"), [pytest.param(*each, id=name) for name, each in MORE.items()])
def test_what_does_not_belong_into_the_object(api, route, more, named):
    said_no(send(api, route, with_more(route[2], more)), 400, named)


def test_what_comes_after_the_object(api, route):
    said_no(send(api, route, json.dumps(route[2]).encode() + b"{}"), 400)


@pytest.mark.parametrize("last", [b"1", b'"words"', b"null"])
def test_a_name_that_comes_twice(api, route, last):
    name = first(route[2])
    more = json.dumps(name).encode() + b": " + last
    said_no(send(api, route, with_more(route[2], more)), 400, name)


def test_a_name_that_comes_twice_in_disguise(api, route):
    name = first(route[2])
    disguised = f'"\\u{ord(name[0]):04x}{name[1:]}": "words"'
    said_no(send(api, route, with_more(route[2], disguised.encode())), 400, name)


def test_a_name_in_other_case(api, route):
    for other in (str.upper, str.capitalize):
        name = other(first(route[2]))
        said_no(send(api, route, with_more(route[2], f'"{name}": "words"'.encode())), 400, name)


def test_text_that_is_none(api, route):
    """Lone surrogates and bytes that are not UTF-8, in the place of every string."""
    for name in route[2]:
        for bad in (b"\\ud800", b"\\udfff x", b"\xff", b"\xed\xa0\x80"):
            rest = {key: value for key, value in route[2].items() if key != name}
            body = json.dumps(rest).encode()[:-1] + (b", " if rest else b"") + f'"{name}": "'.encode() + bad + b'"}'
            said_no(send(api, route, body), 400)


@pytest.mark.parametrize(
    "media", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/json", "json"]
)
def test_other_media_types(api, route, media):
    said_no(send(api, route, json.dumps(route[2]).encode(), {"content-type": media}), 415)


@pytest.mark.parametrize("media", ["application/json; charset=utf-8", "Application/JSON"])
def test_json_by_its_other_names(api, route, media):
    answer = send(api, route, json.dumps(route[2]).encode(), {"content-type": media})
    assert answer.status_code in {200, 201}, answer.text


def test_bodies_that_are_too_large(api, route):
    name = list(route[2])[-1]
    said_no(send(api, route, json.dumps({**route[2], name: "a" * (17 * 1024 * 1024)}).encode()), 413)


def test_eight_mebibytes_are_read(api):
    """The body may be that large; what it says may not."""
    answer = api.post("/api/chat", json={"model": WRITER, "input": "words", "nobody_knows_me": "a" * (8 << 20)})
    said_no(answer, 400, "nobody_knows_me")


# --- where nothing is ------------------------------------------------------------------------------------------------

NOWHERE = ("/api/", "/api/chats", "/api/collection", "/api/models/writer/x", "/api/collections/a/b/c/d")


@pytest.mark.parametrize("path", NOWHERE)
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH"])
def test_nothing_is_there(api, method, path):
    said_no(api.request(method, path), 404, path)


ALLOWED = {
    "/api/chat": {"POST"},
    "/api/text": {"POST"},
    "/api/models": {"GET"},
    "/api/collections": {"GET"},
    "/api/collections/{shelf}": {"GET", "POST", "PUT", "DELETE"},
    "/api/collections/{shelf}/documents": {"GET"},
    "/api/collections/{shelf}/documents/d": {"GET", "POST", "PUT", "DELETE"},
    "/api/collections/{shelf}/search": {"POST"},
    "/api/collections/{shelf}/files": {"POST"},
    "/api/collections/{shelf}/jobs": {"GET"},
}


@pytest.mark.parametrize("path", ALLOWED)
def test_other_methods_are_told_which_are_allowed(api, shelf, path):
    for method in {"GET", "POST", "PUT", "DELETE", "PATCH"} - ALLOWED[path]:
        answer = api.request(method, path.format(shelf=shelf), json={})
        said_no(answer, 405, method)
        allowed = {each.strip() for each in answer.headers["allow"].split(",")}
        assert allowed - {"HEAD", "OPTIONS"} == ALLOWED[path]


# --- who asks --------------------------------------------------------------------------------------------------------

EVERY = (
    ("POST", "/api/chat"),
    ("POST", "/api/text"),
    ("GET", "/api/models"),
    ("GET", "/api/collections"),
    *((method, "/api/collections/{shelf}") for method in ("GET", "POST", "PUT", "DELETE")),
    *((method, "/api/collections/{shelf}/documents/d") for method in ("GET", "POST", "PUT", "DELETE")),
    ("GET", "/api/collections/{shelf}/documents"),
    ("POST", "/api/collections/{shelf}/search"),
    ("POST", "/api/collections/{shelf}/files"),
    ("GET", "/api/collections/{shelf}/jobs"),
)
BAD_KEYS = {
    "none": {},
    "wrong": {"x-api-key": "nx-0000000000000000000000000000000000000000000"},
    "empty": {"x-api-key": ""},
    "wrong bearer": {"authorization": "Bearer nx-0000000000000000000000000000000000000000000"},
    "no scheme": {"authorization": "{key}"},
    "other scheme": {"authorization": "Basic {key}"},
    "two that differ": {"authorization": "Bearer {key}", "x-api-key": "nx-wrong"},
    "other header": {"api-key": "{key}"},
}


@pytest.mark.parametrize("headers", [pytest.param(each, id=name) for name, each in BAD_KEYS.items()])
def test_without_a_key_nobody_comes_in(native, shelf, headers):
    with httpx2.Client(base_url=native.server.url, timeout=30) as anyone:
        for method, path in EVERY:
            sent = {name: value.format(key=native.server.admin_key) for name, value in headers.items()}
            answer = anyone.request(method, path.format(shelf=shelf), headers=sent)
            text = said_no(answer, 401)
            assert native.server.admin_key not in text


def test_a_revoked_key_opens_nothing(native, shelf):
    secret = native.server.key(name="revoked-native")
    native.server.revoke("revoked-native")
    with native.server.http(secret) as anyone:
        said_no(anyone.get(collection_path(shelf)), 401)


def test_an_expired_key_opens_nothing(native, shelf):
    with native.server.http(native.server.key(expires_ms=1)) as anyone:
        said_no(anyone.get(collection_path(shelf)), 401)
        said_no(anyone.post("/api/chat", json={"model": WRITER, "input": "words"}), 401)


@pytest.mark.parametrize(
    "headers", [{"authorization": "Bearer {key}"}, {"authorization": "bearer {key}"}, {"x-api-key": "{key}"}]
)
def test_both_ways_to_send_a_key(native, shelf, headers):
    sent = {name: value.format(key=native.server.admin_key) for name, value in headers.items()}
    with httpx2.Client(base_url=native.server.url, headers=sent, timeout=30) as caller:
        assert caller.get(document_path(shelf, "d")).status_code == 200


def test_answers_bear_an_id_of_their_own(api, shelf):
    ids = {api.get(path).headers["x-request-id"] for path in ("/api/models", "/api/collections", "/api/nowhere")}
    ids.add(api.get(collection_path(shelf)).headers["x-request-id"])
    assert len(ids) == 4
