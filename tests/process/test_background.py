"""The process that does durable jobs, killed at any moment: what it was at is gone on with."""

import asyncio
import http.server
import json
import os
import signal
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import apsw
import httpx2
import pytest
import yaml
from tests.server_inside import children
from tests.server_process import Server, serving

pytestmark = pytest.mark.patient

MODEL = "counted"
BATCH = 128


class Counting:
    """An embeddings server that counts how often it was asked for each text, and takes its time."""

    def __init__(self, *, pause_s: float = 0.0) -> None:
        self.asked: Counter[str] = Counter()
        self.calls = 0
        self.waiting = 0
        self.pause_s = pause_s
        self.failing = False
        self.free = threading.Event()
        """While this is not set, nothing but probes is answered."""
        self.free.set()
        self._lock = threading.Lock()

    def answer(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        texts = [body["input"]] if isinstance(body["input"], str) else body["input"]
        if texts != ["probe"]:
            with self._lock:
                self.waiting += 1
            self.free.wait(60)
        time.sleep(self.pause_s)
        with self._lock:
            self.calls += 1
            if self.failing:
                return 503, {"error": {"message": "Not now.", "type": "server_error", "param": None, "code": None}}
            self.asked.update(texts)
        data = [{"object": "embedding", "index": index, "embedding": vector(text)} for index, text in enumerate(texts)]
        usage = {"prompt_tokens": len(texts), "total_tokens": len(texts)}
        return 200, {"object": "list", "model": body["model"], "data": data, "usage": usage}


def vector(text: str) -> list[float]:
    """Eight numbers that only this text has."""
    bits = [(hash_of(text) >> (4 * at)) & 15 for at in range(8)]
    length = sum((bit + 1) ** 2 for bit in bits) ** 0.5
    return [(bit + 1) / length for bit in bits]


def hash_of(text: str) -> int:
    return int.from_bytes(struct.pack("<q", hash(text) & 0x7FFFFFFFFFFFFFFF), "little")


@contextmanager
def listening(counting: Counting) -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            status, answer = counting.answer(body)
            sent = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(sent)))
            self.end_headers()
            self.wfile.write(sent)

        def log_message(self, *_: object) -> None:
            pass

    listener = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=listener.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.server_port}/v1"
    finally:
        listener.shutdown()
        thread.join()
        listener.server_close()


def config(address: str) -> dict[str, Any]:
    return {
        "providers": {"counted": {"type": "openai", "base_url": address, "api_key": "x"}},
        "models": [{"name": MODEL, "deployments": ["counted/embed"]}],
        "engine": {"default": None},
        "embedder": {"default": None},
    }


@contextmanager
def collection(server: Server, key: str = "c", model: str = MODEL) -> Iterator[tuple[httpx2.Client, str]]:
    with server.http() as client:
        place = f"/api/collections/{key}"
        made = client.post(place, json={"model": model})
        assert made.status_code == 201, made.text
        yield client, place


def lines(count: int, *, of: str = "file") -> bytes:
    return "".join(f"Line {number} of {of} tells of thing number {number}.\n\n" for number in range(count)).encode()


def upload(client: httpx2.Client, place: str, name: str, content: bytes, **fields: str) -> dict[str, Any]:
    answer = client.post(f"{place}/files", files={"file": (name, content)}, data={"chunkSize": "60", **fields})
    assert answer.status_code == 202, answer.text
    return dict(answer.json()["jobs"][0])


def until(what: Callable[[], Any], *, within_s: float = 60.0) -> Any:
    deadline = time.monotonic() + within_s
    while not (seen := what()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)
    return seen


def ended(client: httpx2.Client, place: str, job_id: str, *, within_s: float = 60.0) -> dict[str, Any]:
    def over() -> dict[str, Any] | None:
        job = client.get(f"{place}/jobs/{job_id}").json()
        return job if job["state"] not in {"queued", "running"} else None

    return dict(until(over, within_s=within_s))


def background_pid(server: Server) -> int:
    return asyncio.run(children(server))["background"].pid or 0


def kill_background(server: Server) -> None:
    os.kill(until(lambda: background_pid(server)), signal.SIGKILL)


def test_a_killed_job_goes_on_with_the_chunks_that_lack_a_vector(tmp_path: Path) -> None:
    """Complaint C33: a failed chunk must not restart the whole document."""
    counting = Counting(pause_s=0.2)
    with listening(counting) as address, started(tmp_path, address) as server, collection(server) as (client, place):
        job = upload(client, place, "long.txt", lines(1200))
        until(lambda: counting.calls > 2)
        kill_background(server)
        done = ended(client, place, job["id"])
        assert done["state"] == "done", done
        document = client.get(f"{place}/documents/long.txt").json()
        texts = {text for text in counting.asked if text != "probe"}
        assert document["chunks"] == done["total"] == len(texts)
        twice = sum(count - 1 for text, count in counting.asked.items() if text != "probe")
        assert twice <= 2 * BATCH, "no more than what was under way"
        assert twice < len(texts) / 2


