"""Tokens per second and time to the first token: the bare engine against the whole gateway.

    python benchmarks/generation.py --engine-port 8091 --base-url http://127.0.0.1:8000/v1 --key KEY

Each run streams `--tokens` tokens to 1 and to 16 callers at once. Runs of both sides alternate, and change who goes
first; the ratio is the median over pairs of neighbouring runs, because a shared machine's speed drifts by a tenth
within a minute. Name only one side to measure only that.
"""

import argparse
import asyncio
import json
import re
import statistics
import time
from typing import NamedTuple
from urllib.parse import urlsplit

OUTPUT = re.compile(rb'"(content|text)":"[^"]').search
PROMPT = "Once upon a time, in a small town by the sea, there lived a"


class Run(NamedTuple):
    tokens_per_s: float
    first_token_ms: float


class Side(NamedTuple):
    """Where to send, what to send, and the mark of an event that carries output."""

    name: str
    host: str
    port: int
    path: str
    headers: str
    body: bytes


def sides(args: argparse.Namespace) -> list[Side]:
    found = []
    if args.engine_port:
        body = {"prompt": PROMPT, "n_predict": args.tokens, "temperature": 0, "stream": True, "cache_prompt": False}
        found.append(Side("engine", "127.0.0.1", args.engine_port, "/completion", "", json.dumps(body).encode()))
    if args.base_url:
        url = urlsplit(args.base_url)
        body = {"model": args.model, "prompt": PROMPT, "max_tokens": args.tokens, "temperature": 0, "stream": True}
        headers = f"authorization: Bearer {args.key}\r\n"
        path = url.path.rstrip("/") + "/completions"
        found.append(Side("gateway", url.hostname or "", url.port or 80, path, headers, json.dumps(body).encode()))
    return found


async def stream(side: Side) -> tuple[int, float]:
    """One request: (tokens, seconds to the first of them)."""
    reader, writer = await asyncio.open_connection(side.host, side.port)
    began, first, tokens = time.monotonic(), 0.0, 0
    head = f"POST {side.path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\n"
    writer.write(f"{head}{side.headers}content-length: {len(side.body)}\r\n\r\n".encode() + side.body)
    status = await reader.readline()
    if b" 200 " not in status:
        raise SystemExit(f"{side.name}: {status.decode().strip()} {(await reader.read())[-500:].decode()}")
    pieces = []  # read at the end: this side shares the processors with what it measures
    while piece := await reader.read(65536):
        pieces.append(piece)
        if not first and OUTPUT(piece):
            first = time.monotonic() - began
    for line in b"".join(pieces).split(b"\n"):
        if line.startswith(b"data: {"):
            event = json.loads(line[6:])
            if event.get("content") or (event.get("choices") and event["choices"][0].get("text")):
                tokens += 1
    writer.close()
    return tokens, first


async def run(side: Side, callers: int) -> Run:
    began = time.monotonic()
    done = await asyncio.gather(*(stream(side) for _ in range(callers)))
    took = time.monotonic() - began
    return Run(sum(tokens for tokens, _ in done) / took, 1000 * statistics.median(first for _, first in done))


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine-port", type=int, help="of a running bare_engine.py")
    parser.add_argument("--base-url", help="the gateway's, with /v1")
    parser.add_argument("--key", default="", help="an API key of the gateway")
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--tokens", type=int, default=150)
    parser.add_argument("--repeats", type=int, default=10)
    args = parser.parse_args()
    for callers in (1, 16):
        runs: dict[str, list[Run]] = {}
        for number in range(args.repeats):
            for side in sides(args)[:: -1 if number % 2 else 1]:
                runs.setdefault(side.name, []).append(await run(side, callers))
        for name, made in runs.items():
            speed = statistics.median(each.tokens_per_s for each in made)
            first = statistics.median(each.first_token_ms for each in made)
            print(f"{callers:2} streams  {name:8} {speed:7.1f} tokens/s  {first:8.1f} ms first")
        if len(runs) == 2:
            pairs = zip(runs["gateway"], runs["engine"], strict=True)
            ratios = sorted(ours.tokens_per_s / bare.tokens_per_s for ours, bare in pairs)
            spread = f"({ratios[0]:.2f} to {ratios[-1]:.2f})"
            print(f"{callers:2} streams  ratio    {statistics.median(ratios):7.3f}  {spread}")


if __name__ == "__main__":
    asyncio.run(main())
