"""A built page, read with the standard library: what it links to, what it loads, its anchors, formulas and text."""

import re
from html.parser import HTMLParser

#: Attributes whose address a browser loads by itself, by element.
LOADED = dict.fromkeys(("script", "img", "iframe", "source", "video", "audio", "embed"), "src")
#: Links of the head that a browser follows by itself.
FOLLOWED = {"stylesheet", "icon", "preload", "modulepreload", "preconnect", "dns-prefetch", "prefetch", "manifest"}
#: Elements whose text is not prose.
NOT_PROSE = {"script", "style", "code", "pre", "math", "title"}


class Page(HTMLParser):
    """What a page consists of.

    Attributes:
        ids: Names that a link can lead to.
        links: Addresses in ``a`` elements.
        loads: Addresses of scripts, styles, pictures and the like.
        formulas: Text of each MathML formula.
        pictures: (address, description) of each ``img``.
        text: All text of the page's article, without code and formulas.
        all_text: The same with them.
    """

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.ids, self.links, self.loads = set[str](), list[str](), list[str]()
        self.formulas, self.pictures = list[str](), list[tuple[str, str]]()
        self.text = self.all_text = ""
        self._not_prose = list[str]()
        self._article = False
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.ids |= {given[name] for name in ("id", "name") if name in given and (name == "id" or tag == "a")}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        if tag == "link" and FOLLOWED & set(given.get("rel", "").split()):
            self.loads.append(given["href"])
        if tag in LOADED and LOADED[tag] in given:
            self.loads.append(given[LOADED[tag]])
        self.loads += [part.split()[0] for part in given.get("srcset", "").split(",") if part.strip()]
        self.loads += re.findall(r"url\(['\"]?([^)'\"]+)", given.get("style", ""))
        if tag == "img":
            self.pictures.append((given.get("src", ""), given.get("alt", "")))
        if tag == "math":
            self.formulas.append("")
        if tag in NOT_PROSE:
            self._not_prose.append(tag)
        if tag == "article":
            self._article = True

    def handle_endtag(self, tag: str) -> None:
        if self._not_prose and tag == self._not_prose[-1]:
            self._not_prose.pop()
        if tag == "article":
            self._article = False

    def handle_data(self, data: str) -> None:
        if self._not_prose and self._not_prose[-1] == "math":
            self.formulas[-1] += data
        if self._not_prose and self._not_prose[-1] == "style":
            self.loads += re.findall(r"url\(['\"]?([^)'\"]+)|@import\s+['\"]([^'\"]+)", data)
        if self._article:
            self.all_text += data
            self.text += "" if self._not_prose else data
