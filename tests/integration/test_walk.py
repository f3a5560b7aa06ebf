"""Every field of every surface, in every form, at every provider's row: honoured, brought about, or refused by name.

The vendors' servers are played (`tests.walk.upstream`) and say what they received; whether a field was honoured is read
from that and from the answer (`tests.walk.evidence`), never from a table. What `GET /v1/capabilities` says is held
against what was found; and what arrived, against what each vendor documents (`tests.walk.documented`).

A row that lies fails here: `test_a_row_that_lies_is_found_out` sees to that.
"""

from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

import msgspec
import pytest
from tests.walk.documented import documented, is_of_profile, surfaces
from tests.walk.evidence import shows_natively
from tests.walk.seen import Seen
from tests.walk.values import BASE, FORMS, NATIVE, OF_SCALE, PATHS, SCALE_PATHS, Body
from tests.walk.walking import (
    ELSEWHERE,
    EXTRA,
    HONOURED,
    NO_EFFECT,
    REFUSED,
    ROWS,
    SCALE_FORMS,
    Cell,
    Walk,
    cells,
    fate,
    passing,
    walked,
    walking,
)

from narthex.core.capabilities import Capabilities, Limited, State
from narthex.core.extras import HEADERS, PARAMS
from narthex.dialects import thyris, thyris_documents
from narthex.http.capabilities import KNOWN
from narthex.providers.openai_codec import OpenAIChat
from narthex.providers.openai_rows import Rules
from narthex.providers.presets import PRESETS

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "providers.md"
pytestmark = [pytest.mark.anyio, pytest.mark.patient]


@pytest.fixture(scope="module")
def tally() -> Iterator[Counter[tuple[str, str]]]:
    """What became of how many cells, by path; printed at the end (`scripts/walk`)."""
    counted: Counter[tuple[str, str]] = Counter()
    yield counted
    print()
    for path in sorted({path for path, _ in counted}):
        print(path, ", ".join(f"{found}: {n}" for (each, found), n in sorted(counted.items()) if each == path))


@pytest.fixture
async def walk(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Walk]:
    """With the rows that the test names, or `openai-compatible` alone."""
    async with walking(tmp_path, getattr(request, "param", ("openai-compatible",))) as found:
        yield found


def test_every_field_has_its_forms() -> None:
    for surface, fields in KNOWN.items():
        assert set(FORMS[surface]) == set(fields), surface
    for surface, form in SCALE_FORMS.items():
        assert set(form.known) <= {*FORMS[surface], *OF_SCALE[surface]}, surface


@pytest.mark.parametrize(("walk", "row"), [((row,), row) for row in ROWS], indirect=["walk"], ids=list(ROWS))
async def test_every_cell_of_a_row_is_as_it_is_said(walk: Walk, row: str, tally: Counter[tuple[str, str]]) -> None:
    found = await walked(walk, row)
    faults = [fault for cell in found for fault in cell.faults()]
    assert not faults, "\n".join(faults)
    served = {cell.surface for cell in found}
    assert served == surfaces(row)
    for surface in served:
        arrived = walk.arrived[row, surface] - {EXTRA}
        assert arrived == documented(row, surface), (surface, arrived ^ documented(row, surface))
    tally.update((cell.path, cell.said["state"]) for cell in found)
    tally.update((cell.path, "forms") for cell in found for _ in cell.forms)


@pytest.mark.parametrize("path", SCALE_PATHS.values())
async def test_what_an_api_does_not_know_is_refused_by_name(walk: Walk, path: str) -> None:
    surface = next(each for each, its in SCALE_PATHS.items() if its == path)
    for name in {**FORMS["chat"], **FORMS["completions"]}.keys() - SCALE_FORMS[surface].known.keys():
        fields = {**FORMS["completions"], **FORMS["chat"]}[name][0]
        seen = await walk.seen(path, {name: fields.get(name)}, row="openai-compatible", surface=surface)
        assert fate(name, seen) == REFUSED, name


@pytest.mark.parametrize("path", [*PATHS.values(), *SCALE_PATHS.values(), "/api/chat"])
async def test_what_nobody_knows_is_refused_by_name(walk: Walk, path: str) -> None:
    surface = next((each for each, its in [*PATHS.items(), *SCALE_PATHS.items()] if its == path), "chat")
    base = {"model": "openai-compatible"} | ({"input": "Hi"} if path == "/api/chat" else BASE[surface])
    for name in ("unheard_of", next(iter(base)).title()):
        answer = await walk.ask(path, {**base, name: 1})
        assert (answer.status, name in answer.body.decode(), walk.vendors.heard) == (400, True, []), answer.body


