"""What deployments of a kind have in common."""

from typing import Any

from tests.routing_parts import a_call
from typing_extensions import override

from narthex.core.capabilities import Capabilities, State
from narthex.core.deployments import Around, Local
from narthex.core.ports import NO_CLOCKS, Call, Clocks, Opened, Surface

HONOURED: Capabilities = {"model": State.NATIVE, "n": State.NATIVE}


class Here(Local):
    def open(self, call: Call) -> Opened:
        raise AssertionError(call)


class Elsewhere(Here):
    """Goes on with answers, has clocks and a fingerprint, and counts how often it is asked what it honours."""

    clocks = Clocks(idle_s=5.0)
    fingerprint: str | None = "fp_x"
    asked = 0

    @override
    def capabilities(self, surface: Surface) -> Capabilities | None:
        self.asked += 1
        return super().capabilities(surface)

    @override
    def continues(self, call: Call) -> bool:
        return True


class WithoutChoices(Around):
    @override
    def honoured(self, surface: Surface, inner: Capabilities) -> Capabilities:
        assert surface == "chat"
        return {name: rule for name, rule in inner.items() if name != "n"}

    def open(self, call: Call) -> Opened:
        raise AssertionError(call)


class Plain(Around):
    open: Any = None


def test_one_of_this_server_serves_its_surface_and_no_other() -> None:
    here = Here("m", surface="chat", honoured=HONOURED)
    assert (here.name, here.clocks, here.fingerprint) == ("local/m", NO_CLOCKS, None)
    assert (here.capabilities("chat"), here.capabilities("embeddings")) == (HONOURED, None)
    assert not here.continues(a_call())


def test_one_around_another_stands_for_it() -> None:
    inner = Elsewhere("m", surface="chat", honoured=HONOURED)
    around = Plain(inner)
    assert (around.name, around.clocks, around.fingerprint) == ("local/m", Clocks(idle_s=5.0), "fp_x")
    assert (around.capabilities("chat"), around.capabilities("completions")) == (HONOURED, None)
    assert around.continues(a_call())


def test_it_asks_once_what_is_honoured_and_may_honour_less() -> None:
    inner = Elsewhere("m", surface="chat", honoured=HONOURED)
    around = WithoutChoices(inner)
    asked = inner.asked
    for _ in range(3):
        assert around.capabilities("chat") == {"model": State.NATIVE}
    assert inner.asked == asked
