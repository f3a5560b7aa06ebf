"""Texts as CLIP's text encoder reads them: byte-pair tokens in pieces of equal length, with marks around each.

Source: CLIP's `simple_tokenizer`, as `tokenizer/{vocab.json,merges.txt}` of every Stable Diffusion model carry it.
"""

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

from narthex.core.errors import ContextLengthExceeded, ModelLoadFailed

TokenIds = npt.NDArray[np.int64]

BEGIN, END = "<|startoftext|>", "<|endoftext|>"
MOST_PIECES = 4

_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


class Clip:
    """The tokenizer of one model. `length`: tokens of one piece, its two marks included."""

    def __init__(self, folder: Path, *, length: int) -> None:
        """Read it.

        Raises:
            ModelLoadFailed: a file is missing or damaged.
        """
        self.length = length
        shown = f"{folder.parent.name}/{folder.name}"
        try:
            vocabulary = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))
            lines = (folder / "merges.txt").read_text(encoding="utf-8").splitlines()
            self._tokenizer = _tokenizer(vocabulary, lines[1:] if lines[0].startswith("#version") else lines)
            self._begin, self._end = int(vocabulary[BEGIN]), int(vocabulary[END])
            self._filling = int(vocabulary[_filling(folder)])
        except OSError as error:
            raise ModelLoadFailed(f"{shown} can't be read: {error.strerror}.") from error
        except (ValueError, TypeError, KeyError, IndexError) as error:
            raise ModelLoadFailed(f"{shown} holds no tokenizer of CLIP's kind: {error}.") from error
        except Exception as error:  # the library raises bare `Exception` for what it can't use
            raise ModelLoadFailed(f"{shown} holds a damaged tokenizer: {error}.") from error

    def ids(self, text: str) -> list[int]:
        """The tokens of a text, without marks."""
        found: list[int] = self._tokenizer.encode(text).ids
        return found

    def pieces(self, ids: list[int], *, at_least: int = 1) -> list[TokenIds]:
        """int64[1, length] each: the marked pieces of a text, filled up, and empty ones until there are `at_least`."""
        room = self.length - 2
        parts = [ids[start : start + room] for start in range(0, len(ids), room)]
        parts += [[]] * (at_least - len(parts))
        return [self._marked(part) for part in parts]

    def count(self, ids: list[int], *, param: str, most: int = MOST_PIECES) -> int:
        """How many pieces a text takes.

        Raises:
            ContextLengthExceeded: more than `most`.
        """
        room = self.length - 2
        if len(ids) > most * room:
            raise ContextLengthExceeded(
                f"This model reads at most {most * room} tokens; this text has {len(ids)}.", param=param
            )
        return max(1, -(-len(ids) // room))

    def _marked(self, part: list[int]) -> TokenIds:
        ids = [self._begin, *part, self._end]
        return np.array([ids + [self._filling] * (self.length - len(ids))], np.int64)


def _filling(folder: Path) -> str:
    """What fills pieces up: the end mark, unless `special_tokens_map.json` names another, as version 2 does."""
    file = folder / "special_tokens_map.json"
    if not file.is_file():
        return END
    named = json.loads(file.read_text(encoding="utf-8")).get("pad_token", END)
    return str(named["content"] if isinstance(named, dict) else named)


def _tokenizer(vocabulary: dict[str, int], lines: list[str]) -> Tokenizer:
    merges = [(one, other) for one, _, other in (line.partition(" ") for line in lines) if other]
    byte_pairs = models.BPE(vocabulary, merges, end_of_word_suffix="</w>", unk_token=END, fuse_unk=False)
    tokenizer = Tokenizer(byte_pairs)
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    return tokenizer
