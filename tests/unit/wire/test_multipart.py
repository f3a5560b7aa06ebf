import pytest
from hypothesis import given
from hypothesis import strategies as st

from narthex.core.errors import InvalidRequest
from narthex.wire.multipart import (
    MAX_HEAD_BYTES,
    MAX_PREAMBLE_BYTES,
    Content,
    Event,
    MultipartDecoder,
    Part,
    PartEnd,
    boundary_of,
)

B = b"--XX"
BODY = (
    b"a preamble\r\n--XX  \t\r\n"
    b'Content-Disposition: form-data; name="note"\r\n\r\n'
    b"words\r\n--X no boundary\r\n--XX\r\n"
    b'content-type: application/pdf\r\nCONTENT-DISPOSITION: form-data; name="file"; filename="a \\"b\\".pdf"\r\n\r\n'
    b"\r\n%PDF\r\n\r\n--XX\r\n"
    b'Content-Disposition: form-data; name=file; filename=""\r\n\r\n\r\n--XX--\r\nan epilogue --XX'
)
EXPECTED = [
    (Part(name="note"), b"words\r\n--X no boundary"),
    (Part(name="file", filename='a "b".pdf', media_type="application/pdf"), b"\r\n%PDF\r\n"),
    (Part(name="file", filename=""), b""),
]


def joined(events: list[Event]) -> list[tuple[Part, bytes]]:
    parts: list[tuple[Part, bytes]] = []
    open_part = None
    for event in events:
        if isinstance(event, Part):
            assert open_part is None
            open_part, content = event, b""
        elif isinstance(event, Content):
            assert event.data
            content += event.data
        else:
            assert event == PartEnd()
            parts.append((open_part, content))
            open_part = None
    assert open_part is None
    return parts


def decoded(*pieces: bytes, boundary: bytes = b"XX") -> list[tuple[Part, bytes]]:
    decoder = MultipartDecoder(boundary)
    events = [event for piece in pieces for event in decoder.feed(piece)]
    decoder.end()
    return joined(events)


def test_a_body_is_read_whole():
    assert decoded(BODY) == EXPECTED


def test_a_body_is_read_byte_by_byte():
    assert decoded(*(BODY[at : at + 1] for at in range(len(BODY)))) == EXPECTED


@pytest.mark.parametrize("at", range(len(BODY)))
def test_a_body_is_read_cut_anywhere(at):
    assert decoded(BODY[:at], BODY[at:]) == EXPECTED


@given(st.lists(st.binary(max_size=200).filter(lambda data: b"\r\n--XX" not in b"\r\n" + data), max_size=4), st.data())
def test_any_contents_come_back(contents, data):
    head = b'Content-Disposition: form-data; name="f"; filename="x"\r\n\r\n'
    body = b"".join(B + b"\r\n" + head + content + b"\r\n" for content in contents) + B + b"--"
    cuts = sorted(data.draw(st.lists(st.integers(0, len(body)), max_size=6)))
    pieces = [body[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(body)], strict=True)]
    assert [content for _, content in decoded(*pieces)] == contents


def test_no_more_is_held_than_a_delimiter():
    decoder = MultipartDecoder(b"XX")
    decoder.feed(B + b'\r\nContent-Disposition: form-data; name="f"\r\n\r\n')
    [content] = decoder.feed(b"x" * 1_000_000)
    assert isinstance(content, Content)
    assert len(content.data) > 999_990


@pytest.mark.parametrize(
    ("head", "part"),
    [
        (b"form-data; name=\"f\"; filename*=UTF-8''na%C3%AFve%20file.txt", Part(name="f", filename="naïve file.txt")),
        (b'form-data; name="f"; filename="na\xc3\xafve.txt"', Part(name="f", filename="naïve.txt")),
        (b'form-data; name="a%22b"; filename="c%0D%0Ad"', Part(name='a"b', filename="c\r\nd")),
        (b'FORM-DATA;name="f";filename="a;b=c.txt"', Part(name="f", filename="a;b=c.txt")),
        (b'form-data; name="f"; filename="C:\\\\dir\\\\x"', Part(name="f", filename="C:\\dir\\x")),
    ],
)
def test_names(head, part):
    body = B + b"\r\nContent-Disposition: " + head + b"\r\n\r\nx\r\n" + B + b"--"
    assert decoded(body) == [(part, b"x")]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        BODY[:-20],
        b"no boundary at all",
        b"-" * (MAX_PREAMBLE_BYTES + 100),
        B + b"\r\n\r\nx\r\n" + B + b"--",
        B + b'\r\nContent-Disposition: attachment; name="x"\r\n\r\nx\r\n' + B + b"--",
        B + b'\r\nContent-Disposition: form-data; name="\xff"\r\n\r\nx\r\n' + B + b"--",
        B + b"junk\r\nContent-Disposition: form-data; name=x\r\n\r\nx\r\n" + B + b"--",
        B + b" " * (MAX_HEAD_BYTES + 1),
        B + b"\r\n" + b"a" * (MAX_HEAD_BYTES + 1),
        B + b"\r\n" + b"a" * (MAX_HEAD_BYTES + 1) + b"\r\n\r\n",
    ],
)
def test_what_is_no_such_body_is_refused(body):
    with pytest.raises(InvalidRequest, match="malformed"):
        decoded(body)


@pytest.mark.parametrize(
    ("sent", "boundary"),
    [
        (b"multipart/form-data; boundary=XX", b"XX"),
        (b'Multipart/Form-Data; charset=utf-8; boundary="a b"', b"a b"),
        (b"multipart/form-data;boundary=----WebKitFormBoundary7MA4YWxk", b"----WebKitFormBoundary7MA4YWxk"),
    ],
)
def test_the_boundary_is_found(sent, boundary):
    assert boundary_of(sent) == boundary


@pytest.mark.parametrize(
    "sent",
    [
        None,
        b"application/json",
        b"multipart/mixed; boundary=x",
        b"multipart/form-data",
        b'multipart/form-data; boundary=""',
        b"multipart/form-data; boundary=" + b"x" * 71,
        b'multipart/form-data; boundary="a\x00b"',
    ],
)
def test_without_a_boundary_there_is_no_body(sent):
    with pytest.raises(InvalidRequest):
        boundary_of(sent)
