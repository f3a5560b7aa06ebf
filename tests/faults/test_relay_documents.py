"""The rules of passing on whole answers of OpenAI's format: what of them is theirs, what is ours, and their errors."""

import json
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from tests.callers import Answer
from tests.served_gateway import bodies, chat, config, gateway, serving, whole
from tests.server_process import Server, StartServer

from narthex.testing.scripted import CUT, END, RESET, Reply, chunked, head, response

pytest_plugins = ["tests.models_fixture", "tests.server_fixture"]
pytestmark = [pytest.mark.anyio, pytest.mark.patient]

USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
CANARY = "sk-canary of org-canary"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("up")


@pytest.fixture(scope="module")
def server(start_server: StartServer, folder: Path) -> Iterator[Server]:
    once = {"retry": {"attempts": 1}}
    names = [{"name": f"m{number}", "deployments": [f"there/m{number}"], **once} for number in range(100)]
    with gateway(start_server, config(folder, {"there": "openai-compatible"}, names)) as running:
        yield running


MODELS = count()


@pytest.fixture
def model() -> str:
    """One whose health no other test has touched."""
    return f"m{next(MODELS)}"


def choice(content: str | None = "Hi", *, index: int = 0, **fields: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": content, **fields}
    return {"index": index, "message": message, "logprobs": None, "finish_reason": "stop"}


def document(*choices: dict[str, Any], **fields: Any) -> dict[str, Any]:
    own = {"id": "theirs", "object": "thing", "created": 1, "model": "theirs"}
    return {**own, "choices": list(choices or [choice()]), "usage": USAGE, **fields}


async def asked(server: Server, folder: Path, model: str, reply: Reply, **fields: Any) -> Answer:
    async with serving(folder, "there", reply) as upstream:
        answer = await chat(server, model, **fields)
        assert len(upstream.requests) == 1
        assert "stream" not in bodies(upstream)[0]
    assert answer.complete
    assert b"canary" not in answer.body
    return answer


async def test_names_and_usage_are_in_our_form_and_the_rest_is_kept(server: Server, folder: Path, model: str) -> None:
    number = "12345678901234567890.10"
    sent = document(
        choice(reasoning_content="Hm.", x={"y": [1, "é"]}),
        timings={"z": 2},
        precise="@",
        system_fingerprint="fp_x",
        usage={**USAGE, "prompt_tokens_details": {"cached_tokens": 2}, "cost": 7},
    )
    body = json.dumps(sent).replace('"@"', number).encode()
    answer = await asked(server, folder, model, Reply(response(body)))
    told = answer.json
    assert answer.headers["content-type"] == "application/json"
    assert int(answer.headers["content-length"]) == len(answer.body)
    assert told["id"] == f"chatcmpl-{answer.headers['x-request-id'].removeprefix('req_')}"
    assert (told["object"], told["model"]) == ("chat.completion", model)
    assert told["created"] > 1_000_000_000
    assert number.encode() in answer.body
    assert (told["timings"], told["system_fingerprint"]) == ({"z": 2}, "fp_x")
    message = told["choices"][0]["message"]
    assert message == {
        "role": "assistant", "content": "Hi", "refusal": None, "annotations": [], "reasoning_content": "Hm.",
    }  # fmt: skip
    assert told["usage"] == {
        **USAGE,
        "prompt_tokens_details": {"cached_tokens": 2, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": 0, "audio_tokens": 0, "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0,
        },
    }  # fmt: skip


async def test_what_is_missing_is_completed(server: Server, folder: Path, model: str) -> None:
    bare = {"choices": [{"message": {"content": "Hi"}, "finish_reason": "stop"}]}
    told = (await asked(server, folder, model, whole(bare))).json
    assert (told["object"], told["model"], told["usage"]["total_tokens"]) == ("chat.completion", model, 0)
    assert told["choices"][0]["message"]["role"] == "assistant"
    assert {"refusal", "annotations"} <= told["choices"][0]["message"].keys()


@pytest.mark.parametrize(("wanted", "told"), [(None, None), ("auto", "flex")])
async def test_the_tier_is_left_out_if_nobody_asked_for_it(
    server: Server, folder: Path, model: str, wanted: str | None, told: str | None
) -> None:
    fields = {} if wanted is None else {"service_tier": wanted}
    sent = document(service_tier="flex", x_groq={"id": "req_canary"})
    answer = await asked(server, folder, model, whole(sent), **fields)
    assert answer.json.get("service_tier") == told
    assert "x_groq" not in answer.json


async def test_each_of_several_choices_is_kept(server: Server, folder: Path, model: str) -> None:
    answer = await asked(server, folder, model, whole(document(choice("b", index=1), choice("a"))), n=2)
    assert {each["index"]: each["message"]["content"] for each in answer.json["choices"]} == {0: "a", 1: "b"}


@pytest.mark.parametrize(
    "reply",
    [
        Reply(
            head("transfer-encoding: chunked"), chunked(*(bytes([each]) for each in json.dumps(document()).encode()))
        ),
        Reply(head("content-type: text/plain"), json.dumps(document(), indent=2).encode(), CUT),
        Reply(response(b"\r\n " + json.dumps(document()).encode() + b"\n\n")),
    ],
    ids=["byte by byte", "until the connection ends", "between white space"],
)
async def test_documents_come_in_any_pieces(server: Server, folder: Path, model: str, reply: Reply) -> None:
    assert (await asked(server, folder, model, reply)).json["choices"][0]["message"]["content"] == "Hi"


BROKEN = {
    "no JSON": Reply(response(b"<html>sk-canary</html>")),
    "nothing": Reply(response(b"")),
    "half of it": Reply(response(json.dumps(document()).encode()[:-9])),
    "broken UTF-8": Reply(response(json.dumps(document(choice("@"))).encode().replace(b"@", b"\xff\xfe"))),
    "an array": Reply(response(b'["sk-canary"]')),
    "no choice": whole({**document(), "choices": []}),
    "another choice": whole(document(choice(), choice(index=1))),
    "no reason to end": whole(document({**choice(), "finish_reason": None})),
    "an unknown reason": whole(document({**choice(), "finish_reason": "sk-canary"})),
    "shorter than it says": Reply(head("content-length: 9999"), json.dumps(document()).encode(), CUT),
    "reset within": Reply(head("content-length: 9999"), json.dumps(document()).encode(), RESET),
    "an error with 200": whole({"error": {"message": CANARY, "type": "server_error", "code": 500}}),
    "an error beside choices": whole({**document(), "error": CANARY}),
    "packed": Reply(response(b"\x1f\x8b\x08\x00canary", headers=("content-encoding: gzip",))),
}


@pytest.mark.parametrize("fault", BROKEN)
async def test_what_is_no_answer_is_a_502(server: Server, folder: Path, model: str, fault: str) -> None:
    answer = await asked(server, folder, model, BROKEN[fault])
    assert (answer.status, told_code(answer)) == (502, "upstream_error")


def told_code(answer: Answer) -> str | None:
    """The code of an error in our shape."""
    assert list(answer.json) == ["error"]
    assert list(answer.json["error"]) == ["message", "type", "param", "code"]
    code: str | None = answer.json["error"]["code"]
    return code


def refusing(status: int, *headers: str, **fields: Any) -> Reply:
    body = {"error": {"message": CANARY, "type": "theirs", "param": None, "code": None, "inside": "x", **fields}}
    return Reply(response(json.dumps(body).encode(), status=status, headers=headers))


ERRORS: dict[str, tuple[Reply, int, str | None]] = {
    "our key is refused": (refusing(401, "www-authenticate: canary"), 502, "upstream_error"),
    "our key may not": (refusing(403), 502, "upstream_error"),
    "nothing is paid": (refusing(402), 502, "upstream_error"),
    "too many": (refusing(429), 429, "rate_limit_exceeded"),
    "no quota": (refusing(429, code="insufficient_quota"), 429, "rate_limit_exceeded"),
    "it took too long": (refusing(408), 504, "timeout"),
    "it failed": (refusing(500), 502, "upstream_error"),
    "it is overloaded": (refusing(503, code="overloaded"), 502, "upstream_error"),
    "it is no server of models": (Reply(response(b"<html>canary", status=404)), 400, None),
    "a page for a failure": (Reply(response(b"<html>canary", status=502)), 502, "upstream_error"),
    "it sends us elsewhere": (refusing(307, "location: /canary"), 502, "upstream_error"),
    "nothing to say": (Reply(head("content-length: 0", status=204)), 502, "upstream_error"),
}


@pytest.mark.parametrize("fault", ERRORS)
async def test_errors_are_ours(server: Server, folder: Path, model: str, fault: str) -> None:
    reply, status, code = ERRORS[fault]
    answer = await asked(server, folder, model, reply)
    assert (answer.status, told_code(answer)) == (status, code)
    assert "canary" not in " ".join(answer.headers.values())


@pytest.mark.parametrize("status", [400, 404, 409, 413, 422])
async def test_what_is_wrong_with_the_request_is_told_in_our_shape(
    server: Server, folder: Path, model: str, status: int
) -> None:
    reply = refusing(status, message="Use less.", param="top_p", code="too_much")
    answer = await asked(server, folder, model, reply)
    assert answer.status in {400, status}
    assert answer.json["error"] == {
        "message": "Use less.", "type": "invalid_request_error", "param": "top_p", "code": "too_much",
    }  # fmt: skip


WAITS = {
    "seconds": ("retry-after: 7", "7"),
    "milliseconds": ("retry-after-ms: 6500", "7"),
    "a reset": ("x-ratelimit-reset-requests: 6.2s", "7"),
    "a date that makes no sense": ("retry-after: yesterday", None),
}


@pytest.mark.parametrize("wait", WAITS)
async def test_a_wait_that_is_told_is_told_on_in_seconds(server: Server, folder: Path, model: str, wait: str) -> None:
    line, told = WAITS[wait]
    answer = await asked(server, folder, model, refusing(429, line))
    assert (answer.status, told_code(answer)) == (429, "rate_limit_exceeded")
    seconds = answer.headers["retry-after"]
    assert seconds == told if told else int(seconds) >= 1


THEIR_HEADERS = (
    "set-cookie: session=canary; Path=/",
    "server: canary/1.0",
    "x-ratelimit-remaining-tokens: 4142",
    "x-request-id: canary",
    "openai-organization: canary",
    "openai-processing-ms: 123456",
    "cf-ray: canary",
    "etag: canary",
    "content-disposition: attachment; filename=canary",
    "content-language: canary",
    "link: <canary>; rel=preload",
)


async def test_their_headers_are_not_passed_on(server: Server, folder: Path, model: str) -> None:
    reply = Reply(response(json.dumps(document()).encode(), headers=THEIR_HEADERS))
    answer = await asked(server, folder, model, reply)
    assert set(answer.headers) == {
        "date", "content-type", "content-length", "x-request-id", "openai-processing-ms", "openai-version",
        "x-narthex-deployment", "x-narthex-attempts",
    }  # fmt: skip
    told = [value for name, value in answer.headers.items() if name != "x-request-id"]
    assert "canary" not in answer.headers["x-request-id"]
    assert not any(word in " ".join(told) for word in ("canary", "4142", "123456"))


async def test_the_next_request_uses_the_same_connection(server: Server, folder: Path, model: str) -> None:
    async with serving(folder, "there", whole(document()), refusing(429, "retry-after: 0"), whole(document())) as there:
        assert [(await chat(server, model)).status for _ in range(3)] == [200, 429, 200]
        assert len(there.peers) == 1


async def test_a_stream_in_place_of_a_document_is_told_as_a_document(server: Server, folder: Path, model: str) -> None:
    event = {"choices": [{"index": 0, "delta": {"content": "Hi"}, "finish_reason": "stop"}], "usage": USAGE}
    body = chunked(b"data: " + json.dumps(event).encode() + b"\n\n", end=False)
    reply = Reply(head("content-type: text/event-stream", "transfer-encoding: chunked"), body, END)
    told = (await asked(server, folder, model, reply)).json
    assert (told["choices"][0]["message"]["content"], told["usage"]["total_tokens"]) == ("Hi", 5)
