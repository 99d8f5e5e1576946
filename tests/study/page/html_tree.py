"""HTML to an element tree, with the standard library alone; an unclosed or misplaced tag is an error."""

from html.parser import HTMLParser
from xml.etree.ElementTree import Element, TreeBuilder

_VOID = {"meta", "link", "img", "input", "wbr", "br"}


class _Tree(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.builder, self.open = TreeBuilder(), list[str]()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.builder.start(tag, {name: value or "" for name, value in attrs})
        if tag in _VOID:
            self.builder.end(tag)
        else:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        expected = self.open.pop()
        assert tag == expected, f"</{tag}> where </{expected}> is due"
        self.builder.end(tag)

    def handle_data(self, data: str) -> None:
        if self.open:
            self.builder.data(data)


def tree(html: str) -> Element:
    """The root element of a page."""
    parser = _Tree()
    parser.feed(html)
    parser.close()
    assert not parser.open, f"<{parser.open[-1]}> is not closed"
    return parser.builder.close()


def text(element: Element) -> str:
    """All text below an element, with single spaces."""
    return " ".join("".join(element.itertext()).split())


def by_id(root: Element, name: str) -> Element:
    """The one element of that id."""
    (found,) = (element for element in root.iter() if element.get("id") == name)
    return found
