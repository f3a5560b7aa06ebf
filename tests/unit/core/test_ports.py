"""A call's account of itself."""

from tests.scripted_deployment import principal

from narthex.core.chat import ChatRequest, Sampling
from narthex.core.ports import Call


def test_what_is_told_of_a_call_is_told_of_those_on_whose_behalf_it_asks() -> None:
    request = ChatRequest(model="m", messages=(), sampling=Sampling(), fields={}, sent={})
    outer = Call(request, id="1", surface="chat", principal=principal(), started_s=0.0)
    inner = outer.asking(request).asking(request)
    inner.ignore("user")
    inner.forget(3)
    assert (outer.ignored, outer.forgotten) == (["user"], 3) == (inner.ignored, inner.forgotten)
