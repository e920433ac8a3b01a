"""HTML pages as tests read them: ids, links, words; links that lead nowhere."""

import re
from html.parser import HTMLParser
from urllib.parse import unquote, urlsplit


class Page(HTMLParser):
    """Ids, targets of links, sources, visible text, and table cells of an HTML page."""

    VOID = {"meta", "link", "img", "br", "path", "use", "rect", "hr", "input", "col"}

    def __init__(self, html: str):
        super().__init__()
        self.ids, self.links, self.resources, self.tags, self.words, self.open = [], [], [], [], [], []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.tags.append((tag, values))
        if tag not in self.VOID:
            self.open.append(tag)
        self.ids += [values["id"]] if "id" in values else []
        if tag == "a":
            self.links.append(values.get("href"))
        self.resources += [values[k] for k in ("src", "data", "poster") if k in values]
        if tag in ("link", "use", "image"):
            self.resources += [values[k] for k in ("href", "xlink:href") if k in values]

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "script"):
            self.words.append(data)

    @property
    def text(self):
        return re.sub(r"\s+", " ", " ".join(self.words))


def broken_links(out):
    """Links of every page of a report that lead nowhere: to no file, or to no anchor in it."""
    pages = {path: Page(path.read_text(encoding="utf-8")) for path in out.rglob("*.html")}
    found = []
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path.resolve()
            if not target.exists():
                found.append(f"{path.name}: {link}")
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].ids:
                found.append(f"{path.name}: {link}: no such anchor")
    return found