@pytest.mark.parametrize("walk", [tuple(PRESETS)], indirect=True, ids=["all types"])
async def test_the_page_counts_the_same(walk: Walk) -> None:
    table = await walk.table()
    page = PAGE.read_text(encoding="utf-8").partition("## How this is known")[2]
    for surface, path in PATHS.items():
        columns = [table[row][surface] for row in PRESETS if surface in table[row]]
        # What may be added to a request the settings say; a page can't know.
        counted = Counter(
            "refused" if field in {PARAMS, HEADERS} else cell["state"]
            for column in columns
            for field, cell in column.items()
        )
        numbers = [len(columns), len(KNOWN[surface]), *(counted[state] for state in State)]
        assert f"| `{path}` | {' | '.join(map(str, numbers))} |" in page


# --- the native API --------------------------------------------------------------------------------------------------

DOCUMENTS = {"cats": "Cats sleep.", "lions": "Lions roar."}


@pytest.mark.parametrize("walk", [tuple(ROWS)], indirect=True, ids=["all rows"])
async def test_the_native_chats_fields_at_every_row(walk: Walk, tally: Counter[tuple[str, str]]) -> None:
    assert set(NATIVE) == set(thyris.FORM.known)
    assert (await walk.ask("/api/collections/cats", {"model": "vllm"})).status == 201
    for key, content in DOCUMENTS.items():
        assert (await walk.ask(f"/api/collections/cats/documents/{key}", {"content": content})).status == 201
    table = await walk.table()
    for row in ROWS:
        for field, forms in NATIVE.items():
            said = table[row]["chat"].get(field, {"state": "native"})
            cell = Cell(path="/api/chat", row=row, surface="chat", field=field, said=said, forms=forms)
            for form in forms:
                seen = await walk.seen(cell.path, form, row=row, surface="chat")
                heard = [each for each in seen.heard if not each.target.endswith("/embeddings")]
                seen.heard = heard
                found = fate(field, seen, passing=passing(said), look=shows_natively)
                idle = field in {"n_documents", "explain"} and "use_documents_from" not in form
                cell.fates.append(HONOURED if idle and found == NO_EFFECT else found)
            assert not [fault for fault in cell.faults() if "sent as it is" not in fault], cell
            tally[cell.path, said["state"]] += 1
            tally[cell.path, "forms"] += len(forms)


PAGES = "# One\n\nCats sleep all day.\n\n# Two\n\nCats purr at night."
SEARCHES: Mapping[str, tuple[Body, Callable[[Body], bool]]] = {
    "query": ({"query": "sleep"}, lambda found: "sleep" in found["citations"][0]["quote"]),
    "input": ({"input": "sleep"}, lambda found: "sleep" in found["citations"][0]["quote"]),
    "n": ({"query": "cats", "n": 1}, lambda found: len(found["citations"]) == 1),
    "n_documents": ({"query": "cats", "n_documents": 2}, lambda found: len(found["citations"]) == 2),
    "documents": ({"query": "cats", "documents": ["small"]}, lambda found: found["sources"] == ["small"]),
    "per_document": (
        {"query": "cats", "per_document": 1, "documents": ["small"]},
        lambda found: len(found["citations"]) == 1,
    ),
    "retrieval": (
        {"query": "cats", "retrieval": "vector"},
        lambda found: all(each["scores"]["bm25"] is None for each in found["citations"]),
    ),
    "weight": (
        {"query": "cats", "retrieval": "hybrid", "weight": 0.25, "explain": True},
        lambda found: found["explain"]["weight"] == 0.25,
    ),
    "explain": ({"query": "cats", "explain": True}, lambda found: "explain" in found),
}


