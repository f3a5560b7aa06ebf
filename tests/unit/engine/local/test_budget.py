"""As much of a conversation as fits a budget, where only the whole prompt tells its count."""

import asyncio

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from narthex.core.chat import ChatRequest, Message, Sampling
from narthex.core.errors import ContextLengthExceeded, InvalidRequest
from narthex.engine.local.budget import within


class Ready(msgspec.Struct):
    count: int
    request: ChatRequest


class Template:
    """Counts a message's characters; may want the first message after the system's to be the user's."""

    def __init__(self, *, strict: bool = False) -> None:
        self._strict = strict
        self.rendered = 0

    async def __call__(self, request: ChatRequest) -> Ready:
        self.rendered += 1
        first = next((each for each in request.messages if each.role != "system"), None)
        if self._strict and first is not None and first.role != "user":
            raise InvalidRequest("Roles must alternate.", param="messages")
        return Ready(sum(len(each.text) for each in request.messages), request)


def asked(roles: str, length: int = 10) -> ChatRequest:
    kinds = {"s": "system", "u": "user", "a": "assistant"}
    messages = tuple(Message(role=kinds[role], content="x" * length) for role in roles)  # type: ignore[arg-type]
    sent = msgspec.Raw(msgspec.json.encode([{"role": each.role} for each in messages]))
    return ChatRequest(
        model="m", messages=messages, sampling=Sampling(), fields={"messages": messages}, sent={"messages": sent}
    )


def kept(roles: str, budget: int, *, strict: bool = False) -> str:
    request = asked(roles)
    ready, number = asyncio.run(within(request, budget, Template(strict=strict)))
    assert len(ready.request.messages) == len(roles) - number
    return "".join(each.role[0] for each in ready.request.messages)


@given(st.integers(0, 2), st.integers(1, 40), st.integers(10, 500))
def test_no_more_is_left_out_than_has_to_be(systems: int, others: int, budget: int) -> None:
    roles = "s" * systems + "ua" * (others // 2) + "u"
    room = budget // 10
    if room < systems + 1:
        with pytest.raises(ContextLengthExceeded, match=f"{10 * (systems + 1)} tokens"):
            kept(roles, budget)
    else:
        assert kept(roles, budget) == "s" * systems + roles[systems:][-(room - systems) :]


@given(st.integers(0, 2), st.integers(1, 40), st.integers(30, 500))
def test_a_template_that_wants_the_user_first_gets_that(systems: int, pairs: int, budget: int) -> None:
    roles = "s" * systems + "ua" * pairs + "u"
    room = min(budget // 10 - systems, 2 * pairs + 1)
    assert kept(roles, budget, strict=True) == "s" * systems + roles[systems:][-(room - 1 + room % 2) :]


def test_what_fits_is_rendered_once() -> None:
    template = Template()
    assert asyncio.run(within(asked("suau"), 40, template))[1] == 0
    assert template.rendered == 1


def test_of_a_long_conversation_few_prompts_are_rendered() -> None:
    template = Template()
    ready, _ = asyncio.run(within(asked("ua" * 500 + "u"), 3000, template))
    assert ready.count == 3000
    assert template.rendered <= 13


@pytest.mark.parametrize("roles", ["s", "u", "su", "ss"])
def test_what_can_t_be_left_out_has_to_fit(roles: str) -> None:
    assert kept(roles, 10 * len(roles)) == roles
    with pytest.raises(ContextLengthExceeded):
        kept(roles, 10 * len(roles) - 1)


def test_a_template_that_takes_no_part_of_it_says_so() -> None:
    with pytest.raises(InvalidRequest, match="alternate"):
        kept("ua", 10, strict=True)


def test_a_template_that_takes_few_beginnings_is_given_what_it_takes() -> None:
    assert kept("u" + "a" * 8 + "u", 50, strict=True) == "u"
    assert kept("u" + "a" * 8 + "uau", 30, strict=True) == "uau"
