"""Sends files to a collection and follows what becomes of them."""

import mimetypes
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import msgspec

from narthex.cli.scanning import Found
from narthex.cli.server import Server, ServerRefused, path

AT_ONCE = 4
UNDER_WAY = 48
"""Files that are sent and not done: more would only wait over there."""
_LOOK_S = 0.3

What = Literal["added", "unchanged", "failed", "cancelled"]


class Became(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one file. `document`: its key there; "" where it did not get so far."""

    file: str
    what: What
    document: str = ""
    chunks: int = 0
    error: str = ""
    warnings: tuple[str, ...] = ()


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """How far all files are. `texts`: that were embedded so far; `total`: of the files that are cut by now."""

    files_done: int
    files: int
    texts: int
    total: int
    seconds: float

    @property
    def texts_per_s(self) -> float:
        """How fast."""
        return self.texts / self.seconds if self.seconds else 0.0


class Adding:
    """Adds files to one collection. `options`: further fields of the form."""

    def __init__(self, server: Server, collection: str, options: dict[str, str]) -> None:
        self._server = server
        self._collection = collection
        self._options = options
        self._jobs: dict[str, str] = {}
        self._texts: dict[str, tuple[int, int]] = {}
        self._became: list[Became] = []
        self._began_s = time.monotonic()

    @property
    def under_way(self) -> int:
        """Files that the server has and is not done with."""
        return len(self._jobs)

    def run(self, files: Iterable[Found], *, count: int, tell: Callable[[Standing], None]) -> list[Became]:
        """Send all, and return when all are done.

        Raises:
            ServerRefused: the server can't be reached, or there is no such collection.
        """
        waiting = list(files)
        with ThreadPoolExecutor(AT_ONCE) as threads:
            while waiting or self._jobs:
                room = UNDER_WAY - len(self._jobs)
                batch, waiting = waiting[: min(room, AT_ONCE)], waiting[min(room, AT_ONCE) :]
                for became in threads.map(self._send, batch):
                    self._note(became)
                if not batch or len(self._jobs) >= UNDER_WAY:
                    time.sleep(_LOOK_S)
                    self._look()
                tell(self._standing(count))
        return self._became

    def _send(self, file: Found) -> dict[str, Any] | Became:
        media_type = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
        target = path("collections", self._collection, "files")
        try:
            with file.path.open("rb") as content:
                answer = self._server.send_form(target, self._options, file=(file.name, content, media_type))
        except OSError as error:
            return Became(file=file.name, what="failed", error=f"It can't be read: {error.strerror}.")
        except ServerRefused as error:
            if error.answered in {0, 401, 403, 404}:
                raise
            return Became(file=file.name, what="failed", error=error.message)
        job: dict[str, Any] = answer["jobs"][0]
        return job | {"file": file.name}

    def _note(self, told: dict[str, Any] | Became) -> None:
        if isinstance(told, Became):
            self._became.append(told)
        elif told.get("unchanged"):
            self._became.append(Became(file=told["file"], what="unchanged", document=told["documentKey"]))
        else:
            self._jobs[told["id"]] = told["file"]

    def _look(self) -> None:
        listed = self._server.ask("GET", path("collections", self._collection, "jobs"))["jobs"]
        told = {job["id"]: job for job in listed}
        for job_id in list(self._jobs):
            job = told.get(job_id) or self._server.ask("GET", path("collections", self._collection, "jobs", job_id))
            self._texts[job_id] = (job["total"] if job["state"] == "done" else job["done"], job["total"])
            if job["state"] not in {"queued", "running"}:
                self._became.append(_ended(self._jobs.pop(job_id), job))

    def _standing(self, count: int) -> Standing:
        return Standing(
            files_done=len(self._became),
            files=count,
            texts=sum(done for done, _ in self._texts.values()),
            total=sum(total for _, total in self._texts.values()),
            seconds=time.monotonic() - self._began_s,
        )


def _ended(file: str, job: dict[str, Any]) -> Became:
    what: dict[str, What] = {"done": "added", "cancelled": "cancelled"}
    return Became(
        file=file,
        what=what.get(job["state"], "failed"),
        document=job["documentKey"] or "",
        chunks=(job["result"] or {}).get("chunks", 0),
        error=job["error"] or "",
        warnings=tuple(job["warnings"]),
    )
