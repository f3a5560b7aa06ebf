"""A child's side of its life, in processes of its own."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from narthex.ipc.child import listening_fds

STEPS = """
import os, sys, time
from narthex.ipc.child import Lifeline, run_until_stopped
lifeline = Lifeline.from_argv()
settings = lifeline.settings(dict[str, int])
"""
SERVE = STEPS + "lifeline.watch()\nlifeline.ready(**settings)\nrun_until_stopped(lambda stop: stop.wait())\n"


class Started:
    def __init__(self, code: str) -> None:
        self.notify, write = os.pipe()
        argv = [sys.executable, "-c", code, "--notify", str(write)]
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stderr=subprocess.PIPE, pass_fds=(write,))
        os.close(write)
        assert self.process.stdin is not None
        self.stdin = self.process.stdin

    def report(self) -> dict[str, object]:
        return json.loads(os.read(self.notify, 4096))

    def end(self) -> tuple[int, bytes]:
        assert self.process.stderr is not None
        said = self.process.stderr.read()
        return self.process.wait(60), said


@pytest.fixture
def started(request: pytest.FixtureRequest) -> Iterator[Started]:
    child = Started(request.param)
    with child.process:
        yield child
        os.close(child.notify)
        child.process.kill()


@pytest.mark.parametrize("started", [SERVE], indirect=True)
def test_settings_in_pieces_then_ready_then_the_pipe_closes(started: Started) -> None:
    for piece in (b'{"a"', b":1}", b"\n"):
        started.stdin.write(piece)
        started.stdin.flush()
    assert started.report() == {"event": "ready", "a": 1}
    started.stdin.close()
    assert started.process.wait(60) == 0


@pytest.mark.parametrize("started", [SERVE], indirect=True)
def test_sigterm_ends_it_without_a_word(started: Started) -> None:
    started.stdin.write(b"{}\n")
    started.stdin.flush()
    started.report()
    started.process.send_signal(signal.SIGTERM)
    assert started.process.wait(60) in (0, -signal.SIGTERM)


WATCHED = STEPS + "lifeline.watch()\nlifeline.failed('no')\n"


@pytest.mark.parametrize("started", [WATCHED], indirect=True)
def test_the_interpreter_may_end_while_the_lifeline_is_watched(started: Started) -> None:
    started.stdin.write(b"{}\n")
    started.stdin.flush()
    assert started.report() == {"event": "failed", "message": "no"}
    assert started.end() == (0, b"")


@pytest.mark.parametrize("started", [SERVE], indirect=True)
def test_a_parent_that_is_gone_before_the_settings(started: Started) -> None:
    started.stdin.close()
    assert started.end() == (0, b"")


TOLD = STEPS + "import threading\nended = threading.Event()\nlifeline.watch(ended.set)\nended.wait()\nsys.exit(7)\n"


@pytest.mark.parametrize("started", [TOLD], indirect=True)
def test_who_wants_to_be_told_of_the_end_instead(started: Started) -> None:
    started.stdin.write(b"{}\n")
    started.stdin.close()
    assert started.end() == (7, b"")


def test_a_child_without_a_supervisor_reports_to_nobody() -> None:
    code = STEPS + "lifeline.ready()\nprint(settings)"
    done = subprocess.run([sys.executable, "-c", code], input=b'{"a":1}\n', capture_output=True, check=True)
    assert done.stdout == b"{'a': 1}\n"


def test_listening_descriptors_from_the_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["x", "--notify", "3", "--listen", "4", "--listen", "5"])
    assert listening_fds() == [4, 5]
    monkeypatch.setattr(sys, "argv", ["x"])
    assert listening_fds() == []
