"""Which files of a folder are meant, when somebody names the folder."""

import os
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

import msgspec

from narthex.core.errors import InvalidRequest

SKIPPED_FOLDERS = frozenset({"node_modules", "__pycache__", "venv", "site-packages"})
"""Besides the hidden ones."""
SKIPPED_FILES = (
    "*.pyc",
    "*.o",
    "*.so",
    "*.exe",
    "*.dll",
    "*.class",
    "*.zip",
    "*.gz",
    "*.png",
    "*.jpg",
    "*.jpeg",
    "*.gif",
    "*.mp3",
    "*.mp4",
    "*.woff",
    "*.woff2",
    "*~",
    "*.lock",
)
"""What no text is drawn out of; a file that is named itself is taken all the same."""


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """A file, and what it is called on the server: its path from the parent of the folder that was named."""

    path: Path
    name: str


def files_in(paths: Sequence[Path], *, include: Sequence[str] = (), exclude: Sequence[str] = ()) -> list[Found]:
    """The files that are named, and those in folders that are named, each once, by name.

    `include` and `exclude`: patterns for a file's name or its path in the folder; none: all.

    Raises:
        InvalidRequest: there is no such file or folder.
    """
    found: dict[Path, Found] = {}
    for path in paths:
        if path.is_dir():
            for each in _in_folder(path.resolve(), include=include, exclude=exclude):
                found.setdefault(each.path, each)
        elif path.is_file():
            found.setdefault(path.resolve(), Found(path=path.resolve(), name=path.name))
        else:
            raise InvalidRequest(f"There is no file or folder {path}.")
    return sorted(found.values(), key=lambda each: each.name)


def _in_folder(folder: Path, *, include: Sequence[str], exclude: Sequence[str]) -> Iterator[Found]:
    for at, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".") and name not in SKIPPED_FOLDERS]
        for name in files:
            path = Path(at, name)
            within = path.relative_to(folder).as_posix()
            if name.startswith(".") or path.is_symlink() or not path.is_file() or _matches(exclude, name, within):
                continue
            if _matches(include, name, within) if include else not _matches(SKIPPED_FILES, name.lower(), within):
                yield Found(path=path, name=f"{folder.name}/{within}" if folder.name else within)


def _matches(patterns: Sequence[str], name: str, within: str) -> bool:
    return any(fnmatchcase(name, pattern) or fnmatchcase(within, pattern) for pattern in patterns)
