"""Tokens per second and time to the first token: the bare engine against the whole gateway.

    python benchmarks/generation.py --engine-port 8091 --base-url http://127.0.0.1:8000/v1 --key KEY

Each run streams `--tokens` tokens to 1 and to 16 callers at once. A round is four runs, engine, gateway, gateway,
engine: a shared machine's speed drifts by a tenth within a minute, and in this order a steady drift weighs on both
sides alike. The ratio is the median over rounds. Name only one side to measure only that.
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
    tokens: int
    took_s: float
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
    return Run(sum(tokens for tokens, _ in done), took, 1000 * statistics.median(first for _, first in done))


def speed(runs: list[Run]) -> float:
    """Tokens per second over all of `runs`."""
    return sum(each.tokens for each in runs) / sum(each.took_s for each in runs)


async def rounds(both: list[Side], *, callers: int, count: int) -> list[dict[str, list[Run]]]:
    """`count` times A, B, B, A: per round, each side's runs by its name."""
    made: list[dict[str, list[Run]]] = []
    for side in both:
        await run(side, callers)  # the first run wakes what has slept
    for _ in range(count):
        made.append({side.name: [] for side in both})
        for side in [*both, *reversed(both)]:
            made[-1][side.name].append(await run(side, callers))
    return made


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine-port", type=int, help="of a running bare_engine.py")
    parser.add_argument("--base-url", help="the gateway's, with /v1")
    parser.add_argument("--key", default="", help="an API key of the gateway")
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--tokens", type=int, default=100)
    parser.add_argument("--rounds", type=int, nargs=2, default=(20, 8), help="for 1 caller and for 16")
    args = parser.parse_args()
    for callers, count in zip((1, 16), args.rounds, strict=True):
        both = sides(args)
        made = await rounds(both, callers=callers, count=count)
        for name in (side.name for side in both):
            runs = [each for round_ in made for each in round_[name]]
            first = statistics.median(each.first_token_ms for each in runs)
            print(f"{callers:2} streams  {name:8} {speed(runs):7.1f} tokens/s  {first:8.1f} ms first")
        if len(both) == 2:
            ratios = sorted(speed(each["gateway"]) / speed(each["engine"]) for each in made)
            spread = f"({ratios[0]:.2f} to {ratios[-1]:.2f})"
            print(f"{callers:2} streams  ratio    {statistics.median(ratios):7.3f}  {spread}")


if __name__ == "__main__":
    asyncio.run(main())
