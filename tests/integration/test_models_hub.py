"""Models from a hub that speaks as much of the real one's API as a download needs."""

import contextlib
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest
from tests import tiny_pipeline

from narthex.core.errors import ModelLoadFailed, ModelNotFound, StorageFull
from narthex.engine.models import disk, hub
from narthex.engine.models.manifest import Manifest
from narthex.engine.models.pull import pull
from narthex.engine.models.source import HubSource
from narthex.engine.models.store import ModelStore

pytest_plugins = ["tests.models_fixture"]
pytestmark = pytest.mark.patient

COMMIT = "c0ffee" + "0" * 34
TOKEN = "hf_never_shown"  # a made-up one


class Hub(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    files: ClassVar[dict[str, bytes]] = {}
    etag: ClassVar[str | None] = None
    status: ClassVar[int] = 200
    error_code: ClassVar[str] = ""
    cut_after: ClassVar[list[int]] = []
    """How many bytes each of the next answers has before the connection breaks."""
    ranges: ClassVar[bool] = True
    extra: ClassVar[bytes] = b""
    log: ClassVar[list[tuple[str, str, str | None]]] = []

    def do_HEAD(self) -> None:
        self._describe()

    def do_GET(self) -> None:
        self.log.append(("GET", self.path, self.headers.get("Range")))
        if self.path.startswith("/api/models/"):
            return self._list()
        found = self._found()
        if found is None or self.status != 200:
            return self._refuse()
        start = int(re.fullmatch(r"bytes=(\d+)-", self.headers["Range"])[1]) if self.ranges else 0  # type: ignore[index]
        body = found[start:] + self.extra
        self.send_response(206 if self.ranges else 200)
        if self.ranges:
            self.send_header("Content-Range", f"bytes {start}-{len(found) - 1}/{len(found)}")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.cut_after:
            self.wfile.write(body[: self.cut_after.pop(0)])
            self.close_connection = True
        else:
            self.wfile.write(body)
        return None

    def _found(self) -> bytes | None:
        match = re.fullmatch(rf"/acme/tiny/resolve/(?:main|v1|{COMMIT})/(.+)", self.path)
        return self.files.get(match[1]) if match else None

    def _describe(self) -> None:
        found = self._found()
        if found is None or self.status != 200:
            return self._refuse()
        self.send_response(200)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("X-Linked-Etag", f'"{self.etag or hashlib.sha256(found).hexdigest()}"')
        self.send_header("X-Linked-Size", str(len(found)))
        self.send_header("Content-Length", str(len(found)))
        self.end_headers()
        return None

    def _list(self) -> None:
        tree = [{"type": "file", "path": name, "size": len(body), "oid": "0" * 40} for name, body in self.files.items()]
        siblings = [{"rfilename": name} for name in self.files]
        body = json.dumps(tree if "/tree/" in self.path else {"id": "acme/tiny", "sha": COMMIT, "siblings": siblings})
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def _refuse(self) -> None:
        self.send_response(self.status if self.status != 200 else 404)
        self.send_header("X-Error-Code", self.error_code or "EntryNotFound")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):
            super().handle()


