"""URLs of images: read strictly, asked for as they are."""

import pytest

from narthex.upstream.place import BadPlace, Place


@pytest.mark.parametrize(
    ("url", "authority", "port", "target"),
    [
        ("http://example.com", "example.com", 80, "/"),
        ("HTTPS://EXAMPLE.com./a.png", "example.com", 443, "/a.png"),
        ("https://example.com:8443/a?b=c&d=%20#e", "example.com:8443", 8443, "/a?b=c&d=%20"),
        ("https://example.com?b", "example.com", 443, "/?b"),
        ("https://bücher.example/ä.png", "xn--bcher-kva.example", 443, "/%C3%A4.png"),
        ('https://example.com/<a>"', "example.com", 443, "/%3Ca%3E%22"),
        ("http://[2606:4700::1]:80/", "[2606:4700::1]", 80, "/"),
        ("http://\uff11\uff12\uff17.0.0.1/", "127.0.0.1", 80, "/"),
    ],
)
def test_what_a_url_says(url: str, authority: str, port: int, target: str) -> None:
    place = Place.parse(url)
    assert (place.authority, place.port, place.target) == (authority, port, target)


@pytest.mark.parametrize(
    "url",
    [
        "", "example.com/a.png", "//example.com/a.png", "ftp://example.com/a", "file:///etc/passwd", "gopher://a/_GET",
        "http://", "http:///a", "http://:80/", "http://a:0/", "http://a:99999/", "http://a:b/", "http://a b/",
        " http://a/", "http://a/\r\nhost: b", "http://a\\@b/", "http://a/\tb", "http://[::1/", "http://[fe80::1%25eth0]/",
        "http://[v1.a]/", "http://a..b/", "http://-a/", "http://a%2eb/", "http://%31%32%37.0.0.1/", "http://a,b/",
        f"http://{'a.' * 130}com/", f"http://a/{'b' * 8192}", "http://a/\ud800", "data:image/png;base64,AA==",
        "http://user@a/", "http://user:pass@a/", "http://@a/", "http://a@169.254.169.254/",
    ],
)  # fmt: skip
def test_urls_that_are_refused(url: str) -> None:
    with pytest.raises(BadPlace):
        Place.parse(url)


@pytest.mark.parametrize(
    ("location", "there"),
    [
        (b"/b.png", "https://a.example/b.png"),
        (b"c.png?d", "https://a.example/x/c.png?d"),
        (b"//b.example/", "https://b.example/"),
        (b"https://b.example:444/", "https://b.example:444/"),
    ],
)
def test_redirects(location: bytes, there: str) -> None:
    place = Place.parse("https://a.example/x/a.png").redirected(location)
    assert f"{place.scheme}://{place.authority}{place.target}" == there


@pytest.mark.parametrize(
    "location",
    [b"", b"\xff", b"http://a.example/", b"/a\tb", b"ftp://a/", b"https://user@a.example/", b"https://a.example:0/",
     b"file:///etc/passwd", b"\\\\b.example"],
)  # fmt: skip
def test_redirects_that_are_refused(location: bytes) -> None:
    with pytest.raises(BadPlace):
        Place.parse("https://a.example/x/a.png").redirected(location)


def test_http_may_become_https() -> None:
    assert Place.parse("http://a.example/").redirected(b"https://a.example/").scheme == "https"


def test_the_request_tells_nothing_of_us() -> None:
    assert Place.parse("http://a.example:8080/a.png").request(("image/png", "image/gif")) == (
        b"GET /a.png HTTP/1.1\r\nhost: a.example:8080\r\naccept: image/png, image/gif\r\n"
        b"accept-encoding: identity\r\nuser-agent: narthex\r\nconnection: close\r\n\r\n"
    )
