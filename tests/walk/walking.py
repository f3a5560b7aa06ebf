"""The walk: a worker with every provider's row, whose servers are played, and what becomes of each field there."""

import json
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
from tests.raw_asgi import Caller
from tests.walk.evidence import shows
from tests.walk.seen import Seen, is_sent
from tests.walk.upstream import Vendors
from tests.walk.values import BASE, FORMS, OF_SCALE, PATHS, SCALE_PATHS, Body, Forms

from narthex.app.worker import open_worker
from narthex.core.completions import OTHER_NAMES
from narthex.core.keys import Grants, NewKey, Profile
from narthex.dialects import scale_chat, scale_completions
from narthex.http.worker import RemoteProvider, WorkerSettings
from narthex.providers.presets import PRESETS
from narthex.providers.traits import ModelTraits
from narthex.routing.route import Named
from narthex.storage.sqlite.control import open_control

VARIANTS: Mapping[str, tuple[str, ModelTraits]] = {
    "anthropic, held to schemas": ("anthropic", ModelTraits(json_schema=True, adaptive=True)),
    "anthropic, always thinking": (
        "anthropic",
        ModelTraits(json_schema=True, adaptive=True, reasoning=True, may_not_think=False, may_have_to_call=False),
    ),
    "openai, thinking": (
        "openai",
        ModelTraits(max_tokens_field="max_completion_tokens", developer=True, functions=True, reasoning=True),
    ),
    "deepseek, going on": ("deepseek", ModelTraits(max_tokens_field="max_tokens", prefill=True)),
    "mistral, going on": ("mistral", ModelTraits(max_tokens_field="max_tokens", prefill=True)),
}
"""Models that differ from what their server's row says of most: the row's type, and their traits."""
ROWS: Mapping[str, str] = {name: name for name in PRESETS} | {name: type_ for name, (type_, _) in VARIANTS.items()}
"""Each row that is walked, with the provider's type."""

SCALE_FORMS = {"chat": scale_chat.FORM, "completions": scale_completions.FORM}
UNTRIED = {("anthropic", "reasoning_effort")}
"""Cells whose limits tell when a value is heeded, and refuse none."""
EXTRA = "x_walk"
"""What callers may add to a request."""
OURS_TO_TELL = {"model", "stream", "stream_options", "inference_extra_params", "inference_extra_headers"}
"""Native fields that are never sent as they are written."""

HONOURED, NO_EFFECT, REFUSED, NOTHING, DROPPED, ELSEWHERE = (
    "honoured", "no effect", "refused", "asks for nothing", "DROPPED", "something else refused",
)  # fmt: skip


Look = Callable[[str, Seen], bool]


class Walk:
    """Asks one worker for everything. `heard` is in `vendors`."""

    def __init__(self, application: Any, vendors: Vendors, keys: Mapping[str, str]) -> None:
        self._application = application
        self._keys = keys
        self.vendors = vendors
        self.arrived: dict[tuple[str, str], set[str]] = {}
        """By row and surface: every member of a body that a server received."""

    async def ask(
        self, path: str, body: Body | None = None, *, method: str = "POST", profile: str = "openai"
    ) -> Caller:
        headers = {"x-api-key": self._keys[profile]}
        caller = Caller(json.dumps(body).encode(), method=method, path=path, headers=headers)
        return await caller.call(self._application)

    async def table(self) -> dict[str, dict[str, dict[str, Body]]]:
        """What the server says: by row, surface and field."""
        listed = (await self.ask("/v1/capabilities", method="GET")).json()["data"]
        return {row["id"]: row["deployments"][0]["surfaces"] for row in listed}

    async def seen(self, path: str, fields: Body, *, row: str, surface: str, profile: str = "openai") -> Seen:
        """Ask once."""
        base = BASE["native" if path == "/api/chat" else surface]
        asked = {**fields, **{name: value for name, value in base.items() if name not in fields}}
        before = len(self.vendors.heard)
        answer = await self.ask(path, asked | {"model": row}, profile=profile)
        seen = Seen(type=ROWS[row], surface=surface, asked=asked, answer=answer, heard=self.vendors.heard[before:])
        for heard in seen.heard:
            self.arrived.setdefault((row, surface), set()).update(heard.body)
        if asked.get("store") and answer.status == 200 and path.startswith("/v1/chat"):
            kept = await self.ask(f"{path}/{seen.said['id']}", method="GET")
            seen.kept = kept.json() if kept.status == 200 else None
        return seen


def fate(field: str, seen: Seen, *, passing: tuple[Any, ...] = (), look: Look = shows) -> str:
    """What became of a field, by what was seen. `passing`: values of it that ask for nothing."""
    answer = seen.answer
    if answer.status == 400:
        if isinstance(answer.json()["error"], str):  # the native API's way
            return REFUSED if field in answer.json()["error"] and not seen.heard else answer.body.decode()
        param, code = answer.json()["error"]["param"] or "", answer.json()["error"]["code"]
        named = param.partition("[")[0].partition(".")[0]
        fits = code in {"unsupported_parameter", "unsupported_value", "unknown_parameter"} and not seen.heard
        if fits and named != field and named in seen.asked:
            return ELSEWHERE
        return REFUSED if fits and named == field else f"{code} at {param}: {answer.body.decode()}"
    if answer.status != 200 and not (field == "inference_timeout" and answer.status == 504):
        return f"{answer.status}: {answer.body.decode()}"
    if field in answer.headers.get("x-narthex-ignored", "").split(", "):
        return f"named, and {HONOURED}" if field in seen.body or _looked(look, field, seen) == HONOURED else NO_EFFECT
    if any(seen.asked.get(field) == each for each in passing):
        return NOTHING
    return _looked(look, field, seen)


