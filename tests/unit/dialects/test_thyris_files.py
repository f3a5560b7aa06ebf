import pytest

from narthex.core.errors import InvalidRequest, RequestError, UnknownParameter
from narthex.core.jobs import Job
from narthex.dialects.thyris_files import (
    ImportFields,
    RebuildBody,
    UploadFields,
    import_fields,
    job_object,
    rebuild_body,
    seconds,
    unchanged_object,
    upload_fields,
)

JOB = Job(
    id="j",
    kind="ingest",
    account_id="a",
    key_id="k",
    collection_id="c",
    collection_key="house",
    subject="guide.md",
    created_ms=0,
    updated_ms=1_500,
)


def test_an_upload_says_how_its_files_are_cut():
    sent = {"key": "guide", "description": "How to", "chunkSize": "120", "mode": "windows"}
    expected = UploadFields(key="guide", description="How to", chunk_size=120, mode="windows", ignored=())
    assert upload_fields(sent, files=1, strict=True) == expected
    default = UploadFields(key=None, description="", chunk_size=None, mode="structure", ignored=())
    assert upload_fields({}, files=3, strict=True) == default


def test_unknown_fields_are_refused_or_named():
    with pytest.raises(UnknownParameter):
        upload_fields({"x": "1"}, files=1, strict=True)
    assert upload_fields({"x": "1"}, files=1, strict=False).ignored == ("x",)


@pytest.mark.parametrize(
    ("sent", "files", "param"),
    [
        ({}, 0, "file"),
        ({"key": "a"}, 2, "key"),
        ({"key": "a/b"}, 1, "key"),
        ({"key": ""}, 1, "key"),
        ({"chunkSize": "0"}, 1, "chunkSize"),
        ({"chunkSize": "-1"}, 1, "chunkSize"),
        ({"chunkSize": "1.5"}, 1, "chunkSize"),
        ({"chunkSize": "9" * 19}, 1, "chunkSize"),
        ({"mode": "x"}, 1, "mode"),
        ({"description": "x" * 257}, 1, "description"),
    ],
)
def test_what_cannot_be_names_its_field(sent, files, param):
    with pytest.raises(RequestError) as caught:
        upload_fields(sent, files=files, strict=True)
    assert caught.value.param == param


def test_an_import_may_name_a_model():
    assert import_fields({"model": "m"}, files=1, strict=True) == ImportFields(model="m", ignored=())
    assert import_fields({"x": "y"}, files=1, strict=False) == ImportFields(model=None, ignored=("x",))
    for sent, files in (({}, 2), ({"model": ""}, 1), ({"x": "y"}, 1)):
        with pytest.raises(RequestError):
            import_fields(sent, files=files, strict=True)


def test_a_rebuild_may_say_nothing():
    nothing = RebuildBody(model=None, chunk_size=None, mode=None, ignored=())
    assert rebuild_body(b"", strict=True) == rebuild_body(b"{}", strict=True) == nothing
    sent = b'{"model": "m", "chunkSize": 5, "mode": "structure"}'
    assert rebuild_body(sent, strict=True) == RebuildBody(model="m", chunk_size=5, mode="structure", ignored=())
    with pytest.raises(RequestError):
        rebuild_body(b'{"chunkSize": "5"}', strict=True)


def test_a_job_is_told():
    told = job_object(JOB)
    assert (told["documentKey"], told["state"], told["error"], told["result"]) == ("guide.md", "queued", None, None)
    assert (told["createdAt"], told["updatedAt"]) == ("1970-01-01T00:00:00Z", "1970-01-01T00:00:01Z")


def test_what_a_job_keeps_for_itself_is_not_told():
    running = job_object(JOB.__class__(**{**as_dict(JOB), "state": "running", "result": {"notes": {}}, "subject": ""}))
    assert (running["result"], running["documentKey"]) == (None, None)
    failed = job_object(JOB.__class__(**{**as_dict(JOB), "state": "failed", "result": {"status": 415}, "error": "No."}))
    assert (failed["result"], failed["error"]) == (None, "No.")
    done = job_object(JOB.__class__(**{**as_dict(JOB), "state": "done", "result": {"documentId": "d"}}))
    assert (done["result"], done["percent"]) == ({"documentId": "d"}, 100)


def as_dict(job: Job) -> dict:
    return {name: getattr(job, name) for name in job.__struct_fields__}


def test_nothing_to_do_is_told_as_a_job_that_is_done():
    told = unchanged_object(key="a", document_id="d")
    assert (told["id"], told["state"], told["unchanged"], told["documentId"]) == (None, "done", True, "d")


def test_seconds_to_wait():
    assert [seconds(text) for text in ("0", "1.5", "60")] == [0, 1.5, 60]
    for text in ("", "x", "-1", "61", "nan", "inf"):
        with pytest.raises(InvalidRequest):
            seconds(text)
