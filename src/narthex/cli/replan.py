"""`python -m narthex.cli.replan`: the supervisor's way to have its plan made anew; it holds no such code itself.

Reads a `Following` as a line of JSON from standard input and writes a `Replanned` to standard output. Both may hold
secrets and so go through pipes.
"""

import sys

import msgspec

from narthex.ipc import logs
from narthex.serving.following import Following, replan
from narthex.serving.machine import Machine
from narthex.supervisor.plan import json_line


def main() -> None:
    """Read, plan, write."""
    following = msgspec.json.decode(sys.stdin.buffer.readline(), type=Following)
    logs.configure(following.fixed["log.format"], process="replan")
    sys.stdout.buffer.write(json_line(replan(following, machine=Machine.here())))


if __name__ == "__main__":
    main()
