"""The sandbox as a process: templates as models bring them, and templates that mean harm."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.hostile_templates import ENDLESS, HOSTILE
from tests.sandbox_processes import Sandboxes

from narthex.core.errors import EngineUnavailable, InvalidRequest, ModelLoadFailed, NarthexError
from narthex.ipc.client import Client
from narthex.sandbox.client import SandboxTemplates

pytestmark = [pytest.mark.anyio, pytest.mark.patient]

HELLO = "Hello {{ name }}"
ENDLESS_LOOP = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
ENDLESS_OPERATION = "{% set a = [0] * n %}{% set b = [0] * n %}{{ ([a] * n) == ([b] * n) }}"
"""One comparison of n * n elements, in C, which holds the interpreter all the while."""


@pytest.fixture
async def sandboxes(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Sandboxes]:
    limit_s: float = getattr(request, "param", 0.5)
    made = Sandboxes(tmp_path, child="sandbox", module="narthex.sandbox", time_limit_s=limit_s)
    yield made
    made.aclose()


@pytest.fixture
async def templates(sandboxes: Sandboxes) -> AsyncIterator[SandboxTemplates]:
    client = SandboxTemplates(sandboxes.socket, ensure=sandboxes.ensure)
    yield client
    await client.aclose()


async def _serves_on(sandboxes: Sandboxes, templates: SandboxTemplates) -> None:
    """The same process still answers."""
    before = sandboxes.running
    assert before is not None
    assert await templates.render(HELLO, {"name": "you"}) == "Hello you"
    assert sandboxes.running is before


async def test_it_is_started_with_the_first_job_and_renders(sandboxes: Sandboxes, templates: SandboxTemplates) -> None:
    assert sandboxes.processes == []
    assert await templates.render(HELLO, {"name": "you"}) == "Hello you"
    assert len(sandboxes.processes) == 1
    await _serves_on(sandboxes, templates)


async def test_many_jobs_at_once(sandboxes: Sandboxes, templates: SandboxTemplates) -> None:
    await templates.render(HELLO, {"name": "first"})
    rendered = await asyncio.gather(*(templates.render(HELLO, {"name": str(number)}) for number in range(50)))
    assert rendered == [f"Hello {number}" for number in range(50)]


async def test_a_refusal_of_the_template_is_the_callers_error(
    sandboxes: Sandboxes, templates: SandboxTemplates
) -> None:
    with pytest.raises(InvalidRequest, match="roles must alternate") as caught:
        await templates.render("{{ raise_exception('roles must alternate') }}", {})
    assert caught.value.param == "messages"
    await _serves_on(sandboxes, templates)


async def test_an_endless_loop_is_interrupted(sandboxes: Sandboxes, templates: SandboxTemplates) -> None:
    await templates.render(HELLO, {})
    with pytest.raises(InvalidRequest, match=r"took longer than 0\.5 s"):
        await templates.render(ENDLESS_LOOP, {})
    await _serves_on(sandboxes, templates)  # the last resort would have ended it


@pytest.mark.parametrize(
    "template",
    [
        "{{ 'x' * 4000000000 }}",
        "{% set n = namespace(a='x' * 1000000) %}{% for i in range(12) %}{% set n.a = n.a ~ n.a %}{% endfor %}",
        "{% set n = namespace(a=[0]) %}{% for i in range(40) %}{% set n.a = n.a + n.a %}{% endfor %}",
    ],
    ids=["at once", "doubling text", "doubling a list"],
)
async def test_more_memory_than_allowed_is_refused(
    template: str, sandboxes: Sandboxes, templates: SandboxTemplates
) -> None:
    await templates.render(HELLO, {})
    with pytest.raises(InvalidRequest, match=r"too much memory|took longer"):
        await templates.render(template, {})
    await _serves_on(sandboxes, templates)


async def test_one_endless_operation_ends_the_process_and_the_next_job_gets_another(
    sandboxes: Sandboxes, templates: SandboxTemplates
) -> None:
    with pytest.raises(EngineUnavailable, match="ended while it rendered"):
        await templates.render(ENDLESS_OPERATION, {"n": 2_000_000})
    assert sandboxes.ended() != 0
    assert await templates.render(HELLO, {"name": "again"}) == "Hello again"
    assert len(sandboxes.processes) == 2  # and the job that ended the first was not tried on the second


async def test_a_killed_sandbox_is_started_again(sandboxes: Sandboxes, templates: SandboxTemplates) -> None:
    await templates.render(HELLO, {})
    sandboxes.processes[-1].send_signal(signal.SIGKILL)
    sandboxes.ended()
    async with asyncio.timeout(60):
        while True:  # the client may not have heard of the end yet
            try:
                assert await templates.render(HELLO, {"name": "again"}) == "Hello again"
                break
            except EngineUnavailable:
                continue
    assert len(sandboxes.processes) == 2


async def test_it_ends_when_told_to(sandboxes: Sandboxes, templates: SandboxTemplates) -> None:
    await templates.render(HELLO, {})
    sandboxes.processes[-1].send_signal(signal.SIGTERM)
    assert sandboxes.ended() == 0
    assert not sandboxes.socket.exists()


@pytest.mark.parametrize("sandboxes", [20.0], indirect=True, ids=["whatever time it takes"])
async def test_its_limits_hold_for_the_output_and_the_template(
    sandboxes: Sandboxes, templates: SandboxTemplates
) -> None:
    with pytest.raises(ModelLoadFailed, match="longer than 64 KiB"):
        await templates.render("x" * (64 * 1024 + 1), {})
    assert len(await templates.render("{{ 'x' * 16777216 }}", {})) == 16 * 1024 * 1024
    with pytest.raises(InvalidRequest, match="rendered prompt is too long"):
        await templates.render("{{ 'x' * 16777217 }}", {})
    await _serves_on(sandboxes, templates)


async def test_nonsense_on_its_socket_does_it_no_harm(sandboxes: Sandboxes, templates: SandboxTemplates) -> None:
    await templates.render(HELLO, {})
    client = Client(sandboxes.socket, name="sandbox")
    for operation, payload in (("render", None), ("render", {"template": 1}), ("other", {})):
        with pytest.raises(NarthexError):
            await client.call(operation, payload, str)
    await client.aclose()
    await _serves_on(sandboxes, templates)


# --- templates that callers bring ------------------------------------------------------------------------------------

VARIABLES = {"messages": [{"role": "user", "content": "Hi"}]}
MOST = 65536


@pytest.mark.parametrize("sandboxes", [0.2], indirect=True, ids=["in a hurry"])
async def test_what_means_harm_is_an_error_of_whoever_sent_it(
    sandboxes: Sandboxes, templates: SandboxTemplates
) -> None:
    """Each in a process of its own: the one that everybody's templates are rendered in never ends."""
    assert len(HOSTILE) >= 40
    await templates.render(HELLO, {})
    for name, template in HOSTILE.items():
        with pytest.raises(InvalidRequest) as caught:
            await templates.render_brought(template, VARIABLES, most_chars=MOST)
        assert (caught.value.param, len(caught.value.message) <= 300) == ("chat_template", True), name
    await _serves_on(sandboxes, templates)


