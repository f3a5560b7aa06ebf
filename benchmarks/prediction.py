"""What a prediction gives: the time of answers with one, right, nearly right and wrong, against the same without it.

    python benchmarks/prediction.py --base-url http://127.0.0.1:8000/v1 --key KEY --model-path MODEL.gguf

The prediction that is right is the model's own answer. The sides of a prompt follow each other, and ratios are medians
over prompts. `ceiling` is the machine's own: what a token costs alone, by what it costs in a batch of 16. Where memory
is the limit a batch costs no more than a token: there the gain is `tokens a pass`.
"""

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

from openai import OpenAI

from narthex.engine.prediction.answer import answer, read
from narthex.engine.prediction.choosing import Likeliest
from narthex.engine.prediction.draft import Draft
from narthex.engine.prediction.llama_c import Model, Text

ASKED = (
    "Count from 1 to 60, separated by commas.",
    "List the months of the year twice, each with its number.",
    "Write a Python class Point with x, y, a distance method and a docstring for each method.",
    "Explain in a few sentences what a database index is.",
    "Write a short letter to a neighbour about a lost cat.",
    "Repeat this sentence ten times: The ship sails at noon.",
    "Write a recipe for pancakes with a list of ingredients.",
    "Tell the story of the tortoise and the hare.",
)
WRONG = "Lorem ipsum dolor sit amet, consectetur adipiscing elit, sed do eiusmod tempor incididunt ut labore. " * 8
SIDES = ("right", "nearly right", "wrong")


class Side:
    """What one kind of prediction did, prompt by prompt."""

    def __init__(self) -> None:
        self.ratios: list[float] = []
        self.equal = 0
        self.accepted = 0
        self.rejected = 0
        self.tokens = 0


def ask(client: OpenAI, model: str, prompt: str, *, tokens: int, predicted: str | None = None) -> tuple[float, Any]:
    """Seconds a token, and the answer."""
    body: dict[str, Any] = {"prediction": {"type": "content", "content": predicted}} if predicted else {}
    began = time.monotonic()
    found: Any = client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": prompt}], max_tokens=tokens, temperature=0, **body
    )
    seconds = time.monotonic() - began
    usage = found.usage
    return seconds / (usage.completion_tokens - usage.completion_tokens_details.rejected_prediction_tokens), found


def nearly(text: str) -> str:
    """With a word changed in each tenth of it."""
    words = text.split(" ")
    for at in range(len(words) // 20, len(words), max(2, len(words) // 10)):
        words[at] = "otherwise"
    return " ".join(words)


def machine(path: Path, *, batch: int, tokens: int) -> tuple[float, float]:
    """The ceiling, and tokens for each pass of the model when everything is predicted."""
    model = Model(path, gpu_layers=0, batch=batch, threads=2)
    text, prompt = Text(model), list(range(1000, 1050))

    def run(predicted: list[int]) -> tuple[list[int], int]:
        text.keep(0)
        read(text, prompt, batch=batch, wanted=lambda: True)
        steps = answer(
            text, Draft(predicted), Likeliest(text), max_new=tokens, ends=lambda _: False, wanted=lambda: True
        )
        found = list(steps)
        return [token for step in found for token in step], len(found)

    plain, _ = run([])
    _, passes = run(plain)
    alone, together = [], []
    for _ in range(5):
        for size, found in ((1, alone), (16, together)):
            text.keep(len(prompt))
            began = time.perf_counter()
            for start in range(0, 64, size):
                text.feed(plain[start : start + size], rows=True)
            found.append((time.perf_counter() - began) / 64)
    return statistics.median(alone) / statistics.median(together), tokens / passes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base-url", required=True, help="the gateway's, with /v1")
    parser.add_argument("--key", required=True, help="an API key of the gateway")
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--model-path", required=True, type=Path, help="the same model's GGUF file")
    parser.add_argument("--tokens", type=int, default=150)
    args = parser.parse_args()
    client = OpenAI(base_url=args.base_url, api_key=args.key, max_retries=0)
    sides = {name: Side() for name in SIDES}
    ask(client, args.model, ASKED[0], tokens=8, predicted="1, 2, 3")  # the process that checks them starts
    for prompt in ASKED:
        seconds, plain = ask(client, args.model, prompt, tokens=args.tokens)
        text = plain.choices[0].message.content
        for name, predicted in zip(SIDES, (text, nearly(text), WRONG), strict=True):
            side = sides[name]
            with_it, found = ask(client, args.model, prompt, tokens=args.tokens, predicted=predicted)
            again, _ = ask(client, args.model, prompt, tokens=args.tokens)
            details = found.usage.completion_tokens_details
            side.ratios.append((seconds + again) / 2 / with_it)
            seconds = again
            side.equal += found.choices[0].message.content == text
            side.accepted += details.accepted_prediction_tokens
            side.rejected += details.rejected_prediction_tokens
            side.tokens += found.usage.completion_tokens - details.rejected_prediction_tokens
    print(f"{'prediction':14} {'times as fast':>22} {'accepted':>9} {'rejected':>9} {'same text':>10}")
    for name, side in sides.items():
        spread = f"{statistics.median(side.ratios):.2f} ({min(side.ratios):.2f} to {max(side.ratios):.2f})"
        shares = f"{side.accepted / side.tokens:9.0%} {side.rejected / side.tokens:9.0%}"
        print(f"{name:14} {spread:>22} {shares} {side.equal:7} of {len(ASKED)}")
    ceiling, a_pass = machine(args.model_path, batch=64, tokens=args.tokens)
    print(f"ceiling {ceiling:.2f}; tokens a pass {a_pass:.1f}")


if __name__ == "__main__":
    main()
