"""Is a page of `lorat compare --html` whole? Usage: check_page.py PAGE. Balanced tags, known elements, unique ids that exist where they
are named, no script, no handler, no style that fetches, nothing from elsewhere, a table beside every chart."""
import re
import sys
from html.parser import HTMLParser

VOID = {"meta"}
SVG_EMPTY = {"line", "path", "rect"}
KNOWN = {"html", "head", "meta", "title", "style", "body", "main", "section", "div", "figure", "figcaption", "h1", "h2", "h3", "p", "ul", "li",
         "table", "caption", "thead", "tbody", "tr", "th", "td", "svg", "text"} | SVG_EMPTY


class Page(HTMLParser):
    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.stack, self.bad, self.ids, self.refs, self.charts, self.tables, self.rows = [], [], [], [], 0, 0, []

    def fault(self, what):
        self.bad.append(f"{self.getpos()[0]}: {what}")

    def look(self, tag, attrs):
        if tag not in KNOWN:
            self.fault(f"<{tag}>")
        for name, value in attrs:
            if name.startswith("on") or name in ("src", "href", "xlink:href", "srcset", "action", "data"):
                self.fault(f"attribute {name}")
            if name == "id":
                self.ids.append(value)
            if name == "aria-labelledby":
                self.refs.append(value)
            if name in ("d", "x", "y", "x1", "x2", "y1", "y2", "width", "height") and re.search(r"nan|inf", value or "", re.I):
                self.fault(f"{name}={value}")
        if tag == "svg" and ("role", "img") in attrs:
            self.charts += 1

    def handle_startendtag(self, tag, attrs):
        self.look(tag, attrs)
        if tag not in SVG_EMPTY:
            self.fault(f"<{tag}/> closes itself")

    def handle_starttag(self, tag, attrs):
        self.look(tag, attrs)
        if tag == "table":
            self.tables += 1
            self.rows = []
        if tag == "tr":
            self.rows.append(0)
        if tag in ("td", "th") and self.rows:
            self.rows[-1] += 1
        if tag not in VOID:
            self.stack.append(tag)

    def handle_endtag(self, tag):
        if not self.stack or self.stack[-1] != tag:
            self.fault(f"</{tag}> closes {self.stack[-1:] or 'nothing'}")
        else:
            self.stack.pop()
        if tag == "table" and len(set(self.rows)) != 1:
            self.fault(f"rows of {sorted(set(self.rows))} cells")


def main():
    text = open(sys.argv[1], encoding="utf-8").read()
    p = Page()
    p.feed(text)
    p.close()
    bad = p.bad + [f"<{t}> is never closed" for t in p.stack]
    bad += [f"id {i} stands twice" for i in set(p.ids) if p.ids.count(i) > 1] + [f"id {i} is missing" for i in p.refs if i not in p.ids]
    for pattern in ("https?:", r"//[a-z]", r"url\(", "@import", "javascript:", "<script"):
        if re.search(pattern, text, re.I):
            bad.append(f"has {pattern}")
    if not text.startswith("<!DOCTYPE html>") or "prefers-color-scheme:dark" not in text or "@media print" not in text:
        bad.append("no doctype, dark scheme or print style")
    if p.charts < 4 or p.tables < p.charts:
        bad.append(f"{p.charts} charts and {p.tables} tables")
    print("\n".join(bad) if bad else f"{p.charts} charts, {p.tables} tables, {len(text)} characters")
    return 1 if bad else 0


sys.exit(main())