def _looked(look: Look, field: str, seen: Seen) -> str:
    try:
        return HONOURED if look(field, seen) else DROPPED
    except (KeyError, TypeError, IndexError, ValueError) as error:
        return f"{DROPPED}: {type(error).__name__} {error}"


def passing(cell: Body) -> tuple[Any, ...]:
    """The values that ask for nothing, by what a refused cell says."""
    limits = cell.get("limits", "")
    if cell["state"] != "refused" or not limits.startswith("except "):
        return ()
    return tuple(json.loads(f"[{limits.removeprefix('except ')}]"))


class Cell(msgspec.Struct, kw_only=True):
    """One field of one row on one path, what is said of it, and what became of each of its forms."""

    path: str
    row: str
    surface: str
    field: str
    said: Body
    forms: Forms
    fates: list[str] = []
    first_as_sent: bool = False

    def faults(self) -> list[str]:
        """Where what is said of it is not what became of it."""
        name, state, limits = f"{self.row} {self.path} {self.field}", self.said["state"], self.said.get("limits", "")
        fits = _FITS[state] | ({REFUSED} if limits else set())
        faults = [
            f"{name} is {state} ({limits}): {found} {json.dumps(form)[:300]}"
            for form, found in zip(self.forms, self.fates, strict=True)
            if found not in fits | {ELSEWHERE}
        ]
        if not set(self.fates) & _FITS[state]:
            faults.append(f"{name} is {state}, and no form of it is: {self.fates}")
        narrows = limits and state in {"native", "emulated"} and (ROWS[self.row], self.field) not in UNTRIED
        if narrows and REFUSED not in self.fates and self.path in PATHS.values():
            faults.append(f"{name} has a limit that refuses nothing: {limits}")
        told_otherwise = ROWS[self.row] == "anthropic" or self.field in OURS_TO_TELL or self.path.startswith("/v4")
        if not told_otherwise and self.fates[0] == HONOURED and self.first_as_sent is not (state == "native"):
            faults.append(f"{name} is {state}, and was {'' if self.first_as_sent else 'not '}sent as it is")
        return faults


_FITS: Mapping[str, set[str]] = {
    "native": {HONOURED},
    "emulated": {HONOURED},
    "no effect": {NO_EFFECT},
    "refused": {REFUSED, NOTHING},
}


def cells(row: str, table: Mapping[str, Mapping[str, Body]]) -> list[Cell]:
    """Every cell of a row, on `/v1` and on Scale's API. `table`: what is said of it."""
    found = [
        Cell(path=PATHS[surface], row=row, surface=surface, field=field, said=said, forms=FORMS[surface][field])
        for surface, fields in table.items()
        for field, said in fields.items()
    ]
    for surface, form in SCALE_FORMS.items():
        if surface in table:
            found += [_of_scale(row, surface, field, table[surface]) for field in form.known]
    return found


def _of_scale(row: str, surface: str, field: str, table: Mapping[str, Body]) -> Cell:
    """What is said of its twin on `/v1`, which has another name there, or there is none and nobody honours it."""
    name = OTHER_NAMES.get(field, field) if surface == "completions" else field
    said = table.get(name, {"state": "refused"})
    its = FORMS[surface].get(field, ())
    # What the forms are is read as on `/v1`; where some are refused each is tried.
    forms = OF_SCALE[surface].get(field) or (its if "limits" in said else its[:1])
    if name != field and said["state"] == "native":
        said = {"state": "emulated"} | ({"limits": "5"} if field == "top_logprobs" else {})
    return Cell(path=SCALE_PATHS[surface], row=row, surface=surface, field=field, said=said, forms=forms)


async def walked(walk: Walk, row: str, *paths: str) -> list[Cell]:
    """Every cell of a row (on some paths only), with what became of it."""
    found = [each for each in cells(row, (await walk.table())[row]) if not paths or each.path in paths]
    for cell in found:
        for form in cell.forms:
            seen = await walk.seen(cell.path, form, row=row, surface=cell.surface)
            if not cell.fates:
                cell.first_as_sent = bool(seen.heard) and cell.field in seen.asked and is_sent(cell.field, seen)
            cell.fates.append(fate(cell.field, seen, passing=passing(cell.said)))
    return found


@asynccontextmanager
async def walking(folder: Path, rows: Iterable[str] = ROWS) -> AsyncIterator[Walk]:
    """A worker with a model of each row's name, and keys of every profile."""
    control = await open_control(folder / "control.db", clock=lambda: 0)
    made = await control.keys.ensure_admin()
    assert made is not None
    keys = {"openai": made[1].reveal()}
    profiles: tuple[Profile, ...] = ("thyris", "ionos", "oxy")
    for profile in profiles:
        new = NewKey(name=profile, profile=profile, grants=Grants.everything())
        keys[profile] = (await control.keys.create(new, within=Grants.everything()))[1].reveal()
    await control.aclose()
    async with Vendors() as vendors:
        providers = {
            name: RemoteProvider(
                type=type_,
                base_url=vendors.url,
                models={"big": VARIANTS[name][1]} if name in VARIANTS else {},
                extra_params=frozenset((EXTRA,)),
                extra_headers=frozenset(("x-walk",)),
            )
            for name, type_ in ROWS.items()
            if name in rows
        }
        settings = WorkerSettings(
            name="worker-0",
            data_dir=str(folder),
            run_dir=str(folder),
            models=(),
            names={name: Named(deployments=(f"{name}/big",), trusts_templates=True) for name in providers},
            providers=providers,
        )
        async with open_worker(settings) as worker:
            worker.application._access = lambda _: None
            yield Walk(worker.application, vendors, keys)
