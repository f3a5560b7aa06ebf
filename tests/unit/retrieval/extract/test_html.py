"""HTML pages: what a reader of the page would read."""

import pytest

from narthex.core.errors import InvalidRequest
from narthex.retrieval.extract.extracted import Bounds
from narthex.retrieval.extract.html import html

PAGE = b"""<!DOCTYPE html><html><head><title> The
 page </title><style>p{}</style></head><body>
<nav><a href=x>Menu</a></nav>
<h1>Guide to <em>it</em></h1>
<p>First&nbsp;line<br>second &amp; last,   with <a href=y>a link</a>.</p>
<ul><li>one<li><p>two</p><ul><li>nested</ul></ul>
<table><caption>Values</caption><tr><th>Name<th>Value<tr><td>a<td>1</table>
<pre>def f():
    return  1
</pre>
<dl><dt>Term<dd>What it means</dl>
<img src=a.png alt="A chart"><img src=b.png>
<script>alert(1)</script><noscript>no</noscript><template><p>no</p></template><!-- no -->
<p hidden>no</p><div style="display: none">no</div><span style="VISIBILITY:hidden">no</span><button>no</button>
<footer>The end</footer></body></html>"""


def test_a_page() -> None:
    it = html(PAGE, Bounds())
    assert it.text == (
        "# Guide to it\n\nFirst\xa0line\nsecond & last, with a link.\n\n- one\n\n- two\n\n- nested\n\n"
        "Values\nName | Value\na | 1\n\n```\ndef f():\n    return  1\n```\n\nTerm\nWhat it means\n\nA chart\n\nThe end"
    )
    assert (it.title, it.kind, it.media_type, it.warnings) == ("The page", "markdown", "text/html", ())


@pytest.mark.parametrize(
    ("page", "text"),
    [
        (b"just words", "just words"),
        (b"", ""),
        (b"<p>a<p>b", "a\n\nb"),
        (b"<ul><li></li></ul><p>a</p>", "a"),
        (b"<h2></h2>words", "words"),
        (b"<pre></pre>a<pre>```\nx\n```</pre>", "a\n\n````\n```\nx\n```\n````"),
        (b"<div>" * 50 + b"deep", "deep"),
        (b"<p>a</p><hr><p>b</p><br>", "a\n\nb"),
        (
            b"<table><tr><td><p>a</p><p>b</p><td>c<br>d</td></tr><tr><td><td><div>e</div></table>f",
            "a b | c d\n| e\n\nf",
        ),
        (b"<table><tr><td><h1>T</h1><p>a<p>b<td>c</table>d", "# T\n\na\n\nb\n\n| c\n\nd"),
        (b"<table><tr><td>a<table><tr><td><p>b<td>c</table><td>d</table>", "a\n\nb | c\n\n| d"),
        (b"<td>alone<p>b", "alone\n\nb"),
        ("<p>\u65e5\u672c".encode(), "\u65e5\u672c"),
    ],
)
def test_pages_of_any_form(page: bytes, text: str) -> None:
    assert html(page, Bounds()).text == text


def test_its_charset_is_what_it_declares() -> None:
    page = '<meta charset="koi8-r"><p>\u043f\u0440\u0438\u0432\u0435\u0442'.encode("koi8-r")
    it = html(page, Bounds())
    assert it.text == "\u043f\u0440\u0438\u0432\u0435\u0442"
    assert it.warnings == ("The file is not in UTF-8; it was read as koi8-r.",)


def test_too_much_text_is_refused_while_it_is_read() -> None:
    for page in (b"<p>12345678901", b"<b>a</b>" * 5000):
        with pytest.raises(InvalidRequest, match="more than 10 characters"):
            html(page, Bounds(max_characters=10))