@pytest.mark.parametrize("walk", [("vllm",)], indirect=True, ids=["vllm"])
async def test_the_fields_of_collections_documents_and_searches(walk: Walk) -> None:
    made: Body = {"model": "vllm", "description": "Of cats.", "retrieval": "keyword", "weight": 0.5}
    assert set(made) == set(thyris_documents.COLLECTION)
    assert (await walk.ask("/api/collections/cats", made)).status == 201
    shown = (await walk.ask("/api/collections/cats", method="GET")).json()
    assert shown | made == shown
    documents: dict[str, Body] = {
        "whole": {"content": PAGES, "description": "All of it."},
        "small": {"content": PAGES, "chunkSize": 20},
        "by page": {"content": PAGES, "chunkSize": 30, "mode": "structure"},
    }
    assert {name for each in documents.values() for name in each} == set(thyris_documents.DOCUMENT)
    chunks = {}
    for key, fields in documents.items():
        path = f"/api/collections/cats/documents/{key}"
        assert (await walk.ask(path, fields)).status == 201
        told = (await walk.ask(path, method="GET")).json()
        assert told | {name: value for name, value in fields.items() if name != "content"} == told
        assert told["characters"] == len(PAGES)
        chunks[key] = told["chunks"]
    assert chunks == {"whole": 1, "small": 3, "by page": 2}
    assert set(SEARCHES) == set(thyris_documents.SEARCH)
    for name, (fields, shows) in SEARCHES.items():
        found = await walk.ask("/api/collections/cats/search", fields)
        assert found.status == 200
        assert shows(found.json()), name
    for path, base in (
        ("cats2", {"model": "vllm"}),
        ("cats/documents/x", {"content": "a"}),
        ("cats/search", {"query": "a"}),
    ):
        refused = await walk.ask(f"/api/collections/{path}", {**base, "unheard_of": 1})
        assert (refused.status, b"unheard_of" in refused.body) == (400, True), path


# --- profiles --------------------------------------------------------------------------------------------------------


async def test_a_profile_refuses_by_name_and_drops_nothing(walk: Walk, tally: Counter[tuple[str, str]]) -> None:
    row = "openai-compatible"
    for cell in cells(row, (await walk.table())[row]):
        if cell.path not in PATHS.values():
            continue
        told = {"row": row, "surface": cell.surface}
        wide = [fate(cell.field, await walk.seen(cell.path, form, **told)) for form in cell.forms]
        for profile in ("thyris", "ionos", "oxy"):
            seen = [await walk.seen(cell.path, form, **told, profile=profile) for form in cell.forms]
            narrow = [_narrowed(cell, each) for each in seen]
            where = (profile, cell.path, cell.field, narrow)
            assert all(found in {was, REFUSED, ELSEWHERE} for found, was in zip(narrow, wide, strict=True)), where
            state = cell.said["state"] if is_of_profile(profile, cell.surface, cell.field) else "refused"
            if not is_of_profile(profile, cell.surface, cell.field):
                assert set(narrow) <= {REFUSED, ELSEWHERE}, where
            elif state != "refused":
                assert set(narrow) != {REFUSED}, where
            tally[f"{cell.path} as {profile}", state] += 1
            tally[f"{cell.path} as {profile}", "forms"] += len(cell.forms)


def _narrowed(cell: Cell, seen: Seen) -> str:
    """What became of a field with a key whose profile may refuse its value in any words that name it."""
    if seen.answer.status == 400 and not seen.heard:
        param = seen.answer.json()["error"]["param"]
        if param.partition("[")[0].partition(".")[0] in seen.asked:
            return REFUSED if param.startswith(cell.field) else ELSEWHERE
    return fate(cell.field, seen)


# --- the walk itself -------------------------------------------------------------------------------------------------


LIES: Mapping[str, tuple[Rules, Rules]] = {
    "honoured, and not sent": ({}, {"logit_bias": State.NATIVE}),
    "said to be our doing, and sent as it is": ({}, {"seed": State.EMULATED}),
    "said to have no effect, and sent": ({}, {"reasoning_effort": State.NO_EFFECT}),
    "a limit that is none": ({}, {"temperature": Limited(limits="up to 1", check=lambda _: None)}),
    "sent to who knows no such field": ({"top_k": State.NATIVE}, {}),
    "an older name of vLLM's, sent on": ({"guided_json": State.NATIVE}, {}),
    "not honoured, though the vendor does": ({"parallel_tool_calls": State.REFUSED}, {}),
}
"""By what is wrong: what a row does otherwise than it should, and what it says otherwise than it does."""


@pytest.mark.parametrize("lie", LIES)
async def test_a_row_that_lies_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lie: str) -> None:
    does, says = LIES[lie]
    preset = PRESETS["groq"]
    make = preset.surfaces["chat"]
    assert isinstance(make, partial)
    row = msgspec.structs.replace(make.args[0], honoured={**make.args[0].honoured, **does})

    class Lying(OpenAIChat):
        def capabilities(self) -> Capabilities:
            return {**super().capabilities(), **says}

    monkeypatch.setitem(PRESETS, "groq", msgspec.structs.replace(preset, surfaces={"chat": partial(Lying, row)}))  # type: ignore[arg-type]
    async with walking(tmp_path, ("groq",)) as walk:
        found = await walked(walk, "groq", PATHS["chat"])
        faults = [fault for cell in found for fault in cell.faults()]
        assert faults or walk.arrived["groq", "chat"] - {EXTRA} != documented("groq", "chat")
