"""HTML to text: what a reader of the page would read, headings and lists as in Markdown, rows of tables on lines.

Left out: scripts, styles, navigation, controls, and what the page says is hidden.
"""

from typing import Final

from selectolax.lexbor import LexborHTMLParser, LexborNode

from narthex.retrieval.extract.charset import decode
from narthex.retrieval.extract.extracted import Bounds, Extracted, tidied
from narthex.retrieval.extract.forms import KINDS, MEDIA_TYPES
from narthex.retrieval.extract.layout import Blocks

_LEFT_OUT: Final = frozenset(
    (
        *("script", "style", "noscript", "template", "head", "nav", "svg", "canvas", "iframe", "object", "embed"),
        *(
            "audio",
            "video",
            "button",
            "select",
            "input",
            "textarea",
            "datalist",
            "dialog",
            "map",
            "-comment",
            "!doctype",
        ),
    )
)
_BLOCKS: Final = frozenset(
    (
        *(
            "p",
            "div",
            "section",
            "article",
            "main",
            "header",
            "footer",
            "aside",
            "blockquote",
            "ul",
            "ol",
            "dl",
            "table",
        ),
        *("figure", "figcaption", "form", "fieldset", "details", "summary", "address", "hr", "body", "pre"),
        *("h1", "h2", "h3", "h4", "h5", "h6"),
    )
)
_LINES: Final = frozenset(("li", "tr", "dt", "dd", "br", "caption"))
_CELLS: Final = frozenset({"td", "th"})
_HEADINGS: Final = {f"h{level}": "#" * level + " " for level in range(1, 7)}
_OF_LAYOUT: Final = "h1, h2, h3, h4, ul, ol, pre"
"""A table that has one of these, or another table, arranges a page; the rows of others are lines."""
_MAX_TITLE = 300


def html(data: bytes, bounds: Bounds) -> Extracted:
    """The text of a page.

    Raises:
        InvalidRequest: it is too long.
    """
    source, warning = decode(data)
    page = LexborHTMLParser(tidied(source))
    title = page.css_first("title")
    blocks = Blocks(bounds)
    if page.root is not None:
        _Walk(blocks).over(page.root)
    return Extracted(
        text=blocks.text(),
        kind=KINDS["html"],
        media_type=MEDIA_TYPES["html"],
        title=" ".join(title.text().split())[:_MAX_TITLE] if title is not None else "",
        warnings=(warning,) if warning else (),
    )


class _Walk:
    """Over a tree of any depth: it goes along the nodes' own links."""

    def __init__(self, blocks: Blocks) -> None:
        self._blocks = blocks
        self._table: LexborNode | None = None
        self._cells = 0

    def over(self, root: LexborNode) -> None:
        node: LexborNode | None = root
        depth = 0
        while node is not None:
            if node.is_text_node:
                self._blocks.write(node.text_content or "")
            elif (child := self._opened(node)) is not None:
                node, depth = child, depth + 1
                continue
            following = node.next
            while following is None and depth > 0:
                node = node.parent
                if node is None:
                    return
                depth -= 1
                self._closed(node)
                following = node.next
            node = following if depth > 0 else None

    def _opened(self, node: LexborNode) -> LexborNode | None:
        """Its first child, if what is in it is read."""
        tag = node.tag or ""
        if tag in _LEFT_OUT or _is_hidden(node):
            return None
        if tag == "pre":
            self._blocks.listing(node.text())
            return None
        if tag in _CELLS and self._table is not None:
            self._cells += 1
        elif tag == "table" and self._table is None and _has_rows(node):
            self._table = node
        self._broken(tag)
        if tag in _HEADINGS:
            self._blocks.open(_HEADINGS[tag])
        elif tag == "li":
            self._blocks.open("- ")
        elif tag == "img" and (words := (node.attributes.get("alt") or "").strip()):
            self._blocks.write(f" {words} ")
        child = node.child
        if child is None:
            self._closed(node)
        return child

    def _closed(self, node: LexborNode) -> None:
        tag = node.tag or ""
        if tag in _CELLS:
            self._cells = max(self._cells - 1, 0)
            self._blocks.write(" | ")
        elif tag == "table" and self._table is not None and node.mem_id == self._table.mem_id:
            self._table = None
        self._broken(tag)
        if tag == "li" or tag in _HEADINGS:
            self._blocks.open("")

    def _broken(self, tag: str) -> None:
        """A block begins or ends here; in the cell of a table nothing does."""
        if tag in _BLOCKS or tag in _LINES:
            if self._cells:
                self._blocks.write(" ")
            elif tag in _BLOCKS:
                self._blocks.end_block()
            else:
                self._blocks.end_line()


def _has_rows(table: LexborNode) -> bool:
    return table.css_first(_OF_LAYOUT) is None and len(table.css("table")) == 1  # itself


def _is_hidden(node: LexborNode) -> bool:
    attributes = node.attributes
    if not attributes:
        return False
    style = (attributes.get("style") or "").replace(" ", "").lower()
    return "hidden" in attributes or "display:none" in style or "visibility:hidden" in style
