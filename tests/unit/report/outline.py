"""A page as its tags."""

from __future__ import annotations

from html.parser import HTMLParser

VOID = ("meta", "img", "link", "path", "circle", "rect")


class Outline(HTMLParser):
    """How tags nest, every address that a browser would fetch, and what a reader is told."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.ids: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        names = ("src", "href", "xlink:href", "data", "srcset")
        self.addresses += [str(values[name]) for name in names if name in values]
        self.tags.append((tag, values))
        self.ids += [values["id"] or ""] if "id" in values else []
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def all(self, *tags: str) -> list[dict[str, str | None]]:
        return [values for tag, values in self.tags if tag in tags]
