"""Panels as Markdown, as LaTeX for the booktabs package, and on a terminal."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rich.markup import escape
from rich.table import Table as TerminalTable

from fedhpro_flwr.comparison.panels import BETTER, NOTHING, WORSE, Panel, Shown

TEX_CHARACTERS = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "±": r"$\pm$",
    BETTER: r"$\dagger$",
    WORSE: r"$\ddagger$",
    NOTHING: "--",
    "+": "$+$",
    "<": "$<$",
    ">": "$>$",
    "|": "$|$",
    '"': "''",
}
MARKUP = re.compile(r"[|`\\]|<(?=[A-Za-z/!])")  # of Markdown, in a name
TEX_HEAD = "% \\usepackage{booktabs} in the preamble; each table stands alone."


def markdown(shown: Sequence[Panel], notes: Sequence[str], missing: Sequence[str]) -> str:
    """A page: a heading and a table for each panel, then the notes and what is missing."""
    lines: list[str] = []
    for panel in shown:
        lines += [f"### {panel.title}", ""]
        lines += [_markdown_row(["", *panel.heads]), "|---|" + "---:|" * len(panel.heads)]
        lines += [_markdown_row([label, *map(_markdown_cell, cells)]) for label, cells in panel.lines]
        lines.append("")
    lines += [" ".join(notes), ""]
    if missing:
        lines += ["Missing:", "", *(f"- {said}" for said in missing), ""]
    return "\n".join(lines)


def _markdown_row(words: Sequence[str]) -> str:
    return "| " + " | ".join(" ".join(MARKUP.sub(r"\\\g<0>", word).split()) for word in words) + " |"


def _markdown_cell(cell: Shown) -> str:
    number = cell.value + (f" ± {cell.deviation}" if cell.deviation else "")
    return (f"**{number}**" if cell.is_best else number) + cell.mark + (f" ({cell.note})" if cell.note else "")


def latex(shown: Sequence[Panel], notes: Sequence[str], missing: Sequence[str]) -> str:
    """A file for \\input: a table environment for each panel; what is missing is written as comments."""
    blocks = [TEX_HEAD, *(f"% missing: {' '.join(said.split())}" for said in missing)]
    for number, panel in enumerate(shown):
        caption = tex(f"{_begun(panel.title)}.") + (f" {tex(' '.join(notes))}" if not number else "")
        rows = [[tex(label), *map(_latex_cell, cells)] for label, cells in panel.lines]
        blocks.append(
            "\n".join(
                [
                    r"\begin{table}[t]",
                    r"\centering",
                    rf"\caption{{{caption}}}",
                    rf"\begin{{tabular}}{{l{'r' * len(panel.heads)}}}",
                    r"\toprule",
                    " & ".join(["", *map(tex, panel.heads)]) + r" \\",
                    r"\midrule",
                    *(" & ".join(row) + r" \\" for row in rows),
                    r"\bottomrule",
                    r"\end{tabular}",
                    r"\end{table}",
                ]
            )
        )
    return "\n\n".join(blocks) + "\n"


def _begun(title: str) -> str:
    """The title with a capital letter, unless it begins with the key of a setting."""
    return title if "=" in title.split(":")[0] else title[:1].upper() + title[1:]


def tex(text: str) -> str:
    """Text with what is special to LaTeX escaped."""
    return re.sub("|".join(map(re.escape, TEX_CHARACTERS)), lambda found: TEX_CHARACTERS[found[0]], text)


def _latex_cell(cell: Shown) -> str:
    number = re.sub(r"^-(?=\d)", "$-$", tex(cell.value))  # a minus, not a hyphen
    value = rf"\textbf{{{number}}}" if cell.is_best else number
    deviation = rf" $\pm$ {cell.deviation}" if cell.deviation else ""
    mark = rf"$^{{{TEX_CHARACTERS[cell.mark].strip('$')}}}$" if cell.mark else ""
    return value + deviation + mark + (f" ({tex(cell.note)})" if cell.note else "")


def terminal(panel: Panel) -> TerminalTable:
    """For a rich console."""
    table = TerminalTable(title=escape(panel.title), title_justify="left", title_style="bold", box=None, pad_edge=False)
    table.add_column("", overflow="fold")
    for head in panel.heads:
        table.add_column(escape(head), justify="right", overflow="fold")  # if cut, two varied values could look alike
    for label, cells in panel.lines:
        table.add_row(escape(label), *(_terminal_cell(cell) for cell in cells))
    return table


def _terminal_cell(cell: Shown) -> str:
    text = escape(cell.value + (f" ± {cell.deviation}" if cell.deviation else "") + cell.mark)
    return (f"[bold]{text}[/]" if cell.is_best else text) + (f" ({escape(cell.note)})" if cell.note else "")