async def test_one_that_takes_its_time_keeps_nobody_waiting(sandboxes: Sandboxes, templates: SandboxTemplates) -> None:
    """Not even while it is within a single operation; it is ended there."""
    await templates.render(HELLO, {})
    hostile = asyncio.ensure_future(
        templates.render_brought(ENDLESS["one huge comparison"], VARIABLES, most_chars=MOST)
    )
    while not hostile.done():
        assert await templates.render(HELLO, {"name": "you"}) == "Hello you"
        assert await templates.render_brought(HELLO, {"name": "me"}, most_chars=MOST) == "Hello me"
    with pytest.raises(InvalidRequest, match=r"took longer than 0\.5 s"):
        await hostile
    await _serves_on(sandboxes, templates)


async def test_whoever_gives_up_ends_its_process(sandboxes: Sandboxes, templates: SandboxTemplates) -> None:
    await templates.render(HELLO, {})
    hostile = [
        asyncio.ensure_future(templates.render_brought(ENDLESS["nested loops"], VARIABLES, most_chars=MOST))
        for _ in range(5)
    ]
    await asyncio.to_thread(_until_forked, sandboxes.processes[-1].pid)
    for each in hostile:
        each.cancel()
    await asyncio.wait(hostile)
    assert await templates.render_brought(HELLO, {"name": "me"}, most_chars=MOST) == "Hello me"
    assert not _children(sandboxes.processes[-1].pid)


@pytest.mark.parametrize("sandboxes", [20.0], indirect=True, ids=["whatever time it takes"])
async def test_if_something_else_ends_the_sandbox_it_is_rendered_by_another(
    sandboxes: Sandboxes, templates: SandboxTemplates
) -> None:
    await templates.render(HELLO, {})
    slow = "{% for a in range(9999) %}{% for b in range(300) %}{% endfor %}{% endfor %}Hello {{ name }}"
    rendering = asyncio.ensure_future(templates.render_brought(slow, {"name": "you"}, most_chars=MOST))
    await asyncio.to_thread(_until_forked, sandboxes.processes[-1].pid)
    sandboxes.processes[-1].send_signal(signal.SIGKILL)
    assert await rendering == "Hello you"
    assert len(sandboxes.processes) == 2


async def test_its_text_has_a_length(sandboxes: Sandboxes, templates: SandboxTemplates) -> None:
    assert await templates.render_brought("{{ 'é' * 5000 }}", {}, most_chars=5000) == "é" * 5000
    for template in ("{{ 'é' * 5001 }}", "{% for _ in range(9) %}{{ 'x' * 999 }}{% endfor %}", "", "{% set a = 1 %}"):
        with pytest.raises(InvalidRequest, match=r"too long|no text") as caught:
            await templates.render_brought(template, {}, most_chars=5000)
        assert caught.value.param == "chat_template"
    long = "{{ 'x' * 9000000 }}"
    assert len(await templates.render_brought(long, {}, most_chars=9_000_000)) == 9_000_000


def _children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def _until_forked(pid: int) -> None:
    deadline = time.monotonic() + 60
    while not _children(pid):
        assert time.monotonic() < deadline
        time.sleep(0.005)
