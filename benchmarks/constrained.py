"""What a constrained answer costs: tokens per second with a schema against without, and the compile time of a schema.

    python benchmarks/constrained.py --base-url http://127.0.0.1:8000/v1 --key KEY

Both sides make `--tokens` tokens from the same prompt; runs alternate, and the ratio is the median over pairs. The
compile times are told by requests for one token: with a 50 KB schema that is new, with the same again, and without one.
"""

import argparse
import itertools
import statistics
import time
from typing import Any

from openai import OpenAI

ASK = [{"role": "user", "content": "Tell me a long story about a fox, as a list of sentences."}]
SENTENCES = {"type": "array", "items": {"type": "string", "minLength": 30}, "minItems": 40}


def form(schema: Any) -> dict[str, Any]:
    """The field for a schema."""
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}


def large(mark: int) -> Any:
    """A schema of about 50 KB; `mark` makes it unlike any before."""
    properties: dict[str, Any] = {
        f"field_{mark}_{number}": {
            "type": "object",
            "description": "One of many fields that an answer has.",
            "properties": {
                "name": {"type": "string", "pattern": "^[A-Z][a-z]{1,20}$"},
                "kind": {"enum": ["first", "second", "third"]},
                "count": {"type": "integer", "minimum": 0, "maximum": 1000},
                "notes": {"type": "array", "items": {"type": "string", "maxLength": 40}, "maxItems": 4},
            },
            "required": ["name", "kind", "count"],
            "additionalProperties": False,
        }
        for number in range(125)
    }
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def took(client: OpenAI, model: str, *, tokens: int, response_format: Any) -> float:
    """Seconds that an answer of `tokens` tokens takes."""
    began = time.monotonic()
    answer = client.chat.completions.create(
        model=model, messages=ASK, max_tokens=tokens, temperature=0, response_format=response_format
    )
    seconds = time.monotonic() - began
    if answer.usage.completion_tokens != tokens:
        raise SystemExit(f"the answer has {answer.usage.completion_tokens} tokens instead of {tokens}")
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base-url", required=True, help="the gateway's, with /v1")
    parser.add_argument("--key", required=True, help="an API key of the gateway")
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--tokens", type=int, default=150)
    parser.add_argument("--repeats", type=int, default=6)
    args = parser.parse_args()
    client: Any = OpenAI(base_url=args.base_url, api_key=args.key, max_retries=0)
    free, held = {"type": "text"}, form(SENTENCES)
    for each in (free, held):
        took(client, args.model, tokens=args.tokens, response_format=each)
    times: list[tuple[float, float]] = []
    for _ in range(args.repeats):
        first = took(client, args.model, tokens=args.tokens, response_format=free)
        times.append((first, took(client, args.model, tokens=args.tokens, response_format=held)))
    for name, seconds in zip(("free", "constrained"), zip(*times, strict=True), strict=True):
        print(f"{name:12} {args.tokens / statistics.median(seconds):7.1f} tokens/s")
    print(f"{'ratio':12} {statistics.median(free / held for free, held in times):7.3f}")
    marks = itertools.count()
    small, new, again = [], [], []
    for _ in range(args.repeats):
        small.append(took(client, args.model, tokens=1, response_format=free))
        schema = form(large(next(marks)))
        new.append(took(client, args.model, tokens=1, response_format=schema))
        again.append(took(client, args.model, tokens=1, response_format=schema))
    for name, seconds in (("no schema", small), ("50 KB, new", new), ("50 KB, again", again)):
        print(f"{name:12} {1000 * statistics.median(seconds):7.1f} ms for one token")


if __name__ == "__main__":
    main()
