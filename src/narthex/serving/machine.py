"""The machine that engines are sized by."""

import os

import msgspec


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """What engines are sized by."""

    memory_bytes: int
    cores: int

    @classmethod
    def here(cls) -> "Machine":
        """This machine."""
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        return cls(memory_bytes=memory, cores=len(os.sched_getaffinity(0)))
