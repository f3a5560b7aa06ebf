import asyncio

import pytest
from tests.scripted_deployment import SILENCE, START, TAKES, ScriptedDeployment, answer, principal, text

from narthex.core.capabilities import Limited, State, Verdict
from narthex.core.chat import ChatRequest, Message, Sampling
from narthex.core.errors import (
    EngineCrashed,
    EngineUnavailable,
    InvalidRequest,
    ModelNotFound,
    NarthexError,
    UnsupportedParameter,
    UpstreamRejected,
    UpstreamTimeout,
)
from narthex.core.keys import Grants
from narthex.core.models import ModelCard
from narthex.core.ports import Call
from narthex.core.stream import TextDelta
from narthex.routing.router import ANY, Route, Router

pytestmark = pytest.mark.anyio

LONG_S = 1000.0


def router(*deployments: ScriptedDeployment, name: str = "m", total_s: float = LONG_S) -> Router:
    card = ModelCard(id=name, created=0, owned_by="test", kind="chat")
    return Router({name: Route(card=card, deployments=deployments)}, total_s=total_s)


def call(model: str = "m", **fields: object) -> Call:
    request = ChatRequest(
        model=model,
        messages=(Message(role="user", content="Hello"),),
        sampling=Sampling(),
        stream=True,
        fields={"model": model, **fields},
        sent={},
    )
    return Call(request, id="1", surface="chat", principal=principal(), started_s=0.0)


async def words(router: Router, made: Call | None = None) -> list[str]:
    async with router.open(made or call()) as frames:
        return [event.text async for frame in frames for event in frame.events if isinstance(event, TextDelta)]


# --- which deployment ------------------------------------------------------------------------------------------------


async def test_the_first_that_can_answers():
    one, two = ScriptedDeployment(*answer("one")), ScriptedDeployment(*answer("two"), name="local/two")
    made = call()
    assert await words(router(one, two), made) == ["one"]
    assert (made.deployment, made.fingerprint) == ("local/one", "fp_0000000000")
    assert (one.opened, one.closed, two.opened) == (1, 1, 0)


async def test_an_unknown_model_is_not_found():
    with pytest.raises(ModelNotFound):
        await words(router(ScriptedDeployment(*answer())), call("other"))


async def test_a_star_takes_every_other_name():
    assert await words(router(ScriptedDeployment(*answer("any")), name=ANY), call("other")) == ["any"]


async def test_one_that_cannot_honour_a_field_is_left_out():
    one = ScriptedDeployment(*answer("one"))
    two = ScriptedDeployment(*answer("two"), name="local/two", takes={**TAKES, "seed": State.NATIVE})
    assert await words(router(one, two), call(seed=1)) == ["two"]
    assert one.opened == 0


async def test_if_none_can_the_first_ones_refusal_is_told():
    def no_images(_: object) -> None:
        raise Verdict("tools[0]", "This model can't use tools.")

    one = ScriptedDeployment(takes={**TAKES, "tools": Limited(limits="no images", check=no_images)})
    two = ScriptedDeployment(name="local/two")
    with pytest.raises(UnsupportedParameter) as caught:
        await words(router(one, two), call(tools=[{}]))
    assert caught.value.param == "tools[0]"
    with pytest.raises(UnsupportedParameter) as caught:
        await words(router(two, one), call(tools=[{}]))
    assert caught.value.param == "tools"
    assert one.opened == two.opened == 0


async def test_a_model_of_another_surface_is_refused():
    with pytest.raises(InvalidRequest) as caught:
        await words(router(ScriptedDeployment(takes=None)))
    assert (caught.value.param, caught.value.code) == ("model", "unsupported_value")


async def test_fields_without_effect_are_noted():
    made = call(user="me")
    await words(router(ScriptedDeployment(*answer(), takes={**TAKES, "user": State.NO_EFFECT})), made)
    assert made.ignored == ["user"]


@pytest.mark.parametrize("trusts", [True, False])
@pytest.mark.parametrize("may", [True, False])
async def test_a_template_goes_only_where_it_is_trusted_and_from_whom(may, trusts):
    deployment = ScriptedDeployment(*answer("Hi"), takes={**TAKES, "chat_template": State.NATIVE})
    card = ModelCard(id="m", created=0, owned_by="test", kind="chat")
    route = Route(card=card, deployments=(deployment,), trusts_templates=trusts)
    asked = call(chat_template="x")
    asked.principal = principal(Grants(templates=may))
    made = Router({"m": route}, total_s=LONG_S)
    assert made.ask(asked, lambda _: None) is None  # it is not asked before it is looked at
    if may and trusts:
        assert await words(made, asked) == ["Hi"]
        return
    with pytest.raises(UnsupportedParameter) as caught:
        await words(made, asked)
    assert (caught.value.param, deployment.opened) == ("chat_template", 0)


