import math
import struct

import pytest
from tests.scripted_deployment import ScriptedDeployment, principal

from narthex.core.capabilities import EMBEDDINGS
from narthex.core.documents import EmbeddingModel
from narthex.core.errors import (
    ContextLengthExceeded,
    EngineCrashed,
    InvalidRequest,
    ModelNotFound,
    UpstreamProtocolError,
    UpstreamRejected,
)
from narthex.core.keys import Grants
from narthex.core.stream import EmbeddingsReady, Frame, Usage, UsageReported
from narthex.retrieval.embedding_calls import AT_ONCE, EmbeddingCalls

pytestmark = pytest.mark.anyio

WHO = principal(Grants(models=("m",)))


def vector(*numbers):
    return struct.pack(f"<{len(numbers)}f", *numbers)


class Model(ScriptedDeployment):
    """Reads `longest` characters of a text; its vectors are of the text's length. `cuts`: heeds `truncate`."""

    def __init__(self, *, longest=20, cuts=True, error=None, of=lambda text: vector(len(text), 0)):
        super().__init__(takes=EMBEDDINGS)
        self.longest, self.cuts, self.error, self.of = longest, cuts, error, of
        self.asked = []

    def open(self, call):
        request = call.request
        self.asked.append(request)
        self._refuses = None
        if any(len(text) > self.longest for text in request.texts) and not (request.truncate and self.cuts):
            self._refuses = self.error or ContextLengthExceeded()
        vectors = tuple(self.of(text[: self.longest]) for text in request.texts)
        used = Usage(prompt_tokens=sum(min(len(text), self.longest) for text in request.texts))
        self.steps = (Frame.of(EmbeddingsReady(vectors), UsageReported(used)),)
        return super().open(call)


def calls(*models):
    return EmbeddingCalls(models[0].open, deployments=lambda name: models)


async def test_texts_come_back_in_order_and_of_unit_length():
    texts = [("x" * (1 + at % 20)) for at in range(2 * AT_ONCE + 3)]
    model = Model(of=lambda text: vector(len(text), 1))
    embedded = await calls(model).embed("m", texts, principal=WHO)
    assert len(model.asked) == 3
    assert embedded.tokens == sum(map(len, texts))
    assert embedded.cut == ()
    for text, found in zip(texts, embedded.vectors, strict=True):
        x, y = struct.unpack("<2f", found)
        assert x / y == pytest.approx(len(text), rel=1e-5)
        assert math.hypot(x, y) == pytest.approx(1)


async def test_a_vector_of_unit_length_or_none_stays_as_it_is():
    for numbers in ((0.6, 0.8), (0.0, 0.0)):
        model = Model(of=lambda _, numbers=numbers: vector(*numbers))
        assert (await calls(model).embed("m", ["a"], principal=WHO)).vectors == (vector(*numbers),)


@pytest.mark.parametrize("cuts", [True, False])
@pytest.mark.parametrize("error", [None, UpstreamRejected("Too long.", code="context_length_exceeded")])
async def test_what_is_too_long_is_read_in_part_and_the_others_whole(cuts, error):
    texts = ["a" * 5, "b" * 50, "c" * 20, "d" * 21]
    embedded = await calls(Model(cuts=cuts, error=error)).embed("m", texts, principal=WHO)
    assert embedded.cut == (1, 3)
    assert len(embedded.vectors) == 4
    assert embedded.tokens == 5 + 20 + (40 if cuts else 14 + 14)


async def test_a_model_that_takes_nothing_says_so():
    with pytest.raises(ContextLengthExceeded):
        await calls(Model(longest=3, cuts=False)).embed("m", ["a" * 100], principal=WHO)


async def test_other_errors_are_told_as_they_are():
    with pytest.raises(EngineCrashed):
        await calls(Model(longest=0, error=EngineCrashed())).embed("m", ["a"], principal=WHO)


async def test_a_server_that_answers_something_else_is_at_fault():
    model = ScriptedDeployment(Frame.of(EmbeddingsReady((vector(1.0),))), takes=EMBEDDINGS)
    with pytest.raises(UpstreamProtocolError):
        await calls(model).embed("m", ["a", "b"], principal=WHO)
    with pytest.raises(UpstreamProtocolError):
        await calls(ScriptedDeployment(takes=EMBEDDINGS)).embed("m", ["a"], principal=WHO)


async def test_usage_may_be_missing():
    model = ScriptedDeployment(Frame.of(EmbeddingsReady((vector(1.0),))), takes=EMBEDDINGS)
    assert (await calls(model).embed("m", ["a"], principal=WHO)).tokens == 0


async def test_a_model_that_is_not_granted_does_not_exist():
    for grants in (Grants(), Grants(models=("other",))):
        for asked in (
            calls(Model()).embed("m", ["a"], principal=principal(grants)),
            calls(Model()).identify("m", principal=principal(grants)),
        ):
            with pytest.raises(ModelNotFound):
                await asked


async def test_who_makes_no_embeddings_is_refused():
    with pytest.raises(InvalidRequest, match="makes no embeddings"):
        await calls(ScriptedDeployment(takes=None)).identify("m", principal=WHO)


async def test_a_model_that_knows_itself_is_asked_and_others_are_tried():
    class Known(Model):
        async def embedding_model(self):
            return EmbeddingModel(name="local/m", dim=7, digest="d", max_tokens=9)

    known = await calls(Known()).identify("m", principal=WHO)
    assert known == EmbeddingModel(name="m", dim=7, digest="d", max_tokens=9)
    assert await calls(Model()).identify("m", principal=WHO) == EmbeddingModel(name="m", dim=2)
