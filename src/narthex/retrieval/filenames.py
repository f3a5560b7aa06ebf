"""From a file's name to the key of its document: the same name gives the same key, and two names give two.

So a file that comes again takes the place of its former version, and no other file's.
"""

import hashlib
import unicodedata

from narthex.core.documents import MAX_DOCUMENT_KEY, is_control

_MARK_CHARS = 9
_MOST_ENDING = 12


def key_of(name: str) -> str:
    """The key of a file of this name, which may have folders in it (`guide/install.md` → `guide:install.md`).

    A name that can't be one as it is (too long, control characters, colons of its own) is cut and bears eight digits of
    its digest before its ending.
    """
    whole = unicodedata.normalize("NFC", name.replace("\\", "/").strip("/ "))
    key = "".join("_" if _is_misplaced(char) else char for char in whole).replace("/", ":")
    if 0 < len(key) <= MAX_DOCUMENT_KEY and ":" not in whole and not any(map(_is_misplaced, whole)):
        return key
    stem, dot, ending = key.rpartition(".")
    if not stem or len(ending) > _MOST_ENDING:
        stem, dot, ending = key, "", ""
    mark = "~" + hashlib.sha256(whole.encode("utf-8", "surrogatepass")).hexdigest()[: _MARK_CHARS - 1]
    return stem[: MAX_DOCUMENT_KEY - _MARK_CHARS - len(dot + ending)] + mark + dot + ending


def _is_misplaced(char: str) -> bool:
    return is_control(char) or 0xD800 <= ord(char) <= 0xDFFF