async def test_a_route_without_deployments_is_refused():
    with pytest.raises(NarthexError):
        await words(router())


# --- the commit point ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "first",
    [
        ScriptedDeployment(refuses=EngineUnavailable()),
        ScriptedDeployment(EngineCrashed()),
        ScriptedDeployment(START, EngineCrashed()),
    ],
    ids=["refused", "before the first frame", "before the first output"],
)
async def test_before_the_first_output_the_next_is_tried(first):
    made = call()
    assert await words(router(first, ScriptedDeployment(*answer("two"), name="local/two")), made) == ["two"]
    assert made.deployment == "local/two"
    assert first.closed == 1


async def test_after_the_first_output_the_error_is_the_callers():
    one = ScriptedDeployment(START, text("one"), EngineCrashed())
    two = ScriptedDeployment(*answer(), name="local/two")
    seen = 0
    with pytest.raises(EngineCrashed):  # noqa: PT012 - the block is what is tested
        async with router(one, two).open(call()) as frames:
            async for _ in frames:
                seen += 1
    assert seen == 2
    assert (one.closed, two.opened) == (1, 0)


async def test_an_error_that_no_other_can_mend_is_told_at_once():
    two = ScriptedDeployment(*answer(), name="local/two")
    with pytest.raises(UpstreamRejected):
        await words(router(ScriptedDeployment(refuses=UpstreamRejected()), two))
    assert two.opened == 0


async def test_if_all_fail_the_last_error_is_told():
    one = ScriptedDeployment(refuses=EngineUnavailable())
    with pytest.raises(EngineCrashed):
        await words(router(one, ScriptedDeployment(refuses=EngineCrashed(), name="local/two")))


async def test_a_consumers_own_error_is_no_reason_to_try_again():
    one, two = ScriptedDeployment(*answer()), ScriptedDeployment(*answer(), name="local/two")
    with pytest.raises(EngineCrashed):
        async with router(one, two).open(call()):
            raise EngineCrashed
    assert (one.closed, two.opened) == (1, 0)


async def test_a_stream_without_output_is_passed_on():
    async with router(ScriptedDeployment(START)).open(call()) as frames:
        assert [frame async for frame in frames] == [START]


# --- clocks and hang-ups ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", [ScriptedDeployment(SILENCE()), ScriptedDeployment(START, SILENCE())])
async def test_the_total_clock_before_the_first_output(first):
    two = ScriptedDeployment(*answer(), name="local/two")
    with pytest.raises(UpstreamTimeout) as caught:
        await words(router(first, two, total_s=0.01))
    assert caught.value.status == 504
    assert (first.closed, two.opened) == (1, 0)


async def test_the_total_clock_covers_all_attempts():
    failing = asyncio.Event()
    asyncio.get_running_loop().call_later(0.02, failing.set)
    one = ScriptedDeployment(failing, EngineCrashed())
    two = ScriptedDeployment(SILENCE(), name="local/two")
    with pytest.raises(UpstreamTimeout):
        await words(router(one, two, total_s=1.0))
    assert (one.closed, two.closed) == (1, 1)


async def test_the_total_clock_in_the_middle_of_a_stream():
    one = ScriptedDeployment(START, text("Hi"), SILENCE())
    with pytest.raises(UpstreamTimeout):
        await words(router(one, total_s=0.01))
    assert one.closed == 1


async def test_the_total_clock_runs_while_the_consumer_dawdles():
    one = ScriptedDeployment(*answer())
    with pytest.raises(UpstreamTimeout):
        async with router(one, total_s=0.01).open(call()):
            await asyncio.Event().wait()
    assert one.closed == 1


async def test_a_consumer_who_leaves_closes_the_stream():
    one = ScriptedDeployment(START, text("Hi"), SILENCE())
    async with router(one).open(call()) as frames:
        async for _ in frames:
            break
    assert one.closed == 1


async def test_a_consumer_who_is_cancelled_closes_the_stream():
    one, began = ScriptedDeployment(START, text("Hi"), SILENCE()), asyncio.Event()

    async def consume() -> None:
        async with router(one).open(call()) as frames:
            async for _ in frames:
                began.set()

    task = asyncio.ensure_future(consume())
    await began.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert one.closed == 1
