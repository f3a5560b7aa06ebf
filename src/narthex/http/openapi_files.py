"""Files, jobs and the life of a collection in `/openapi.json`."""

from narthex.dialects import thyris_files as files
from narthex.http.openapi_answers import COUNT, STRING, Schema, closed, list_of, maybe, reference
from narthex.http.openapi_operation import Operation
from narthex.retrieval.portable import MEDIA_TYPE

_UUID: Schema = {"type": "string", "format": "uuid"}
_TIME: Schema = {"type": "string", "format": "date-time"}
_FILE: Schema = {"type": "string", "contentMediaType": "application/octet-stream"}
_UPLOAD: Schema = {
    "type": "object",
    "properties": {
        "file": list_of(_FILE) | {"description": "One or several files, each with its name.", "minItems": 1},
        **{name: field.schema for name, field in files.UPLOAD.items()},
    },
    "required": ["file"],
    "additionalProperties": False,
}
_IMPORT: Schema = {
    "type": "object",
    "properties": {
        "file": _FILE | {"description": "An exported collection."},
        **{name: field.schema for name, field in files.IMPORT.items()},
    },
    "required": ["file"],
    "additionalProperties": False,
}
_REBUILD: Schema = {
    "type": "object",
    "properties": {name: field.schema for name, field in files.REBUILD.items()},
    "required": [],
    "additionalProperties": False,
}
_WAIT = {"wait": "Seconds to wait for the job, at most 60."}
_KINDS: Schema = {"enum": ["ingest", "rebuild", "import"]}

OPERATIONS: dict[tuple[str, str], Operation] = {
    ("POST", "/api/collections/{key}/files"): Operation(
        id="addFiles",
        summary="Make files documents, by a job each. A file that is stored already, as it is, makes no job.",
        answer="JobsAnswer",
        body=_UPLOAD,
        body_media="multipart/form-data",
        succeeds=(200, 201, 202),
        query={"wait": "Seconds to wait for the jobs, at most 60; 200 or 201 if all are done by then."},
        errors=(403, 404, 413, 415, 429, 507),
    ),
    ("GET", "/api/collections/{key}/jobs"): Operation(
        id="listJobs",
        summary="What becomes of uploads, rebuilds and imports; newest first.",
        answer="JobList",
        query={"open": "`true`: only those that are not over."},
        errors=(403, 404),
    ),
    ("GET", "/api/collections/{key}/jobs/{job}"): Operation(
        id="getJob",
        summary="One job; as events where the caller accepts `text/event-stream`.",
        answer="Job",
        errors=(403, 404),
    ),
    ("GET", "/api/collections/{key}/jobs/{job}/events"): Operation(
        id="followJob",
        summary="The job each time that it has changed, as events, until it is over.",
        media="text/event-stream",
        errors=(403, 404),
    ),
    ("DELETE", "/api/collections/{key}/jobs/{job}"): Operation(
        id="cancelJob", summary="Cancel a job, if it is not over.", succeeds=(204,), errors=(403, 404, 507)
    ),
    ("POST", "/api/collections/{key}/rebuild"): Operation(
        id="rebuildCollection",
        summary="Make a collection anew, with another model or cut otherwise; the former state serves until then.",
        answer="Job",
        body=_REBUILD,
        succeeds=(200, 202),
        query=_WAIT,
        errors=(403, 404, 409, 413, 415, 429, 502, 504, 507),
    ),
    ("GET", "/api/collections/{key}/export"): Operation(
        id="exportCollection",
        summary="A collection as one file: texts, originals, chunks and vectors, as of one moment.",
        media=MEDIA_TYPE,
        errors=(403, 404, 507),
    ),
    ("POST", "/api/collections/{key}/import"): Operation(
        id="importCollection",
        summary="Make a collection of an exported file. Vectors of the same model are used as they are.",
        answer="Job",
        body=_IMPORT,
        body_media="multipart/form-data",
        succeeds=(201, 202),
        query=_WAIT,
        errors=(403, 404, 409, 413, 415, 429, 502, 504, 507),
    ),
}

_JOB: Schema = {
    "id": _UUID,
    "kind": _KINDS,
    "documentKey": maybe(STRING),
    "state": {"enum": ["queued", "running", "done", "failed", "cancelled"]},
    "done": COUNT,
    "total": COUNT,
    "percent": COUNT,
    "message": STRING,
    "error": maybe(STRING),
    "warnings": list_of(STRING),
    "result": maybe({"type": "object"}),
    "createdAt": _TIME,
    "updatedAt": _TIME,
}
_UNCHANGED = closed(
    {
        "id": {"type": "null"},
        "kind": _KINDS,
        "documentKey": STRING,
        "documentId": _UUID,
        "state": {"const": "done"},
        "percent": COUNT,
        "unchanged": {"const": True},
    }
)

SCHEMAS: dict[str, Schema] = {
    "Job": closed(_JOB),
    "JobList": closed({"jobs": list_of(reference("Job"))}),
    "JobsAnswer": closed({"jobs": list_of({"anyOf": [reference("Job"), _UNCHANGED]})}),
}
