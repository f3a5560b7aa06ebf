"""Durable work that outlives the request that asked for it, and the store that hands it out.

Rules: every job ends, in `done`, `failed` or `cancelled`, and a job that failed says why; a job is worked on by one
owner at a time, who holds a lease; whose process dies loses its leases within `LEASE_MS`, and others go on from there.
"""

from typing import Any, Literal, Protocol

import msgspec

Kind = Literal["ingest", "rebuild", "import"]
State = Literal["queued", "running", "done", "failed", "cancelled"]
OPEN: tuple[State, ...] = ("queued", "running")
Ending = Literal["done", "failed", "cancelled"]

LEASE_MS = 10_000
MOST_ATTEMPTS = 3
"""A job whose process ended so many times is failed: the job may be what ends it."""
MOST_OPEN = 100_000
"""Open jobs of one account, over which no more are taken."""


class NewJob(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be done. `subject`: the document that it writes, "" for the collection as a whole; of two jobs on one
    subject the later waits for the earlier, and one on the whole waits for all before it, as all after it do.

    `key_id`: with whose rights. `payload`: what its kind needs, as JSON can hold it.
    """

    kind: Kind
    account_id: str
    key_id: str
    collection_id: str
    collection_key: str
    subject: str = ""
    payload: dict[str, Any] = {}


class Job(NewJob, frozen=True, kw_only=True):
    """A job and how far it is: `done` of `total` pieces (0: not known yet). Times are milliseconds since 1970."""

    id: str
    state: State = "queued"
    done: int = 0
    total: int = 0
    message: str = ""
    """What it is at, for people."""
    error: str = ""
    """Why it failed, for people."""
    warnings: tuple[str, ...] = ()
    result: dict[str, Any] = {}
    """What it made, once it is done; the `status` that fits its error; before that, what who goes on has to know."""
    attempts: int = 0
    created_ms: int
    updated_ms: int

    @property
    def is_open(self) -> bool:
        """Whether anything will still happen to it."""
        return self.state in OPEN

    @property
    def percent(self) -> int:
        """How much is done; 100 only at the end."""
        if self.state == "done":
            return 100
        return min(99, self.done * 100 // self.total) if self.total else 0


class Jobs(Protocol):
    """The store of jobs. A change is durable, and seen by any process's next call, once its call returns.

    Every method raises `StorageError` when the database can't answer and, where it writes, `StorageFull`.
    """

    async def add(self, new: NewJob, *, job_id: str | None = None) -> Job:
        """Queue a job. `job_id`: a UUID that is known before, to name files by.

        Raises:
            QueueFull: the account has too many open jobs.
        """
        ...

    async def get(self, job_id: str) -> Job | None:
        """The job of this id."""
        ...

    async def list(self, collection_id: str, *, limit: int = 100, only_open: bool = False) -> tuple[Job, ...]:
        """A collection's jobs, newest first."""
        ...

    async def open_on(self, collection_id: str, subject: str) -> Job | None:
        """The newest open job on one subject of a collection."""
        ...

    async def open_ids(self) -> frozenset[str]:
        """Of every open job."""
        ...

    async def cancel(self, job_id: str) -> Job:
        """Cancel an open job; whoever works on it learns it with its next `beat`. Nothing happens to one that ended.

        Raises:
            NotFound: there is none.
        """
        ...

    async def claim(self, owner: str) -> Job | None:
        """Take the next job that may run: one of the account that has waited longest for its turn; None: nothing to do.

        Jobs whose owner died come first. One that has been taken `MOST_ATTEMPTS` times already is failed instead.
        """
        ...

    async def beat(
        self, job_id: str, owner: str, *, done: int, total: int, message: str, result: dict[str, Any] | None = None
    ) -> bool:
        """Keep the lease, and tell how far the job is. False: it is not this owner's any more.

        `result`: what the next owner has to know, should this one die; None: as before.
        """
        ...

    async def release(self, job_id: str, owner: str) -> None:
        """Give it back to be taken again; this does not count as an attempt."""
        ...

    async def finish(
        self,
        job_id: str,
        owner: str,
        *,
        state: Ending,
        error: str = "",
        warnings: tuple[str, ...] = (),
        result: dict[str, Any] | None = None,
    ) -> bool:
        """End it. False: it is not this owner's any more."""
        ...

    async def prune(self, *, before_ms: int) -> int:
        """Forget the jobs that ended before this time; returns how many."""
        ...
