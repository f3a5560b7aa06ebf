"""Files, jobs, and the life of a collection below `/api/collections`: reading requests, writing answers.

All of it is an extension of ours; names are in the manner of contract section 3.6.
"""

from collections.abc import Mapping
from typing import Any, Literal, cast

import msgspec

from narthex.core.documents import MAX_DESCRIPTION, MAX_DOCUMENT_KEY, is_key
from narthex.core.errors import InvalidRequest, UnknownParameter
from narthex.core.jobs import Job
from narthex.dialects.body import Form
from narthex.dialects.fields import Field, choice, integer, string
from narthex.dialects.thyris_documents import rfc3339

Mode = Literal["windows", "structure"]
MAX_WAIT_S = 60.0

UPLOAD: dict[str, Field] = {
    "key": string(shortest=1, longest=MAX_DOCUMENT_KEY),
    "description": string(longest=MAX_DESCRIPTION),
    "chunkSize": integer(1),
    "mode": choice("windows", "structure"),
}
IMPORT: dict[str, Field] = {"model": string(shortest=1)}
REBUILD: dict[str, Field] = {
    "model": string(shortest=1),
    "chunkSize": integer(1),
    "mode": choice("windows", "structure"),
}
_REBUILD = Form("chat", REBUILD, ())
_OF_NO_PROFILE = "openai"


class UploadFields(msgspec.Struct, frozen=True, kw_only=True):
    """What a form says of its files. None: the default. `ignored`: names that a lenient key let pass."""

    key: str | None
    description: str
    chunk_size: int | None
    mode: Mode
    ignored: tuple[str, ...]


class ImportFields(msgspec.Struct, frozen=True, kw_only=True):
    """What a form says of the collection in its file. `model` None: that of the file."""

    model: str | None
    ignored: tuple[str, ...]


class RebuildBody(msgspec.Struct, frozen=True, kw_only=True):
    """What a collection is to be made anew with. None: as it is."""

    model: str | None
    chunk_size: int | None
    mode: Mode | None
    ignored: tuple[str, ...]


def upload_fields(fields: Mapping[str, str], *, files: int, strict: bool) -> UploadFields:
    """Raises `InvalidRequest` naming the field at fault. `files`: how many came with them."""
    ignored = _unknown(fields, UPLOAD, strict=strict)
    if not files:
        raise InvalidRequest("Send at least one part 'file' that has a file name.", param="file")
    key = fields.get("key")
    if key is not None and (files > 1 or not is_key(key, longest=MAX_DOCUMENT_KEY)):
        what = "give it with one file only" if files > 1 else "this can't be the key of a document"
        raise InvalidRequest(f"Invalid 'key': {what}.", param="key")
    return UploadFields(
        key=key,
        description=UPLOAD["description"].parse(fields.get("description", ""), "description"),
        chunk_size=_number(fields.get("chunkSize")),
        mode=cast(Mode, UPLOAD["mode"].parse(fields.get("mode", "structure"), "mode")),
        ignored=ignored,
    )


def import_fields(fields: Mapping[str, str], *, files: int, strict: bool) -> ImportFields:
    """Raises `InvalidRequest` naming the field at fault."""
    ignored = _unknown(fields, IMPORT, strict=strict)
    if files != 1:
        raise InvalidRequest("Send one part 'file', an exported collection.", param="file")
    model = fields.get("model")
    return ImportFields(model=None if model is None else IMPORT["model"].parse(model, "model"), ignored=ignored)


def _unknown(fields: Mapping[str, str], known: Mapping[str, Field], *, strict: bool) -> tuple[str, ...]:
    ignored = tuple(name for name in fields if name not in known)
    if ignored and strict:
        raise UnknownParameter(f"Unknown parameter: '{ignored[0][:100]}'.", param=ignored[0][:100])
    return ignored


def _number(text: str | None) -> int | None:
    if text is None:
        return None
    if not text.strip().isdecimal() or len(text) > 18:
        raise InvalidRequest("Invalid 'chunkSize': expected a whole number.", param="chunkSize")
    return cast(int, UPLOAD["chunkSize"].parse(int(text), "chunkSize"))


def rebuild_body(body: bytes, *, strict: bool) -> RebuildBody:
    """Raises `RequestError` naming the field at fault. An empty body asks for nothing else than there is."""
    read = _REBUILD.read(body or b"{}", profile=_OF_NO_PROFILE, strict=strict)
    return RebuildBody(
        model=read.fields.get("model"),
        chunk_size=read.fields.get("chunkSize"),
        mode=cast(Mode | None, read.fields.get("mode")),
        ignored=read.ignored,
    )


def job_object(job: Job) -> dict[str, Any]:
    """One job."""
    result = job.result if job.state == "done" else {}
    return {
        "id": job.id,
        "kind": job.kind,
        "documentKey": job.subject or None,
        "state": job.state,
        "done": job.done,
        "total": job.total,
        "percent": job.percent,
        "message": job.message,
        "error": job.error or None,
        "warnings": list(job.warnings),
        "result": result or None,
        "createdAt": rfc3339(job.created_ms // 1000),
        "updatedAt": rfc3339(job.updated_ms // 1000),
    }


def unchanged_object(*, key: str, document_id: str) -> dict[str, Any]:
    """A file that is stored already, just as it was sent: there is nothing to do."""
    return {
        "id": None,
        "kind": "ingest",
        "documentKey": key,
        "documentId": document_id,
        "state": "done",
        "percent": 100,
        "unchanged": True,
    }


def seconds(text: str) -> float:
    """The time of `?wait=`. Raises `InvalidRequest`."""
    try:
        found = float(text)
    except ValueError:
        found = -1.0
    if not 0 <= found <= MAX_WAIT_S:
        raise InvalidRequest(f"Invalid 'wait': expected seconds from 0 to {MAX_WAIT_S:g}.", param="wait")
    return found
