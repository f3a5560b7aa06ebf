"""How the command line hands over: the process that read the settings becomes the supervisor, by `exec`."""

import os
import sys
import tempfile
from typing import NoReturn

from narthex.supervisor.datafolder import Lock
from narthex.supervisor.plan import Plan, json_line


def argv(plan: Plan, lock: Lock) -> list[str]:
    """The command line of a supervisor that takes over the plan and the lock, both by inherited descriptors.

    The plan holds secrets: it travels in a file without a name.
    """
    with tempfile.TemporaryFile() as file:
        file.write(json_line(plan))
        file.flush()
        fd = os.dup(file.fileno())
    os.lseek(fd, 0, os.SEEK_SET)
    os.set_inheritable(fd, True)  # noqa: FBT003 - the name says what is true
    return [sys.executable, "-P", "-m", "narthex.supervisor", "--plan", str(fd), "--lock", str(lock.pass_on())]


def become(plan: Plan, lock: Lock) -> NoReturn:
    """Turn this process into the supervisor. The lock is held throughout."""
    command = argv(plan, lock)
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(command[0], command)  # noqa: S606 - our own interpreter
