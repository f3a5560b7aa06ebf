"""The service of the process that checks predictions, without a model: whoever asks learns of every end."""

from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from narthex.core.errors import EngineUnavailable
from narthex.engine.llama import EngineSettings
from narthex.engine.prediction.child import Service
from narthex.engine.prediction.draft import MOST
from narthex.engine.prediction.protocol import Begin, Burst, PredictionSettings

pytestmark = pytest.mark.anyio

ENGINE = EngineSettings(name="m", model_path="m.gguf", socket="m.sock", control_socket="c.sock")
BEGIN = Begin(account="a", prompt=[1], predicted=[2], max_new=3, temperature=0)


class Caller:
    """See `Peer`."""

    def __init__(self) -> None:
        self.on_close: list[Any] = []


class Generating:
    """Gives these, or fails."""

    def __init__(self, *bursts: Burst | Exception) -> None:
        self._bursts = bursts
        self.forgot = False

    def bursts(self, _begin: Begin, _wanted: Any) -> Any:
        for burst in self._bursts:
            if isinstance(burst, Exception):
                raise burst
            yield burst

    def forget(self) -> None:
        self.forgot = True


def service(generating: Generating) -> Service:
    library = SimpleNamespace(llama_batch_init=lambda *_: None)
    made = Service(
        PredictionSettings.beside(ENGINE, socket="p.sock", log_format="json"),
        SimpleNamespace(batch=64, library=library),
    )  # type: ignore[arg-type]
    made._generator = generating  # type: ignore[assignment]
    return made


def packed(value: Any) -> msgspec.Raw:
    return msgspec.Raw(msgspec.msgpack.encode(value))


async def begun(made: Service, caller: Any, number: int) -> None:
    await made.begin(caller, packed(msgspec.structs.replace(BEGIN, number=number)))


@pytest.mark.parametrize(
    "error", [ValueError("NULL pointer access"), RuntimeError("it failed"), MemoryError()], ids=repr
)
async def test_who_waits_learns_of_every_fault(error: Exception) -> None:
    generating, caller = Generating(error), Caller()
    made = service(generating)
    await begun(made, caller, 1)
    with pytest.raises(EngineUnavailable, match="could not be checked"):
        await made.more(caller, packed(1))  # type: ignore[arg-type]
    assert generating.forgot
    await made.aclose()


async def test_nothing_is_kept_of_answers_that_are_over() -> None:
    made, caller = service(Generating(Burst(text="Hi", tokens=[5], end="eos"))), Caller()
    for number in range(20):
        await begun(made, caller, number)
        assert (await made.more(caller, packed(number))).text == "Hi"  # type: ignore[arg-type]
        assert await made.retire(caller, packed(None)) == {"retired": False}  # type: ignore[arg-type]
        await made.drop(caller, packed(number))  # type: ignore[arg-type]
    assert len(caller.on_close) == 1
    assert made._runs == {caller: {}}
    with pytest.raises(EngineUnavailable):
        await made.more(caller, packed(0))  # type: ignore[arg-type]
    caller.on_close[0]()
    assert await made.retire(caller, packed(None)) == {"retired": True}  # type: ignore[arg-type]
    await made.aclose()


async def test_who_leaves_drops_what_they_asked_for() -> None:
    made, caller = service(Generating(Burst(text="Hi", tokens=[5], end="eos"))), Caller()
    await begun(made, caller, 1)
    await made.more(caller, packed(1))  # type: ignore[arg-type]
    caller.on_close[0]()
    assert made._runs == {}
    await made.aclose()


@pytest.mark.parametrize(("batch", "taken"), [(1, MOST + 1), (64, 64)])
def test_what_is_tried_fits_a_batch(batch: int, taken: int) -> None:
    engine = msgspec.structs.replace(ENGINE, batch=batch)
    assert PredictionSettings.beside(engine, socket="p.sock", log_format="json").batch == taken