@pytest.mark.soak
def test_a_job_that_ends_its_process_each_time_is_failed_and_the_next_goes_on(tmp_path: Path) -> None:
    """Complaints C27 and C28: nothing is stuck, and whoever asks is told why."""
    counting = Counting(pause_s=1.0)
    with listening(counting) as address, started(tmp_path, address) as server, collection(server) as (client, place):
        job = upload(client, place, "bad.txt", lines(300))
        for _ in range(3):
            until(lambda: client.get(f"{place}/jobs/{job['id']}").json()["state"] == "running")
            seen = counting.calls
            until(lambda seen=seen: counting.calls > seen)
            kill_background(server)
        failed = ended(client, place, job["id"])
        assert failed["state"] == "failed"
        assert "3 times" in failed["error"]
        counting.pause_s = 0
        [folder] = (server.data / "collections").iterdir()
        again = upload(client, place, "good.txt", lines(10))
        assert ended(client, place, again["id"])["state"] == "done"
        file = apsw.Connection(str(folder / "c.db"))
        assert file.execute("select job from staged").fetchall() == []
        file.close()


def test_jobs_that_a_stopped_server_left_are_done_by_the_next(tmp_path: Path) -> None:
    counting = Counting(pause_s=0.3)
    with listening(counting) as address:
        with started(tmp_path, address) as server, collection(server) as (client, place):
            jobs = [upload(client, place, f"{number}.txt", lines(200, of=str(number))) for number in range(3)]
            until(lambda: counting.calls > 3)
        counting.pause_s = 0
        with started(tmp_path, address) as server, server.http() as client:
            assert [ended(client, place, job["id"])["state"] for job in jobs] == ["done"] * 3
            assert len(client.get(f"{place}/documents").json()["documents"]) == 3
        twice = sum(count - 1 for text, count in counting.asked.items() if text != "probe")
        assert twice <= 3 * 2 * BATCH


def test_a_model_that_fails_for_a_while_is_waited_for(tmp_path: Path) -> None:
    counting = Counting()
    with listening(counting) as address, started(tmp_path, address) as server, collection(server) as (client, place):
        counting.failing = True
        job = upload(client, place, "a.txt", lines(20))
        seen = counting.calls
        until(lambda: counting.calls > seen)
        assert client.get(f"{place}/jobs/{job['id']}").json()["state"] in {"queued", "running"}
        counting.failing = False
        assert ended(client, place, job["id"])["state"] == "done"


def test_a_revoked_keys_jobs_fail_with_that_reason(tmp_path: Path) -> None:
    counting = Counting()
    with listening(counting) as address, started(tmp_path, address) as server, collection(server) as (client, place):
        counting.free.clear()
        blocker = [upload(client, place, f"{number}.txt", lines(300, of=str(number))) for number in range(3)]
        with server.http(server.key(name="leaver")) as theirs:
            job = upload(theirs, place, "late.txt", lines(5))
        server.revoke("leaver")
        counting.free.set()
        told = ended(client, place, job["id"])
        assert (told["state"], "revoked" in told["error"]) == ("failed", True)
        assert all(ended(client, place, each["id"])["state"] == "done" for each in blocker)


def test_one_accounts_many_files_do_not_keep_anothers_waiting(tmp_path: Path) -> None:
    """Complaint C28: a thousand files wedge the queue."""
    counting = Counting(pause_s=0.5)
    with listening(counting) as address, started(tmp_path, address) as server, collection(server) as (client, place):
        many = [upload(client, place, f"{number}.txt", lines(20, of=str(number))) for number in range(40)]
        with server.http(server.key(name="other", account="other")) as theirs:
            assert theirs.post("/api/collections/own", json={"model": MODEL}).status_code == 201
            job = upload(theirs, "/api/collections/own", "a.txt", lines(5))
            assert ended(theirs, "/api/collections/own", job["id"])["state"] == "done"
        waiting = [client.get(f"{place}/jobs/{each['id']}").json()["state"] for each in many]
        assert "queued" in waiting


def test_a_collection_that_is_deleted_meanwhile_ends_its_jobs(tmp_path: Path) -> None:
    counting = Counting(pause_s=0.2)
    with listening(counting) as address, started(tmp_path, address) as server, collection(server) as (client, place):
        for number in range(4):
            upload(client, place, f"{number}.txt", lines(300, of=str(number)))
        until(lambda: counting.calls > 2)
        assert client.delete(place).status_code == 204
        until(lambda: not list((server.data / "uploads").iterdir()))
        assert client.get(f"{place}/jobs").status_code == 404


@contextmanager
def started(folder: Path, address: str, settings: dict[str, Any] | None = None) -> Iterator[Server]:
    data = folder / "data"
    data.mkdir(mode=0o700, exist_ok=True)
    with serving(data, config=config(address) | (settings or {})) as server:
        yield server


def test_a_collection_that_has_grown_gets_its_code_file(tmp_path: Path) -> None:
    counting = Counting()
    with listening(counting) as address, started(tmp_path, address) as server, collection(server) as (client, place):
        job = upload(client, place, "long.txt", lines(2600))
        assert ended(client, place, job["id"])["total"] > 2000
        [folder] = (server.data / "collections").iterdir()
        [made] = until(lambda: list(folder.glob("seg-*.bin")))
        assert client.post(f"{place}/search", json={"query": "thing number 2345"}).status_code == 200
        made.unlink()
        upload(client, place, "short.txt", lines(2))
        until(lambda: list(folder.glob("seg-*.bin")))


