"""Random constraints for ten minutes: no 500, nothing that ends a process, nothing over 2 s.

What is made of them is of its form.
"""

import collections
import json
import random
import re
import time
import warnings
from typing import Any

import httpx2
import jsonschema_rs
import pytest
from tests.grammars import readable_by_python
from tests.guided_calls import PATHS, Case, Told, body_of, told
from tests.prefixes import begins
from tests.random_constraints import Constraints
from tests.server_process import Server

pytest_plugins = ["tests.models_fixture", "tests.server_fixture"]
pytestmark = [pytest.mark.anyio, pytest.mark.soak, pytest.mark.timeout(1200)]

FOR_S = 600.0
SOON_S = 2.0


def fault_of(case: Case, way: str, answer: Told) -> str:
    """What is wrong with an answer; nothing if it is as it should be."""
    if answer.status == 400:
        field = f"{way}_{case.kind}" if way == "guided" else way
        param = (answer.error.get("error") or {}).get("param") or ""
        return "" if param.startswith(field) else "another field"
    if answer.status != 200 or answer.error or answer.finish not in ("stop", "length"):
        return "no answer"
    whole = answer.finish == "stop"
    if case.kind == "choice":
        return (
            "" if any(each == answer.text if whole else each.startswith(answer.text) for each in case.value) else "none"
        )
    if case.kind == "json" and whole and isinstance(case.value, dict):
        validator = jsonschema_rs.Draft202012Validator(case.value, validate_formats=True)
        return "" if validator.is_valid(json.loads(answer.text)) else "not valid"
    if case.kind == "regex" and readable_by_python(case.value):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of sets that might mean something else one day
            fits = re.fullmatch(case.value, answer.text) if whole else begins(case.value, answer.text)
        return "" if fits else "no match"
    return ""


async def test_random_constraints(shallow_server: Server) -> None:
    seed = random.randrange(10**6)
    print("seed", seed)
    draw, drawn = random.Random(seed), Constraints(seed)
    seen: collections.Counter[Any] = collections.Counter()
    faults: list[Any] = []
    slowest = 0.0
    headers = {"authorization": f"Bearer {shallow_server.admin_key}"}
    until = time.monotonic() + FOR_S
    async with httpx2.AsyncClient(base_url=shallow_server.url, headers=headers, timeout=60) as client:
        while time.monotonic() < until and len(faults) < 20:
            kind, value = drawn.drawn()
            case = Case(kind, value, bool, bool)
            path, way = draw.choice(PATHS), draw.choice(("guided", "structured_outputs"))
            body = body_of(path, case, way) | {"stream": draw.random() < 0.5, "max_tokens": draw.randrange(1, 20)}
            body |= {"seed": draw.randrange(10**6), "temperature": draw.choice((0.0, 1.0, 1.9))}
            took: list[float] = []
            while not took or (took[-1] > SOON_S and len(took) < 3):  # whoever works beside us may hold one up
                began = time.monotonic()
                answer = await told(client, path, body)
                took.append(time.monotonic() - began)
            slowest = max(slowest, took[-1])
            seen[kind, answer.status, answer.finish] += 1
            if fault := fault_of(case, way, answer) or ("slow" if took[-1] > SOON_S else ""):
                faults.append((fault, took, path, body, answer))
                print(faults[-1], flush=True)
    print(sum(seen.values()), "constraints", dict(seen), f"slowest {slowest:.2f} s")
    assert not faults, "\n".join(map(str, faults))
    states = [line for line in shallow_server.log_lines() if line["event"] == "child"]
    fallen = {line["child"] for line in states if line["state"] not in ("starting", "ready")} - {"compiler"}
    assert not fallen
