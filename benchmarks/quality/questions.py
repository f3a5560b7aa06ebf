"""Questions that nobody copied from the manual: the first lines of docstrings in the library's own sources.

`shutil.copyfile` says of itself "Copy data from src to dst in the most efficient way possible"; the manual's entry
for it is the answer. Docstrings and manual are written apart, by and large: a line that stands in its own entry word
for word is left out, and so is one that several entries share.
"""

import importlib
import inspect
import re
import sys
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import zip_longest

from narthex.retrieval.evaluation import Judged

_ENTRY = re.compile(
    r"^(?:(?:class|exception|coroutine|async|awaitable|classmethod|staticmethod|abstractmethod|static|abstract) +)*"
    r"(?P<name>[a-zA-Z_]\w*(?:\.\w+)+)\(",
    re.MULTILINE,
)
_LONGEST = 1500
"""Code points of an entry that count as the answer."""
_FEWEST_WORDS = 4
_UNWANTED = ("antigravity", "this", "idlelib", "lib2to3", "test", "turtledemo")


def questions(texts: Mapping[str, str]) -> list[Judged]:
    """All that can be asked of these documents, given by key."""
    found = [judged for key, text in sorted(texts.items()) for judged in _of_document(key, text)]
    asked = Counter(judged.question for judged in found)
    return [judged for judged in found if asked[judged.question] == 1]


def _of_document(key: str, text: str) -> Iterator[Judged]:
    entries = list(_ENTRY.finditer(text))
    seen = set()
    for entry, following in zip_longest(entries, entries[1:]):
        name = entry["name"]
        stop = min(entry.start() + _LONGEST, following.start() if following else len(text))
        question = first_line(name)
        if name in seen or question is None or _plain(question) in _plain(text[entry.start() : stop]):
            continue
        seen.add(name)
        yield Judged(question=question, document=key, start=entry.start(), stop=stop)


def first_line(name: str) -> str | None:
    """What something of the library says of itself; None if that is nothing, or too little to be found by."""
    documented = inspect.getdoc(_resolved(name)) or ""
    line = documented.partition("\n")[0].strip().rstrip(".")
    if "(" in line or "->" in line or len(line.split()) < _FEWEST_WORDS:  # a signature, or next to nothing
        return None
    return line


def _resolved(name: str) -> object:
    module, *rest = name.split(".")
    if module not in sys.stdlib_module_names or module in _UNWANTED:
        return None
    found: object = None
    path = module
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found = importlib.import_module(path)
            for part in rest:
                path = f"{path}.{part}"
                found = getattr(found, part) if hasattr(found, part) else importlib.import_module(path)
        except (ImportError, AttributeError, TypeError, ValueError):
            return None
    return found if callable(found) else None


def _plain(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.lower()))