def test_a_killed_rebuild_goes_on_and_loses_nothing(tmp_path: Path) -> None:
    counting = Counting(pause_s=0.1)
    with listening(counting) as address, started(tmp_path, address) as server, collection(server) as (client, place):
        for number in range(3):
            job = upload(client, place, f"{number}.txt", lines(150, of=str(number)), mode="windows")
            assert ended(client, place, job["id"])["state"] == "done"
        job = client.post(f"{place}/rebuild", json={"chunkSize": 45}).json()
        seen = counting.calls
        until(lambda: counting.calls > seen + 5)
        kill_background(server)
        assert client.put(f"{place}/documents/meanwhile", json={"content": "Written meanwhile."}).status_code == 201
        assert client.delete(f"{place}/documents/0.txt").status_code == 204
        assert ended(client, place, job["id"])["state"] == "done"
        listed = {each["key"]: each["chunkSize"] for each in client.get(f"{place}/documents").json()["documents"]}
        assert listed == {"1.txt": 45, "2.txt": 45, "meanwhile": 45}


def test_a_rebuild_after_a_cancelled_one_is_not_swept_away_with_it(tmp_path: Path) -> None:
    """The first is over for its caller while its process still waits for an embedding."""
    counting = Counting()
    with listening(counting) as address, started(tmp_path, address) as server, collection(server) as (client, place):
        job = upload(client, place, "a.txt", lines(150), mode="windows")
        assert ended(client, place, job["id"])["state"] == "done"
        counting.free.clear()
        seen = counting.waiting
        first = client.post(f"{place}/rebuild", json={"chunkSize": 45}).json()
        until(lambda: counting.waiting > seen)
        assert client.delete(f"{place}/jobs/{first['id']}").status_code == 204
        second = client.post(f"{place}/rebuild", json={"chunkSize": 30}).json()
        until(lambda: client.get(f"{place}/jobs/{second['id']}").json()["state"] == "running")
        counting.free.set()
        assert ended(client, place, second["id"])["state"] == "done"
        assert client.get(f"{place}/documents/a.txt").json()["chunkSize"] == 30


def test_settings_that_change_are_followed(tmp_path: Path) -> None:
    """A process by former settings ends, and its successor goes on with its jobs."""
    counting = Counting(pause_s=0.2)
    with listening(counting) as address, started(tmp_path, address) as server, collection(server) as (client, place):
        first = upload(client, place, "a.txt", lines(400))
        before = until(lambda: background_pid(server))
        file = tmp_path / "narthex-test.yaml"
        file.write_text(yaml.safe_dump(config(address) | {"http": {"total_s": 300}}))
        assert client.post("/admin/reload").json()["changed"] == ["http.total_s"]
        second = upload(client, place, "b.txt", lines(5, of="b"))
        assert [ended(client, place, job["id"])["state"] for job in (first, second)] == ["done", "done"]
        assert background_pid(server) != before
        assert client.get(f"{place}/jobs/{first['id']}").json()["state"] == "done"


def test_documents_that_are_given_as_text_get_a_code_file_too(tmp_path: Path) -> None:
    counting = Counting()
    with listening(counting) as address, started(tmp_path, address) as server, collection(server) as (client, place):
        for number in range(4):
            given = {"content": lines(900, of=str(number)).decode(), "chunkSize": 60}
            assert client.put(f"{place}/documents/{number}", json=given).status_code == 201
        [folder] = (server.data / "collections").iterdir()
        until(lambda: list(folder.glob("seg-*.bin")))


def test_who_waits_while_the_server_stops_is_told_of_the_job(tmp_path: Path) -> None:
    counting = Counting()
    settings = {"http": {"drain_s": 1}}
    answers: list[httpx2.Response] = []
    told: list[str] = []
    following = threading.Event()
    with (
        listening(counting) as address,
        started(tmp_path, address, settings) as server,
        collection(server) as (client, place),
    ):

        def wait() -> None:
            sent = {"file": ("a.txt", lines(500))}
            answers.append(client.post(f"{place}/files?wait=60", files=sent, data={"chunkSize": "60"}))

        def follow() -> None:
            [job] = until(lambda: client.get(f"{place}/jobs").json()["jobs"])
            with client.stream("GET", f"{place}/jobs/{job['id']}/events") as stream:
                for line in stream.iter_lines():
                    told.append(line)
                    following.set()

        counting.free.clear()
        threads = [threading.Thread(target=each) for each in (wait, follow)]
        for thread in threads:
            thread.start()
        assert following.wait(60)
        server.process.send_signal(signal.SIGTERM)
        for thread in threads:
            thread.join()
        counting.free.set()
    assert (answers[0].status_code, answers[0].json()["jobs"][0]["documentKey"]) == (202, "a.txt")
    assert "\n".join(told).strip().endswith('{"error":"This server is shutting down."}')
