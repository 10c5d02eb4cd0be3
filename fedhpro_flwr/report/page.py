"""The HTML page: sections with their text, tables and pictures, everything inline."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files

from fedhpro_flwr.report.drawing import Picture

# An empty icon inside the page: without it a browser would look for one beside the page.
NO_ICON = "data:image/svg+xml;base64," + b64encode(b'<svg xmlns="http://www.w3.org/2000/svg"/>').decode()


@dataclass(frozen=True)
class Table:
    """Rows of plain text under their headings; the first column names the row."""

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    colors: Sequence[str] = ()  # of a mark before each row's name


@dataclass(frozen=True)
class Section:
    """A part of the page with a heading and a line in its table of contents."""

    anchor: str
    title: str
    paragraphs: Sequence[str] = ()  # plain text
    facts: Sequence[tuple[str, str]] = ()  # name and value
    table: Table | None = None
    pictures: Sequence[Picture] = ()
    notes: Sequence[str] = ()  # what is missing here, and why


def page(title: str, sections: Sequence[Section]) -> str:
    """The whole document; all text is escaped here, and nothing in the document leads to another address."""
    contents = "\n".join(f'<li><a href="#{each.anchor}">{escape(each.title)}</a></li>' for each in sections)
    style = (files("fedhpro_flwr.report") / "style.css").read_text(encoding="utf-8")
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="{NO_ICON}">
<title>{escape(title)}</title>
<style>
{style}</style>
</head>
<body>
<header><h1>{escape(title)}</h1></header>
<nav aria-label="Contents"><ul>
{contents}
</ul></nav>
<main>
{"".join(map(_section, sections))}</main>
</body>
</html>
"""


def _section(section: Section) -> str:
    parts = [f'<section id="{section.anchor}">', f"<h2>{escape(section.title)}</h2>"]
    if section.facts:
        rows = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in section.facts)
        parts.append(f"<dl>{rows}</dl>")
    parts += [f"<p>{escape(text)}</p>" for text in section.paragraphs]
    if section.table:
        parts.append(_table(section.table, section.title))
    if section.pictures:
        parts.append(f'<div class="pictures">{"".join(map(_picture, section.pictures))}</div>')
    if section.notes:
        parts.append(f'<ul class="notes">{"".join(f"<li>{escape(note)}</li>" for note in section.notes)}</ul>')
    return "\n".join([*parts, "</section>\n"])


def _table(table: Table, title: str) -> str:
    colors = table.colors or [""] * len(table.rows)
    head = "".join(f'<th scope="col">{escape(heading)}</th>' for heading in table.headings)
    body = "".join(
        f'<tr><th scope="row">{_mark(color)}{escape(row[0])}</th>'
        f"{''.join(f'<td>{escape(cell)}</td>' for cell in row[1:])}</tr>"
        for row, color in zip(table.rows, colors, strict=True)
    )
    # A box that scrolls must be reachable by keyboard.
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(title)}, table">'
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _mark(color: str) -> str:
    return f'<span class="mark" style="background:{color}"></span>' if color else ""


def _picture(picture: Picture) -> str:
    kind = ' class="wide"' if picture.wide else ""
    box = ' tabindex="0"' if picture.wide else ""
    return (
        f'<figure{kind}><div class="scroll"{box}>{picture.svg}</div>'
        f"<figcaption>{escape(picture.caption)} <small>{escape(picture.name)}.png</small></figcaption></figure>"
    )
