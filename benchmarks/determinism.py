"""How often the embedded engine repeats itself: at temperature 0 and for a seed, idle and beside six other callers.

    python benchmarks/determinism.py [seconds]        (default 60, for all four figures together)

Starts a server of its own. A figure is the share of answers that equal the most frequent one; each was asked for with
the same request. Requests beside each other share batches, and a batch's size changes the last digits of its sums.
"""

import contextlib
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from openai import OpenAI

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.server_process import CHAT_MODEL, install_models, serving

from narthex.engine.models.catalogue import CATALOGUE
from narthex.engine.models.pull import pull

CALLERS = 6
MOST = 20
MAX_TOKENS = 24
CACHE = Path(__file__).parents[1] / ".cache" / "models"
QUESTION = [{"role": "user", "content": "Tell me a story about a fox."}]


def main() -> None:
    limit_s = float(sys.argv[1]) if len(sys.argv) > 1 else 60.0
    pull(CATALOGUE[CHAT_MODEL], CACHE)
    with tempfile.TemporaryDirectory(prefix="nx-") as folder:
        data = Path(folder) / "data"
        data.mkdir()
        install_models(CACHE, data, (CHAT_MODEL,))
        with (
            serving(data, config={"embedder": {"default": None}}) as server,
            OpenAI(base_url=server.base_url, api_key=server.admin_key, max_retries=0) as client,
        ):
            measure(client, each_s=limit_s / 4)


def measure(client: OpenAI, *, each_s: float) -> None:
    print(f"{'':<32}{'answers':>8}{'different':>11}{'equal':>8}")
    for load, around in (("idle", contextlib.nullcontext), (f"beside {CALLERS} callers", lambda: busy(client))):
        for name, options in (("temperature 0", {"temperature": 0}), ("seed", {"seed": 42})):
            with around():
                texts = answers(client, seconds=each_s, **options)
            share = max(texts.values()) / texts.total()
            print(f"{name + ', ' + load:<32}{texts.total():>8}{len(texts):>11}{share:>8.0%}", flush=True)


def answers(client: OpenAI, *, seconds: float, **options: object) -> Counter[str]:
    """The texts of one and the same request, as many as there is time for, two at least and `MOST` at most."""
    texts: Counter[str] = Counter()
    end = time.monotonic() + seconds
    while texts.total() < 2 or (texts.total() < MOST and time.monotonic() < end):
        texts[ask(client, QUESTION, **options)] += 1
    return texts


def ask(client: OpenAI, messages: object, **options: object) -> str:
    answer = client.chat.completions.create(model=CHAT_MODEL, messages=messages, max_tokens=MAX_TOKENS, **options)  # type: ignore[call-overload]
    return answer.choices[0].message.content


@contextlib.contextmanager
def busy(client: OpenAI) -> Iterator[None]:
    """Others who ask something else, each again as soon as it was answered."""
    stop = threading.Event()

    def call(number: int) -> None:
        while not stop.is_set():
            ask(client, [{"role": "user", "content": f"Write {number} lines about ships. " * number}])

    threads = [threading.Thread(target=call, args=(number + 1,)) for number in range(CALLERS)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


if __name__ == "__main__":
    main()
