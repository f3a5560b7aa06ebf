"""All figures of `make bench`, each a ratio of two sides measured in turn in this one run.

Starts a server of its own in a temporary folder, on the models that the tests use, and ends it.
"""

import argparse
import json
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from narthex.engine.models.catalogue import CATALOGUE
from narthex.engine.models.pull import pull

HERE = Path(__file__).parent
MODELS = HERE.parent / ".cache" / "models"
MODEL = MODELS / "smollm2-135m-instruct" / "SmolLM2-135M-Instruct.Q4_1.gguf"
ENGINE = "engine/smollm2-135m-instruct"
ALL = ("generation", "constrained", "prediction", "embeddings", "ingest", "determinism", "stored")


@contextmanager
def server() -> Iterator[tuple[Path, str]]:
    """A running server: its data folder and its address."""
    with tempfile.TemporaryDirectory(prefix="nx-") as folder:
        data = Path(folder)
        (data / "models").symlink_to(MODELS)
        log = data / "log"
        with log.open("wb") as sink:
            command = [sys.executable, "-m", "narthex", "serve", "--data", folder, "--port", "0"]
            process = subprocess.Popen(command, stderr=sink, stdout=sink)
            try:
                yield data, address(log)
            finally:
                process.terminate()
                process.wait(60)


@contextmanager
def bare_engine() -> Iterator[str]:
    """The engine by itself, beside the server; while one side is measured the other is idle. Its port."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = str(probe.getsockname()[1])
    command = [sys.executable, str(HERE / "bare_engine.py"), str(MODEL), port]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        assert process.stdout is not None
        process.stdout.readline()  # it listens
        yield port
    finally:
        process.terminate()
        process.wait(30)


def address(log: Path) -> str:
    """Wait until the engine is ready; the log tells where the server listens."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
        ready = any(line.get("child") == ENGINE and line.get("state") == "ready" for line in lines)
        found = [line["address"] for line in lines if line.get("event") == "listening"]
        if ready and found:
            return str(found[0])
        time.sleep(0.1)
    raise SystemExit(f"the server did not start:\n{log.read_text()}")


def script(name: str, *arguments: str) -> None:
    """Run one of our scripts and let it print."""
    print(f"\n== {name}", flush=True)
    subprocess.run([sys.executable, str(HERE / f"{name}.py"), *arguments], check=True)


def main() -> None:
    if sys.argv[1:2] in (["gateways"], ["quality"], ["retrieval"]):
        raise SystemExit(subprocess.call([sys.executable, "-m", *sys.argv[1:]], cwd=HERE))
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("only", nargs="*", help=f"{', '.join(ALL)}; all when left out")
    wanted = parser.parse_args().only or list(ALL)
    for row in CATALOGUE.values():
        pull(row, MODELS)
    if "generation" in wanted:
        with server() as (data, url), bare_engine() as port:
            key = (data / "admin.key").read_text().strip()
            script("generation", "--engine-port", port, "--base-url", f"{url}/v1", "--key", key)
    if "constrained" in wanted:
        with server() as (data, url):
            key = (data / "admin.key").read_text().strip()
            script("constrained", "--base-url", f"{url}/v1", "--key", key)
    if "prediction" in wanted:
        with server() as (data, url):
            key = (data / "admin.key").read_text().strip()
            script("prediction", "--base-url", f"{url}/v1", "--key", key, "--model-path", str(MODEL))
    if "determinism" in wanted:
        script("determinism")
    if "embeddings" in wanted:
        script("embeddings")
    if "stored" in wanted:
        script("stored")
    if "ingest" in wanted:
        with server() as (data, url):
            script("ingest", "--data", str(data), "--url", url)


if __name__ == "__main__":
    main()