@pytest.fixture
def server(models_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    (path,) = (models_dir / "smollm2-135m-instruct").glob("*.gguf")
    Hub.files = {"tiny-Q4_K_M.gguf": path.read_bytes(), "tiny-Q8_0.gguf": b"other", "README.md": b"hello"}
    Hub.etag, Hub.status, Hub.error_code, Hub.cut_after = None, 200, "", []
    Hub.ranges, Hub.extra, Hub.log = True, b"", []
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=httpd.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{httpd.server_port}"
    httpd.shutdown()
    thread.join()
    httpd.server_close()


SOURCE = HubSource(repo="acme/tiny", file="tiny-Q4_K_M.gguf")


def fetch(server: str, tmp_path: Path, source: HubSource = SOURCE) -> Manifest:
    return pull(source, tmp_path, hub_endpoint=server)


def ranges() -> list[str | None]:
    return [asked for verb, path, asked in Hub.log if "/resolve/" in path]


def test_a_file_by_name(server: str, tmp_path: Path) -> None:
    found = fetch(server, tmp_path)
    assert (found.name, found.kind, found.source) == ("tiny-q4_k_m", "chat", "hf:acme/tiny/tiny-Q4_K_M.gguf@main")
    assert found.digest == hashlib.sha256(Hub.files["tiny-Q4_K_M.gguf"]).hexdigest()
    assert ModelStore(tmp_path).check("tiny-q4_k_m", verify=True) == found
    assert all(COMMIT in path for _, path, _ in Hub.log)
    before = len(Hub.log)
    assert fetch(server, tmp_path) == found
    assert len(Hub.log) == before


def test_the_usual_quantisation_where_none_is_named(server: str, tmp_path: Path) -> None:
    found = fetch(server, tmp_path, HubSource(repo="acme/tiny"))
    assert (found.name, found.files[0].path) == ("tiny", "tiny-Q4_K_M.gguf")


def test_a_choice_that_is_not_plain(server: str, tmp_path: Path) -> None:
    Hub.files = {"a.gguf": b"", "b.gguf": b""}
    with pytest.raises(ModelNotFound, match=r"name one of the repository's GGUF files\. It has: a\.gguf, b\.gguf\."):
        fetch(server, tmp_path, HubSource(repo="acme/tiny"))
    Hub.files = {"README.md": b""}
    with pytest.raises(ModelNotFound, match="It has: none"):
        fetch(server, tmp_path, HubSource(repo="acme/tiny"))


def test_goes_on_after_a_cut(server: str, tmp_path: Path) -> None:
    Hub.cut_after = [30_000_000, 20_000_000]
    found = fetch(server, tmp_path)
    assert ModelStore(tmp_path).check("tiny-q4_k_m", verify=True) == found
    starts = [int(str(asked).removeprefix("bytes=").removesuffix("-")) for asked in ranges()]
    assert len(starts) == 3
    assert 0 == starts[0] < starts[1] < starts[2]


def test_the_next_pull_goes_on_where_one_gave_up(server: str, tmp_path: Path) -> None:
    file = hub.describe(SOURCE, endpoint=server)
    Hub.cut_after = [30_000_000, 0, 0, 0]
    with pytest.raises(ModelLoadFailed, match=r"was cut at \d+ of 98362432 bytes; pull again to go on"):
        hub.download(file, tmp_path, on_progress=lambda *_: None, pause_s=0)
    assert ModelStore(tmp_path).installed() == []
    (partial,) = tmp_path.glob("*.incomplete")
    had = partial.stat().st_size
    assert had > 20_000_000
    Hub.log = []
    assert hub.download(file, tmp_path, on_progress=lambda *_: None).read_bytes() == Hub.files["tiny-Q4_K_M.gguf"]
    assert ranges() == [f"bytes={had}-"]


def test_a_hub_without_ranges_starts_anew(server: str, tmp_path: Path) -> None:
    Hub.ranges, Hub.cut_after = False, [10_000_000]
    found = fetch(server, tmp_path)
    assert ModelStore(tmp_path).check("tiny-q4_k_m", verify=True) == found


def test_another_file_than_the_hub_described(server: str, tmp_path: Path) -> None:
    Hub.etag = "ab" * 32
    with pytest.raises(
        ModelLoadFailed, match=f"tiny-Q4_K_M.gguf is not the expected file: SHA-256 {'ab' * 32} expected"
    ):
        fetch(server, tmp_path)
    assert ModelStore(tmp_path).installed() == []
    Hub.etag = None
    fetch(server, tmp_path)


def test_a_file_without_digest_is_still_a_whole_model(server: str, tmp_path: Path) -> None:
    Hub.etag = "0" * 40
    assert fetch(server, tmp_path).digest == hashlib.sha256(Hub.files["tiny-Q4_K_M.gguf"]).hexdigest()
    with pytest.raises(ModelLoadFailed, match=r"tiny-Q8_0\.gguf is not a GGUF file"):
        fetch(server, tmp_path, HubSource(repo="acme/tiny", file="tiny-Q8_0.gguf"))
    assert [found.name for found in ModelStore(tmp_path).installed()] == ["tiny-q4_k_m"]


def test_more_bytes_than_announced(server: str, tmp_path: Path) -> None:
    Hub.extra = b"more"
    with pytest.raises(ModelLoadFailed, match="sent more than the 98362432 bytes"):
        fetch(server, tmp_path)


def test_no_room(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = disk.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(StorageFull):
        fetch(server, tmp_path)


@pytest.mark.parametrize(
    ("status", "code", "error", "message"),
    [
        (401, "RepoNotFound", ModelNotFound, "no such repository, revision or file"),
        (404, "RevisionNotFound", ModelNotFound, "no such repository, revision or file"),
        (404, "EntryNotFound", ModelNotFound, "no such repository, revision or file"),
        (403, "GatedRepo", ModelLoadFailed, "accept the licence"),
        (500, "x", ModelLoadFailed, "the hub answered 500"),
    ],
)
def test_refusals(server: str, tmp_path: Path, status: int, code: str, error: type[Exception], message: str) -> None:
    Hub.status, Hub.error_code = status, code
    with pytest.raises(error, match=message) as caught:
        fetch(server, tmp_path)
    assert TOKEN not in str(caught.value)
    assert ModelStore(tmp_path).installed() == []


def test_a_refused_download(server: str, tmp_path: Path) -> None:
    file = hub.describe(SOURCE, endpoint=server)
    Hub.status = 503
    with pytest.raises(ModelLoadFailed, match="the hub answered 503"):
        hub.download(file, tmp_path, on_progress=lambda *_: None)


def test_no_network(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadFailed, match=r"hf:acme/tiny/tiny-Q4_K_M\.gguf@main: the hub can't be reached"):
        fetch("http://127.0.0.1:9", tmp_path)
    assert ModelStore(tmp_path).installed() == []


# --- pipelines, which are many files -------------------------------------------------------------------------------

PIPELINE = HubSource(repo="acme/tiny")


def offer_pipeline(folder: Path) -> dict[str, bytes]:
    """Let the hub have a pipeline, beside things that nobody needs; returns the pipeline's files."""
    tiny_pipeline.write(folder)
    (folder / "text_encoder/model.onnx_data").write_bytes(b"weights")
    (folder / "unet/model.onnx_data").write_bytes(b"weights")
    files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    Hub.files = files | dict.fromkeys(
        ("README.md", "unet/diffusion_pytorch_model.safetensors", "unet/.keep", "vae/x.onnx"), b"other"
    )
    return files


def test_a_pipeline_comes_with_all_its_files_and_no_others(server: str, tmp_path: Path) -> None:
    files = offer_pipeline(tmp_path / "there")
    found = fetch(server, tmp_path / "here", PIPELINE)
    assert (found.name, found.kind, found.source) == ("tiny", "image", "hf:acme/tiny@main")
    assert {file.path for file in found.files} == set(files)
    assert found.digest == hashlib.sha256(files["unet/model.onnx"]).hexdigest()
    resolved = ModelStore(tmp_path / "here").resolve("hf:acme/tiny")
    assert (resolved.kind, resolved.path) == ("image", tmp_path / "here/tiny")
    assert all((resolved.path / name).read_bytes() == content for name, content in files.items())
    assert ModelStore(tmp_path / "here").check("tiny", verify=True) == found
    asked = len(Hub.log)
    assert fetch(server, tmp_path / "here", PIPELINE) == found
    assert len(Hub.log) == asked


def test_a_file_system_without_second_names_has_copies(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise PermissionError

    files = offer_pipeline(tmp_path / "there")
    monkeypatch.setattr(Path, "hardlink_to", refused)
    fetch(server, tmp_path / "here", PIPELINE)
    assert all((tmp_path / "here/tiny" / name).read_bytes() == content for name, content in files.items())


def test_a_pull_of_a_pipeline_that_was_stopped_goes_on_with_what_is_there(server: str, tmp_path: Path) -> None:
    files = offer_pipeline(tmp_path / "there")
    seen: list[tuple[int, int]] = []

    def stop(done: int, total: int) -> None:
        seen.append((done, total))
        if len(seen) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pull(PIPELINE, tmp_path / "here", hub_endpoint=server, on_progress=stop)
    assert ModelStore(tmp_path / "here").installed() == []
    assert [total for _, total in seen] == [sum(map(len, files.values()))] * 3
    assert sorted(seen) == seen
    asked = len(ranges())
    assert fetch(server, tmp_path / "here", PIPELINE).kind == "image"
    assert asked == 3
    assert len(ranges()) - asked <= len(files) - 2


def test_a_pipeline_of_another_kind_is_refused_before_it_is_fetched(server: str, tmp_path: Path) -> None:
    Hub.files = {"model_index.json": b"{}", "unet/diffusion_pytorch_model.safetensors": b"other"}
    with pytest.raises(ModelLoadFailed, match=r"has a pipeline, but not in ONNX: no unet/model\.onnx"):
        fetch(server, tmp_path, PIPELINE)
    assert not ranges()
