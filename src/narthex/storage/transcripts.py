"""What was said in chats, by the id of its sound, until that expires. Source: contract sections 1.2.1 and 1.3.

Rules: an id is 192 random bits, and only for the account that heard it; the sound itself is not kept. All methods
block; all workers share the folder.
"""

import contextlib
import os
import re
import secrets
from collections.abc import Callable
from pathlib import Path

import msgspec

from narthex.storage.uploads import translated

FOLDER = "transcripts"
"""In the data folder."""
_NAME = re.compile(r"audio_nx[A-Za-z0-9_-]{32}").fullmatch
_SWEEP_S = 60.0


class _Kept(msgspec.Struct):
    account: str
    expires_at: int
    transcript: str


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Kept).decode


def new_id() -> str:
    """For something that is about to be said."""
    return f"audio_nx{secrets.token_urlsafe(24)}"


def is_ours(name: str) -> bool:
    """Whether an id may be one of these, and not another server's."""
    return _NAME(name) is not None


class Transcripts:
    """The folder. `clock` gives unix seconds."""

    def __init__(self, folder: Path, *, clock: Callable[[], float], kept_s: float) -> None:
        self._folder = folder
        self._clock = clock
        self._kept_s = kept_s
        self._swept = 0.0

    def keep(self, name: str, transcript: str, *, account: str) -> int:
        """Keep what was said under a new id; returns when that expires, in unix seconds.

        Raises:
            StorageError: it can't be written; StorageFull where the disk is full.
        """
        now = self._clock()
        expires_at = int(now + self._kept_s)
        with translated():
            self._folder.mkdir(mode=0o700, exist_ok=True)
            if now - self._swept > _SWEEP_S:
                self._swept = now
                self._sweep(now)
            path = self._folder / name
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
                file.write(_encode(_Kept(account=account, expires_at=expires_at, transcript=transcript)))
            os.utime(path, (expires_at, expires_at))
        return expires_at

    def recall(self, name: str, *, account: str) -> str | None:
        """What was said; None where this account heard no such thing, or too long ago.

        Raises:
            StorageError: it can't be read.
        """
        if not is_ours(name):
            return None
        with translated():
            try:
                kept = _decode((self._folder / name).read_bytes())
            except (FileNotFoundError, msgspec.DecodeError):
                return None
        return kept.transcript if kept.account == account and kept.expires_at > self._clock() else None

    def _sweep(self, now: float) -> None:
        with os.scandir(self._folder) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):  # another worker was first
                    if _NAME(entry.name) and entry.stat(follow_symlinks=False).st_mtime <= now:
                        Path(entry).unlink()
